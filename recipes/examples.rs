//! From data files to tokens: every line validated, rendered and measured; one fault refuses them all, and all faults are told.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use afina_chat::{ChatFormat, Conversation, EncodeError, Piece, TrainOn};
use afina_data::{
    Diagnostic, Example, Item, Method, Profile, ReadOptions, Severity, Summary, TokenizedExample, Untrainable,
};
use anyhow::{Context, Result, bail};

use crate::excess::{Excess, ExcessLength, fit, trained};

/// The examples of some files, in their order.
#[derive(Debug, Default)]
pub struct Examples {
    pub tokenized: Vec<TokenizedExample>,
    /// Of those that were not left out. One that was split is here once.
    pub conversations: Vec<Conversation>,
    /// How many of them each file gave.
    pub per_file: Vec<usize>,
    /// Those that were too long.
    pub excess: Vec<Excess>,
}

impl Examples {
    /// The file of each example; `files` are those that were read.
    pub fn file_of<'f>(&self, files: &'f [PathBuf]) -> Vec<&'f Path> {
        let of_file = |(path, &examples): (&'f PathBuf, &usize)| std::iter::repeat_n(path.as_path(), examples);
        files.iter().zip(&self.per_file).flat_map(of_file).collect()
    }
}

/// The data has errors: nothing is done with it.
#[derive(Debug, thiserror::Error)]
#[error("{} {} errors", files.join(", "), if files.len() == 1 { "has" } else { "have" })]
pub struct DataRefused {
    /// In backticks.
    pub files: Vec<String>,
    pub diagnostics: Vec<Diagnostic>,
    pub summary: Summary,
}

/// Reads all `files`. What becomes of an example of more than `longest` tokens is said by `excess_length`, and told: nothing is
/// ever cut silently.
pub fn read_examples(
    files: &[PathBuf],
    format: &ChatFormat,
    train_on: TrainOn,
    longest: usize,
    excess_length: ExcessLength,
) -> Result<Examples> {
    let mut options = ReadOptions::new(Method::Sft, Profile::Local);
    options.control_tokens = format.tokenizer.special_tokens().iter().map(|(text, _)| text.clone()).collect();
    let mut examples = Examples::default();
    let mut refused = DataRefused { files: Vec::new(), diagnostics: Vec::new(), summary: Summary::default() };
    for path in files {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("failed to open the data file `{name}`"))?;
        let (before, known) = (refused.diagnostics.len(), examples.tokenized.len());
        let summary = afina_data::read(&mut BufReader::new(file), &name, &options, &mut |item| match item {
            Item::Diagnostic(diagnostic) if diagnostic.severity == Severity::Error => {
                refused.diagnostics.push(diagnostic)
            }
            Item::Diagnostic(_) | Item::Pair(_) => {}
            Item::Example(example) => match tokenize(&name, &example, format, train_on) {
                Err(diagnostic) => refused.diagnostics.push(*diagnostic),
                Ok(tokenized) if tokenized.tokens.len() <= longest => {
                    examples.tokenized.push(tokenized);
                    examples.conversations.push(example.into_conversation());
                }
                Ok(tokenized) if excess_length == ExcessLength::Error => {
                    refused.diagnostics.push(too_long(&name, &example, tokenized.tokens.len(), longest));
                }
                Ok(tokenized) => {
                    let is_special = |token| format.tokenizer.is_special(token);
                    let (parts, excess) = fit(&tokenized, &name, longest, excess_length, &is_special);
                    if !parts.is_empty() {
                        examples.conversations.push(example.into_conversation());
                    }
                    examples.tokenized.extend(parts);
                    examples.excess.push(excess);
                }
            },
        })
        .with_context(|| format!("failed to read the data file `{name}`"))?;
        examples.per_file.push(examples.tokenized.len() - known);
        let errors = refused.diagnostics.len() - before;
        if errors > 0 {
            refused.files.push(format!("`{name}`"));
        }
        refused.summary.examples += summary.examples;
        refused.summary.warnings += summary.warnings;
        refused.summary.errors += errors;
    }
    if !refused.diagnostics.is_empty() {
        refused.summary.valid = examples.tokenized.len();
        return Err(refused.into());
    }
    if examples.tokenized.is_empty() && !files.is_empty() {
        let names: Vec<String> = files.iter().map(|path| format!("`{}`", path.display())).collect();
        let why = match examples.excess.len() {
            0 => String::new(),
            excess => format!(": {excess} have more than {longest} tokens and were left out"),
        };
        bail!("no example in {}{why}", names.join(", "));
    }
    Ok(examples)
}

/// The text of an example's tokens, and whether each is trained.
pub fn pieces(format: &ChatFormat, conversation: &Conversation, train_on: TrainOn) -> Result<Vec<(String, bool)>> {
    let pieces = format.training_pieces(conversation, train_on)?;
    Ok(pieces.into_iter().map(|Piece { text, trained, .. }| (text, trained)).collect())
}

/// An example that the chat template in use does not carry, with the template that would.
pub fn cannot_render(file: &str, example: &Example, format: &ChatFormat, error: EncodeError) -> Diagnostic {
    let pointer = error.pointer();
    let hint = format.hint(example.conversation(), &error);
    let causes: Vec<String> = anyhow::Error::new(error).chain().map(ToString::to_string).collect();
    Untrainable::NotRendered { pointer, message: causes.join(": "), hint }.diagnostic(file, example)
}

fn too_long(file: &str, example: &Example, tokens: usize, longest: usize) -> Diagnostic {
    Diagnostic {
        rule: "example-too-long",
        severity: Severity::Error,
        file: file.to_owned(),
        line: example.line(),
        column: 1,
        pointer: String::new(),
        message: format!("expected at most {longest} tokens, found {tokens}"),
        hint: "raise data.seq_len (up to the model's context), shorten the example, or set data.excess_length to drop, truncate or split"
            .to_owned(),
        window: None,
    }
}

fn tokenize(
    file: &str,
    example: &Example,
    format: &ChatFormat,
    train_on: TrainOn,
) -> Result<TokenizedExample, Box<Diagnostic>> {
    let encoded = format
        .training_tokens(example.conversation(), train_on)
        .map_err(|error| cannot_render(file, example, format, error))?;
    let tokenized = TokenizedExample { line: example.line(), tokens: encoded.tokens, loss_mask: encoded.loss_mask };
    if trained(&tokenized) == 0 {
        return Err(Untrainable::NothingTrained.diagnostic(file, example).into());
    }
    Ok(tokenized)
}
