//! Fixes of the words of a text: all of them change what is trained, so none is safe.

use crate::{
    Severity,
    diagnostic::excerpt,
    fix::{
        edit::{Edit, quote},
        mend::{Context, Mend},
    },
    rules::text::misread,
    tokens,
};

/// Every occurrence of the control token that was found.
pub(super) fn special_token_in_content(context: &Context) -> Option<Mend> {
    let value = context.value();
    let text = value.text().filter(|_| context.severity == Severity::Error)?;
    let given = &context.options.control_tokens;
    let (_, token, _) = tokens::find(&text, 0, given).find(|(at, ..)| value.text_offset(*at) == context.at)?;
    let range = |at: usize| value.text_offset(at)..value.text_offset(at + token.len());
    let edits: Vec<_> = text.match_indices(token).map(|(at, _)| Edit::delete(range(at))).collect();
    Mend::not_safe(format!("removed `{token}` from a text"), edits)
}

pub(super) fn assistant_edge_whitespace(context: &Context) -> Option<Mend> {
    let value = context.value();
    let text = value.text()?;
    let start = text.len() - text.trim_start().len();
    let inner = value.span().start + 1..value.span().end - 1;
    let mut edits = Vec::new();
    if start > 0 {
        edits.push(Edit::delete(inner.start..value.text_offset(start)));
    }
    if text.trim_end().len() < text.len() {
        edits.push(Edit::delete(value.text_offset(text.trim_end().len())..inner.end));
    }
    Mend::not_safe("removed whitespace around an answer", edits)
}

pub(super) fn nul_char(context: &Context) -> Option<Mend> {
    let value = context.value();
    let text = value.text()?;
    Mend::not_safe("removed U+0000 from a text", [Edit::replace(value, quote(&text.replace('\0', "")))])
}

/// Text that was misread several times is read back as often, in one sweep.
pub(super) fn mojibake(context: &Context) -> Option<Mend> {
    let value = context.value();
    let text = value.text()?;
    let mut read: Vec<Read> = Vec::new();
    for (start, char) in text.char_indices() {
        read.push(Read { start, end: start + char.len_utf8(), char, mended: false });
        while let Some((from, char)) = misread_end(&read) {
            let start = read[from].start;
            let end = read[read.len() - 1].end;
            read.truncate(from);
            read.push(Read { start, end, char, mended: true });
        }
    }
    let mended: Vec<&Read> = read.iter().filter(|read| read.mended).collect();
    let first = mended.first()?;
    let edits = mended.iter().map(|read| {
        let written = quote(&read.char.to_string());
        Edit::new(value.text_offset(read.start)..value.text_offset(read.end), &written[1..written.len() - 1])
    });
    let more = if mended.len() > 1 { format!(", and {} more", mended.len() - 1) } else { String::new() };
    let wrong = excerpt(&text[first.start..first.end]);
    Mend::not_safe(format!("wrote `{}` for `{wrong}`{more}", first.char), edits.collect::<Vec<_>>())
}

/// A character, and the bytes of the text that it was read from.
struct Read {
    start: usize,
    end: usize,
    char: char,
    mended: bool,
}

/// Where the character begins that the last ones were before they were misread, and which it was.
fn misread_end(read: &[Read]) -> Option<(usize, char)> {
    (2..=4.min(read.len())).rev().find_map(|count| {
        let from = read.len() - count;
        let last: String = read[from..].iter().map(|read| read.char).collect();
        misread(&last).filter(|(_, len)| *len == last.len()).map(|(char, _)| (from, char))
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::fix::tests::check_unsafe;

    #[test]
    fn what_was_misread_many_times_is_read_back_at_once() {
        let record = |text: &str| {
            format!(r#"{{"messages":[{{"role":"user","content":"{text}"}},{{"role":"assistant","content":"ok"}}]}}"#)
        };
        let often = format!("1{}º", "Â".repeat(40));
        check_unsafe(
            [record("cafÃƒÂ© Ã±"), record(&often), record("Âme â‚¬")].join("\n"),
            expect![[r#"
            {"messages":[{"role":"user","content":"café ñ"},{"role":"assistant","content":"ok"}]}
            {"messages":[{"role":"user","content":"1º"},{"role":"assistant","content":"ok"}]}
            {"messages":[{"role":"user","content":"Âme €"},{"role":"assistant","content":"ok"}]}──
            1 → 1: mojibake: wrote `é` for `ÃƒÂ©`, and 1 more (unsafe)
            2 → 2: mojibake: wrote `º` for `ÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂÂ…` (unsafe)
            3 → 3: mojibake: wrote `€` for `â‚¬` (unsafe)
        "#]],
        );
    }
}
