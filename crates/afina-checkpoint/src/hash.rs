//! SHA-256 in lower-case hexadecimal: of bytes, and of a file without holding it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// The SHA-256 of `bytes`, 64 hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The SHA-256 of the file's content, 64 hexadecimal digits.
pub fn sha256_file(path: &Path) -> io::Result<String> {
    sha256_reader(&mut File::open(path)?)
}

/// The SHA-256 of all that `reader` still gives.
pub(crate) fn sha256_reader(reader: &mut dyn Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    read_all(reader, &mut |bytes| hasher.update(bytes))?;
    Ok(hex(&hasher.finalize()))
}

/// Hands over all that `reader` still gives, piece by piece.
pub(crate) fn read_all(reader: &mut dyn Read, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => take(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_and_bytes_give_the_known_hash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        crate::atomic::write_file(&path, b"abc").unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_hex(b"abc"), known);
        assert_eq!(sha256_file(&path).unwrap(), known);
    }
}
