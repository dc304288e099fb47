//! What the tests of the loop share: a tiny random Llama, a recipe for it, and a look at what a run left.

use std::path::Path;

use afina_checkpoint::{LlamaConfig, RawTensor, names::expected_tensors, write_file, write_tensors};
use afina_ops::test_device;

use crate::{Control, Event, Recipe, Summary, run};

/// A model folder around a fixture's tokenizer and template, with weights that look random and are not.
pub(crate) fn model_dir(dir: &Path) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let tokenizer = std::fs::read(fixtures.join("chat/tokenizers/smollm2.json")).unwrap();
    let template = std::fs::read_to_string(fixtures.join("chat/templates/smollm2.jinja")).unwrap();
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
    write_file(&dir.join("tokenizer.json"), &tokenizer).unwrap();
    let tokenizer_config = serde_json::json!({ "chat_template": template, "eos_token": "<|im_end|>" });
    write_file(&dir.join("tokenizer_config.json"), tokenizer_config.to_string().as_bytes()).unwrap();
    write_tensors(&dir.join("model.safetensors"), &tensors).unwrap();
}

/// A short run on nine lines that the folder holds.
pub(crate) fn recipe(dir: &Path, run: &str, overrides: &[&str]) -> Recipe {
    let lines: String = (0..9)
        .map(|i| {
            format!(
                "{{\"messages\":[{{\"role\":\"user\",\"content\":\"pregunta {i}\"}},{{\"role\":\"assistant\",\"content\":\"{}\"}}]}}\n",
                "sí ".repeat(i + 1).trim_end()
            )
        })
        .collect();
    write_file(&dir.join("train.jsonl"), lines.as_bytes()).unwrap();
    let text = format!(
        "version = 1\nrecipe = \"lora_finetune\"\nrun = \"{0}/{run}\"\n[model]\nbase = \"{0}/base\"\n[lora]\nr = 4\n[data]\ntrain = [\"{0}/train.jsonl\"]\nvalidation = [\"{0}/train.jsonl\"]\nseq_len = 128\n[train]\nmax_steps = 7\nmicro_batch_size = 1\ngradient_accumulation_steps = 2\nlearning_rate = 1e-2\n[eval]\nevery_steps = 3\n[save]\nevery_steps = 2\nkeep = 1\n",
        dir.display()
    );
    let overrides: Vec<String> = overrides.iter().map(|&given| given.to_owned()).collect();
    Recipe::parse(&text, &overrides).unwrap()
}

/// Runs a recipe, up to a step where one is given.
pub(crate) fn train(recipe: &Recipe, resume: bool, stop_after: Option<usize>) -> anyhow::Result<Summary> {
    run(recipe, &test_device(), resume, &mut |event| match event {
        Event::Step { metrics, .. } if Some(metrics.step) == stop_after => Control::Stop,
        _ => Control::Continue,
    })
}

/// The log without what a clock or the machine decides.
pub(crate) fn log(recipe: &Recipe) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(Path::new(&recipe.run).join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let mut metrics: serde_json::Value = serde_json::from_str(line).unwrap();
            metrics["tokens_per_second"] = 0.into();
            metrics["peak_memory"] = 0.into();
            metrics
        })
        .collect()
}

pub(crate) fn adapter(recipe: &Recipe) -> Vec<u8> {
    std::fs::read(Path::new(&recipe.run).join("adapter_model.safetensors")).unwrap()
}
