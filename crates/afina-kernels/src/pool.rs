//! The threads.

/// Runs work that is many kernels in one thread of the pool. From outside, each of them would wake the pool and be waited for.
pub fn on_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}
