//! An entry of `data.train`: a file, and how often an epoch passes over it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `"a.jsonl"`, or `{ path = "b.jsonl", weight = 0.5 }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct TrainFile {
    pub path: PathBuf,
    /// Passes over the file in an epoch: 0.5 sees half of it, and the other half in the next epoch; 2 sees it twice. Which
    /// half comes first is the seed's choice ([`afina_data::epoch_examples`]).
    pub weight: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected an entry of `data.train` to be a path or { path = \"…\", weight = 0.5 }")]
enum Written {
    Path(PathBuf),
    Weighted {
        path: PathBuf,
        #[serde(default = "one")]
        weight: f64,
    },
}

fn one() -> f64 {
    1.0
}

impl From<Written> for TrainFile {
    fn from(written: Written) -> TrainFile {
        match written {
            Written::Path(path) => TrainFile { path, weight: one() },
            Written::Weighted { path, weight } => TrainFile { path, weight },
        }
    }
}

impl From<TrainFile> for Written {
    fn from(file: TrainFile) -> Written {
        match file {
            TrainFile { path, weight: 1.0 } => Written::Path(path),
            TrainFile { path, weight } => Written::Weighted { path, weight },
        }
    }
}
