//! Changes of a JSON text at byte ranges: what is not named stays as it was written.

use std::ops::Range;

use crate::json::{Kind, Member, Value};

/// A range of the text, and what comes in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) range: Range<usize>,
    pub(super) text: String,
}

impl Edit {
    pub(super) fn new(range: Range<usize>, text: impl Into<String>) -> Edit {
        Edit { range, text: text.into() }
    }

    pub(super) fn delete(range: Range<usize>) -> Edit {
        Edit::new(range, "")
    }

    pub(super) fn insert(at: usize, text: impl Into<String>) -> Edit {
        Edit::new(at..at, text)
    }

    /// The value in its place is `text`, which is JSON.
    pub(super) fn replace(value: Value, text: impl Into<String>) -> Edit {
        Edit::new(value.span(), text)
    }

    /// Whether the two cannot both be applied.
    pub(super) fn overlaps(&self, other: &Edit) -> bool {
        let (a, b) = (&self.range, &other.range);
        (a.start < b.end && b.start < a.end) || (a.start == b.start && (a.is_empty() || b.is_empty()))
    }
}

/// `text` with the edits, which do not overlap.
pub(super) fn apply(text: &str, edits: &mut [Edit]) -> String {
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let mut changed = String::with_capacity(text.len());
    let mut at = 0;
    for edit in edits.iter() {
        debug_assert!(edit.range.start >= at, "edits overlap");
        changed.push_str(&text[at..edit.range.start]);
        changed.push_str(&edit.text);
        at = edit.range.end;
    }
    changed + &text[at..]
}

/// `text` as a JSON string; characters beyond ASCII stay as they are.
pub(super) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The last member of this name: the one that readers take.
pub(super) fn member<'t>(object: Value<'t>, name: &str) -> Option<Member<'t>> {
    object.members().filter(|member| member.key.is(name)).last()
}

/// Takes the member whose name stands at byte `key` out of its object, with its comma.
pub(super) fn remove_member(object: Value, key: usize) -> Option<Edit> {
    let spans = object.members().map(|member| member.key.span().start..member.value.span().end);
    without(spans.collect(), key)
}

/// Takes the item that begins at byte `start` out of its array, with its comma.
pub(super) fn remove_item(array: Value, start: usize) -> Option<Edit> {
    without(array.items().map(|item| item.span()).collect(), start)
}

fn without(spans: Vec<Range<usize>>, start: usize) -> Option<Edit> {
    let index = spans.iter().position(|span| span.start == start)?;
    Some(Edit::delete(match (spans.get(index + 1), index.checked_sub(1)) {
        (Some(next), _) => spans[index].start..next.start,
        (None, Some(before)) => spans[before].end..spans[index].end,
        (None, None) => spans[index].clone(),
    }))
}

/// Puts a member at the head of an object.
pub(super) fn insert_member(object: Value, name: &str, value: &str) -> Edit {
    let first = object.members().next();
    let space = if first.is_none_or(|member| spaced(member)) { " " } else { "" };
    let comma = if first.is_some() { format!(",{space}") } else { String::new() };
    Edit::insert(object.span().start + 1, format!("{}:{space}{value}{comma}", quote(name)))
}

/// Whether the file writes `"a": 1` and not `"a":1`.
fn spaced(member: Member) -> bool {
    let text = member.key.tree_text();
    text[member.key.span().end..member.value.span().start].ends_with(' ')
}

/// The name becomes another one.
pub(super) fn rename(member: Member, name: &str) -> Edit {
    Edit::replace(member.key, quote(name))
}

/// The value in brackets of an array.
pub(super) fn in_list(value: Value) -> Edit {
    Edit::replace(value, format!("[{}]", value.raw()))
}

/// Whether a value says nothing: taking it out loses no information.
pub(super) fn says_nothing(value: Value) -> bool {
    match value.kind() {
        Kind::Null => true,
        Kind::String => value.is_blank(),
        Kind::Array => value.items().next().is_none(),
        Kind::Object => value.members().next().is_none(),
        _ => false,
    }
}

/// Calls `look` with every value inside `value`, itself and names included.
pub(super) fn each<'t>(value: Value<'t>, look: &mut dyn FnMut(Value<'t>)) {
    look(value);
    for member in value.members() {
        look(member.key);
        each(member.value, look);
    }
    value.items().for_each(|item| each(item, look));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Parser;

    #[track_caller]
    fn check(text: &str, edit: impl Fn(Value) -> Edit, expected: &str) {
        let mut parser = Parser::default();
        let root = parser.parse(text, 0).root().unwrap();
        assert_eq!(apply(text, &mut [edit(root)]), expected);
    }

    #[test]
    fn a_member_goes_with_its_comma() {
        let remove = |name: &'static str| {
            move |root: Value| remove_member(root, member(root, name).unwrap().key.span().start).unwrap()
        };
        check(r#"{"a": 1, "b": 2, "c": 3}"#, remove("a"), r#"{"b": 2, "c": 3}"#);
        check(r#"{"a": 1, "b": 2, "c": 3}"#, remove("b"), r#"{"a": 1, "c": 3}"#);
        check(r#"{"a": 1, "b": 2, "c": 3}"#, remove("c"), r#"{"a": 1, "b": 2}"#);
        check(r#"{ "a": 1 }"#, remove("a"), "{  }");
    }

    #[test]
    fn a_new_member_is_written_as_the_others_are() {
        check(r#"{"a":1}"#, |root| insert_member(root, "t", "2"), r#"{"t":2,"a":1}"#);
        check(r#"{"a": 1}"#, |root| insert_member(root, "t", "2"), r#"{"t": 2, "a": 1}"#);
        check("{}", |root| insert_member(root, "t", "2"), r#"{"t": 2}"#);
    }

    #[test]
    fn edits_overlap_where_one_would_undo_the_other() {
        let edit = |start, end| Edit::delete(start..end);
        assert!(edit(0, 3).overlaps(&edit(2, 4)) && edit(1, 1).overlaps(&edit(1, 1)));
        assert!(!edit(0, 3).overlaps(&edit(3, 4)) && !edit(0, 3).overlaps(&edit(3, 3)));
    }
}
