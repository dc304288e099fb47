//! The words of a message: control tokens, leftovers of exports and templates.

use afina_chat::Role;

use crate::{
    diagnostic::{Severity, excerpt},
    findings::Findings,
    json::{Kind, Value},
    read::Method,
    tokens::{self, Family},
    view::Message,
};

/// What speakers are called where a conversation is one text.
const PREFIXES: [&str; 24] = [
    "Assistant:",
    "ASSISTANT:",
    "assistant:",
    "User:",
    "USER:",
    "user:",
    "Human:",
    "AI:",
    "Bot:",
    "### Response",
    "### Instruction",
    "### Human",
    "### Assistant",
    "### User",
    "Usuario:",
    "USUARIO:",
    "Asistente:",
    "ASISTENTE:",
    "Humano:",
    "IA:",
    "### Respuesta",
    "### Instrucci",
    "### Usuario",
    "### Asistente",
];

/// Bytes of the longest of them that has a colon.
const LONGEST_NAME: usize = 10;

/// The rules of a message's texts.
pub(crate) fn check_prose(message: &Message, out: &mut Findings) {
    let spoken = matches!(message.meant, Some(Role::User | Role::Assistant | Role::System | Role::Developer) | None);
    for (index, value) in message.texts().enumerate() {
        if value.is_simple() && is_harmless(value.inner(), Suspects { marks: true, escapes: true }) {
            continue;
        }
        let Some(text) = value.text() else { continue };
        special_token_in_content(value, &text, out);
        if spoken {
            null_string_content(message, value, &text, out);
            double_escaped_newlines(value, &text, out);
            unrendered_template(value, &text, out);
            if index == 0 {
                role_prefix_in_content(message, value, &text, out);
            }
            assistant_edge_whitespace(message, value, &text, out);
        }
    }
}

/// What may be in a text.
#[derive(Clone, Copy)]
pub(super) struct Suspects {
    /// One of `<[{%`, which begin control tokens and placeholders.
    pub(super) marks: bool,
    /// A backslash.
    pub(super) escapes: bool,
}

/// Whether no rule of this file can find anything, told from the bytes as written: most texts.
pub(super) fn is_harmless(raw: &str, suspects: Suspects) -> bool {
    /// Longer than any word that stands for nothing, with its spaces.
    const SHORT: usize = 16;
    let bytes = raw.as_bytes();
    let (&[first, ..], &[.., before, last]) = (bytes, bytes) else { return false };
    if bytes.len() < SHORT && matches!(first, b'n' | b'N' | b'u') {
        return false;
    }
    // Escaped whitespace too; other alphabets are looked at.
    let at_end = matches!(last, b'n' | b't' | b'r') && before == b'\\';
    let edges = [first, last].iter().any(|byte| byte.is_ascii_whitespace() || *byte == b'\\') || at_end;
    let spaces = matches!(first, 0xC2 | 0xE1..=0xE3)
        || last > 0x7F && raw.ends_with(|char: char| char > '\u{7F}' && char.is_whitespace());
    // What speakers are called begins with `#` or ends with a colon.
    let prefix = first == b'#' || bytes[..bytes.len().min(LONGEST_NAME)].contains(&b':');
    if edges || spaces || prefix {
        return false;
    }
    // Without a branch in it, the loop becomes vector instructions.
    let marks = |found: bool, &byte: &u8| found | (byte == b'<') | (byte == b'[') | (byte == b'{') | (byte == b'%');
    if suspects.marks && bytes.iter().fold(false, marks) {
        return false;
    }
    let mut backslashes = memchr::memchr_iter(b'\\', bytes);
    !(suspects.escapes && backslashes.any(|at| bytes.get(at + 1) == Some(&b'\\')))
}

/// A control token of a model stands in a text.
///
/// `<|endoftext|>`, `<|im_start|>`, `<|fim_suffix|>`, and the like. OpenAI refuses the file ("message contains an
/// invalid token: <|fim_suffix|>"); other trainers let it end the turn in the middle of the text. The tokens of the
/// model that is trained (`--target`, or its tokenizer) are errors; those of other models are warnings.
///
/// Remove it, or write it in another way, as `<im_start>`.
fn special_token_in_content(value: Value, text: &str, out: &mut Findings) {
    let Some(first) = memchr::memchr2(b'<', b'[', text.as_bytes()) else { return };
    let mut others = None;
    for (at, token, family) in tokens::find(text, first, &out.options.control_tokens) {
        let own = match family {
            Family::Given => true,
            // With no model to ask: most open models took OpenAI's tokens over.
            Family::OpenAi => out.options.control_tokens.is_empty(),
            Family::Open => false,
        };
        if own {
            let message = format!("expected text, found the control token `{token}`");
            return out.error(
                "special-token-in-content",
                (value, at),
                message,
                "remove it, or write it in another way",
            );
        }
        others.get_or_insert((at, token));
    }
    if let Some((at, token)) = others {
        let message = format!("expected text, found `{token}`, a control token of other models");
        out.warning("special-token-in-content", (value, at), message, "remove it if it came with a rendered prompt");
    }
}

/// The content is the word "null", "None", "nan", "undefined" or "N/A".
///
/// That is how empty cells of pandas and other exports look. Drop the message, or use null where a message may have
/// no content.
fn null_string_content(message: &Message, value: Value, text: &str, out: &mut Findings) {
    const WORDS: [&str; 12] =
        ["null", "Null", "NULL", "None", "NONE", "nan", "NaN", "NAN", "undefined", "N/A", "<NA>", "NaT"];
    let whole = message.content.is_some_and(|content| content.kind() == Kind::String || content.items().count() == 1);
    if whole && text.len() < 16 && WORDS.contains(&text.trim()) {
        out.warning(
            "null-string-content",
            value,
            format!("expected text, found the word `{}`, which an export writes for nothing", text.trim()),
            "drop the message, or fill in what was lost",
        );
    }
}

/// A text has a backslash and an `n` where a line break was meant.
///
/// The text was encoded twice (`json.dumps` of text that was escaped already), so the model learns to write `\n` as two
/// characters. Texts that have real line breaks too, paths, code in backticks and regular expressions are left alone.
fn double_escaped_newlines(value: Value, text: &str, out: &mut Findings) {
    let Some(first) = memchr::memchr(b'\\', text.as_bytes()) else { return };
    if text.contains(['\n', '`']) || [r"\s", r"\d", r"\w", r"\("].iter().any(|regex| text[first..].contains(regex)) {
        return;
    }
    let found = text.match_indices(r"\n").map(|(at, _)| at).find(|&at| {
        let word_start = at - text[..at].split(char::is_whitespace).next_back().map_or(0, str::len);
        let path = text[word_start..at].contains([':', '\\']) && text[word_start..].chars().nth(1) == Some(':')
            || text[word_start..].starts_with(r"\\");
        !path && !is_latex(&text[at + 1..])
    });
    if let Some(at) = found {
        out.warning(
            "double-escaped-newlines",
            (value, at),
            "expected a line break, found `\\n` as two characters",
            "the text was encoded twice: decode it once",
        );
    }
}

/// Commands of LaTeX that begin with `\n`.
fn is_latex(rest: &str) -> bool {
    const COMMANDS: [&str; 24] = [
        "nabla",
        "natural",
        "ncong",
        "ne",
        "nearrow",
        "neg",
        "neq",
        "newcommand",
        "newline",
        "newpage",
        "nexists",
        "ngeq",
        "ni",
        "nleq",
        "nmid",
        "node",
        "noindent",
        "nolimits",
        "nonumber",
        "normalsize",
        "not",
        "notin",
        "nu",
        "nwarrow",
    ];
    let end = rest.find(|char: char| !char.is_ascii_alphabetic()).unwrap_or(rest.len());
    COMMANDS.contains(&&rest[..end])
}

/// A text has a placeholder that was never filled in.
///
/// `{{name}}`, `{question}`, `<YOUR NAME>`, `%s`: the template was written to the file and not its result. Code, JSON
/// and formulas are left alone.
fn unrendered_template(value: Value, text: &str, out: &mut Findings) {
    if let Some((at, found)) = placeholder(text) {
        out.warning(
            "unrendered-template",
            (value, at),
            format!("expected text, found the placeholder `{}`", excerpt(found)),
            "fill in the template before writing the file",
        );
    }
}

fn placeholder(text: &str) -> Option<(usize, &str)> {
    const CODE: [&str; 12] =
        ["`", "def ", "f\"", "f'", "=>", "</", "print", "();", "\\begin", "\\frac", "import ", "#include"];
    find_placeholder(text).filter(|_| !CODE.iter().any(|code| text.contains(code)))
}

fn find_placeholder(text: &str) -> Option<(usize, &str)> {
    let bytes = text.as_bytes();
    let filled = memchr::memchr3_iter(b'{', b'<', b'%', bytes).find_map(|at| placeholder_at(text, at));
    filled.or_else(|| memchr::memchr_iter(b'[', bytes).find_map(|at| placeholder_at(text, at)))
}

fn placeholder_at(text: &str, at: usize) -> Option<(usize, &str)> {
    let rest = &text[at..];
    let found = |len: usize| Some((at, &rest[..len]));
    let before = text[..at].chars().next_back();
    let free = before.is_none_or(|char| char.is_whitespace() || "\"'(,.:;>*_-¿¡".contains(char));
    let between =
        |open: &str, close: &str| rest.strip_prefix(open).and_then(|inner| inner.find(close)).filter(|&end| end <= 60);
    if let Some(end) = between("{{", "}}").filter(|&end| is_name(&rest[2..2 + end])) {
        return found(end + 4);
    }
    if let Some(end) =
        between("{", "}").filter(|&end| free && end > 1 && is_name(&rest[1..1 + end]) && !rest[..end].contains(' '))
    {
        return found(end + 2);
    }
    for (open, close) in
        [("<YOUR", ">"), ("<INSERT", ">"), ("<your ", ">"), ("<insert ", ">"), ("[YOUR", "]"), ("[INSERT", "]")]
    {
        if let Some(end) = between(open, close) {
            return found(open.len() + end + 1);
        }
    }
    let goes_on = rest.get(2..).and_then(|rest| rest.chars().next()).is_some_and(char::is_alphanumeric);
    if rest.starts_with("%s") && free && !goes_on { found(2) } else { None }
}

/// What may stand between the braces of a template: `name`, ` user.name `, `name | upper`.
fn is_name(inner: &str) -> bool {
    let name = inner.trim_matches([' ', '-']);
    name.starts_with(|char: char| char.is_alphabetic() || char == '_')
        && name.chars().all(|char| char.is_alphanumeric() || matches!(char, '_' | '.' | '-' | ' ' | '|'))
}

/// A text begins with the name of the speaker.
///
/// `Assistant: …`, `Usuario: …`, `### Response`: the conversation was converted from a prompt that was one text. The role
/// says who speaks; with the prefix, the model learns to write it. Remove it. A form is left alone: `User: …` with
/// another line such as `Date: …` below.
fn role_prefix_in_content(message: &Message, value: Value, text: &str, out: &mut Findings) {
    let start = text.len() - text.trim_start().len();
    let spoken = !matches!(message.meant, Some(Role::System | Role::Developer));
    let prefix = PREFIXES.into_iter().filter(|_| spoken).find(|prefix| text[start..].starts_with(prefix));
    let prefix = prefix.filter(|prefix| !prefix.ends_with(':') || !is_form(&text[start..]));
    let prefix = prefix.or_else(|| (!spoken && text[start..].starts_with("System:")).then_some("System:"));
    if let Some(prefix) = prefix {
        let behind = &text[start + prefix.len()..];
        let word = &behind[..behind.find(|char: char| !char.is_alphabetic()).unwrap_or(behind.len())];
        let word = if prefix.ends_with(':') { "" } else { word };
        out.warning(
            "role-prefix-in-content",
            (value, start),
            format!("expected the text alone, found `{prefix}{word}` before it"),
            "remove it: the role says who speaks",
        );
    }
}

/// Whether the line below is a field too, as in `Usuario: ana⏎Incidencia: …`, and no other speaker.
fn is_form(text: &str) -> bool {
    const LONGEST_NAME: usize = 30;
    let Some(below) = text.lines().skip(1).map(str::trim).find(|line| !line.is_empty()) else { return false };
    let Some((name, _)) = below.split_once(':') else { return false };
    let is_name = name.chars().all(|char| char.is_alphabetic() || char == ' ') && name.len() <= LONGEST_NAME;
    is_name && !PREFIXES.iter().any(|prefix| below.starts_with(prefix))
}

/// A trained text begins or ends with whitespace.
///
/// The model learns to write it. Old completion models wanted a leading space; chat models do not. Trim the text.
fn assistant_edge_whitespace(message: &Message, value: Value, text: &str, out: &mut Findings) {
    let whole = message.content.is_some_and(|content| content.kind() == Kind::String || content.items().count() == 1);
    if !whole
        || !message.trained
        || out.options.method == Method::Rft
        || text.trim().is_empty()
        || text.trim().len() == text.len()
    {
        return;
    }
    let at_start = text.starts_with(char::is_whitespace);
    let (side, at) = if at_start { ("begins", 0) } else { ("ends", text.trim_end().len()) };
    out.add(
        Severity::Warning,
        "assistant-edge-whitespace",
        (value, at),
        format!("expected text without whitespace around it, found text that {side} with it"),
        "trim it",
    );
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::{
        Method, Profile, ReadOptions, control_tokens_of,
        testing::{check_messages, check_with},
    };

    fn said(text: &str) -> String {
        format!(
            r#"{{"role":"assistant","content":{}}},{{"role":"user","content":"and then?"}}"#,
            serde_json::json!(text)
        )
    }

    #[track_caller]
    fn check_said(texts: &[&str], expect: expect_test::Expect) {
        let messages: Vec<String> = texts.iter().map(|text| said(text)).collect();
        check_messages(&messages.iter().map(String::as_str).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn control_tokens_of_the_model_are_errors_and_of_others_warnings() {
        check_said(
            &["a <|im_end|> b", "a <|eot_id|> b", "a <|other|> <b> [x]"],
            expect![[r#"
            1:85: error[special-token-in-content] /messages/1/content: expected text, found the control token `<|im_end|>`
            2:85: warning[special-token-in-content] /messages/1/content: expected text, found `<|eot_id|>`, a control token of other models
        "#]],
        );
        let record = r#"{"messages":[{"role":"user","content":"a <|im_end|> b"},{"role":"assistant","content":"é <|eot_id|>"}]}"#;
        let control_tokens = control_tokens_of("llama-3").unwrap();
        check_with(
            &ReadOptions { control_tokens, ..ReadOptions::new(Method::Sft, Profile::OpenAi) },
            record,
            expect![[r#"
                1:42: warning[special-token-in-content] /messages/0/content: expected text, found `<|im_end|>`, a control token of other models
                1:90: error[special-token-in-content] /messages/1/content: expected text, found the control token `<|eot_id|>`
            "#]],
        );
    }

    #[test]
    fn leftovers_of_exports_are_found() {
        check_said(
            &[
                "None",
                "N/A",
                "one\\ntwo",
                "Hello {{ user.name }}!",
                "Hi {name}.",
                "Call <YOUR NAME>",
                "Dear %s,",
                "Assistant: hi",
                "### Response: hi",
                "Usuario: hola\nAsistente: buenas",
                "### Instrucción\nResume.",
                "[INST] hola",
                "Usuario: ana\nIncidencia: no imprime",
                "Cliente: Ana",
                " hi",
                "hi\n",
                "at\u{A0}one\\ntwo",
            ],
            expect![[r#"
                1:82: warning[null-string-content] /messages/1/content: expected text, found the word `None`, which an export writes for nothing
                2:82: warning[null-string-content] /messages/1/content: expected text, found the word `N/A`, which an export writes for nothing
                3:86: warning[double-escaped-newlines] /messages/1/content: expected a line break, found `\n` as two characters
                4:89: warning[unrendered-template] /messages/1/content: expected text, found the placeholder `{{ user.name }}`
                5:86: warning[unrendered-template] /messages/1/content: expected text, found the placeholder `{name}`
                6:88: warning[unrendered-template] /messages/1/content: expected text, found the placeholder `<YOUR NAME>`
                7:88: warning[unrendered-template] /messages/1/content: expected text, found the placeholder `%s`
                8:83: warning[role-prefix-in-content] /messages/1/content: expected the text alone, found `Assistant:` before it
                9:83: warning[role-prefix-in-content] /messages/1/content: expected the text alone, found `### Response` before it
                10:83: warning[role-prefix-in-content] /messages/1/content: expected the text alone, found `Usuario:` before it
                11:83: warning[role-prefix-in-content] /messages/1/content: expected the text alone, found `### Instrucción` before it
                12:83: warning[special-token-in-content] /messages/1/content: expected text, found `[INST]`, a control token of other models
                15:83: warning[assistant-edge-whitespace] /messages/1/content: expected text without whitespace around it, found text that begins with it
                16:85: warning[assistant-edge-whitespace] /messages/1/content: expected text without whitespace around it, found text that ends with it
                17:89: warning[double-escaped-newlines] /messages/1/content: expected a line break, found `\n` as two characters
            "#]],
        );
    }

    #[test]
    fn honest_text_is_left_alone() {
        check_said(
            &[
                "Nonetheless null.",
                "C:\\new\\notes.txt",
                "see\u{3000}C:\\new\\notes.txt",
                "`a\\nb`",
                "real\nand \\n named",
                "$\\nabla f \\neq 0$",
                "$x^{n}$ and {1, 2}",
                "{\"name\": \"Ada\"}",
                "use f'{name}' here",
                "50 %",
                "a % b",
                "The assistant: me",
                "if a < b",
                "[1] see",
                "function () { return x; }",
            ],
            expect![""],
        );
    }

    #[test]
    fn the_quick_look_knows_how_speakers_are_called() {
        for prefix in PREFIXES.into_iter().chain(["System:"]) {
            assert!(prefix.starts_with('#') || prefix.find(':') < Some(LONGEST_NAME), "{prefix}");
            let raw = format!("{prefix} the answer is quite long");
            assert!(!is_harmless(&raw, Suspects { marks: false, escapes: false }), "{raw}");
        }
    }
}
