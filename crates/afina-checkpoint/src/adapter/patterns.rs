//! PEFT's `rank_pattern` and `alpha_pattern`: values for the modules whose names match a regular expression.

use std::fmt;
use std::marker::PhantomData;

use regex::{RegexSet, RegexSetBuilder};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that all expressions of a file may take when they are compiled; those of a thousand module names take one hundredth.
const SIZE_LIMIT: usize = 4 << 20;

/// Regular expressions with a value each, in the order of the file: the first that matches counts.
#[derive(Debug, Clone)]
pub struct Patterns<T> {
    entries: Vec<(String, T)>,
    /// The entries' expressions; nothing where one is none here, or all of them are too large.
    compiled: Option<RegexSet>,
}

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Patterns::new(Vec::new())
    }
}

impl<T: PartialEq> PartialEq for Patterns<T> {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl<T> Patterns<T> {
    fn new(entries: Vec<(String, T)>) -> Patterns<T> {
        let compiled = compile(entries.iter().map(|(pattern, _)| pattern.as_str()));
        Patterns { entries, compiled }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a pattern behind the others.
    pub fn push(&mut self, pattern: impl Into<String>, value: T) {
        self.entries.push((pattern.into(), value));
        *self = Patterns::new(std::mem::take(&mut self.entries));
    }

    /// Puts a value for one module before all patterns.
    pub(crate) fn set(&mut self, module: &str, value: T) {
        self.entries.insert(0, (format!("^{}", regex::escape(module)), value));
        *self = Patterns::new(std::mem::take(&mut self.entries));
    }

    /// The first pattern that is none here, such as one that looks ahead; or the first, if all together are too large.
    pub(crate) fn unreadable(&self) -> Option<&str> {
        if self.compiled.is_some() {
            return None;
        }
        let mut patterns = self.entries.iter().map(|(pattern, _)| pattern.as_str());
        patterns.clone().find(|pattern| compile([*pattern].into_iter()).is_none()).or_else(|| patterns.next())
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
        let matches = self.compiled.as_ref().map(|compiled| compiled.matches(module));
        matches.into_iter().flatten().map(|index| self.entries[index].1)
    }

    pub fn values(&self) -> impl Iterator<Item = T> {
        self.entries.iter().map(|(_, value)| *value)
    }
}

fn compile<'a>(patterns: impl Iterator<Item = &'a str>) -> Option<RegexSet> {
    let whole = patterns.map(|pattern| format!("^(?:.*\\.)?(?:{pattern})$"));
    RegexSetBuilder::new(whole).size_limit(SIZE_LIMIT).dfa_size_limit(SIZE_LIMIT).build().ok()
}

impl<T: Serialize> Serialize for Patterns<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.entries.iter().map(|(pattern, value)| (pattern, value)))
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
                Ok(Patterns::new(patterns))
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
        let large: Patterns<usize> = serde_json::from_str(r#"{"q_proj": 1, "(\\w{1000}){1000}": 2}"#).unwrap();
        assert_eq!(large.unreadable(), Some("(\\w{1000}){1000}"));
    }

    #[test]
    fn a_pattern_for_each_module_of_a_large_model_is_read() {
        let mut patterns = Patterns::default();
        let modules: Vec<String> = (0..200).map(|layer| format!("model.layers.{layer}.mlp.down_proj")).collect();
        for (rank, module) in modules.iter().enumerate() {
            patterns.set(module, rank);
        }
        assert!(patterns.unreadable().is_none());
        for (rank, module) in modules.iter().enumerate() {
            assert_eq!(patterns.lookup(module), Some(rank));
        }
    }
}
