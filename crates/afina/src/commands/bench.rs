//! `afina bench`: figures on this machine.

pub mod validate;

use std::path::Path;
use std::time::Instant;

use afina_checkpoint::{LINEAR_MODULES, ModelDir};
use afina_data::{Batch, TokenizedExample};
use afina_model::{LoraConfig, LoraSet, Precision, load_llama};
use afina_train::{AdamW, AdamWState, MicroBatch, TrainSettings, peak_memory_bytes, train_step};
use anyhow::{Context, Result};
use burn::tensor::Device;
use serde_json::json;

use super::OK;
use crate::Usage;
use crate::output::Output;

/// Times optimizer steps: forward, backward, clip, AdamW.
pub fn train(model: &Path, shape: &str, steps: usize, recompute: bool, device: &Device, output: &Output) -> Result<u8> {
    let (rows, seq_len) = shape
        .split_once('x')
        .and_then(|(rows, seq_len)| Some((rows.parse::<usize>().ok()?, seq_len.parse::<usize>().ok()?)))
        .filter(|&(rows, seq_len)| rows > 0 && seq_len > 1)
        .ok_or_else(|| {
            Usage::error(format!("shape `{shape}` cannot be read"), "give sequences x tokens, as in 4x256")
        })?;
    let dir = ModelDir::open(model).with_context(|| format!("failed to open the model `{}`", model.display()))?;
    let llama = load_llama(&dir, device, Precision::F32, &mut |_, _| {})?;
    let target_modules = LINEAR_MODULES.iter().map(|&name| name.to_owned()).collect();
    let mut lora = LoraSet::init(&llama, LoraConfig { r: 8, alpha: 16.0, target_modules }, 42);
    let mut optimizer = AdamWState::new(&lora.values);
    let settings = TrainSettings {
        adamw: AdamW { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01 },
        max_grad_norm: 1.0,
        recompute,
    };
    // Any tokens do: the work does not depend on which they are.
    let vocab = llama.config.vocab_size;
    let examples: Vec<TokenizedExample> = (0..rows)
        .map(|row| TokenizedExample {
            line: row + 1,
            tokens: (0..seq_len).map(|t| ((row * 7919 + t * 104_729 + 17) % vocab) as u32).collect(),
            loss_mask: vec![true; seq_len],
        })
        .collect();
    let rows_of_examples: Vec<Vec<usize>> = (0..rows).map(|row| vec![row]).collect();
    let batch = [MicroBatch::new(&Batch::new(&examples, &rows_of_examples))];

    let mut seconds = Vec::with_capacity(steps);
    let mut losses = Vec::with_capacity(steps + 1);
    for step in 0..=steps {
        let began = Instant::now();
        let outcome = train_step(&llama, &mut lora, &mut optimizer, &batch, 1e-4, &settings);
        losses.push(outcome.loss.mean());
        if step > 0 {
            seconds.push(began.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN);
    let tokens = rows * seq_len;
    let tokens_per_second = tokens as f64 / median;
    let peak = peak_memory_bytes();
    output.result(
        &format!(
            "{shape}: {:.0} ms a step, {tokens_per_second:.0} tokens/s (median of {steps}), peak memory {:.0} MB",
            1000.0 * median,
            peak as f64 / 1e6
        ),
        &json!({
            "shape": shape,
            "steps": steps,
            "seconds": median,
            "tokens_per_second": tokens_per_second,
            "peak_memory_bytes": peak,
            "losses": losses,
        }),
    );
    Ok(OK)
}
