//! Control tokens of known models: strings that mean more to a model than their letters.

/// Whose control token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Of the model that is trained, as the caller told.
    Given,
    /// Of OpenAI's models; many open models took them over.
    OpenAi,
    /// Of open models.
    Open,
}

const OPENAI: &[&str] = &[
    "<|endoftext|>",
    "<|endofprompt|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|im_sep|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|channel|>",
    "<|constrain|>",
    "<|call|>",
    "<|return|>",
];

const LLAMA_3: &[&str] = &[
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|python_tag|>",
    "<|image|>",
    "<|finetune_right_pad_id|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
];
const LLAMA_2: &[&str] = &["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"];
const QWEN: &[&str] = &[
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
];
const CHATML: &[&str] = &["<|im_start|>", "<|im_end|>", "<|endoftext|>"];
const GEMMA: &[&str] = &["<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>"];
const MISTRAL: &[&str] = &[
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_CALLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
];
const PHI: &[&str] = &["<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|endoftext|>"];
const DEEPSEEK: &[&str] = &["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"];
const OPEN: [&[&str]; 8] = [LLAMA_3, LLAMA_2, QWEN, CHATML, GEMMA, MISTRAL, PHI, DEEPSEEK];

/// The control tokens of a family of models, by the name of the family or of a model in it: `llama-3`, `qwen2.5-7b`,
/// `gpt-4o`. `None` where the name tells no family.
pub fn control_tokens_of(target: &str) -> Option<Vec<String>> {
    let name: String = target.to_lowercase().chars().filter(|char| !matches!(char, '-' | '_' | ' ')).collect();
    let families: [(&str, &[&str]); 14] = [
        ("llama3", LLAMA_3),
        ("llama4", LLAMA_3),
        ("llama2", LLAMA_2),
        ("codellama", LLAMA_2),
        ("tinyllama", PHI),
        ("qwen", QWEN),
        ("smollm", CHATML),
        ("chatml", CHATML),
        ("gemma", GEMMA),
        ("mistral", MISTRAL),
        ("phi", PHI),
        ("deepseek", DEEPSEEK),
        ("gpt", OPENAI),
        ("openai", OPENAI),
    ];
    let (_, tokens) = families.into_iter().find(|(family, _)| name.contains(family))?;
    Some(tokens.iter().map(|token| (*token).to_owned()).collect())
}

/// Every control token in `text` at or after byte `from`: its offset, the token, and whose it is.
pub(crate) fn find<'t>(
    text: &'t str,
    from: usize,
    given: &'t [String],
) -> impl Iterator<Item = (usize, &'t str, Family)> {
    let starts = memchr::memchr2_iter(b'<', b'[', &text.as_bytes()[from..]).map(move |at| from + at);
    // Tokens of the model itself that begin with another character are looked for one by one.
    let others = given.iter().filter(|token| !token.starts_with(['<', '[']) && !token.trim().is_empty());
    let others = others.filter_map(|token| text.find(token.as_str()).map(|at| (at, token.as_str(), Family::Given)));
    let at_start = starts.filter_map(move |at| {
        let rest = &text[at..];
        let begins = |token: &&str| rest.starts_with(token);
        let own = given.iter().map(String::as_str).find(|token| !token.is_empty() && begins(token));
        own.map(|token| (at, token, Family::Given))
            .or_else(|| OPENAI.iter().copied().find(begins).map(|token| (at, token, Family::OpenAi)))
            .or_else(|| {
                OPEN.iter().flat_map(|tokens| *tokens).copied().find(begins).map(|token| (at, token, Family::Open))
            })
    });
    at_start.chain(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_given_tokens_come_before_the_known_ones() {
        let given = vec!["<|eot_id|>".to_owned(), "▁sep▁".to_owned()];
        let found: Vec<_> = find("a <|eot_id|> b <|im_end|> c <|python_tag|> ▁sep▁ <|other|>", 0, &given).collect();
        assert_eq!(
            found,
            [
                (2, "<|eot_id|>", Family::Given),
                (15, "<|im_end|>", Family::OpenAi),
                (28, "<|python_tag|>", Family::Open),
                (43, "▁sep▁", Family::Given),
            ]
        );
    }

    #[test]
    fn a_model_s_name_tells_its_family() {
        let has = |name: &str, token: &str| control_tokens_of(name).unwrap().iter().any(|found| found == token);
        assert!(
            has("llama-3", "<|eot_id|>") && has("Llama_3.2-1B", "<|image|>") && has("gpt-4o-mini", "<|fim_suffix|>")
        );
        assert!(control_tokens_of("my-model").is_none());
    }
}
