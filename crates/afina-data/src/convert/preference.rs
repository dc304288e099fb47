//! Pairs of a better and a worse answer: TRL's, those of LLaMA-Factory and torchtune, Anthropic's HH, OpenAI's own.

use afina_chat::Role;

use super::{
    alpaca,
    chat::{messages, settings, system},
    draft::{Draft, Message},
    notes::{Converted, Notes, first, present},
    pairs, parts, sharegpt, text,
};
use crate::json::{Kind, Value};

/// `chosen` and `rejected` behind a `prompt`, behind `conversations`, behind Alpaca's keys, or with what they have in
/// common as the prompt.
pub(super) fn read(record: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    const KNOWN: [&str; 16] = [
        "prompt",
        "question",
        "chosen",
        "rejected",
        "chosen_conversations",
        "rejected_conversations",
        "conversations",
        "conversation",
        "instruction",
        "input",
        "system",
        "history",
        "tools",
        "functions",
        "parallel_tool_calls",
        "messages",
    ];
    notes.leave_out_all_but("", record, &[&KNOWN[..], &parts::MEDIA].concat());
    let answers = [["chosen", "chosen_conversations"], ["rejected", "rejected_conversations"]];
    let [Some(chosen), Some(rejected)] = answers.map(|names| first(record, &names)) else {
        let hint = "a pair needs both; choose another `--from` where there is none";
        return Err(notes.refuse(record, "expected `chosen` and `rejected`, found one of them", hint));
    };
    if present(record, "instruction").is_some() {
        alpaca::prompt(record, notes, draft)?;
    } else {
        parts::images_beside(record, notes, draft)?;
        system(record, notes, draft)?;
        settings(record, notes, draft)?;
        if let Some(list) = first(record, &["conversations", "conversation", "messages"]) {
            sharegpt::turns(list, notes, draft)?;
        } else if let Some(prompt) = first(record, &["prompt", "question"]) {
            match prompt.text().and_then(|prompt| text::dialogue(&prompt)) {
                Some(turns) => draft.messages.extend(turns),
                None => pairs::turns(prompt, Role::User, notes, draft)?,
            }
        }
    }
    let mut outputs = [answer(chosen, notes, draft)?, answer(rejected, notes, draft)?];
    for output in &mut outputs {
        // The whole conversation again: the prompt is said once.
        if !draft.messages.is_empty() && output.starts_with(&draft.messages) {
            output.drain(..draft.messages.len());
        }
    }
    let [chosen, rejected] = &outputs;
    let longest = chosen.len().min(rejected.len()).saturating_sub(1);
    let common = (0..longest).take_while(|&index| chosen[index] == rejected[index]).count();
    draft.messages.extend_from_slice(&chosen[..common]);
    outputs.iter_mut().for_each(|output| drop(output.drain(..common)));
    if draft.messages.is_empty() {
        let hint = "add the `prompt` that both answer";
        return Err(notes.refuse(record, "expected a prompt, found two answers with nothing in common", hint));
    }
    draft.outputs = Some(outputs);
    Ok(())
}

fn answer(value: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<Vec<Message>> {
    let mut answer = Draft::default();
    match value.text().filter(|_| value.kind() == Kind::String) {
        Some(text) => match text::dialogue(&text) {
            Some(turns) => answer.messages = turns,
            None => answer.messages.push(Message::text(Role::Assistant, text)),
        },
        None => {
            // Images wait for their place in the prompt, wherever it stands.
            answer.images.clone_from(&draft.images);
            pairs::turns(value, Role::Assistant, notes, &mut answer)?;
            if answer.images.len() < draft.images.len() {
                draft.images.clear();
            }
        }
    }
    Ok(answer.messages)
}

/// OpenAI's own: `input`, `preferred_output` and `non_preferred_output`, or their old names.
pub(super) fn read_openai(record: Value, notes: &mut Notes, draft: &mut Draft) -> Converted<()> {
    let names = [["preferred_output", "preferred_completion"], ["non_preferred_output", "non_preferred_completion"]];
    notes.leave_out_all_but("", record, &[&["input"][..], &names[0], &names[1]].concat());
    let hint = "a pair is `input`, `preferred_output` and `non_preferred_output`";
    let [Some(preferred), Some(other)] = names.map(|names| first(record, &names)) else {
        return Err(notes.refuse(record, "expected two outputs, found one or none", hint));
    };
    match present(record, "input") {
        Some(input) if input.kind() == Kind::Object => {
            let known = ["messages", "tools", "functions", "parallel_tool_calls"];
            notes.leave_out_all_but("input.", input, &known);
            settings(input, notes, draft)?;
            let Some(list) = present(input, "messages") else {
                return Err(notes.refuse(input, "expected `messages` in `input`, found none", hint));
            };
            messages(list, notes, draft)?;
        }
        Some(input) => pairs::turns(input, Role::User, notes, draft)?,
        None => return Err(notes.refuse(record, "expected an `input`, found none", hint)),
    }
    draft.outputs = Some([answer(preferred, notes, draft)?, answer(other, notes, draft)?]);
    Ok(())
}
