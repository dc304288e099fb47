//! A text that lacks nothing but its last brackets.

use afina_chat::Role;

use super::{Cause, Parser, Value};
use crate::view::meant_role;

/// The brackets that make `text` whole, where nothing else is missing: every string in it is closed, its last value is
/// complete, and no message of a conversation was cut. `None`: it is whole, or more than brackets lacks.
///
/// A number at the end may have lost digits, and a conversation that ends before its answer has lost that.
pub(crate) fn missing_brackets(text: &str) -> Option<String> {
    let text = text.trim_ascii_end();
    if !text.ends_with(['"', '\'', '}', ']']) && !["true", "false", "null"].iter().any(|word| text.ends_with(word)) {
        return None;
    }
    let brackets = open_brackets(text)?;
    let whole = format!("{text}{brackets}");
    let mut parser = Parser::default();
    let mut at = 0;
    loop {
        let parsed = parser.parse(&whole, at);
        let root = parsed.root()?;
        if parsed.faults.iter().any(|fault| fault.cause == Cause::Comment) {
            return None;
        }
        if parsed.end == whole.len() {
            return is_whole(root, text.len()).then_some(brackets);
        }
        at = parsed.end;
    }
}

/// The closing brackets that lack; `None` in a string, or where none does.
fn open_brackets(text: &str) -> Option<String> {
    let (mut open, mut quote) = (Vec::new(), None);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (Some(_), b'\\') => drop(bytes.next()),
            (Some(closing), _) if byte == closing => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'{') => open.push('}'),
            (None, b'[') => open.push(']'),
            (None, b'}' | b']') => drop(open.pop()),
            (None, _) => {}
        }
    }
    (quote.is_none() && !open.is_empty()).then(|| open.into_iter().rev().collect())
}

/// Whether the record says all that a record of its kind has to; the text that it stood in was `end` bytes long.
fn is_whole(record: Value, end: usize) -> bool {
    let has = |name: &str| record.get(name).is_some();
    let cut = |list: &Value| list.span().end > end;
    let pair = ["preferred_output", "non_preferred_output"].map(has);
    if pair[0] != pair[1] || (has("input") && record.get("input").is_some_and(|input| cut(&input))) {
        return false;
    }
    let lists = ["messages", "preferred_output", "non_preferred_output"].map(|name| record.get(name).filter(cut));
    lists.into_iter().flatten().all(|list| {
        list.items().last().is_some_and(|last| {
            let says = ["content", "tool_calls", "function_call"].iter().any(|name| last.get(name).is_some());
            let role = last.get("role").and_then(|role| meant_role(&role.text()?));
            says && matches!(role, Some(Role::Assistant | Role::Tool | Role::Function))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#;

    #[test]
    fn only_brackets_are_put_behind_what_is_whole() {
        assert_eq!(missing_brackets(WHOLE), None);
        let at_end = |count: usize| missing_brackets(&WHOLE[..WHOLE.len() - count]);
        assert_eq!(at_end(1).as_deref(), Some("}"));
        assert_eq!(at_end(2).as_deref(), Some("]}"));
        assert_eq!(at_end(3).as_deref(), Some("}]}"));
        // From here on the answer is cut, or not there.
        for count in 4..WHOLE.len() {
            assert_eq!(at_end(count), None, "{}", &WHOLE[..WHOLE.len() - count]);
        }
        assert_eq!(missing_brackets("{'messages':[{'role':'assistant','content':'b'}] ").as_deref(), Some("}"));
        assert_eq!(missing_brackets(&format!("{WHOLE} {}", &WHOLE[..WHOLE.len() - 1])).as_deref(), Some("}"));
        assert_eq!(
            missing_brackets(r#"{"messages":[{"role":"user","content":"a"}],"answer":"4""#).as_deref(),
            Some("}")
        );
        assert_eq!(missing_brackets(r#"{"messages":[{"role":"user","content":"a"}],"answer":4"#), None);
        assert_eq!(missing_brackets(r#"{"messages":[{"role":"user","content":"a"}],"tools":[{"type""#), None);
        assert_eq!(missing_brackets(r#"{"messages":[{"role":"user","content":"a"}],"tools":["#), None);
    }

    #[test]
    fn a_pair_has_both_its_answers() {
        let pair = r#"{"input":{"messages":[{"role":"user","content":"a"}]},"preferred_output":[{"role":"assistant","content":"b"}],"non_preferred_output":[{"role":"assistant","content":"c"}]}"#;
        assert_eq!(missing_brackets(&pair[..pair.len() - 2]).as_deref(), Some("]}"));
        let one = pair.find(",\"non").unwrap();
        assert_eq!(missing_brackets(&pair[..one]), None);
        assert_eq!(missing_brackets(&pair[..pair.find(",\"preferred").unwrap() - 1]), None);
    }
}
