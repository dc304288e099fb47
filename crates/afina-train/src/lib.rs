//! The parts a training loop is made of; the loop itself is a recipe. Functions over tensors and plain values, no trainer object.

mod adamw;
mod backward;
mod buffers;
mod loss;
mod micro_batch;
mod packed;
mod plan;
mod report;
mod schedule;
mod state;
mod step;

#[cfg(test)]
mod golden;

pub use adamw::{AdamW, AdamWState, clip_factor};
pub use backward::loss_and_gradient;
pub use loss::{ExampleLoss, LossSum, evaluate, head_loss};
pub use micro_batch::MicroBatch;
pub use plan::{
    BatchShape, MemoryClasses, MemoryForecast, MemorySettings, Moment, available_memory_bytes, memory_forecast,
    parameters, rounds_activations, threads,
};
pub use report::{Metrics, csv_header, csv_row, peak_memory_bytes, resident_memory_bytes};
pub use schedule::{LrScheduler, Schedule};
pub use state::{
    Best, StateError, TrainState, load_checkpoint, load_partial, read_state, save_checkpoint, save_partial,
};
pub use step::{Accumulated, StepOutcome, TrainSettings, accumulate, finish_step, train_step};
