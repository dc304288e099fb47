//! One pass of `afina validate` over a file, with one part beside the rules.

use std::io;
use std::time::Instant;

use afina_data::stats::{COOKBOOK_MAX_TOKENS, ReportOptions};
use afina_data::{Group, Profile, ReadOptions, Report, ReportFormat, Summary};
use afina_train::peak_memory_bytes;
use anyhow::Result;
use serde_json::json;

use crate::args::{BenchValidate, Part};
use crate::commands::OK;
use crate::commands::validate::counting::{Counting, Tokens};
use crate::commands::validate::{SHOWN_OF_A_RULE, check_file, method};
use crate::output::Output;

/// Times the pass in this process: the report is made and thrown away, and a tokenizer is loaded before the clock runs.
///
/// # Panics
/// Without a file and a part.
pub fn measure(args: &BenchValidate, output: &Output) -> Result<u8> {
    let path = args.file.as_ref().expect("the flag requires a file");
    let part = *args.parts.first().expect("whoever measures says what");
    let mut options = ReadOptions::new(method(args.method), Profile::OpenAi);
    options.ignored = ignored(part);
    options.windows = true;
    let mut counting = counting(part, args, &mut options)?;
    options.examples = counting.is_some();
    let mut nowhere = io::sink();
    let mut report = Report::new(ReportFormat::Text, SHOWN_OF_A_RULE, &mut nowhere);
    let mut total = Summary::default();

    let began = Instant::now();
    check_file(path, &options, counting.as_mut(), &mut report, &mut total, output)?;
    if let Some(counting) = &counting {
        let options = ReportOptions { seq_len: None, billed_per_example: COOKBOOK_MAX_TOKENS, prices: None };
        counting.statistics.report(&options);
    }
    let seconds = began.elapsed().as_secs_f64();
    output.result(
        &format!("{seconds:.3} s"),
        &json!({
            "seconds": seconds,
            "bytes": total.bytes,
            "examples": total.examples,
            "peak_memory_bytes": peak_memory_bytes(),
        }),
    );
    Ok(OK)
}

/// The rules that a part leaves out.
fn ignored(part: Part) -> std::collections::HashSet<String> {
    let dear = |part| -> Vec<&str> {
        match part {
            Part::NearDuplicates => vec!["near-duplicate-example"],
            Part::Secrets => vec!["secret-detected", "pii-detected"],
            Part::Images => {
                afina_data::rules().iter().filter(|rule| rule.group == Group::Images).map(|rule| rule.id).collect()
            }
            _ => Vec::new(),
        }
    };
    let all = [Part::NearDuplicates, Part::Secrets, Part::Images];
    let others = all.into_iter().filter(|&other| part != Part::All && part != other);
    others.flat_map(dear).map(str::to_owned).collect()
}

/// What counts, where the part is of counting.
fn counting(part: Part, args: &BenchValidate, options: &mut ReadOptions) -> Result<Option<Counting>> {
    let tokens = match part {
        Part::Tokens | Part::All => {
            Tokens::new(args.model.as_deref(), &args.template.chat_template, args.tokenizer, options)?
        }
        Part::Statistics => None,
        _ => return Ok(None),
    };
    Ok(Some(Counting::new(tokens, options.training_context)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_out(part: Part) -> [bool; 3] {
        let ignored = ignored(part);
        ["near-duplicate-example", "pii-detected", "image-truncated"].map(|rule| ignored.contains(rule))
    }

    #[test]
    fn a_part_leaves_out_the_other_dear_rules() {
        assert_eq!(left_out(Part::Rules), [true, true, true]);
        assert_eq!(left_out(Part::Tokens), [true, true, true]);
        assert_eq!(left_out(Part::NearDuplicates), [false, true, true]);
        assert_eq!(left_out(Part::Secrets), [true, false, true]);
        assert_eq!(left_out(Part::Images), [true, true, false]);
        assert_eq!(left_out(Part::All), [false, false, false]);
        assert!(!ignored(Part::Rules).contains("duplicate-example"));
    }
}
