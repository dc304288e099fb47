//! Tools that several records declare: that a name means one function.

use std::sync::Arc;

use rapidhash::{RapidHashMap, RapidHashSet, v3::rapidhash_v3};

use crate::{
    diagnostic::excerpt,
    facts::mix,
    findings::{Findings, Place},
    rules::tools::{Declared, Function},
};

/// Names, and definitions that differ, up to which they are remembered: 64 MB at most.
const MOST_NAMES: usize = 1 << 20;

/// The tools of a file so far.
#[derive(Default)]
pub(crate) struct Definitions {
    /// Parameters and line where each name came first.
    first: RapidHashMap<u64, (u64, u32)>,
    /// Names with other parameters than the first, as far as they were told.
    told: RapidHashSet<u64>,
    /// Lists that were compared last: the same list again has nothing new.
    recent: Vec<Arc<[Function]>>,
}

impl Definitions {
    /// What the record in `line` declares.
    pub(crate) fn check(&mut self, line: usize, declared: &Declared, out: &mut Findings) {
        const RECENT: usize = 8;
        let functions = declared.functions();
        if self.recent.iter().any(|recent| Arc::ptr_eq(recent, functions)) {
            return;
        }
        for function in functions.iter().filter(|function| !function.name().is_empty()) {
            self.check_function(line, function, declared.place(function), out);
        }
        if self.recent.len() == RECENT {
            self.recent.remove(0);
        }
        self.recent.push(functions.clone());
    }

    fn check_function(&mut self, line: usize, function: &Function, place: Place, out: &mut Findings) {
        let (name, schema) = (rapidhash_v3(function.name().as_bytes()), function.schema_fingerprint());
        match self.first.get(&name) {
            Some((first, _)) if *first == schema || self.told.len() >= MOST_NAMES => {}
            Some((_, first_line)) if self.told.insert(mix(name, schema)) => {
                tools_inconsistent(place, function.name(), *first_line as usize, out);
            }
            Some(_) => {}
            None if self.first.len() < MOST_NAMES => {
                self.first.insert(name, (schema, u32::try_from(line).unwrap_or(u32::MAX)));
            }
            None => {}
        }
    }
}

/// A function has other parameters than in the examples before.
///
/// The model learns one way to call a function; at work there is one definition. Keep definitions the same in all
/// examples. The order of keys does not count, nor does the description of the function. Said once for each different
/// definition.
fn tools_inconsistent(place: Place, name: &str, first_line: usize, out: &mut Findings) {
    out.warning(
        "tools-inconsistent",
        place,
        format!("expected `{}` with the parameters of line {first_line}, found others", excerpt(name)),
        "give the function the same parameters in all examples, or another name",
    );
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::check;

    fn record(index: usize, functions: &str) -> String {
        format!(
            r#"{{"messages":[{{"role":"user","content":"{index}"}},{{"role":"assistant","content":"ok"}}],"tools":[{functions}]}}"#
        ) + "\n"
    }

    fn function(name: &str, rest: &str) -> String {
        format!(r#"{{"type":"function","function":{{"name":"{name}"{rest}}}}}"#)
    }

    #[test]
    fn a_name_means_one_function() {
        let city = r#","parameters":{"type":"object","properties":{"city":{"type":"string"}}}"#;
        let same = r#", "description":"x", "parameters":{"properties":{"city":{"type":"string"}}, "type":"object"}"#;
        let place = r#","parameters":{"type":"object","properties":{"place":{"type":"string"}}}"#;
        let file = [
            function("f", city),
            function("f", same),
            [function("g", ""), function("f", place)].join(","),
            [function("g", ""), function("f", place)].join(","),
            [function("f", place), function("g", place)].join(","),
            function("f", ""),
            function("F", ""),
        ];
        let file: String = file.iter().enumerate().map(|(index, functions)| record(index, functions)).collect();
        check(
            file,
            expect![[r#"
            3:172: warning[tools-inconsistent] /tools/1/function/name: expected `f` with the parameters of line 1, found others
            5:244: warning[tools-inconsistent] /tools/1/function/name: expected `g` with the parameters of line 3, found others
            6:128: warning[tools-inconsistent] /tools/0/function/name: expected `f` with the parameters of line 1, found others
        "#]],
        );
    }
}
