//! What is asked and answered in a record, in a few numbers.

use afina_chat::Role;
use rapidhash::v3::rapidhash_v3;

use super::{mix, refusal::is_refusal};
use crate::{
    json::{Kind, Value},
    read::{Method, ReadOptions},
    rules::usual::UsualMessage,
    similar::{Signature, Signer},
    view::{Message, Purpose, Turns},
};

/// What the rules over several records compare.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dialogue {
    /// Hash of all that comes before the final answer, with the tools; none without a user message.
    pub(crate) prompt: Option<u64>,
    /// Hash of the final answer, without the ids of its calls; none where the last message is no answer to learn.
    pub(crate) answer: Option<u64>,
    /// The final answer declines to answer.
    pub(crate) refuses: bool,
    /// Hash of the system messages.
    pub(crate) system: Option<u64>,
    /// Bytes of all texts, and of those that are trained: what they are in tokens goes with it.
    pub(crate) bytes: u32,
    pub(crate) trained_bytes: u32,
    /// Made where near duplicates are looked for.
    pub(crate) signature: Option<Box<Signature>>,
}

/// An image counts as much as this many bytes of text: 85 tokens of 4 bytes each.
const IMAGE_BYTES: usize = 340;

impl Dialogue {
    /// Of a record with one list of messages.
    pub(crate) fn of_chat(record: Value, turns: &Turns, options: &ReadOptions) -> Dialogue {
        let mut reader = Reader::new(options);
        reader.read_tools(record);
        let last = turns
            .messages
            .last()
            .filter(|last| turns.purpose == Purpose::Train && turns.whole && last.meant == Some(Role::Assistant));
        for message in &turns.messages {
            let is_last = last.is_some_and(|last| last.index == message.index);
            reader.read_message(message, is_last);
        }
        if options.method == Method::Rft {
            // What the grader reads is the answer.
            let others = record.members().filter(|member| !member.key.is("messages") && !member.key.is("tools"));
            others.for_each(|member| reader.sign_answer(member.value.raw()));
        }
        reader.finish()
    }

    /// [`Dialogue::of_chat`] of a usual record, with the hash of each text.
    pub(crate) fn of_usual(messages: &[UsualMessage], hashes: &[u64], options: &ReadOptions) -> Dialogue {
        let mut reader = Reader::new(options);
        for (index, (message, &hash)) in messages.iter().zip(hashes).enumerate() {
            let is_answer = index + 1 == messages.len();
            let trained = message.role == Role::Assistant;
            let speaker = Speaker { role: Some(message.role), trained, is_answer };
            reader.begin(speaker);
            let text = trim(message.text);
            let whole = text.len() == message.text.len();
            reader.read_text(text, if whole { hash } else { rapidhash_v3(text.as_bytes()) }, speaker);
        }
        reader.finish()
    }

    /// Of a preference record: what both answers answer, and the answers.
    pub(crate) fn of_pair(input: Value, prompt: &Turns, answers: [&Turns; 2], options: &ReadOptions) -> Dialogue {
        let mut reader = Reader::new(options);
        reader.read_tools(input);
        prompt.messages.iter().for_each(|message| reader.read_message(message, false));
        let answers = answers.into_iter().flat_map(|turns| &turns.messages);
        answers.for_each(|message| reader.read_message(message, true));
        Dialogue { answer: None, refuses: false, ..reader.finish() }
    }
}

/// Whose words are read.
#[derive(Clone, Copy)]
struct Speaker {
    role: Option<Role>,
    trained: bool,
    is_answer: bool,
}

impl Speaker {
    fn number(self) -> u64 {
        self.role.map_or(u64::MAX - 1, |role| role as u64)
    }
}

struct Reader {
    dialogue: Dialogue,
    prompt: u64,
    asked: bool,
    answer: u64,
    signer: Option<Signer>,
}

impl Reader {
    fn new(options: &ReadOptions) -> Reader {
        let signer = options.wants("near-duplicate-example").then(Signer::default);
        Reader { dialogue: Dialogue::default(), prompt: 0, asked: false, answer: 0, signer }
    }

    fn finish(mut self) -> Dialogue {
        self.dialogue.prompt = self.asked.then_some(self.prompt);
        self.dialogue.signature = self.signer.as_mut().and_then(Signer::finish);
        self.dialogue
    }

    /// Declarations belong to what is asked.
    fn read_tools(&mut self, record: Value) {
        for tools in
            [record.get("tools"), record.get("functions")].into_iter().flatten().filter(|tools| !tools.is_null())
        {
            self.count_bytes(tools.raw().len(), false);
            self.must_equal(rapidhash_v3(tools.raw().as_bytes()));
        }
    }

    fn read_message(&mut self, message: &Message, is_answer: bool) {
        let speaker = Speaker { role: message.meant, trained: message.trained, is_answer };
        self.begin(speaker);
        for text in message.texts() {
            let text = text.canonical();
            let text = trim(&text);
            self.read_text(text, rapidhash_v3(text.as_bytes()), speaker);
        }
        if message.content.is_some_and(|content| content.kind() == Kind::Array) {
            self.read_images(message);
        }
        if message.calls_tools() {
            self.read_calls(message, speaker);
        }
        if message.meant == Some(Role::Assistant) && !message.trained {
            // Other messages are learned: another example of the same words.
            self.sign_salt(message.index as u64);
        }
        if is_answer && message.trained && self.dialogue.answer.is_none() {
            // An answer of nothing is one as well.
            self.add_answer(0);
        }
    }

    fn begin(&mut self, speaker: Speaker) {
        self.asked |= speaker.role == Some(Role::User);
        if !speaker.is_answer {
            self.prompt = mix(self.prompt, speaker.number());
        }
    }

    /// A text without whitespace around it, and its hash.
    fn read_text(&mut self, text: &str, hash: u64, speaker: Speaker) {
        self.count_bytes(text.len(), speaker.trained);
        if matches!(speaker.role, Some(Role::System | Role::Developer)) {
            self.dialogue.system = Some(mix(self.dialogue.system.unwrap_or_default(), hash));
            self.must_equal(hash);
        } else if speaker.is_answer {
            self.dialogue.refuses |= self.dialogue.answer.is_none() && is_refusal(text);
            self.add_answer(hash);
            self.sign_answer(text);
        } else {
            self.prompt = mix(self.prompt, hash);
            if let Some(signer) = &mut self.signer {
                signer.add_prompt(speaker.number(), text);
            }
        }
    }

    fn read_images(&mut self, message: &Message) {
        let parts = message.content.into_iter().flat_map(|content| content.items());
        for url in parts.filter_map(|part| part.get("image_url")?.get("url")) {
            self.count_bytes(IMAGE_BYTES, false);
            self.must_equal(rapidhash_v3(url.raw().as_bytes()));
        }
    }

    /// Names and arguments of calls; their ids are different in each record.
    fn read_calls(&mut self, message: &Message, speaker: Speaker) {
        let new =
            message.tool_calls.into_iter().flat_map(|calls| calls.items()).filter_map(|call| call.get("function"));
        for function in new.chain(message.function_call) {
            let texts = ["name", "arguments"].into_iter().filter_map(|name| function.get(name));
            for text in texts.filter(|text| text.kind() == Kind::String) {
                let text = text.canonical();
                self.count_bytes(text.len(), message.trained);
                let hash = rapidhash_v3(text.as_bytes());
                if speaker.is_answer {
                    self.add_answer(hash);
                    self.sign_answer(&text);
                } else {
                    self.prompt = mix(self.prompt, hash);
                    if let Some(signer) = &mut self.signer {
                        signer.add_prompt(speaker.number(), &text);
                    }
                }
            }
        }
    }

    fn count_bytes(&mut self, bytes: usize, trained: bool) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.dialogue.bytes = self.dialogue.bytes.saturating_add(bytes);
        if trained {
            self.dialogue.trained_bytes = self.dialogue.trained_bytes.saturating_add(bytes);
        }
    }

    fn must_equal(&mut self, hash: u64) {
        self.prompt = mix(self.prompt, hash);
        self.sign_salt(hash);
    }

    fn sign_salt(&mut self, hash: u64) {
        if let Some(signer) = &mut self.signer {
            signer.add_salt(hash);
        }
    }

    fn add_answer(&mut self, hash: u64) {
        self.answer = mix(self.answer, hash);
        self.dialogue.answer = Some(self.answer);
    }

    fn sign_answer(&mut self, text: &str) {
        if let Some(signer) = &mut self.signer {
            signer.add_answer(text);
        }
    }
}

/// A canonical text without the spaces and line breaks around it.
fn trim(text: &str) -> &str {
    let escapes = [r"\n", r"\t", r"\r"];
    let mut text = text.trim();
    while let Some(rest) = escapes.iter().find_map(|escape| text.strip_prefix(escape)) {
        text = rest.trim_start();
    }
    while let Some(rest) = escapes.iter().find_map(|escape| text.strip_suffix(escape)) {
        // A backslash before it: the end of a text such as `C:\n`.
        if rest.ends_with('\\') {
            break;
        }
        text = rest.trim_end();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Profile, json::Parser};

    fn dialogue(messages: &str, more: &str) -> Dialogue {
        let text = format!(r#"{{"messages":[{messages}]{more}}}"#);
        let mut parser = Parser::default();
        let record = parser.parse(&text, 0).root().unwrap();
        let turns = Turns::new(record.get("messages").unwrap(), Purpose::Train);
        Dialogue::of_chat(record, &turns, &ReadOptions::new(Method::Sft, Profile::OpenAi))
    }

    const USER: &str = r#"{"role":"user","content":"What is up?"}"#;

    #[test]
    fn the_prompt_is_all_but_the_final_answer() {
        let answers =
            ["one", "two"].map(|text| dialogue(&format!(r#"{USER},{{"role":"assistant","content":"{text}"}}"#), ""));
        assert_eq!(answers[0].prompt, answers[1].prompt);
        assert_ne!(answers[0].answer, answers[1].answer);
        assert!(answers[0].prompt.is_some() && answers[0].answer.is_some());
        let with_tools = dialogue(&format!(r#"{USER},{{"role":"assistant","content":"one"}}"#), r#","tools":[1]"#);
        assert_ne!(with_tools.prompt, answers[0].prompt);
        let unasked = dialogue(r#"{"role":"assistant","content":"one"}"#, "");
        assert_eq!(unasked.prompt, None);
        assert_eq!(dialogue(USER, "").answer, None);
    }

    #[test]
    fn spaces_around_a_text_and_the_way_of_writing_do_not_count() {
        let answer =
            |content: &str| dialogue(&format!(r#"{USER},{{"role":"assistant","content":{content}}}"#), "").answer;
        assert_eq!(answer(r#"" ok\n""#), answer(r#""o\u006b""#));
        assert_eq!(answer(r#""ok""#), answer(r#"[{"type":"text","text":"ok"}]"#));
        assert_ne!(answer(r#""C:\\n""#), answer(r#""C:""#));
    }

    #[test]
    fn ids_of_calls_do_not_count_but_arguments_do() {
        let call = |id: &str, x: u8| {
            let call =
                format!(r#"{{"id":"{id}","type":"function","function":{{"name":"f","arguments":"{{\"x\":{x}}}"}}}}"#);
            dialogue(&format!(r#"{USER},{{"role":"assistant","tool_calls":[{call}]}}"#), "").answer
        };
        assert_eq!(call("a", 1), call("b", 1));
        assert_ne!(call("a", 1), call("a", 2));
    }

    #[test]
    fn an_image_is_part_of_what_is_asked() {
        let ask = |url: &str| {
            let image = format!(r#"{{"type":"image_url","image_url":{{"url":"{url}"}}}}"#);
            dialogue(
                &format!(
                    r#"{{"role":"user","content":[{{"type":"text","text":"What is it?"}},{image}]}},{{"role":"assistant","content":"a cat"}}"#
                ),
                "",
            )
        };
        assert_ne!(ask("https://x/a.png").prompt, ask("https://x/b.png").prompt);
        assert_ne!(ask("https://x/a.png").signature, ask("https://x/b.png").signature);
        assert_eq!(ask("https://x/a.png").signature, ask("https://x/a.png").signature);
    }

    #[test]
    fn bytes_of_trained_texts_are_counted() {
        let dialogue = dialogue(
            &format!(
                r#"{USER},{{"role":"assistant","content":"1234","weight":0}},{USER},{{"role":"assistant","content":"12345678"}}"#
            ),
            "",
        );
        assert_eq!((dialogue.bytes, dialogue.trained_bytes), (11 + 4 + 11 + 8, 8));
    }
}
