//! The rows of tokens that `afina bench train` trains on: made up, from a file, or packed from a chat file as training packs it.

use std::path::{Path, PathBuf};

use afina_chat::{ChatFormat, TrainOn};
use afina_checkpoint::{LlamaConfig, ModelDir, write_file};
use afina_data::{TokenizedExample, pack};
use afina_recipes::{ExcessLength, read_examples};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Usage;
use crate::commands::{OK, train};
use crate::output::Output;

/// The examples of a step, and which of them share a row.
#[derive(Debug)]
pub struct Rows {
    pub examples: Vec<TokenizedExample>,
    /// Indexes into `examples`.
    pub rows: Vec<Vec<usize>>,
}

/// A file of rows.
#[derive(Serialize, Deserialize)]
struct RowsFile {
    rows: Vec<Vec<RowExample>>,
}

#[derive(Serialize, Deserialize)]
struct RowExample {
    tokens: Vec<u32>,
    loss_mask: Vec<bool>,
}

impl Rows {
    /// `shape` is sequences x tokens, as in 4x256. Any tokens do: the work does not depend on which they are.
    pub fn made(shape: &str, vocab: usize) -> Result<Rows> {
        let (count, seq_len) = shape
            .split_once('x')
            .and_then(|(count, seq_len)| Some((count.parse::<usize>().ok()?, seq_len.parse::<usize>().ok()?)))
            .filter(|&(count, seq_len)| count > 0 && seq_len > 1)
            .ok_or_else(|| {
                Usage::error(format!("shape `{shape}` cannot be read"), "give sequences x tokens, as in 4x256")
            })?;
        let examples = (0..count)
            .map(|row| TokenizedExample {
                line: row + 1,
                tokens: (0..seq_len).map(|t| ((row * 7919 + t * 104_729 + 17) % vocab) as u32).collect(),
                loss_mask: vec![true; seq_len],
            })
            .collect();
        Ok(Rows { examples, rows: (0..count).map(|row| vec![row]).collect() })
    }

    pub fn read(path: &Path, config: &LlamaConfig) -> Result<Rows> {
        let failed = || format!("failed to read the rows `{}`", path.display());
        let text = std::fs::read(path).with_context(failed)?;
        let file: RowsFile = serde_json::from_slice(&text).with_context(failed)?;
        let mut rows = Rows { examples: Vec::new(), rows: Vec::new() };
        for (index, row) in file.rows.into_iter().enumerate() {
            let first = rows.examples.len();
            for example in row {
                check(&example, config).with_context(|| format!("row {} of `{}`", index + 1, path.display()))?;
                let RowExample { tokens, loss_mask } = example;
                rows.examples.push(TokenizedExample { line: rows.examples.len() + 1, tokens, loss_mask });
            }
            rows.rows.push((first..rows.examples.len()).collect());
        }
        if rows.trained_tokens() == 0 {
            bail!("no token of `{}` is trained", path.display());
        }
        Ok(rows)
    }

    /// `1 row`, `2 rows`
    pub fn counted(&self) -> String {
        format!("{} row{}", self.rows.len(), if self.rows.len() == 1 { "" } else { "s" })
    }

    pub fn tokens(&self) -> usize {
        self.examples.iter().map(|example| example.tokens.len()).sum()
    }

    /// Targets in the loss: the first token of an example is the target of nothing.
    pub fn trained_tokens(&self) -> usize {
        self.examples.iter().flat_map(|example| example.loss_mask.iter().skip(1)).filter(|&&trained| trained).count()
    }
}

/// Writes the rows of a chat file: every line validated, rendered, masked and packed as `afina train` does, in the file's order.
pub fn write(model: &Path, data: &PathBuf, seq_len: usize, to: &Path, output: &Output) -> Result<u8> {
    let base = ModelDir::open(model).with_context(|| format!("failed to open the model `{}`", model.display()))?;
    let format =
        ChatFormat::load(model).with_context(|| format!("failed to load the chat format of `{}`", model.display()))?;
    let longest = seq_len.min(base.config.max_position_embeddings);
    let read = read_examples(std::slice::from_ref(data), &format, TrainOn::Assistant, longest, ExcessLength::Error);
    let examples = train::show_refused(read, output)?.tokenized;
    let order: Vec<usize> = (0..examples.len()).collect();
    let rows = Rows { rows: pack(&examples, &order, seq_len), examples };
    let row_example = |&index: &usize| {
        let TokenizedExample { tokens, loss_mask, .. } = rows.examples[index].clone();
        RowExample { tokens, loss_mask }
    };
    let file = RowsFile { rows: rows.rows.iter().map(|row| row.iter().map(row_example).collect()).collect() };
    write_file(to, &serde_json::to_vec(&file)?).with_context(|| format!("failed to write `{}`", to.display()))?;
    let (tokens, trained) = (rows.tokens(), rows.trained_tokens());
    output.result(
        &format!("wrote {} to {}: {tokens} tokens, {trained} trained", rows.counted(), to.display()),
        &json!({
            "path": to,
            "rows": rows.rows.len(),
            "examples": rows.examples.len(),
            "tokens": tokens,
            "trained_tokens": trained,
        }),
    );
    Ok(OK)
}

fn check(example: &RowExample, config: &LlamaConfig) -> Result<()> {
    let (tokens, mask) = (example.tokens.len(), example.loss_mask.len());
    if tokens != mask {
        bail!("expected a `loss_mask` of {tokens} entries, one a token, found {mask}");
    }
    let longest = config.max_position_embeddings;
    if tokens == 0 || tokens > longest {
        bail!("expected an example of 1 to {longest} tokens, found {tokens}");
    }
    if let Some(token) = example.tokens.iter().find(|&&token| token as usize >= config.vocab_size) {
        bail!("expected tokens below {}, found {token}", config.vocab_size);
    }
    Ok(())
}
