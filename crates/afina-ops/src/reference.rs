//! Each operation in plain burn.
//!
//! Shapes: `tokens` is the flat token axis, `heads` the query heads, `kv_heads` divides `heads` (grouped-query attention).

use burn::tensor::{Bool, Device, IndexingUpdateOp, Int, Tensor, TensorData, activation};

use crate::{Segments, Update};

/// Rows of logits alive at once. 128 and 256 take the same time; a row of a 128k vocabulary is half a megabyte.
const CHUNK: usize = 128;

/// `x · weightᵀ`.
///
/// # Shapes
/// - `x`: `[tokens, in]`
/// - `weight`: `[out, in]`, as checkpoints store it; the transposed view costs nothing
pub fn linear(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    x.matmul(weight.transpose())
}

/// Root mean square normalization over the last axis, then a scale per column.
///
/// # Shapes
/// - `x`: `[tokens, hidden]`
/// - `weight`: `[hidden]`
///
/// Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019; `eps` is inside the root, as in Llama.
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    let root = x.clone().square().mean_dim(1).add_scalar(eps).sqrt(); // [tokens, 1]
    x.div(root).mul(weight.unsqueeze())
}

/// `silu(gate) · up`, with `silu(x) = x · sigmoid(x)`. Source: Shazeer, "GLU Variants Improve Transformer", 2020.
///
/// # Shapes
/// - `gate`, `up`: `[tokens, intermediate]`
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    activation::silu(gate).mul(up)
}

/// Rotary position embedding in Hugging Face's rotate-half form: column `i` of a head turns with column `i + head_dim / 2`.
///
/// # Shapes
/// - `x`: `[tokens, heads, head_dim]`
/// - `cos`, `sin`: `[tokens, head_dim / 2]`, of each token's own position
///
/// Source: Su et al., "RoFormer", 2021; transformers `modeling_llama.py`, `apply_rotary_pos_emb`.
pub fn rotary(x: Tensor<3>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<3> {
    let [_, _, head_dim] = x.dims();
    let half = head_dim / 2;
    let first = x.clone().narrow(2, 0, half);
    let second = x.narrow(2, half, half);
    let cos = cos.unsqueeze_dim::<3>(1); // [tokens, 1, half]
    let sin = sin.unsqueeze_dim::<3>(1);
    Tensor::cat(
        vec![first.clone().mul(cos.clone()).sub(second.clone().mul(sin.clone())), second.mul(cos).add(first.mul(sin))],
        2,
    )
}

/// Causal grouped-query attention inside each segment; every segment also sees the whole `past`.
///
/// # Shapes
/// - `q`: `[tokens, heads, head_dim]`
/// - `k`, `v`: `[tokens, kv_heads, head_dim]`; query head `h` reads key head `h / (heads / kv_heads)`
/// - `past`: keys and values that come before every segment, `[past, kv_heads, head_dim]`
///
/// Returns `[tokens, heads, head_dim]`. Scores are scaled by `1 / sqrt(head_dim)`.
pub fn attention(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    past: Option<(Tensor<3>, Tensor<3>)>,
    segments: &Segments,
) -> Tensor<3> {
    let outputs: Vec<Tensor<3>> = segments
        .ranges()
        .iter()
        .map(|range| {
            let slice = |x: &Tensor<3>| x.clone().narrow(0, range.start, range.len());
            let (k, v) = match &past {
                None => (slice(&k), slice(&v)),
                Some((past_k, past_v)) => {
                    (Tensor::cat(vec![past_k.clone(), slice(&k)], 0), Tensor::cat(vec![past_v.clone(), slice(&v)], 0))
                }
            };
            attention_of_one(slice(&q), k, v)
        })
        .collect();
    Tensor::cat(outputs, 0)
}

/// `q`: `[tokens, heads, head_dim]`; `k`, `v`: `[keys, kv_heads, head_dim]`, where the last `tokens` keys are the queries' own.
fn attention_of_one(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>) -> Tensor<3> {
    let [tokens, heads, head_dim] = q.dims();
    let [keys, kv_heads, _] = k.dims();
    let group = heads / kv_heads;
    let scale = 1.0 / (head_dim as f64).sqrt();

    let q = q.swap_dims(0, 1).reshape([kv_heads, group * tokens, head_dim]); // query heads of one key head side by side
    let scores = q.matmul(k.permute([1, 2, 0])).mul_scalar(scale); // [kv_heads, group · tokens, keys]
    let scores = scores.reshape([kv_heads, group, tokens, keys]);
    let scores = if tokens == 1 {
        scores
    } else {
        scores.mask_fill(future(tokens, keys, &v.device().inner()), f32::NEG_INFINITY)
    };
    let weights = activation::softmax(scores, 3).reshape([kv_heads, group * tokens, keys]);
    let out = weights.matmul(v.swap_dims(0, 1)); // [kv_heads, group · tokens, head_dim]
    out.reshape([heads, tokens, head_dim]).swap_dims(0, 1)
}

/// `[1, 1, tokens, keys]`, true where a key lies after its query.
fn future(tokens: usize, keys: usize, device: &Device) -> Tensor<4, Bool> {
    let past = keys - tokens;
    let mask: Vec<bool> = (0..tokens).flat_map(|t| (0..keys).map(move |key| key > past + t)).collect();
    Tensor::from_data(TensorData::new(mask, [1, 1, tokens, keys]), device)
}

/// Next-token cross-entropy of some rows, summed, and its gradient with respect to them, without keeping more than `CHUNK` rows of logits.
///
/// The head is frozen, so the gradient of the sum is closed-form: `(softmax(logits) - onehot(target)) · head`.
///
/// # Shapes
/// - `hidden`: `[rows, hidden]`, only rows whose target is trained
/// - `head`: `[vocab, hidden]`
/// - `targets`: one token id a row
///
/// Returns the loss of each row in nats, whether each row's largest logit is its target, and the gradient `[rows, hidden]` of the summed loss
/// (when asked for).
pub fn linear_cross_entropy(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: &[u32],
    want_gradient: bool,
) -> (Vec<f32>, Vec<bool>, Option<Tensor<2>>) {
    let [rows, _] = hidden.dims();
    assert_eq!(rows, targets.len(), "one target a row");
    let device = hidden.device();
    let (mut losses, mut correct, mut gradients) = (Vec::with_capacity(rows), Vec::with_capacity(rows), Vec::new());
    for start in (0..rows).step_by(CHUNK) {
        let length = CHUNK.min(rows - start);
        let ids: Vec<i32> = targets[start..start + length].iter().map(|&id| id as i32).collect();
        let target = Tensor::<2, Int>::from_data(TensorData::new(ids, [length, 1]), &device);

        let logits = linear(hidden.clone().narrow(0, start, length), head.clone()); // [length, vocab]
        let largest = logits.clone().max_dim(1);
        let at_target = logits.clone().gather(1, target.clone());
        let exp = logits.sub(largest.clone()).exp();
        let sum = exp.clone().sum_dim(1);
        let loss = sum.clone().log().add(largest.clone()).sub(at_target.clone());
        losses.extend(floats(loss));
        correct.extend(floats(at_target.sub(largest)).into_iter().map(|difference| difference == 0.0));
        if want_gradient {
            let minus_one = Tensor::<2>::full([length, 1], -1.0, &device);
            let d_logits = exp.div(sum).scatter(1, target, minus_one, IndexingUpdateOp::Add);
            gradients.push(d_logits.matmul(head.clone()));
        }
    }
    (losses, correct, want_gradient.then(|| Tensor::cat(gradients, 0)))
}

/// The 2-norm.
pub fn norm(gradient: Tensor<1>) -> f64 {
    f64::from(gradient.square().sum().sqrt().into_scalar::<f32>())
}

/// AdamW, all buffers `[parameters]`: `values`, and the running means of the gradient and of its square.
///
/// Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019; numbers as `torch.optim.AdamW` computes them.
pub fn adamw_step(update: Update, [values, mean, square]: [&mut Tensor<1>; 3], gradient: Tensor<1>) {
    let Update { beta1, beta2, eps, step_size, root_bias, decay, gradient_scale } = update;
    let gradient = gradient.mul_scalar(gradient_scale);
    *mean = mean.clone().mul_scalar(beta1).add(gradient.clone().mul_scalar(1.0 - beta1));
    *square = square.clone().mul_scalar(beta2).add(gradient.square().mul_scalar(1.0 - beta2));
    let root = square.clone().sqrt().div_scalar(root_bias).add_scalar(eps);
    *values = values.clone().mul_scalar(decay).sub(mean.clone().div(root).mul_scalar(step_size));
}

fn floats(x: Tensor<2>) -> Vec<f32> {
    x.try_into_vec_as::<f32>().expect("losses are f32 and lie on a device that answers")
}
