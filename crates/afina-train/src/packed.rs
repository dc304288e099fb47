//! Loss and gradient on the processor's kernels: no graph, every buffer known.

use afina_kernels::block::{self, Context, FactorGradients, Saved};
use afina_kernels::{Activations, linear_cross_entropy, on_pool, rms_norm};
use afina_model::{LoraSet, PackedLlama};
use burn::tensor::{Tensor, TensorData};

use crate::loss::sum;
use crate::{LossSum, MicroBatch};

/// What the backward pass needs of a block.
#[allow(clippy::large_enum_variant)] // one a block: boxing would save nothing
enum Kept {
    Input(Activations),
    All(Saved),
}

/// See [`crate::loss_and_gradient`].
pub(crate) fn loss_and_gradient(
    model: &PackedLlama,
    lora: &LoraSet,
    batch: &MicroBatch,
    recompute: bool,
) -> (LossSum, Tensor<1>) {
    let values: Vec<f32> = lora.values.try_to_vec_as().expect("an adapter on the processor can be read");
    let (loss, gradient) = on_pool(|| forward_and_backward(model, lora, &values, batch, recompute));
    let length = gradient.len();
    (loss, Tensor::from_data(TensorData::new(gradient, [length]), &lora.values.device()))
}

fn forward_and_backward(
    model: &PackedLlama,
    lora: &LoraSet,
    values: &[f32],
    batch: &MicroBatch,
    recompute: bool,
) -> (LossSum, Vec<f32>) {
    let cpu = model.cpu;
    let rope = model.rope(&batch.segments);
    let context = Context { segments: batch.segments.ranges(), rope: &rope };
    let lowest = lora.modules.first().map_or(model.blocks.len(), |module| module.layer);

    let mut hidden = model.embed_tokens.embed(&batch.tokens);
    let mut kept = Vec::with_capacity(model.blocks.len() - lowest);
    for (layer, packed) in model.blocks.iter().enumerate() {
        let factors = packed.factors(lora, layer, values);
        let keeps_all = layer >= lowest && !recompute;
        let input = (layer >= lowest && recompute).then(|| hidden.clone());
        let (output, saved) = block::forward_saving(cpu, &packed.weights(), &factors, hidden, context);
        hidden = output;
        kept.extend(input.map(Kept::Input));
        if keeps_all {
            kept.push(Kept::All(saved));
        }
    }

    let (loss, mut d_hidden) = head_loss(model, &hidden, batch);
    drop(hidden);

    let mut gradient = vec![0.0; values.len()];
    for (layer, kept) in (lowest..model.blocks.len()).zip(kept).rev() {
        let packed = &model.blocks[layer];
        let factors = packed.factors(lora, layer, values);
        let saved = match kept {
            Kept::All(saved) => saved,
            Kept::Input(input) => block::forward_saving(cpu, &packed.weights(), &factors, input, context).1,
        };
        let mut to = gradients_of(lora, layer, &mut gradient);
        d_hidden = block::backward(cpu, &packed.weights(), &factors, saved, d_hidden, context, &mut to);
    }
    (loss, gradient)
}

/// The loss of a batch, nothing trained.
pub(crate) fn evaluate(model: &PackedLlama, batch: &MicroBatch) -> LossSum {
    on_pool(|| forward_alone(model, batch))
}

fn forward_alone(model: &PackedLlama, batch: &MicroBatch) -> LossSum {
    let rope = model.rope(&batch.segments);
    let context = Context { segments: batch.segments.ranges(), rope: &rope };
    let hidden = model.blocks.iter().fold(model.embed_tokens.embed(&batch.tokens), |hidden, packed| {
        block::forward(model.cpu, &packed.weights(), &packed.attached(), hidden, context)
    });
    let (normed, _) = model.final_norm(&hidden.select(&batch.trained));
    let loss = linear_cross_entropy(model.cpu, &normed, model.lm_head, &batch.targets, false);
    sum(batch, &loss.losses, &loss.correct)
}

/// The loss, and its gradient at the last block's output.
fn head_loss(model: &PackedLlama, hidden: &Activations, batch: &MicroBatch) -> (LossSum, Activations) {
    let trained = hidden.select(&batch.trained);
    let (normed, inverse) = model.final_norm(&trained);
    let loss = linear_cross_entropy(model.cpu, &normed, model.lm_head, &batch.targets, true);
    let d_normed = loss.gradient.expect("the gradient was asked for");
    let mut d_trained = Activations::zeros(trained.tokens(), trained.features());
    rms_norm::backward_onto(model.cpu, &d_normed, &trained, &inverse, &model.norm, &mut d_trained);
    (sum(batch, &loss.losses, &loss.correct), d_trained.scatter(&batch.trained, hidden.tokens()))
}

/// A layer's part of the flat gradient, cut by projection and factor.
fn gradients_of<'g>(lora: &LoraSet, layer: usize, gradient: &'g mut [f32]) -> [Option<FactorGradients<'g>>; 7] {
    let mut cut = [const { None }; 7];
    let (mut rest, mut start) = (gradient, 0);
    for module in lora.modules.iter().filter(|module| module.layer == layer) {
        let (a, b) = module.ranges(lora.config.r);
        let (_, from) = rest.split_at_mut(a.start - start);
        let (of_a, from) = from.split_at_mut(a.len());
        let (of_b, after) = from.split_at_mut(b.len());
        cut[module.place()] = Some(FactorGradients { a: of_a, b: of_b });
        (rest, start) = (after, b.end);
    }
    cut
}
