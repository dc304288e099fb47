//! A chat template in Ollama's language, Go's text/template: what Ollama is given beside a GGUF, since it renders the Jinja
//! inside for a few known templates only.
//!
//! The words around each turn are found by rendering words of our own, and a template is given only if it gives the same text
//! as the Jinja on every exchange of [`exchanges`]. Texts are taken to have no white space around them: Ollama's language cannot
//! take it off, as some templates do. Tools are left out: Ollama spells their JSON without spaces, which no model was trained on.

use std::fmt::Write;

use crate::message::{Conversation, Message, Role};
use crate::template::{ChatTemplate, TemplateError};

/// Why a chat template cannot be said in Ollama's language.
#[derive(Debug, thiserror::Error)]
pub enum OllamaTemplateError {
    #[error("the chat template writes the date, and Ollama has no date in that form")]
    Date,
    #[error("the chat template does not write turns one behind the other")]
    Turns,
    #[error("the chat template does more with a conversation than write its turns")]
    Differs,
    #[error("the chat template does not render a plain exchange")]
    Render(#[from] TemplateError),
}

/// The text around the messages of each role, by where they stand.
#[derive(Debug, PartialEq)]
struct Turns {
    /// Before a conversation's first message, and its own opening.
    first_system: String,
    first_user: String,
    first_assistant: String,
    /// The openings of later ones.
    system: String,
    user: String,
    assistant: String,
    /// What ends them.
    system_end: String,
    user_end: String,
    assistant_end: String,
    /// Between a system message and the user's, where the template puts one into the other.
    system_to_user: Option<String>,
    /// What opens the answer that is asked for.
    generation_prompt: String,
}

/// The template in Go's language. `bos` is what the tokenizer puts before every text by itself, so that the template must not.
pub fn ollama_template(template: &ChatTemplate, bos: Option<&str>) -> Result<String, OllamaTemplateError> {
    const A_DAY: i64 = 86_400;
    let at = |seconds| render(&template.clone().with_clock(seconds), &[(Role::User, "a")], true);
    // Another day, hour, minute and second.
    if at(0)? != at(400 * A_DAY + 3_661)? {
        return Err(OllamaTemplateError::Date);
    }
    let turns = turns(template, bos.unwrap_or_default())?;
    for exchange in exchanges(template.capabilities().system) {
        let expected = render(template, &exchange, true)?;
        let expected = expected.strip_prefix(bos.unwrap_or_default()).unwrap_or(&expected);
        if turns.text(&exchange) != expected {
            return Err(OllamaTemplateError::Differs);
        }
    }
    Ok(turns.to_go())
}

/// What the two languages are compared on: every way in which Ollama calls a template.
fn exchanges(system: bool) -> Vec<Vec<(Role, &'static str)>> {
    use Role::{Assistant, System, User};
    let turns = [
        (User, "¿Qué hora es?"),
        (Assistant, "Las dos.\nY media."),
        (User, "{{ .Content }} \"x\" </s>"),
        (Assistant, "<|im_end|>"),
        (User, "a\n\nb"),
    ];
    let plain = (1..=turns.len()).step_by(2).map(|count| turns[..count].to_vec());
    let with_system =
        plain.clone().filter(|_| system).map(|turns| [vec![(System, "Eres\n**breve**.")], turns].concat());
    with_system.chain(plain).collect()
}

fn render(template: &ChatTemplate, messages: &[(Role, &str)], ask: bool) -> Result<String, TemplateError> {
    let messages = messages.iter().map(|(role, text)| Message::new(*role, *text)).collect();
    template.render(&Conversation::new(messages), ask)
}

/// Finds the words around turns.
fn turns(template: &ChatTemplate, bos: &str) -> Result<Turns, OllamaTemplateError> {
    use Role::{Assistant, System, User};
    const WORDS: [&str; 5] =
        ["afinasystemword", "afinafirstword", "afinasecondword", "afinathirdword", "afinafourthword"];
    let [system, one, two, three, four] = WORDS;
    // What stands before, between and behind the texts of messages.
    let around = |messages: &[(Role, &str)]| -> Result<Vec<String>, OllamaTemplateError> {
        let text = render(template, messages, false)?;
        let mut rest = text.strip_prefix(bos).unwrap_or(&text);
        let mut pieces = Vec::new();
        for (_, word) in messages {
            let (before, behind) = rest.split_once(word).ok_or(OllamaTemplateError::Turns)?;
            pieces.push(before.to_owned());
            rest = behind;
        }
        pieces.push(rest.to_owned());
        Ok(pieces)
    };
    let without = |text: &str, start: &str| -> Result<String, OllamaTemplateError> {
        text.strip_prefix(start).map(str::to_owned).ok_or(OllamaTemplateError::Turns)
    };

    let [first_user, user_end] = around(&[(User, one)])?.try_into().map_err(|_| OllamaTemplateError::Turns)?;
    let long = around(&[(User, one), (Assistant, two), (User, three), (Assistant, four)])?;
    let assistant_end = long[4].clone();
    let assistant = without(&long[1], &user_end)?;
    let user = without(&long[2], &assistant_end)?;
    let first_assistant = match around(&[(Assistant, one), (User, two)]) {
        Ok(pieces) => pieces[0].clone(),
        Err(_) => assistant.clone(), // the template refuses it
    };
    let asked = render(template, &[(User, one)], true)?;
    let generation_prompt = without(&asked, &render(template, &[(User, one)], false)?)?;

    let mut turns = Turns {
        first_system: String::new(),
        first_user,
        first_assistant,
        system: String::new(),
        user,
        assistant,
        system_end: String::new(),
        user_end,
        assistant_end,
        system_to_user: None,
        generation_prompt,
    };
    if template.capabilities().system {
        let pieces = around(&[(System, system), (User, one)])?;
        turns.first_system = pieces[0].clone();
        match pieces[1].strip_suffix(&turns.user) {
            Some(end) => turns.system_end = end.to_owned(),
            None => turns.system_to_user = Some(pieces[1].clone()),
        }
        let later = around(&[(User, one), (Assistant, two), (System, system), (User, three)]);
        let opening = later.ok().and_then(|pieces| pieces[2].strip_prefix(&turns.assistant_end).map(str::to_owned));
        turns.system = opening.unwrap_or_else(|| turns.first_system.clone());
    }
    Ok(turns)
}

impl Turns {
    /// What [`Turns::to_go`] makes of messages, the last of them not the assistant's.
    fn text(&self, messages: &[(Role, &str)]) -> String {
        let mut text = String::new();
        for (index, (role, content)) in messages.iter().enumerate() {
            let first = index == 0;
            let follows_system = index == 1 && messages[0].0 == Role::System;
            let (opening, end) = match role {
                Role::System if self.system_to_user.is_some() => (&self.first_system, ""),
                Role::System => (if first { &self.first_system } else { &self.system }, self.system_end.as_str()),
                Role::User => {
                    let opening = if first { &self.first_user } else { &self.user };
                    let behind_system = self.system_to_user.as_ref().filter(|_| follows_system);
                    (behind_system.unwrap_or(opening), self.user_end.as_str())
                }
                _ => (if first { &self.first_assistant } else { &self.assistant }, self.assistant_end.as_str()),
            };
            text.extend([opening, *content, end]);
        }
        text + &self.generation_prompt
    }

    /// As Ollama is told: all words stand in actions, so that no white space of theirs is taken off between lines.
    fn to_go(&self) -> String {
        let mut go =
            "{{- range $i, $message := .Messages }}\n{{- $last := eq (len (slice $.Messages $i)) 1 }}\n".to_owned();
        let first_or = |first: &str, later: &str| match first == later {
            true => quoted(first),
            false => format!("{{{{ if eq $i 0 }}}}{}{{{{ else }}}}{}{{{{ end }}}}", quoted(first), quoted(later)),
        };
        let user = first_or(&self.first_user, &self.user);
        let (system, user) = match &self.system_to_user {
            None => (first_or(&self.first_system, &self.system), user),
            Some(between) => (
                quoted(&self.first_system),
                format!(
                    "{{{{ if and (eq $i 1) (eq (index $.Messages 0).Role \"system\") }}}}{}{{{{ else }}}}{user}{{{{ end }}}}",
                    quoted(between)
                ),
            ),
        };
        let assistant = first_or(&self.first_assistant, &self.assistant);
        let content = "{{ .Content }}";
        let mut branch = |open: &str, opening: &str, end: &str| {
            writeln!(go, "{{{{- {open} }}}}{opening}{content}{end}").expect("a string takes all");
        };
        branch("if eq .Role \"system\"", &system, &quoted(&self.system_end));
        branch("else if eq .Role \"user\"", &user, &quoted(&self.user_end));
        // An answer that is to be gone on with stays open, as in Ollama's own templates.
        let end = format!("{{{{ if not $last }}}}{}{{{{ end }}}}", quoted(&self.assistant_end));
        branch("else if eq .Role \"assistant\"", &assistant, &end);
        go.push_str("{{- end }}\n");
        if !self.generation_prompt.is_empty() {
            let prompt = quoted(&self.generation_prompt);
            writeln!(go, "{{{{- if and $last (ne .Role \"assistant\") }}}}{prompt}{{{{ end }}}}")
                .expect("a string takes all");
        }
        go + "{{- end }}"
    }
}

/// Text as an action: a string of Go; nothing for none. Never three quotes in a row, which end a text in a Modelfile.
fn quoted(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let mut go = "{{ \"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => go.extend(['\\', c]),
            '\n' => go.push_str("\\n"),
            // What Go does not print, a Modelfile's reader drops; an escape in Go's own spelling stays.
            c if c.is_ascii() && !c.is_control() || c.is_alphanumeric() => go.push(c),
            c if c > '\u{ffff}' => write!(go, "\\U{:08x}", c as u32).expect("a string takes all"),
            c => write!(go, "\\u{:04x}", c as u32).expect("a string takes all"),
        }
    }
    go + "\" }}"
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::fallback::FALLBACKS;

    fn check(source: &str, bos: &str, strip: bool, expect: Expect) {
        let template = ChatTemplate::new(source.to_owned(), Some(bos.into()), Some("</s>".into())).unwrap();
        let go = ollama_template(&template, strip.then_some(bos));
        expect.assert_eq(&go.unwrap_or_else(|error| error.to_string()));
    }

    macro_rules! published {
        ($name:literal) => {
            include_str!(concat!("../../../tests/fixtures/chat/templates/", $name, ".jinja"))
        };
    }

    #[test]
    fn turns_with_a_system_message_of_their_own() {
        check(
            published!("smollm2"),
            "<|im_start|>",
            false,
            expect![[r#"
            {{- range $i, $message := .Messages }}
            {{- $last := eq (len (slice $.Messages $i)) 1 }}
            {{- if eq .Role "system" }}{{ "<|im_start|>system\n" }}{{ .Content }}{{ "<|im_end|>\n" }}
            {{- else if eq .Role "user" }}{{ if eq $i 0 }}{{ "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\n" }}{{ else }}{{ "<|im_start|>user\n" }}{{ end }}{{ .Content }}{{ "<|im_end|>\n" }}
            {{- else if eq .Role "assistant" }}{{ if eq $i 0 }}{{ "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>assistant\n" }}{{ else }}{{ "<|im_start|>assistant\n" }}{{ end }}{{ .Content }}{{ if not $last }}{{ "<|im_end|>\n" }}{{ end }}
            {{- end }}
            {{- if and $last (ne .Role "assistant") }}{{ "<|im_start|>assistant\n" }}{{ end }}
            {{- end }}"#]],
        );
        check(
            published!("zephyr"),
            "<s>",
            false,
            expect![[r#"
            {{- range $i, $message := .Messages }}
            {{- $last := eq (len (slice $.Messages $i)) 1 }}
            {{- if eq .Role "system" }}{{ "<|system|>\n" }}{{ .Content }}{{ "</s>\n" }}
            {{- else if eq .Role "user" }}{{ "<|user|>\n" }}{{ .Content }}{{ "</s>\n" }}
            {{- else if eq .Role "assistant" }}{{ "<|assistant|>\n" }}{{ .Content }}{{ if not $last }}{{ "</s>\n" }}{{ end }}
            {{- end }}
            {{- if and $last (ne .Role "assistant") }}{{ "<|assistant|>\n" }}{{ end }}
            {{- end }}"#]],
        );
        check(
            published!("llama3_1"),
            "<|begin_of_text|>",
            true,
            expect![[r#"
            {{- range $i, $message := .Messages }}
            {{- $last := eq (len (slice $.Messages $i)) 1 }}
            {{- if eq .Role "system" }}{{ if eq $i 0 }}{{ "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n" }}{{ else }}{{ "<|start_header_id|>system<|end_header_id|>\n\n" }}{{ end }}{{ .Content }}{{ "<|eot_id|>" }}
            {{- else if eq .Role "user" }}{{ if eq $i 0 }}{{ "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n" }}{{ else }}{{ "<|start_header_id|>user<|end_header_id|>\n\n" }}{{ end }}{{ .Content }}{{ "<|eot_id|>" }}
            {{- else if eq .Role "assistant" }}{{ if eq $i 0 }}{{ "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n" }}{{ else }}{{ "<|start_header_id|>assistant<|end_header_id|>\n\n" }}{{ end }}{{ .Content }}{{ if not $last }}{{ "<|eot_id|>" }}{{ end }}
            {{- end }}
            {{- if and $last (ne .Role "assistant") }}{{ "<|start_header_id|>assistant<|end_header_id|>\n\n" }}{{ end }}
            {{- end }}"#]],
        );
    }

    #[test]
    fn a_system_message_inside_the_first_question() {
        check(
            published!("llama2"),
            "<s>",
            true,
            expect![[r#"
            {{- range $i, $message := .Messages }}
            {{- $last := eq (len (slice $.Messages $i)) 1 }}
            {{- if eq .Role "system" }}{{ "[INST] <<SYS>>\n" }}{{ .Content }}
            {{- else if eq .Role "user" }}{{ if and (eq $i 1) (eq (index $.Messages 0).Role "system") }}{{ "\n<</SYS>>\n\n" }}{{ else }}{{ if eq $i 0 }}{{ "[INST] " }}{{ else }}{{ "<s>[INST] " }}{{ end }}{{ end }}{{ .Content }}{{ " [/INST]" }}
            {{- else if eq .Role "assistant" }}{{ " " }}{{ .Content }}{{ if not $last }}{{ " </s>" }}{{ end }}
            {{- end }}
            {{- end }}"#]],
        );
    }

    #[test]
    fn templates_of_this_program() {
        check(
            FALLBACKS[0].source,
            "<s>",
            false,
            expect![[r#"
            {{- range $i, $message := .Messages }}
            {{- $last := eq (len (slice $.Messages $i)) 1 }}
            {{- if eq .Role "system" }}{{ "<|im_start|>system\n" }}{{ .Content }}{{ "<|im_end|>\n" }}
            {{- else if eq .Role "user" }}{{ "<|im_start|>user\n" }}{{ .Content }}{{ "<|im_end|>\n" }}
            {{- else if eq .Role "assistant" }}{{ "<|im_start|>assistant\n" }}{{ .Content }}{{ if not $last }}{{ "<|im_end|>\n" }}{{ end }}
            {{- end }}
            {{- if and $last (ne .Role "assistant") }}{{ "<|im_start|>assistant\n" }}{{ end }}
            {{- end }}"#]],
        );
        check(
            FALLBACKS[1].source,
            "<|begin_of_text|>",
            true,
            expect![[r#"
            {{- range $i, $message := .Messages }}
            {{- $last := eq (len (slice $.Messages $i)) 1 }}
            {{- if eq .Role "system" }}{{ "<|start_header_id|>system<|end_header_id|>\n\n" }}{{ .Content }}{{ "<|eot_id|>" }}
            {{- else if eq .Role "user" }}{{ "<|start_header_id|>user<|end_header_id|>\n\n" }}{{ .Content }}{{ "<|eot_id|>" }}
            {{- else if eq .Role "assistant" }}{{ "<|start_header_id|>assistant<|end_header_id|>\n\n" }}{{ .Content }}{{ if not $last }}{{ "<|eot_id|>" }}{{ end }}
            {{- end }}
            {{- if and $last (ne .Role "assistant") }}{{ "<|start_header_id|>assistant<|end_header_id|>\n\n" }}{{ end }}
            {{- end }}"#]],
        );
    }

    #[test]
    fn what_cannot_be_said_in_go_is_refused() {
        let with = |head: &str| head.to_owned() + published!("smollm2");
        check(
            &with("{{ strftime_now('%d %b %Y') }}"),
            "<s>",
            false,
            expect![["the chat template writes the date, and Ollama has no date in that form"]],
        );
        check(
            &with("{{ messages | length }}"),
            "<s>",
            false,
            expect![["the chat template does more with a conversation than write its turns"]],
        );
        let marked = "message['content'] + ('!' if '?' in message['content'] else '')";
        check(
            &published!("smollm2").replace("message['content']", marked),
            "<s>",
            false,
            expect![["the chat template does more with a conversation than write its turns"]],
        );
    }

    #[test]
    fn words_of_a_template_cannot_end_their_text() {
        assert_eq!(quoted("a\"\"\"{{\\\u{1}\n"), "{{ \"a\\\"\\\"\\\"{{\\\\\\u0001\\n\" }}");
        assert_eq!(quoted(""), "");
    }
}
