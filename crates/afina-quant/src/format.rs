//! All formats of ggml that are read and written here, and rows of values in them.

use std::{fmt, str::FromStr};

use rayon::prelude::*;

use crate::{
    bf16::Bf16,
    blocks::{Block, decode_at, encode_at},
    f16::F16,
    lanes::Level,
    q4_0::Q4_0,
    q4_1::Q4_1,
    q4_k::Q4_K,
    q5_0::Q5_0,
    q5_1::Q5_1,
    q5_k::Q5_K,
    q6_k::Q6_K,
    q8_0::Q8_0,
};

/// A format of a tensor in a GGUF file.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K,
    Q5_K,
    Q6_K,
}

/// Why rows could not be encoded or decoded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FormatError {
    #[error("value {index} is {value}, and only finite numbers can be encoded")]
    NotFinite { index: usize, value: f32 },
    #[error("values from {index} on are too large for `{format}`: expected at most about {limit:e}, found {value:e}")]
    TooLarge { format: Format, index: usize, value: f32, limit: f32 },
    #[error(
        "rows of {columns} values are no whole blocks of `{format}`: expected a multiple of {}; `{fits}` fits",
        format.block()
    )]
    NotWholeBlocks { format: Format, columns: usize, fits: Format },
    #[error("rows of {columns} values in `{format}`: expected {expected} bytes for {values} values, found {bytes}")]
    Sizes { format: Format, columns: usize, values: usize, expected: usize, bytes: usize },
    #[error("rows of {columns} values: {values} values are no whole rows")]
    NotWholeRows { columns: usize, values: usize },
}

impl FormatError {
    /// The error of a piece of a tensor, told of the tensor: `first` values lie before the piece.
    pub fn behind(self, first: usize) -> FormatError {
        match self {
            FormatError::NotFinite { index, value } => FormatError::NotFinite { index: first + index, value },
            FormatError::TooLarge { format, index, value, limit } => {
                FormatError::TooLarge { format, index: first + index, value, limit }
            }
            other => other,
        }
    }
}

/// `fn` of the module's `Block`, or `$else` for F32, which has none.
macro_rules! of_block {
    ($format:expr, $block:ident => $value:expr, $else:expr) => {
        match $format {
            Format::F32 => $else,
            Format::F16 => of_block!(@ F16, $block => $value),
            Format::BF16 => of_block!(@ Bf16, $block => $value),
            Format::Q4_0 => of_block!(@ Q4_0, $block => $value),
            Format::Q4_1 => of_block!(@ Q4_1, $block => $value),
            Format::Q5_0 => of_block!(@ Q5_0, $block => $value),
            Format::Q5_1 => of_block!(@ Q5_1, $block => $value),
            Format::Q8_0 => of_block!(@ Q8_0, $block => $value),
            Format::Q4_K => of_block!(@ Q4_K, $block => $value),
            Format::Q5_K => of_block!(@ Q5_K, $block => $value),
            Format::Q6_K => of_block!(@ Q6_K, $block => $value),
        }
    };
    (@ $type:ident, $block:ident => $value:expr) => {{
        type $block = $type;
        $value
    }};
}

/// Values that a thread takes at once: 64 KiB of them stay in its second cache between the check and the encoding.
const PIECE: usize = 16 * 1024;

impl Format {
    /// All of them, in the order of their GGML ids.
    pub const ALL: [Format; 11] = [
        Format::F32,
        Format::F16,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q8_0,
        Format::Q4_K,
        Format::Q5_K,
        Format::Q6_K,
        Format::BF16,
    ];

    /// The name as ggml spells it.
    pub fn name(self) -> &'static str {
        of_block!(self, B => B::NAME, "F32")
    }

    /// The number of `enum ggml_type`, as GGUF files hold it.
    pub fn ggml_type(self) -> u32 {
        match self {
            Format::F32 => 0,
            Format::F16 => 1,
            Format::Q4_0 => 2,
            Format::Q4_1 => 3,
            Format::Q5_0 => 6,
            Format::Q5_1 => 7,
            Format::Q8_0 => 8,
            Format::Q4_K => 12,
            Format::Q5_K => 13,
            Format::Q6_K => 14,
            Format::BF16 => 30,
        }
    }

    /// The format of a number of `enum ggml_type`, if it is one of these.
    pub fn of_ggml_type(ggml_type: u32) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.ggml_type() == ggml_type)
    }

    /// Values in a block.
    pub fn block(self) -> usize {
        of_block!(self, B => B::VALUES, 1)
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        of_block!(self, B => B::BYTES, 4)
    }

    /// Bits that a weight takes, its share of the scales included.
    pub fn bits_per_weight(self) -> f32 {
        self.block_bytes() as f32 * 8.0 / self.block() as f32
    }

    /// This format, or for rows that are no whole blocks of it the one that llama.cpp takes instead.
    ///
    /// Source: llama.cpp's `tensor_type_fallback`.
    pub fn or_fallback(self, columns: usize) -> Format {
        if columns.is_multiple_of(self.block()) {
            return self;
        }
        let smaller = match self {
            Format::Q4_K => Format::Q5_0,
            Format::Q5_K => Format::Q5_1,
            Format::Q6_K => Format::Q8_0,
            _ => Format::F16,
        };
        if columns.is_multiple_of(smaller.block()) { smaller } else { Format::F16 }
    }

    /// Bytes of a row of `columns` values.
    pub fn row_bytes(self, columns: usize) -> Result<usize, FormatError> {
        if !columns.is_multiple_of(self.block()) {
            return Err(FormatError::NotWholeBlocks { format: self, columns, fits: self.or_fallback(columns) });
        }
        Ok(columns / self.block() * self.block_bytes())
    }

    /// Encodes rows of `columns` finite values on all threads of the rayon pool.
    ///
    /// The bytes do not depend on the number of threads. Refused, by the index of the first value concerned: a value that
    /// is not finite, and blocks whose scale or number is too large for the 16-bit float that holds it (llama.cpp ends
    /// with `quantized data validation failed` there). After an error, `bytes` holds nothing of use.
    pub fn encode(self, values: &[f32], columns: usize, bytes: &mut [u8]) -> Result<(), FormatError> {
        self.check_sizes(values.len(), columns, bytes.len())?;
        let level = Level::detect();
        let piece_bytes = PIECE / self.block() * self.block_bytes();
        let sound = values.par_chunks(PIECE).zip(bytes.par_chunks_mut(piece_bytes)).map(|(values, bytes)| {
            of_block!(self, B => encode_at::<B>(level, values, bytes).is_ok(), {
                for (value, out) in values.iter().zip(bytes.as_chunks_mut::<4>().0) {
                    *out = value.to_le_bytes();
                }
                values.iter().fold(true, |finite, value| finite & value.is_finite())
            })
        });
        if sound.all(|sound| sound) { Ok(()) } else { Err(self.first_fault(values)) }
    }

    /// Decodes rows of `columns` values on all threads of the rayon pool.
    pub fn decode(self, bytes: &[u8], columns: usize, values: &mut [f32]) -> Result<(), FormatError> {
        self.check_sizes(values.len(), columns, bytes.len())?;
        let level = Level::detect();
        let piece_bytes = PIECE / self.block() * self.block_bytes();
        bytes.par_chunks(piece_bytes).zip(values.par_chunks_mut(PIECE)).for_each(|(bytes, values)| {
            of_block!(self, B => decode_at::<B>(level, bytes, values), {
                for (bytes, value) in bytes.as_chunks::<4>().0.iter().zip(values) {
                    *value = f32::from_le_bytes(*bytes);
                }
            });
        });
        Ok(())
    }

    fn check_sizes(self, values: usize, columns: usize, bytes: usize) -> Result<(), FormatError> {
        let row_bytes = self.row_bytes(columns)?;
        if columns == 0 && values != 0 || columns != 0 && !values.is_multiple_of(columns) {
            return Err(FormatError::NotWholeRows { columns, values });
        }
        let expected = values.checked_div(columns).unwrap_or(0) * row_bytes;
        if expected != bytes {
            return Err(FormatError::Sizes { format: self, columns, values, expected, bytes });
        }
        Ok(())
    }

    /// What is wrong with `values`, in their order: only after an encoding failed.
    fn first_fault(self, values: &[f32]) -> FormatError {
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return FormatError::NotFinite { index, value: values[index] };
        }
        let mut bytes = vec![0; self.block_bytes()];
        let too_large =
            |values: &[f32]| of_block!(self, B => encode_at::<B>(Level::detect(), values, &mut bytes).is_err(), false);
        let index = values.chunks(self.block()).position(too_large).expect("a block was too large") * self.block();
        let block = &values[index..index + self.block()];
        let value =
            block.iter().fold(0.0_f32, |largest, value| if value.abs() > largest.abs() { *value } else { largest });
        FormatError::TooLarge { format: self, index, value, limit: self.limit() }
    }

    /// About the largest magnitude that a block can hold: the largest number times the largest scale.
    fn limit(self) -> f32 {
        const F16_MAX: f32 = 65504.0;
        match self {
            Format::F32 => f32::MAX,
            Format::BF16 => f32::from_bits(0x7F7F_0000),
            Format::F16 | Format::Q4_1 | Format::Q5_1 => F16_MAX,
            Format::Q4_0 => F16_MAX * 8.0,
            Format::Q5_0 => F16_MAX * 16.0,
            Format::Q8_0 => F16_MAX * 127.0,
            Format::Q4_K => F16_MAX * 63.0,
            Format::Q5_K => F16_MAX * 63.0,
            Format::Q6_K => F16_MAX * 128.0 * 32.0,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no format's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format `{0}`: expected F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K")]
pub struct UnknownFormat(pub String);

impl FromStr for Format {
    type Err = UnknownFormat;

    /// By its name, in capitals or not.
    fn from_str(name: &str) -> Result<Format, UnknownFormat> {
        let found = Format::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::value;

    fn values(count: usize) -> Vec<f32> {
        (0..count as u64).map(|index| value("normal", -5, 99, index)).collect()
    }

    #[test]
    fn names_and_ids_are_read_back() {
        for format in Format::ALL {
            assert_eq!(format.name().to_lowercase().parse(), Ok(format));
            assert_eq!(Format::of_ggml_type(format.ggml_type()), Some(format));
        }
        assert_eq!(Format::of_ggml_type(10), None);
        assert!("Q3_K".parse::<Format>().is_err());
    }

    #[test]
    fn rows_on_many_threads_are_the_blocks_one_by_one() {
        let columns = 512;
        let values = values(columns * 100);
        for format in Format::ALL {
            let row_bytes = format.row_bytes(columns).unwrap();
            let mut bytes = vec![0; row_bytes * 100];
            format.encode(&values, columns, &mut bytes).unwrap();
            let mut one_by_one = Vec::new();
            for block in values.chunks(format.block()) {
                let mut bytes = vec![0; format.block_bytes()];
                format.encode(block, format.block(), &mut bytes).unwrap();
                one_by_one.extend(bytes);
            }
            assert_eq!(bytes, one_by_one, "{format}");
            let mut decoded = vec![0.0; values.len()];
            format.decode(&bytes, columns, &mut decoded).unwrap();
            let square = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            let difference: Vec<f32> = values.iter().zip(&decoded).map(|(a, b)| a - b).collect();
            let error = square(&difference) / square(&values);
            // Each further bit takes away three quarters of the error.
            let expected = 2.0 * 4.0_f64.powf(-f64::from(format.bits_per_weight().min(9.0)) + 1.0);
            assert!(error < expected, "{format}: relative square error {error:e}, expected below {expected:e}");
        }
    }

    #[test]
    fn a_value_that_is_not_finite_is_refused_by_its_index() {
        for format in Format::ALL {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut values = values(256 * 300);
                values[70_001] = bad;
                values[76_000] = f32::NAN;
                let mut bytes = vec![0; format.row_bytes(values.len()).unwrap()];
                let error = format.encode(&values, 256, &mut bytes).unwrap_err();
                assert!(matches!(error, FormatError::NotFinite { index: 70_001, .. }), "{format}: {error}");
            }
        }
    }

    #[test]
    fn a_scale_above_the_largest_f16_is_refused_by_its_block() {
        for format in Format::ALL.into_iter().filter(|format| !matches!(format, Format::F32 | Format::BF16)) {
            let mut values = values(256 * 300);
            values[70_001] = 1e12;
            let mut bytes = vec![0; format.row_bytes(values.len()).unwrap()];
            let error = format.encode(&values, 256, &mut bytes).unwrap_err();
            let block = 70_001 / format.block() * format.block();
            assert!(
                matches!(error, FormatError::TooLarge { index, value: 1e12, .. } if index == block),
                "{format}: {error}"
            );
        }
    }

    #[test]
    fn rows_that_are_no_whole_blocks_are_told_what_fits() {
        let fits = |format: Format, columns| match format.row_bytes(columns) {
            Err(FormatError::NotWholeBlocks { fits, .. }) => Some(fits),
            _ => None,
        };
        assert_eq!(fits(Format::Q4_K, 576), Some(Format::Q5_0));
        assert_eq!(fits(Format::Q5_K, 576), Some(Format::Q5_1));
        assert_eq!(fits(Format::Q6_K, 576), Some(Format::Q8_0));
        assert_eq!(fits(Format::Q6_K, 100), Some(Format::F16));
        assert_eq!(fits(Format::Q4_0, 100), Some(Format::F16));
        assert_eq!(Format::Q4_K.row_bytes(512), Ok(288));
        assert_eq!(
            Format::Q4_K.row_bytes(576).unwrap_err().to_string(),
            "rows of 576 values are no whole blocks of `Q4_K`: expected a multiple of 256; `Q5_0` fits"
        );
    }

    #[test]
    fn sizes_that_do_not_match_are_refused() {
        let values = values(64);
        assert!(matches!(Format::Q8_0.encode(&values, 64, &mut [0; 67]), Err(FormatError::Sizes { expected: 68, .. })));
        assert!(matches!(
            Format::Q8_0.encode(&values[..32], 64, &mut [0; 34]),
            Err(FormatError::NotWholeRows { columns: 64, values: 32 })
        ));
        assert_eq!(Format::Q8_0.encode(&[], 64, &mut []), Ok(()));
    }
}
