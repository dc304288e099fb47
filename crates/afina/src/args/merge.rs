//! Flags of `afina merge`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};

use super::ShardArgs;

#[derive(Debug, Args)]
pub struct Merge {
    /// The folder of the model the adapter was trained on
    #[arg(long, value_name = "DIR")]
    pub base: PathBuf,
    /// An adapter's folder, and what it is multiplied by [default: 1]; may be given again
    #[arg(long, value_name = "DIR[=WEIGHT]", required = true)]
    pub adapter: Vec<WeightedAdapter>,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// How several adapters are combined, as PEFT names it
    #[arg(long, value_name = "METHOD", default_value = "cat")]
    pub method: MergeMethod,
    /// Share of each factor's values that ties, dare_linear, dare_ties and magnitude_prune keep
    #[arg(long, value_name = "SHARE", required_if_eq_any = [
        ("method", "ties"), ("method", "dare_linear"), ("method", "dare_ties"), ("method", "magnitude_prune"),
    ])]
    pub density: Option<f64>,
    /// What decides on the sign of a value in ties and dare_ties
    #[arg(long, value_name = "HOW", default_value = "total")]
    pub majority_sign: Sign,
    /// Seed of what dare_linear and dare_ties drop
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Which weights the adapter is added to, where the base is quantized
    #[arg(long, value_name = "WEIGHTS", default_value = "trained-base")]
    pub onto: Onto,
    /// The unquantized model, for --onto original [default: the one that the base's manifest names]
    #[arg(long, value_name = "DIR")]
    pub original: Option<PathBuf>,
    /// Chat JSONL to hold the merged model against the training graph on: KL divergence and top-1 go into the receipt
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Conversations of it; 0 takes all
    #[arg(long, value_name = "N", default_value_t = 32, requires = "data")]
    pub rows: usize,
    /// Write nothing and exit with 3 where the mean KL divergence is above this, in nats per token
    #[arg(long, value_name = "NATS", requires = "data")]
    pub max_kl: Option<f64>,
    /// Type of the merged weights [default: the base's]
    #[arg(long, value_name = "DTYPE")]
    pub dtype: Option<FloatType>,
    #[command(flatten)]
    pub shards: ShardArgs,
}

/// `DIR`, or `DIR=0.7`.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedAdapter {
    pub path: PathBuf,
    pub weight: f64,
}

impl FromStr for WeightedAdapter {
    type Err = String;

    fn from_str(text: &str) -> Result<WeightedAdapter, String> {
        let (path, weight) = match text.rsplit_once('=') {
            // A folder may be called `r=8`.
            Some((path, weight)) if !weight.contains('/') && !Path::new(text).is_dir() => (path, weight),
            _ => (text, "1"),
        };
        match weight.parse() {
            Ok(weight) if f64::is_finite(weight) => Ok(WeightedAdapter { path: path.into(), weight }),
            _ => Err(format!("expected a number behind `=`, found `{weight}`")),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum MergeMethod {
    /// The weighted sum of what each adapter does, exactly
    Cat,
    /// The weighted sum of the factors: a rough approximation of it
    Linear,
    /// Trim each factor to its largest values, elect signs, average
    Ties,
    /// Drop values at random, enlarge the others, sum
    #[value(alias = "dare")]
    DareLinear,
    /// Drop values at random, enlarge the others, elect signs, average
    DareTies,
    /// Trim each factor to its largest values, sum
    MagnitudePrune,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sign {
    /// The sum over the adapters
    Total,
    /// The number of adapters
    Frequency,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Onto {
    /// The base's own weights, dequantized: what training saw
    TrainedBase,
    /// The weights that the base was quantized from
    Original,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FloatType {
    F32,
    F16,
    Bf16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_is_behind_the_last_equals_sign() {
        let read =
            |text: &str| text.parse::<WeightedAdapter>().map(|read| (read.path.display().to_string(), read.weight));
        assert_eq!(read("runs/a"), Ok(("runs/a".into(), 1.0)));
        assert_eq!(read("runs/a=0.7"), Ok(("runs/a".into(), 0.7)));
        assert_eq!(read("lr=1/a=-2e-1"), Ok(("lr=1/a".into(), -0.2)));
        assert_eq!(read("lr=1/a"), Ok(("lr=1/a".into(), 1.0)));
        assert_eq!(read("a=much"), Err("expected a number behind `=`, found `much`".into()));
        assert_eq!(read("a=inf"), Err("expected a number behind `=`, found `inf`".into()));
    }
}
