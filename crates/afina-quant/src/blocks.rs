//! What the block formats have in common.

use std::marker::PhantomData;

use crate::lanes::{self, Lanes, Level, Work};

/// A format in which every so many values become a block of so many bytes.
pub(crate) trait Block {
    /// As ggml spells it.
    const NAME: &'static str;
    /// Values in a block.
    const VALUES: usize;
    /// Bytes of a block.
    const BYTES: usize;

    /// Encodes whole blocks of finite values. `#[inline(always)]`, and so all it calls: only so is it compiled for a level.
    fn encode_blocks<L: Lanes>(values: &[f32], bytes: &mut [u8]);

    /// Decodes whole blocks. `#[inline(always)]` too.
    fn decode_blocks<L: Lanes>(bytes: &[u8], values: &mut [f32]);

    /// Whether what a block is multiplied with is finite: a scale above f16's 65504 is not.
    fn is_finite(block: &[u8]) -> bool;
}

/// What is wrong with blocks of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A value is an infinity or NaN.
    NotFinite,
    /// A scale, or in a format without scales a number, is.
    TooLarge,
}

/// Encodes whole blocks after looking at their values, and looks at their scales.
///
/// Nothing is encoded where a value is not finite; all is where a scale is too large.
pub(crate) struct Encode<'a, B> {
    pub(crate) values: &'a [f32],
    pub(crate) bytes: &'a mut [u8],
    pub(crate) format: PhantomData<B>,
}

impl<B: Block> Work for Encode<'_, B> {
    type Output = Result<(), Fault>;

    #[inline(always)]
    fn run<L: Lanes>(self) -> Result<(), Fault> {
        if !all_finite(self.values) {
            return Err(Fault::NotFinite);
        }
        B::encode_blocks::<L>(self.values, self.bytes);
        let mut finite = true;
        for block in self.bytes.chunks_exact(B::BYTES) {
            finite &= B::is_finite(block);
        }
        if finite { Ok(()) } else { Err(Fault::TooLarge) }
    }
}

/// Decodes whole blocks.
pub(crate) struct Decode<'a, B> {
    pub(crate) bytes: &'a [u8],
    pub(crate) values: &'a mut [f32],
    pub(crate) format: PhantomData<B>,
}

impl<B: Block> Work for Decode<'_, B> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        B::decode_blocks::<L>(self.bytes, self.values);
    }
}

/// Encodes whole blocks at a level.
pub(crate) fn encode_at<B: Block>(level: Level, values: &[f32], bytes: &mut [u8]) -> Result<(), Fault> {
    lanes::run(level, Encode::<B> { values, bytes, format: PhantomData })
}

/// Decodes whole blocks at a level.
pub(crate) fn decode_at<B: Block>(level: Level, bytes: &[u8], values: &mut [f32]) {
    lanes::run(level, Decode::<B> { bytes, values, format: PhantomData });
}

#[inline(always)]
pub(crate) fn all_finite(values: &[f32]) -> bool {
    // Integers, and no way out of the loop: so it is vectorized.
    let mut largest = 0;
    for value in values {
        largest = largest.max(value.to_bits() & 0x7FFF_FFFF);
    }
    largest < f32::INFINITY.to_bits()
}

/// Whether the f16 in the first two bytes is finite.
#[inline(always)]
pub(crate) fn f16_is_finite(bytes: &[u8]) -> bool {
    bytes[1] & 0x7C != 0x7C
}
