//! The chat template that an adapter was trained with: in its folder where it is not the base's.

use std::path::{Path, PathBuf};

use super::{ADAPTER_CONFIG, AdapterConfig, AdapterError};
use crate::hash::sha256_hex;
use crate::inspect::chat_template;

/// A chat template's file, in a model's folder and in an adapter's.
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// The adapter's own chat template; nothing where it is used with the base's. One of another text than the adapter was
/// trained with is an error.
pub fn adapter_template(base: &Path, adapter: &Path) -> Result<Option<PathBuf>, AdapterError> {
    let config = AdapterConfig::read(&adapter.join(ADAPTER_CONFIG))?;
    template_of(base, adapter, &config)
}

pub(crate) fn template_of(
    base: &Path,
    adapter: &Path,
    config: &AdapterConfig,
) -> Result<Option<PathBuf>, AdapterError> {
    let own = Some(adapter.join(CHAT_TEMPLATE)).filter(|path| path.is_file());
    let folder = if own.is_some() { adapter } else { base };
    let text = chat_template(folder)
        .map_err(|source| AdapterError::ReadTemplate { path: folder.into(), source: Box::new(source) })?;
    let expected = config.afina.as_ref().map(|with| with.template_sha256.as_str()).unwrap_or_default();
    let found = text.map(|text| sha256_hex(text.as_bytes()));
    if !expected.is_empty() && found.as_deref() != Some(expected) {
        return Err(AdapterError::Template {
            adapter: adapter.into(),
            template: folder.into(),
            expected: short(expected),
            found: found.as_deref().map_or_else(|| "none".to_owned(), short),
        });
    }
    Ok(own)
}

fn short(sha256: &str) -> String {
    format!("{}…", sha256.get(..12).unwrap_or(sha256))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{TrainedWith, write_adapter};
    use crate::atomic::write_file;
    use crate::testing::{tiny_adapter, tiny_model, tiny_tokenizer};

    #[test]
    fn adapter_is_used_with_the_template_it_was_trained_with_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (base, adapter) = (dir.path().join("base"), dir.path().join("adapter"));
        tiny_model(&base, true);
        tiny_tokenizer(&base, 320);
        let (mut config, tensors) = tiny_adapter(&adapter);
        assert_eq!(adapter_template(&base, &adapter).unwrap(), None, "an adapter that says nothing fits any template");

        let mut trained_with = |text: &str| {
            let template_sha256 = sha256_hex(text.as_bytes());
            config.afina = Some(TrainedWith { base_sha256: String::new(), template_sha256, version: "0.1.0".into() });
            write_adapter(&adapter, &config, &tensors).unwrap();
            adapter_template(&base, &adapter)
                .map_err(|error| error.to_string().replace(&dir.path().display().to_string(), "DIR"))
        };
        assert_eq!(trained_with("{{ messages }}"), Ok(None), "the base's");
        let refused = |found: &str, folder: &str| {
            Err(format!(
                "the adapter `DIR/adapter` was trained with another chat template: expected sha256 {}, found {} in `DIR/{folder}`",
                short(&sha256_hex(b"{{ tools }}")),
                short(&sha256_hex(found.as_bytes())),
            ))
        };
        assert_eq!(trained_with("{{ tools }}"), refused("{{ messages }}", "base"));
        let own = adapter.join(CHAT_TEMPLATE);
        write_file(&own, b"{{ tools }}").unwrap();
        assert_eq!(trained_with("{{ tools }}"), Ok(Some(own.clone())));
        write_file(&own, b"{{ other }}").unwrap();
        assert_eq!(trained_with("{{ tools }}"), refused("{{ other }}", "adapter"));
    }
}
