//! Ctrl-C and SIGTERM as a flag that loops look at.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on a signal sets the flag instead of ending the program; a second one ends it.
pub fn watch() -> Result<Arc<AtomicBool>> {
    if let Some(flag) = ASKED.get() {
        return Ok(flag.clone());
    }
    let flag = Arc::new(AtomicBool::new(false));
    let seen = flag.clone();
    ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(crate::commands::INTERRUPTED));
        }
    })
    .context("failed to listen for Ctrl-C")?;
    Ok(ASKED.get_or_init(|| flag).clone())
}

/// Whether a signal came.
pub fn came(flag: &AtomicBool) -> bool {
    flag.load(Ordering::SeqCst)
}

/// Whether a signal came since the last call: for what goes on after it.
pub fn take(flag: &AtomicBool) -> bool {
    flag.swap(false, Ordering::SeqCst)
}
