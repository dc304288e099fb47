//! A table of separated values where JSON Lines belong.

/// What a CSV is told by, and how to make JSONL of it.
pub(super) struct Table {
    separator: char,
    names: Vec<String>,
}

/// A table at the head of a file: a line of two names or more, with lines below that have as many fields.
///
/// Nothing that begins as JSON does is one, and no file whose lines differ in the number of their fields: then each
/// line has its own fault.
pub(super) fn table(head: &[u8]) -> Option<Table> {
    /// Rows that are looked at: a comma more or less stands in prose soon.
    const ROWS: usize = 4;
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{FEFF}');
    if text.trim_start().starts_with(['{', '[', '#', '<', '\'']) {
        return None;
    }
    [',', ';', '\t'].into_iter().find_map(|separator| {
        let mut rest = text;
        let names = row(&mut rest, separator)?;
        let named = names.len() > 1 && names.iter().all(|name| is_name(name));
        let unique = (1..names.len()).all(|index| !names[..index].contains(&names[index]));
        let rows: Vec<_> = std::iter::from_fn(|| row(&mut rest, separator)).take(ROWS).collect();
        // The last one may be cut where the head ends.
        let whole = if rest.is_empty() && rows.len() > 1 { rows.len() - 1 } else { rows.len() };
        let even = rows[..whole].iter().all(|row| row.len() == names.len() && !row[0].starts_with(['{', '[']));
        (named && unique && whole > 0 && even).then_some(Table { separator, names })
    })
}

impl Table {
    pub(super) fn found(&self) -> String {
        let name = match self.separator {
            '\t' => "tab-separated values",
            _ => "CSV",
        };
        format!("what looks like {name}")
    }

    /// A line for the shell that writes the messages.
    pub(super) fn hint(&self) -> String {
        const ASKS: [&str; 8] = ["question", "pregunta", "prompt", "user", "input", "instruction", "query", "consulta"];
        const ANSWERS: [&str; 8] =
            ["answer", "respuesta", "completion", "assistant", "output", "response", "reply", "contestación"];
        let of = |known: [&str; 8], or: usize| {
            let found = self.names.iter().find(|name| known.contains(&name.to_lowercase().as_str()));
            found.unwrap_or(&self.names[or]).as_str()
        };
        let (ask, answer) = (of(ASKS, 0), of(ANSWERS, 1));
        let delimiter = match self.separator {
            ',' => "",
            ';' => ", delimiter=\";\"",
            _ => ", delimiter=\"\\t\"",
        };
        format!(
            "write JSONL with Python: `python3 -c 'import csv,json; [print(json.dumps({{\"messages\":[{{\"role\":\"user\",\"content\":r[\"{ask}\"]}},{{\"role\":\"assistant\",\"content\":r[\"{answer}\"]}}]}})) for r in csv.DictReader(open(\"IN\",encoding=\"utf-8-sig\",newline=\"\"){delimiter})]' > OUT.jsonl`"
        )
    }
}

/// What a column is called: a few words, without the signs of JSON and of the shell.
fn is_name(name: &str) -> bool {
    let fits = |char: char| char.is_alphanumeric() || matches!(char, '_' | '-' | ' ' | '.' | '/');
    name.chars().any(char::is_alphabetic) && name.chars().count() <= 40 && name.chars().all(fits)
}

/// The next row (RFC 4180: a field in quotes may hold separators, line ends, and quotes written twice); `None` at the
/// end, or where a quote stands in the middle of a field.
fn row(rest: &mut &str, separator: char) -> Option<Vec<String>> {
    if rest.is_empty() {
        return None;
    }
    let (mut fields, mut field) = (Vec::new(), String::new());
    let (mut quoted, mut closed) = (false, false);
    let mut chars = rest.char_indices().peekable();
    let mut end = rest.len();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' if quoted && chars.next_if(|(_, next)| *next == '"').is_some() => field.push('"'),
            '"' if quoted => (quoted, closed) = (false, true),
            '"' if field.is_empty() && !closed => quoted = true,
            '"' if !quoted => return None,
            _ if quoted => field.push(char),
            _ if char == separator => {
                fields.push(std::mem::take(&mut field));
                closed = false;
            }
            '\n' => {
                end = at + 1;
                break;
            }
            '\r' => {}
            _ if closed => return None,
            _ => field.push(char),
        }
    }
    fields.push(field);
    *rest = &rest[end..];
    Some(fields)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::table;
    use crate::testing::check;

    #[test]
    fn a_csv_is_told_once_and_nothing_behind_its_head_is_read() {
        for file in [
            "pregunta,respuesta\n\"¿Hola?\",\"Hola, ¿qué tal?\"\n",
            "prompt;completion;notes\na;b;c\nd;e;f\n",
            "question,answer\r\n\"two\nlines\",\"a \"\"quote\"\"\"\r\n",
            "\u{FEFF}id,user prompt,answer\n1,a,b\n",
        ] {
            check(
                file,
                expect![[r#"
                1:1: error[wrong-file-type]: expected JSON Lines, found what looks like CSV
            "#]],
            );
        }
        check(
            "question\tanswer\na\tb, c\n",
            expect![[r#"
                1:1: error[wrong-file-type]: expected JSON Lines, found what looks like tab-separated values
            "#]],
        );
    }

    #[test]
    fn the_hint_reads_the_columns_by_their_names() {
        let hint = |file: &str| table(file.as_bytes()).unwrap().hint();
        expect![[r#"write JSONL with Python: `python3 -c 'import csv,json; [print(json.dumps({"messages":[{"role":"user","content":r["pregunta"]},{"role":"assistant","content":r["respuesta"]}]})) for r in csv.DictReader(open("IN",encoding="utf-8-sig",newline=""))]' > OUT.jsonl`"#]]
        .assert_eq(&hint("id,pregunta,respuesta\n1,a,b\n"));
        let other = hint("a;b\n1;2\n");
        assert!(other.contains(r#"r["a"]"#) && other.contains(r#"r["b"]"#) && other.contains(r#", delimiter=";")"#));
    }

    #[test]
    fn other_files_are_no_table() {
        for file in [
            "{\"a\": 1, \"b\": 2}\n{\"a\": 1, \"b\": 2}\n",
            "[1, 2]\n[3, 4]\n",
            "# a, b\n1, 2\n",
            "Hello, world\n{\"messages\": [1, 2]}\n",
            "Hello, world\nHow are you, and you, and you?\n",
            "just text\nmore text\n",
            "a,b\n",
            "a,a\n1,2\n",
            "\"a\"b,c\n1,2\n",
            "True, None\n",
            "",
        ] {
            assert!(table(file.as_bytes()).is_none(), "{file:?}");
        }
    }
}
