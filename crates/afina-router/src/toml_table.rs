//! TOML tables read with the place of every value, so that a problem can point at it.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::problem::{Problems, did_you_mean};

/// A table whose keys are known; a key that is not was reported when it was opened.
pub(crate) struct Table<'t, 'i> {
    table: &'t DeTable<'i>,
    /// As a user would write it, `agents.soporte`; empty for the whole file.
    pub(crate) name: String,
    pub(crate) span: Range<usize>,
}

impl<'t, 'i> Table<'t, 'i> {
    pub(crate) fn open(
        table: &'t DeTable<'i>,
        span: Range<usize>,
        name: String,
        known: &[&'static str],
        problems: &mut Problems,
    ) -> Table<'t, 'i> {
        let place = if name.is_empty() { String::new() } else { format!(" in `{name}`") };
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let near = did_you_mean(key.get_ref(), known.iter().copied());
            let hint = if near.is_empty() { format!("known keys: {}", known.join(", ")) } else { near };
            problems.error(&key.span(), "unknown-key", format!("unknown key `{}`{place}", key.get_ref()), hint);
        }
        Table { table, name, span }
    }

    fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.table.get(key)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_string() } else { format!("{}.{key}", self.name) }
    }

    /// A string; problem `wrong-type` if it is something else.
    pub(crate) fn string(&self, key: &str, problems: &mut Problems) -> Option<Spanned<String>> {
        let value = self.get(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some(Spanned::new(value.span(), text.to_string())),
            None => self.wrong_type(key, value, "a string", problems),
        }
    }

    /// A string that must be there; problem `missing-key` if it is not.
    pub(crate) fn required(&self, key: &str, problems: &mut Problems) -> Option<Spanned<String>> {
        if !self.has(key) {
            problems.error(&self.span, "missing-key", format!("missing key `{}`", self.path(key)), "");
        }
        self.string(key, problems)
    }

    /// A whole number of at least 1.
    pub(crate) fn count(&self, key: &str, problems: &mut Problems) -> Option<usize> {
        let value = self.get(key)?;
        let parse = |value: &DeValue| {
            let integer = value.as_integer()?;
            i64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
        };
        match parse(value.get_ref()) {
            Some(number) if number >= 1 => usize::try_from(number).ok(),
            Some(number) => {
                let message = format!("`{}` must be at least 1, found {number}", self.path(key));
                problems.error(&value.span(), "wrong-value", message, "");
                None
            }
            None => self.wrong_type(key, value, "a whole number", problems),
        }
    }

    /// A number from `low` to `high`.
    pub(crate) fn number(&self, key: &str, low: f64, high: f64, problems: &mut Problems) -> Option<f64> {
        let value = self.get(key)?;
        let text = match value.get_ref() {
            DeValue::Integer(integer) => integer.as_str().replace('_', ""),
            DeValue::Float(float) => float.as_str().replace('_', ""),
            _ => return self.wrong_type(key, value, "a number", problems),
        };
        match text.parse::<f64>() {
            Ok(number) if (low..=high).contains(&number) => Some(number),
            _ => {
                let message = format!("`{}` must lie between {low} and {high}, found {text}", self.path(key));
                problems.error(&value.span(), "wrong-value", message, "");
                None
            }
        }
    }

    /// An array of strings.
    pub(crate) fn strings(&self, key: &str, problems: &mut Problems) -> Option<Vec<Spanned<String>>> {
        let value = self.get(key)?;
        let Some(items) = value.get_ref().as_array() else {
            return self.wrong_type(key, value, "an array of strings", problems);
        };
        let mut strings = Vec::new();
        for item in items {
            match item.get_ref().as_str() {
                Some(text) => strings.push(Spanned::new(item.span(), text.to_string())),
                None => return self.wrong_type(key, item, "a string", problems),
            }
        }
        Some(strings)
    }

    /// A table.
    pub(crate) fn table(&self, key: &str, known: &[&'static str], problems: &mut Problems) -> Option<Table<'t, 'i>> {
        let value = self.get(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(Table::open(table, value.span(), self.path(key), known, problems)),
            None => self.wrong_type(key, value, "a table", problems),
        }
    }

    /// Tables with names of the user's own: `[agents.soporte]`, `[agents.ventas]`.
    pub(crate) fn named(
        &self,
        key: &str,
        known: &[&'static str],
        problems: &mut Problems,
    ) -> Vec<(Spanned<String>, Table<'t, 'i>)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(tables) = value.get_ref().as_table() else {
            self.wrong_type::<()>(key, value, "tables", problems);
            return Vec::new();
        };
        let mut named = Vec::new();
        for (name, value) in tables {
            let path = format!("{}.{}", self.path(key), name.get_ref());
            match value.get_ref().as_table() {
                Some(table) => {
                    let name = Spanned::new(name.span(), name.get_ref().to_string());
                    named.push((name, Table::open(table, value.span(), path, known, problems)));
                }
                None => problems.error(&value.span(), "wrong-type", wrong_type(&path, "a table", value), ""),
            }
        }
        named
    }

    /// An array of tables: `[[routes]]`.
    pub(crate) fn tables(&self, key: &str, known: &[&'static str], problems: &mut Problems) -> Vec<Table<'t, 'i>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type::<()>(key, value, "an array of tables", problems);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}[{index}]", self.path(key));
            match item.get_ref().as_table() {
                Some(table) => tables.push(Table::open(table, item.span(), path, known, problems)),
                None => problems.error(&item.span(), "wrong-type", wrong_type(&path, "a table", item), ""),
            }
        }
        tables
    }

    fn wrong_type<T>(&self, key: &str, value: &Spanned<DeValue>, expected: &str, problems: &mut Problems) -> Option<T> {
        problems.error(&value.span(), "wrong-type", wrong_type(&self.path(key), expected, value), "");
        None
    }
}

fn wrong_type(path: &str, expected: &str, value: &Spanned<DeValue>) -> String {
    format!("`{path}` must be {expected}, found {}", value.get_ref().type_str())
}
