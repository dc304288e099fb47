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

pub(super) fn mojibake(context: &Context) -> Option<Mend> {
    let value = context.value();
    let text = value.text()?;
    let mut edits = Vec::new();
    let (mut at, mut first) = (0, None);
    while let Some(char) = text[at..].chars().next() {
        let Some((right, len)) = misread(&text[at..]) else {
            at += char.len_utf8();
            continue;
        };
        first.get_or_insert_with(|| (excerpt(&text[at..at + len]), right));
        let written = quote(&right.to_string());
        edits.push(Edit::new(value.text_offset(at)..value.text_offset(at + len), &written[1..written.len() - 1]));
        at += len;
    }
    let (wrong, right) = first?;
    let more = if edits.len() > 1 { format!(", and {} more characters", edits.len() - 1) } else { String::new() };
    Mend::not_safe(format!("wrote `{right}` for `{wrong}`{more}"), edits)
}
