//! A file without its secrets and personal data: `<EMAIL_1>` for each, the same for the same value.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    io::{self, BufRead, Read, Write},
    ops::Range,
};

use serde::Serialize;

use super::{Found, Kind, Wanted, candidates::Candidates, find, record::for_candidates};
use crate::{
    json::{Kind as Json, Parser, Value},
    jsonl::MAX_LINE_BYTES,
};

/// What was taken out of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Redaction {
    pub lines: usize,
    pub changed_lines: usize,
    /// Changed lines that are no JSON: they were changed as plain text.
    pub changed_as_text: usize,
    pub kinds: BTreeMap<Kind, Count>,
}

/// How often a kind was taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    pub places: usize,
    /// Different values.
    pub values: usize,
}

/// Why a file was not redacted to its end.
#[derive(Debug, thiserror::Error)]
pub enum RedactError {
    #[error("failed to read or write")]
    Io(#[from] io::Error),
    #[error("line {line}: expected UTF-8 text, found a NUL byte")]
    NotText { line: usize },
    #[error("line {line}: expected at most {MAX_LINE_BYTES} bytes, found more")]
    LineTooLong { line: usize },
}

/// Copies a file and puts a placeholder for every secret and every piece of personal data in its strings.
///
/// One line in memory at a time, and a number for each different value. A line in which nothing is found is copied byte
/// for byte; in the others all other bytes stay. A JSON text inside a string (the arguments of a tool call) stays JSON:
/// a number in it becomes a string. A line that is no valid JSON is changed as plain text, so that nothing gets through
/// because a comma is missing; bytes that are not UTF-8 are copied. Numbers of a record outside of its strings stay.
///
/// In the output nothing is found any more, so doing it again changes nothing. Placeholders that the file has already
/// are not told from new ones: redact a file once, from its source.
pub fn redact(source: &mut dyn BufRead, out: &mut dyn Write, wanted: Wanted) -> Result<Redaction, RedactError> {
    let mut redacting = Redacting { wanted, names: Names::default(), report: Redaction::default() };
    let (mut line, mut parser) = (Vec::new(), Parser::default());
    loop {
        line.clear();
        if (&mut *source).take(MAX_LINE_BYTES as u64 + 2).read_until(b'\n', &mut line)? == 0 {
            redacting.report.kinds = redacting.names.counts;
            return Ok(redacting.report);
        }
        redacting.report.lines += 1;
        let number = redacting.report.lines;
        if line.trim_ascii_end().len() > MAX_LINE_BYTES {
            return Err(RedactError::LineTooLong { line: number });
        }
        if memchr::memchr(0, &line).is_some() {
            return Err(RedactError::NotText { line: number });
        }
        match redacting.line(&line, &mut parser) {
            Some(changed) => {
                redacting.report.changed_lines += 1;
                out.write_all(&changed)?;
            }
            None => out.write_all(&line)?,
        }
    }
}

struct Redacting {
    wanted: Wanted,
    names: Names,
    report: Redaction,
}

impl Redacting {
    /// The line with its placeholders; `None` where there is nothing to replace.
    fn line(&mut self, line: &[u8], parser: &mut Parser) -> Option<Vec<u8>> {
        Candidates::new(line, 0, self.wanted).next(0)?;
        if let Ok(text) = std::str::from_utf8(line) {
            return self.text_of_line(text, parser).map(String::into_bytes);
        }
        let mut changed = false;
        let mut bytes = Vec::with_capacity(line.len());
        for chunk in line.utf8_chunks() {
            let redacted = self.plain(chunk.valid());
            changed |= redacted.is_some();
            bytes.extend(redacted.as_deref().unwrap_or(chunk.valid()).bytes());
            bytes.extend(chunk.invalid());
        }
        self.report.changed_as_text += usize::from(changed);
        changed.then_some(bytes)
    }

    fn text_of_line(&mut self, text: &str, parser: &mut Parser) -> Option<String> {
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        let mut at = if text.starts_with('\u{FEFF}') { '\u{FEFF}'.len_utf8() } else { 0 };
        while !text[at..].trim_ascii().is_empty() {
            let parsed = parser.parse(text, at);
            let Some(root) = parsed.root().filter(|_| parsed.faults.is_empty()) else {
                if let Some(redacted) = self.plain(&text[at..]) {
                    self.report.changed_as_text += 1;
                    edits.push((at..text.len(), redacted));
                }
                break;
            };
            for_candidates(root, self.wanted, |value, text, found| {
                edits.push((value.span(), self.string(value, text, &found)));
            });
            at = parsed.end;
        }
        (!edits.is_empty()).then(|| apply(text, &edits))
    }

    /// A string as JSON, with its quotes: until nothing is found in it.
    fn string(&mut self, value: Value, text: &str, found: &[Found]) -> String {
        let mut raw = self.replaced(value, text, found);
        let mut parser = Parser::default();
        loop {
            // What stood beside a value may be one only now that the value is gone.
            let again = parser.parse(&raw, 0).root().and_then(|value| {
                let text = value.text()?;
                let found = find(&text, self.wanted);
                (!found.is_empty()).then(|| self.replaced(value, &text, &found))
            });
            match again {
                Some(again) => raw = again,
                None => return raw,
            }
        }
    }

    /// A string as JSON, with placeholders for what was found in its text.
    fn replaced(&mut self, value: Value, text: &str, found: &[Found]) -> String {
        let mut parser = Parser::default();
        let inside = json_inside(text, &mut parser);
        let raw_start = value.span().start;
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        let (mut from, mut raw_from) = (0, value.text_offset(0));
        let mut raw_offset = |offset: usize| {
            raw_from = value.text_offset_after(raw_from, offset - from);
            from = offset;
            raw_from - raw_start
        };
        let mut done = 0;
        for found in found {
            let name = self.names.name(text, found);
            let (range, name) = fit(inside, found.span.clone(), name);
            // Otherwise both are in one number of a JSON text inside.
            if range.start >= done {
                done = range.end;
                edits.push((raw_offset(range.start)..raw_offset(range.end), escaped(&name)));
            }
        }
        apply(value.raw(), &edits)
    }

    fn plain(&mut self, text: &str) -> Option<String> {
        let mut redacted: Option<String> = None;
        loop {
            let current = redacted.as_deref().unwrap_or(text);
            let found = find(current, self.wanted);
            if found.is_empty() {
                return redacted;
            }
            let edits: Vec<_> =
                found.iter().map(|found| (found.span.clone(), self.names.name(current, found))).collect();
            redacted = Some(apply(current, &edits));
        }
    }
}

fn apply(text: &str, edits: &[(Range<usize>, String)]) -> String {
    let mut changed = String::with_capacity(text.len());
    let mut from = 0;
    for (range, with) in edits {
        changed.push_str(&text[from..range.start]);
        changed.push_str(with);
        from = range.end;
    }
    changed + &text[from..]
}

/// As in a JSON string, without the quotes.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The JSON text that a text is, if it is one.
fn json_inside<'t>(text: &'t str, parser: &'t mut Parser) -> Option<Value<'t>> {
    if !text.trim_ascii_start().starts_with(['{', '[']) {
        return None;
    }
    let parsed = parser.parse(text, 0);
    parsed.root().filter(|_| parsed.faults.is_empty() && parsed.end == text.len())
}

/// What to put where in a text, so that the JSON text `inside` it stays one: for a number a string, with its quotes.
fn fit(inside: Option<Value>, span: Range<usize>, name: String) -> (Range<usize>, String) {
    match inside.and_then(|root| root.scalar_at(span.start)) {
        Some(value) if value.kind() == Json::Number => (value.span(), format!("\"{name}\"")),
        Some(value) if matches!(value.kind(), Json::String | Json::Key) && span.end < value.span().end => {
            let mut parser = Parser::default();
            let Some(text) = value.text() else { return (span, name) };
            let Some(inside) = json_inside(&text, &mut parser) else { return (span, name) };
            let (start, end) = (offset_in(value, &text, span.start), offset_in(value, &text, span.end));
            let (range, name) = fit(Some(inside), start..end, name);
            (value.text_offset(range.start)..value.text_offset(range.end), escaped(&name))
        }
        _ => (span, name),
    }
}

/// Where in the text of `value` byte `at` of the text around it stands.
fn offset_in(value: Value, text: &str, at: usize) -> usize {
    let (mut low, mut high) = (0, text.len());
    while low < high {
        let middle = (low + high) / 2;
        if value.text_offset(middle) < at { low = middle + 1 } else { high = middle }
    }
    low
}

/// The placeholders that were given. A value is kept as a number of 64 bits: among a million different ones two have
/// the same with a probability of 3 in 10⁸.
#[derive(Default)]
struct Names {
    given: HashMap<u64, usize>,
    counts: BTreeMap<Kind, Count>,
}

impl Names {
    fn name(&mut self, text: &str, found: &Found) -> String {
        let value = &text[found.span.clone()];
        let same = match found.kind {
            Kind::Secret | Kind::Ip => value.to_owned(),
            Kind::Email => value.to_lowercase(),
            Kind::Phone => {
                // With the country's code or without it; nine digits at the end tell two people apart.
                let digits: String = value.chars().filter(char::is_ascii_digit).collect();
                digits[digits.len().saturating_sub(9)..].to_owned()
            }
            _ => value.chars().filter(|char| char.is_ascii_alphanumeric()).collect::<String>().to_uppercase(),
        };
        let key = rapidhash::v3::rapidhash_v3(format!("{} {same}", found.kind.label()).as_bytes());
        let count = self.counts.entry(found.kind).or_default();
        count.places += 1;
        let number = match self.given.entry(key) {
            Entry::Occupied(number) => *number.get(),
            Entry::Vacant(entry) => {
                count.values += 1;
                *entry.insert(count.values)
            }
        };
        format!("<{}_{number}>", found.kind.label())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::{Random, mutate};

    fn redacted(text: &[u8]) -> (Vec<u8>, Redaction) {
        let mut out = Vec::new();
        let redaction = redact(&mut &*text, &mut out, Wanted::ALL).unwrap();
        (out, redaction)
    }

    #[track_caller]
    fn check(text: &str, expect: Expect) {
        let (out, _) = redacted(text.as_bytes());
        let out = String::from_utf8(out).unwrap();
        expect.assert_eq(&out);
        let (again, redaction) = redacted(out.as_bytes());
        assert_eq!((String::from_utf8(again).unwrap(), redaction.changed_lines), (out, 0));
    }

    #[test]
    fn the_same_value_has_the_same_placeholder_throughout_the_file() {
        check(
            concat!(
                "{\"messages\":[{\"role\":\"user\",\"content\":\"a@acme.io or A@Acme.io, b@acme.io\"}]}\n",
                "{ \"messages\" : [ ] }\n",
                "{\"content\":\"+34 612 345 678, +34612345678, 0034 612 345 678, tel. 612345678; a@acme.io\"}\n",
            ),
            expect![[r#"
                {"messages":[{"role":"user","content":"<EMAIL_1> or <EMAIL_1>, <EMAIL_2>"}]}
                { "messages" : [ ] }
                {"content":"<PHONE_1>, <PHONE_1>, <PHONE_1>, tel. <PHONE_1>; <EMAIL_1>"}
            "#]],
        );
    }

    #[test]
    fn escapes_stay_and_so_does_all_else() {
        check(
            "{\"content\": \"\\u00e9\\n\\tana@acme.io\\n\\\"x\\\" \\ud83d\\ude00\\/ password=Tr7!kQz9#w\\\\n\"}\n",
            expect![[r#"
                {"content": "\u00e9\n\t<EMAIL_1>\n\"x\" \ud83d\ude00\/ password=<SECRET_1>\\n"}
            "#]],
        );
    }

    #[test]
    fn arguments_of_a_tool_call_stay_json() {
        let line =
            r#"{"arguments":"{\"to\":\"ana@acme.io\",\"card\":4111111111111111,\"in\":\"[5555555555554444]\"}"}"#;
        check(
            line,
            expect![[r#"{"arguments":"{\"to\":\"<EMAIL_1>\",\"card\":\"<CARD_1>\",\"in\":\"[\\\"<CARD_2>\\\"]\"}"}"#]],
        );
        let (out, _) = redacted(line.as_bytes());
        let record: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let arguments: serde_json::Value = serde_json::from_str(record["arguments"].as_str().unwrap()).unwrap();
        assert_eq!(arguments["card"], "<CARD_1>");
        let inner: serde_json::Value = serde_json::from_str(arguments["in"].as_str().unwrap()).unwrap();
        assert_eq!(inner[0], "<CARD_2>");
    }

    #[test]
    fn a_line_that_is_no_json_is_changed_as_text() {
        check(
            "{\"content\": \"a@acme.io\",}\nb@acme.io\n",
            expect![[r#"
            {"content": "<EMAIL_1>",}
            <EMAIL_2>
        "#]],
        );
        let (out, redaction) = redacted(b"{\"a\": \"\xFF a@acme.io \xFE\"}\n");
        assert_eq!(out, b"{\"a\": \"\xFF <EMAIL_1> \xFE\"}\n");
        assert_eq!((redaction.changed_lines, redaction.changed_as_text), (1, 1));
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let utf16: Vec<u8> = "a@acme.io".bytes().flat_map(|byte| [byte, 0]).collect();
        let error = redact(&mut &*utf16, &mut Vec::new(), Wanted::ALL).unwrap_err();
        assert_eq!(error.to_string(), "line 1: expected UTF-8 text, found a NUL byte");
    }

    #[test]
    fn ends_of_lines_and_a_byte_order_mark_stay() {
        let (out, redaction) = redacted("\u{FEFF}{\"a\":\"a@acme.io\"}\r\n{ }\r\n\r\n{\"a\":\"b@acme.io\"}".as_bytes());
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\u{FEFF}{\"a\":\"<EMAIL_1>\"}\r\n{ }\r\n\r\n{\"a\":\"<EMAIL_2>\"}"
        );
        assert_eq!((redaction.lines, redaction.changed_as_text), (4, 0));
    }

    #[test]
    fn counts_are_of_places_and_of_values() {
        let (_, redaction) = redacted(b"{\"a\":\"a@acme.io a@acme.io b@acme.io\"}\n{}\n");
        let count = Count { places: 3, values: 2 };
        assert_eq!(redaction.kinds, BTreeMap::from([(Kind::Email, count)]));
        assert_eq!((redaction.lines, redaction.changed_lines), (2, 1));
    }

    #[test]
    fn only_what_is_wanted_is_taken_out() {
        let line = b"{\"a\":\"a@acme.io password=Tr7!kQz9#w\"}";
        for (wanted, expected) in [
            (Wanted { secrets: true, pii: false }, "{\"a\":\"a@acme.io password=<SECRET_1>\"}"),
            (Wanted { secrets: false, pii: true }, "{\"a\":\"<EMAIL_1> password=Tr7!kQz9#w\"}"),
            (Wanted { secrets: false, pii: false }, "{\"a\":\"a@acme.io password=Tr7!kQz9#w\"}"),
        ] {
            let mut out = Vec::new();
            redact(&mut &line[..], &mut out, wanted).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    /// Whatever the bytes: twice is once, and valid JSON stays valid JSON.
    #[test]
    fn changed_lines_stay_json_and_hold_nothing_more() {
        const SEEDS: [&str; 3] = [
            "{\"content\":\"ana@acme.io \\u00e9 +34 612 345 678\\n4111 1111 1111 1111 ES91 2100 0418 4502 0005 1332\"}\n",
            "{\"arguments\":\"{\\\"n\\\":4111111111111111,\\\"p\\\":\\\"password=Tr7!kQz9#w\\\\nX4567891E\\\"}\"}\n",
            "{\"content\":\"postgres://app:s3cr3tW0rd9x@db.acme.io/x 81.45.120.7 12.345.678-5 (415) 736-2671\"}\n",
        ];
        let mut random = Random(7);
        for round in 0..3000 {
            let text = mutate(SEEDS[round % SEEDS.len()].as_bytes(), &mut random);
            if text.contains(&0) {
                continue;
            }
            let (once, _) = redacted(&text);
            let (twice, _) = redacted(&once);
            let shown = String::from_utf8_lossy(&text);
            assert_eq!(once, twice, "{shown}");
            if serde_json::from_slice::<serde_json::Value>(&text).is_ok() {
                let record = serde_json::from_slice::<serde_json::Value>(&once);
                assert!(record.is_ok(), "{shown} → {}", String::from_utf8_lossy(&once));
            }
        }
    }
}
