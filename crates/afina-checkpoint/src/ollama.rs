//! What Ollama makes a model of: a folder with a GGUF file and its Modelfile.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use afina_quant::mix::Mix;

use crate::atomic::{AtomicDir, write_file};
use crate::card::{file_name, license_of};
use crate::export::{ExportError, export_gguf};
use crate::gguf::{GgufReport, Vocabulary, vocabulary_from_hf};
use crate::model_dir::ModelDir;

/// Ollama's own file name.
pub const MODELFILE: &str = "Modelfile";

/// The most tokens of context that are asked for: each takes memory, and a model may be able to take many more than anybody needs.
const MAX_CONTEXT: usize = 8192;

/// What the tokenizer puts before every text by itself, in llama.cpp and so in Ollama.
pub fn added_bos(model: &ModelDir) -> Result<Option<String>, ExportError> {
    let vocabulary = vocabulary(model)?;
    let bos = vocabulary.bos.filter(|_| vocabulary.add_bos);
    Ok(bos.and_then(|bos| vocabulary.tokens.get(bos as usize).cloned()))
}

fn vocabulary(model: &ModelDir) -> Result<Vocabulary, ExportError> {
    Ok(vocabulary_from_hf(&model.path, model.config.vocab_size, &model.eos_token_ids())?)
}

/// Writes the folder `to`: the model as a GGUF file of its name, and a Modelfile with a template in Go's language where there
/// is one, every end-of-turn token, the context and the licence. `remarks` become comments.
///
/// The folder appears only when it is whole; a folder with anything in it is not overwritten.
pub fn export_ollama(
    model: &ModelDir,
    to: &Path,
    mix: Mix,
    template: Option<&str>,
    remarks: &[String],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<GgufReport, ExportError> {
    let io_error = |source| ExportError::Io { path: to.into(), source };
    let folder = AtomicDir::create_new(to).map_err(io_error)?;
    let gguf = format!("{}.gguf", file_name(to));
    let text = modelfile(model, &gguf, template, remarks)?;
    let report = export_gguf(model, &folder.path().join(&gguf), mix, false, progress)?;
    write_file(&folder.path().join(MODELFILE), text.as_bytes()).map_err(io_error)?;
    folder.commit().map_err(io_error)?;
    Ok(report)
}

fn modelfile(model: &ModelDir, gguf: &str, template: Option<&str>, remarks: &[String]) -> Result<String, ExportError> {
    let mut text = format!("# ollama create {} -f {MODELFILE}\n", gguf.trim_end_matches(".gguf"));
    let mut line = |args: std::fmt::Arguments<'_>| writeln!(text, "{args}").expect("a string takes all");
    for remark in remarks {
        line(format_args!("# {}", remark.replace(['\n', '\r'], " ")));
    }
    line(format_args!("FROM ./{gguf}\n"));
    if let Some(template) = template {
        line(format_args!("TEMPLATE \"\"\"{template}\"\"\"\n"));
    }
    let vocabulary = vocabulary(model)?;
    for id in model.eos_token_ids() {
        if let Some(token) = vocabulary.tokens.get(id as usize).filter(|token| !token.contains(['"', '\n'])) {
            line(format_args!("PARAMETER stop \"{token}\""));
        }
    }
    let longest = model.config.max_position_embeddings;
    line(format_args!("# the model takes up to {longest} tokens; each takes memory"));
    line(format_args!("PARAMETER num_ctx {}", longest.min(MAX_CONTEXT)));
    if let Some(license) = license(model) {
        line(format_args!("\nLICENSE \"\"\"{license}\"\"\""));
    }
    Ok(text)
}

/// The text of the licence where the folder has it, else its name.
fn license(model: &ModelDir) -> Option<String> {
    let files = model.companion_files().ok()?;
    let file = files.iter().find(|name| name.starts_with("LICENSE") || name.starts_with("LICENCE"));
    let text = file.and_then(|name| fs::read_to_string(model.path.join(name)).ok());
    let name = || model.origin().ok().flatten().and_then(|manifest| manifest.license);
    text.filter(|text| !text.contains("\"\"\"")).or_else(name).or_else(|| license_of(&model.path))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::{tiny_model, tiny_tokenizer};

    #[test]
    fn modelfile_has_the_template_the_ends_and_the_licence() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, to) = (dir.path().join("m"), dir.path().join("soporte"));
        tiny_model(&folder, true);
        tiny_tokenizer(&folder, 320);
        write_file(&folder.join("generation_config.json"), br#"{"eos_token_id":[2,0]}"#).unwrap();
        write_file(&folder.join("LICENSE"), b"Do as you like.\n").unwrap();
        let model = ModelDir::open(&folder).unwrap();
        assert_eq!(added_bos(&model).unwrap(), None);
        let remarks = ["tools are\nleft out".to_owned()];
        export_ollama(&model, &to, Mix::Q8_0, Some("{{ .Prompt }}"), &remarks, &mut |_, _| ()).unwrap();
        expect![[r#"
            # ollama create soporte -f Modelfile
            # tools are left out
            FROM ./soporte.gguf

            TEMPLATE """{{ .Prompt }}"""

            PARAMETER stop "<|im_end|>"
            PARAMETER stop "<|endoftext|>"
            # the model takes up to 128 tokens; each takes memory
            PARAMETER num_ctx 128

            LICENSE """Do as you like.
            """
        "#]]
        .assert_eq(&fs::read_to_string(to.join(MODELFILE)).unwrap());
        let gguf = crate::gguf::GgufFile::open(&to.join("soporte.gguf")).unwrap();
        assert_eq!(gguf.str("general.name").unwrap(), Some("soporte"));
        assert_eq!(fs::read_dir(&to).unwrap().count(), 2);
        let again = export_ollama(&model, &to, Mix::Q8_0, None, &[], &mut |_, _| ());
        assert!(again.is_err(), "nothing is overwritten");
    }
}
