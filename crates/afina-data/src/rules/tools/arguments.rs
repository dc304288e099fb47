//! The arguments of a call: JSON of an object, as the declared parameters have it.

use jsonschema::{
    JsonType, ValidationError,
    error::{TypeKind, ValidationErrorKind},
};
use serde::de::IgnoredAny;
use serde_json::Value as Json;

use super::{
    declarations::Tools,
    schema::{Mismatch, Schema, at_pointer},
};
use crate::{
    diagnostic::excerpt,
    findings::Findings,
    json::{Kind, Parser, Value},
};

/// The arguments of `function`, which has `name` and `arguments`.
pub(super) fn check_arguments(function: Value, tools: &Tools, out: &mut Findings) {
    let Some(arguments) = function.get("arguments").filter(|arguments| arguments.kind() == Kind::String) else {
        return;
    };
    let Some(text) = arguments.text() else { return };
    let name = function.get("name").and_then(|name| name.text()).unwrap_or_default();
    let declared = tools.all().find(|declared| *declared.name == *name).and_then(|declared| declared.schema.as_deref());
    match declared.filter(|schema| schema.judges()) {
        // Nothing to hold them against: no need to keep them.
        None => match serde_json::from_str::<IgnoredAny>(&text) {
            Err(error) => tool_arguments_invalid_json(arguments, &text, &error, out),
            Ok(_) if text.trim_start().starts_with('{') => {}
            Ok(_) => tool_arguments_not_object(arguments, &text, out),
        },
        Some(schema) => match serde_json::from_str::<Json>(&text) {
            Err(error) => tool_arguments_invalid_json(arguments, &text, &error, out),
            Ok(json) if json.is_object() => tool_arguments_schema_mismatch(arguments, &text, &json, schema, out),
            Ok(_) => tool_arguments_not_object(arguments, &text, out),
        },
    }
}

/// The arguments of a call are not JSON.
///
/// A program that runs the call will fail to read them, and the model learns to write them so. Often they are Python's
/// way of writing a dictionary, or were cut. Write `json.dumps(arguments)`; `{}` where there are none.
fn tool_arguments_invalid_json(arguments: Value, text: &str, error: &serde_json::Error, out: &mut Findings) {
    let trimmed = text.trim();
    let python = trimmed.starts_with("{'") || ["True", "False", "None"].iter().any(|word| text.contains(word));
    let (found, hint) = if trimmed.is_empty() {
        ("an empty string".to_owned(), "write `{}` where there are no arguments")
    } else if error.is_eof() {
        (format!("JSON that ends early: `{}`", excerpt(trimmed)), "write the whole of it")
    } else if python {
        (
            format!("Python's way of writing: `{}`", excerpt(trimmed)),
            "write `json.dumps(arguments)`, not `str(arguments)`",
        )
    } else {
        (format!("`{}`", excerpt(trimmed)), "write `json.dumps(arguments)`")
    };
    let place = (arguments, offset(text, error));
    out.warning("tool-arguments-invalid-json", place, format!("expected arguments as JSON, found {found}"), hint);
}

/// Byte of the text that the parser stopped at.
fn offset(text: &str, error: &serde_json::Error) -> usize {
    let line_start = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    text.floor_char_boundary((line_start + error.column().saturating_sub(1)).min(text.len()))
}

/// The arguments of a call are JSON, but not an object.
///
/// Arguments are given by name: `{"city": "Rome"}`, not `["Rome"]`. A string with JSON in it was encoded twice.
fn tool_arguments_not_object(arguments: Value, text: &str, out: &mut Findings) {
    let (found, hint) = match text.trim_start().as_bytes().first() {
        Some(b'"') => ("a string", "encode them once: `json.dumps(arguments)`"),
        Some(b'[') => ("an array", "give each argument its name: `{\"name\": …}`"),
        Some(b'n') => ("null", "write `{}` where there are no arguments"),
        Some(b't' | b'f') => ("a boolean", "give each argument its name: `{\"name\": …}`"),
        _ => ("a number", "give each argument its name: `{\"name\": …}`"),
    };
    out.warning(
        "tool-arguments-not-object",
        arguments,
        format!("expected arguments as a JSON object, found {found}"),
        hint,
    );
}

/// The arguments of a call are not as the function declares them.
///
/// An argument is missing, has a name that is not declared, or a value of another type or outside its `enum`: the
/// model learns to call the function wrongly. Mend the call, or the declaration. A name that is not in `properties` is
/// told even where `additionalProperties` is not said to be false; say `"additionalProperties": true` where any name
/// is right.
fn tool_arguments_schema_mismatch(arguments: Value, text: &str, json: &Json, schema: &Schema, out: &mut Findings) {
    let mismatches = schema.mismatches(json);
    if mismatches.is_empty() {
        return;
    }
    let mut parser = Parser::default();
    let tree = parser.parse(text, 0).root();
    for mismatch in &mismatches {
        for (pointer, message, hint) in told(mismatch) {
            let at = tree.map_or(0, |tree| at_pointer(tree, &pointer).span().start);
            out.warning("tool-arguments-schema-mismatch", (arguments, at), message, hint);
        }
    }
}

/// Where it is, what was expected and found, and what to do.
fn told(mismatch: &Mismatch) -> Vec<(String, String, String)> {
    let error = match mismatch {
        Mismatch::Unknown { pointer, name, known } => return vec![unknown(pointer, name, known)],
        Mismatch::Error(error) => error,
    };
    let pointer = error.instance_path().to_string();
    let what = named(&pointer);
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            unexpected.iter().map(|name| unknown(&pointer, name, &[])).collect()
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let message = format!("expected {} `{}`, found none", place(&pointer), excerpt(name));
            vec![(pointer, message, "give it, or take it out of `required`".to_owned())]
        }
        ValidationErrorKind::Type { kind } => {
            let message = format!("expected {what} to be {}, found {}", types(kind), found(error));
            vec![(pointer, message, "give it the type that is declared".to_owned())]
        }
        ValidationErrorKind::Enum { options } => {
            let options: Vec<_> = options.as_array().into_iter().flatten().map(Json::to_string).collect();
            let message = format!("expected {what} to be one of {}, found {}", list(&options), found(error));
            vec![(pointer, message, "give it one of the declared values, or declare this one".to_owned())]
        }
        kind => {
            let message =
                format!("expected {what} to keep to `{}` of its schema, found {}", kind.keyword(), found(error));
            vec![(pointer, message, "give it a value as declared".to_owned())]
        }
    }
}

fn unknown(pointer: &str, name: &str, known: &[&str]) -> (String, String, String) {
    let known: Vec<_> = known.iter().map(|name| (*name).to_owned()).collect();
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let hint = match known.iter().find(|known| plain(known) == plain(name)) {
        Some(known) => format!("write `{}`", excerpt(known)),
        None => "mend the name, or declare it in `properties`".to_owned(),
    };
    let inside = if pointer.is_empty() { String::new() } else { format!(" in {}", named(pointer)) };
    let declared = match known.as_slice() {
        [] => String::new(),
        known => format!(": it declares {}", list(known)),
    };
    (
        format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1")),
        format!("found `{}`{inside}, which the function does not declare{declared}", excerpt(name)),
        hint,
    )
}

/// The argument at a pointer, by its path.
fn named(pointer: &str) -> String {
    match pointer.strip_prefix('/') {
        None => "the arguments".to_owned(),
        Some(path) => format!("`{}`", excerpt(&path.replace('/', ".").replace("~1", "/").replace("~0", "~"))),
    }
}

/// What a name directly inside the value at a pointer is called.
fn place(pointer: &str) -> String {
    if pointer.is_empty() { "an argument".to_owned() } else { format!("{} to have", named(pointer)) }
}

fn found(error: &ValidationError) -> String {
    match error.instance().as_ref() {
        Json::Null => "null".to_owned(),
        Json::Array(_) => "an array".to_owned(),
        Json::Object(_) => "an object".to_owned(),
        Json::String(text) => format!("the string `{}`", excerpt(text)),
        other => format!("`{}`", excerpt(&other.to_string())),
    }
}

/// The first few of a list, in backticks.
fn list(items: &[String]) -> String {
    const SHOWN: usize = 6;
    let mut shown: Vec<_> = items.iter().take(SHOWN).map(|item| format!("`{}`", excerpt(item))).collect();
    if items.len() > SHOWN {
        shown.push(format!("{} more", items.len() - SHOWN));
    }
    shown.join(", ")
}

fn types(kind: &TypeKind) -> String {
    let name = |kind: JsonType| match kind {
        JsonType::Array => "an array",
        JsonType::Boolean => "a boolean",
        JsonType::Integer => "an integer",
        JsonType::Null => "null",
        JsonType::Number => "a number",
        JsonType::Object => "an object",
        JsonType::String => "a string",
    };
    match kind {
        TypeKind::Single(kind) => name(*kind).to_owned(),
        TypeKind::Multiple(kinds) => kinds.iter().map(name).collect::<Vec<_>>().join(" or "),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::testing::check as check_file;

    /// A file with a call of `f` in each record, which has these parameters.
    #[track_caller]
    fn check(parameters: &str, arguments: &[&str], expect: Expect) {
        let record = |arguments: &&str| {
            let arguments = serde_json::to_string(arguments).unwrap();
            format!(
                r#"{{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","tool_calls":[{{"id":"c","type":"function","function":{{"name":"f","arguments":{arguments}}}}}]}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{parameters}}}}}]}}"#
            ) + "\n"
        };
        check_file(arguments.iter().map(record).collect::<String>(), expect);
    }

    const WEATHER: &str = r#"{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer","minimum":1},"unit":{"type":["string","null"],"enum":["C","F",null]},"at":{"type":"array","items":{"type":"object","properties":{"hour":{"type":"number"}},"required":["hour"]}}},"required":["city"]}"#;

    #[test]
    fn arguments_are_json_of_an_object() {
        let all = [
            "{}",
            " {\n} ",
            "",
            "{'city': 'Rome'}",
            r#"{"ok": True}"#,
            r#"{"city": "Ro"#,
            r#"{"city": "é", }"#,
            "{\n  \"a\": 1\n  \"b\": 2}",
            "[]",
            "null",
            r#""{\"city\":\"Rome\"}""#,
            "12",
        ];
        check(
            r#"{"additionalProperties":true}"#,
            &all,
            expect![[r#"
            3:142: warning[tool-arguments-invalid-json] /messages/1/tool_calls/0/function/arguments: expected arguments as JSON, found an empty string
            4:143: warning[tool-arguments-invalid-json] /messages/1/tool_calls/0/function/arguments: expected arguments as JSON, found Python's way of writing: `{'city': 'Rome'}`
            5:151: warning[tool-arguments-invalid-json] /messages/1/tool_calls/0/function/arguments: expected arguments as JSON, found Python's way of writing: `{"ok": True}`
            6:156: warning[tool-arguments-invalid-json] /messages/1/tool_calls/0/function/arguments: expected arguments as JSON, found JSON that ends early: `{"city": "Ro`
            7:160: warning[tool-arguments-invalid-json] /messages/1/tool_calls/0/function/arguments: expected arguments as JSON, found `{"city": "é", }`
            8:159: warning[tool-arguments-invalid-json] /messages/1/tool_calls/0/function/arguments: expected arguments as JSON, found `{\n  "a": 1\n  "b": 2}`
            9:141: warning[tool-arguments-not-object] /messages/1/tool_calls/0/function/arguments: expected arguments as a JSON object, found an array
            10:141: warning[tool-arguments-not-object] /messages/1/tool_calls/0/function/arguments: expected arguments as a JSON object, found null
            11:141: warning[tool-arguments-not-object] /messages/1/tool_calls/0/function/arguments: expected arguments as a JSON object, found a string
            12:141: warning[tool-arguments-not-object] /messages/1/tool_calls/0/function/arguments: expected arguments as a JSON object, found a number
        "#]],
        );
        // Without a schema to hold them against.
        check(
            r#"{"$ref":"x.json"},"strict":true"#,
            &[all[0], all[1], all[2], all[8]],
            expect![[r#"
            1:223: warning[tool-parameters-invalid] /tools/0/function/parameters/$ref: expected a reference to a place in the schema, found `x.json`, which is never fetched
            2:227: warning[tool-parameters-invalid] /tools/0/function/parameters/$ref: expected a reference to a place in the schema, found `x.json`, which is never fetched
            3:142: warning[tool-arguments-invalid-json] /messages/1/tool_calls/0/function/arguments: expected arguments as JSON, found an empty string
            3:221: warning[tool-parameters-invalid] /tools/0/function/parameters/$ref: expected a reference to a place in the schema, found `x.json`, which is never fetched
            4:141: warning[tool-arguments-not-object] /messages/1/tool_calls/0/function/arguments: expected arguments as a JSON object, found an array
            4:223: warning[tool-parameters-invalid] /tools/0/function/parameters/$ref: expected a reference to a place in the schema, found `x.json`, which is never fetched
        "#]],
        );
    }

    #[test]
    fn arguments_are_as_declared() {
        check(
            WEATHER,
            &[
                r#"{"city":"Rome"}"#,
                r#"{"city":"Rome","days":3.0,"unit":null,"at":[]}"#,
                "{}",
                r#"{"city":"Rome","Days":3}"#,
                r#"{"city":["Rome"],"days":"3"}"#,
                r#"{"city":"é\n","unit":"K"}"#,
                r#"{"city":"Rome","days":0}"#,
                r#"{"city":"Rome","at":[{"hour":1},{"hour":null},{"minute":2}]}"#,
                r#"{"city":null}"#,
            ],
            expect![[r#"
                3:142: warning[tool-arguments-schema-mismatch] /messages/1/tool_calls/0/function/arguments: expected an argument `city`, found none
                4:170: warning[tool-arguments-schema-mismatch] /messages/1/tool_calls/0/function/arguments: found `Days`, which the function does not declare: it declares `city`, `days`, `unit`, `at`
                5:152: warning[tool-arguments-schema-mismatch] /messages/1/tool_calls/0/function/arguments: expected `city` to be a string, found an array
                5:172: warning[tool-arguments-schema-mismatch] /messages/1/tool_calls/0/function/arguments: expected `days` to be an integer, found the string `3`
                6:170: warning[tool-arguments-schema-mismatch] /messages/1/tool_calls/0/function/arguments: expected `unit` to be one of `"C"`, `"F"`, `null`, found the string `K`
                7:170: warning[tool-arguments-schema-mismatch] /messages/1/tool_calls/0/function/arguments: expected `days` to keep to `minimum` of its schema, found `0`
                8:192: warning[tool-arguments-schema-mismatch] /messages/1/tool_calls/0/function/arguments: expected `at.1.hour` to be a number, found null
                8:198: warning[tool-arguments-schema-mismatch] /messages/1/tool_calls/0/function/arguments: expected `at.2` to have `hour`, found none
                8:210: warning[tool-arguments-schema-mismatch] /messages/1/tool_calls/0/function/arguments: found `minute` in `at.2`, which the function does not declare: it declares `hour`
                9:152: warning[tool-arguments-schema-mismatch] /messages/1/tool_calls/0/function/arguments: expected `city` to be a string, found null
            "#]],
        );
    }

    #[test]
    fn null_is_a_value_where_the_schema_says_so() {
        let parameters = r#"{"type":"object","properties":{"a":{"type":"string","nullable":true,"enum":["x"]},"b":{"type":"string","nullable":false}}}"#;
        check(
            parameters,
            &[r#"{"a":null,"b":"x"}"#, r#"{"a":1}"#, r#"{"b":null}"#],
            expect![[r#"
                2:149: warning[tool-arguments-schema-mismatch] /messages/1/tool_calls/0/function/arguments: expected `a` to be a string, found `1`
                3:149: warning[tool-arguments-schema-mismatch] /messages/1/tool_calls/0/function/arguments: expected `b` to be a string, found null
            "#]],
        );
    }

    #[test]
    fn names_are_free_where_the_schema_leaves_them_free() {
        for parameters in [
            r#"{"type":"object"}"#,
            r#"{"properties":{"a":{}},"additionalProperties":true}"#,
            r#"{"properties":{"a":{}},"additionalProperties":{"type":"string"}}"#,
            r#"{"properties":{"a":{}},"patternProperties":{"^c":{}}}"#,
            r#"{"properties":{"a":{}},"anyOf":[{"properties":{"city":{}}},{"properties":{"b":{}}}]}"#,
        ] {
            check(parameters, &[r#"{"city":"Rome"}"#], expect![[""]]);
        }
        let pointed = r##"{"$ref":"#/$defs/A","$defs":{"A":{"properties":{"city":{}}}}}"##;
        check(pointed, &[r#"{"city":"Rome"}"#], expect![[""]]);
    }

    #[test]
    fn names_are_bound_where_the_schema_binds_them() {
        check(
            r#"{"type":"object","properties":{}}"#,
            &[r#"{"city":"Rome"}"#],
            expect![[r#"
                1:152: warning[tool-arguments-schema-mismatch] /messages/1/tool_calls/0/function/arguments: found `city`, which the function does not declare
            "#]],
        );
        check(
            r#"{"type":"object","properties":{"a":{}},"additionalProperties":false}"#,
            &[r#"{"city":"Rome","b":1}"#],
            expect![[r#"
                1:152: warning[tool-arguments-schema-mismatch] /messages/1/tool_calls/0/function/arguments: found `city`, which the function does not declare
                1:167: warning[tool-arguments-schema-mismatch] /messages/1/tool_calls/0/function/arguments: found `b`, which the function does not declare
            "#]],
        );
    }
}
