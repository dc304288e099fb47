//! The learning rate of each step: warmup, then decay.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LrScheduler {
    Cosine,
    Linear,
    Constant,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    pub scheduler: LrScheduler,
    /// The peak.
    pub learning_rate: f64,
    /// Share of all steps that warm up linearly, rounded up to whole steps.
    pub warmup_ratio: f64,
    /// The floor, as a share of the peak; `constant` never falls.
    pub min_lr_ratio: f64,
    pub total_steps: usize,
}

impl Schedule {
    pub fn warmup_steps(&self) -> usize {
        (self.warmup_ratio * self.total_steps as f64).ceil() as usize
    }

    /// The learning rate of step `step`, from 0.
    pub fn at(&self, step: usize) -> f64 {
        let peak = self.learning_rate;
        let warmup = self.warmup_steps();
        if step < warmup {
            return peak * (step + 1) as f64 / warmup as f64;
        }
        let left = (self.total_steps.saturating_sub(warmup)).max(1) as f64;
        let progress = ((step - warmup) as f64 / left).min(1.0);
        let floor = self.min_lr_ratio * peak;
        match self.scheduler {
            LrScheduler::Constant => peak,
            LrScheduler::Linear => floor + (peak - floor) * (1.0 - progress),
            LrScheduler::Cosine => floor + (peak - floor) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(scheduler: LrScheduler) -> Schedule {
        Schedule { scheduler, learning_rate: 1.0, warmup_ratio: 0.2, min_lr_ratio: 0.1, total_steps: 10 }
    }

    #[test]
    fn warms_up_in_equal_steps_to_the_peak() {
        let cosine = schedule(LrScheduler::Cosine);
        assert_eq!((cosine.at(0), cosine.at(1), cosine.at(2)), (0.5, 1.0, 1.0));
    }

    #[test]
    fn decays_towards_the_floor_and_never_below() {
        for (scheduler, halfway) in
            [(LrScheduler::Cosine, 0.55), (LrScheduler::Linear, 0.55), (LrScheduler::Constant, 1.0)]
        {
            let schedule = schedule(scheduler);
            assert!((schedule.at(6) - halfway).abs() < 1e-12, "{scheduler:?}: {}", schedule.at(6));
            let last = schedule.at(1000);
            let floor = if scheduler == LrScheduler::Constant { 1.0 } else { 0.1 };
            assert!((last - floor).abs() < 1e-12, "{scheduler:?}: {last}");
        }
    }

    #[test]
    fn one_step_without_warmup_runs_at_the_peak() {
        let schedule = Schedule { warmup_ratio: 0.0, total_steps: 1, ..schedule(LrScheduler::Linear) };
        assert_eq!(schedule.at(0), 1.0);
    }
}
