//! Blocks that ggml's own functions wrote, for the tests of the formats: at every level of the processor.

use crate::{
    blocks::{Block, decode_at, encode_at},
    lanes::Level,
};

/// Every line `<format> <values> <blocks> <values again>` of `gguf/blocks.txt`, in hexadecimal little-endian bytes: the
/// second column is ggml's encoding of the first, the third is ggml's decoding of the second.
pub(crate) fn check_values<B: Block>(format: &str) {
    for level in Level::available() {
        each_line(format, |values, blocks, again| {
            if values.iter().any(|value| !value.is_finite()) {
                return;
            }
            let mut bytes = vec![0; blocks.len() / 2];
            let _ = encode_at::<B>(*level, values, &mut bytes);
            assert_eq!(hex(&bytes), blocks, "encoding {values:?} at {level:?}");
            let mut decoded = vec![0.0; values.len()];
            decode_at::<B>(*level, &bytes, &mut decoded);
            assert_eq!(hex(&to_bytes(&decoded)), again, "decoding {blocks} at {level:?}");
        });
    }
}

/// The same lines through the functions that callers see.
pub(crate) fn check_public(
    format: &str,
    block: usize,
    bytes: usize,
    encode: fn(&[f32], &mut [u8]),
    decode: fn(&[u8], &mut [f32]),
) {
    each_line(format, |values, blocks, again| {
        let mut encoded = vec![0; values.len() / block * bytes];
        encode(values, &mut encoded);
        assert_eq!(hex(&encoded), blocks, "encoding {values:?}");
        let mut decoded = vec![0.0; values.len()];
        decode(&encoded, &mut decoded);
        assert_eq!(hex(&to_bytes(&decoded)), again, "decoding {blocks}");
    });
}

fn each_line(format: &str, check: impl Fn(&[f32], &str, &str)) {
    let golden = include_str!("../../../tests/fixtures/gguf/blocks.txt");
    let mut seen = 0;
    for line in golden.lines().filter(|line| !line.starts_with('#')) {
        let [name, values, blocks, again] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("four columns expected: {line}");
        };
        if name == format {
            check(&floats(&unhex(values)), blocks, again);
            seen += 1;
        }
    }
    assert!(seen >= 20, "only {seen} golden lines for {format}");
}

/// Every line `<format> <rule> <exponent> <seed> <blocks> <FNV-1a of the decoded values>` of `golden/quant/blocks.txt`.
pub(crate) fn check_blocks<B: Block>(format: &str) {
    let golden = include_str!("../../../tests/fixtures/golden/quant/blocks.txt");
    let mut seen = 0;
    for line in golden.lines().filter(|line| !line.starts_with('#')) {
        let [name, rule, exponent, seed, blocks, sum] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("six columns expected: {line}");
        };
        if name != format {
            continue;
        }
        let count = blocks.len() / 2 / B::BYTES * B::VALUES;
        let (exponent, seed) = (exponent.parse().unwrap(), u64::from_str_radix(seed, 16).unwrap());
        let values: Vec<f32> = (0..count as u64).map(|index| value(rule, exponent, seed, index)).collect();
        for level in Level::available() {
            let mut bytes = vec![0; blocks.len() / 2];
            let _ = encode_at::<B>(*level, &values, &mut bytes);
            assert_eq!(hex(&bytes), blocks, "encoding `{name} {rule} {exponent} {seed:x}` at {level:?}");
            let mut decoded = vec![0.0; count];
            decode_at::<B>(*level, &bytes, &mut decoded);
            let found = format!("{:016x}", fnv(&to_bytes(&decoded)));
            assert_eq!(found, sum, "decoding `{name} {rule} {exponent} {seed:x}` at {level:?}");
        }
        seen += 1;
    }
    assert!(seen >= 20, "only {seen} golden lines for {format}");
}

/// The columns of every line of `golden/quant/nf4.txt` that begins with `kind`, and the values of its rule.
pub(crate) fn nf4_lines(kind: &str) -> Vec<(Vec<&'static str>, Vec<f32>)> {
    let golden = include_str!("../../../tests/fixtures/golden/quant/nf4.txt");
    let lines = golden.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let lines = lines.filter(|columns| columns[0] == kind).map(|columns| {
        let (exponent, seed) = (columns[2].parse().unwrap(), u64::from_str_radix(columns[3], 16).unwrap());
        let count = columns[4].parse().unwrap();
        let values = (0..count).map(|index| value(columns[1], exponent, seed, index)).collect();
        (columns, values)
    });
    lines.collect()
}

/// What `make_blocks.py` calls `value`: an integer times a power of two, rounded to f32.
pub(crate) fn value(rule: &str, exponent: i32, seed: u64, index: u64) -> f32 {
    let random = mixed(seed, index);
    let uniform = (random >> 40) as i64 - (1 << 23);
    let normal = ((random & 0xF_FFFF) + (random >> 20 & 0xF_FFFF) + (random >> 40 & 0xF_FFFF)) as i64 - 3 * (1 << 19);
    let (integer, power) = match rule {
        "uniform" => (uniform, exponent - 23),
        "normal" => (normal, exponent - 20),
        "positive" => (uniform + (1 << 23), exponent - 24),
        "negative" => (-((random >> 41) as i64) - 1, exponent - 23),
        "halves" => ((random >> 58) as i64 - 32, exponent - 1),
        "alternating" => (1 - index as i64 % 2 * 2, exponent),
        "constant" => (1, exponent),
        "zeros" => (0, 0),
        "outlier" if index % 256 == 77 => (normal, exponent - 10),
        "outlier" => (normal, exponent - 20),
        "groups" => (normal, exponent - 20 - (mixed(seed + 1, index / 16) % 24) as i32),
        _ => panic!("unknown rule `{rule}`"),
    };
    (integer as f64 * 2.0_f64.powi(power)) as f32
}

/// SplitMix64's output at an index.
fn mixed(seed: u64, index: u64) -> u64 {
    let z = seed.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |code, byte| (code ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

pub(crate) fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
