//! How Hugging Face's tools find hub, cache and token: their variables, read here and passed on.

use std::path::PathBuf;
use std::time::Duration;

use afina_checkpoint::pull::hub::HUB;
use afina_checkpoint::{HubSettings, Token};

/// The settings of this process's environment.
pub fn from_environment() -> HubSettings {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    settings(&variable, std::env::home_dir())
}

/// Source: huggingface_hub `constants.py`.
fn settings(variable: &dyn Fn(&str) -> Option<String>, user: Option<PathBuf>) -> HubSettings {
    let path = |name: &str| variable(name).map(PathBuf::from);
    let hugging_face = path("HF_HOME").unwrap_or_else(|| {
        let cache = path("XDG_CACHE_HOME").unwrap_or_else(|| user.unwrap_or_default().join(".cache"));
        cache.join("huggingface")
    });
    let token = variable("HF_TOKEN").or_else(|| {
        // What `hf auth login` writes.
        let path = path("HF_TOKEN_PATH").unwrap_or_else(|| hugging_face.join("token"));
        std::fs::read_to_string(path).ok()
    });
    let offline = variable("HF_HUB_OFFLINE").unwrap_or_default().to_uppercase();
    HubSettings {
        endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| HUB.to_owned()),
        cache: path("HF_HUB_CACHE").unwrap_or_else(|| hugging_face.join("hub")),
        token: token.as_deref().and_then(Token::new),
        offline: matches!(offline.as_str(), "1" | "ON" | "YES" | "TRUE"),
        retry_wait: Duration::from_secs(1),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn of(variables: &[(&str, &str)]) -> HubSettings {
        let variable =
            |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
        settings(&variable, Some("/home/ana".into()))
    }

    #[test]
    fn the_cache_is_where_other_tools_have_it() {
        assert_eq!(of(&[]).cache, Path::new("/home/ana/.cache/huggingface/hub"));
        assert_eq!(of(&[("XDG_CACHE_HOME", "/x")]).cache, Path::new("/x/huggingface/hub"));
        assert_eq!(of(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/hf")]).cache, Path::new("/hf/hub"));
        assert_eq!(of(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/big")]).cache, Path::new("/big"));
    }

    #[test]
    fn hub_and_offline_are_taken_from_their_variables() {
        assert_eq!(of(&[]).endpoint, "https://huggingface.co");
        assert_eq!(of(&[("HF_ENDPOINT", "https://mirror")]).endpoint, "https://mirror");
        for (value, offline) in [("1", true), ("true", true), ("0", false), ("no", false)] {
            assert_eq!(of(&[("HF_HUB_OFFLINE", value)]).offline, offline);
        }
    }

    #[test]
    fn the_token_is_the_variable_or_the_file_of_a_login() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        assert_eq!(of(&[("HF_HOME", home)]).token, None);
        afina_checkpoint::write_file(&dir.path().join("token"), b"hf_file\n").unwrap();
        afina_checkpoint::write_file(&dir.path().join("other"), b"hf_other").unwrap();
        let other = dir.path().join("other");
        assert_eq!(of(&[("HF_HOME", home)]).token, Token::new("hf_file"));
        assert_eq!(of(&[("HF_HOME", home), ("HF_TOKEN_PATH", other.to_str().unwrap())]).token, Token::new("hf_other"));
        assert_eq!(of(&[("HF_HOME", home), ("HF_TOKEN", "hf_variable")]).token, Token::new("hf_variable"));
    }
}
