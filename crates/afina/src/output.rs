//! Text or JSON on stdout, everything else on stderr. The only file that prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::{Common, OutputFormat, When};

/// How this invocation speaks.
#[derive(Debug, Clone)]
pub struct Output {
    pub json: bool,
    /// What was asked for; only `validate` has more than text and JSON.
    pub format: OutputFormat,
    pub quiet: bool,
    /// Colours on stdout.
    pub color: bool,
    /// Colours on stderr.
    pub color_stderr: bool,
}

impl Output {
    pub fn new(common: &Common) -> Output {
        let wants = |is_terminal: bool| match common.color {
            When::Always => true,
            When::Never => false,
            When::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        Output {
            json: common.json || common.format == OutputFormat::Json,
            format: if common.json { OutputFormat::Json } else { common.format },
            quiet: common.quiet,
            color: wants(std::io::stdout().is_terminal()),
            color_stderr: wants(std::io::stderr().is_terminal()),
        }
    }

    /// The command's result: `text`, or `json` when that was asked for.
    pub fn result(&self, text: &str, json: &serde_json::Value) {
        if self.json {
            write_stdout(&format!("{json}\n"));
        } else if !text.is_empty() {
            write_stdout(&format!("{}\n", text.trim_end_matches('\n')));
        }
    }

    /// For a report that is written as it grows.
    pub fn stdout(&self) -> impl Write {
        std::io::BufWriter::new(std::io::stdout().lock())
    }

    /// For data that is the result itself.
    pub fn data(&self) -> Stdout {
        Stdout { stdout: Box::new(std::io::BufWriter::new(std::io::stdout())), gone: false }
    }

    /// Part of a text result, written at once and as it is.
    pub fn stream(&self, text: &str) {
        if !self.json {
            write_stdout(text);
        }
    }

    /// What the program is doing, for the person who waits.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// Faults of the user's data, which an error then sums up.
    pub fn faults(&self, text: &str) {
        eprint!("{text}");
    }

    pub fn warn(&self, text: &str) {
        eprintln!("{}: {text}", self.paint_stderr("33", "warning"));
    }

    /// An error with its causes and a hint.
    pub fn error(&self, error: &anyhow::Error, hint: Option<&str>) {
        eprintln!("{}: {error}", self.paint_stderr("31", "error"));
        for cause in error.chain().skip(1) {
            eprintln!("  cause: {cause}");
        }
        if let Some(hint) = hint {
            eprintln!("hint: {hint}");
        }
    }

    /// A bar on a terminal, nothing elsewhere.
    pub fn progress(&self, total: u64, template: &str) -> ProgressBar {
        if self.quiet || !std::io::stderr().is_terminal() {
            return ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template(template).expect("the template is a literal of this program");
        ProgressBar::new(total).with_style(style)
    }

    pub fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    /// The same for stderr.
    pub fn bold_note(&self, text: &str) -> String {
        if self.color_stderr { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Marks trained text: in colour, or between guillemets where there is none.
    pub fn trained(&self, text: &str) -> String {
        if self.color { self.paint("32", text) } else { format!("«{text}»") }
    }

    /// The same for stderr.
    pub fn trained_note(&self, text: &str) -> String {
        if self.color_stderr { self.paint_stderr("32", text) } else { format!("«{text}»") }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn paint_stderr(&self, code: &str, text: &str) -> String {
        if self.color_stderr { format!("\u{1b}[1;{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Standard output, as long as there is a reader: without one (`| head`) the rest goes nowhere.
pub struct Stdout {
    stdout: Box<dyn Write>,
    gone: bool,
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.gone {
            return Ok(());
        }
        let written = self.stdout.write_all(bytes);
        self.unless_gone(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.gone {
            return Ok(());
        }
        let flushed = self.stdout.flush();
        self.unless_gone(flushed)
    }
}

impl Stdout {
    fn unless_gone(&mut self, result: std::io::Result<()>) -> std::io::Result<()> {
        match result {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                self.gone = true;
                Ok(())
            }
            result => result,
        }
    }
}

/// Writes at once. A reader that has gone away (`| head`) ends the program's use, not the program.
fn write_stdout(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
