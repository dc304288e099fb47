//! JSON with a place for everything: each value knows its bytes in the text, duplicate keys are kept, and a fault
//! is named by its cause.
//!
//! The tree is one flat list of nodes in reading order, without a box per value; a string without escapes is borrowed
//! from the text. Small faults (a trailing comma, a raw tab in a string) are noted and read past, so that one pass
//! finds them all; a fault after which nothing can be trusted ends the tree.

mod cause;
mod close;
mod diagnose;
mod parse;
mod text;

use std::borrow::Cow;

pub use cause::{Cause, Fault};
pub(crate) use close::missing_brackets;
pub use parse::MAX_DEPTH;

/// What a value is. A member's name is a node of its own, before its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Null,
    False,
    True,
    Number,
    String,
    Key,
    Array,
    Object,
}

/// One value: its bytes, and the index of the node after everything inside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) after: u32,
    pub(crate) kind: Kind,
    /// A string or key with a backslash in it: its text differs from its bytes.
    pub(crate) escaped: bool,
    /// Some escape in it is another than of a quote, a backslash, a tab or a line break.
    pub(crate) rare: bool,
}

/// The parser's buffers, kept from text to text.
#[derive(Default)]
pub struct Parser {
    nodes: Vec<Node>,
    open: Vec<u32>,
    faults: Vec<Fault>,
}

/// The first value of a text, and what was wrong with it.
#[derive(Clone, Copy)]
pub struct Parsed<'t> {
    pub(crate) tree: Tree<'t>,
    /// In the order of the text. A tree with faults is what was meant, as far as it can be told.
    pub faults: &'t [Fault],
    /// Byte offset behind the value, and behind the whitespace after it.
    pub end: usize,
    complete: bool,
    rare_escape: bool,
    wide: bool,
}

#[derive(Clone, Copy)]
pub(crate) struct Tree<'t> {
    pub(crate) text: &'t str,
    pub(crate) nodes: &'t [Node],
}

impl Parser {
    /// Reads the first value of `text` at or after byte `start`.
    ///
    /// # Panics
    /// If `text` has 4 GiB or more: offsets are 32 bits wide. Lines are capped far below.
    pub fn parse<'t>(&'t mut self, text: &'t str, start: usize) -> Parsed<'t> {
        assert!(u32::try_from(text.len()).is_ok(), "a JSON text has at most 4 GiB");
        let parse::Outcome { complete, end, rare_escape, wide } =
            parse::parse(text, start, &mut self.nodes, &mut self.open, &mut self.faults);
        Parsed { tree: Tree { text, nodes: &self.nodes }, faults: &self.faults, end, complete, rare_escape, wide }
    }
}

impl<'t> Parsed<'t> {
    /// The value, unless a fault ended it early or there is none.
    pub fn root(&self) -> Option<Value<'t>> {
        self.complete.then_some(Value::new(self.tree, 0))
    }

    /// What stands first inside of the outer array or object, whole or not.
    pub(crate) fn first(&self) -> Option<Value<'t>> {
        (self.tree.nodes.len() > 1).then_some(Value::new(self.tree, 1))
    }

    /// Whether every string is printable ASCII, tabs and line breaks: what most texts in English are.
    pub(crate) fn is_plain(&self) -> bool {
        !self.rare_escape && !self.wide
    }

    /// Whether a string has an escape in it other than of a quote, a backslash, a slash, a tab or a line break.
    pub(crate) fn has_rare_escape(&self) -> bool {
        self.rare_escape
    }
}

/// One value of a parsed text. Cheap to copy.
#[derive(Clone, Copy)]
pub struct Value<'t> {
    tree: Tree<'t>,
    index: u32,
}

/// A name and its value.
#[derive(Clone, Copy)]
pub struct Member<'t> {
    pub key: Value<'t>,
    pub value: Value<'t>,
}

impl<'t> Value<'t> {
    pub(crate) fn new(tree: Tree<'t>, index: u32) -> Value<'t> {
        Value { tree, index }
    }

    fn node(&self) -> Node {
        self.tree.nodes[self.index as usize]
    }

    fn at(&self, index: u32) -> Value<'t> {
        Value::new(self.tree, index)
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// This value and everything inside it, in the order of the text.
    pub(crate) fn nodes(&self) -> &'t [Node] {
        &self.tree.nodes[self.index as usize..self.node().after as usize]
    }

    /// The value of the node that is `further` behind this one's.
    ///
    /// # Panics
    /// When it is used, if there is no such node.
    pub(crate) fn behind(&self, further: u32) -> Value<'t> {
        self.at(self.index + further)
    }

    pub fn kind(&self) -> Kind {
        self.node().kind
    }

    pub fn is_null(&self) -> bool {
        self.kind() == Kind::Null
    }

    /// Byte offsets in the text: a string with its quotes, an array or object with its brackets.
    pub fn span(&self) -> std::ops::Range<usize> {
        let node = self.node();
        node.start as usize..node.end as usize
    }

    /// The text that the value stands in.
    pub(crate) fn tree_text(&self) -> &'t str {
        self.tree.text
    }

    /// The bytes as written.
    pub fn raw(&self) -> &'t str {
        &self.tree.text[self.span()]
    }

    /// The text of a string or key, escapes resolved; `None` for any other kind.
    ///
    /// A broken escape stands for itself and half a surrogate pair for U+FFFD: both are faults already.
    pub fn text(&self) -> Option<Cow<'t, str>> {
        let node = self.node();
        if !matches!(node.kind, Kind::String | Kind::Key) {
            return None;
        }
        let inner = self.inner();
        Some(if node.escaped { Cow::Owned(text::unescape(inner)) } else { Cow::Borrowed(inner) })
    }

    /// The text of a string or key in one way of writing: equal texts are equal here, and most are borrowed.
    ///
    /// Escaped are quotes, backslashes, tabs and line breaks, and nothing else.
    ///
    /// # Panics
    /// If the value is neither.
    pub(crate) fn canonical(&self) -> Cow<'t, str> {
        let inner = self.inner();
        if self.node().rare { Cow::Owned(text::escape_again(&text::unescape(inner))) } else { Cow::Borrowed(inner) }
    }

    /// A string of nothing but whitespace (or of nothing).
    pub(crate) fn is_blank(&self) -> bool {
        // Most texts begin with a letter: no need to resolve their escapes.
        let begins_black = self.inner().starts_with(|char: char| char != '\\' && !char.is_whitespace());
        !begins_black && self.text().is_some_and(|text| text.trim().is_empty())
    }

    /// A string with no other escapes than of a quote, a backslash, a tab or a line break.
    pub(crate) fn is_simple(&self) -> bool {
        let node = self.node();
        node.kind == Kind::String && !node.rare
    }

    /// Between the quotes, as written.
    pub(crate) fn inner(&self) -> &'t str {
        debug_assert!(matches!(self.kind(), Kind::String | Kind::Key));
        let span = self.span();
        &self.tree.text[span.start + 1..span.end - 1]
    }

    /// Byte offset in the whole text of the character at byte `offset` of [`Value::text`].
    pub fn text_offset(&self, offset: usize) -> usize {
        let start = self.span().start + 1;
        if self.node().escaped { start + text::raw_offset(self.inner(), offset) } else { start + offset }
    }

    /// [`Value::text_offset`] of the byte that is `more` behind the one that stands at byte `known` of the whole text.
    pub(crate) fn text_offset_after(&self, known: usize, more: usize) -> usize {
        let rest = &self.tree.text[known..self.span().end - 1];
        if self.node().escaped { known + text::raw_offset(rest, more) } else { known + more }
    }

    /// Whether this key (or string) reads `name`.
    pub fn is(&self, name: &str) -> bool {
        let node = self.node();
        match node.escaped {
            false => matches!(node.kind, Kind::String | Kind::Key) && self.inner() == name,
            true => self.text().is_some_and(|text| text == name),
        }
    }

    /// The members of an object in order, duplicates included; nothing for any other kind.
    pub fn members(&self) -> impl Iterator<Item = Member<'t>> + use<'t> {
        let node = self.node();
        let end = if node.kind == Kind::Object { node.after } else { 0 };
        let (object, mut next) = (*self, self.index + 1);
        std::iter::from_fn(move || {
            (next + 1 < end).then(|| {
                let (key, value) = (object.at(next), object.at(next + 1));
                next = value.node().after;
                Member { key, value }
            })
        })
    }

    /// The items of an array; nothing for any other kind.
    pub fn items(&self) -> impl Iterator<Item = Value<'t>> + use<'t> {
        let node = self.node();
        let end = if node.kind == Kind::Array { node.after } else { 0 };
        let (array, mut next) = (*self, self.index + 1);
        std::iter::from_fn(move || {
            (next < end).then(|| {
                let item = array.at(next);
                next = item.node().after;
                item
            })
        })
    }

    /// The member of this name; the last one where a name is given twice, as Python and serde read it.
    pub fn get(&self, name: &str) -> Option<Value<'t>> {
        let object = self.node();
        let after = if object.kind == Kind::Object { object.after } else { 0 };
        let (mut key, mut found) = (self.index + 1, None);
        // Straight over the nodes: rules ask for many names that most objects do not have.
        while key + 1 < after {
            let node = &self.tree.nodes[key as usize];
            let is_it = match node.escaped {
                false => &self.tree.text.as_bytes()[node.start as usize + 1..node.end as usize - 1] == name.as_bytes(),
                true => self.at(key).is(name),
            };
            if is_it {
                found = Some(key + 1);
            }
            key = self.tree.nodes[key as usize + 1].after;
        }
        found.map(|index| self.at(index))
    }

    /// Every string and key inside this value, in order.
    pub(crate) fn strings(&self) -> impl Iterator<Item = Value<'t>> + use<'t> {
        let value = *self;
        (self.index..self.node().after)
            .map(move |index| value.at(index))
            .filter(|value| matches!(value.kind(), Kind::String | Kind::Key))
    }

    /// The string, key, number or word inside this value that byte `offset` of the whole text is in.
    pub(crate) fn scalar_at(&self, offset: usize) -> Option<Value<'t>> {
        let nodes = &self.tree.nodes[self.index as usize..self.node().after as usize];
        // Nodes are in the order of the text.
        let last = nodes.partition_point(|node| node.start as usize <= offset).checked_sub(1)?;
        let value = self.at(self.index + last as u32);
        let scalar = !matches!(value.kind(), Kind::Array | Kind::Object);
        (scalar && offset < value.span().end).then_some(value)
    }

    /// Every object inside this value, itself included.
    pub(crate) fn objects(&self) -> impl Iterator<Item = Value<'t>> + use<'t> {
        let value = *self;
        (self.index..self.node().after).map(move |index| value.at(index)).filter(|value| value.kind() == Kind::Object)
    }

    /// The kind in words, with its article: for "expected …, found …".
    pub fn described(&self) -> &'static str {
        match self.kind() {
            Kind::Null => "null",
            Kind::False | Kind::True => "a boolean",
            Kind::Number => "a number",
            Kind::String | Kind::Key => "a string",
            Kind::Array => "an array",
            Kind::Object => "an object",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_knows_its_bytes_and_its_text() {
        let text = r#" {"a": [1, "x\ny", null], "b": {"c": true}} "#;
        let mut parser = Parser::default();
        let parsed = parser.parse(text, 0);
        assert!(parsed.faults.is_empty());
        assert_eq!(parsed.end, text.len());
        let root = parsed.root().unwrap();
        let items: Vec<_> = root.get("a").unwrap().items().collect();
        assert_eq!(items.iter().map(|item| item.raw()).collect::<Vec<_>>(), ["1", r#""x\ny""#, "null"]);
        assert_eq!(items[1].text().unwrap(), "x\ny");
        assert_eq!(&text[items[1].text_offset(2)..][..1], "y");
        assert_eq!(root.get("b").unwrap().get("c").unwrap().kind(), Kind::True);
    }

    #[test]
    fn duplicate_keys_are_kept_and_the_last_one_counts() {
        let mut parser = Parser::default();
        let root = parser.parse(r#"{"a":1,"\u0061":2}"#, 0).root().unwrap();
        assert_eq!(root.members().count(), 2);
        assert_eq!(root.get("a").unwrap().raw(), "2");
    }

    #[test]
    fn a_place_in_the_text_leads_to_its_value() {
        let text = r#"{"a": [1, "xy"], "b": true}"#;
        let mut parser = Parser::default();
        let root = parser.parse(text, 0).root().unwrap();
        let at = |part: &str| root.scalar_at(text.find(part).unwrap()).map(|value| value.raw());
        assert_eq!([at("a"), at("1"), at("y"), at("rue")], [Some("\"a\""), Some("1"), Some("\"xy\""), Some("true")]);
        assert_eq!([at("{"), at("["), at("]"), at(", \"b")], [None; 4]);
    }

    #[test]
    fn empty_containers_have_nothing_inside() {
        let mut parser = Parser::default();
        let root = parser.parse(r#"[{},[],""]"#, 0).root().unwrap();
        let items: Vec<_> = root.items().collect();
        assert_eq!(items.len(), 3);
        assert_eq!(items[0].members().count() + items[1].items().count(), 0);
        assert_eq!(items[2].text().unwrap(), "");
    }
}
