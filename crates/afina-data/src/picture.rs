//! What an image in a data file is: base64 text in, what can be said of its pixels out. Headers are read here, because
//! decoders hide what they convert; the pixels are then decoded, because a header says nothing about what is missing.

mod base64;
mod decode;
mod exif;
mod jpeg;
mod png;
#[cfg(test)]
pub(crate) mod samples;
mod signature;
mod webp;

use std::{cell::RefCell, fmt};

use rapidhash::v3::rapidhash_v3;

pub(crate) use base64::{Base64Fault, Spaces};
pub(crate) use signature::base64_of;

/// More pixels than this are not decoded.
pub(crate) const MAX_PIXELS: u64 = 50_000_000;

/// What was found out about one base64 text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Look {
    /// Spaces and line breaks inside the base64, which were skipped.
    pub(crate) spaces: Option<Spaces>,
    pub(crate) picture: Result<Picture, Base64Fault>,
}

/// The decoded bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Picture {
    /// The same for the same bytes.
    pub(crate) hash: u64,
    /// Number of bytes.
    pub(crate) len: usize,
    pub(crate) content: Content,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Content {
    Empty,
    /// Not JPEG, PNG or WEBP: its name with an article, and what to do.
    Other {
        name: &'static str,
        hint: &'static str,
    },
    Image {
        format: Format,
        /// What the header says, unless it is cut or corrupt.
        header: Option<Header>,
        fault: Option<Fault>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Jpeg,
    Png,
    Webp,
}

impl Format {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "JPEG",
            Format::Png => "PNG",
            Format::Webp => "WEBP",
        }
    }

    pub(crate) fn mime(self) -> &'static str {
        match self {
            Format::Jpeg => "image/jpeg",
            Format::Png => "image/png",
            Format::Webp => "image/webp",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Header {
    /// Of the whole image, in pixels.
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Pixels of the largest thing in it that a decoder makes room for.
    pub(crate) area: u64,
    pub(crate) mode: Mode,
    /// Frames of an animation; 1: it stands still.
    pub(crate) frames: u32,
    /// EXIF orientation, 1 to 8; 1: as stored.
    pub(crate) orientation: u8,
}

/// The pixels as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Rgb,
    Rgba,
    Palette,
    /// Its name.
    Other(&'static str),
}

/// Why it is not a whole image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The bytes end inside this.
    Ends(&'static str),
    /// The bytes end before this marker.
    NoEnd(&'static str),
    /// The checksum of this PNG chunk is wrong.
    Checksum([u8; 4]),
    Corrupt(&'static str),
}

/// Reads on from "an image".
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Ends(part) => write!(f, "that ends inside {part}"),
            Fault::NoEnd(marker) => write!(f, "that ends before its end marker `{marker}`"),
            Fault::Checksum(chunk) => {
                write!(f, "with a wrong checksum in its chunk `{}`", String::from_utf8_lossy(chunk))
            }
            Fault::Corrupt(part) => write!(f, "with {part} that cannot be decoded"),
        }
    }
}

/// Looks at the image that `text` is the base64 of.
///
/// The result depends on `text` alone. What each thread keeps, its buffers and what it saw last, makes it faster:
/// an image that many examples ask about is decoded once.
pub(crate) fn look(text: &str) -> Look {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }
    let hash = rapidhash_v3(text.as_bytes());
    SCRATCH.with_borrow_mut(|scratch| {
        let slot = hash as usize % SEEN_SLOTS;
        match scratch.seen.get(slot) {
            Some(&Some(seen)) if (seen.hash, seen.len) == (hash, text.len()) => seen.look,
            _ => {
                let look = scratch.look(text);
                scratch.seen.resize(SEEN_SLOTS, None);
                scratch.seen[slot] = Some(Seen { hash, len: text.len(), look });
                look
            }
        }
    })
}

const SEEN_SLOTS: usize = 512;

/// A buffer is given back to the system when it grew beyond this.
const KEPT_BYTES: usize = 64 << 20;

#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    pixels: Vec<u8>,
    /// By the hash of the base64: the last one in each slot.
    seen: Vec<Option<Seen>>,
}

#[derive(Clone, Copy)]
struct Seen {
    hash: u64,
    len: usize,
    look: Look,
}

impl Scratch {
    fn look(&mut self, text: &str) -> Look {
        let (spaces, decoded) = base64::decode(text, &mut self.bytes);
        let picture = decoded.map(|()| Picture {
            hash: rapidhash_v3(&self.bytes),
            len: self.bytes.len(),
            content: content(&self.bytes, &mut self.pixels),
        });
        for buffer in [&mut self.bytes, &mut self.pixels] {
            if buffer.capacity() > KEPT_BYTES {
                *buffer = Vec::new();
            }
        }
        Look { spaces, picture }
    }
}

fn content(bytes: &[u8], pixels: &mut Vec<u8>) -> Content {
    if bytes.is_empty() {
        return Content::Empty;
    }
    let format = match signature::signature(bytes) {
        Ok(format) => format,
        Err(other) => return other,
    };
    let (header, fault) = match format {
        Format::Png => png::read(bytes),
        Format::Webp => webp::read(bytes),
        Format::Jpeg => match jpeg::read(bytes) {
            Ok(read) => read,
            Err(other) => return other,
        },
    };
    let decodable = header.filter(|header| fault.is_none() && header.area <= MAX_PIXELS);
    let fault = fault.or_else(|| decode::decode(format, bytes, decodable?.area, pixels));
    Content::Image { format, header, fault }
}

/// The bytes at `at`, as far as they are all there.
fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
