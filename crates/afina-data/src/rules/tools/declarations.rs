//! The tools that a record declares: their form, their names, how many they are.

use std::sync::Arc;

use super::{cache, not_a_string, parameters, schema::Schema};
use crate::{
    diagnostic::{Severity, excerpt},
    findings::{Findings, Place},
    json::{Kind, Value},
    rules::format::unless_local,
};

/// OpenAI takes this many.
const MOST_TOOLS: usize = 128;

/// What a record declares.
#[derive(Default)]
pub(crate) struct Tools {
    pub(super) functions: Arc<[Function]>,
    /// Where the list of them stands.
    pub(super) place: Option<Place>,
    /// Those of the deprecated `functions`.
    pub(super) old_functions: Vec<Function>,
    /// A list of the wrong type: nobody knows what it declares.
    pub(super) unreadable: bool,
    /// `"parallel_tool_calls": false`.
    pub(super) one_at_a_time: bool,
    /// The calls are those of an answer to be avoided: they may well be wrong.
    pub(crate) rejected: bool,
}

/// One declared function.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(super) name: Box<str>,
    /// `None`: it has no parameters that are an object.
    pub(super) schema: Option<Arc<Schema>>,
    /// Where its name stands: bytes and nodes behind the list that declares it.
    behind: (usize, u32),
}

/// The functions of a record's `tools`, to compare them with those of other records.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    list: Place,
    functions: Arc<[Function]>,
}

impl Declared {
    pub(crate) fn functions(&self) -> &Arc<[Function]> {
        &self.functions
    }

    /// Where the name of one of its functions stands.
    pub(crate) fn place(&self, function: &Function) -> Place {
        self.list.behind(function.behind)
    }
}

impl Function {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A number that is the same for the same parameters, whatever the order of keys; 0 where there are none.
    pub(crate) fn schema_fingerprint(&self) -> u64 {
        self.schema.as_ref().map_or(0, |schema| schema.fingerprint)
    }
}

impl Tools {
    pub(super) fn all(&self) -> impl Iterator<Item = &Function> {
        self.functions.iter().chain(&self.old_functions)
    }

    /// What is kept for the comparison with other records; `None` where nothing is declared.
    pub(crate) fn declared(&self) -> Option<Declared> {
        let list = self.place.filter(|_| !self.functions.is_empty())?;
        Some(Declared { list, functions: self.functions.clone() })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.functions.is_empty() && self.old_functions.is_empty()
    }
}

/// The value of `tools`. One that came before without a fault is not looked at again.
pub(super) fn check_tools(list: Value, tools: &mut Tools, out: &mut Findings) {
    tools.place = Some(list.into());
    if let Some(functions) = cache::clean(list) {
        tools.functions = functions;
        return;
    }
    let before = out.len();
    tools_not_array(list, out);
    tools.unreadable = !matches!(list.kind(), Kind::Array | Kind::Null);
    too_many_tools(list, out);
    let functions: Vec<_> = list.items().filter_map(|tool| check_tool(tool, out)).collect();
    duplicate_tool_name(&functions, out);
    tools.functions = functions.into_iter().map(|function| read(function, list)).collect();
    // Where a rule is switched off, nothing found says nothing.
    if out.len() == before && out.options.ignored.is_empty() {
        cache::remember(list, &tools.functions);
    }
}

/// The function inside: where it belongs, or the tool itself where it was put there.
fn check_tool<'t>(tool: Value<'t>, out: &mut Findings) -> Option<Value<'t>> {
    if tool_flat_format(tool, out) {
        return Some(tool);
    }
    tool_type_invalid(tool, out);
    let function = tool.get("function").filter(|function| function.kind() == Kind::Object)?;
    check_function(function, out);
    Some(function)
}

pub(super) fn check_function(function: Value, out: &mut Findings) {
    tool_name_missing(function, out);
    function_name_invalid(function, out);
    parameters::check_parameters(function, out);
}

pub(super) fn read(function: Value, list: Value) -> Function {
    let name = function.get("name").and_then(|name| name.text()).unwrap_or_default();
    let parameters = function.get("parameters").or_else(|| function.get("input_schema"));
    let schema = parameters.filter(|parameters| parameters.kind() == Kind::Object).map(cache::schema);
    let at = function.get("name").unwrap_or(function);
    let behind = (at.span().start - list.span().start, at.index() - list.index());
    Function { name: name.into(), schema, behind }
}

/// `tools` is not an array.
///
/// Null is a warning: it says the same as leaving it out.
pub(super) fn tools_not_array(tools: Value, out: &mut Findings) {
    let (severity, hint) = match tools.kind() {
        Kind::Array => return,
        Kind::Null => (Severity::Warning, "leave it out where there are none"),
        Kind::String => (Severity::Error, "decode it once: `json.loads(record[\"tools\"])`"),
        Kind::Object => (Severity::Error, "put the tool in a list"),
        _ => (Severity::Error, "write a list of tools"),
    };
    out.add(
        severity,
        "tools-not-array",
        tools,
        format!("expected `tools` to be an array, found {}", tools.described()),
        hint,
    );
}

/// A record declares more than 128 tools.
///
/// OpenAI takes no more in a request. With `--profile local` it is a warning: each of them costs tokens in every
/// example. Declare those that the conversation may need.
pub(super) fn too_many_tools(list: Value, out: &mut Findings) {
    let count = list.items().count();
    if count > MOST_TOOLS {
        let severity = unless_local(out);
        out.add(
            severity,
            "too-many-tools",
            list,
            format!("expected at most {MOST_TOOLS} tools, found {count}"),
            "declare only those that the conversation may need",
        );
    }
}

/// The `type` of a tool is missing or not `function`.
///
/// Hosted tools such as `retrieval` cannot be trained.
fn tool_type_invalid(tool: Value, out: &mut Findings) {
    let kind = tool.get("type");
    let nested = tool.get("function").is_some_and(|function| function.kind() == Kind::Object);
    if kind.is_some_and(|kind| kind.is("function")) && nested {
        return;
    }
    let found = match kind {
        None if tool.kind() != Kind::Object => tool.described().to_owned(),
        None => "none".to_owned(),
        Some(kind) if kind.is("function") => "no object `function`".to_owned(),
        Some(kind) => format!("`{}`", excerpt(kind.raw().trim_matches('"'))),
    };
    out.error(
        "tool-type-invalid",
        kind.unwrap_or(tool),
        format!("expected `\"type\": \"function\"` and its `function`, found {found}"),
        "write `{\"type\": \"function\", \"function\": {\"name\": …, \"parameters\": …}}`",
    );
}

/// A tool is declared without the object `function`.
///
/// The Responses API writes `{"type": "function", "name": …}`, Anthropic `{"name": …, "input_schema": …}`. Nest name,
/// description and parameters under `function`.
fn tool_flat_format(tool: Value, out: &mut Findings) -> bool {
    let flat = tool.get("name").is_some() && tool.get("function").is_none();
    if flat {
        let found = if tool.get("input_schema").is_some() {
            "Anthropic's form with `input_schema`"
        } else {
            "its `name` beside `type`"
        };
        out.error(
            "tool-flat-format",
            tool,
            format!("expected name and parameters inside `function`, found {found}"),
            "write `{\"type\": \"function\", \"function\": {\"name\": …, \"parameters\": …}}`",
        );
    }
    flat
}

/// A function is declared without a name.
fn tool_name_missing(function: Value, out: &mut Findings) {
    if let Some(found) = not_a_string(function, "name") {
        out.error(
            "tool-name-missing",
            function,
            format!("expected a `name`, found {found}"),
            "give the function a name",
        );
    }
}

/// The name of a function has other characters than `a-z A-Z 0-9 _ -`, or not 1 to 64 of them.
///
/// It holds for declarations and for calls.
pub(super) fn function_name_invalid(function: Value, out: &mut Findings) {
    let Some(value) = function.get("name") else { return };
    let Some(name) = value.text() else { return };
    if !is_name(&name) {
        out.error(
            "function-name-invalid",
            value,
            format!("expected 1 to 64 of `a-z A-Z 0-9 _ -`, found `{}`", excerpt(&name)),
            "rename the function, in its calls too",
        );
    }
}

pub(super) fn is_name(name: &str) -> bool {
    let good = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
    (1..=64).contains(&name.len()) && name.chars().all(good)
}

/// Two functions are declared with one name.
///
/// A call says only the name: nobody can tell which of them is meant. Rename one, or delete it.
pub(super) fn duplicate_tool_name(functions: &[Value], out: &mut Findings) {
    let mut names: Vec<_> = functions.iter().filter_map(|function| function.get("name")).collect();
    // Stable, so that the first in the file is the first of its name.
    names.sort_by_key(|name| name.text());
    for pair in names.windows(2) {
        let (Some(first), Some(second)) = (pair[0].text(), pair[1].text()) else { continue };
        if first == second && !first.is_empty() {
            out.warning(
                "duplicate-tool-name",
                pair[1],
                format!("expected a name of its own, found `{}` declared twice", excerpt(&second)),
                "delete one of the two, or rename it",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::{
        Method, Profile, ReadOptions,
        testing::{check, check_with},
    };

    fn with(tools: &str) -> String {
        format!(
            r#"{{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","content":"ok"}}],"tools":{tools}}}"#
        )
    }

    #[test]
    fn declarations_have_their_shape() {
        let records = [
            with("\"[]\""),
            with(r#"{"type":"function","function":{"name":"f"}}"#),
            with("null"),
            with(r#"[{"type":"function","function":{"name":"f","parameters":{}}}]"#),
            with(
                r#"[{"type":"retrieval"},{"type":"function","name":"f"},{"type":"function","function":{"name":"a.b","parameters":[]}},{"type":"function","function":{}}]"#,
            ),
            with(r#"[{"type":"function","function":{"name":"f","description":7}}]"#),
            with(r#"[{"name":"f","input_schema":{"type":"object"}},7,{"function":{"name":"g"}}]"#),
        ];
        check(
            records.join("\n"),
            expect![[r#"
                1:89: error[tools-not-array] /tools: expected `tools` to be an array, found a string
                2:89: error[tools-not-array] /tools: expected `tools` to be an array, found an object
                3:89: warning[tools-not-array] /tools: expected `tools` to be an array, found null
                5:98: error[tool-type-invalid] /tools/0/type: expected `"type": "function"` and its `function`, found `retrieval`
                5:111: error[tool-flat-format] /tools/1: expected name and parameters inside `function`, found its `name` beside `type`
                5:137: warning[tools-inconsistent] /tools/1/name: expected `f` with the parameters of line 4, found others
                5:180: error[function-name-invalid] /tools/2/function/name: expected 1 to 64 of `a-z A-Z 0-9 _ -`, found `a.b`
                5:199: error[tool-parameters-invalid] /tools/2/function/parameters: expected a JSON Schema, found an array
                5:234: error[tool-name-missing] /tools/3/function: expected a `name`, found none
                6:146: error[value-type-invalid] /tools/0/function/description: expected another type here, found a number
                7:90: error[tool-flat-format] /tools/0: expected name and parameters inside `function`, found Anthropic's form with `input_schema`
                7:98: warning[tools-inconsistent] /tools/0/name: expected `f` with the parameters of line 4, found others
                7:136: error[tool-type-invalid] /tools/1: expected `"type": "function"` and its `function`, found a number
                7:138: error[tool-type-invalid] /tools/2: expected `"type": "function"` and its `function`, found none
            "#]],
        );
    }

    #[test]
    fn a_fault_is_told_for_every_record_that_has_it() {
        let good = with(r#"[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]"#);
        let bad = with(r#"[{"type":"function","function":{"name":"f","parameters":{"type":"dict"}}}]"#);
        let file = [&good, &bad, &good, &bad].map(|record| record.as_str()).join("\n");
        check_with(
            &ReadOptions::new(Method::Rft, Profile::Local),
            file.replace(r#",{"role":"assistant","content":"ok"}"#, "").replace("}\n", ",\"answer\":1}\n"),
            expect![[r#"
                2:92: warning[tools-inconsistent] /tools/0/function/name: expected `f` with the parameters of line 1, found others
                2:117: error[tool-parameters-invalid] /tools/0/function/parameters/type: expected a JSON Schema type, found `dict`
                3:1: warning[duplicate-example]: expected a new example, found the one of line 1 again
                4:1: warning[rft-no-reference]: expected a field for the grader beside `messages`, found none
                4:117: error[tool-parameters-invalid] /tools/0/function/parameters/type: expected a JSON Schema type, found `dict`
            "#]],
        );
    }

    #[test]
    fn a_name_is_declared_once() {
        let function = |name: &str| format!(r#"{{"type":"function","function":{{"name":"{name}"}}}}"#);
        let names = ["b", "a", "b", "A", "a", "a", ""];
        check(
            with(&format!("[{}]", names.map(function).join(","))),
            expect![[r#"
            1:216: warning[duplicate-tool-name] /tools/2/function/name: expected a name of its own, found `b` declared twice
            1:304: warning[duplicate-tool-name] /tools/4/function/name: expected a name of its own, found `a` declared twice
            1:348: warning[duplicate-tool-name] /tools/5/function/name: expected a name of its own, found `a` declared twice
            1:392: error[function-name-invalid] /tools/6/function/name: expected 1 to 64 of `a-z A-Z 0-9 _ -`, found ``
        "#]],
        );
    }

    #[test]
    fn tools_are_128_at_most() {
        let tools = |count: usize| {
            let function = |index| format!(r#"{{"type":"function","function":{{"name":"f{index}"}}}}"#);
            with(&format!("[{}]", (0..count).map(function).collect::<Vec<_>>().join(",")))
        };
        check(tools(128), expect![[""]]);
        check(
            tools(129),
            expect![[r#"
            1:89: error[too-many-tools] /tools: expected at most 128 tools, found 129
        "#]],
        );
        check_with(
            &ReadOptions::new(Method::Sft, Profile::Local),
            tools(129),
            expect![[r#"
            1:89: warning[too-many-tools] /tools: expected at most 128 tools, found 129
        "#]],
        );
    }
}
