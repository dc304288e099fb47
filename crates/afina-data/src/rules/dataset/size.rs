//! How many examples there are.

use crate::{
    diagnostic::Severity,
    findings::{Findings, Place},
    read::{Method, Profile},
};

const START: Place = Place::line(1);

/// The file has fewer than 10 examples.
///
/// OpenAI and Azure refuse it ("Training file has 7 example(s), but must have at least 10 examples"); 50 to 100 good
/// ones are a start. A warning for the methods dpo and rft, for that text is of supervised jobs. Not checked for
/// `--profile local` and `together`.
pub(crate) fn too_few_examples(examples: usize, out: &mut Findings) {
    if (1..10).contains(&examples) && matches!(out.options.profile, Profile::OpenAi | Profile::Azure) {
        let severity = if out.options.method == Method::Sft { Severity::Error } else { Severity::Warning };
        out.add(
            severity,
            "too-few-examples",
            START,
            format!("expected at least 10 examples, found {examples}"),
            "add examples: OpenAI recommends to start with 50",
        );
    }
}

/// The file has fewer than 50 examples.
///
/// It is accepted, but OpenAI recommends to start with 50 well-made ones.
pub(crate) fn few_examples(examples: usize, out: &mut Findings) {
    let from = if matches!(out.options.profile, Profile::OpenAi | Profile::Azure) { 10 } else { 1 };
    if (from..50).contains(&examples) {
        out.add(
            Severity::Info,
            "few-examples",
            START,
            format!("expected 50 examples to start with, found {examples}"),
            "add examples if the answers do not get better",
        );
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_number_of_examples_is_judged_by_the_profile() {
        use crate::{Method, Profile, ReadOptions, testing::read_all};
        let rules = |count: usize, profile| {
            let record = |index| {
                format!(
                    r#"{{"messages":[{{"role":"user","content":"{index}"}},{{"role":"assistant","content":"ok"}}]}}"#
                )
            };
            let file: String = (0..count).map(|index| record(index) + "\n").collect();
            let (diagnostics, ..) = read_all(file.as_bytes(), &ReadOptions::new(Method::Sft, profile));
            diagnostics.iter().map(|diagnostic| diagnostic.rule).collect::<Vec<_>>()
        };
        assert_eq!(rules(9, Profile::OpenAi), ["too-few-examples", "missing-system-message"]);
        assert_eq!(rules(10, Profile::OpenAi), ["few-examples", "missing-system-message"]);
        assert_eq!(rules(9, Profile::Local), ["few-examples", "missing-system-message"]);
        assert_eq!(rules(50, Profile::OpenAi), ["missing-system-message"]);
    }
}
