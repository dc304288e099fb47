//! `afina bench train`: optimizer steps of a LoRA adapter, timed: forward, backward, clip, AdamW.

use std::path::Path;
use std::time::Instant;

use afina_checkpoint::{LINEAR_MODULES, LlamaConfig, ModelDir, names::linear_shape, read_adapter};
use afina_data::Batch;
use afina_model::{Llama, LoraConfig, LoraSet, load_llama};
use afina_train::{AdamW, AdamWState, MicroBatch, TrainSettings, peak_memory_bytes, resident_memory_bytes, train_step};
use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use serde_json::json;

use super::rows::{self, Rows};
use crate::args::{BenchTrain, Precision};
use crate::commands::OK;
use crate::output::Output;

const LEARNING_RATE: f64 = 1e-4;
const FRESH_ADAPTER_SEED: u64 = 42;

pub fn run(args: &BenchTrain, device: &Device, output: &Output) -> Result<u8> {
    if let (Some(data), Some(to)) = (&args.data, &args.write_rows) {
        return rows::write(&args.model, data, args.seq_len, to, output);
    }
    let dir =
        ModelDir::open(&args.model).with_context(|| format!("failed to open the model `{}`", args.model.display()))?;
    let rows = match &args.rows {
        Some(path) => Rows::read(path, &dir.config)?,
        None => Rows::made(&args.shape, dir.config.vocab_size)?,
    };
    let llama = load_llama(&dir, device, args.precision.into(), &mut |_, _| {})?;
    let mut lora = match &args.adapter {
        Some(path) => adapter(&llama, path)?,
        None => LoraSet::init(&llama, fresh(), FRESH_ADAPTER_SEED),
    };
    let gflop = gflop(&dir.config, lora.parameters(), &rows);
    let mut optimizer = AdamWState::new(&lora.values);
    let settings = TrainSettings {
        adamw: AdamW { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01 },
        max_grad_norm: 1.0,
        recompute: args.recompute,
    };
    let batch = [MicroBatch::new(&Batch::new(&rows.examples, &rows.rows))];

    let (mut losses, mut seconds, mut resident) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..=args.steps {
        let began = Instant::now();
        let outcome = train_step(&llama, &mut lora, &mut optimizer, &batch, LEARNING_RATE, &settings);
        device.sync().context("the device did not finish the step")?;
        seconds.push(began.elapsed().as_secs_f64());
        losses.push(outcome.loss.mean());
        resident.push(resident_memory_bytes());
    }
    let median = median(&seconds[1..]);
    let (tokens, peak) = (rows.tokens(), peak_memory_bytes());
    let tokens_per_second = tokens as f64 / median;
    output.result(
        &format!(
            "{tokens} tokens in {}: {:.0} ms a step, {tokens_per_second:.0} tokens/s, {:.0} GFLOP/s (median of {}), peak memory {:.0} MB",
            rows.counted(),
            1000.0 * median,
            gflop / median,
            args.steps,
            peak as f64 / 1e6
        ),
        // The arrays begin with the step that is not timed.
        &json!({
            "precision": match args.precision { Precision::F32 => "f32", Precision::Bf16 => "bf16" },
            "recompute": args.recompute,
            "rows": rows.rows.len(),
            "tokens": tokens,
            "trained_tokens": rows.trained_tokens(),
            "steps": args.steps,
            "median_seconds": median,
            "tokens_per_second": tokens_per_second,
            "gflop": gflop,
            "peak_memory_bytes": peak,
            "losses": losses,
            "step_seconds": seconds,
            "resident_bytes": resident,
        }),
    );
    Ok(OK)
}

fn fresh() -> LoraConfig {
    LoraConfig { r: 8, alpha: 16.0, target_modules: LINEAR_MODULES.map(str::to_owned).to_vec() }
}

/// A PEFT folder's adapter, to be trained on: one rank and one alpha for all of it.
fn adapter(llama: &Llama, path: &Path) -> Result<LoraSet> {
    let failed = || format!("failed to load the adapter `{}`", path.display());
    let (config, tensors) = read_adapter(path).with_context(failed)?;
    let (r, alpha) = (config.r, config.lora_alpha);
    if let Some(other) = tensors.iter().find(|lora| config.scaling(&lora.module) != alpha / r as f64) {
        bail!("`{}`: expected alpha / r = {}, found {}", other.module, alpha / r as f64, config.scaling(&other.module));
    }
    let lora_config = LoraConfig { r, alpha, target_modules: config.target_modules };
    let lora = LoraSet::from_tensors(llama, lora_config, &tensors).with_context(failed)?;
    if lora.modules.len() != tensors.len() {
        bail!(
            "`{}` adapts {} projections, the model has {} of them",
            path.display(),
            tensors.len(),
            lora.modules.len()
        );
    }
    Ok(lora)
}

/// The arithmetic of a step in 10⁹ operations, a multiply-add being two; what `--recompute` does again is not counted.
///
/// A frozen weight works twice for each token: forward, and in the gradient of its input; the head only where a token is trained.
/// An adapter's weight works once more, for its own gradient. Attention has two products forward and four backward, over the pairs
/// of tokens of which one sees the other.
fn gflop(config: &LlamaConfig, adapter_parameters: usize, rows: &Rows) -> f64 {
    let layers = config.num_hidden_layers;
    let block: usize = LINEAR_MODULES.iter().map(|name| linear_shape(config, name).iter().product::<usize>()).sum();
    let pairs: usize = rows.examples.iter().map(|example| example.tokens.len() * (example.tokens.len() + 1) / 2).sum();
    let frozen = 4 * layers * block * rows.tokens();
    let head = 4 * config.vocab_size * config.hidden_size * rows.trained_tokens();
    let attention = 12 * layers * config.num_attention_heads * config.head_dim * pairs;
    let adapter = 6 * adapter_parameters * rows.tokens();
    (frozen + head + attention + adapter) as f64 / 1e9
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use afina_data::TokenizedExample;

    use super::*;

    #[test]
    fn the_arithmetic_of_a_step_is_that_of_its_products() {
        let config = LlamaConfig::from_json(&json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "intermediate_size": 12,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 10,
            "rms_norm_eps": 1e-5, "max_position_embeddings": 64, "tie_word_embeddings": true,
        }))
        .unwrap();
        let example = |length: usize, trained: usize| TokenizedExample {
            line: 1,
            tokens: vec![1; length],
            loss_mask: (0..length).map(|at| at >= length - trained).collect(),
        };
        // Three tokens, of which two are trained; one token, which is the target of nothing.
        let rows = Rows { examples: vec![example(3, 2), example(1, 1)], rows: vec![vec![0, 1]] };
        // A block: q and o 8 × 8, k and v 4 × 8, gate, up and down 12 × 8.
        let frozen = 4 * 2 * (2 * 64 + 2 * 32 + 3 * 96) * 4;
        let (head, attention, adapter) = (4 * 10 * 8 * 2, 12 * 2 * 8 * (6 + 1), 6 * 100 * 4);
        assert_eq!(gflop(&config, 100, &rows) * 1e9, f64::from(frozen + head + attention + adapter));
    }

    #[test]
    fn an_even_number_of_steps_has_a_median_between_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    }
}
