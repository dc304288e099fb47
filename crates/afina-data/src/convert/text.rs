//! A text that was rendered with a chat template, taken apart again. White space at the edges of a turn is taken for the
//! template's.

use afina_chat::Role;

use super::{
    draft::{Draft, Message},
    notes::{Converted, Notes, present},
};
use crate::json::Value;

/// How a template writes turns: what begins one, and whose it is; what may stand at its end; what may stand at the
/// beginning of the whole text.
struct Template {
    turns: &'static [(&'static str, Role)],
    ends: &'static [&'static str],
    head: &'static [&'static str],
    /// A turn begins in a line of its own.
    own_line: bool,
}

const TEMPLATES: [Template; 9] = [
    // ChatML.
    Template {
        turns: &[
            ("<|im_start|>system\n", Role::System),
            ("<|im_start|>user\n", Role::User),
            ("<|im_start|>assistant\n", Role::Assistant),
        ],
        ends: &["<|im_end|>", "<|endoftext|>"],
        head: &["<s>", "<|endoftext|>"],
        own_line: false,
    },
    // Llama 3.
    Template {
        turns: &[
            ("<|start_header_id|>system<|end_header_id|>\n\n", Role::System),
            ("<|start_header_id|>user<|end_header_id|>\n\n", Role::User),
            ("<|start_header_id|>assistant<|end_header_id|>\n\n", Role::Assistant),
        ],
        ends: &["<|eot_id|>", "<|end_of_text|>"],
        head: &["<|begin_of_text|>"],
        own_line: false,
    },
    // Gemma.
    Template {
        turns: &[("<start_of_turn>user\n", Role::User), ("<start_of_turn>model\n", Role::Assistant)],
        ends: &["<end_of_turn>", "<eos>"],
        head: &["<bos>"],
        own_line: false,
    },
    // Zephyr, TinyLlama, Phi.
    Template {
        turns: &[("<|system|>\n", Role::System), ("<|user|>\n", Role::User), ("<|assistant|>\n", Role::Assistant)],
        ends: &["</s>", "<|end|>", "<|endoftext|>"],
        head: &["<s>"],
        own_line: false,
    },
    // Llama 2 and Mistral.
    Template {
        turns: &[("[INST]", Role::User), ("[/INST]", Role::Assistant)],
        ends: &["</s>", "</s><s>", "</s> <s>"],
        head: &["<s>"],
        own_line: false,
    },
    // Anthropic's HH.
    Template {
        turns: &[("Human:", Role::User), ("Assistant:", Role::Assistant)],
        ends: &[],
        head: &[],
        own_line: true,
    },
    // Guanaco.
    Template {
        turns: &[("### Human:", Role::User), ("### Assistant:", Role::Assistant)],
        ends: &["</s>", "<|endoftext|>"],
        head: &["<s>"],
        own_line: false,
    },
    // Alpaca, with its preamble.
    Template {
        turns: &[
            ("### Instruction:\n", Role::User),
            ("### Input:\n", Role::User),
            ("### Response:\n", Role::Assistant),
        ],
        ends: &["</s>", "<|endoftext|>"],
        head: &[
            "<s>",
            "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.",
            "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
        ],
        own_line: true,
    },
    // Plain transcripts.
    Template { turns: &[("User:", Role::User), ("Assistant:", Role::Assistant)], ends: &[], head: &[], own_line: true },
];

pub(super) fn read(record: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    notes.leave_out_all_but("", record, &["text"]);
    let Some(value) = present(record, "text") else {
        return Err(notes.refuse(record, "expected a key `text`, found none", "choose another `--from`"));
    };
    let text = value.text().unwrap_or_default();
    let turns = TEMPLATES.iter().find_map(|template| take_apart(&text, template));
    let Some(turns) = turns else {
        let message = "expected a text with the marks of a chat template, found none that is known";
        return Err(notes.refuse(value, message, "export the conversation before it was rendered as one text"));
    };
    draft.messages = turns;
    Ok(())
}

/// The turns of Anthropic's HH: `\n\nHuman: … \n\nAssistant: …`.
pub(super) fn dialogue(text: &str) -> Option<Vec<Message>> {
    let begins = text.trim_start().starts_with("Human:") && text.contains("\n\nAssistant:");
    begins.then(|| take_apart(text, &TEMPLATES[5])).flatten()
}

/// The turns of a text, or `None` where it does not begin with one, or has none of the assistant's.
fn take_apart(text: &str, template: &Template) -> Option<Vec<Message>> {
    let mut rest = text.trim_start();
    for head in template.head {
        rest = rest.strip_prefix(head).unwrap_or(rest).trim_start();
    }
    let (at, ..) = next_mark(rest, template)?;
    if at != 0 {
        return None;
    }
    let mut turns: Vec<Message> = Vec::new();
    while let Some((_, mark, role)) = next_mark(rest, template) {
        rest = &rest[mark.len()..];
        let end = next_mark_after(rest, template);
        let said = trim_end(rest[..end].trim(), template);
        rest = &rest[end..];
        match turns.last_mut() {
            // Alpaca's input belongs to its instruction.
            Some(last) if last.role == role && mark.starts_with("### Input") => {
                if let Some(super::draft::Content::Text(text)) = &mut last.content {
                    text.push('\n');
                    text.push_str(said);
                }
            }
            _ => push(said, role, &mut turns),
        }
    }
    // A prompt for generation ends with an empty turn.
    let answered = turns.iter().any(|turn| turn.role == Role::Assistant);
    answered.then_some(turns)
}

/// Llama 2 has the system prompt inside the first turn.
fn push(said: &str, role: Role, turns: &mut Vec<Message>) {
    let inside = said.strip_prefix("<<SYS>>").and_then(|rest| rest.split_once("<</SYS>>"));
    match inside.filter(|_| turns.is_empty()) {
        Some((system, user)) => {
            turns.push(Message::text(Role::System, system.trim()));
            turns.push(Message::text(role, user.trim()));
        }
        None => turns.push(Message::text(role, said)),
    }
}

fn trim_end<'t>(mut said: &'t str, template: &Template) -> &'t str {
    while let Some(shorter) = template.ends.iter().find_map(|end| said.strip_suffix(end)) {
        said = shorter.trim_end();
    }
    said
}

/// The first mark: where it stands, the mark and whose turn it begins.
fn next_mark(text: &str, template: &Template) -> Option<(usize, &'static str, Role)> {
    let found = template.turns.iter().filter_map(|&(mark, role)| {
        let mut places = text.match_indices(mark).map(|(at, _)| at);
        let at = places.find(|&at| !template.own_line || at == 0 || text[..at].ends_with('\n'))?;
        Some((at, mark, role))
    });
    found.min_by_key(|&(at, ..)| at)
}

/// Where the turn ends that `rest` is the text of.
fn next_mark_after(rest: &str, template: &Template) -> usize {
    next_mark(rest, template).map_or(rest.len(), |(at, ..)| at)
}
