//! Fixes of preference records.

use super::record::{is_message, is_message_list};
use crate::{
    fix::{
        edit::{Edit, in_list, member, rename},
        mend::{Context, Mend},
    },
    json::{Kind, Value},
};

/// The prompt, in the form that `input` has: from a list of messages, or from the user's words.
fn input(prompt: Value) -> Option<String> {
    match prompt.kind() {
        Kind::String if !prompt.is_blank() => {
            Some(format!("{{\"messages\": [{{\"role\": \"user\", \"content\": {}}}]}}", prompt.raw()))
        }
        Kind::Array if is_message_list(prompt) => Some(format!("{{\"messages\": {}}}", prompt.raw())),
        _ => None,
    }
}

pub(super) fn dpo_missing_input(context: &Context) -> Option<Mend> {
    let found = ["prompt", "messages"].iter().find_map(|name| member(context.record, name))?;
    let name = found.key.text()?;
    let edits = [rename(found, "input"), Edit::replace(found.value, input(found.value)?)];
    Mend::safe(format!("wrote `{name}` as `input`"), edits)
}

pub(super) fn dpo_input_invalid(context: &Context) -> Option<Mend> {
    let value = context.value();
    Mend::safe("put the prompt in `messages` of `input`", [Edit::replace(value, input(value)?)])
}

pub(super) fn dpo_completion_key_names(context: &Context) -> Option<Mend> {
    let old = context.record.members().find(|member| member.key.span().start == context.at)?;
    let name = old.key.text()?;
    let new = match name.as_ref() {
        "preferred_completion" => "preferred_output",
        "non_preferred_completion" => "non_preferred_output",
        _ => return None,
    };
    member(context.record, new).is_none().then_some(())?;
    Mend::safe(format!("renamed `{name}` to `{new}`"), [rename(old, new)])
}

pub(super) fn dpo_output_not_array(context: &Context) -> Option<Mend> {
    let value = context.value();
    match value.kind() {
        Kind::Object if is_message(value) || value.get("content").is_some() => {
            Mend::safe("put the answer in a list", [in_list(value)])
        }
        Kind::String => {
            let message = format!("[{{\"role\": \"assistant\", \"content\": {}}}]", value.raw());
            Mend::safe("made the answer an assistant message", [Edit::replace(value, message)])
        }
        _ => None,
    }
}

pub(super) fn dpo_output_empty(_: &Context) -> Option<Mend> {
    Mend::remove_line("removed the line: one of its answers is empty")
}

pub(super) fn dpo_identical_outputs(_: &Context) -> Option<Mend> {
    Mend::remove_line("removed the line: its two answers are the same")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::{Method, Profile, ReadOptions, fix::tests::check_with};

    #[test]
    fn preference_records_are_mended() {
        let file = [
            r#"{"prompt":"a","preferred_completion":"b","non_preferred_output":{"content":"c"}}"#,
            r#"{"input":[{"role":"human","content":"a"}],"preferred_output":[{"role":"assistant","content":"b"}],"non_preferred_output":[{"role":"assistant","content":"c"}]}"#,
        ];
        check_with(
            &ReadOptions::new(Method::Dpo, Profile::OpenAi),
            false,
            file.join("\n"),
            expect![[r#"
        {"input":{"messages": [{"role": "user", "content": "a"}]},"preferred_output":[{"role": "assistant", "content": "b"}],"non_preferred_output":[{"role":"assistant","content":"c"}]}
        {"input":{"messages": [{"role":"user","content":"a"}]},"preferred_output":[{"role":"assistant","content":"b"}],"non_preferred_output":[{"role":"assistant","content":"c"}]}──
        1 → 1: dpo-missing-input: wrote `prompt` as `input`
        1 → 1: dpo-completion-key-names: renamed `preferred_completion` to `preferred_output`
        1 → 1: dpo-output-not-array: made the answer an assistant message
        1 → 1: dpo-output-not-array: put the answer in a list
        1 → 1: missing-role: gave the answer the role `assistant`
        2 → 2: dpo-input-invalid: put the prompt in `messages` of `input`
        2 → 2: unknown-role: wrote `user` for `human`
    "#]],
        );
    }
}
