//! What training would cost at a service that bills by the token.

use std::collections::BTreeMap;

use afina_chat::{Content, ContentPart, Conversation, Role};
use serde::{Deserialize, Serialize};

/// Tokens of an example that the cookbook bills at most (`MAX_TOKENS_PER_EXAMPLE`). Models of today train on more: see
/// [`training_context`].
pub const COOKBOOK_MAX_TOKENS: u32 = 4096;

/// The price table that ships with the crate, for the program to parse and the user to replace.
pub const PRICES_TOML: &str = include_str!("prices.toml");

/// Epochs that the service takes for `examples` examples where the user names no number.
///
/// Source: OpenAI's cookbook, "Data preparation and analysis for chat model fine-tuning": three, but so many (25 at
/// most) that 100 examples are seen, and so few (1 at least) that not more than 25,000 are.
pub fn epochs(examples: usize) -> usize {
    const TARGET_EPOCHS: usize = 3;
    const MIN_TARGET_EXAMPLES: usize = 100;
    const MAX_TARGET_EXAMPLES: usize = 25_000;
    const MIN_DEFAULT_EPOCHS: usize = 1;
    const MAX_DEFAULT_EPOCHS: usize = 25;
    match examples {
        0 => TARGET_EPOCHS,
        n if n * TARGET_EPOCHS < MIN_TARGET_EXAMPLES => MAX_DEFAULT_EPOCHS.min(MIN_TARGET_EXAMPLES / n),
        n if n.saturating_mul(TARGET_EPOCHS) > MAX_TARGET_EXAMPLES => MIN_DEFAULT_EPOCHS.max(MAX_TARGET_EXAMPLES / n),
        _ => TARGET_EPOCHS,
    }
}

/// Tokens that a model of OpenAI's is trained on per example, where its name is known: what is longer is cut at the
/// end.
///
/// Source: OpenAI's guide to supervised fine-tuning, table of context lengths.
pub fn training_context(model: &str) -> Option<u32> {
    let name = model.trim_start_matches("ft:");
    match name {
        _ if name.starts_with("gpt-3.5-turbo-0613") => Some(4096),
        _ if name.starts_with("gpt-3.5") => Some(16_385),
        _ if name.starts_with("gpt-4") || name.starts_with("gpt-5") || name.starts_with("o4") => Some(65_536),
        _ => None,
    }
}

/// The tokenizer of a model of OpenAI's, where its name is known.
///
/// Source: `tiktoken/model.py` of openai/tiktoken.
pub fn tokenizer_of(model: &str) -> Option<&'static str> {
    const O200K: [&str; 7] = ["gpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "chatgpt-4o", "o1", "o3"];
    let name = model.trim_start_matches("ft:");
    match name {
        _ if O200K.iter().any(|family| name.starts_with(family)) || name.starts_with("o4-mini") => Some("o200k_base"),
        _ if name.starts_with("gpt-3.5") || name == "gpt-4" || name.starts_with("gpt-4-") => Some("cl100k_base"),
        _ => None,
    }
}

/// Whether a model of the price table is the one that `target` names: itself, without its date, or tuned from it.
pub fn is_model(name: &str, target: &str) -> bool {
    let target = target.strip_prefix("ft:").map_or(target, |tuned| tuned.split(':').next().unwrap_or(tuned));
    name.strip_prefix(target).is_some_and(|rest| {
        rest.is_empty()
            || rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(|char: char| char.is_ascii_digit()))
    })
}

/// What the cookbook counts of a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CookbookTokens {
    /// `num_tokens_from_messages`.
    pub total: usize,
    /// `num_assistant_tokens_from_messages`.
    pub assistant: usize,
}

/// The cookbook's count of a conversation's tokens: 3, and for each message 3 and the tokens of each of its values, the
/// role's name included, and 1 for a `name`.
///
/// `count` gives the tokens of a text. Where the cookbook's own script fails, the texts of content parts count as
/// content, and of a tool call its name and its arguments.
pub fn cookbook_tokens(conversation: &Conversation, count: &mut dyn FnMut(&str) -> usize) -> CookbookTokens {
    const TOKENS_PER_MESSAGE: usize = 3;
    const TOKENS_PER_NAME: usize = 1;
    let mut tokens = CookbookTokens { total: 3, assistant: 0 };
    for message in &conversation.messages {
        let content = match &message.content {
            None => 0,
            Some(Content::Text(text)) => count(text),
            Some(Content::Parts(parts)) => parts
                .iter()
                .map(|part| match part {
                    ContentPart::Text { text } => count(text),
                    ContentPart::Refusal { refusal } => count(refusal),
                    ContentPart::ImageUrl { .. } => 0,
                })
                .sum(),
        };
        let calls = message.tool_calls.iter().flatten();
        let calls: usize = calls.map(|call| count(&call.function.name) + count(&call.function.arguments)).sum();
        let others =
            [&message.refusal, &message.tool_call_id].into_iter().flatten().map(|text| count(text)).sum::<usize>();
        let name = message.name.as_ref().map_or(0, |name| count(name) + TOKENS_PER_NAME);
        tokens.total += TOKENS_PER_MESSAGE + count(message.role.as_str()) + content + calls + others + name;
        if message.role == Role::Assistant {
            tokens.assistant += content;
        }
    }
    tokens
}

/// What models cost to train. A table of the user's has the same shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with `currency` and `models`")]
pub struct Prices {
    /// As it is shown: `USD`.
    pub currency: String,
    /// By the model's name.
    pub models: BTreeMap<String, Price>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with `training_per_million`")]
pub struct Price {
    /// Of a million trained tokens: those of the file, times the epochs.
    pub training_per_million: f64,
}

/// What training would be billed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Billing {
    pub epochs: usize,
    /// Tokens of one epoch, at most `max_tokens_per_example` of each example. These three are the first model's.
    pub tokens: u64,
    pub max_tokens_per_example: u32,
    /// Tokens of all epochs.
    pub billed_tokens: u64,
    pub currency: String,
    /// By model, the cheapest first; empty without prices.
    pub costs: Vec<Cost>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    pub model: String,
    pub cost: f64,
    /// Tokens of an example that this model is trained on at most, and the tokens of all epochs then.
    pub max_tokens_per_example: u32,
    pub billed_tokens: u64,
}

impl Billing {
    /// Of examples of these lengths, for each model of the table. What is longer than a model's training context (where
    /// that is not known: than `context`) is not trained on, and not billed.
    pub fn new(lengths: &[u32], context: u32, prices: Option<&Prices>) -> Billing {
        let epochs = epochs(lengths.len());
        let billed = |most: u32| {
            let tokens: u64 = lengths.iter().map(|&length| u64::from(length.min(most))).sum();
            (tokens, tokens * epochs as u64)
        };
        let cost = |(model, price): (&String, &Price)| {
            let most = training_context(model).unwrap_or(context);
            let (_, billed_tokens) = billed(most);
            let cost = price.training_per_million * billed_tokens as f64 / 1e6;
            Cost { model: model.clone(), cost, max_tokens_per_example: most, billed_tokens }
        };
        let mut costs: Vec<Cost> = prices.into_iter().flat_map(|prices| prices.models.iter().map(cost)).collect();
        costs.sort_by(|one, other| one.cost.total_cmp(&other.cost));
        let currency = prices.map(|prices| prices.currency.clone()).unwrap_or_default();
        let max_tokens_per_example = costs.first().map_or(context, |first| first.max_tokens_per_example);
        let (tokens, billed_tokens) = billed(max_tokens_per_example);
        Billing { epochs, tokens, max_tokens_per_example, billed_tokens, currency, costs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_the_cookbook_s() {
        // Computed with the formula in Python.
        let expected = [
            (1, 25),
            (2, 25),
            (3, 25),
            (4, 25),
            (5, 20),
            (10, 10),
            (33, 3),
            (34, 3),
            (100, 3),
            (8333, 3),
            (8334, 2),
            (12_500, 2),
            (12_501, 1),
            (1_000_000, 1),
        ];
        for (examples, wanted) in expected {
            assert_eq!(epochs(examples), wanted, "{examples}");
        }
    }

    #[test]
    fn the_cookbook_s_example_file_is_billed_as_its_notebook_prints() {
        // 5 examples; one of 8032 tokens is billed with 4096: 26 + 28 + 45 + 111 + 4096 = 4306, 20 epochs.
        let billing = Billing::new(&[26, 28, 45, 111, 8032], COOKBOOK_MAX_TOKENS, None);
        assert_eq!((billing.tokens, billing.epochs, billing.billed_tokens), (4306, 20, 86_120));
    }

    #[test]
    fn cost_is_the_price_of_a_million_times_epochs() {
        let price = |training_per_million| Price { training_per_million };
        let models = BTreeMap::from([("dear".to_owned(), price(25.0)), ("cheap".to_owned(), price(3.0))]);
        let prices = Prices { currency: "USD".into(), models };
        // OpenAI's own example: 100,000 tokens, 3 epochs, 3 dollars a million.
        let billing = Billing::new(&[1000; 100], COOKBOOK_MAX_TOKENS, Some(&prices));
        let costs: Vec<_> = billing.costs.iter().map(|cost| (cost.model.as_str(), cost.cost)).collect();
        assert_eq!(costs, [("cheap", 0.9), ("dear", 7.5)]);
    }

    #[test]
    fn a_conversation_counts_as_in_the_cookbook() {
        let record = serde_json::json!({"messages": [
            {"role": "system", "content": "one two"},
            {"role": "user", "name": "ana", "content": [{"type": "text", "text": "one two three"}]},
            {"role": "assistant", "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{} {}"}}]},
            {"role": "assistant", "content": "one"},
        ]});
        let conversation: Conversation = serde_json::from_value(record).unwrap();
        let tokens = cookbook_tokens(&conversation, &mut |text| text.split_whitespace().count());
        // 3 + (3+1+2) + (3+1+3+1+1) + (3+1+1+2) + (3+1+1) = 3 + 6 + 9 + 7 + 5
        assert_eq!(tokens, CookbookTokens { total: 30, assistant: 1 });
    }

    #[test]
    fn each_model_is_billed_up_to_its_own_context() {
        let prices: Prices = Prices {
            currency: "USD".into(),
            models: ["gpt-3.5-turbo-0125", "gpt-4o-mini-2024-07-18", "mine"]
                .map(|name| (name.to_owned(), Price { training_per_million: 1.0 }))
                .into(),
        };
        let billing = Billing::new(&[100_000; 100], COOKBOOK_MAX_TOKENS, Some(&prices));
        let billed: Vec<_> = billing.costs.iter().map(|cost| (&*cost.model, cost.billed_tokens / 300)).collect();
        assert_eq!(billed, [("mine", 4096), ("gpt-3.5-turbo-0125", 16_385), ("gpt-4o-mini-2024-07-18", 65_536)]);
        assert_eq!((billing.max_tokens_per_example, billing.billed_tokens), (4096, 300 * 4096));
    }

    #[test]
    fn a_model_s_tokenizer_is_told_by_its_name() {
        let names = ["gpt-4o-mini", "ft:gpt-4.1-nano:me", "gpt-3.5-turbo-0125", "gpt-4-turbo", "gpt-4", "llama-3"];
        let (old, new) = (Some("cl100k_base"), Some("o200k_base"));
        assert_eq!(names.map(tokenizer_of), [new, new, old, old, old, None]);
    }

    #[test]
    fn a_target_is_a_model_with_its_date_or_without() {
        for target in ["gpt-4o-mini", "gpt-4o-mini-2024-07-18", "ft:gpt-4o-mini-2024-07-18:me:x"] {
            assert!(is_model("gpt-4o-mini-2024-07-18", target), "{target}");
        }
        assert!(!is_model("gpt-4o-mini-2024-07-18", "gpt-4o") && !is_model("gpt-4o-2024-08-06", "gpt-4o-mini"));
    }

    #[test]
    fn a_model_s_context_is_told_by_its_name() {
        assert_eq!(training_context("gpt-4o-mini-2024-07-18"), Some(65_536));
        assert_eq!(training_context("ft:gpt-3.5-turbo-0125:me"), Some(16_385));
        assert_eq!(training_context("gpt-3.5-turbo-0613"), Some(4096));
        assert_eq!(training_context("llama-3"), None);
    }
}
