//! Mends one file: the records to stdout, the log and the errors that are left to stderr.
//!
//! `cargo run --release -p afina-data --example fix -- broken.jsonl --method sft [--unsafe-fixes] > mended.jsonl`
#![allow(clippy::print_stderr)]

use std::{
    fs::File,
    io::{BufReader, BufWriter, Write},
};

use afina_data::{FixItem, Method, Profile, ReadOptions, control_tokens_of, fix};

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let (mut path, mut unsafe_fixes) = (None, false);
    let mut options = ReadOptions::new(Method::Sft, Profile::OpenAi);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--method" => options.method = args.next().ok_or("no method")?.parse()?,
            "--profile" => options.profile = args.next().ok_or("no profile")?.parse()?,
            "--target" => {
                let model = args.next().ok_or("no model")?;
                options.control_tokens = control_tokens_of(&model).ok_or("an unknown model")?;
            }
            "--unsafe-fixes" => unsafe_fixes = true,
            _ => path = Some(arg),
        }
    }
    let path = path.ok_or("expected a file")?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut log = |item| match item {
        FixItem::Change(change) => eprintln!("{change}"),
        FixItem::Left { found, .. } | FixItem::LeftInWhole(found) => eprintln!("left: {found}"),
    };
    let mut source = BufReader::new(File::open(&path)?);
    let summary = fix(&mut source, &path, &options, unsafe_fixes, &mut out, &mut log)?;
    out.flush()?;
    eprintln!("{summary:?}");
    Ok(())
}
