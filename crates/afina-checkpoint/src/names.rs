//! One table of tensor names: Hugging Face, GGUF, and the keys of adapters over them: PEFT's, MLX's and GGUF's. Hugging
//! Face's are used everywhere else.

use crate::config::LlamaConfig;

/// The linear layers an adapter may hang on, in the order of the forward pass.
pub const LINEAR_MODULES: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// Names outside the layers: Hugging Face, GGUF.
const TOP: [(&str, &str); 3] = [
    ("model.embed_tokens.weight", "token_embd.weight"),
    ("model.norm.weight", "output_norm.weight"),
    ("lm_head.weight", "output.weight"),
];

/// Names inside layer `i`: Hugging Face after `model.layers.<i>.`, GGUF after `blk.<i>.`, both before `.weight`.
const LAYER: [(&str, &str); 9] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// The GGUF name of a Hugging Face tensor, if it is one of a Llama model.
pub fn gguf_name(hf: &str) -> Option<String> {
    if let Some((_, gguf)) = TOP.iter().find(|(name, _)| *name == hf) {
        return Some((*gguf).to_owned());
    }
    let (layer, rest) = split_layer(hf.strip_prefix("model.layers.")?)?;
    let (_, gguf) = LAYER.iter().find(|(name, _)| *name == rest)?;
    Some(format!("blk.{layer}.{gguf}.weight"))
}

/// The Hugging Face name of a GGUF tensor, if it is one of a Llama model.
pub fn hf_name(gguf: &str) -> Option<String> {
    if let Some((hf, _)) = TOP.iter().find(|(_, name)| *name == gguf) {
        return Some((*hf).to_owned());
    }
    let (layer, rest) = split_layer(gguf.strip_prefix("blk.")?)?;
    let (hf, _) = LAYER.iter().find(|(_, name)| *name == rest)?;
    Some(format!("model.layers.{layer}.{hf}.weight"))
}

/// Where a linear layer is: `(3, "q_proj")` gives `model.layers.3.self_attn.q_proj`.
///
/// # Panics
/// If `name` is not one of [`LINEAR_MODULES`].
pub fn module_path(layer: usize, name: &str) -> String {
    let (path, _) = LAYER
        .iter()
        .find(|(path, _)| path.ends_with(name) && LINEAR_MODULES.contains(&name))
        .expect("one of LINEAR_MODULES");
    format!("model.layers.{layer}.{path}")
}

/// The inverse of [`module_path`], if `path` is a linear layer of a Llama model.
pub fn parse_module_path(path: &str) -> Option<(usize, &'static str)> {
    let (layer, rest) = path.strip_prefix("model.layers.")?.split_once('.')?;
    let name = LINEAR_MODULES.into_iter().find(|name| rest.ends_with(name))?;
    let layer = parse_layer(layer)?;
    (module_path(layer, name) == path).then_some((layer, name))
}

/// `[out, in]` of a linear layer.
///
/// # Panics
/// If `name` is not one of [`LINEAR_MODULES`].
pub fn linear_shape(config: &LlamaConfig, name: &str) -> [usize; 2] {
    let query = config.num_attention_heads * config.head_dim;
    let key_value = config.num_key_value_heads * config.head_dim;
    match name {
        "q_proj" => [query, config.hidden_size],
        "k_proj" | "v_proj" => [key_value, config.hidden_size],
        "o_proj" => [config.hidden_size, query],
        "gate_proj" | "up_proj" => [config.intermediate_size, config.hidden_size],
        "down_proj" => [config.hidden_size, config.intermediate_size],
        other => panic!("`{other}` is not one of LINEAR_MODULES"),
    }
}

/// Every tensor of a model and its shape, in the order of the forward pass; no `lm_head.weight` when it is tied.
pub fn expected_tensors(config: &LlamaConfig) -> Vec<(String, Vec<usize>)> {
    let embeddings = vec![config.vocab_size, config.hidden_size];
    let mut tensors = vec![("model.embed_tokens.weight".to_owned(), embeddings.clone())];
    for layer in 0..config.num_hidden_layers {
        for (path, _) in LAYER {
            let shape = match LINEAR_MODULES.into_iter().find(|name| path.ends_with(name)) {
                Some(name) => linear_shape(config, name).to_vec(),
                None => vec![config.hidden_size],
            };
            tensors.push((format!("model.layers.{layer}.{path}.weight"), shape));
        }
    }
    tensors.push(("model.norm.weight".to_owned(), vec![config.hidden_size]));
    if !config.tie_word_embeddings {
        tensors.push(("lm_head.weight".to_owned(), embeddings));
    }
    tensors
}

/// PEFT's key of one half of an adapter on a module: `half` is `lora_A` or `lora_B`.
pub(crate) fn peft_key(module: &str, half: &str) -> String {
    format!("base_model.model.{module}.{half}.weight")
}

/// What a key of PEFT's weights file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PeftKey {
    /// `lora_A` `[r, in]` or `lora_B` `[out, r]` of a module.
    Lora { module: String, half: &'static str },
    /// The same of an embedding: `lora_A` is `[r, vocabulary]` there, `lora_B` `[hidden, r]`.
    Embedding { module: String, half: &'static str },
    /// DoRA's length of each row of a module's weight.
    Magnitude { module: String },
    /// A tensor of the model itself, by its Hugging Face name.
    Whole { tensor: String },
}

/// The inverse of [`peft_key`], and whatever else PEFT writes. Adapters saved in the middle of training carry the adapter's
/// name: `lora_A.default.weight`.
pub(crate) fn parse_peft_key(key: &str) -> Option<PeftKey> {
    let rest = key.strip_prefix("base_model.model.")?;
    let without_name = |text: &str| text.strip_suffix(".default").unwrap_or(text).to_owned();
    let bare = without_name(rest.strip_suffix(".weight").unwrap_or(rest));
    if let Some(module) = bare.strip_suffix(".lora_magnitude_vector") {
        return Some(PeftKey::Magnitude { module: module.into() });
    }
    for half in ["lora_A", "lora_B"] {
        let (linear, embedding) = (format!(".{half}"), half.replacen("lora_", ".lora_embedding_", 1));
        if let Some(module) = bare.strip_suffix(&linear).filter(|_| rest.ends_with(".weight")) {
            return Some(PeftKey::Lora { module: module.into(), half });
        }
        if let Some(module) = bare.strip_suffix(&embedding) {
            return Some(PeftKey::Embedding { module: module.into(), half });
        }
    }
    let module = [".modules_to_save", ".base_layer"].iter().find_map(|end| bare.strip_suffix(end)).unwrap_or(&bare);
    let tensor = format!("{module}.weight");
    (rest.ends_with(".weight") && gguf_name(&tensor).is_some()).then_some(PeftKey::Whole { tensor })
}

/// MLX's key of one half of an adapter on a module: `half` is `lora_a` or `lora_b`.
pub(crate) fn mlx_key(module: &str, half: &str) -> String {
    format!("{module}.{half}")
}

/// The inverse of [`mlx_key`], if the module is a linear layer of a Llama model.
pub(crate) fn parse_mlx_key(key: &str) -> Option<(&str, &'static str)> {
    let (module, half) = split_half(key)?;
    parse_module_path(module).map(|_| (module, half))
}

/// GGUF's name of one half of an adapter on a module: `half` is `lora_a` or `lora_b`.
pub(crate) fn gguf_lora_name(module: &str, half: &str) -> Option<String> {
    Some(format!("{}.{half}", gguf_name(&format!("{module}.weight"))?))
}

/// The inverse of [`gguf_lora_name`], if the module is a linear layer of a Llama model.
pub(crate) fn parse_gguf_lora_name(name: &str) -> Option<(String, &'static str)> {
    let (tensor, half) = split_half(name)?;
    let module = hf_name(tensor)?.strip_suffix(".weight")?.to_owned();
    parse_module_path(&module).is_some().then_some((module, half))
}

fn split_half(name: &str) -> Option<(&str, &'static str)> {
    ["lora_a", "lora_b"].into_iter().find_map(|half| Some((name.strip_suffix(half)?.strip_suffix('.')?, half)))
}

fn split_layer(rest: &str) -> Option<(usize, &str)> {
    let (layer, rest) = rest.split_once('.')?;
    Some((parse_layer(layer)?, rest.strip_suffix(".weight")?))
}

/// A layer number as it is written: no sign, no leading zero.
fn parse_layer(text: &str) -> Option<usize> {
    text.parse().ok().filter(|layer: &usize| layer.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_to_gguf_and_back() {
        for (hf, gguf) in [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("lm_head.weight", "output.weight"),
            ("model.layers.11.self_attn.o_proj.weight", "blk.11.attn_output.weight"),
            ("model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight"),
        ] {
            assert_eq!(gguf_name(hf).unwrap(), gguf);
            assert_eq!(hf_name(gguf).unwrap(), hf);
        }
    }

    #[test]
    fn foreign_names_are_not_guessed() {
        for name in ["model.layers.0.self_attn.q_proj.bias", "model.layers.00.mlp.up_proj.weight", "blk..x", ""] {
            assert_eq!(gguf_name(name), None, "{name}");
        }
        for name in ["blk.0.attn_q.bias", "blk.-1.attn_q.weight", "rope_freqs.weight"] {
            assert_eq!(hf_name(name), None, "{name}");
        }
        assert_eq!(parse_module_path("model.layers.0.mlp.q_proj"), None);
        assert_eq!(parse_module_path("lm_head"), None);
    }

    #[test]
    fn module_paths_and_peft_keys_go_both_ways() {
        for name in LINEAR_MODULES {
            assert_eq!(parse_module_path(&module_path(3, name)), Some((3, name)));
        }
        let path = module_path(3, "q_proj");
        assert_eq!(path, "model.layers.3.self_attn.q_proj");
        let key = peft_key(&path, "lora_A");
        assert_eq!(key, "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight");
        assert_eq!(parse_peft_key(&key), Some(PeftKey::Lora { module: path.clone(), half: "lora_A" }));
        assert_eq!(parse_mlx_key(&mlx_key(&path, "lora_b")), Some((path.as_str(), "lora_b")));
        let name = gguf_lora_name(&path, "lora_a").unwrap();
        assert_eq!(name, "blk.3.attn_q.weight.lora_a");
        assert_eq!(parse_gguf_lora_name(&name), Some((path, "lora_a")));
        for foreign in ["blk.3.attn_norm.weight.lora_a", "output.weight.lora_b", "blk.3.attn_q.lora_a", "lora_a"] {
            assert_eq!(parse_gguf_lora_name(foreign), None, "{foreign}");
        }
        for foreign in ["lm_head.lora_a", "model.embed_tokens.lora_b", "model.layers.0.self_attn.q_proj.m"] {
            assert_eq!(parse_mlx_key(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn whatever_peft_saves_has_one_meaning() {
        let module = || "model.layers.0.mlp.up_proj".to_owned();
        let whole = |tensor: &str| PeftKey::Whole { tensor: tensor.into() };
        for (key, expected) in [
            ("model.layers.0.mlp.up_proj.lora_B.default.weight", PeftKey::Lora { module: module(), half: "lora_B" }),
            ("model.layers.0.mlp.up_proj.lora_magnitude_vector", PeftKey::Magnitude { module: module() }),
            (
                "model.layers.0.mlp.up_proj.lora_magnitude_vector.default.weight",
                PeftKey::Magnitude { module: module() },
            ),
            (
                "model.embed_tokens.lora_embedding_A",
                PeftKey::Embedding { module: "model.embed_tokens".into(), half: "lora_A" },
            ),
            ("lm_head.lora_A.weight", PeftKey::Lora { module: "lm_head".into(), half: "lora_A" }),
            ("lm_head.weight", whole("lm_head.weight")),
            ("lm_head.modules_to_save.default.weight", whole("lm_head.weight")),
            ("model.embed_tokens.base_layer.weight", whole("model.embed_tokens.weight")),
            ("model.norm.weight", whole("model.norm.weight")),
        ] {
            assert_eq!(parse_peft_key(&format!("base_model.model.{key}")), Some(expected), "{key}");
        }
        for key in
            ["base_model.model.score.weight", "base_model.model.model.layers.0.mlp.up_proj.lora_A", "lm_head.weight"]
        {
            assert_eq!(parse_peft_key(key), None, "{key}");
        }
    }
}
