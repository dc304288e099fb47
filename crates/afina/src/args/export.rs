//! Flags of `afina export` and `afina quantize`.

use std::path::PathBuf;
use std::str::FromStr;

use afina_checkpoint::Mix;
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct Export {
    /// A Hugging Face model folder; of an adapter for another program its base, where config.json or the GGUF is enough
    #[arg(long, value_name = "PATH")]
    pub model: Option<PathBuf>,
    /// An adapter: a folder of PEFT or MLX, or a GGUF file of llama.cpp; for hf, gguf and ollama one of PEFT, to merge
    #[arg(long, value_name = "PATH")]
    pub adapter: Option<PathBuf>,
    /// peft, mlx, gguf-lora: the adapter for PEFT, mlx-lm or llama.cpp; hf: a Hugging Face folder; gguf: one file for
    /// llama.cpp and its kin; ollama: a folder with that file and its Modelfile
    #[arg(long = "as", value_name = "KIND")]
    pub kind: ExportKind,
    /// Type of the GGUF's weights, as llama.cpp names it: Q8_0, Q4_K_M, Q6_K, F16, …; of a gguf-lora's F32, F16, BF16 or
    /// Q8_0 [default: Q8_0, of a gguf-lora the adapter's own]
    #[arg(long = "type", value_name = "TYPE", value_parser = Mix::from_str)]
    pub mix: Option<Mix>,
    #[arg(long, value_name = "PATH")]
    pub to: PathBuf,
    #[command(flatten)]
    pub shards: ShardArgs,
}

#[derive(Debug, Args)]
pub struct ShardArgs {
    /// Most bytes of weights in a file of a Hugging Face folder, in kB, MB or GB: more go into several, with an index; quantized
    /// weights stay in the files that they are in
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = shard_size)]
    pub shard_size: u64,
}

fn shard_size(text: &str) -> Result<u64, String> {
    afina_recipes::parse_bytes(text).ok_or_else(|| format!("expected a size as `5GB` or `500MB`, found `{text}`"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportKind {
    Peft,
    Mlx,
    GgufLora,
    Hf,
    Gguf,
    Ollama,
}

#[derive(Debug, Args)]
pub struct Quantize {
    /// A Hugging Face model folder, or a GGUF file of a Llama
    #[arg(long, value_name = "PATH")]
    pub model: PathBuf,
    /// Q4_0, Q4_1, Q4_K_S, Q4_K_M, Q5_0, Q5_1, Q5_K_S, Q5_K_M, Q6_K, Q8_0, F16, BF16 or F32, as llama.cpp names them; or
    /// NF4, bitsandbytes' format in a Hugging Face folder
    #[arg(long = "type", value_name = "TYPE", value_parser = QuantizedType::from_str)]
    pub kind: QuantizedType,
    /// The GGUF file to write, or the folder of NF4
    #[arg(long, value_name = "PATH")]
    pub to: PathBuf,
    /// Show every tensor with its format, bytes and error
    #[arg(long)]
    pub report: bool,
    /// Of NF4: keep the scales in 32 bits, 4.5 bits a weight in place of 4.13
    #[arg(long)]
    pub no_double_quant: bool,
    /// Encode again what is quantized already: its errors stay, and others are added
    #[arg(long)]
    pub allow_requantize: bool,
}

/// What `quantize` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantizedType {
    Gguf(Mix),
    Nf4,
}

impl FromStr for QuantizedType {
    type Err = String;

    fn from_str(text: &str) -> Result<QuantizedType, String> {
        if text.eq_ignore_ascii_case("nf4") {
            return Ok(QuantizedType::Nf4);
        }
        // The message ends with the names that are known.
        Mix::from_str(text).map(QuantizedType::Gguf).map_err(|unknown| format!("{unknown}, NF4"))
    }
}
