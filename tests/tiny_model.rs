//! A model that trains in milliseconds: for the tests of the loop, and for those of the program.

use std::path::Path;

use afina_checkpoint::{LlamaConfig, RawTensor, names::expected_tensors, write_file, write_tensors};

/// A model folder around a fixture's tokenizer and template, with weights that look random and are not.
pub fn model_dir(dir: &Path) {
    let tokenizer = include_bytes!("fixtures/chat/tokenizers/smollm2.json");
    let template = include_str!("fixtures/chat/templates/smollm2.jinja");
    let config = LlamaConfig {
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        vocab_size: 1024,
        max_position_embeddings: 4096,
        rms_norm_eps: 1e-5,
        rope_theta: 10000.0,
        rope_scaling: None,
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_id: vec![2],
    };
    let tensors: Vec<RawTensor> = expected_tensors(&config)
        .into_iter()
        .enumerate()
        .map(|(number, (name, shape))| {
            let values: Vec<f32> = (0..shape.iter().product::<usize>())
                .map(|i| 0.3 * ((i * 7919 + number * 104_729) as f32 * 0.618).sin())
                .collect();
            RawTensor::from_f32(name, shape, &values)
        })
        .collect();
    std::fs::create_dir_all(dir).unwrap();
    write_file(&dir.join("config.json"), config.to_json().to_string().as_bytes()).unwrap();
    write_file(&dir.join("tokenizer.json"), tokenizer).unwrap();
    let tokenizer_config = serde_json::json!({ "chat_template": template, "eos_token": "<|im_end|>" });
    write_file(&dir.join("tokenizer_config.json"), tokenizer_config.to_string().as_bytes()).unwrap();
    write_tensors(&dir.join("model.safetensors"), &tensors).unwrap();
}
