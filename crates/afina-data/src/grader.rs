//! What a grader reads of a line: the fields it names as `{{item.field}}`.

use serde_json::Value as Json;

/// The grader of a reinforcement fine-tuning job, as far as the data file depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grader {
    fields: Vec<ItemField>,
}

/// A field of a line that a grader reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ItemField {
    /// Names from the record inwards; a number is an index of a list, or a name.
    pub(crate) path: Vec<String>,
}

/// Why a text is no grader.
#[derive(Debug, thiserror::Error)]
pub enum GraderError {
    #[error("failed to read the grader as JSON")]
    Json(#[from] serde_json::Error),
    #[error("grader: expected an object with `type`, found {found}")]
    NoType { found: &'static str },
    #[error(
        "grader: expected type `string_check`, `text_similarity`, `score_model`, `label_model`, `python` or `multi`, found `{found}`"
    )]
    Type { found: String },
}

const TYPES: [&str; 6] = ["string_check", "text_similarity", "score_model", "label_model", "python", "multi"];

impl Grader {
    /// Reads a grader as OpenAI's API takes it, alone or inside a job's `method`.
    ///
    /// # Errors
    /// If it is not JSON, or not an object with a `type` that OpenAI has.
    pub fn from_json(text: &str) -> Result<Grader, GraderError> {
        let json: Json = serde_json::from_str(text)?;
        let wrappers = ["/grader", "/reinforcement/grader", "/method/reinforcement/grader"];
        let grader = wrappers.iter().find_map(|pointer| json.pointer(pointer)).unwrap_or(&json);
        check_type(grader)?;
        let mut fields = Vec::new();
        collect(grader, &mut fields);
        Ok(Grader { fields })
    }

    pub(crate) fn fields(&self) -> &[ItemField] {
        &self.fields
    }
}

fn check_type(grader: &Json) -> Result<(), GraderError> {
    let found = match grader {
        Json::Object(members) => match members.get("type") {
            Some(Json::String(kind)) if TYPES.contains(&kind.as_str()) => {
                return graders_inside(grader).try_for_each(check_type);
            }
            Some(Json::String(kind)) => return Err(GraderError::Type { found: kind.clone() }),
            Some(_) => "one whose type is no string",
            None => "one without",
        },
        Json::Array(_) => "an array",
        _ => "neither object nor array",
    };
    Err(GraderError::NoType { found })
}

/// The parts of a `multi` grader: by their names, or a single one.
fn graders_inside(grader: &Json) -> impl Iterator<Item = &Json> {
    let inside = grader.get("graders");
    let single = inside.filter(|inside| inside.get("type").is_some_and(Json::is_string));
    let named = inside.filter(|_| single.is_none()).and_then(Json::as_object);
    single.into_iter().chain(named.into_iter().flat_map(|graders| graders.values()))
}

/// The fields named in any string, but for a program's source, which is not a template.
fn collect(json: &Json, fields: &mut Vec<ItemField>) {
    match json {
        Json::String(text) => {
            for field in fields_of(text) {
                if !fields.contains(&field) {
                    fields.push(field);
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| collect(item, fields)),
        Json::Object(members) => {
            let is_program = members.get("type").is_some_and(|kind| kind == "python");
            for (name, member) in members {
                if !(is_program && name == "source") {
                    collect(member, fields);
                }
            }
        }
        _ => {}
    }
}

/// The fields that a template reads: `{{item.a}}`, `{{ item.a.b }}`, `{{ item["a"][0] | tojson }}`.
fn fields_of(template: &str) -> Vec<ItemField> {
    let mut fields = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find("{{") {
        rest = &rest[start + 2..];
        let Some(end) = rest.find("}}") else { break };
        expression_fields(&rest[..end], &mut fields);
        rest = &rest[end + 2..];
    }
    fields
}

fn expression_fields(expression: &str, fields: &mut Vec<ItemField>) {
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        if first == '"' || first == '\'' {
            rest = after_quoted(rest);
        } else if is_word(first) || first == '.' {
            // What follows a dot belongs to another name: `sample.item.x`.
            let word_end = rest.find(|char: char| !is_word(char) && char != '.').unwrap_or(rest.len());
            let (word, after) = rest.split_at(word_end);
            let mut parts = word.split('.');
            if parts.next() != Some("item") {
                rest = after;
                continue;
            }
            let mut path: Vec<String> = parts.filter(|part| !part.is_empty()).map(str::to_owned).collect();
            rest = subscripts(after, &mut path);
            if rest.starts_with('(') {
                // A method, as in `item.text.upper()`: no field.
                path.pop();
            }
            if !path.is_empty() {
                fields.push(ItemField { path });
            }
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_' || char == '$'
}

/// Reads `["a"][0].b` behind a name; returns what is left.
fn subscripts<'t>(text: &'t str, path: &mut Vec<String>) -> &'t str {
    let mut rest = text;
    loop {
        if let Some(inside) = rest.strip_prefix('[') {
            let Some(end) = inside.find(']') else { return rest };
            let token = inside[..end].trim();
            let name = token.trim_matches(['"', '\'']);
            // A variable as subscript: nobody knows what it reads.
            if name.len() == token.len() && token.parse::<usize>().is_err() {
                return &inside[end + 1..];
            }
            path.push(name.to_owned());
            rest = &inside[end + 1..];
        } else if let Some(inside) = rest.strip_prefix('.').filter(|inside| inside.starts_with(is_word)) {
            let end = inside.find(|char: char| !is_word(char)).unwrap_or(inside.len());
            path.push(inside[..end].to_owned());
            rest = &inside[end..];
        } else {
            return rest;
        }
    }
}

fn after_quoted(text: &str) -> &str {
    let mut chars = text.chars();
    let quote = chars.next();
    while let Some(char) = chars.next() {
        if char == '\\' {
            chars.next();
        } else if Some(char) == quote {
            break;
        }
    }
    chars.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Vec<String> {
        Grader::from_json(text).unwrap().fields().iter().map(|field| field.path.join(".")).collect()
    }

    #[test]
    fn every_type_tells_what_it_reads() {
        assert_eq!(
            fields(
                r#"{"type":"string_check","input":"{{sample.output_text}}","reference":"{{item.answer}}","operation":"eq"}"#
            ),
            ["answer"]
        );
        assert_eq!(
            fields(
                r#"{"type":"score_model","model":"m","input":[{"role":"user","content":"{{ item.a.b }} and {{item.c}}"},{"role":"user","content":{"type":"input_text","text":"{{item.d}} {{item.c}}"}}]}"#
            ),
            ["a.b", "c", "d"]
        );
        assert_eq!(
            fields(
                r#"{"type":"multi","graders":{"x":{"type":"text_similarity","reference":"{{item.x}}"},"y":{"type":"python","source":"f'{{item.z}}'","note":"{{item.y}}"}},"calculate_output":"x"}"#
            ),
            ["x", "y"]
        );
        assert_eq!(fields(r#"{"type":"label_model","labels":["a"],"input":[]}"#), [""; 0]);
        assert_eq!(
            fields(
                r#"{"type":"reinforcement","reinforcement":{"grader":{"type":"string_check","reference":"{{item.a}}"}}}"#
            ),
            ["a"]
        );
    }

    #[test]
    fn only_what_follows_item_is_a_field() {
        let of = |template: &str| fields_of(template).into_iter().map(|field| field.path.join(".")).collect::<Vec<_>>();
        assert_eq!(of("{{item['a b'][0].c|tojson}}"), ["a b.0.c"]);
        assert_eq!(of("{{ item.a }}{{- item.b -}} {{item.c ~ item.d}}"), ["a", "b", "c", "d"]);
        assert_eq!(of("{{ item.name.upper() }} {{ item.list[i] }} {{ item.get('x') }}"), ["name", "list"]);
        for none in [
            "item.a",
            "{item.a}",
            "{{items.a}}",
            "{{sample.item.a}}",
            "{{ 'item.a' }}",
            "{{item}}",
            "{{ item. }}",
            "{{item.a",
            "{{ \"",
            "{{item[}}",
        ] {
            assert_eq!(of(none), [""; 0], "{none}");
        }
    }

    #[test]
    fn what_is_no_grader_is_refused() {
        let error = |text: &str| Grader::from_json(text).unwrap_err().to_string();
        assert_eq!(error("{"), "failed to read the grader as JSON");
        assert_eq!(error("[]"), "grader: expected an object with `type`, found an array");
        assert_eq!(error("{}"), "grader: expected an object with `type`, found one without");
        let unknown = "grader: expected type `string_check`, `text_similarity`, `score_model`, `label_model`, `python` or `multi`, found `exact`";
        assert_eq!(error(r#"{"type":"exact"}"#), unknown);
        assert_eq!(error(r#"{"type":"multi","graders":{"a":{"type":"exact"}}}"#), unknown);
    }
}
