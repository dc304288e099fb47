//! The allocator of the program: mimalloc, and for large blocks one that never holds more than has been in use at once.
//!
//! Training allocates and frees activations of many megabytes at every step. An allocator that gives each back to the system faults it in
//! again, zeroed page by page: a third of the time of a step of 512 tokens on SmolLM2-135M. One that keeps what was freed, but cannot use
//! it for the next size, holds up to a third more than is ever in use.
#![allow(unsafe_code)]

#[cfg(target_os = "linux")]
mod by_size;
#[cfg(target_os = "linux")]
mod large_blocks;

#[cfg(not(target_os = "linux"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: by_size::BySize = by_size::BySize;

/// `mi_option_purge_delay` of `mimalloc.h`, the same number in mimalloc 2 and 3; the Rust bindings leave it out.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Freed pages stay with the process, unless `MIMALLOC_PURGE_DELAY` says otherwise.
pub fn keep_freed_pages() {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: sets an integer option of the allocator; allowed at any time, from any thread.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
    }
}

/// Memory comes in pages of 4 KB: a run of a third of a second spends a tenth of it on zeroing huge pages that it uses in part.
pub fn avoid_huge_pages() {
    // Where the system refuses, its own setting stands.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}
