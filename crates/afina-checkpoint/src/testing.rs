//! Small models and adapters for unit tests.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use crate::adapter::{AdapterConfig, LoraTensors, write_adapter};
use crate::atomic::write_file;
use crate::config::LlamaConfig;
use crate::gguf::{TokenType, TokenizerModel, Vocabulary};
use crate::model_dir::{WEIGHTS, WEIGHTS_INDEX};
use crate::names::{expected_tensors, linear_shape, module_path};
use crate::safetensors::{SafetensorsFile, write_safetensors, write_tensors};
use crate::tensor::{Dtype, RawTensor};

/// Two layers, width 64, four heads over two, vocabulary of 320.
pub(crate) fn tiny_config(tied: bool) -> LlamaConfig {
    LlamaConfig::from_json(&json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320,
        "rms_norm_eps": 1e-5, "max_position_embeddings": 128, "tie_word_embeddings": tied,
        "bos_token_id": 1, "eos_token_id": 2,
    }))
    .unwrap()
}

/// Repeatable values between -0.1 and 0.1.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) * 0.2
        })
        .collect()
}

/// Writes config.json and model.safetensors of [`tiny_config`].
pub(crate) fn tiny_model(dir: &Path, tied: bool) {
    let config = tiny_config(tied);
    let tensors: Vec<RawTensor> = expected_tensors(&config)
        .into_iter()
        .enumerate()
        .map(|(index, (name, shape))| {
            let values = noise(index as u64 + 1, shape.iter().product());
            RawTensor::from_f32(name, shape, &values)
        })
        .collect();
    let infos: Vec<_> = tensors.iter().map(RawTensor::info).collect();
    write_file(&dir.join("config.json"), config.to_json().to_string().as_bytes()).unwrap();
    write_safetensors(&dir.join(WEIGHTS), &infos, &BTreeMap::new(), &mut |name| {
        Ok(tensors.iter().find(|tensor| tensor.name == name).unwrap().clone())
    })
    .unwrap();
}

/// Cuts the weights of a folder into `count` files and an index.
pub(crate) fn shard(dir: &Path, count: usize) {
    let file = SafetensorsFile::open(&dir.join(WEIGHTS)).unwrap();
    let tensors: Vec<RawTensor> = file.names().iter().map(|name| file.read(name).unwrap()).collect();
    let mut map = serde_json::Map::new();
    for (index, part) in tensors.chunks(tensors.len().div_ceil(count)).enumerate() {
        let shard = format!("model-{:05}-of-{count:05}.safetensors", index + 1);
        map.extend(part.iter().map(|tensor| (tensor.name.clone(), json!(shard))));
        write_tensors(&dir.join(&shard), part).unwrap();
    }
    std::fs::remove_file(dir.join(WEIGHTS)).unwrap();
    let index = json!({"metadata": {}, "weight_map": map});
    write_file(&dir.join(WEIGHTS_INDEX), index.to_string().as_bytes()).unwrap();
}

/// Stores every linear layer of a folder as GPTQ does, 4 bits in one group: each number and each zero point at random.
pub(crate) fn store_as_gptq(dir: &Path) {
    let file = SafetensorsFile::open(&dir.join(WEIGHTS)).unwrap();
    let mut tensors = Vec::new();
    for (seed, tensor) in file.names().iter().map(|name| file.read(name).unwrap()).enumerate() {
        let Some(module) = tensor.name.strip_suffix("_proj.weight").map(|module| format!("{module}_proj")) else {
            tensors.push(tensor);
            continue;
        };
        let (out, input) = (tensor.shape[0], tensor.shape[1]);
        let words = |part: &str, shape: [usize; 2]| RawTensor {
            name: format!("{module}.{part}"),
            dtype: Dtype::I32,
            shape: shape.to_vec(),
            bytes: noise(seed as u64, shape[0] * shape[1]).into_iter().flat_map(f32::to_le_bytes).collect(),
        };
        tensors.push(words("qweight", [input / 8, out]));
        tensors.push(words("qzeros", [1, out / 8]));
        let scales = RawTensor::from_f32_as(format!("{module}.scales"), vec![1, out], &vec![0.01; out], Dtype::F16);
        tensors.push(scales.unwrap());
    }
    write_tensors(&dir.join(WEIGHTS), &tensors).unwrap();
    let path = dir.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["quantization_config"] = json!({"quant_method": "gptq", "bits": 4, "group_size": -1});
    write_file(&path, config.to_string().as_bytes()).unwrap();
}

/// Writes an adapter of rank 4 and alpha 8 on q_proj and down_proj of both layers.
pub(crate) fn tiny_adapter(dir: &Path) -> (AdapterConfig, Vec<LoraTensors>) {
    let config: AdapterConfig = serde_json::from_value(json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8.0, "target_modules": ["q_proj", "down_proj"],
        "base_model_name_or_path": "base", "inference_mode": true,
    }))
    .unwrap();
    let model = tiny_config(true);
    let mut adapters = Vec::new();
    for layer in 0..2 {
        for name in ["q_proj", "down_proj"] {
            let [out, input] = linear_shape(&model, name);
            let module = module_path(layer, name);
            let half = |half: &str, shape: Vec<usize>, seed: usize| {
                let values = noise(seed as u64, shape.iter().product());
                RawTensor::from_f32(crate::names::peft_key(&module, half), shape, &values)
            };
            let (a, b) = (half("lora_A", vec![4, input], 50 + layer), half("lora_B", vec![out, 4], 60 + layer));
            adapters.push(LoraTensors { module, a, b });
        }
    }
    write_adapter(dir, &config, &adapters).unwrap();
    (config, adapters)
}

/// The byte-level alphabet of GPT-2: printable bytes stand for themselves, the others for characters from 256 on.
fn byte_alphabet() -> Vec<String> {
    let printable = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 256;
    (0..256_u32)
        .map(|byte| {
            let code = if printable(&byte) {
                byte
            } else {
                next += 1;
                next - 1
            };
            char::from_u32(code).unwrap().to_string()
        })
        .collect()
}

/// Three special tokens, the byte alphabet, and a few merges.
pub(crate) fn bpe_vocabulary() -> Vocabulary {
    let merges = ["a b", "Ġ ab", "b c", "n i", "1 2"];
    let mut tokens: Vec<String> = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned).to_vec();
    tokens.extend(byte_alphabet());
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let mut types = vec![TokenType::Normal; tokens.len()];
    types[..3].fill(TokenType::Control);
    Vocabulary {
        model: TokenizerModel::Bpe { pre: "smollm".into(), merges: merges.map(str::to_owned).to_vec() },
        tokens,
        types,
        bos: Some(1),
        eos: Some(2),
        eot: None,
        eom: None,
        unk: Some(0),
        pad: None,
        add_bos: false,
        add_eos: false,
        chat_template: Some("{{ messages }}".into()),
        named_templates: Vec::new(),
    }
}

/// `<unk> <s> </s>`, the byte tokens, a few pieces; `bc` scores above `ab`.
pub(crate) fn sentencepiece_vocabulary() -> Vocabulary {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    let mut types = vec![TokenType::Byte; tokens.len()];
    types[..3].copy_from_slice(&[TokenType::Unknown, TokenType::Control, TokenType::Control]);
    let mut scores = vec![0.0; tokens.len()];
    for (token, score) in
        [("bc", -1.0), ("ab", -2.0), ("▁ab", -3.0), ("▁", -4.0), ("a", -5.0), ("b", -6.0), ("c", -7.0)]
    {
        tokens.push(token.into());
        types.push(TokenType::Normal);
        scores.push(score);
    }
    Vocabulary {
        model: TokenizerModel::SentencePiece { scores, add_space_prefix: true },
        tokens,
        types,
        bos: Some(1),
        eos: Some(2),
        eot: None,
        eom: None,
        unk: Some(0),
        pad: None,
        add_bos: true,
        add_eos: false,
        chat_template: None,
        named_templates: Vec::new(),
    }
}

/// Writes tokenizer.json and tokenizer_config.json of [`bpe_vocabulary`], with empty rows up to `vocab_size`.
pub(crate) fn tiny_tokenizer(dir: &Path, vocab_size: usize) {
    let mut vocabulary = bpe_vocabulary();
    for id in vocabulary.tokens.len()..vocab_size {
        vocabulary.tokens.push(format!("[PAD{id}]"));
        vocabulary.types.push(TokenType::Unused);
    }
    let (tokenizer, config) = crate::gguf::tokenizer_files(&vocabulary).unwrap();
    write_file(&dir.join("tokenizer.json"), tokenizer.to_string().as_bytes()).unwrap();
    write_file(&dir.join("tokenizer_config.json"), config.to_string().as_bytes()).unwrap();
}

/// Overwrites a file without waiting for the disk: thousands of damaged files are written in a test.
pub(crate) fn overwrite(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    std::fs::File::create(path).unwrap().write_all(bytes).unwrap();
}
