//! The parameters of a function as a compiled JSON Schema: is it one, and what does it say of arguments.

use std::collections::HashMap;

use jsonschema::{Draft, PatternOptions, ValidationError, Validator, error::ValidationErrorKind, meta::MetaValidator};
use serde_json::Value as Json;

use crate::{facts::fingerprint, json::Value};

/// A declaration's parameters, compiled once for all records that repeat them.
#[derive(Debug)]
pub(super) struct Schema {
    json: Json,
    /// A number that is the same for the same schema, whatever the order of keys.
    pub(super) fingerprint: u64,
    /// What keeps it from being a schema; empty for most.
    pub(super) faults: Vec<Fault>,
    /// `None` where arguments cannot be held against it.
    validator: Option<Validator>,
}

/// One fault of a schema.
#[derive(Debug)]
pub(super) struct Fault {
    /// JSON pointer into the parameters.
    pub(super) pointer: String,
    pub(super) cause: Cause,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The value there is none that the keyword can have.
    Keyword,
    /// The whole describes something else than an object.
    NotObject,
    /// A reference to a place that the schema does not have.
    Dangling,
    /// A reference to another document, which nobody fetches.
    Remote,
    /// A regular expression that does not compile.
    Pattern,
}

/// Where arguments differ from their schema.
pub(super) enum Mismatch<'e> {
    /// JSON pointer of the object, the name in it that is not declared, and those that are.
    Unknown { pointer: String, name: String, known: Vec<&'e str> },
    /// Anything else, as the validator tells it.
    Error(ValidationError<'e>),
}

const MOST_FAULTS: usize = 8;

impl Schema {
    /// Compiles the object `parameters`. Never fetches anything: a reference elsewhere is a fault.
    pub(super) fn compile(parameters: Value) -> Schema {
        let fingerprint = fingerprint(parameters);
        let new = |json, faults, validator| Schema { json, fingerprint, faults, validator };
        let opaque = |json| new(json, Vec::new(), None);
        // What is left unparsed here, lone surrogates and the like, has rules of its own.
        let Ok(mut json) = serde_json::from_str::<Json>(parameters.raw()) else { return opaque(Json::Null) };
        let draft = match draft_of(&json) {
            Ok(draft) => draft,
            Err(faults) => return new(json, faults, None),
        };
        if let Some(fault) = reference_faults(&json).or_else(|| not_object(&json)) {
            return new(json, vec![fault], None);
        }
        if !is_walkable(&json) {
            return opaque(json);
        }
        // The draft is chosen: a name nobody knows would only keep the schema from compiling.
        json.as_object_mut().map(|object| object.shift_remove("$schema"));
        match options(draft).build(&json) {
            Ok(validator) => new(json, Vec::new(), Some(validator)),
            Err(error) => {
                let cause = match error.kind() {
                    ValidationErrorKind::Referencing(_) if !has_meta_reference(&json) => Cause::Dangling,
                    ValidationErrorKind::Format { .. } => Cause::Pattern,
                    _ => return opaque(json),
                };
                let pointer = error.instance_path().to_string();
                new(json, vec![Fault { pointer, cause }], None)
            }
        }
    }

    /// Whether arguments can be held against it.
    pub(super) fn judges(&self) -> bool {
        self.validator.is_some()
    }

    /// Null where OpenAPI's `nullable` allows it: no keyword of JSON Schema, but tools made from an API have it.
    fn is_nullable(&self, error: &ValidationError) -> bool {
        let keyword = error.schema_path().as_str();
        let schema = keyword.rfind('/').and_then(|end| self.json.pointer(&keyword[..end]));
        error.instance().is_null() && schema.and_then(|schema| schema.get("nullable")) == Some(&Json::Bool(true))
    }

    /// How `arguments` differ from it; nothing for most.
    pub(super) fn mismatches<'s: 'e, 'e>(&'s self, arguments: &'e Json) -> Vec<Mismatch<'e>> {
        let Some(validator) = &self.validator else { return Vec::new() };
        let mut found = Vec::new();
        if !validator.is_valid(arguments) {
            let mut errors: Vec<_> =
                validator.iter_errors(arguments).filter(|error| !self.is_nullable(error)).collect();
            let has_type = |error: &ValidationError| matches!(error.kind(), ValidationErrorKind::Type { .. });
            let mistyped: Vec<_> =
                errors.iter().filter(|error| has_type(error)).map(|error| error.instance_path().clone()).collect();
            // What has the wrong type breaks other keywords too: told once.
            errors.retain(|error| has_type(error) || !mistyped.contains(error.instance_path()));
            found.extend(errors.into_iter().take(MOST_FAULTS).map(Mismatch::Error));
        }
        undeclared(&self.json, arguments, &mut String::new(), &mut found);
        found
    }
}

fn options(draft: Draft) -> jsonschema::ValidationOptions<'static> {
    jsonschema::options()
        .with_draft(draft)
        .offline()
        .should_validate_formats(false)
        .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(100_000))
}

/// The draft that it is a schema of: the one it names, or else the newest that takes it.
fn draft_of(json: &Json) -> Result<Draft, Vec<Fault>> {
    let name = json.get("$schema").and_then(Json::as_str).unwrap_or_default();
    let named = [
        ("draft-04", Draft::Draft4),
        ("draft-06", Draft::Draft6),
        ("draft-07", Draft::Draft7),
        ("2019-09", Draft::Draft201909),
        ("2020-12", Draft::Draft202012),
    ]
    .into_iter()
    .find_map(|(part, draft)| name.contains(part).then_some(draft));
    let drafts = match named {
        Some(draft) => vec![draft],
        None => vec![Draft::Draft202012, Draft::Draft7, Draft::Draft4],
    };
    if let Some(draft) = drafts.iter().copied().find(|draft| meta_schema(*draft).is_valid(json)) {
        return Ok(draft);
    }
    let mut faults: Vec<Fault> = Vec::new();
    for error in meta_schema(drafts[0]).iter_errors(json) {
        let pointer = error.instance_path().to_string();
        if faults.len() < MOST_FAULTS && faults.iter().all(|fault| fault.pointer != pointer) {
            faults.push(Fault { pointer, cause: Cause::Keyword });
        }
    }
    Err(faults)
}

fn meta_schema(draft: Draft) -> MetaValidator<'static> {
    match draft {
        Draft::Draft4 => jsonschema::draft4::meta::validator(),
        Draft::Draft6 => jsonschema::draft6::meta::validator(),
        Draft::Draft7 => jsonschema::draft7::meta::validator(),
        Draft::Draft201909 => jsonschema::draft201909::meta::validator(),
        _ => jsonschema::draft202012::meta::validator(),
    }
}

/// The arguments of a call are an object: a schema of anything else takes none.
fn not_object(json: &Json) -> Option<Fault> {
    let takes_object = match json.get("type")? {
        Json::String(kind) => kind == "object",
        Json::Array(kinds) => kinds.iter().any(|kind| kind == "object"),
        _ => true,
    };
    (!takes_object).then(|| Fault { pointer: "/type".to_owned(), cause: Cause::NotObject })
}

/// The first reference that leads out of the schema, or nowhere in it.
fn reference_faults(json: &Json) -> Option<Fault> {
    let mut fault = None;
    each_reference(json, &mut String::new(), &mut |pointer, target| {
        if fault.is_some() || is_meta_schema(target) {
            return;
        }
        let cause = match target.strip_prefix('#') {
            Some(place) if place.is_empty() || !place.starts_with('/') => return,
            Some(place) if json.pointer(&decode(place)).is_some() => return,
            Some(_) => Cause::Dangling,
            None if has_id(json) => return,
            None => Cause::Remote,
        };
        fault = Some(Fault { pointer: format!("{pointer}/$ref"), cause });
    });
    fault
}

/// A schema with a name of its own may refer to itself by that name; the compiler, which fetches nothing, knows.
fn has_id(json: &Json) -> bool {
    json.get("$id").or_else(|| json.get("id")).is_some_and(Json::is_string)
}

/// JSON Schema's own description: known everywhere, though not to a compiler that fetches nothing.
fn is_meta_schema(target: &str) -> bool {
    ["http://json-schema.org/", "https://json-schema.org/"].iter().any(|host| target.starts_with(host))
}

fn has_meta_reference(json: &Json) -> bool {
    let mut found = false;
    each_reference(json, &mut String::new(), &mut |_, target| found |= is_meta_schema(target));
    found
}

/// The fragment of a URI without its percent signs.
fn decode(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        if let (b'%', Some(high), Some(low)) = (first, hex(0), hex(1)) {
            bytes.push((high * 16 + low) as u8);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Calls `see` with the place and target of each `$ref` that is a reference and not a sample of data.
fn each_reference(json: &Json, pointer: &mut String, see: &mut dyn FnMut(&str, &str)) {
    let length = pointer.len();
    match json {
        Json::Object(members) => {
            if let Some(target) = members.get("$ref").and_then(Json::as_str) {
                see(pointer, target);
            }
            for (key, value) in members {
                if !matches!(key.as_str(), "const" | "enum" | "default" | "examples" | "example") {
                    *pointer += "/";
                    *pointer += &key.replace('~', "~0").replace('/', "~1");
                    each_reference(value, pointer, see);
                    pointer.truncate(length);
                }
            }
        }
        Json::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                *pointer += &format!("/{index}");
                each_reference(item, pointer, see);
                pointer.truncate(length);
            }
        }
        _ => {}
    }
}

/// Whether a validation walks it in bounded time and stack: references that double at each step make 2ⁿ of n.
fn is_walkable(json: &Json) -> bool {
    const FREE: usize = 16;
    let mut references = 0;
    each_reference(json, &mut String::new(), &mut |_, _| references += 1);
    references <= FREE || steps(json, json, 0, &mut HashMap::new()).is_some_and(|steps| steps <= 100_000)
}

/// Values that a walk along all references visits. `None`: deeper than any tool's schema.
fn steps(json: &Json, root: &Json, depth: usize, known: &mut HashMap<String, u64>) -> Option<u64> {
    if depth > 128 {
        return None;
    }
    let mut sum: u64 = 1;
    let mut add = |steps: u64| sum = sum.saturating_add(steps);
    match json {
        Json::Object(members) => {
            if let Some(target) = members.get("$ref").and_then(Json::as_str) {
                match known.get(target) {
                    Some(steps) => add(*steps),
                    None => {
                        // A reference to what it stands in is not followed again.
                        known.insert(target.to_owned(), 0);
                        let place = target.strip_prefix('#').and_then(|place| root.pointer(&decode(place)));
                        let count = place.map_or(Some(0), |place| steps(place, root, depth + 1, known))?;
                        known.insert(target.to_owned(), count);
                        add(count);
                    }
                }
            }
            for value in members.values() {
                add(steps(value, root, depth + 1, known)?);
            }
        }
        Json::Array(items) => {
            for item in items {
                add(steps(item, root, depth + 1, known)?);
            }
        }
        _ => {}
    }
    Some(sum)
}

/// Names that no `properties` declare. JSON Schema lets them pass unless it is told not to; where a schema says more
/// than `properties` about names (`additionalProperties`, a pattern, a choice, a reference), they are its own affair.
fn undeclared<'e>(schema: &'e Json, value: &Json, pointer: &mut String, found: &mut Vec<Mismatch<'e>>) {
    const ELSEWHERE: [&str; 11] = [
        "$ref",
        "$dynamicRef",
        "$recursiveRef",
        "allOf",
        "anyOf",
        "oneOf",
        "if",
        "dependentSchemas",
        "dependencies",
        "patternProperties",
        "unevaluatedProperties",
    ];
    let Some(schema) = schema.as_object() else { return };
    if ELSEWHERE.iter().any(|keyword| schema.contains_key(*keyword)) {
        return;
    }
    let length = pointer.len();
    match value {
        Json::Object(members) => {
            let Some(properties) = schema.get("properties").and_then(Json::as_object) else { return };
            let closed = !schema.contains_key("additionalProperties");
            for (name, member) in members {
                match properties.get(name) {
                    Some(property) => {
                        *pointer += "/";
                        *pointer += &name.replace('~', "~0").replace('/', "~1");
                        undeclared(property, member, pointer, found);
                        pointer.truncate(length);
                    }
                    None if closed && found.len() < MOST_FAULTS => found.push(Mismatch::Unknown {
                        pointer: pointer.clone(),
                        name: name.clone(),
                        known: properties.keys().map(String::as_str).collect(),
                    }),
                    None => {}
                }
            }
        }
        Json::Array(items) => {
            let Some(schema) = schema.get("items") else { return };
            for (index, item) in items.iter().enumerate() {
                *pointer += &format!("/{index}");
                undeclared(schema, item, pointer, found);
                pointer.truncate(length);
            }
        }
        _ => {}
    }
}

/// The value at a JSON pointer, or the last one on the way there.
pub(super) fn at_pointer<'t>(value: Value<'t>, pointer: &str) -> Value<'t> {
    let mut value = value;
    for token in pointer.split('/').skip(1) {
        let name = token.replace("~1", "/").replace("~0", "~");
        let next = value.get(&name).or_else(|| value.items().nth(token.parse().ok()?));
        match next {
            Some(next) => value = next,
            None => break,
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use std::{io::ErrorKind, net::TcpListener, time::Instant};

    use super::*;
    use crate::json::Parser;

    fn compile(text: &str) -> Schema {
        Schema::compile(Parser::default().parse(text, 0).root().unwrap())
    }

    fn causes(text: &str) -> Vec<(String, Cause)> {
        compile(text).faults.into_iter().map(|fault| (fault.pointer, fault.cause)).collect()
    }

    #[test]
    fn no_reference_is_ever_fetched() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let http = format!("http://{}/schema.json", listener.local_addr().unwrap());
        let path = std::env::temp_dir().join("afina-never-read.json");
        let file = format!("file://{}", path.display());
        for target in [http, file, "https://localhost/x.json#/a".into(), "other.json".into()] {
            for schema in [
                format!(r#"{{"$ref":"{target}"}}"#),
                format!(r#"{{"type":"object","properties":{{"a":{{"$ref":"{target}"}}}}}}"#),
            ] {
                let compiled = compile(&schema);
                assert!(!compiled.judges(), "{schema}");
                assert_eq!(compiled.faults[0].cause, Cause::Remote, "{schema}");
            }
            // With a name of its own the schema gets as far as the compiler, which is told to fetch nothing.
            for schema in [
                format!(r#"{{"$id":"{target}","properties":{{"a":{{"$ref":"x.json"}}}}}}"#),
                format!(r#"{{"$id":"urn:a","properties":{{"a":{{"$ref":"{target}"}}}}}}"#),
                format!(r#"{{"$schema":"{target}","$id":"urn:a","properties":{{"a":{{"$ref":"{target}"}}}}}}"#),
            ] {
                assert!(!compile(&schema).judges(), "{schema}");
            }
            let vocabulary = format!(r#"{{"$schema":"{target}","type":"object"}}"#);
            assert!(compile(&vocabulary).judges(), "{vocabulary}");
        }
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody connected");
    }

    #[test]
    fn a_schema_of_any_draft_is_one() {
        for good in [
            "{}",
            r#"{"type":"object"}"#,
            r#"{"type":["object","null"],"properties":{}}"#,
            r#"{"properties":{"a":{"type":"number","exclusiveMinimum":true,"minimum":0}}}"#,
            r#"{"properties":{"a":{"type":"array","items":[{"type":"string"},{"type":"number"}]}}}"#,
            r##"{"$defs":{"a b":{"type":"string"}},"properties":{"x":{"$ref":"#/$defs/a%20b"},"y":{"$ref":"#"}}}"##,
            r##"{"$defs":{"n":{"$anchor":"node"}},"properties":{"x":{"$ref":"#node"}}}"##,
            r#"{"$schema":"http://json-schema.org/schema#","type":"object"}"#,
            r#"{"properties":{"$ref":{"type":"string"},"x":{"default":{"$ref":"http://x/y"}}}}"#,
            r#"{"x-order":["b","a"],"properties":{"a":{"type":"string","nullable":true,"optional":false}}}"#,
        ] {
            let schema = compile(good);
            assert!(schema.faults.is_empty() && schema.judges(), "{good}");
        }
        assert_eq!(causes(r#"{"properties":{"x":{"$ref":"http://json-schema.org/draft-07/schema#"}}}"#), []);
    }

    #[test]
    fn what_is_no_schema_is_told_by_its_place() {
        let keyword = |pointer: &str| vec![(pointer.to_owned(), Cause::Keyword)];
        assert_eq!(causes(r#"{"type":"dict"}"#), keyword("/type"));
        assert_eq!(
            causes(r#"{"properties":{"a":{"type":"string","required":true}}}"#),
            keyword("/properties/a/required")
        );
        assert_eq!(causes(r#"{"type":"object","properties":["a"]}"#), keyword("/properties"));
        assert_eq!(causes(r#"{"type":"string"}"#), [("/type".to_owned(), Cause::NotObject)]);
        assert_eq!(
            causes(r##"{"properties":{"a":{"$ref":"#/$defs/A"}}}"##),
            [("/properties/a/$ref".to_owned(), Cause::Dangling)]
        );
        assert_eq!(
            causes(r#"{"properties":{"a":{"pattern":"["}}}"#),
            [("/properties/a/pattern".to_owned(), Cause::Pattern)]
        );
    }

    #[test]
    fn a_schema_made_to_take_for_ever_is_left_alone() {
        let start = Instant::now();
        let definitions: Vec<String> = (0..40)
            .map(|index| {
                format!(r##""d{index}":{{"allOf":[{{"$ref":"#/$defs/d{0}"}},{{"$ref":"#/$defs/d{0}"}}]}}"##, index + 1)
            })
            .collect();
        let doubling =
            format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{},"d40":{{"required":["x"]}}}}}}"##, definitions.join(","));
        let chain: Vec<String> =
            (0..20_000).map(|index| format!(r##""d{index}":{{"$ref":"#/$defs/d{}"}}"##, index + 1)).collect();
        let chain = format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{},"d20000":{{}}}}}}"##, chain.join(","));
        for schema in [&doubling, &chain] {
            assert!(!compile(schema).judges());
        }
        let turning = compile(r##"{"allOf":[{"$ref":"#"},{"$ref":"#"}],"properties":{"a":{"$ref":"#"}}}"##);
        let deep = "{\"a\":".repeat(100) + "1" + &"}".repeat(100);
        turning.mismatches(&serde_json::from_str(&deep).unwrap());
        let pattern = compile(r#"{"properties":{"a":{"pattern":"^(a+)+(?=b)$"}}}"#);
        pattern.mismatches(&serde_json::json!({ "a": "a".repeat(40) }));
        assert!(start.elapsed().as_secs() < 10);
    }
}
