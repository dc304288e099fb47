//! What Q4_K and Q5_K share: 256 values in eight groups of 32, a six-bit scale and a six-bit minimum for each group.

use crate::{
    f16,
    lanes::Lanes,
    nearest::nearest_int,
    search::{ScaleAndMin, Steps, scale_and_min},
};

/// Values in a block.
pub(crate) const VALUES: usize = 256;
/// Bytes of a block before its numbers: f16 `d`, f16 `dmin`, eight scales and eight minima.
pub(crate) const HEAD: usize = 16;

/// Encodes blocks: writes each one's head, and gives its numbers to `write` with what is left of the block.
#[inline(always)]
pub(crate) fn encode<L: Lanes>(
    values: &[f32],
    bytes: &mut [u8],
    block_bytes: usize,
    steps: &Steps,
    write: impl Fn(&[u8; VALUES], &mut [u8]),
) {
    // Two blocks are sixteen groups; the last of an odd number is searched beside itself.
    for (values, bytes) in values.chunks(2 * VALUES).zip(bytes.chunks_mut(2 * block_bytes)) {
        let blocks = values.as_chunks::<VALUES>().0;
        let both = [&blocks[0], &blocks[blocks.len() - 1]];
        let mut x = [[0.0; 16]; 32];
        for (half, block) in both.iter().enumerate() {
            for (group, group_values) in block.as_chunks::<32>().0.iter().enumerate() {
                for (x, value) in x.iter_mut().zip(group_values) {
                    x[half * 8 + group] = *value;
                }
            }
        }
        let found = scale_and_min::<L>(&x, steps);
        for (half, (block, out)) in blocks.iter().zip(bytes.chunks_exact_mut(block_bytes)).enumerate() {
            let (head, rest) = out.split_at_mut(HEAD);
            write(&head_and_numbers::<L>(block, &found, half * 8, steps.largest, head), rest);
        }
    }
}

/// Rounds the eight scales and minima to six bits, and gives each value the number that fits the rounded ones.
#[inline(always)]
fn head_and_numbers<L: Lanes>(
    x: &[f32; VALUES],
    found: &ScaleAndMin,
    first_group: usize,
    largest: i32,
    head: &mut [u8],
) -> [u8; VALUES] {
    let scales = &found.scale[first_group..first_group + 8];
    let mins = &found.min[first_group..first_group + 8];
    let max_scale = scales.iter().fold(0.0, |max, scale| if *scale > max { *scale } else { max });
    let max_min = mins.iter().fold(0.0, |max, min| if *min > max { *min } else { max });
    let inverse_scale = if max_scale > 0.0 { 63.0 / max_scale } else { 0.0 };
    let inverse_min = if max_min > 0.0 { 63.0 / max_min } else { 0.0 };
    f16::write::<L>(max_scale / 63.0, head);
    f16::write::<L>(max_min / 63.0, &mut head[2..]);
    let packed = &mut head[4..];
    for j in 0..8 {
        // Through a byte first, as ggml does: what is negative becomes large, and is cut.
        let scale = (nearest_int(inverse_scale * scales[j]) as u8).min(63);
        let min = (nearest_int(inverse_min * mins[j]) as u8).min(63);
        if j < 4 {
            packed[j] = scale;
            packed[j + 4] = min;
        } else {
            packed[j + 4] = (scale & 15) | ((min & 15) << 4);
            packed[j - 4] |= (scale >> 4) << 6;
            packed[j] |= (min >> 4) << 6;
        }
    }

    let mut numbers = [0; VALUES];
    let groups = numbers.as_chunks_mut::<32>().0.iter_mut().zip(x.as_chunks::<32>().0);
    for (j, ((numbers, x), (d, m))) in groups.zip(scales_and_mins::<L>(head)).enumerate() {
        if d == 0.0 {
            *numbers = x.map(|x| found.number(first_group + j, x, largest));
        } else {
            let (m, d) = (L::splat(m), L::splat(d));
            for (numbers, x) in numbers.as_chunks_mut::<16>().0.iter_mut().zip(x.as_chunks::<16>().0) {
                *numbers = L::bytes(L::nearest(L::div(L::add(L::load(x), m), d), 0, largest));
            }
        }
    }
    numbers
}

/// The eight groups' scales and minima, from a block's head.
#[inline(always)]
pub(crate) fn scales_and_mins<L: Lanes>(head: &[u8]) -> [(f32, f32); 8] {
    let (d, dmin) = (f16::read::<L>(head), f16::read::<L>(&head[2..]));
    let packed = &head[4..HEAD];
    std::array::from_fn(|j| {
        let (scale, min) = if j < 4 {
            (packed[j] & 63, packed[j + 4] & 63)
        } else {
            ((packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4), (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4))
        };
        (d * f32::from(scale), dmin * f32::from(min))
    })
}
