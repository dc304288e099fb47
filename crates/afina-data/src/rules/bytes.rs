//! The file as bytes: what it is, how it is encoded, how its lines end.

use std::str::Utf8Chunk;

use super::csv;
use crate::{
    diagnostic::Severity,
    findings::{Findings, Place},
    jsonl::MAX_LINE_BYTES,
    read::Profile,
};

const BOM: &str = "\u{FEFF}";
const START: Place = Place::byte(0);

/// The file has no record at all.
///
/// A file of no bytes, or of blank lines only: there is nothing to train on. Most often an export failed, or the name
/// is that of another file.
pub(crate) fn file_empty(bytes: u64, out: &mut Findings) {
    let found = if bytes == 0 { "no bytes" } else { "blank lines only" };
    out.error(
        "file-empty",
        START,
        format!("expected one JSON object a line, found {found}"),
        "check the export that wrote it",
    );
}

/// The name of the file does not end in `.jsonl`.
///
/// OpenAI refuses any other name at upload ("Fine-tuning API only supports .jsonl files"). A `.json` file is often one
/// array or one pretty-printed object: then it has to be converted, not only renamed. What is read from a pipe has no
/// name, and is not judged by one.
pub(crate) fn file_extension(file: &str, out: &mut Findings) {
    if file != "-" && !out.options.is_stream && !file.ends_with(".jsonl") {
        let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
        let found = match name.rsplit_once('.') {
            Some((_, extension)) => format!("`.{extension}`"),
            None => "no extension".to_owned(),
        };
        out.error(
            "file-extension",
            START,
            format!("expected a name that ends in `.jsonl`, found {found}"),
            "rename the file, once it has one JSON object a line",
        );
    }
}

/// The file is larger than the upload limit of 512 MB.
///
/// `POST /v1/files` takes 512 MB; more goes through the Uploads API (8 GB, in parts of 64 MB). Whether the limit is
/// 512 × 10⁶ or 512 × 2²⁰ bytes is not said anywhere: above the smaller it is a warning, above the larger an error.
/// Not checked for `--profile local` and `together`.
///
/// Images as data URIs are the usual reason: use URLs, a stronger compression, or `"detail": "low"`.
pub(crate) fn file_too_large(bytes: u64, out: &mut Findings) {
    let severity = match bytes {
        0..=512_000_000 => return,
        512_000_001..=536_870_912 => Severity::Warning,
        _ => Severity::Error,
    };
    if matches!(out.options.profile, Profile::OpenAi | Profile::Azure) {
        let message = format!("expected at most 512 MB, found {:.1} MB", bytes as f64 / 1e6);
        out.add(
            severity,
            "file-too-large",
            START,
            message,
            "upload it in parts with the Uploads API, or make images smaller",
        );
    }
}

/// The file is not JSON Lines: an archive, a spreadsheet, a database, a PDF, a CSV.
///
/// Told by its first bytes, whatever its name says; a CSV by a line of names and lines with as many fields below.
/// Nothing more of it is read. Decompress it, or export it as JSONL.
pub(crate) fn wrong_file_type(head: &[u8], out: &mut Findings) -> bool {
    let kinds: [(&[u8], &str, &str); 12] = [
        (b"\x1f\x8b", "a gzip archive", "decompress it: `gunzip FILE`"),
        (b"PK\x03\x04", "a zip archive or an Office document", "unzip it, or export the sheet and convert it to JSONL"),
        (b"\xd0\xcf\x11\xe0", "an old Office document", "export the sheet and convert it to JSONL"),
        (b"PAR1", "a Parquet file", "write its rows as JSONL, e.g. with `DataFrame.to_json(lines=True)`"),
        (b"ARROW1", "an Arrow file", "write its rows as JSONL"),
        (b"SQLite format 3\0", "a SQLite database", "export the table as JSONL"),
        (b"%PDF-", "a PDF", "training data is JSONL: one conversation a line"),
        (b"BZh", "a bzip2 archive", "decompress it: `bunzip2 FILE`"),
        (b"\xfd7zXZ\0", "an xz archive", "decompress it: `unxz FILE`"),
        (b"\x28\xb5\x2f\xfd", "a zstd archive", "decompress it: `unzstd FILE`"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
        (b"\x93NUMPY", "a NumPy array", "training data is JSONL: one conversation a line"),
    ];
    if let Some((_, kind, hint)) = kinds.iter().find(|(magic, ..)| head.starts_with(magic)) {
        out.error("wrong-file-type", START, format!("expected JSONL text, found {kind}"), *hint);
        return true;
    }
    let Some(table) = csv::table(head) else { return false };
    // Another name would not help.
    out.retain(|rule| rule != "file-extension");
    out.error("wrong-file-type", START, format!("expected JSON Lines, found {}", table.found()), table.hint());
    true
}

/// The file is UTF-16 or UTF-32, not UTF-8.
///
/// Windows PowerShell's `>` and Notepad's "Unicode" write UTF-16. Told by the byte order mark, or by a zero in every
/// second byte. Save it again as UTF-8, as `--fix OUT` does, or with `Out-File -Encoding utf8`.
pub(crate) fn file_utf16(head: &[u8], out: &mut Findings) -> bool {
    let name = match head {
        [0xFF, 0xFE, 0, 0, ..] => "UTF-32LE",
        [0, 0, 0xFE, 0xFF, ..] => "UTF-32BE",
        [0xFF, 0xFE, ..] => "UTF-16LE",
        [0xFE, 0xFF, ..] => "UTF-16BE",
        _ => match zeros(head) {
            // UTF-16 of any European text has a zero for nearly every other byte; UTF-8 text has none.
            (even, odd) if odd > 0.7 && even < 0.1 => "UTF-16LE",
            (even, odd) if even > 0.7 && odd < 0.1 => "UTF-16BE",
            _ => return false,
        },
    };
    let hint = "save it as UTF-8, as `--fix OUT` does (PowerShell's `>` writes UTF-16)";
    out.error("file-utf16", START, format!("expected UTF-8, found {name}"), hint);
    true
}

/// Share of zeros among the even and the odd bytes at the head of a file.
fn zeros(head: &[u8]) -> (f64, f64) {
    let head = &head[..head.len().min(512) & !1];
    if head.len() < 4 {
        return (0.0, 0.0);
    }
    let share = |first: usize| {
        head.iter().skip(first).step_by(2).filter(|&&byte| byte == 0).count() as f64 / (head.len() / 2) as f64
    };
    (share(0), share(1))
}

/// A line has bytes that are not UTF-8.
///
/// Bytes of Latin-1 or Windows-1252 (Excel and old databases write them), a file cut inside a character, overlong
/// forms, or surrogates encoded one by one (CESU-8). The other rules look at the line as if each such byte were a `?`.
///
/// `--fix OUT` rewrites what is Windows-1252 and leaves the lines that are UTF-8 as they are; `iconv` would spoil those.
pub(crate) fn file_not_utf8(line: &[u8], file_offset: u64, start: usize, out: &mut Findings) -> String {
    let mut text = String::with_capacity(line.len());
    let (mut first, mut count) = (None::<(usize, Vec<u8>)>, 0);
    for chunk in line.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            first.get_or_insert_with(|| (text.len(), line[text.len()..].to_vec()));
            count += chunk.invalid().len();
            text.extend(std::iter::repeat_n('?', chunk.invalid().len()));
        }
    }
    if let Some((at, rest)) = first {
        let message = format!(
            "expected UTF-8, found byte 0x{:02X} at byte {} of the file{}",
            rest[0],
            file_offset + at as u64,
            if count > 1 { format!(", {count} such bytes in this line") } else { String::new() }
        );
        out.error("file-not-utf8", Place::byte(start + at), message, utf8_hint(line, &rest));
    }
    text
}

fn utf8_hint(line: &[u8], rest: &[u8]) -> &'static str {
    let cut = line.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).all(|chunk: Utf8Chunk| {
        let at_end = chunk.invalid().as_ptr_range().end == line.as_ptr_range().end;
        at_end && chunk.invalid()[0] >= 0xC2 && chunk.invalid().len() < 4
    });
    match rest {
        [0xED, 0xA0..=0xBF, ..] => {
            "surrogates were encoded one by one (CESU-8): write the text as UTF-8, as `--fix OUT` does"
        }
        [0xC0 | 0xC1, ..] => {
            "an overlong form, as `modified UTF-8` of Java has: write the text as UTF-8 again from its source"
        }
        _ if cut => "the line ends inside a character: the file was cut",
        _ => "looks like Windows-1252 or Latin-1: write it as UTF-8, as `--fix OUT` does line by line",
    }
}

/// The file begins with a byte order mark.
///
/// RFC 8259 forbids writing one, and users of OpenAI have seen "Line 1 is not a dictionary" because of it; it is
/// skipped here. Azure asks for one: with `--profile azure` its absence is the warning.
pub(crate) fn file_bom(head: &[u8], out: &mut Findings) -> usize {
    let has_bom = head.starts_with(BOM.as_bytes());
    match (out.options.profile, has_bom) {
        (Profile::Azure, false) => {
            out.warning(
                "file-bom",
                START,
                "expected a byte order mark (EF BB BF), found none",
                "Azure asks for UTF-8 with a byte order mark: save it as `utf-8-sig`",
            );
        }
        (Profile::Azure, true) | (_, false) => {}
        (_, true) => {
            out.warning(
                "file-bom",
                START,
                "expected `{`, found a byte order mark (EF BB BF) before it",
                "save the file as UTF-8 without it, as `--fix OUT` does",
            );
        }
    }
    if has_bom { BOM.len() } else { 0 }
}

/// A byte order mark stands inside the file.
///
/// It is no whitespace in JSON, and invisible in an editor. It gets there when files with a byte order mark are put
/// together with `cat`. Remove it, as `--fix OUT` does.
pub(crate) fn bom_mid_file(place: Place, out: &mut Findings) {
    out.error(
        "bom-mid-file",
        place,
        "expected a record, found a byte order mark (U+FEFF)",
        "files with a byte order mark were joined: remove it, as `--fix OUT` does",
    );
}

/// Lines end with a carriage return alone.
///
/// JSONL ends lines with `\n` (or `\r\n`); for every reader the whole file is one line. Old Mac programs and some
/// spreadsheet exports write `\r`. The lines are checked as if they ended properly.
///
/// End lines with `\n`, as `--fix OUT` does.
pub(crate) fn bare_cr_line_endings(place: Place, out: &mut Findings) {
    out.error(
        "bare-cr-line-endings",
        place,
        "expected lines that end with `\\n`, found `\\r` alone",
        "end lines with `\\n`, as `--fix OUT` does",
    );
}

/// Whether the first line of the file ends with `\r` alone: a record ends there, and the next begins (or the file ends).
pub(crate) fn ends_lines_with_cr(head: &[u8]) -> bool {
    let Some(end) = memchr::memchr2(b'\r', b'\n', head) else { return false };
    let rest = head[end + 1..].iter().find(|byte| !matches!(byte, b'\r' | b' ' | b'\t'));
    head[end] == b'\r' && head[..end].trim_ascii().ends_with(b"}") && matches!(rest, Some(b'{') | None)
}

/// A blank line stands between records.
///
/// JSONL has one value on each line, and a blank line is none. Some readers skip it, others stop there; OpenAI's own
/// cookbook script crashes. It is skipped here. Delete the line.
pub(crate) fn blank_line(out: &mut Findings) {
    out.warning("blank-line", START, "expected a record, found a blank line", "delete the line");
}

/// Blank lines stand at the end of the file.
///
/// One `\n` ends the last record; what follows are empty lines, which some readers take for records. Trim them.
pub(crate) fn trailing_blank_lines(count: usize, out: &mut Findings) {
    let found = if count == 1 { "a blank line".to_owned() } else { format!("{count} blank lines") };
    out.warning(
        "trailing-blank-lines",
        START,
        format!("expected the end of the file, found {found}"),
        "delete everything after the last record's line end",
    );
}

/// A line is longer than 64 MiB.
///
/// Lines are held in memory whole, so there is a cap. A line that long is a whole file without line ends, or has images
/// in it. Ten images of 10 MB are within OpenAI's limits, and as data URIs they are 133 MB of text: more than is read
/// here. Make the images smaller (OpenAI fits them into 2048 × 2048 pixels anyway), or give http URLs.
pub(crate) fn line_too_long(out: &mut Findings) {
    out.error("line-too-long", START, line_too_long_message(), LINE_TOO_LONG_HINT);
}

pub(crate) fn line_too_long_message() -> String {
    format!("expected a line of at most {} MiB, found a longer one", MAX_LINE_BYTES >> 20)
}

pub(crate) const LINE_TOO_LONG_HINT: &str =
    "put each record on a line of its own; make images in it smaller, or give their http URLs instead of data URIs";

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::{
        Method, Profile, ReadOptions,
        testing::{check, check_with, read_all},
    };

    const RECORD: &str =
        r#"{"messages":[{"role":"user","content":"Hi there."},{"role":"assistant","content":"Hello."}]}"#;

    #[test]
    fn files_that_are_not_text_are_named() {
        check(
            b"\x1f\x8b\x08\x00",
            expect![[r#"
            1:1: error[wrong-file-type]: expected JSONL text, found a gzip archive
        "#]],
        );
        check(
            b"PK\x03\x04....",
            expect![[r#"
            1:1: error[wrong-file-type]: expected JSONL text, found a zip archive or an Office document
        "#]],
        );
        check(
            b"",
            expect![[r#"
            1:1: error[file-empty]: expected one JSON object a line, found no bytes
        "#]],
        );
        check(
            b"\n \r\n",
            expect![[r#"
            1:1: error[file-empty]: expected one JSON object a line, found blank lines only
        "#]],
        );
        let utf16: Vec<u8> = RECORD.encode_utf16().flat_map(u16::to_le_bytes).collect();
        check(
            &utf16,
            expect![[r#"
            1:1: error[file-utf16]: expected UTF-8, found UTF-16LE
        "#]],
        );
        check(
            [&[0xFE, 0xFF], &utf16[1..]].concat(),
            expect![[r#"
            1:1: error[file-utf16]: expected UTF-8, found UTF-16BE
        "#]],
        );
    }

    #[test]
    fn bytes_that_are_not_utf8_are_found_and_the_line_is_checked_all_the_same() {
        let latin1 = b"{\"messages\":[{\"role\":\"user\",\"content\":\"caf\xe9 \xe9\"},{\"role\":\"bot\",\"content\":\"ok\"}]}\n";
        check(
            latin1,
            expect![[r#"
            1:43: error[file-not-utf8]: expected UTF-8, found byte 0xE9 at byte 42 of the file, 2 such bytes in this line
            1:57: error[unknown-role] /messages/1/role: expected role `system`, `user`, `assistant` or `tool`, found `bot`
        "#]],
        );
        check(
            [RECORD.as_bytes(), b"\n{\"messages\":[{\"role\":\"user\",\"content\":\"\xe2\x82"].concat(),
            expect![[r#"
                2:40: error[file-not-utf8]: expected UTF-8, found byte 0xE2 at byte 132 of the file, 2 such bytes in this line
                2:42: error[truncated-line] /messages/0/content: the record ends inside a string
            "#]],
        );
    }

    #[test]
    fn a_byte_order_mark_is_skipped_at_the_start_and_an_error_inside() {
        let other = RECORD.replace("Hi", "Hey");
        check(
            format!("\u{FEFF}{RECORD}\n\u{FEFF}{other}\n"),
            expect![[r#"
            1:1: warning[file-bom]: expected `{`, found a byte order mark (EF BB BF) before it
            2:1: error[bom-mid-file]: expected a record, found a byte order mark (U+FEFF)
        "#]],
        );
        let azure = ReadOptions::new(Method::Sft, Profile::Azure);
        check_with(
            &azure,
            RECORD,
            expect![[r#"
            1:1: warning[file-bom]: expected a byte order mark (EF BB BF), found none
        "#]],
        );
        check_with(&azure, format!("\u{FEFF}{RECORD}"), expect![[""]]);
    }

    #[test]
    fn line_ends_and_blank_lines_are_told_apart() {
        let other = RECORD.replace("Hi", "Hey");
        check(format!("{RECORD}\r\n{other}\r\n"), expect![[""]]);
        check(
            format!("{RECORD}\r{other}\r"),
            expect![[r#"
            1:1: error[bare-cr-line-endings]: expected lines that end with `\n`, found `\r` alone
        "#]],
        );
        check(
            format!("{RECORD}\n  \n{other}\n\n\n"),
            expect![[r#"
            2:1: warning[blank-line]: expected a record, found a blank line
            4:1: warning[trailing-blank-lines]: expected the end of the file, found 2 blank lines
        "#]],
        );
        let cr = format!("{RECORD}\r{other}");
        assert_eq!(read_all(cr.as_bytes(), &azureless()).1.len(), 2, "the records are still read");
    }

    fn azureless() -> ReadOptions {
        ReadOptions::new(Method::Sft, Profile::Local)
    }

    #[test]
    fn only_the_name_jsonl_is_accepted() {
        let mut rules = Vec::new();
        for file in ["a.jsonl", "-", "b.json", "c", "d.jsonl.txt"] {
            let mut sink = |item| {
                if let crate::Item::Diagnostic(diagnostic) = item
                    && diagnostic.rule == "file-extension"
                {
                    rules.push(diagnostic.message);
                }
            };
            crate::read(&mut RECORD.as_bytes(), file, &azureless(), &mut sink).unwrap();
        }
        expect![[r#"
            expected a name that ends in `.jsonl`, found `.json`
            expected a name that ends in `.jsonl`, found no extension
            expected a name that ends in `.jsonl`, found `.txt`"#]]
        .assert_eq(&rules.join("\n"));
    }
}
