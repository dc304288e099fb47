//! Eight bits for a number between −1 and 1, finer towards zero: bitsandbytes' signed dynamic map, in blocks of 256 that
//! share the largest magnitude. It holds the scales of [`nf4`](crate::nf4) where those are quantized as well.

/// Values in a block, where scales are quantized.
pub const BLOCK: usize = 256;

/// The map's positive numbers below one: for each i from 0 to 6, the middles of 2^i equal parts of 0.1 to 1, times 10^(i−6).
///
/// Source: bitsandbytes 0.50.2's `create_dynamic_map` with torch 2.9.1 on AVX2 and AVX-512; without vector instructions
/// torch's `linspace` rounds a few of them otherwise, so a checkpoint brings the map that it was made with.
#[rustfmt::skip]
const POSITIVE: [f32; 127] = [
    5.5000004e-07, 3.2500002e-06, 7.75e-06, 2.1249998e-05, 4.375e-05, 6.625e-05, 8.875e-05, 0.00015625001,
    0.00026875004, 0.00038125002, 0.00049375003, 0.0006062501, 0.00071875006, 0.00083125, 0.0009437501, 0.0012812499,
    0.00184375, 0.00240625, 0.00296875, 0.0035312497, 0.00409375, 0.0046562497, 0.0052187503, 0.00578125, 0.00634375,
    0.00690625, 0.00746875, 0.00803125, 0.00859375, 0.009156249, 0.00971875, 0.01140625, 0.01421875, 0.01703125,
    0.019843752, 0.02265625, 0.02546875, 0.028281251, 0.03109375, 0.03390625, 0.036718752, 0.03953125, 0.042343747,
    0.04515625, 0.04796875, 0.05078125, 0.05359375, 0.05640625, 0.059218753, 0.06203125, 0.06484375, 0.067656256,
    0.070468746, 0.07328125, 0.07609375, 0.07890625, 0.08171876, 0.08453125, 0.08734375, 0.09015625, 0.092968754,
    0.09578126, 0.09859375, 0.107031256, 0.12109375, 0.13515624, 0.14921875, 0.16328125, 0.17734376, 0.19140625,
    0.20546874, 0.21953125, 0.23359375, 0.24765624, 0.26171875, 0.27578127, 0.28984374, 0.30390626, 0.31796873,
    0.33203125, 0.34609374, 0.36015624, 0.37421876, 0.38828123, 0.40234375, 0.41640624, 0.43046874, 0.44453126,
    0.45859373, 0.47265625, 0.4867187, 0.50078124, 0.5148437, 0.5289062, 0.54296875, 0.5570313, 0.5710938, 0.58515626,
    0.5992187, 0.61328125, 0.6273438, 0.6414063, 0.65546876, 0.6695312, 0.68359375, 0.6976563, 0.7117188, 0.72578126,
    0.7398437, 0.75390625, 0.7679688, 0.78203124, 0.79609376, 0.8101562, 0.82421875, 0.8382813, 0.85234374,
    0.86640626, 0.8804687, 0.89453125, 0.9085938, 0.92265624, 0.93671876, 0.9507812, 0.96484375, 0.9789063,
    0.99296874,
];

/// The 256 numbers, ascending: the negative ones, 0, the positive ones, 1.
pub fn map() -> [f32; 256] {
    let mut map = [0.0; 256];
    for (i, number) in POSITIVE.into_iter().enumerate() {
        map[126 - i] = -number;
        map[128 + i] = number;
    }
    map[255] = 1.0;
    map
}

/// Encodes blocks of 256 finite values, the last of which may be shorter: the largest magnitude, and a number of the map for
/// each value divided by it. A block of zeros is encoded as number 0.
///
/// Source: bitsandbytes 0.50.2's `cquantize_blockwise_cpu_fp32`: the quotient is rounded to one of 65,536 steps (with FMA)
/// before the nearest number is sought.
///
/// # Panics
/// If there is not one byte for each value and one `absmax` for each block.
pub fn encode(values: &[f32], map: &[f32; 256], bytes: &mut [u8], absmax: &mut [f32]) {
    assert_eq!(bytes.len(), values.len(), "a byte for each value");
    assert_eq!(absmax.len(), values.len().div_ceil(BLOCK), "one for each block of 256");
    let mut middles = [0.0; 255];
    for (middle, pair) in middles.iter_mut().zip(map.windows(2)) {
        *middle = 0.5 * (pair[0] + pair[1]);
    }
    for ((values, bytes), absmax) in values.chunks(BLOCK).zip(bytes.chunks_mut(BLOCK)).zip(absmax) {
        *absmax = values.iter().fold(0.0, |largest, value| value.abs().max(largest));
        let inverse = 1.0 / *absmax;
        for (byte, value) in bytes.iter_mut().zip(values) {
            *byte = if *absmax == 0.0 { 0 } else { number(value * inverse, &middles) };
        }
    }
}

/// The number of the nearest of the map, the lower one of a tie.
fn number(x: f32, middles: &[f32; 255]) -> u8 {
    const STEPS: f32 = 65_535.0;
    let step = ((x.clamp(-1.0, 1.0) + 1.0) * 0.5).mul_add(STEPS, 0.5) as u16;
    let x = -1.0 + 2.0 * f32::from(step) / STEPS;
    middles.partition_point(|middle| *middle < x) as u8
}

/// Decodes blocks of 256: the map's number times the block's largest magnitude.
///
/// # Panics
/// If there is not one byte for each value and one `absmax` for each block.
pub fn decode(bytes: &[u8], map: &[f32; 256], absmax: &[f32], values: &mut [f32]) {
    assert_eq!(bytes.len(), values.len(), "a byte for each value");
    assert_eq!(absmax.len(), values.len().div_ceil(BLOCK), "one for each block of 256");
    for ((bytes, values), absmax) in bytes.chunks(BLOCK).zip(values.chunks_mut(BLOCK)).zip(absmax) {
        for (byte, value) in bytes.iter().zip(values) {
            *value = map[usize::from(*byte)] * absmax;
        }
    }
}
