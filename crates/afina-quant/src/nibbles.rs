//! What the block formats share: C's conversion of a float to a byte, and two 4-bit numbers in one.

/// `(int8_t) x` as x86 does it: towards zero, and 0 for what fits in no 32-bit integer (an infinity times a scale).
pub(crate) fn truncate_to_i8(x: f32) -> i8 {
    let in_range = x.abs() < 2_147_483_648.0; // false for NaN as well
    if in_range { x as i32 as i8 } else { 0 }
}

/// The byte of a 4-bit format that holds `low` (value `j` of the block) and `high` (value `j + 16`), each cut at 15.
pub(crate) fn pack(low: i8, high: i8) -> u8 {
    (low.min(15) as u8) | ((high.min(15) as u8) << 4)
}

#[cfg(test)]
pub(crate) mod golden {
    /// Every line `<format> <values> <blocks> <values again>` of the golden file, in hexadecimal little-endian bytes:
    /// the second column is ggml's encoding of the first, the third is ggml's decoding of the second.
    pub(crate) fn check(
        format: &str,
        block: usize,
        bytes: usize,
        encode: fn(&[f32], &mut [u8]),
        decode: fn(&[u8], &mut [f32]),
    ) {
        let golden = include_str!("../../../tests/fixtures/gguf/blocks.txt");
        let mut seen = 0;
        for line in golden.lines().filter(|line| !line.starts_with('#')) {
            let [name, values, blocks, again] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("four columns expected: {line}");
            };
            if name != format {
                continue;
            }
            let values = floats(&unhex(values));
            let mut encoded = vec![0; values.len() / block * bytes];
            encode(&values, &mut encoded);
            assert_eq!(hex(&encoded), blocks, "encoding {values:?}");
            let mut decoded = vec![0.0; values.len()];
            decode(&encoded, &mut decoded);
            let decoded: Vec<u8> = decoded.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(hex(&decoded), again, "decoding {blocks}");
            seen += 1;
        }
        assert!(seen >= 20, "only {seen} golden lines for {format}");
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }
}
