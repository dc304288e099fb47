//! Rows that are too long, end to end.

use std::path::{Path, PathBuf};

use afina_chat::{ChatFormat, TemplateChoice, TrainOn};

use crate::testing::{model_dir, recipe, train, train_until};
use crate::{DataRefused, Event, Excess, ExcessLength, read_examples};

/// The nine lines' lengths in tokens, and their trained tokens.
fn lengths(dir: &Path) -> Vec<(usize, usize)> {
    let format = ChatFormat::load_with_template(&dir.join("base"), &TemplateChoice::Model).unwrap();
    let file: PathBuf = dir.join("train.jsonl");
    let read = read_examples(&[file], &format, TrainOn::Assistant, 4096, ExcessLength::Error).unwrap();
    let trained = |mask: &[bool]| mask.iter().filter(|&&trained| trained).count();
    read.tokenized.iter().map(|example| (example.tokens.len(), trained(&example.loss_mask))).collect()
}

#[test]
fn what_is_lost_of_long_rows_is_told_by_line() {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("base"));
    recipe(dir.path(), "r", &[]);
    let lengths = lengths(dir.path());
    let seq_len = lengths[5].0; // the last three lines are longer
    assert!(lengths.is_sorted() && lengths[6].0 > seq_len, "{lengths:?}");
    let seq_len_key = format!("data.seq_len={seq_len}");

    let error = train(&recipe(dir.path(), "error", &[&seq_len_key]), false, None).unwrap_err();
    let refused = error.downcast_ref::<DataRefused>().unwrap_or_else(|| panic!("{error:#}"));
    assert_eq!(refused.diagnostics.iter().map(|found| found.line).collect::<Vec<_>>(), [7, 8, 9]);

    for (name, examples) in [("drop", 6), ("truncate", 9), ("split", 12)] {
        let recipe = recipe(dir.path(), name, &[&seq_len_key, &format!("data.excess_length={name}")]);
        let (mut excess, mut found) = (Vec::new(), (0, 0));
        train_until(&recipe, false, |event| {
            if let Event::Started(start) = event {
                excess.clone_from(&start.excess);
                found = (start.examples, start.validation_examples);
            }
            false
        })
        .unwrap();
        assert_eq!(found, (examples, examples), "{name}: training and validation go by one rule");
        let log = std::fs::read_to_string(Path::new(&recipe.run).join("excess.jsonl")).unwrap();
        let written: String = excess.iter().map(|excess| serde_json::to_string(excess).unwrap() + "\n").collect();
        assert_eq!(log, written);
        assert_eq!(excess.iter().map(|excess| excess.line).collect::<Vec<_>>(), [7, 8, 9, 7, 8, 9]);
        for Excess { line, tokens, tokens_kept, trained_tokens, trained_tokens_lost, pieces, .. } in excess {
            assert_eq!((tokens, trained_tokens), lengths[line - 1], "{name}");
            let (kept, lost) = match name {
                "drop" => ((0, 0), trained_tokens),
                "truncate" => ((1, seq_len), tokens - 1 - seq_len), // the line end behind the turn is no loss
                _ => ((2, tokens), 0),
            };
            assert_eq!(((pieces, tokens_kept), trained_tokens_lost), (kept, lost), "{name}, line {line}");
        }
    }
    let none = recipe(dir.path(), "none", &["data.seq_len=8", "data.excess_length=drop"]);
    let error = train(&none, false, None).unwrap_err().to_string();
    assert!(error.ends_with(": 9 have more than 8 tokens and were left out"), "{error}");
}
