//! Why a text is not JSON.

use super::Kind;

/// One fault: its cause, its place, and the node it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub cause: Cause,
    /// Byte offset of the first wrong byte; the length of the text where it ends too early.
    pub offset: usize,
    /// The value that has the fault in it, as an index into the tree.
    pub(crate) node: u32,
}

/// The cause of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    // Read past: the value is as it was meant.
    /// `,]` or `,}`; the offset is the comma's.
    TrailingComma,
    /// `// …`, `/* … */` or `# …`.
    Comment,
    /// `NaN`, `Infinity` or `-Infinity`.
    NotFinite,
    /// A raw byte below 0x20 inside a string.
    ControlCharacter(u8),
    /// A backslash and something that is no escape.
    InvalidEscape,
    /// Half of a surrogate pair, as `\uD83D`.
    LoneSurrogate,
    /// `'…'`, `True`, `False` or `None`: Python's own notation. Noted once a text.
    PythonNotation,

    // The tree ends here.
    /// A string ends where its text goes on.
    UnescapedQuote,
    /// The text ends inside `inside`.
    Truncated { inside: Kind },
    /// More than [`super::MAX_DEPTH`] arrays and objects inside each other.
    TooDeep,
    /// A name without quotes.
    UnquotedKey,
    /// No `:` after a name.
    MissingColon,
    /// Two values without a `,` between them.
    MissingComma,
    /// An object or array where a name should be, after an array that ended at byte `closed`.
    ClosedEarly { closed: usize },
    /// `]` for `}` or the reverse.
    WrongBracket { expected: char },
    /// “ or ” for ".
    SmartQuote,
    /// A number that JSON does not know, as `01`, `.5`, `+1` or `1.`.
    BadNumber,
    /// Anything else.
    Unexpected { expected: &'static str },
}

impl Cause {
    /// Whether the tree ends at this fault.
    pub fn is_fatal(self) -> bool {
        use Cause::*;
        !matches!(
            self,
            TrailingComma | Comment | NotFinite | ControlCharacter(_) | InvalidEscape | LoneSurrogate | PythonNotation
        )
    }
}
