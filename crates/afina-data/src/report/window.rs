//! The part of a line that a diagnostic is about, as a terminal can show it.

use crate::diagnostic::is_invisible;

/// Columns of a line that are shown, at most.
const COLUMNS: usize = 100;
/// Columns before the place, where the line goes on behind it.
const BEFORE: usize = 40;

/// A piece of a line and the place in it, in columns of a terminal: East Asian characters and emoji are two wide,
/// combining marks none. Control and invisible characters are replaced by something that can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    pub text: String,
    /// Columns before the place.
    pub caret: usize,
    /// Columns of the place: at least 1, at most to the end of the text.
    pub width: usize,
    /// The line begins before the text.
    pub cut_left: bool,
    /// The line goes on behind the text.
    pub cut_right: bool,
}

impl Window {
    /// The window around the `length` bytes at byte `offset` of `line`. Takes no longer for a long line.
    pub fn new(line: &str, offset: usize, length: usize) -> Window {
        let start = line.floor_char_boundary(offset);
        let end = line.ceil_char_boundary(offset.saturating_add(length)).max(start);
        let (before, after) = (&line[..start], &line[start..]);
        let mut left: Vec<Shown> = fitting(before.chars().rev().map(Shown::new), COLUMNS);
        let mut right: Vec<Shown> = fitting(after.chars().map(Shown::new), COLUMNS);
        let (left_columns, right_columns) = (columns(&left), columns(&right));
        let whole = left.iter().map(|shown| shown.bytes).sum::<usize>() == before.len()
            && right.iter().map(|shown| shown.bytes).sum::<usize>() == after.len();
        if !whole || left_columns + right_columns > COLUMNS {
            let room = COLUMNS.saturating_sub(right_columns).max(BEFORE);
            left = fitting(left.into_iter(), room);
            right = fitting(right.into_iter(), COLUMNS - columns(&left));
        }
        let cut_left = left.iter().map(|shown| shown.bytes).sum::<usize>() < before.len();
        let cut_right = right.iter().map(|shown| shown.bytes).sum::<usize>() < after.len();
        let mut at = start;
        let mut width = 0;
        for shown in &right {
            if at < end {
                width += shown.columns;
            }
            at += shown.bytes;
        }
        let caret = columns(&left);
        let text = left.into_iter().rev().chain(right).map(|shown| shown.text).collect();
        Window { text, caret, width: width.max(1), cut_left, cut_right }
    }

    /// Two lines: the text with `…` where it is cut, and carets under the place.
    pub fn lines(&self) -> [String; 2] {
        let (left, right) = (if self.cut_left { "…" } else { "" }, if self.cut_right { "…" } else { "" });
        let indent = self.caret + usize::from(self.cut_left);
        [format!("{left}{}{right}", self.text), format!("{}{}", " ".repeat(indent), "^".repeat(self.width))]
    }
}

/// A character as it is shown.
struct Shown {
    text: String,
    columns: usize,
    /// Of the character itself.
    bytes: usize,
}

impl Shown {
    fn new(char: char) -> Shown {
        let text = match char {
            // Unicode has pictures of the control characters, as ␀ and ␉.
            '\0'..='\u{1F}' => char::from_u32(0x2400 + char as u32).unwrap_or(char).to_string(),
            '\u{7F}' => '␡'.to_string(),
            _ if char.is_control() || is_invisible(char) => format!("<U+{:04X}>", char as u32),
            _ => char.to_string(),
        };
        let columns = text.chars().map(columns_of).sum();
        Shown { text, columns, bytes: char.len_utf8() }
    }
}

fn fitting(shown: impl Iterator<Item = Shown>, room: usize) -> Vec<Shown> {
    let mut used = 0;
    // A run of combining marks takes no columns, and is cut all the same.
    let fits = |shown: &Shown| {
        used += shown.columns;
        used <= room
    };
    shown.take(4 * COLUMNS).take_while(fits).collect()
}

fn columns(shown: &[Shown]) -> usize {
    shown.iter().map(|shown| shown.columns).sum()
}

/// Columns of a terminal that a character takes, by Unicode's `East_Asian_Width` and the ranges of combining marks;
/// terminals differ in rare scripts.
fn columns_of(char: char) -> usize {
    match char as u32 {
        0..=0x2FF => 1,
        0x0300..=0x036F | 0x0483..=0x0489 | 0x0591..=0x05BD | 0x0610..=0x061A | 0x064B..=0x065F | 0x0670 => 0,
        0x06D6..=0x06DC | 0x0900..=0x0902 | 0x093C | 0x0941..=0x0948 | 0x094D | 0x0E31 | 0x0E34..=0x0E3A => 0,
        0x0E47..=0x0E4E | 0x1AB0..=0x1AFF | 0x1DC0..=0x1DFF | 0x20D0..=0x20FF | 0xFE00..=0xFE0F | 0xFE20..=0xFE2F => 0,
        0x1100..=0x115F | 0x231A..=0x231B | 0x2329..=0x232A | 0x23E9..=0x23EC | 0x23F0 | 0x23F3 => 2,
        0x25FD..=0x25FE | 0x2614..=0x2615 | 0x2648..=0x2653 | 0x267F | 0x2693 | 0x26A1 | 0x26AA..=0x26AB => 2,
        0x26BD..=0x26BE | 0x26C4..=0x26C5 | 0x26CE | 0x26D4 | 0x26EA | 0x26F2..=0x26F3 | 0x26F5 | 0x26FA | 0x26FD => 2,
        0x2705 | 0x270A..=0x270B | 0x2728 | 0x274C | 0x274E | 0x2753..=0x2755 | 0x2757 | 0x2795..=0x2797 => 2,
        0x27B0 | 0x27BF | 0x2B1B..=0x2B1C | 0x2B50 | 0x2B55 | 0x2E80..=0x303E | 0x3041..=0x4DBF | 0x4E00..=0xA4CF => 2,
        0xA960..=0xA97C | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF | 0xFE10..=0xFE19 | 0xFE30..=0xFE6F => 2,
        0xFF00..=0xFF60 | 0xFFE0..=0xFFE6 | 0x16FE0..=0x18CFF | 0x1B000..=0x1B2FF => 2,
        // A skin tone belongs to the emoji before it.
        0x1F3FB..=0x1F3FF => 0,
        0x1F004 | 0x1F0CF | 0x1F18E | 0x1F191..=0x1F19A | 0x1F200..=0x1F64F | 0x1F680..=0x1F6FF => 2,
        0x1F7E0..=0x1F7EB | 0x1F90C..=0x1F9FF | 0x1FA70..=0x1FAFF | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// The window at the first `what` of the line.
    #[track_caller]
    fn check(line: &str, what: &str, expect: Expect) {
        let window = Window::new(line, line.find(what).unwrap(), what.len());
        let [text, carets] = window.lines();
        assert!(columns(&text.chars().map(Shown::new).collect::<Vec<_>>()) <= COLUMNS + 2, "{text}");
        expect.assert_eq(&format!("{text}\n{carets}\n"));
    }

    #[test]
    fn a_short_line_is_shown_whole() {
        check(
            r#"{"role":"bot","content":"Hi"}"#,
            "\"bot\"",
            expect![[r#"
            {"role":"bot","content":"Hi"}
                    ^^^^^
        "#]],
        );
    }

    #[test]
    fn a_long_line_is_cut_on_both_sides() {
        let line =
            format!("{{\"text\":\"{}\",\"role\":\"bot\",\"url\":\"{}\"}}", "x".repeat(500), "A".repeat(2_000_000));
        check(
            &line,
            "\"bot\"",
            expect![[r#"
            …xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","role":"bot","url":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA…
                                                     ^^^^^
        "#]],
        );
        check(
            &line,
            "AAAA",
            expect![[r#"
            …xxxxxxxxxxxxxxxxxx","role":"bot","url":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA…
                                                     ^^^^
        "#]],
        );
        check(
            &line[..600],
            "text",
            expect![[r#"
            {"text":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
              ^^^^
        "#]],
        );
        check(
            &line,
            "\"}",
            expect![[r#"
            …AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}
                                                                                                               ^^
        "#]],
        );
    }

    #[test]
    fn wide_characters_and_marks_keep_the_caret_in_place() {
        check(
            "日本語 😀 e\u{301} x",
            "x",
            expect![[r#"
            日本語 😀 é x
                        ^
        "#]],
        );
        check(
            &format!("{} x {}", "語".repeat(90), "😀".repeat(90)),
            "x",
            expect![[r#"
            …語語語語語語語語語語語語語語語語語語語 x 😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀…
                                                    ^
        "#]],
        );
    }

    #[test]
    fn what_cannot_be_seen_is_made_visible() {
        check(
            "\"a\tb\u{0}c\u{202E}d\u{85}e\" x",
            "x",
            expect![[r#"
            "a␉b␀c<U+202E>d<U+0085>e" x
                                      ^
        "#]],
        );
    }

    #[test]
    fn a_place_outside_the_line_is_its_end() {
        assert_eq!(Window::new("é", 1, 0), Window::new("é", 0, 0));
        let end = Window::new("abc", 99, 5);
        assert_eq!((end.text.as_str(), end.caret, end.width), ("abc", 3, 1));
        assert_eq!(Window::new("", 0, usize::MAX).lines(), ["", "^"]);
    }
}
