//! The `tojson` filter of chat templates: Python's `json.dumps`, character by character.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use crate::template_values::SpelledNumber;

/// `json.dumps(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(crate) fn to_json(value: &Value, ensure_ascii: Option<bool>, options: Kwargs) -> Result<Value, Error> {
    let ensure_ascii = match ensure_ascii {
        Some(ensure_ascii) => ensure_ascii,
        None => options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    let indent = match options.get::<Option<Value>>("indent")? {
        None => None,
        Some(indent) if indent.is_none() => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(indent).unwrap_or(0)),
        }),
    };
    let separators = match options.get::<Option<Vec<String>>>("separators")?.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => {
            return Err(Error::new(ErrorKind::InvalidOperation, "`separators` is a pair of strings"));
        }
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let mut writer = Writer { out: String::new(), ensure_ascii, indent, separators, sort_keys, depth: 0 };
    writer.value(value)?;
    Ok(Value::from(writer.out))
}

struct Writer {
    out: String,
    ensure_ascii: bool,
    indent: Option<String>,
    separators: (String, String),
    sort_keys: bool,
    depth: usize,
}

impl Writer {
    fn value(&mut self, value: &Value) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value)?,
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.container('[', ']', items.len(), |writer, i| writer.value(&items[i]))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<(String, Value)> = value.try_iter()?.map(|key| (key_text(&key), key)).collect();
                if self.sort_keys {
                    keys.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.container('{', '}', keys.len(), |writer, i| {
                    let (text, key) = &keys[i];
                    writer.string(text);
                    let separator = writer.separators.1.clone();
                    writer.out.push_str(&separator);
                    writer.value(&value.get_item(key)?)
                })?;
            }
            kind => {
                if let Some(number) = value.downcast_object_ref::<SpelledNumber>() {
                    self.out.push_str(&number.0);
                    return Ok(());
                }
                let message = format!("a value of type {kind} is not JSON serializable");
                return Err(Error::new(ErrorKind::BadSerialization, message));
            }
        }
        Ok(())
    }

    fn container(
        &mut self,
        open: char,
        close: char,
        len: usize,
        mut item: impl FnMut(&mut Writer, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        self.depth += 1;
        for i in 0..len {
            if i > 0 {
                let separator = self.separators.0.clone();
                self.out.push_str(&separator);
            }
            self.line();
            item(self, i)?;
        }
        self.depth -= 1;
        if len > 0 {
            self.line();
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(self.depth));
        }
    }

    fn number(&mut self, value: &Value) -> Result<(), Error> {
        if value.is_integer() {
            let _ = write!(self.out, "{value}");
        } else {
            self.out.push_str(&float(f64::try_from(value.clone())?));
        }
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && c > '~') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

fn key_text(key: &Value) -> String {
    match key.kind() {
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_owned(),
        ValueKind::Number if !key.is_integer() => f64::try_from(key.clone()).map_or_else(|_| key.to_string(), float),
        _ => key.to_string(),
    }
}

/// Python's `repr` of a float: the shortest digits that read back, with an exponent below 1e-4 and from 1e16.
pub(crate) fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let text = value.to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// The expected texts are what Python 3.11's `json.dumps` gives.
    fn check(expression: &str, expect: Expect) {
        let mut environment = minijinja::Environment::new();
        environment.add_filter("tojson", to_json);
        let text =
            environment.render_str(&format!("{{{{ {expression} }}}}"), ()).unwrap_or_else(|error| error.to_string());
        expect.assert_eq(&text);
    }

    #[test]
    fn separators_and_indents_are_pythons() {
        check("{'a': [1, {}], 'b': []}|tojson", expect![[r#"{"a": [1, {}], "b": []}"#]]);
        check(
            "{'a': [1, {}], 'b': []}|tojson(indent=2)",
            expect!["{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}"],
        );
        check("[1, 2]|tojson(separators=(',', ':'))", expect!["[1,2]"]);
        check("{'b': 1, 'a': 2}|tojson(sort_keys=true)", expect![[r#"{"a": 2, "b": 1}"#]]);
    }

    #[test]
    fn strings_keep_their_characters() {
        check(r#""<a>&'ñ😀\n\"\\"|tojson"#, expect![[r#""<a>&'ñ😀\n\"\\""#]]);
        check("'ñ😀'|tojson(ensure_ascii=true)", expect![[r#""\u00f1\ud83d\ude00""#]]);
    }

    #[test]
    fn numbers_are_pythons() {
        check(
            "[1, 1.0, 1e16, 1.5e-5, 0.0001, 123456789.125, -0.0]|tojson",
            expect!["[1, 1.0, 1e+16, 1.5e-05, 0.0001, 123456789.125, -0.0]"],
        );
        check("[true, none]|tojson", expect!["[true, null]"]);
    }

    #[test]
    fn undefined_is_refused() {
        check(
            "missing|tojson",
            expect!["could not serialize to value: a value of type undefined is not JSON serializable (in <string>:1)"],
        );
    }
}
