//! GGUF's metadata values and ggml's tensor types.

use std::fmt;

use afina_quant::format::Format;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Vec<Value>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl Value {
    /// The type's number in the file.
    pub(crate) fn type_id(&self) -> u32 {
        match self {
            Value::U8(_) => 0,
            Value::I8(_) => 1,
            Value::U16(_) => 2,
            Value::I16(_) => 3,
            Value::U32(_) => 4,
            Value::I32(_) => 5,
            Value::F32(_) => 6,
            Value::Bool(_) => 7,
            Value::String(_) => 8,
            Value::Array(_) => 9,
            Value::U64(_) => 10,
            Value::I64(_) => 11,
            Value::F64(_) => 12,
        }
    }

    /// Any integer that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Value::U8(x) => Some(x.into()),
            Value::U16(x) => Some(x.into()),
            Value::U32(x) => Some(x.into()),
            Value::U64(x) => Some(x),
            Value::I8(x) => x.try_into().ok(),
            Value::I16(x) => x.try_into().ok(),
            Value::I32(x) => x.try_into().ok(),
            Value::I64(x) => x.try_into().ok(),
            _ => None,
        }
    }

    /// A float; one stored in 32 bits gives the shortest decimal that means it (1e-5, not 9.999999747378752e-6).
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::F32(x) => x.to_string().parse().ok(),
            Value::F64(x) => Some(x),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Value::Bool(x) => Some(x),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(x) => Some(x),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(x) => Some(x),
            _ => None,
        }
    }

    /// What it is, for messages: `text`, `an integer`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::String(_) => "text",
            Value::Array(_) => "an array",
            Value::Bool(_) => "true or false",
            Value::F32(_) | Value::F64(_) => "a float",
            _ => "an integer",
        }
    }
}

/// A tensor's type, by its number in `enum ggml_type`. One that is no [`Format`] can be listed and copied, not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GgmlType(u32);

/// Types that are no format here: number, name, values in a block, bytes of a block.
const OTHERS: [(u32, &str, u64, u64); 21] = [
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
];

impl GgmlType {
    pub(crate) fn from_id(id: u32) -> GgmlType {
        GgmlType(id)
    }

    pub(crate) fn id(self) -> u32 {
        self.0
    }

    /// The format whose values can be read and written; `None` for another type.
    pub fn format(self) -> Option<Format> {
        Format::of_ggml_type(self.0)
    }

    /// Values in a block and bytes of a block; `None` for a number this project does not know.
    pub(crate) fn block(self) -> Option<(u64, u64)> {
        if let Some(format) = self.format() {
            return Some((format.block() as u64, format.block_bytes() as u64));
        }
        self.other().map(|(_, _, values, bytes)| (*values, *bytes))
    }

    /// Bytes of a tensor of this shape (row-major); `None` if its rows are no whole blocks, or the number overflows.
    pub fn bytes(self, shape: &[usize]) -> Option<u64> {
        let (values, bytes) = self.block()?;
        let columns = *shape.last()? as u64;
        if !columns.is_multiple_of(values) {
            return None;
        }
        let row = (columns / values).checked_mul(bytes)?;
        shape[..shape.len() - 1].iter().try_fold(row, |total, dim| total.checked_mul(*dim as u64))
    }

    fn other(self) -> Option<&'static (u32, &'static str, u64, u64)> {
        OTHERS.iter().find(|other| other.0 == self.0)
    }
}

impl From<Format> for GgmlType {
    fn from(format: Format) -> GgmlType {
        GgmlType(format.ggml_type())
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.format(), self.other()) {
            (Some(format), _) => f.write_str(format.name()),
            (None, Some((_, name, _, _))) => f.write_str(name),
            (None, None) => write!(f, "type {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_of_32_bits_give_the_decimal_that_was_meant() {
        assert_eq!(Value::F32(1e-5).as_f64(), Some(1e-5));
        assert_eq!(Value::F32(100_000.0).as_f64(), Some(100_000.0));
    }

    #[test]
    fn numbers_and_sizes_go_both_ways() {
        for format in Format::ALL {
            assert_eq!(GgmlType::from(format).format(), Some(format));
            assert_eq!(GgmlType::from(format).to_string(), format.name());
            assert!(OTHERS.iter().all(|other| other.0 != format.ggml_type()), "{format} is named once");
        }
        assert_eq!(GgmlType::from(Format::Q4_1).bytes(&[3, 64]), Some(120));
        assert_eq!(GgmlType::from(Format::Q4_1).bytes(&[3, 65]), None);
        assert_eq!(GgmlType::from(Format::F32).bytes(&[usize::MAX, usize::MAX]), None);
        assert_eq!(GgmlType::from_id(10).to_string(), "Q2_K");
        assert_eq!((GgmlType::from_id(10).format(), GgmlType::from_id(10).bytes(&[2, 256])), (None, Some(168)));
        assert_eq!(GgmlType::from_id(99).to_string(), "type 99");
    }
}
