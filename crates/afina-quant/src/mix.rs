//! Which format each tensor of a Llama gets in a quantized model: llama.cpp's mixes.
//!
//! A mix is named after the format that most matrices get. Matrices that lose most by it get more bits, vectors and norms
//! stay as they are, and rows that are no whole blocks get a format that they are whole blocks of.

use std::{fmt, str::FromStr};

use crate::format::Format;

/// A mix, named as llama.cpp names it.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mix {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K_S,
    Q4_K_M,
    Q5_K_S,
    Q5_K_M,
    Q6_K,
}

/// What the choice depends on beside the tensor: a Llama without experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// `num_hidden_layers`.
    pub layers: usize,
    /// `num_attention_heads`.
    pub heads: usize,
    /// `num_key_value_heads`.
    pub kv_heads: usize,
    /// Whether there is an `output.weight`; without one, `token_embd.weight` is the head as well.
    pub has_output: bool,
}

impl Mix {
    /// All of them, from few bits to many.
    pub const ALL: [Mix; 13] = [
        Mix::Q4_0,
        Mix::Q4_1,
        Mix::Q4_K_S,
        Mix::Q4_K_M,
        Mix::Q5_0,
        Mix::Q5_1,
        Mix::Q5_K_S,
        Mix::Q5_K_M,
        Mix::Q6_K,
        Mix::Q8_0,
        Mix::F16,
        Mix::BF16,
        Mix::F32,
    ];

    /// The name as llama.cpp spells it.
    pub fn name(self) -> &'static str {
        match self {
            Mix::Q4_K_S => "Q4_K_S",
            Mix::Q4_K_M => "Q4_K_M",
            Mix::Q5_K_S => "Q5_K_S",
            Mix::Q5_K_M => "Q5_K_M",
            _ => self.format().name(),
        }
    }

    /// The names of all, for messages.
    pub fn names() -> String {
        Mix::ALL.map(Mix::name).join(", ")
    }

    /// A shorter name that llama.cpp takes too.
    pub fn alias(self) -> Option<&'static str> {
        match self {
            Mix::Q4_K_M => Some("Q4_K"),
            Mix::Q5_K_M => Some("Q5_K"),
            _ => None,
        }
    }

    /// The format of most matrices.
    pub fn format(self) -> Format {
        match self {
            Mix::F32 => Format::F32,
            Mix::F16 => Format::F16,
            Mix::BF16 => Format::BF16,
            Mix::Q4_0 => Format::Q4_0,
            Mix::Q4_1 => Format::Q4_1,
            Mix::Q5_0 => Format::Q5_0,
            Mix::Q5_1 => Format::Q5_1,
            Mix::Q8_0 => Format::Q8_0,
            Mix::Q4_K_S | Mix::Q4_K_M => Format::Q4_K,
            Mix::Q5_K_S | Mix::Q5_K_M => Format::Q5_K,
            Mix::Q6_K => Format::Q6_K,
        }
    }

    /// The number of `enum llama_ftype`, as `general.file_type` holds it.
    pub fn file_type(self) -> u32 {
        match self {
            Mix::F32 => 0,
            Mix::F16 => 1,
            Mix::Q4_0 => 2,
            Mix::Q4_1 => 3,
            Mix::Q8_0 => 7,
            Mix::Q5_0 => 8,
            Mix::Q5_1 => 9,
            Mix::Q4_K_S => 14,
            Mix::Q4_K_M => 15,
            Mix::Q5_K_S => 16,
            Mix::Q5_K_M => 17,
            Mix::Q6_K => 18,
            Mix::BF16 => 32,
        }
    }

    /// The format of a tensor, or `None` where it stays as it is: norms, biases, everything that is no matrix.
    ///
    /// # Shapes
    /// - `name`: GGUF's, as `blk.7.ffn_down.weight`
    /// - `shape`: `[out, in]`; a row is `in` values long
    ///
    /// Source: llama.cpp v0.5.0's `llama_tensor_get_type`, for the architecture `llama` without experts and without an
    /// importance matrix.
    pub fn format_of(self, model: &Model, name: &str, shape: &[usize]) -> Option<Format> {
        let columns = *shape.last()?;
        Some(self.wished_of(model, name, shape)?.or_fallback(columns))
    }

    /// The format that a tensor would get if its rows were whole blocks of it, or `None` where it stays as it is.
    ///
    /// # Shapes
    /// - `shape`: `[out, in]`
    pub fn wished_of(self, model: &Model, name: &str, shape: &[usize]) -> Option<Format> {
        let [rows, _] = *shape else { return None };
        if rows < 2 || !name.ends_with("weight") || name.ends_with("_norm.weight") {
            return None;
        }
        if matches!(self, Mix::F32 | Mix::F16 | Mix::BF16) {
            return Some(self.format());
        }
        Some(self.wished(model, name))
    }

    fn wished(self, model: &Model, name: &str) -> Format {
        let format = self.format();
        if name == "output.weight" || (name == "token_embd.weight" && !model.has_output) {
            // Where Q6_K does not fit, llama.cpp takes Q8_0, which is what `or_fallback` takes in its place.
            return if format == Format::Q8_0 { Format::Q8_0 } else { Format::Q6_K };
        }
        let Some(layer) = layer(name) else { return format };
        let more_bits = use_more_bits(layer, model.layers);
        if name.contains("attn_v.weight") {
            let format = match self {
                Mix::Q4_K_M | Mix::Q5_K_M if more_bits => Format::Q6_K,
                Mix::Q4_K_S if layer < 4 => Format::Q5_K,
                _ => format,
            };
            // Eight heads of the 70B model share its values: five bits cost next to nothing there.
            let is_70b = model.layers == 80 && model.heads != model.kv_heads;
            return if is_70b && format == Format::Q4_K { Format::Q5_K } else { format };
        }
        if name.contains("ffn_down") {
            return match self {
                Mix::Q4_K_M | Mix::Q5_K_M if more_bits => Format::Q6_K,
                Mix::Q4_K_S if layer < model.layers / 8 => Format::Q5_K,
                _ => format,
            };
        }
        format
    }
}

/// The layer of a tensor's name, as 7 of `blk.7.ffn_down.weight`.
fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// The first and the last eighth of the layers, and every third between.
fn use_more_bits(layer: usize, layers: usize) -> bool {
    layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no mix's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown type `{}`: {}", self.0, self.expected())]
pub struct UnknownMix(pub String);

impl UnknownMix {
    /// The mix whose name is spelled most like it, if one is near.
    pub fn nearest(&self) -> Option<Mix> {
        let name = self.0.to_uppercase();
        let similar = Mix::ALL.map(|mix| (strsim::jaro_winkler(&name, mix.name()), mix));
        let (similarity, mix) = similar.into_iter().max_by(|a, b| a.0.total_cmp(&b.0))?;
        (similarity > 0.8).then_some(mix)
    }

    fn expected(&self) -> String {
        match self.nearest() {
            Some(mix) => format!("did you mean `{mix}`? Known: {}", Mix::names()),
            None => format!("expected one of {}", Mix::names()),
        }
    }
}

impl FromStr for Mix {
    type Err = UnknownMix;

    /// By its name, in capitals or not; `Q4_K` and `Q5_K` are the mixes M, as in llama.cpp.
    fn from_str(name: &str) -> Result<Mix, UnknownMix> {
        let is = |mix: &Mix| {
            mix.name().eq_ignore_ascii_case(name) || mix.alias().is_some_and(|alias| alias.eq_ignore_ascii_case(name))
        };
        let found = Mix::ALL.into_iter().find(is);
        found.ok_or_else(|| UnknownMix(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines `<layers> <heads> <kv_heads> <hidden> <ffn> <vocabulary> <tied|untied> <mix> <formats>`: a letter for each
    /// tensor, in the order of the names below, from llama.cpp's `llama_quant_compute_types`.
    #[test]
    fn equals_llama_cpp_on_every_tensor_of_several_models() {
        let golden = include_str!("../../../tests/fixtures/golden/quant/mixes.txt");
        let mut seen = 0;
        for line in golden.lines().filter(|line| !line.starts_with('#')) {
            let columns: Vec<&str> = line.split(' ').collect();
            let [layers, heads, kv_heads, hidden, ffn, vocabulary] =
                std::array::from_fn(|column| columns[column].parse::<usize>().unwrap());
            let model = Model { layers, heads, kv_heads, has_output: columns[6] == "untied" };
            let mix: Mix = columns[7].parse().unwrap();
            let kv = hidden / heads * kv_heads;
            let mut tensors = vec![("token_embd.weight".to_owned(), [vocabulary, hidden])];
            tensors.extend(model.has_output.then(|| ("output.weight".to_owned(), [vocabulary, hidden])));
            for layer in 0..layers {
                let matrices = [
                    ("attn_q", [hidden, hidden]),
                    ("attn_k", [kv, hidden]),
                    ("attn_v", [kv, hidden]),
                    ("attn_output", [hidden, hidden]),
                    ("ffn_gate", [ffn, hidden]),
                    ("ffn_up", [ffn, hidden]),
                    ("ffn_down", [hidden, ffn]),
                ];
                tensors.extend(matrices.map(|(name, shape)| (format!("blk.{layer}.{name}.weight"), shape)));
            }
            let formats: String = tensors
                .iter()
                .map(|(name, shape)| match mix.format_of(&model, name, shape).unwrap() {
                    Format::F32 => 'f',
                    Format::F16 => 'h',
                    Format::BF16 => 'b',
                    Format::Q4_0 => '0',
                    Format::Q4_1 => '1',
                    Format::Q5_0 => '2',
                    Format::Q5_1 => '3',
                    Format::Q8_0 => '8',
                    Format::Q4_K => '4',
                    Format::Q5_K => '5',
                    Format::Q6_K => '6',
                })
                .collect();
            assert_eq!(formats, columns[8], "{line}");
            seen += 1;
        }
        assert!(seen >= 60, "only {seen} golden lines");
    }

    #[test]
    fn norms_and_vectors_stay() {
        let model = Model { layers: 2, heads: 4, kv_heads: 2, has_output: false };
        for (name, shape) in [
            ("blk.0.attn_norm.weight", &[256][..]),
            ("output_norm.weight", &[256]),
            ("rope_freqs.weight", &[32]),
            ("blk.0.attn_q.bias", &[256]),
            ("blk.0.attn_q_norm.weight", &[4, 64]),
        ] {
            for mix in Mix::ALL {
                assert_eq!(mix.format_of(&model, name, shape), None, "{name} in {mix}");
            }
        }
    }

    #[test]
    fn names_are_read_back() {
        for mix in Mix::ALL {
            assert_eq!(mix.name().to_lowercase().parse(), Ok(mix));
        }
        assert_eq!(("q4_k".parse(), "Q5_K".parse()), (Ok(Mix::Q4_K_M), Ok(Mix::Q5_K_M)));
        assert_eq!(
            "q5-k-m".parse::<Mix>().unwrap_err().to_string(),
            "unknown type `q5-k-m`: did you mean `Q5_K_M`? Known: Q4_0, Q4_1, Q4_K_S, Q4_K_M, Q5_0, Q5_1, Q5_K_S, Q5_K_M, \
             Q6_K, Q8_0, F16, BF16, F32"
        );
        assert!(
            "int4".parse::<Mix>().unwrap_err().to_string().starts_with("unknown type `int4`: expected one of Q4_0, ")
        );
    }
}
