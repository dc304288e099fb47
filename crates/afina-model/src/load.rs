//! From a model folder, or a GGUF file, to tensors on a device. The model's fields carry the checkpoint's names, so there is nothing to rename.

use afina_checkpoint::{TensorError, Weights, WeightsError};
use afina_ops::{Precision, Weight};
use burn::tensor::{Device, Tensor, TensorData};

use crate::{Attention, Block, Linear, Llama, Mlp, RopeTable};

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("failed to read tensor `{name}`")]
    Read { name: String, source: Box<WeightsError> },
    #[error("failed to convert tensor `{name}`")]
    Convert { name: String, source: TensorError },
    #[error("tensor `{name}`: expected shape {expected:?}, found {found:?}")]
    Shape { name: String, expected: Vec<usize>, found: Vec<usize> },
}

/// Reads every tensor of a Llama, one at a time; its matrices are kept in `precision`. `progress` gets (tensors read, tensors in all).
pub fn load_llama(
    model: &dyn Weights,
    device: &Device,
    precision: Precision,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Llama, LoadError> {
    let config = model.config().clone();
    let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
    let (heads, kv_heads, head_dim) = (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
    let total = config.num_hidden_layers * 9 + if config.tie_word_embeddings { 2 } else { 3 };
    let mut done = 0;
    let mut read = |name: &str, expected: &[usize]| -> Result<Vec<f32>, LoadError> {
        let data = read_f32(model, name, expected)?;
        done += 1;
        progress(done, total);
        Ok(data)
    };

    let of_vocabulary = [config.vocab_size, hidden];
    let embed_tokens =
        Weight::new(read("model.embed_tokens.weight", &of_vocabulary)?, of_vocabulary, device, precision);
    let mut layers = Vec::with_capacity(config.num_hidden_layers);
    for layer in 0..config.num_hidden_layers {
        let mut vector = |name: &str| -> Result<Tensor<1>, LoadError> {
            let name = format!("model.layers.{layer}.{name}.weight");
            Ok(Tensor::from_data(TensorData::new(read(&name, &[hidden])?, [hidden]), device))
        };
        let input_layernorm = vector("input_layernorm")?;
        let post_attention_layernorm = vector("post_attention_layernorm")?;
        let mut linear = |name: &str, out: usize, input: usize| -> Result<Linear, LoadError> {
            let name = format!("model.layers.{layer}.{name}.weight");
            let values = read(&name, &[out, input])?;
            Ok(Linear::frozen(Weight::new(values, [out, input], device, precision)))
        };
        layers.push(Block {
            input_layernorm,
            self_attn: Attention {
                q_proj: linear("self_attn.q_proj", heads * head_dim, hidden)?,
                k_proj: linear("self_attn.k_proj", kv_heads * head_dim, hidden)?,
                v_proj: linear("self_attn.v_proj", kv_heads * head_dim, hidden)?,
                o_proj: linear("self_attn.o_proj", hidden, heads * head_dim)?,
                num_attention_heads: heads,
                num_key_value_heads: kv_heads,
                head_dim,
            },
            post_attention_layernorm,
            mlp: Mlp {
                gate_proj: linear("mlp.gate_proj", intermediate, hidden)?,
                up_proj: linear("mlp.up_proj", intermediate, hidden)?,
                down_proj: linear("mlp.down_proj", hidden, intermediate)?,
            },
            rms_norm_eps: config.rms_norm_eps,
        });
    }
    let norm = Tensor::from_data(TensorData::new(read("model.norm.weight", &[hidden])?, [hidden]), device);
    let lm_head = if config.tie_word_embeddings {
        embed_tokens.clone()
    } else {
        Weight::new(read("lm_head.weight", &of_vocabulary)?, of_vocabulary, device, precision)
    };
    let rope = RopeTable::new(&config);
    Ok(Llama { config, embed_tokens, layers, norm, lm_head, rope })
}

fn read_f32(model: &dyn Weights, name: &str, expected: &[usize]) -> Result<Vec<f32>, LoadError> {
    let tensor =
        model.tensor(name).map_err(|source| LoadError::Read { name: name.to_owned(), source: source.into() })?;
    if tensor.shape != expected {
        return Err(LoadError::Shape { name: name.to_owned(), expected: expected.to_vec(), found: tensor.shape });
    }
    tensor.to_f32().map_err(|source| LoadError::Convert { name: name.to_owned(), source })
}
