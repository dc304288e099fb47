//! What is written down of every step: the field's names, one JSON object or CSV row each.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    pub step: usize,
    /// Epochs done, with the fraction of the running one.
    pub epoch: f64,
    /// Nats per trained token over the step.
    pub loss: f64,
    /// Before clipping.
    pub grad_norm: f64,
    pub learning_rate: f64,
    /// Tokens read per second, trained or not; there is no padding.
    pub tokens_per_second: f64,
    /// Tokens read since the start.
    pub num_tokens: u64,
    /// Largest resident memory of the process so far, bytes.
    pub peak_memory: u64,
    pub eval_loss: Option<f64>,
    /// Share of trained tokens whose logit was the largest.
    pub mean_token_accuracy: f64,
}

pub fn csv_header() -> &'static str {
    "step,epoch,loss,grad_norm,learning_rate,tokens_per_second,num_tokens,peak_memory,eval_loss,mean_token_accuracy"
}

pub fn csv_row(metrics: &Metrics) -> String {
    let Metrics {
        step,
        epoch,
        loss,
        grad_norm,
        learning_rate,
        tokens_per_second,
        num_tokens,
        peak_memory,
        eval_loss,
        mean_token_accuracy,
    } = metrics;
    let eval_loss = eval_loss.map(|loss| loss.to_string()).unwrap_or_default();
    format!(
        "{step},{epoch},{loss},{grad_norm},{learning_rate},{tokens_per_second},{num_tokens},{peak_memory},{eval_loss},{mean_token_accuracy}"
    )
}

/// The largest resident memory this process has had, in bytes; 0 where the system does not tell.
pub fn peak_memory_bytes() -> u64 {
    of_status("VmHWM:")
}

/// Its resident memory now.
pub fn resident_memory_bytes() -> u64 {
    of_status("VmRSS:")
}

fn of_status(name: &str) -> u64 {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return 0 };
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes * 1024)
}
