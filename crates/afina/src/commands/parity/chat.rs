//! Whether a model asks and stops as the training graph does: its template, its tokenizer, its stop tokens.

use std::collections::BTreeSet;

use afina_chat::{ChatFormat, Conversation, TrainOn};
use afina_data::TokenizedExample;
use serde::Serialize;

/// A model's chat format beside the training graph's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatAgreement {
    /// The templates are the same bytes.
    pub template_equal: bool,
    /// Lines of the data file that the templates render to other bytes.
    pub rendered_otherwise: Vec<usize>,
    /// Lines whose token ids, each by its own template and tokenizer, are others.
    pub tokens_otherwise: Vec<usize>,
    pub stop_tokens: Vec<u32>,
    pub stop_tokens_equal: bool,
}

/// Compares over the conversations and tokens that the training graph's format made.
pub fn chat_agreement(
    [reference, other]: [&ChatFormat; 2],
    conversations: &[Conversation],
    examples: &[TokenizedExample],
    [reference_stops, stops]: [&[u32]; 2],
) -> ChatAgreement {
    let (mut rendered_otherwise, mut tokens_otherwise) = (Vec::new(), Vec::new());
    for (conversation, example) in conversations.iter().zip(examples) {
        let [ours, theirs] = [reference, other].map(|format| format.template.render(conversation, false).ok());
        if theirs.is_none() || ours != theirs {
            rendered_otherwise.push(example.line);
        }
        let tokens = other.training_tokens(conversation, TrainOn::Assistant);
        if !tokens.is_ok_and(|training| training.tokens == example.tokens && training.loss_mask == example.loss_mask) {
            tokens_otherwise.push(example.line);
        }
    }
    let set = |tokens: &[u32]| tokens.iter().copied().collect::<BTreeSet<_>>();
    ChatAgreement {
        template_equal: reference.template.source() == other.template.source(),
        rendered_otherwise,
        tokens_otherwise,
        stop_tokens: stops.to_vec(),
        stop_tokens_equal: set(reference_stops) == set(stops),
    }
}
