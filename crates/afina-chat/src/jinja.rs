//! Jinja as `apply_chat_template` of transformers runs it, on minijinja: block trimming, loop controls, Python's string
//! methods and white space, `raise_exception`, `strftime_now`, `tojson`, and the `generation` tag (which changes no text).

use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{ValueKind, from_args};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use crate::strftime::strftime;
use crate::to_json::to_json;

/// The name under which the chat template is stored in the environment.
pub(crate) const TEMPLATE: &str = "chat_template";

/// What a template said through `raise_exception`.
#[derive(Debug)]
pub(crate) struct Raised(pub(crate) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// An environment that holds `source` under [`TEMPLATE`]; `now` gives the seconds since 1970 for `strftime_now`.
pub(crate) fn environment(source: &str, now: fn() -> i64) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(string_method);
    environment.add_filter("tojson", to_json);
    environment.add_filter("trim", trim);
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", is_iterable);
    environment.add_function("raise_exception", raise_exception);
    set_clock(&mut environment, now);
    environment.add_template_owned(TEMPLATE, without_generation_tags(source))?;
    Ok(environment)
}

/// Replaces the clock of `strftime_now`.
pub(crate) fn set_clock(environment: &mut Environment<'static>, now: impl Fn() -> i64 + Send + Sync + 'static) {
    environment.add_function("strftime_now", move |format: &str| strftime(format, now()));
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

/// `{% generation %}` marks what an assistant wrote and renders its body as it is, so it becomes a block that always runs;
/// the tag's white-space control stays.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end + 2);
        let body = &tag[2..tag.len() - 2];
        let name = body.trim_matches(['-', '+']).trim();
        match name {
            "generation" => out.push_str(&tag.replace(name, "if true")),
            "endgeneration" => out.push_str(&tag.replace(name, "endif")),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Python's `str.isspace` of one character: Unicode's white space and the four information separators.
pub(crate) fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn trim(value: &Value, chars: Option<&str>) -> String {
    strip(&value.to_string(), chars, true, true).to_owned()
}

fn strip<'t>(text: &'t str, chars: Option<&str>, start: bool, end: bool) -> &'t str {
    let strips = |c: char| chars.map_or_else(|| is_python_space(c), |chars| chars.contains(c));
    let text = if start { text.trim_start_matches(strips) } else { text };
    if end { text.trim_end_matches(strips) } else { text }
}

/// The methods of Python's `str` whose white space differs from Rust's; the rest is minijinja-contrib's.
fn string_method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return pycompat::unknown_method_callback(state, value, method, args);
    };
    match method {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            Ok(Value::from(strip(text, chars, method != "rstrip", method != "lstrip")))
        }
        "isspace" => {
            let () = from_args(args)?;
            Ok(Value::from(!text.is_empty() && text.chars().all(is_python_space)))
        }
        "split" if args.is_empty() => {
            Ok(text.split(is_python_space).filter(|word| !word.is_empty()).map(Value::from).collect())
        }
        "splitlines" if args.is_empty() => Ok(split_lines(text).into_iter().map(Value::from).collect()),
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        _ => pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// Python's `str.splitlines`: more line ends than `\n`, and none after the last one.
fn split_lines(text: &str) -> Vec<&str> {
    let ends_line = |c: char| {
        matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(ends_line) {
        lines.push(&rest[..end]);
        let ending =
            if rest[end..].starts_with("\r\n") { 2 } else { rest[end..].chars().next().map_or(0, char::len_utf8) };
        rest = &rest[end + ending..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

/// Jinja asks Python for a length and an index, which strings and dictionaries have too.
fn is_sequence(value: &Value) -> bool {
    value.is_undefined() || matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map)
}

fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || value.try_iter().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(source: &str, expect: Expect) {
        let text = environment(source, || 1_721_952_000)
            .and_then(|environment| {
                let context = [("text", Value::from("\u{1f} a\u{2028}b \u{1c}")), ("list", Value::from(vec![1, 2, 3]))];
                environment.get_template(TEMPLATE)?.render(Value::from_pairs(context))
            })
            .unwrap_or_else(|error| format!("error: {error}"));
        expect.assert_eq(&text);
    }

    #[test]
    fn blocks_take_their_line_with_them() {
        check("a\n  {% if true %}\nb\n  {% endif %}\nc\n", expect!["a\nb\nc"]);
    }

    #[test]
    fn loops_can_be_left_and_continued() {
        check("{% for i in list %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}", expect!["13"]);
        check("{% for i in list %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", expect!["1"]);
    }

    #[test]
    fn white_space_is_pythons() {
        check("[{{ text.strip() }}]", expect!["[a\u{2028}b]"]);
        check("[{{ text|trim }}]", expect!["[a\u{2028}b]"]);
        check("{{ text.strip().splitlines()|length }}{{ text.split()|length }}", expect!["22"]);
        check("[{{ missing|trim }}]", expect!["[]"]);
        check("{{ 'xxaxx'.strip('x') }}{{ 'xxaxx'|trim('x') }}{{ ' a '.lstrip() }}|", expect!["aaa |"]);
    }

    #[test]
    fn values_print_as_in_python() {
        check(
            "{{ true }} {{ none }} {{ 1.0 }} {{ [1, 'a', {'b': none}] }}",
            expect!["True None 1.0 [1, 'a', {'b': None}]"],
        );
    }

    #[test]
    fn strings_are_iterable_and_sequences() {
        check(
            "{{ 'a' is iterable }}{{ 'a' is sequence }}{{ {} is sequence }}{{ 1 is iterable }}",
            expect!["TrueTrueTrueFalse"],
        );
    }

    #[test]
    fn generation_tags_change_no_text() {
        check("a\n{%- generation -%}\n b {% endgeneration %}\nc", expect!["ab c"]);
        check(
            "{% set x = '{%' %}{{ x }}{% generation %}{{ 'generation' }}{% endgeneration %}",
            expect!["{%generation"],
        );
    }

    #[test]
    fn exceptions_carry_their_message() {
        check("{{ raise_exception('no tools') }}", expect!["error: invalid operation: no tools (in chat_template:1)"]);
    }

    #[test]
    fn clock_is_the_one_given() {
        check("{{ strftime_now('%d %b %Y') }}", expect!["26 Jul 2024"]);
    }
}
