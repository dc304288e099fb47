//! What the rules found in one record, before places become lines, columns and pointers.

use crate::{
    diagnostic::{Diagnostic, Severity},
    json::{Fault, Kind, Node, Tree, Value},
    read::ReadOptions,
    report::Window,
};

/// Where in a record: a byte offset for line and column, a node for the pointer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    offset: usize,
    node: u32,
}

impl Place {
    /// Byte `offset` of the record's text, which belongs to no value.
    pub(crate) const fn byte(offset: usize) -> Place {
        Place { offset, node: u32::MAX }
    }

    /// The start of a physical line, whatever is in it.
    pub(crate) const fn line(line: usize) -> Place {
        Place { offset: line, node: Place::LINE }
    }

    const LINE: u32 = u32::MAX - 1;

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// So many bytes and nodes behind this place.
    pub(crate) fn behind(self, (bytes, nodes): (usize, u32)) -> Place {
        Place { offset: self.offset + bytes, node: self.node + nodes }
    }

    /// Byte `offset` of the value as written.
    pub(crate) fn inside(value: Value, offset: usize) -> Place {
        Place { offset: value.span().start + offset, node: value.index() }
    }
}

impl From<Value<'_>> for Place {
    fn from(value: Value) -> Place {
        Place { offset: value.span().start, node: value.index() }
    }
}

/// At byte `.1` of the value's text.
impl From<(Value<'_>, usize)> for Place {
    fn from((value, offset): (Value, usize)) -> Place {
        Place { offset: value.text_offset(offset), node: value.index() }
    }
}

impl From<&Fault> for Place {
    fn from(fault: &Fault) -> Place {
        Place { offset: fault.offset, node: fault.node }
    }
}

struct Finding {
    rule: &'static str,
    severity: Severity,
    place: Place,
    message: String,
    hint: String,
}

/// The findings of one record. Rules get it to add theirs and to see the options they depend on.
pub(crate) struct Findings<'o> {
    pub(crate) options: &'o ReadOptions,
    /// Line of the file that the record begins in.
    pub(crate) first_line: usize,
    list: Vec<Finding>,
    /// Findings above [`MOST`], which are counted only.
    more: usize,
    error: bool,
    cursor: Cursor,
}

/// Findings that are kept of one record: it may be one line of 64 MB with nothing in it but faults.
const MOST: usize = 100_000;

/// A place in the record's text that the last finding was at: the next one is counted from there.
#[derive(Clone, Copy)]
struct Cursor {
    offset: usize,
    line: usize,
    column: usize,
}

impl<'o> Findings<'o> {
    pub(crate) fn new(options: &'o ReadOptions) -> Findings<'o> {
        Findings {
            options,
            first_line: 1,
            list: Vec::new(),
            more: 0,
            error: false,
            cursor: Cursor { offset: 0, line: 1, column: 1 },
        }
    }

    /// The findings from here on are about a text that begins in line `first_line`.
    pub(crate) fn begin(&mut self, first_line: usize) {
        self.first_line = first_line;
        self.cursor = Cursor { offset: 0, line: first_line, column: 1 };
    }

    pub(crate) fn add(
        &mut self,
        severity: Severity,
        rule: &'static str,
        place: impl Into<Place>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if !self.options.wants(rule) {
            return;
        }
        self.error |= severity == Severity::Error;
        if self.list.len() == MOST {
            self.more += 1;
        } else {
            self.list.push(Finding { rule, severity, place: place.into(), message: message.into(), hint: hint.into() });
        }
    }

    pub(crate) fn error(
        &mut self,
        rule: &'static str,
        place: impl Into<Place>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(Severity::Error, rule, place, message, hint);
    }

    pub(crate) fn warning(
        &mut self,
        rule: &'static str,
        place: impl Into<Place>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(Severity::Warning, rule, place, message, hint);
    }

    /// Line and column of byte `offset` of the record's text, for a message that names a second place.
    pub(crate) fn position(&self, text: &str, offset: usize) -> (usize, usize) {
        let before = &text[..offset];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (self.first_line + before.matches('\n').count(), before[line_start..].chars().count() + 1)
    }

    /// How many there are so far, for a rule that remembers where nothing was found.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn has_error(&self) -> bool {
        self.error
    }

    /// Forgets what was found.
    pub(crate) fn clear(&mut self) {
        self.list.clear();
        (self.more, self.error) = (0, false);
    }

    /// Nothing was found since the last [`Findings::resolve`].
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The findings in this tree as diagnostics in the order of the text: one sweep over the text for lines and columns,
    /// one over the tree for pointers, however many findings there are.
    pub(crate) fn resolve(&mut self, tree: Tree, file: &str) -> Vec<Resolved> {
        if self.list.is_empty() {
            return Vec::new();
        }
        self.list.sort_by_key(|finding| finding.place.offset);
        let mut pointers = pointers(tree, &self.list);
        let cursor = &mut self.cursor;
        let resolve = |(finding, pointer): (Finding, &mut String)| {
            let by_line = finding.place.node == Place::LINE;
            let offset = if by_line { 0 } else { tree.text.floor_char_boundary(finding.place.offset) };
            if cursor.offset > offset {
                *cursor = Cursor { offset: 0, line: self.first_line, column: 1 };
            }
            for char in tree.text[cursor.offset..offset].chars() {
                match char {
                    '\n' => (cursor.line, cursor.column) = (cursor.line + 1, 1),
                    _ => cursor.column += 1,
                }
            }
            cursor.offset = offset;
            let diagnostic = Diagnostic {
                rule: finding.rule,
                severity: finding.severity,
                file: file.to_owned(),
                line: if by_line { finding.place.offset } else { cursor.line },
                column: cursor.column,
                pointer: std::mem::take(pointer),
                message: finding.message,
                hint: finding.hint,
                window: (self.options.windows && !by_line && !tree.text.is_empty())
                    .then(|| Box::new(window(tree, finding.place))),
            };
            Resolved { offset, diagnostic }
        };
        let mut found: Vec<Resolved> = self.list.drain(..).zip(&mut pointers).map(resolve).collect();
        if let Some(last) = found.last_mut().filter(|_| self.more > 0) {
            last.diagnostic.message += &format!("; {} more findings in this record are not told", self.more);
        }
        self.clear();
        found
    }
}

/// The line around a place: of a value that begins there, all of it is marked.
fn window(tree: Tree, place: Place) -> Window {
    /// More than a window shows of a line.
    const AROUND: usize = 1024;
    let offset = tree.text.floor_char_boundary(place.offset);
    let length = match tree.nodes.get(place.node as usize) {
        Some(node) if node.start as usize == place.offset => (node.end - node.start) as usize,
        _ => 1,
    };
    let from = tree.text.floor_char_boundary(offset.saturating_sub(AROUND));
    let to = tree.text.ceil_char_boundary(offset.saturating_add(AROUND));
    let from = tree.text[from..offset].rfind('\n').map_or(from, |at| from + at + 1);
    let to = tree.text[offset..to].find('\n').map_or(to, |at| offset + at);
    Window::new(&tree.text[from..to], offset - from, length)
}

/// A diagnostic, and where in its text it is.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) offset: usize,
    pub(crate) diagnostic: Diagnostic,
}

/// The pointer of each finding.
fn pointers(tree: Tree, list: &[Finding]) -> Vec<String> {
    let mut pointers = vec![String::new(); list.len()];
    let mut wanted: Vec<_> =
        (0..list.len()).filter(|&index| (list[index].place.node as usize) < tree.nodes.len()).collect();
    wanted.sort_by_key(|&index| list[index].place.node);
    let mut wanted = wanted.into_iter().peekable();

    /// A container that the sweep is inside of.
    struct Frame {
        after: u32,
        path_len: usize,
        next_item: Option<usize>,
    }
    let (mut path, mut frames) = (String::new(), Vec::<Frame>::new());
    for (index, node) in tree.nodes.iter().enumerate() {
        if wanted.peek().is_none() {
            break;
        }
        while frames.last().is_some_and(|frame| frame.after as usize <= index) {
            frames.pop();
        }
        if let Some(frame) = frames.last_mut() {
            if let Some(item) = &mut frame.next_item {
                path.truncate(frame.path_len);
                path.push_str(&format!("/{item}"));
                *item += 1;
            } else if node.kind == Kind::Key {
                path.truncate(frame.path_len);
                path.push('/');
                path.push_str(&key_token(tree, node, index));
            }
        }
        while let Some(finding) = wanted.next_if(|&finding| list[finding].place.node as usize == index) {
            pointers[finding].clone_from(&path);
        }
        if matches!(node.kind, Kind::Array | Kind::Object) {
            let next_item = (node.kind == Kind::Array).then_some(0);
            frames.push(Frame { after: node.after, path_len: path.len(), next_item });
        }
    }
    pointers
}

fn key_token(tree: Tree, node: &Node, index: usize) -> String {
    debug_assert_eq!(node.kind, Kind::Key);
    let text = Value::new(tree, index as u32).text().unwrap_or_default();
    text.replace('~', "~0").replace('/', "~1")
}
