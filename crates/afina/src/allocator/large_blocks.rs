//! Large blocks, each mapped by itself. Freed ones are kept for the next, and cut or grown to its size: pages move, and are not zeroed.
//!
//! What is kept and what is in use are never more together than has been in use at once.

use std::sync::{Mutex, PoisonError};

/// Blocks are multiples of this: the largest page that Linux has for a program by default.
pub(super) const PAGE: usize = 64 * 1024;

/// Freed blocks that are kept at most.
const KEPT: usize = 1024;

/// What is cut off a block is kept, if it is so large.
const REST: usize = 4 * PAGE;

pub(super) struct LargeBlocks {
    state: Mutex<State>,
}

struct State {
    /// Oldest first.
    kept: [Block; KEPT],
    count: usize,
    kept_bytes: usize,
    used_bytes: usize,
    most_used: usize,
}

#[derive(Clone, Copy)]
struct Block {
    at: usize,
    size: usize,
}

impl LargeBlocks {
    pub(super) const fn new() -> LargeBlocks {
        let kept = [Block { at: 0, size: 0 }; KEPT];
        LargeBlocks { state: Mutex::new(State { kept, count: 0, kept_bytes: 0, used_bytes: 0, most_used: 0 }) }
    }

    /// Null where the system has no memory.
    pub(super) fn alloc(&self, size: usize, zeroed: bool) -> *mut u8 {
        let Some(size) = size.checked_next_multiple_of(PAGE) else { return std::ptr::null_mut() };
        let lock = || self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (kept, most_used) = lock().begin(size);
        let reused = kept.and_then(|block| resized(block, size));
        if let (Some(at), true) = (reused, zeroed) {
            // SAFETY: the block is `size` long, and nobody else's.
            unsafe { std::ptr::write_bytes(at as *mut u8, 0, size) };
        }
        let Some(at) = reused.or_else(|| mapped(size)) else {
            let mut state = lock();
            state.used_bytes -= size;
            state.most_used = most_used.max(state.used_bytes);
            return std::ptr::null_mut();
        };
        at as *mut u8
    }

    /// # Safety
    /// `at` came from [`LargeBlocks::alloc`] with this size, and is not used any more.
    pub(super) unsafe fn free(&self, at: *mut u8, size: usize) {
        let size = size.next_multiple_of(PAGE);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.used_bytes -= size;
        if state.count == KEPT {
            state.drop_oldest(usize::MAX);
        }
        let count = state.count;
        state.kept[count] = Block { at: at as usize, size };
        state.count += 1;
        state.kept_bytes += size;
    }
}

impl State {
    /// Counts a block of this size as used and makes room for it: returns what can become it, and the most that was used before.
    fn begin(&mut self, size: usize) -> (Option<Block>, usize) {
        let most_used = self.most_used;
        self.used_bytes += size;
        self.most_used = most_used.max(self.used_bytes);
        let block = self.take(size);
        self.keep_within(self.most_used - self.used_bytes);
        (block, most_used)
    }

    /// The kept block that is closest in size: within a quarter, or any where there is no room for a new one beside what is kept.
    fn take(&mut self, size: usize) -> Option<Block> {
        let is_tight = self.kept_bytes > self.most_used - self.used_bytes;
        let blocks = self.kept[..self.count].iter().enumerate().rev();
        let (index, &Block { at, size: found }) = blocks.min_by_key(|(_, block)| block.size.abs_diff(size))?;
        if found.abs_diff(size) > size / 4 && !is_tight {
            return None;
        }
        if found >= size + REST {
            self.kept[index] = Block { at: at + size, size: found - size };
            self.kept_bytes -= size;
            return Some(Block { at, size });
        }
        self.remove(index);
        Some(Block { at, size: found })
    }

    /// Gives back to the system what is kept beyond so many bytes, the oldest first.
    fn keep_within(&mut self, bytes: usize) {
        while self.kept_bytes > bytes {
            self.drop_oldest(self.kept_bytes - bytes);
        }
    }

    /// Gives the oldest block back, or so many bytes of it.
    fn drop_oldest(&mut self, bytes: usize) {
        let Block { at, size } = self.kept[0];
        if size <= bytes {
            self.remove(0);
            unmap(at, size);
        } else {
            unmap(at + size - bytes, bytes);
            self.kept[0].size -= bytes;
            self.kept_bytes -= bytes;
        }
    }

    fn remove(&mut self, index: usize) {
        self.kept_bytes -= self.kept[index].size;
        self.kept.copy_within(index + 1..self.count, index);
        self.count -= 1;
    }
}

fn mapped(size: usize) -> Option<usize> {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, where the system wants it.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), size, access, kind, -1, 0) };
    if at == libc::MAP_FAILED {
        return None;
    }
    // Neighbours become one to the system, so that huge pages go across them. Where it has none, pages are small.
    // SAFETY: says how the mapping is to be filled, and changes nothing in it.
    unsafe { libc::madvise(at, size, libc::MADV_HUGEPAGE) };
    Some(at as usize)
}

/// Cut, or grown wherever there is room.
fn resized(Block { at, size }: Block, new_size: usize) -> Option<usize> {
    if size == new_size {
        return Some(at);
    }
    // SAFETY: the block is one mapping, and nobody else's.
    let new = unsafe { libc::mremap(at as *mut libc::c_void, size, new_size, libc::MREMAP_MAYMOVE) };
    if new == libc::MAP_FAILED {
        unmap(at, size);
        return None;
    }
    Some(new as usize)
}

fn unmap(at: usize, size: usize) {
    // SAFETY: pages of a block that nobody uses. Where the system refuses, they stay.
    unsafe { libc::munmap(at as *mut libc::c_void, size) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_their_bytes_and_no_more_is_held_than_was_used_at_once() {
        let blocks = LargeBlocks::new();
        let mut used: Vec<(*mut u8, usize, u8)> = Vec::new();
        let mut draw = 1u32;
        for round in 0..3000u32 {
            draw = draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let size = 1 + (draw >> 8) as usize % (20 * PAGE);
            if used.len() < 3 || (used.len() < 30 && draw >> 31 == 0) {
                let zeroed = round.is_multiple_of(2);
                let at = blocks.alloc(size, zeroed);
                // SAFETY: the block is `size` long.
                let bytes = unsafe { std::slice::from_raw_parts_mut(at, size) };
                assert!(!zeroed || bytes.iter().all(|&byte| byte == 0));
                bytes.fill(round as u8);
                used.push((at, size, round as u8));
            } else {
                let (at, size, byte) = used.swap_remove(draw as usize % used.len());
                // SAFETY: the block is `size` long, and freed once.
                unsafe {
                    assert!(std::slice::from_raw_parts(at, size).iter().all(|&found| found == byte));
                    blocks.free(at, size);
                }
            }
            let state = blocks.state.lock().unwrap();
            assert!(state.kept_bytes + state.used_bytes <= state.most_used);
            assert_eq!(state.kept_bytes, state.kept[..state.count].iter().map(|block| block.size).sum::<usize>());
            assert_eq!(state.used_bytes, used.iter().map(|(_, size, _)| size.next_multiple_of(PAGE)).sum::<usize>());
        }
    }

    #[test]
    fn more_blocks_than_can_be_kept_are_given_back() {
        let blocks = LargeBlocks::new();
        let all: Vec<*mut u8> = (0..KEPT + 5).map(|_| blocks.alloc(PAGE, false)).collect();
        // SAFETY: each is freed once.
        all.into_iter().for_each(|at| unsafe { blocks.free(at, PAGE) });
        assert_eq!(blocks.state.lock().unwrap().kept_bytes, KEPT * PAGE);
    }

    #[test]
    fn what_the_system_has_not_is_null() {
        let blocks = LargeBlocks::new();
        assert!(blocks.alloc(1 << 60, false).is_null() && blocks.alloc(usize::MAX, false).is_null());
        let state = blocks.state.lock().unwrap();
        assert_eq!((state.used_bytes, state.most_used), (0, 0));
    }
}
