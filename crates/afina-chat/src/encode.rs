//! A conversation as tokens: the prompt that is answered, and what is trained on.

use std::collections::HashMap;
use std::ops::Range;

use crate::format::ChatFormat;
use crate::message::{Conversation, Message, Role};
use crate::shield;
use crate::specials::Stretch;
use crate::template::{Inputs, TemplateError};
use crate::tool_calls::{MARKS, Reply, ToolCallError};

#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("the chat template cannot render the conversation")]
    Template { source: TemplateError },
    #[error("the chat template cannot render the conversation up to message {message}")]
    TemplatePrefix { message: usize, source: TemplateError },
    #[error("message {message}: an answer needs at least one message before it")]
    NothingToAnswer { message: usize },
    #[error(
        "message {message}: token {position} of the prompt is not the one in the whole conversation: expected {}, found {}",
        token(*.expected), token(*.found)
    )]
    Prefix { message: usize, position: usize, expected: Option<u32>, found: Option<u32> },
    #[error("the conversation holds all 66 Unicode noncharacters, so none is left to keep special strings apart")]
    NoShield,
}

impl EncodeError {
    /// The message that it is about, from 0.
    pub fn message(&self) -> Option<usize> {
        match self {
            EncodeError::Template { source } => source.message(),
            EncodeError::TemplatePrefix { message, .. }
            | EncodeError::NothingToAnswer { message }
            | EncodeError::Prefix { message, .. } => Some(*message),
            EncodeError::NoShield => None,
        }
    }
}

fn token(id: Option<u32>) -> String {
    id.map_or_else(|| "the end".to_owned(), |id| format!("`{id}`"))
}

/// Which messages a model is trained to write. A message of weight 0 never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainOn {
    /// Every answer of the assistant.
    Assistant,
    /// The last answer only.
    Last,
    /// Every token but the first.
    All,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainingTokens {
    pub tokens: Vec<u32>,
    /// Of the length of `tokens`: `loss_mask[i]` is true when token `i` is a target.
    pub loss_mask: Vec<bool>,
}

/// A token and the text it stands for. The texts of a conversation's pieces join to its rendering; where several tokens make
/// up one character, the first carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub token: u32,
    pub text: String,
    pub trained: bool,
}

impl ChatFormat {
    /// The tokens that a model continues to answer the conversation.
    pub fn prompt_tokens(&self, conversation: &Conversation) -> Result<Vec<u32>, EncodeError> {
        let mut encoder = Encoder::new(self, conversation)?;
        let all = conversation.messages.len();
        encoder.prefix(all, true).map_err(whole)
    }

    /// The tokens of the whole conversation, and which of them are trained.
    ///
    /// An answer's part is what it adds to the prompt before it, up to its last special token: the end of the turn. The
    /// prompt's tokens must be a prefix of the conversation's, or a model would be trained on what it never sees when it
    /// answers; otherwise [`EncodeError::Prefix`] names the message.
    pub fn training_tokens(
        &self,
        conversation: &Conversation,
        train_on: TrainOn,
    ) -> Result<TrainingTokens, EncodeError> {
        let mut encoder = Encoder::new(self, conversation)?;
        encoder.training_tokens(&conversation.messages, train_on)
    }

    /// The prompt, and the tokens of `reply` up to and with its end-of-turn token.
    pub fn reply_tokens(&self, conversation: &Conversation, reply: &str) -> Result<(Vec<u32>, Vec<u32>), EncodeError> {
        let mut answered = conversation.clone();
        answered.messages.push(Message::new(Role::Assistant, reply));
        let mut encoder = Encoder::new(self, &answered)?;
        let answer = conversation.messages.len();
        let whole_tokens = encoder.prefix(answer + 1, false).map_err(whole)?;
        let span = encoder.answer_span(answer, &whole_tokens)?;
        Ok((whole_tokens[..span.start].to_vec(), whole_tokens[span].to_vec()))
    }

    /// The tokens of the answer at `message`, up to and with its end-of-turn token: what a model that answers so generates.
    pub fn answer_tokens(&self, conversation: &Conversation, message: usize) -> Result<Vec<u32>, EncodeError> {
        let mut encoder = Encoder::new(self, conversation)?;
        let tokens = encoder.prefix(message + 1, false).map_err(whole)?;
        let span = encoder.answer_span(message, &tokens)?;
        Ok(tokens[span].to_vec())
    }

    /// The text of an answer's tokens: special tokens are left out, but for those that mark tool calls.
    pub fn answer_text(&self, tokens: &[u32]) -> String {
        let mark = |id: u32| MARKS.iter().find(|mark| self.tokenizer.token_id(mark) == Some(id)).copied();
        let mut text = String::new();
        for run in tokens.chunk_by(|&a, &b| !self.tokenizer.is_special(a) && !self.tokenizer.is_special(b)) {
            match run {
                [id] if self.tokenizer.is_special(*id) => text.push_str(mark(*id).unwrap_or_default()),
                run => text.push_str(&self.tokenizer.decode(run, true)),
            }
        }
        text
    }

    /// Takes the text of an answer apart, by the syntax in which this template writes calls. A template without calls, or
    /// with calls that cannot be read back, has answers of content alone.
    pub fn parse_answer(&self, text: &str) -> Result<Reply, ToolCallError> {
        match self.template.capabilities().tool_syntax {
            Some(syntax) => syntax.parse(text),
            None => Ok(Reply { content: Some(text.to_owned()), tool_calls: Vec::new() }),
        }
    }

    /// [`training_tokens`](ChatFormat::training_tokens), each with the text it stands for.
    pub fn training_pieces(&self, conversation: &Conversation, train_on: TrainOn) -> Result<Vec<Piece>, EncodeError> {
        let mut encoder = Encoder::new(self, conversation)?;
        let trained = encoder.training_tokens(&conversation.messages, train_on)?;
        let rendered = encoder.render(conversation.messages.len(), false).map_err(whole)?;
        Ok(encoder.pieces(&rendered, &trained))
    }
}

fn whole(source: TemplateError) -> EncodeError {
    EncodeError::Template { source }
}

/// One conversation on its way to tokens. Pieces of text recur from turn to turn and are encoded once.
struct Encoder<'f> {
    format: &'f ChatFormat,
    inputs: Inputs,
    shield: char,
    encoded: HashMap<(bool, String), Vec<u32>>,
}

impl<'f> Encoder<'f> {
    fn new(format: &'f ChatFormat, conversation: &Conversation) -> Result<Encoder<'f>, EncodeError> {
        format.template.check(conversation).map_err(whole)?;
        let shield = shield::choose(conversation, format.template.source()).ok_or(EncodeError::NoShield)?;
        let rules = format.tokenizer.shield_rules();
        let inputs = format.template.inputs(conversation, &|text| rules.shield(text, shield)).map_err(whole)?;
        Ok(Encoder { format, inputs, shield, encoded: HashMap::new() })
    }

    fn training_tokens(&mut self, messages: &[Message], train_on: TrainOn) -> Result<TrainingTokens, EncodeError> {
        let tokens = self.prefix(messages.len(), false).map_err(whole)?;
        let is_answer = |message: &Message| message.role == Role::Assistant;
        let mut loss_mask = vec![train_on == TrainOn::All; tokens.len()];
        match train_on {
            TrainOn::Assistant | TrainOn::Last => {
                let first = match train_on {
                    TrainOn::Last => messages.iter().rposition(is_answer).unwrap_or(messages.len()),
                    _ => 0,
                };
                for (index, message) in messages.iter().enumerate().skip(first) {
                    if is_answer(message) && message.weight != Some(0) {
                        let span = self.answer_span(index, &tokens)?;
                        loss_mask[span].fill(true);
                    }
                }
            }
            TrainOn::All => {
                for index in (0..messages.len()).filter(|&index| messages[index].weight == Some(0)) {
                    let span = self.message_span(index, &tokens)?;
                    loss_mask[span].fill(false);
                }
                loss_mask.iter_mut().take(1).for_each(|first| *first = false);
            }
        }
        Ok(TrainingTokens { tokens, loss_mask })
    }

    /// The part of `whole` that answers the messages before `message`, up to and with the end of its turn.
    fn answer_span(&mut self, message: usize, whole: &[u32]) -> Result<Range<usize>, EncodeError> {
        if message == 0 {
            return Err(EncodeError::NothingToAnswer { message });
        }
        let failed = |source| EncodeError::TemplatePrefix { message, source };
        let prompt = self.prefix(message, true).map_err(failed)?;
        check_prefix(message, &prompt, whole)?;
        let turn = self.prefix(message + 1, false).map_err(failed)?;
        let turn = self.through_last_special(&turn, prompt.len());
        check_prefix(message, turn, whole)?;
        Ok(prompt.len()..turn.len().max(prompt.len()))
    }

    /// The part of `whole` that `message` adds to the messages before it.
    fn message_span(&mut self, message: usize, whole: &[u32]) -> Result<Range<usize>, EncodeError> {
        let failed = |source| EncodeError::TemplatePrefix { message, source };
        let before = if message == 0 { Vec::new() } else { self.prefix(message, false).map_err(failed)? };
        let start = common_prefix(&before, whole);
        let after = self.prefix(message + 1, false).map_err(failed)?;
        check_prefix(message, self.through_last_special(&after, start), whole)?;
        Ok(start..common_prefix(&after, whole))
    }

    /// A turn ends with its last special token; one that has none after `start` ends with its last token.
    fn through_last_special<'t>(&self, turn: &'t [u32], start: usize) -> &'t [u32] {
        let last = turn.iter().rposition(|&id| self.format.tokenizer.is_special(id));
        last.filter(|&last| last >= start).map_or(turn, |last| &turn[..=last])
    }

    /// Tokens of the first `count` messages.
    fn prefix(&mut self, count: usize, add_generation_prompt: bool) -> Result<Vec<u32>, TemplateError> {
        let rendered = self.render(count, add_generation_prompt)?;
        let tokenizer = &self.format.tokenizer;
        let mut tokens = Vec::new();
        for stretch in tokenizer.specials().split(&rendered) {
            match stretch {
                Stretch::Special { id, .. } => tokens.push(id),
                Stretch::Text { range } => {
                    let opens = range.start == 0;
                    let text = rendered[range].replace(self.shield, "");
                    let encoded = self.encoded.entry((opens, text)).or_insert_with_key(|(opens, text)| {
                        let mut tokens = Vec::new();
                        tokenizer.encode_piece(text, *opens, &mut |id, _| tokens.push(id));
                        tokens
                    });
                    tokens.extend_from_slice(encoded);
                }
            }
        }
        Ok(tokens)
    }

    fn render(&self, count: usize, add_generation_prompt: bool) -> Result<String, TemplateError> {
        self.format.template.render_inputs(&self.inputs, count, add_generation_prompt)
    }

    fn pieces(&self, rendered: &str, trained: &TrainingTokens) -> Vec<Piece> {
        let tokenizer = &self.format.tokenizer;
        let mut pieces: Vec<Piece> = Vec::with_capacity(trained.tokens.len());
        let mut push = |token: u32, text: &str| {
            let trained = trained.loss_mask.get(pieces.len()).copied().unwrap_or(false);
            pieces.push(Piece { token, text: text.to_owned(), trained });
        };
        for stretch in tokenizer.specials().split(rendered) {
            match stretch {
                Stretch::Special { id, range } => push(id, &rendered[range].replace(self.shield, "")),
                Stretch::Text { range } => {
                    let opens = range.start == 0;
                    let text = rendered[range].replace(self.shield, "");
                    let mut ends = Vec::new();
                    tokenizer.encode_piece(&text, opens, &mut |id, end| ends.push((id, end)));
                    let last = ends.len().saturating_sub(1);
                    let mut done = 0;
                    for (index, (id, end)) in ends.into_iter().enumerate() {
                        // What no token claims, such as white space that the tokenizer drops, goes with the token after it.
                        let end = if index == last { text.len() } else { end.clamp(done, text.len()) };
                        let end = (end..).find(|&end| text.is_char_boundary(end)).unwrap_or(text.len());
                        push(id, &text[done..end]);
                        done = end;
                    }
                }
            }
        }
        pieces
    }
}

fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn check_prefix(message: usize, prefix: &[u32], whole: &[u32]) -> Result<(), EncodeError> {
    let position = common_prefix(prefix, whole);
    if position == prefix.len() {
        return Ok(());
    }
    let (expected, found) = (prefix.get(position).copied(), whole.get(position).copied());
    Err(EncodeError::Prefix { message, position, expected, found })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::ChatTemplate;
    use crate::tokenizer::Tokenizer;
    use expect_test::{Expect, expect};
    use std::path::Path;

    const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    const NO_END: &str = "<|endoftext|>{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
    const LAST_DIFFERS: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if loop.last %}(last) {% endif %}{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

    fn format(template: &str) -> ChatFormat {
        let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/chat/tokenizers/smollm2.json");
        let template = ChatTemplate::new(template.to_owned(), None, None).unwrap();
        ChatFormat { template, tokenizer: Tokenizer::from_file(&tokenizer).unwrap() }
    }

    fn dialog() -> Vec<Message> {
        let turns = [(Role::User, "one"), (Role::Assistant, "two"), (Role::User, "three"), (Role::Assistant, "four")];
        turns.into_iter().map(|(role, text)| Message::new(role, text)).collect()
    }

    /// The rendering with `[` and `]` around what is trained.
    fn check(template: &str, messages: Vec<Message>, train_on: TrainOn, expect: Expect) {
        let shown = match format(template).training_pieces(&Conversation::new(messages), train_on) {
            Err(error) => format!("error: {error}"),
            Ok(pieces) => {
                let mut shown = String::new();
                let mut inside = false;
                for piece in pieces {
                    if piece.trained != inside {
                        shown.push(if inside { ']' } else { '[' });
                        inside = piece.trained;
                    }
                    shown.push_str(&piece.text);
                }
                if inside { shown + "]" } else { shown }
            }
        };
        expect.assert_eq(&shown.replace("<|im_start|>", "<").replace("<|im_end|>", ">").replace('\n', "/"));
    }

    #[test]
    fn answers_are_trained_with_the_end_of_their_turn() {
        check(
            CHATML,
            dialog(),
            TrainOn::Assistant,
            expect!["<user/one>/<assistant/[two>]/<user/three>/<assistant/[four>]/"],
        );
        check(CHATML, dialog(), TrainOn::Last, expect!["<user/one>/<assistant/two>/<user/three>/<assistant/[four>]/"]);
        check(CHATML, dialog(), TrainOn::All, expect!["<[user/one>/<assistant/two>/<user/three>/<assistant/four>/]"]);
        check(CHATML, dialog()[..1].to_vec(), TrainOn::Assistant, expect!["<user/one>/"]);
    }

    #[test]
    fn message_of_weight_zero_is_never_trained() {
        let weighted = |index: usize| {
            let mut messages = dialog();
            messages[index].weight = Some(0);
            messages
        };
        check(
            CHATML,
            weighted(1),
            TrainOn::Assistant,
            expect!["<user/one>/<assistant/two>/<user/three>/<assistant/[four>]/"],
        );
        check(CHATML, weighted(3), TrainOn::Last, expect!["<user/one>/<assistant/two>/<user/three>/<assistant/four>/"]);
        check(
            CHATML,
            weighted(1),
            TrainOn::All,
            expect!["<[user/one>/]<assistant/two>/[<user/three>/<assistant/four>/]"],
        );
        check(
            CHATML,
            weighted(0),
            TrainOn::All,
            expect!["<user/one>/[<assistant/two>/<user/three>/<assistant/four>/]"],
        );
    }

    #[test]
    fn answer_of_a_template_without_end_of_turn_is_trained_to_its_end() {
        check(NO_END, dialog()[..2].to_vec(), TrainOn::Assistant, expect!["<|endoftext|>user: one/assistant:[ two/]"]);
    }

    #[test]
    fn answer_whose_prompt_is_no_prefix_is_refused() {
        let newlines = vec![Message::new(Role::User, "one"), Message::new(Role::Assistant, "\n\ntwo")];
        check(
            CHATML,
            newlines.clone(),
            TrainOn::Assistant,
            expect![
                "error: message 1: token 9 of the prompt is not the one in the whole conversation: expected `201`, found `462`"
            ],
        );
        check(
            LAST_DIFFERS,
            dialog(),
            TrainOn::Last,
            expect![
                "error: message 3: token 14 of the prompt is not the one in the whole conversation: expected `10`, found `366`"
            ],
        );
        let weight_zero = Message { weight: Some(0), ..newlines[1].clone() };
        check(
            CHATML,
            vec![newlines[0].clone(), weight_zero],
            TrainOn::Assistant,
            expect!["<user/one>/<assistant///two>/"],
        );
    }

    #[test]
    fn answer_to_nothing_is_refused() {
        check(
            CHATML,
            vec![Message::new(Role::Assistant, "hi")],
            TrainOn::Assistant,
            expect!["error: message 0: an answer needs at least one message before it"],
        );
    }

    #[test]
    fn prompt_and_reply_are_the_training_tokens() {
        let format = format(CHATML);
        let asked = Conversation::new(dialog()[..3].to_vec());
        let (prompt, reply) = format.reply_tokens(&asked, "four").unwrap();
        assert_eq!(prompt, format.prompt_tokens(&asked).unwrap());
        let trained = format.training_tokens(&Conversation::new(dialog()), TrainOn::Last).unwrap();
        assert_eq!([prompt, reply.clone()].concat(), trained.tokens[..trained.tokens.len() - 1]);
        assert_eq!(reply.last(), format.tokenizer.token_id("<|im_end|>").as_ref());
    }

    #[test]
    fn first_of_several_tokens_carries_the_character() {
        let pieces =
            format(CHATML).training_pieces(&Conversation::new(vec![Message::new(Role::User, "😀")]), TrainOn::All);
        let texts: Vec<String> = pieces.unwrap().into_iter().map(|piece| piece.text).collect();
        let at = texts.iter().position(|text| text == "😀").unwrap();
        assert_eq!(texts[at + 1], "");
    }
}
