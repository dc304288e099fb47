//! Numbers and files at random, the same in every run.

/// Numbers that look random and are the same in every run (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ (bits >> 31)) % bound as u64) as usize
    }
}

/// `text` with a few bytes changed, removed, doubled or moved; often still nearly what it was.
pub(crate) fn mutate(text: &[u8], random: &mut Random) -> Vec<u8> {
    const PIECES: [&[u8]; 25] = [
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\n",
        b"\r",
        b"\t",
        b" ",
        b"'",
        b"#",
        b"//",
        b"null",
        b"NaN",
        b"\\u00",
        b"\\ud83d",
        b"\xEF\xBB\xBF",
        b"\xFF",
        "é".as_bytes(),
        "\u{A0}".as_bytes(),
        b"\0",
        b"1e",
    ];
    let mut bytes = text.to_vec();
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(12)).min(bytes.len());
        match random.below(5) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
            2 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            3 => {
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                drop(bytes.splice(to..to, piece));
            }
            _ => bytes.truncate(if random.below(4) == 0 { at } else { bytes.len() }),
        }
    }
    bytes
}
