//! One message: who speaks, which keys it has, what it weighs.

use afina_chat::Role;

use super::{
    format::{list, unless_local},
    typo,
};
use crate::{
    diagnostic::{Severity, excerpt},
    findings::Findings,
    json::{Kind, Value},
    read::Method,
    view::{Message, Purpose, Turns},
};

/// The rules of a message that look at its role and keys.
pub(crate) fn check_message(message: &Message, turns: &Turns, out: &mut Findings) {
    missing_role(message, out);
    role_not_string(message, out);
    unknown_role(message, out);
    developer_role(message, out);
    function_role_deprecated(message, out);
    unknown_message_key(message, out);
    name_invalid(message, out);
    weight_invalid(message, turns, out);
    weight_on_non_assistant(message, turns, out);
}

/// A key that stands where `wanted` should: `from` for `role`, `text` for `content`, or a misspelling of it.
pub(super) fn misnamed<'t>(message: &Message<'t>, wanted: &str) -> Option<Value<'t>> {
    let has = if wanted == "role" { message.role_value.is_some() } else { message.content.is_some() };
    if has {
        return None;
    }
    typo::all_meant(message.value, wanted).next().map(|member| member.key)
}

/// The keys that a message of this role may have.
pub(crate) fn known_keys(message: &Message) -> &'static [&'static str] {
    match message.meant {
        Some(Role::System | Role::Developer | Role::User | Role::Function) => &["role", "content", "name"],
        Some(Role::Assistant) => {
            &["role", "content", "name", "refusal", "audio", "tool_calls", "function_call", "weight"]
        }
        Some(Role::Tool) => &["role", "content", "tool_call_id"],
        None => {
            &["role", "content", "name", "refusal", "audio", "tool_calls", "function_call", "weight", "tool_call_id"]
        }
    }
}

/// A message has no `role`.
///
/// It says who speaks: `system`, `user`, `assistant` or `tool`. OpenAI's words for it: "Discriminator 'role' is
/// missing in value".
///
/// ```json
/// {"role": "user", "content": "Hi"}
/// ```
fn missing_role(message: &Message, out: &mut Findings) {
    if message.role_value.is_none() {
        let (found, hint) = match misnamed(message, "role").and_then(|key| key.text()) {
            Some(name) => (format!("`{}`", excerpt(&name)), format!("rename `{}` to `role`", excerpt(&name))),
            None => ("none".to_owned(), "say who speaks: system, user, assistant or tool".to_owned()),
        };
        out.error("missing-role", message.value, format!("expected a key `role`, found {found}"), hint);
    }
}

/// `role` is not a string.
///
/// It is one of `system`, `user`, `assistant`, `tool`, in quotes.
fn role_not_string(message: &Message, out: &mut Findings) {
    if let Some(role) = message.role_value.filter(|role| role.kind() != Kind::String) {
        out.error(
            "role-not-string",
            role,
            format!("expected `role` to be a string, found {}", role.described()),
            "write one of `system`, `user`, `assistant`, `tool`",
        );
    }
}

/// The role is none that OpenAI knows.
///
/// `system`, `user`, `assistant`, `tool` and (deprecated) `function`; `developer` in reinforcement files. Capitals
/// count. Other formats call the user `human` and the assistant `gpt`, `bot` or `model`: rename them.
fn unknown_role(message: &Message, out: &mut Findings) {
    let Some(role) = message.role_value.filter(|role| role.kind() == Kind::String && message.role.is_none()) else {
        return;
    };
    let name = role.text().unwrap_or_default();
    let hint = match message.meant {
        Some(meant) => format!("write `{meant}`"),
        None => "the person who asks is `user`, the model is `assistant`".to_owned(),
    };
    let message = format!("expected role `system`, `user`, `assistant` or `tool`, found `{}`", excerpt(&name));
    out.error("unknown-role", role, message, hint);
}

/// The role is `developer`.
///
/// The chat API takes it, the format of supervised and preference files does not name it. It means the same as
/// `system`: rename it. Reinforcement files use it.
fn developer_role(message: &Message, out: &mut Findings) {
    if message.role == Some(Role::Developer) && out.options.method != Method::Rft {
        out.warning(
            "developer-role",
            message.role_value.unwrap_or(message.value),
            "expected role `system`, found `developer`",
            "write `system`: it means the same",
        );
    }
}

/// The role is `function`.
///
/// It is deprecated with `functions` and `function_call`. Use role `tool` with the `tool_call_id` of the call.
fn function_role_deprecated(message: &Message, out: &mut Findings) {
    if message.role == Some(Role::Function) && out.options.method != Method::Rft {
        out.warning(
            "function-role-deprecated",
            message.role_value.unwrap_or(message.value),
            "expected role `tool`, found `function`, which is deprecated",
            "use role `tool` with `tool_call_id`, and `tool_calls` for the call",
        );
    }
}

/// A message has a key that its role does not know.
///
/// System, developer, user: `role`, `content`, `name`. Assistant: also `refusal`, `audio`, `tool_calls`,
/// `function_call`, `weight`. Tool: `role`, `content`, `tool_call_id`. Function: `role`, `content`, `name`.
///
/// A misspelled key (`wieght`) is renamed where the right one is missing. Logged conversations bring `id`, `timestamp`,
/// `annotations`, `reasoning_content`: drop them. With `--profile local`
/// it is a warning: the key is ignored.
fn unknown_message_key(message: &Message, out: &mut Findings) {
    let known = known_keys(message);
    let missing = typo::missing(message.value, known);
    // These have rules of their own.
    let elsewhere = ["weight", "tool_calls"];
    let renamed = [misnamed(message, "role"), misnamed(message, "content")];
    for member in message.value.members() {
        let Some(name) = member.key.text() else { continue };
        let is_renamed = renamed.iter().flatten().any(|key| key.index() == member.key.index());
        if known.contains(&name.as_ref()) || elsewhere.contains(&name.as_ref()) || is_renamed {
            continue;
        }
        let meant = typo::meant_key(&name, member.value, &missing);
        let rename = meant.map(|meant| format!("rename `{}` to `{meant}`", excerpt(&name)));
        let hint = match name.as_ref() {
            _ if let Some(rename) = &rename => rename,
            "reasoning_content" | "reasoning" | "thinking" => {
                "drop it, or make it part of `content` if the model shall write it"
            }
            "train" | "training" | "loss" => "drop it; `\"weight\": 0` keeps an assistant message from being trained",
            "tool_call_id" => "only tool messages have one",
            "name" => "a tool message is matched by its `tool_call_id`: drop the name",
            _ => "drop it",
        };
        let severity = unless_local(out);
        out.add(
            severity,
            "unknown-message-key",
            member.key,
            format!("expected only {} in {}, found `{}`", list(known), message.described(), excerpt(&name)),
            hint,
        );
    }
}

/// `name` is not a name.
///
/// 1 to 64 characters, none of them whitespace or one of `< | \ / >`: the chat API refuses others. Not a string at
/// all is an error.
fn name_invalid(message: &Message, out: &mut Findings) {
    let Some(value) = message.name else { return };
    let Some(name) = value.text() else {
        let severity = if value.is_null() { Severity::Warning } else { Severity::Error };
        out.add(
            severity,
            "name-invalid",
            value,
            format!("expected `name` to be a string, found {}", value.described()),
            "put it in quotes, or drop it",
        );
        return;
    };
    let wrong = name.char_indices().find(|(_, char)| char.is_whitespace() || "<|\\/>".contains(*char));
    let found = match (wrong, name.chars().count()) {
        (Some((_, char)), _) => format!("{char:?} in it"),
        (None, 0) => "an empty one".to_owned(),
        (None, length @ 65..) => format!("{length} characters"),
        _ => return,
    };
    out.warning(
        "name-invalid",
        value,
        format!("expected a name of 1 to 64 characters without spaces and `<|\\/>`, found {found}"),
        "write it like `Alice_Smith`, or drop it",
    );
}

/// `weight` is neither 0 nor 1.
///
/// 0 keeps an assistant message from being trained, 1 (or no weight) trains it. It is an integer: not `0.5`, `"1"`,
/// `true` or `null`, and not `1.0` either, for strict readers refuse it.
fn weight_invalid(message: &Message, turns: &Turns, out: &mut Findings) {
    let Some(weight) = message.weight.filter(|_| has_weights(turns, out)) else { return };
    if message.meant.is_none_or(|role| role == Role::Assistant) && !matches!(weight.raw(), "0" | "1") {
        let found = match weight.kind() {
            Kind::Number | Kind::True | Kind::False => format!("`{}`", excerpt(weight.raw())),
            _ => weight.described().to_owned(),
        };
        out.error(
            "weight-invalid",
            weight,
            format!("expected weight 0 or 1, found {found}"),
            "write 0 to leave the message out of training, 1 or nothing to train on it",
        );
    }
}

/// A message that is not the assistant's has a weight.
///
/// Only assistant messages are trained, so only they have one. Remove it. With `--profile local` it is a warning.
fn weight_on_non_assistant(message: &Message, turns: &Turns, out: &mut Findings) {
    let Some(role) = message.meant.filter(|role| *role != Role::Assistant && message.weight.is_some()) else { return };
    let key = message.value.members().map(|member| member.key).find(|key| key.is("weight"));
    if has_weights(turns, out) {
        let severity = unless_local(out);
        let key = key.unwrap_or(message.value);
        out.add(
            severity,
            "weight-on-non-assistant",
            key,
            format!("expected no `weight` in a {role} message, found one"),
            "remove it: only assistant messages are trained",
        );
    }
}

/// Reinforcement records have no weights; there the key is read by nobody.
fn has_weights(turns: &Turns, out: &Findings) -> bool {
    out.options.method != Method::Rft || turns.purpose == Purpose::Train
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::{
        Method, Profile, ReadOptions,
        testing::{check_messages, check_with},
    };

    #[test]
    fn a_message_says_who_speaks() {
        check_messages(
            &[
                r#"{"content":"x"}"#,
                r#"{"from":"user","content":"x"}"#,
                r#"{"role":null,"content":"x"}"#,
                r#"{"role":"Human","content":"x"}"#,
                r#"{"role":"customer","content":"x"}"#,
                r#"{"role":"developer","content":"x"}"#,
                r#"{"role":"function","name":"f","content":null}"#,
            ],
            expect![[r#"
                1:52: error[missing-role] /messages/1: expected a key `role`, found none
                2:52: error[missing-role] /messages/1: expected a key `role`, found `from`
                3:60: error[role-not-string] /messages/1/role: expected `role` to be a string, found null
                4:60: error[unknown-role] /messages/1/role: expected role `system`, `user`, `assistant` or `tool`, found `Human`
                5:60: error[unknown-role] /messages/1/role: expected role `system`, `user`, `assistant` or `tool`, found `customer`
                6:52: warning[system-not-first] /messages/1: expected system messages before all others, found one after them
                6:60: warning[developer-role] /messages/1/role: expected role `system`, found `developer`
                7:52: warning[tool-message-without-tools] /messages/1: expected `tools` that declare what answers here, found none
                7:60: warning[function-role-deprecated] /messages/1/role: expected role `tool`, found `function`, which is deprecated
            "#]],
        );
    }

    #[test]
    fn a_message_has_the_keys_of_its_role() {
        check_messages(
            &[
                r#"{"role":"user","content":"x","name":"ana_1"}"#,
                r#"{"role":"user","content":"x","timestamp":"2026","a/b~c":1}"#,
                r#"{"role":"tool","content":"x","tool_call_id":"c","name":"f"}"#,
                r#"{"role":"user","text":"x"}"#,
                r#"{"rol":"user","contenido":"x","nombre":"Ana"},{"role":"assistant","wieght":0,"tool_calsl":[],"content":"y"}"#,
            ],
            expect![[r#"
                2:81: error[unknown-message-key] /messages/1/timestamp: expected only `role`, `content`, `name` in a user message, found `timestamp`
                2:100: error[unknown-message-key] /messages/1/a~1b~0c: expected only `role`, `content`, `name` in a user message, found `a/b~c`
                3:52: warning[tool-message-without-tools] /messages/1: expected `tools` that declare what answers here, found none
                3:96: error[tool-message-orphan] /messages/1/tool_call_id: expected the id of a call in the assistant message before it, found `c`
                3:100: error[unknown-message-key] /messages/1/name: expected only `role`, `content`, `tool_call_id` in a tool message, found `name`
                4:52: error[missing-content] /messages/1: expected a key `content`, found `text`
                5:52: error[missing-role] /messages/1: expected a key `role`, found `rol`
                5:52: error[missing-content] /messages/1: expected a key `content`, found `contenido`
                5:82: error[unknown-message-key] /messages/1/nombre: expected only `role`, `content`, `name`, `refusal`, `audio`, `tool_calls`, `function_call`, `weight`, `tool_call_id` in a message, found `nombre`
                5:118: error[unknown-message-key] /messages/2/wieght: expected only `role`, `content`, `name`, `refusal`, `audio`, `tool_calls`, `function_call`, `weight` in an assistant message, found `wieght`
                5:129: error[unknown-message-key] /messages/2/tool_calsl: expected only `role`, `content`, `name`, `refusal`, `audio`, `tool_calls`, `function_call`, `weight` in an assistant message, found `tool_calsl`
                5:160: warning[consecutive-assistant-messages] /messages/3: expected another speaker, found a second assistant message in a row
            "#]],
        );
    }

    #[test]
    fn a_misspelled_key_is_to_be_renamed_and_not_dropped() {
        let hint = |keys: &str| {
            let message = format!(r#"{{"role":"user","content":"a"}},{{{keys},"content":"b"}}"#);
            let record = format!(r#"{{"messages":[{message}]}}"#);
            let options = ReadOptions::new(Method::Sft, Profile::OpenAi);
            let (found, ..) = crate::testing::read_all(record.as_bytes(), &options);
            let about = |rule: &str| ["unknown-message-key", "missing-role"].contains(&rule);
            let hints: Vec<_> = found.into_iter().filter(|found| about(found.rule)).map(|found| found.hint).collect();
            hints.join("; ")
        };
        assert_eq!(hint(r#""rol":"assistant""#), "rename `rol` to `role`");
        assert_eq!(hint(r#""role":"assistant","wieght":0"#), "rename `wieght` to `weight`");
        assert_eq!(hint(r#""role":"assistant","weight":1,"wieght":0"#), "drop it");
        assert_eq!(hint(r#""role":"assistant","context":"x""#), "drop it");
    }

    #[test]
    fn a_name_is_a_word() {
        check_messages(
            &[
                r#"{"role":"user","content":"x","name":"Alice Smith"}"#,
                r#"{"role":"user","content":"x","name":""}"#,
                r#"{"role":"user","content":"x","name":7}"#,
                r#"{"role":"user","content":"x","name":null}"#,
            ],
            expect![[r#"
                1:88: warning[name-invalid] /messages/1/name: expected a name of 1 to 64 characters without spaces and `<|\/>`, found ' ' in it
                2:88: warning[name-invalid] /messages/1/name: expected a name of 1 to 64 characters without spaces and `<|\/>`, found an empty one
                3:88: error[name-invalid] /messages/1/name: expected `name` to be a string, found a number
                4:88: warning[name-invalid] /messages/1/name: expected `name` to be a string, found null
            "#]],
        );
    }

    #[test]
    fn a_weight_is_0_or_1_and_the_assistant_s() {
        let weights = ["0.5", "\"1\"", "true", "null", "2", "1.0"];
        let messages = weights.map(|weight| {
            format!(r#"{{"role":"assistant","content":"x","weight":{weight}}},{{"role":"user","content":"y"}}"#)
        });
        check_messages(
            &messages.each_ref().map(String::as_str),
            expect![[r#"
            1:95: error[weight-invalid] /messages/1/weight: expected weight 0 or 1, found `0.5`
            2:95: error[weight-invalid] /messages/1/weight: expected weight 0 or 1, found a string
            3:95: error[weight-invalid] /messages/1/weight: expected weight 0 or 1, found `true`
            4:95: error[weight-invalid] /messages/1/weight: expected weight 0 or 1, found null
            5:95: error[weight-invalid] /messages/1/weight: expected weight 0 or 1, found `2`
            6:95: error[weight-invalid] /messages/1/weight: expected weight 0 or 1, found `1.0`
        "#]],
        );
        let user = r#"{"messages":[{"role":"user","content":"a","weight":0},{"role":"assistant","content":"ok"}]}"#;
        check_with(
            &ReadOptions::new(Method::Sft, Profile::OpenAi),
            user,
            expect![[r#"
            1:43: error[weight-on-non-assistant] /messages/0/weight: expected no `weight` in a user message, found one
        "#]],
        );
        check_with(
            &ReadOptions::new(Method::Sft, Profile::Local),
            user,
            expect![[r#"
            1:43: warning[weight-on-non-assistant] /messages/0/weight: expected no `weight` in a user message, found one
        "#]],
        );
    }
}
