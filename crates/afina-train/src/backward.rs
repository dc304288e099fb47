//! The adapter's gradient, block by block: each block is its own small graph, fed by the block above with the gradient at its output.
//! On the processor the kernels take the whole batch instead (`packed`); this is what they must equal, and what runs on other devices.

use afina_model::{Block, Context, Llama, LoraModule, LoraPair, LoraSet, PackedLlama};
use burn::tensor::Tensor;

use crate::{LossSum, MicroBatch, head_loss, packed};

/// The summed loss of a batch and its gradient with respect to every parameter of the adapter, in the order of [`LoraSet::values`].
///
/// With `recompute` (gradient checkpointing) only the inputs of the blocks are kept, and each block is run again when its turn comes:
/// a third more work, and the memory of one block instead of all.
///
/// `model` is the base, without the adapter.
pub fn loss_and_gradient(model: &Llama, lora: &LoraSet, batch: &MicroBatch, recompute: bool) -> (LossSum, Tensor<1>) {
    if batch.targets.is_empty() {
        return (LossSum::default(), lora.values.zeros_like());
    }
    if let Some(packed) = PackedLlama::new(model) {
        return packed::loss_and_gradient(&packed, lora, batch, recompute);
    }
    let context = model.context(batch.segments.clone(), 0);
    let modules: Vec<Vec<&LoraModule>> = (0..model.layers.len())
        .map(|layer| lora.modules.iter().filter(|module| module.layer == layer).collect())
        .collect();
    let lowest = modules.iter().position(|modules| !modules.is_empty()).unwrap_or(model.layers.len());

    let mut hidden = model.embed(&batch.tokens);
    let mut kept = Vec::with_capacity(model.layers.len());
    for (index, block) in model.layers.iter().enumerate() {
        if index < lowest {
            hidden = block.forward(hidden, &context); // nothing below the lowest adapter needs a gradient
            continue;
        }
        if recompute {
            let attached = with_pairs(block, lora, &modules[index]);
            kept.push(Kept::Input(hidden.clone()));
            hidden = attached.forward(hidden, &context);
        } else {
            let graph = Graph::new(block, lora, &modules[index], hidden, &context);
            hidden = graph.output.clone().inner();
            kept.push(Kept::Graph(graph));
        }
    }

    let (loss, mut d_hidden) = head_loss(model, hidden, batch);

    let mut gradients = Vec::with_capacity(kept.len());
    for (index, kept) in kept.into_iter().enumerate().rev() {
        let layer = lowest + index;
        let graph = match kept {
            Kept::Graph(graph) => graph,
            Kept::Input(input) => Graph::new(&model.layers[layer], lora, &modules[layer], input, &context),
        };
        let (gradient, d_input) = graph.backward(d_hidden);
        gradients.push(gradient);
        d_hidden = d_input;
    }
    gradients.reverse();
    (loss, Tensor::cat(gradients.concat(), 0))
}

/// What the backward pass needs of a block.
#[allow(clippy::large_enum_variant)] // one a block: boxing would save nothing
enum Kept {
    Input(Tensor<2>),
    Graph(Graph),
}

/// One block's forward pass on the tape.
struct Graph {
    input: Tensor<2>,
    output: Tensor<2>,
    leaves: Vec<LoraPair>,
}

impl Graph {
    fn new(block: &Block, lora: &LoraSet, modules: &[&LoraModule], input: Tensor<2>, context: &Context) -> Graph {
        let input = input.inner().autodiff().require_grad();
        let mut block = block.clone();
        let mut leaves = Vec::with_capacity(modules.len());
        for module in modules {
            let LoraPair { a, b, scale } = lora.pair(module);
            let pair = LoraPair { a: a.autodiff().require_grad(), b: b.autodiff().require_grad(), scale };
            leaves.push(pair.clone());
            attach(&mut block, module, pair);
        }
        let output = block.forward(input.clone(), context);
        Graph { input, output, leaves }
    }

    /// From the gradient at the output to the flattened gradients of the leaves, and the gradient at the input.
    fn backward(self, d_output: Tensor<2>) -> (Vec<Tensor<1>>, Tensor<2>) {
        // The gradient of sum(y · dy) with dy held constant is dy: that is how a graph takes a gradient from above.
        let mut gradients = self.output.mul(d_output).sum().backward();
        let flat = |leaf: &Tensor<2>, gradients: &mut burn::tensor::Gradients| -> Tensor<1> {
            let [rows, columns] = leaf.dims();
            leaf.grad_remove(gradients).expect("factors are leaves that require gradients").reshape([rows * columns])
        };
        let mut parameters = Vec::with_capacity(2 * self.leaves.len());
        for pair in &self.leaves {
            parameters.push(flat(&pair.a, &mut gradients));
            parameters.push(flat(&pair.b, &mut gradients));
        }
        let d_input = self.input.grad_remove(&mut gradients).expect("the input is a leaf that requires gradients");
        (parameters, d_input)
    }
}

fn with_pairs(block: &Block, lora: &LoraSet, modules: &[&LoraModule]) -> Block {
    let mut block = block.clone();
    for module in modules {
        attach(&mut block, module, lora.pair(module));
    }
    block
}

fn attach(block: &mut Block, module: &LoraModule, pair: LoraPair) {
    for (name, linear) in block.projections_mut() {
        if name == module.projection {
            linear.lora = Some(pair);
            return;
        }
    }
}
