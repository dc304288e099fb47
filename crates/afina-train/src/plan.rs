//! What a step will need, before it is taken.

use afina_checkpoint::LlamaConfig;

/// An upper estimate of what keeping every activation of a micro-batch takes, in bytes: `tokens` in all, `longest` in its longest example.
///
/// Counted from what the operations in plain burn save for the backward pass, per token and layer: about 12 vectors of the hidden size, 8 of the
/// feed-forward size, and 3 rows of attention weights per head. Measured on SmolLM2-135M with 512 tokens: 0.9 GB where this says 1.2.
pub fn activation_bytes(config: &LlamaConfig, tokens: usize, longest: usize) -> u64 {
    let per_token = 12 * config.hidden_size + 8 * config.intermediate_size + 3 * config.num_attention_heads * longest;
    4 * (config.num_hidden_layers * per_token) as u64 * tokens as u64
}

/// Memory that can be had without swapping, in bytes; `None` where the system does not tell.
pub fn available_memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}
