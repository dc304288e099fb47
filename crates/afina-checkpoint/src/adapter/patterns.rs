//! PEFT's `rank_pattern` and `alpha_pattern`: values for the modules whose names match a regular expression.

use std::fmt;
use std::marker::PhantomData;

use regex::Regex;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Regular expressions with a value each, in the order of the file: the first that matches counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Patterns<T>(Vec<(String, T)>);

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Patterns(Vec::new())
    }
}

impl<T: Copy> Patterns<T> {
    /// The value of the first pattern that matches the module's path whole, or from a dot to its end.
    ///
    /// Source: PEFT `utils/other.py`, `get_pattern_key`: `re.match(rf"(.*\.)?({key})$", path)`.
    pub fn lookup(&self, module: &str) -> Option<T> {
        self.matching(module).next()
    }

    /// The values of all patterns that match the module.
    pub(crate) fn matching(&self, module: &str) -> impl Iterator<Item = T> {
        let matches = move |pattern: &str| compile(pattern).is_ok_and(|regex| regex.is_match(module));
        self.0.iter().filter(move |(pattern, _)| matches(pattern)).map(|(_, value)| *value)
    }

    /// Puts a value for one module before all patterns.
    pub(crate) fn set(&mut self, module: &str, value: T) {
        self.0.insert(0, (format!("^{}", regex::escape(module)), value));
    }

    pub fn values(&self) -> impl Iterator<Item = T> {
        self.0.iter().map(|(_, value)| *value)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a pattern behind the others.
    pub fn push(&mut self, pattern: impl Into<String>, value: T) {
        self.0.push((pattern.into(), value));
    }

    /// The first pattern that is none here, such as one that looks ahead.
    pub(crate) fn unreadable(&self) -> Option<&str> {
        self.0.iter().map(|(pattern, _)| pattern.as_str()).find(|pattern| compile(pattern).is_err())
    }
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!("^(?:.*\\.)?(?:{pattern})$"))
}

impl<T: Serialize> Serialize for Patterns<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(pattern, value)| (pattern, value)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patterns<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
            type Value = Patterns<T>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of patterns and numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Patterns<T>, A::Error> {
                let mut patterns = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    patterns.push(entry);
                }
                Ok(Patterns(patterns))
            }

            fn visit_unit<E>(self) -> Result<Patterns<T>, E> {
                Ok(Patterns::default())
            }
        }
        deserializer.deserialize_any(InOrder(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_match_in_the_order_of_the_file_counts() {
        let patterns: Patterns<usize> = serde_json::from_str(
            r#"{"layers.1.self_attn.q_proj": 16, "q_proj": 8, "^model\\.layers\\.[02]\\.mlp.*": 2}"#,
        )
        .unwrap();
        // Each as Python's `re` decides with PEFT's expression.
        for (module, expected) in [
            ("model.layers.1.self_attn.q_proj", Some(16)),
            ("model.layers.11.self_attn.q_proj", Some(8)),
            ("model.layers.0.self_attn.q_proj", Some(8)),
            ("model.layers.0.self_attn.k_proj", None),
            ("model.layers.0.mlp.up_proj", Some(2)),
            ("model.layers.2.mlp.down_proj", Some(2)),
            ("model.layers.12.mlp.down_proj", None),
            ("xq_proj", None),
        ] {
            assert_eq!(patterns.lookup(module), expected, "{module}");
        }
        let either: Patterns<usize> = serde_json::from_str(r#"{"up_proj|down_proj": 4}"#).unwrap();
        assert_eq!(either.lookup("model.layers.3.mlp.down_proj"), Some(4));
        assert_eq!(either.lookup("model.layers.3.mlp.gate_proj"), None);
        assert_eq!(
            serde_json::to_string(&patterns).unwrap(),
            r#"{"layers.1.self_attn.q_proj":16,"q_proj":8,"^model\\.layers\\.[02]\\.mlp.*":2}"#
        );
    }

    #[test]
    fn what_is_no_expression_here_is_named() {
        let patterns: Patterns<usize> = serde_json::from_str(r#"{"q_proj": 1, "(?=x)y": 2}"#).unwrap();
        assert_eq!(patterns.unreadable(), Some("(?=x)y"));
        assert_eq!(patterns.lookup("y"), None);
    }
}
