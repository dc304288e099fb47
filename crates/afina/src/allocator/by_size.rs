//! mimalloc, and for large blocks an allocator of their own.

use std::alloc::{GlobalAlloc, Layout};

use mimalloc::MiMalloc;

use super::large_blocks::{LargeBlocks, PAGE};

/// From so many bytes on a block is large: the activations of a hundred tokens.
const LARGE: usize = 256 * 1024;

pub(super) struct BySize;

static LARGE_BLOCKS: LargeBlocks = LargeBlocks::new();

fn is_large(layout: Layout) -> bool {
    layout.size() >= LARGE && layout.align() <= PAGE
}

// SAFETY: a layout decides by itself which allocator a block comes from and goes back to.
unsafe impl GlobalAlloc for BySize {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            return LARGE_BLOCKS.alloc(layout.size(), false);
        }
        // SAFETY: as the caller says.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            return LARGE_BLOCKS.alloc(layout.size(), true);
        }
        // SAFETY: as the caller says.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller says, and the layout is the one that the block was allocated with.
        unsafe { if is_large(layout) { LARGE_BLOCKS.free(at, layout.size()) } else { MiMalloc.dealloc(at, layout) } }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as the caller says; the shorter of both sizes is there on both sides.
        unsafe {
            let new = Layout::from_size_align_unchecked(new_size, layout.align());
            if !is_large(layout) && !is_large(new) {
                return MiMalloc.realloc(at, layout, new_size);
            }
            let to = self.alloc(new);
            if !to.is_null() {
                std::ptr::copy_nonoverlapping(at, to, layout.size().min(new_size));
                self.dealloc(at, layout);
            }
            to
        }
    }
}
