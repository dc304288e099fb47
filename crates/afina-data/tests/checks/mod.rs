//! What holds of any bytes, through the public functions alone: for the tests beside this folder, and for the fuzzer.

pub mod converting;
pub mod fixing;
pub mod reading;

use afina_data::{Diagnostic, Example, Format, Grader, Item, Method, Profile, ReadOptions, Summary, read};

/// A file, and what is done with it.
#[derive(Clone, Debug)]
pub struct Case<'d> {
    pub options: ReadOptions,
    pub unsafe_fixes: bool,
    /// What it is converted from; `None`: that is found out.
    pub from: Option<Format>,
    /// Bytes that the source hands out at a time.
    pub piece: usize,
    pub data: &'d [u8],
}

impl<'d> Case<'d> {
    /// The first byte says for what the file is read (`A` to `L`: each method with each profile), the second how (from
    /// `a` on); the rest is the file.
    pub fn new(input: &'d [u8]) -> Option<Case<'d>> {
        let [purpose, manner, data @ ..] = input else { return None };
        let mut options = options(usize::from(purpose.wrapping_sub(b'A')));
        let manner = usize::from(manner.wrapping_sub(b'a'));
        if options.method == Method::Rft && manner & 2 != 0 {
            let grader = r#"{"type":"string_check","input":"{{sample.output_text}} {{item.a.0}}","reference":"{{ item.b }}","operation":"eq"}"#;
            options.grader = Some(Grader::from_json(grader).expect("a grader as OpenAI has it"));
        }
        options.windows = manner & 4 != 0;
        options.training_context = options.training_context.filter(|_| manner & 8 == 0);
        options.has_validation = manner & 16 != 0;
        let formats = [None].into_iter().chain(Format::ALL.map(Some));
        let from = formats.cycle().nth(manner / 5).flatten();
        Some(Case { options, unsafe_fixes: manner & 1 != 0, from, piece: 1 + manner % 37, data })
    }
}

/// Each method with each profile, as the index goes up to 12.
pub fn options(index: usize) -> ReadOptions {
    let method = [Method::Sft, Method::Dpo, Method::Rft][index % 3];
    ReadOptions::new(method, [Profile::OpenAi, Profile::Azure, Profile::Together, Profile::Local][index % 4])
}

/// Everything that reading gives.
pub struct Read {
    pub items: Vec<Item>,
    pub summary: Summary,
}

impl Read {
    pub fn new(data: &[u8], options: &ReadOptions) -> Read {
        let mut items = Vec::new();
        let summary = read(&mut &*data, NAME, options, &mut |item| items.push(item)).expect("memory is read");
        Read { items, summary }
    }

    pub fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.items.iter().filter_map(|item| if let Item::Diagnostic(found) = item { Some(found) } else { None })
    }

    pub fn examples(&self) -> impl Iterator<Item = &Example> {
        self.items.iter().filter_map(|item| if let Item::Example(example) = item { Some(example) } else { None })
    }
}

/// The name that the files go by.
pub const NAME: &str = "x.jsonl";

/// Bytes for the message of an assertion.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
