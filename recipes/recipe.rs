//! A recipe file: TOML with torchtune's recipe names and PEFT's and axolotl's words for keys. Every accepted key is obeyed.

use std::path::PathBuf;

use afina_chat::TemplateChoice;
use afina_checkpoint::LINEAR_MODULES;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::exports::{EXPORTS, ExportAs};
use crate::keys;
use crate::memory::parse_bytes;
use crate::tables::{
    DataTable, DeviceTable, EarlyStoppingTable, EvalTable, ExportTable, LoraTable, ModelTable, SaveTable,
    TargetModules, TrainTable,
};
use crate::train_file::TrainFile;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    pub version: u32,
    /// The loop: `lora_finetune`.
    pub recipe: String,
    /// The run's folder under `checkpoints/`, or a path with a slash.
    pub run: String,
    #[serde(default = "default_seed")]
    pub seed: u64,
    pub model: ModelTable,
    #[serde(default)]
    pub lora: LoraTable,
    pub data: DataTable,
    #[serde(default)]
    pub train: TrainTable,
    #[serde(default)]
    pub eval: EvalTable,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStoppingTable>,
    #[serde(default)]
    pub save: SaveTable,
    #[serde(default)]
    pub device: DeviceTable,
    #[serde(default)]
    pub export: ExportTable,
}

fn default_seed() -> u64 {
    42
}

#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    #[error("the recipe is not valid TOML")]
    Toml { source: Box<toml::de::Error> },
    #[error("{message}")]
    Key { message: String, hint: String },
    #[error("{message}")]
    Value { message: String, hint: String },
    #[error("override `{given}`: expected KEY=VALUE, as in train.learning_rate=1e-4")]
    Override { given: String },
}

impl RecipeError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            RecipeError::Key { hint, .. } | RecipeError::Value { hint, .. } => Some(hint),
            RecipeError::Toml { .. } | RecipeError::Override { .. } => None,
        }
    }
}

impl Recipe {
    /// Reads a recipe and lays `KEY=VALUE` overrides over it. A value that is not TOML is taken as a string.
    pub fn parse(text: &str, overrides: &[String]) -> Result<Recipe, RecipeError> {
        let toml_error = |source| RecipeError::Toml { source: Box::new(source) };
        let mut table: Table = text.parse().map_err(toml_error)?;
        for given in overrides {
            apply_override(&mut table, given)?;
        }
        keys::check(&table).map_err(|(message, hint)| RecipeError::Key { message, hint })?;
        let recipe: Recipe = Value::Table(table).try_into().map_err(toml_error)?;
        recipe.check()?;
        Ok(recipe)
    }

    /// The recipe as TOML, every key with its value.
    pub fn resolved(&self) -> String {
        toml::to_string(self).expect("a recipe is plain tables, strings and numbers")
    }

    /// The projections to adapt, by name.
    pub fn target_modules(&self) -> Vec<String> {
        match &self.lora.target_modules {
            TargetModules::Word(_) => LINEAR_MODULES.iter().map(|&name| name.to_owned()).collect(),
            TargetModules::Names(names) => names.clone(),
        }
    }

    /// What `data.chat_template` says.
    pub fn template_choice(&self) -> Result<TemplateChoice, RecipeError> {
        self.data.chat_template.parse().map_err(|error| RecipeError::Value {
            message: format!("`data.chat_template`: {error}"),
            hint: "set data.chat_template=model".to_owned(),
        })
    }

    /// The paths of `data.train`, without their weights.
    pub(crate) fn train_files(&self) -> Vec<PathBuf> {
        self.data.train.iter().map(|file| file.path.clone()).collect()
    }

    /// What `export.as` asks for.
    pub fn exports(&self) -> Result<Vec<ExportAs>, RecipeError> {
        let export = |name: &String| {
            name.parse::<ExportAs>().map_err(|hint| RecipeError::Value {
                message: format!("`export.as`: expected {EXPORTS}, found \"{name}\""),
                hint,
            })
        };
        self.export.kinds.iter().map(export).collect()
    }

    /// What `device.memory_limit` says, in bytes.
    pub fn memory_limit(&self) -> Result<Option<u64>, RecipeError> {
        let given = &self.device.memory_limit;
        if given.is_empty() {
            return Ok(None);
        }
        parse_bytes(given).map(Some).ok_or_else(|| RecipeError::Value {
            message: format!("`device.memory_limit`: expected a size in kB, MB or GB, found \"{given}\""),
            hint: "set device.memory_limit=7.5GB".to_owned(),
        })
    }

    fn check(&self) -> Result<(), RecipeError> {
        let one_of = |key: &str, value: &str, allowed: &[&str]| -> Result<(), RecipeError> {
            if allowed.contains(&value) {
                return Ok(());
            }
            Err(RecipeError::Value {
                message: format!("`{key}`: expected {}, found \"{value}\"", allowed.join(" | ")),
                hint: format!("set {key}={}", allowed[0]),
            })
        };
        let require = |holds: bool, key: &str, expected: &str, found: String| -> Result<(), RecipeError> {
            if holds {
                return Ok(());
            }
            Err(RecipeError::Value {
                message: format!("`{key}`: expected {expected}, found {found}"),
                hint: format!("change {key}"),
            })
        };
        require(self.version == 1, "version", "1", self.version.to_string())?;
        one_of("recipe", &self.recipe, &["lora_finetune"])?;
        one_of("data.train_on", &self.data.train_on, &["assistant", "last", "all"])?;
        one_of("train.optimizer", &self.train.optimizer, &["adamw"])?;
        one_of("train.precision", &self.train.precision, &["auto", "f32", "bf16"])?;
        one_of("train.gradient_checkpointing", &self.train.gradient_checkpointing, &["auto", "on", "off"])?;
        self.template_choice()?;
        self.exports()?;
        let is_on_cpu = ["auto", "cpu"].contains(&self.device.device.as_str());
        let limits = self.memory_limit()?.is_some();
        let found = format!("\"{}\"", self.device.device);
        require(!limits || is_on_cpu, "device.memory_limit", "device.device = \"cpu\" beside it", found)?;
        match &self.lora.target_modules {
            TargetModules::Word(word) => one_of("lora.target_modules", word, &["all-linear"])?,
            TargetModules::Names(names) => {
                require(!names.is_empty(), "lora.target_modules", "at least one projection", "none".to_owned())?;
                for name in names {
                    one_of("lora.target_modules", name, &LINEAR_MODULES)?;
                }
            }
        }
        let train = &self.train;
        require(!self.run.is_empty(), "run", "a name", "an empty one".to_owned())?;
        require(!self.data.train.is_empty(), "data.train", "at least one file", "none".to_owned())?;
        for TrainFile { path, weight } in &self.data.train {
            let found = format!("{weight} for `{}`", path.display());
            require((0.001..=1000.0).contains(weight), "data.train", "weights from 0.001 to 1000", found)?;
        }
        require(self.data.seq_len >= 2, "data.seq_len", "2 tokens or more", self.data.seq_len.to_string())?;
        require(self.lora.r >= 1, "lora.r", "1 or more", self.lora.r.to_string())?;
        require(self.lora.alpha > 0.0, "lora.alpha", "a positive number", self.lora.alpha.to_string())?;
        require(train.epochs >= 1, "train.epochs", "1 or more", train.epochs.to_string())?;
        require(train.max_steps != Some(0), "train.max_steps", "1 or more", "0".to_owned())?;
        require(train.micro_batch_size >= 1, "train.micro_batch_size", "1 or more", "0".to_owned())?;
        require(
            train.gradient_accumulation_steps >= 1,
            "train.gradient_accumulation_steps",
            "1 or more",
            "0".to_owned(),
        )?;
        require(
            train.learning_rate > 0.0,
            "train.learning_rate",
            "a positive number",
            train.learning_rate.to_string(),
        )?;
        require(
            (0.0..=1.0).contains(&train.warmup_ratio),
            "train.warmup_ratio",
            "0 to 1",
            train.warmup_ratio.to_string(),
        )?;
        require(
            (0.0..=1.0).contains(&train.min_lr_ratio),
            "train.min_lr_ratio",
            "0 to 1",
            train.min_lr_ratio.to_string(),
        )?;
        require(train.weight_decay >= 0.0, "train.weight_decay", "0 or more", train.weight_decay.to_string())?;
        require(
            train.max_grad_norm > 0.0,
            "train.max_grad_norm",
            "a positive number",
            train.max_grad_norm.to_string(),
        )?;
        require(
            train.betas.iter().all(|beta| (0.0..1.0).contains(beta)),
            "train.betas",
            "two numbers from 0 to below 1",
            format!("{:?}", train.betas),
        )?;
        require(train.eps > 0.0, "train.eps", "a positive number", train.eps.to_string())?;
        let patience = self.early_stopping.as_ref().map(|table| table.patience);
        require(patience != Some(0), "early_stopping.patience", "1 evaluation or more", "0".to_owned())?;
        let needs_validation = patience.is_some() || self.save.best;
        let key = if self.save.best { "save.best" } else { "early_stopping" };
        let is_validated = !self.data.validation.is_empty();
        require(!needs_validation || is_validated, key, "a file in `data.validation` beside it", "none".to_owned())
    }
}

/// Keys whose value is a list.
const LISTS: [&str; 4] = ["data.train", "data.validation", "eval.samples", "export.as"];

fn apply_override(table: &mut Table, given: &str) -> Result<(), RecipeError> {
    let refused = || RecipeError::Override { given: given.to_owned() };
    let (path, value) = given.trim_start_matches("--").split_once('=').ok_or_else(refused)?;
    let value = format!("value = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| Value::String(value.to_owned()));
    let mut parts = path.split('.').peekable();
    let mut table = table;
    while let Some(part) = parts.next() {
        if part.is_empty() {
            return Err(refused());
        }
        if parts.peek().is_none() {
            // One word given where a list is expected is a list of one.
            let value = match value {
                Value::String(one) if LISTS.contains(&path) => Value::Array(vec![Value::String(one)]),
                value => value,
            };
            table.insert(part.to_owned(), value);
            return Ok(());
        }
        table = match table.entry(part).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => inner,
            _ => return Err(refused()),
        };
    }
    Err(refused())
}

#[cfg(test)]
mod tests {
    use afina_checkpoint::Mix;

    use super::*;

    const MINIMAL: &str =
        "version = 1\nrecipe = \"lora_finetune\"\nrun = \"r\"\n[model]\nbase = \"b\"\n[data]\ntrain = [\"t.jsonl\"]\n";

    fn parse(overrides: &[&str]) -> Result<Recipe, RecipeError> {
        let overrides: Vec<String> = overrides.iter().map(|&given| given.to_owned()).collect();
        Recipe::parse(MINIMAL, &overrides)
    }

    #[test]
    fn overrides_reach_any_key_with_or_without_dashes() {
        let recipe = parse(&["train.learning_rate=1e-4", "--lora.r=8", "run=other", "data.train=x.jsonl"]).unwrap();
        assert_eq!((recipe.train.learning_rate, recipe.lora.r, recipe.run.as_str()), (1e-4, 8, "other"));
        assert_eq!(recipe.data.train, [TrainFile { path: "x.jsonl".into(), weight: 1.0 }]);
    }

    #[test]
    fn an_unknown_key_names_the_nearest_one() {
        let error = parse(&["train.learnin_rate=1"]).unwrap_err();
        assert_eq!(error.to_string(), "unknown key `train.learnin_rate`");
        assert_eq!(error.hint(), Some("did you mean `train.learning_rate`?"));
    }

    #[test]
    fn another_tools_key_is_told_its_name_here() {
        assert_eq!(parse(&["lora.lora_r=8"]).unwrap_err().hint(), Some("it is `lora.r` here"));
    }

    #[test]
    fn a_key_that_would_be_ignored_is_refused() {
        let error = parse(&["lora.use_dora=true"]).unwrap_err();
        assert_eq!(error.to_string(), "key `lora.use_dora` is not supported by this version");
    }

    #[test]
    fn values_outside_their_range_are_refused_by_name() {
        for (given, message) in [
            ("train.learning_rate=0", "`train.learning_rate`: expected a positive number, found 0"),
            ("lora.r=0", "`lora.r`: expected 1 or more, found 0"),
            ("data.train_on=user", "`data.train_on`: expected assistant | last | all, found \"user\""),
        ] {
            assert_eq!(parse(&[given]).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn one_word_is_a_list_of_one() {
        let recipe = parse(&["export.as=hf", "eval.samples=¿Quién eres?", "data.validation=v.jsonl"]).unwrap();
        assert_eq!(
            (recipe.export.kinds, recipe.eval.samples),
            (vec!["hf".to_owned()], vec!["¿Quién eres?".to_owned()])
        );
        let recipe = parse(&["export.as=[\"gguf:Q4_K_M\", \"gguf:q5_k\"]"]).unwrap();
        assert_eq!(recipe.exports().unwrap(), [Mix::Q4_K_M, Mix::Q5_K_M].map(ExportAs::Gguf));
        let error = parse(&["export.as=gguf:q4_k_n"]).unwrap_err();
        assert_eq!(error.to_string(), "`export.as`: expected peft | hf | gguf:TYPE, found \"gguf:q4_k_n\"");
        assert!(error.hint().unwrap().starts_with("did you mean `gguf:q4_k_m`? TYPE is one of Q4_0, "));
        assert_eq!(parse(&["export.as=q6_k"]).unwrap_err().hint(), Some("did you mean `gguf:q6_k`?"));
    }

    #[test]
    fn early_stopping_and_the_best_checkpoint_need_validation() {
        for (given, message) in [
            (
                "early_stopping.patience=2",
                "`early_stopping`: expected a file in `data.validation` beside it, found none",
            ),
            ("save.best=true", "`save.best`: expected a file in `data.validation` beside it, found none"),
            ("early_stopping.patience=0", "`early_stopping.patience`: expected 1 evaluation or more, found 0"),
        ] {
            assert_eq!(parse(&[given]).unwrap_err().to_string(), message);
        }
        let recipe = parse(&["early_stopping.patience=2", "save.best=true", "data.validation=v.jsonl"]).unwrap();
        assert_eq!(Recipe::parse(&recipe.resolved(), &[]).unwrap(), recipe);
    }

    #[test]
    fn files_may_have_weights() {
        let weighted =
            r#"data.train=["a.jsonl", { path = "b.jsonl", weight = 0.5 }, { path = "c.jsonl", weight = 2 }]"#;
        let recipe = parse(&[weighted]).unwrap();
        let found: Vec<(&str, f64)> =
            recipe.data.train.iter().map(|file| (file.path.to_str().unwrap(), file.weight)).collect();
        assert_eq!(found, [("a.jsonl", 1.0), ("b.jsonl", 0.5), ("c.jsonl", 2.0)]);
        assert_eq!(Recipe::parse(&recipe.resolved(), &[]).unwrap(), recipe);
        let all = parse(&[r#"data.train=[{ path = "b.jsonl", weight = 0.5 }]"#]).unwrap();
        assert_eq!(Recipe::parse(&all.resolved(), &[]).unwrap(), all);

        let error = parse(&[r#"data.train=[{ path = "b.jsonl", wieght = 0.5 }]"#]).unwrap_err();
        assert_eq!(error.to_string(), "unknown key `data.train.wieght`");
        let error = parse(&[r#"data.train=[{ path = "b.jsonl", weight = 0 }]"#]).unwrap_err();
        assert_eq!(error.to_string(), "`data.train`: expected weights from 0.001 to 1000, found 0 for `b.jsonl`");
        assert!(parse(&["data.train=[{ weight = 1 }]"]).is_err());
    }

    #[test]
    fn a_template_is_named_or_a_file() {
        assert_eq!(parse(&[]).unwrap().template_choice().unwrap(), TemplateChoice::Model);
        let choice = parse(&["data.chat_template=chatml-tools"]).unwrap().template_choice().unwrap();
        assert!(matches!(choice, TemplateChoice::Fallback(fallback) if fallback.name == "chatml-tools"));
        let error = parse(&["data.chat_template=chatml"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`data.chat_template`: expected model | chatml-tools | llama3-tools | the path of a .jinja file, found \"chatml\""
        );
    }

    #[test]
    fn the_resolved_recipe_reads_back_as_itself() {
        let recipe = parse(&["train.max_steps=7"]).unwrap();
        assert_eq!(Recipe::parse(&recipe.resolved(), &[]).unwrap(), recipe);
    }
}
