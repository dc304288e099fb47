//! JSONL in, validated examples and packed batches out: the lines of a file, the JSON of a line, the rules of a record,
//! and rows of tokens for the trainer. No tensors and no network here.

mod batch;
mod convert;
mod diagnostic;
mod example;
mod facts;
mod findings;
mod fix;
mod grader;
pub mod json;
mod jsonl;
mod mixture;
mod number;
mod pack;
mod picture;
mod read;
mod report;
mod rules;
pub mod scan;
mod similar;
mod split;
pub mod stats;
#[cfg(test)]
mod testing;
mod tokens;
mod view;

pub use batch::Batch;
pub use convert::{Conversion, ConvertError, Format, Note, Separators, convert, separators};
pub use diagnostic::{Diagnostic, Severity};
pub use example::Example;
pub use fix::{Change, FixItem, FixSummary, Safety, fix};
pub use grader::{Grader, GraderError};
pub use jsonl::MAX_LINE_BYTES;
pub use mixture::{Share, epoch_examples};
pub use pack::{TokenizedExample, epoch_order, over_length, pack, unpacked};
pub use read::{
    Earlier, Item, Method, Profile, ReadOptions, Summary, UnknownName, Validation, read, read_one_of, read_validation,
};
pub use report::{Report, ReportFormat, TextReport, Window, explain_text, render_text, rules_markdown, verdict};
pub use rules::{Group, Rule, Untrainable, check_counted_length, check_job, rules};
pub use split::{Split, SplitError, SplitOptions, opening_key, prompt_key, split};
pub use tokens::control_tokens_of;
