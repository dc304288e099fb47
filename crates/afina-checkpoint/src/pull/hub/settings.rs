//! How the hub is reached, and what is asked of it: settings, a token that is never shown, names of repos and revisions.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The hub that is asked unless another is named.
pub const HUB: &str = "https://huggingface.co";

/// How the hub is reached. The program reads the environment; nothing here does.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// [`HUB`], or a mirror that speaks its protocol.
    pub endpoint: String,
    /// The folder of repos that Hugging Face's tools share, `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    pub token: Option<Token>,
    /// Take everything from the cache and ask nobody.
    pub offline: bool,
    /// How long to wait before a request is tried a second time; twice as long before each further one.
    pub retry_wait: Duration,
}

impl HubSettings {
    /// The endpoint without the slash that some write behind it.
    pub(super) fn base(&self) -> &str {
        self.endpoint.trim_end_matches('/')
    }
}

/// An access token. It shows itself to the hub alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// `None` of nothing but blanks, as an unset variable or an empty file has it.
    pub fn new(text: &str) -> Option<Token> {
        let text = text.trim();
        (!text.is_empty()).then(|| Token(text.to_owned()))
    }

    /// The text of an `Authorization` header; `None` if no header can carry it.
    pub(super) fn bearer(&self) -> Option<String> {
        self.0.bytes().all(|byte| byte.is_ascii_graphic()).then(|| format!("Bearer {}", self.0))
    }

    /// `text` without the token in it: a server may say back what it was sent.
    pub(super) fn blacken(&self, text: &str) -> String {
        text.replace(&self.0, "…")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Whether `text` is spelled as a repo's id is, `organization/name`; old repos have a bare name.
///
/// Source: huggingface_hub `utils/_validators.py`, `validate_repo_id`.
pub(in crate::pull) fn is_repo_id(text: &str) -> bool {
    let part = |part: &str| {
        let inside = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let ends = |end: char| part.starts_with(end) || part.ends_with(end);
        inside && !part.is_empty() && !ends('-') && !ends('.') && !part.contains("--") && !part.contains("..")
    };
    text.len() <= 96 && text.split('/').count() <= 2 && text.split('/').all(part) && !text.ends_with(".git")
}

/// The repo id in the address of a model's page, for people who paste one.
pub(in crate::pull) fn repo_id_of_page(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("://")?;
    let mut parts = rest.split(['/', '?', '#']).skip(1).filter(|part| !part.is_empty());
    let id = format!("{}/{}", parts.next()?, parts.next()?);
    is_repo_id(&id).then_some(id)
}

/// Whether `text` can be a branch, a tag or a commit, and the name of a file under `refs/`.
pub(super) fn is_revision(text: &str) -> bool {
    let inside = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./+".contains(&byte));
    inside && text.split('/').all(|part| !part.is_empty() && !part.starts_with('.')) && !text.contains("..")
}

/// Whether `text` is a whole commit id.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repo_ids_are_told_from_paths() {
        for id in ["HuggingFaceTB/SmolLM2-135M-Instruct", "meta-llama/Llama-3.2-1B", "a/b", "gpt2", "x_y/z.1"] {
            assert!(is_repo_id(id), "{id}");
        }
        for other in
            ["", "/", "a/", "/a", "./a", "../a", "a/../b", "a/b/c", "a b/c", "a/b.git", "-a/b", "a--b/c", "~/a"]
        {
            assert!(!is_repo_id(other), "{other}");
        }
    }

    #[test]
    fn the_address_of_a_page_gives_its_repo() {
        for page in ["https://huggingface.co/a/b", "http://hf.co/a/b/tree/main?x=1", "https://huggingface.co/a/b#card"]
        {
            assert_eq!(repo_id_of_page(page).as_deref(), Some("a/b"));
        }
        assert_eq!(repo_id_of_page("https://huggingface.co/a"), None);
        assert_eq!(repo_id_of_page("a/b"), None);
    }

    #[test]
    fn revisions_stay_under_their_folder() {
        for revision in ["main", "v1.0", "refs/pr/3", "0123456789abcdef0123456789abcdef01234567"] {
            assert!(is_revision(revision), "{revision}");
        }
        for other in ["", "../main", "a/../b", "/main", "a//b", ".git", "a b", "a?b", "a\\b"] {
            assert!(!is_revision(other), "{other}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = Token::new(" hf_secret\n").unwrap();
        assert_eq!(format!("{token:?}"), "Token(…)");
        assert_eq!(token.bearer().unwrap(), "Bearer hf_secret");
        assert_eq!(token.blacken("no such token: hf_secret"), "no such token: …");
        assert_eq!(Token::new("hf\u{7f}_secret").unwrap().bearer(), None);
        assert_eq!(Token::new(" \n"), None);
    }
}
