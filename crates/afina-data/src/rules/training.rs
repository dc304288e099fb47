//! What only the model tells that is trained: its chat template and its tokenizer.

use crate::{
    diagnostic::Diagnostic,
    example::Example,
    findings::{Findings, Place},
    json::Tree,
    read::{Method, Profile, ReadOptions},
};

/// Why an example cannot be trained on, although it is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untrainable {
    /// The chat template does not carry it.
    NotRendered {
        /// JSON pointer to what is lost; empty for the record.
        pointer: String,
        message: String,
        hint: String,
    },
    /// None of its tokens is trained.
    NothingTrained,
}

impl Untrainable {
    /// What is said of the example, under the id of its rule.
    pub fn diagnostic(self, file: &str, example: &Example) -> Diagnostic {
        let options = ReadOptions::new(Method::Sft, Profile::Local);
        let mut out = Findings::new(&options);
        let place = Place::line(example.line());
        let mut at = String::new();
        match self {
            Untrainable::NotRendered { pointer, message, hint } => {
                at = pointer;
                cannot_render(place, message, hint, &mut out);
            }
            Untrainable::NothingTrained => nothing_trained(place, &mut out),
        }
        let mut found = out.resolve(Tree { text: "", nodes: &[] }, file);
        Diagnostic { pointer: at, ..found.remove(0).diagnostic }
    }
}

/// The model's chat template drops something of the example, or fails on it.
///
/// Checked in training, and where a model is given (`--model DIR`). Templates are programs that come with a model: many
/// leave out tools or fail where `content` is null, and the model would learn from something else than the file says.
/// Choose a template that carries it, as `--chat-template chatml-tools` (in a recipe `data.chat_template`), or take out
/// what the model has no place for.
fn cannot_render(place: Place, message: String, hint: String, out: &mut Findings) {
    out.error("cannot-render", place, message, hint);
}

/// An example has no token to learn.
///
/// Checked in training, on the example's tokens. Only what the assistant says is trained, and a message of weight 0 is
/// not: here nothing is left. Give an assistant message weight 1, or delete the example.
///
/// ```json
/// {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello.", "weight": 0}]}
/// ```
fn nothing_trained(place: Place, out: &mut Findings) {
    out.error(
        "nothing-trained",
        place,
        "expected at least one trained token, found none",
        "give an assistant message weight 1",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{rules, testing::read_all};

    #[test]
    fn what_training_refuses_is_a_rule_that_can_be_explained() {
        let record = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#;
        let file = format!("\n{record}\n");
        let (_, examples, _) = read_all(file.as_bytes(), &ReadOptions::new(Method::Sft, Profile::Local));
        let lost = Untrainable::NotRendered {
            pointer: "/tools".into(),
            message: "the template does not render `tools`".into(),
            hint: "choose another".into(),
        };
        let found = [lost, Untrainable::NothingTrained].map(|why| why.diagnostic("x.jsonl", &examples[0]));
        expect_test::expect![[r#"
            x.jsonl:2:1: error[cannot-render] /tools: the template does not render `tools`
              hint: choose another
            x.jsonl:2:1: error[nothing-trained]: expected at least one trained token, found none
              hint: give an assistant message weight 1"#]]
        .assert_eq(&found.clone().map(|found| found.to_string()).join("\n"));
        assert!(found.iter().all(|found| rules().iter().any(|rule| rule.id == found.rule)));
    }
}
