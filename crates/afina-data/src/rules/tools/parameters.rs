//! The parameters of a declared function: a JSON Schema of an object.

use super::{
    cache,
    schema::{Cause, Fault, at_pointer},
};
use crate::{
    diagnostic::{Severity, excerpt},
    findings::Findings,
    json::{Kind, Value},
};

pub(super) fn check_parameters(function: Value, out: &mut Findings) {
    let Some(parameters) = function.get("parameters") else { return };
    let faults = tool_parameters_invalid(parameters, out);
    if !faults {
        each_required(parameters, &mut Vec::new(), out);
    }
}

/// `parameters` of a function is not a JSON Schema of an object.
///
/// It is a schema such as `{"type": "object", "properties": {…}}`: an object, not a string with JSON in it, and its
/// keywords have the values that some draft of JSON Schema gives them (a type is `string`, not `str`; `required` is a
/// list beside `properties`, not `true` inside of one). References stay inside: none is ever fetched, so one that
/// leads elsewhere is a warning, and one that leads nowhere an error. Leave `parameters` out where there are none.
fn tool_parameters_invalid(parameters: Value, out: &mut Findings) -> bool {
    if parameters.kind() != Kind::Object {
        let hint = if parameters.kind() == Kind::String {
            "decode it once: `json.loads(parameters)`"
        } else {
            "write `{\"type\": \"object\", \"properties\": {…}}`, or leave it out"
        };
        out.error(
            "tool-parameters-invalid",
            parameters,
            format!("expected a JSON Schema, found {}", parameters.described()),
            hint,
        );
        return true;
    }
    let schema = cache::schema(parameters);
    for fault in &schema.faults {
        let value = first_wrong(at_pointer(parameters, &fault.pointer), &fault.pointer);
        let severity = match fault.cause {
            Cause::Remote | Cause::Pattern => Severity::Warning,
            Cause::Keyword | Cause::NotObject | Cause::Dangling => Severity::Error,
        };
        let (message, hint) = told(fault, value);
        out.add(severity, "tool-parameters-invalid", value, message, hint);
    }
    !schema.faults.is_empty()
}

/// Of a list of types the one that is none.
fn first_wrong<'t>(value: Value<'t>, pointer: &str) -> Value<'t> {
    const TYPES: [&str; 7] = ["object", "array", "string", "number", "integer", "boolean", "null"];
    let wrong = value.items().find(|item| !TYPES.iter().any(|name| item.is(name)));
    wrong.filter(|_| pointer.ends_with("/type")).unwrap_or(value)
}

fn told(fault: &Fault, value: Value) -> (String, String) {
    let found = match value.kind() {
        Kind::String => format!("`{}`", excerpt(&value.text().unwrap_or_default())),
        _ => value.described().to_owned(),
    };
    let keyword = fault.pointer.rsplit('/').find(|token| token.parse::<usize>().is_err()).unwrap_or_default();
    match fault.cause {
        Cause::NotObject => (
            format!("expected parameters of type `object`, found {found}"),
            "write `{\"type\": \"object\", \"properties\": {…}}`: a call has its arguments by name".to_owned(),
        ),
        Cause::Dangling => (
            match value.kind() {
                Kind::String => format!("expected a reference to a place in the schema, found {found}"),
                _ => "expected references to places in the schema, found one that leads nowhere".to_owned(),
            },
            "put the definition under `$defs`, or write it where it is used".to_owned(),
        ),
        Cause::Remote => (
            format!("expected a reference to a place in the schema, found {found}, which is never fetched"),
            "put the definition under `$defs`, or write it where it is used".to_owned(),
        ),
        Cause::Pattern => (
            format!("expected a regular expression, found {found}"),
            "mend the pattern, or leave it out: the model only reads it".to_owned(),
        ),
        Cause::Keyword if keyword == "type" => {
            let hint = meant_type(value).map_or_else(
                || "a type is one of `object`, `array`, `string`, `number`, `integer`, `boolean`, `null`".to_owned(),
                |meant| format!("write `{meant}`"),
            );
            (format!("expected a JSON Schema type, found {found}"), hint)
        }
        Cause::Keyword if keyword == "required" && matches!(value.kind(), Kind::True | Kind::False) => (
            format!("expected `required` to be a list of names, found {found}"),
            "list the name in `required` of the object, beside `properties`".to_owned(),
        ),
        Cause::Keyword if value.is_null() && !keyword.is_empty() => (
            format!("expected a JSON Schema, found null for `{}`", excerpt(keyword)),
            format!("leave `{}` out where there is none", excerpt(keyword)),
        ),
        Cause::Keyword => (
            format!("expected a JSON Schema, found {found} for `{}`", excerpt(keyword)),
            "give the keyword a value that JSON Schema has for it".to_owned(),
        ),
    }
}

/// The JSON Schema name of a type that is called as in a programming language.
fn meant_type(value: Value) -> Option<&'static str> {
    Some(match value.text()?.to_lowercase().as_str() {
        "dict" | "dictionary" | "map" | "object" | "json" | "struct" => "object",
        "list" | "tuple" | "set" | "array" | "sequence" => "array",
        "str" | "string" | "text" | "char" | "date" | "datetime" | "enum" => "string",
        "float" | "double" | "decimal" | "number" => "number",
        "int" | "integer" | "long" => "integer",
        "bool" | "boolean" => "boolean",
        "none" | "nil" | "null" => "null",
        _ => return None,
    })
}

/// `required` names an argument that `properties` does not define.
///
/// JSON Schema allows it, but it is always a slip: the model must give an argument of which it is told nothing.
///
/// ```json
/// {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["city"]}
/// ```
///
/// Define the argument, or take its name out of `required`. A choice such as `anyOf` may require what the object
/// around it defines.
fn tool_required_undefined(name: Value, out: &mut Findings) {
    out.warning(
        "tool-required-undefined",
        name,
        format!("expected a name that `properties` defines, found `{}`", excerpt(&name.text().unwrap_or_default())),
        "define it in `properties`, or take it out of `required`",
    );
}

/// The names that a schema requires, and those inside it. `around`: the schemas that are about the same object.
fn each_required<'t>(schema: Value<'t>, around: &mut Vec<Value<'t>>, out: &mut Findings) {
    if schema.kind() != Kind::Object {
        return;
    }
    around.push(schema);
    if let Some(required) = schema.get("required").filter(|_| !around.iter().any(|object| is_open(*object))) {
        for name in required.items() {
            let Some(text) = name.text() else { continue };
            if !around.iter().any(|object| defines(*object, &text)) {
                tool_required_undefined(name, out);
            }
        }
    }
    for member in schema.members() {
        let Some(keyword) = member.key.text() else { continue };
        let schemas = member.value;
        match keyword.as_ref() {
            "allOf" | "anyOf" | "oneOf" => schemas.items().for_each(|schema| each_required(schema, around, out)),
            "if" | "then" | "else" | "not" => each_required(schemas, around, out),
            "dependentSchemas" => schemas.members().for_each(|member| each_required(member.value, around, out)),
            "properties" | "$defs" | "definitions" => {
                schemas.members().for_each(|member| each_required(member.value, &mut Vec::new(), out));
            }
            "items" | "additionalProperties" | "contains" => each_required(schemas, &mut Vec::new(), out),
            "prefixItems" => schemas.items().for_each(|schema| each_required(schema, &mut Vec::new(), out)),
            _ => {}
        }
    }
    around.pop();
}

/// Whether it defines names in a way that is not looked into.
fn is_open(schema: Value) -> bool {
    let described = schema.get("additionalProperties").is_some_and(|schema| schema.kind() == Kind::Object);
    described || ["$ref", "$dynamicRef", "patternProperties"].iter().any(|keyword| schema.get(keyword).is_some())
}

/// Whether `properties` defines the name, here or in a choice that is about the same object.
fn defines(schema: Value, name: &str) -> bool {
    let here = schema.get("properties").is_some_and(|properties| properties.get(name).is_some());
    let choices = ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|keyword| schema.get(keyword));
    let parts = ["then", "else", "if"].into_iter().filter_map(|keyword| schema.get(keyword));
    here || choices.flat_map(|list| list.items()).chain(parts).any(|schema| is_open(schema) || defines(schema, name))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::testing::check as check_file;

    #[track_caller]
    fn check(parameters: &[&str], expect: Expect) {
        let record = |(index, parameters): (usize, &&str)| {
            format!(
                r#"{{"tools":[{{"type":"function","function":{{"parameters":{parameters},"name":"f{index}"}}}}],"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","content":"ok"}}]}}"#
            ) + "\n"
        };
        check_file(parameters.iter().enumerate().map(record).collect::<String>(), expect);
    }

    #[test]
    fn parameters_are_a_json_schema() {
        check(
            &[
                r#""{\"type\":\"object\"}""#,
                "[]",
                "null",
                "true",
                r#"{"type":"dict","properties":{"a":{"type":"str"},"b":{"type":["float","null"]},"c":{"type":"thing"}}}"#,
                r#"{"type":"object","properties":{"a":{"type":"string","required":true},"b":{"enum":null}}}"#,
                r#"{"type":"object","properties":[{"name":"a"}]}"#,
                r#"{"type":"object","required":"a"}"#,
                r#"{"type":"array","items":{"type":"string"}}"#,
                r##"{"properties":{"a":{"$ref":"#/definitions/A"}}}"##,
                r#"{"properties":{"a":{"$ref":"https://example.com/a.json"}}}"#,
                r#"{"properties":{"a":{"type":"string","pattern":"(["}}}"#,
            ],
            expect![[r#"
                1:55: error[tool-parameters-invalid] /tools/0/function/parameters: expected a JSON Schema, found a string
                2:55: error[tool-parameters-invalid] /tools/0/function/parameters: expected a JSON Schema, found an array
                3:55: error[tool-parameters-invalid] /tools/0/function/parameters: expected a JSON Schema, found null
                4:55: error[tool-parameters-invalid] /tools/0/function/parameters: expected a JSON Schema, found a boolean
                5:63: error[tool-parameters-invalid] /tools/0/function/parameters/type: expected a JSON Schema type, found `dict`
                5:96: error[tool-parameters-invalid] /tools/0/function/parameters/properties/a/type: expected a JSON Schema type, found `str`
                5:116: error[tool-parameters-invalid] /tools/0/function/parameters/properties/b/type/0: expected a JSON Schema type, found `float`
                5:145: error[tool-parameters-invalid] /tools/0/function/parameters/properties/c/type: expected a JSON Schema type, found `thing`
                6:118: error[tool-parameters-invalid] /tools/0/function/parameters/properties/a/required: expected `required` to be a list of names, found a boolean
                6:136: error[tool-parameters-invalid] /tools/0/function/parameters/properties/b/enum: expected a JSON Schema, found null for `enum`
                7:85: error[tool-parameters-invalid] /tools/0/function/parameters/properties: expected a JSON Schema, found an array for `properties`
                8:83: error[tool-parameters-invalid] /tools/0/function/parameters/required: expected a JSON Schema, found `a` for `required`
                9:63: error[tool-parameters-invalid] /tools/0/function/parameters/type: expected parameters of type `object`, found `array`
                10:82: error[tool-parameters-invalid] /tools/0/function/parameters/properties/a/$ref: expected a reference to a place in the schema, found `#/definitions/A`
                11:82: warning[tool-parameters-invalid] /tools/0/function/parameters/properties/a/$ref: expected a reference to a place in the schema, found `https://example.com/a.json`, which is never fetched
                12:101: warning[tool-parameters-invalid] /tools/0/function/parameters/properties/a/pattern: expected a regular expression, found `([`
            "#]],
        );
    }

    #[test]
    fn a_schema_may_say_more_than_openai_asks() {
        check(
            &[
                "{}",
                r#"{"type":"object"}"#,
                r#"{"type":"object","properties":{"type":{"type":"string"},"required":{"type":"boolean"},"$ref":{"type":"string"}},"required":["type"]}"#,
                r##"{"type":"object","$defs":{"A":{"type":"string","enum":["x"]}},"properties":{"a":{"$ref":"#/$defs/A"}},"additionalProperties":false}"##,
                r#"{"type":"object","title":"F","x-internal":1,"properties":{"d":{"type":"string","format":"date","example":"2024-01-01","pattern":"^(?!0)\\d+"}}}"#,
                r#"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{"n":{"type":"number","exclusiveMinimum":0}}}"#,
            ],
            expect![[""]],
        );
    }

    #[test]
    fn what_is_required_is_defined() {
        check(
            &[
                r#"{"type":"object","properties":{"location":{}},"required":["city","location"]}"#,
                r#"{"type":"object","required":["city"]}"#,
                r#"{"properties":{"a":{"type":"array","items":{"type":"object","properties":{"x":{}},"required":["y"]}}}}"#,
                r#"{"properties":{"a":{},"b":{}},"anyOf":[{"required":["a"]},{"required":["c"]}]}"#,
            ],
            expect![[r#"
                1:113: warning[tool-required-undefined] /tools/0/function/parameters/required/0: expected a name that `properties` defines, found `city`
                2:84: warning[tool-required-undefined] /tools/0/function/parameters/required/0: expected a name that `properties` defines, found `city`
                3:149: warning[tool-required-undefined] /tools/0/function/parameters/properties/a/items/required/0: expected a name that `properties` defines, found `y`
                4:126: warning[tool-required-undefined] /tools/0/function/parameters/anyOf/1/required/0: expected a name that `properties` defines, found `c`
            "#]],
        );
    }

    #[test]
    fn what_is_required_may_be_defined_elsewhere() {
        check(
            &[
                r#"{"properties":{"a":{},"b":{}},"anyOf":[{"required":["a"]},{"required":["b"]}]}"#,
                r#"{"allOf":[{"properties":{"a":{}}},{"properties":{"b":{}}}],"required":["a","b"]}"#,
                r#"{"type":"object","additionalProperties":{"type":"string"},"required":["en"]}"#,
                r#"{"patternProperties":{"^x":{}},"required":["x1"]}"#,
                r##"{"$ref":"#/$defs/A","$defs":{"A":{"properties":{"a":{}}}},"required":["a"]}"##,
                r#"{"properties":{"required":{"type":"array","items":{}}},"required":["required"]}"#,
                r#"{"properties":{"kind":{}},"if":{"properties":{"kind":{"const":"x"}}},"then":{"properties":{"x":{}},"required":["x"]},"required":["kind"]}"#,
            ],
            expect![[""]],
        );
    }
}
