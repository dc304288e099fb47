//! Which keys a recipe may have: an unknown one is an error with the nearest known one.

use toml::{Table, Value};

/// Every key this program obeys.
const KNOWN: &[&str] = &[
    "version",
    "recipe",
    "run",
    "seed",
    "model.base",
    "lora.r",
    "lora.alpha",
    "lora.target_modules",
    "data.train",
    "data.validation",
    "data.chat_template",
    "data.train_on",
    "data.seq_len",
    "data.excess_length",
    "data.packing",
    "data.shuffle",
    "train.epochs",
    "train.max_steps",
    "train.micro_batch_size",
    "train.gradient_accumulation_steps",
    "train.optimizer",
    "train.learning_rate",
    "train.lr_scheduler",
    "train.warmup_ratio",
    "train.min_lr_ratio",
    "train.weight_decay",
    "train.betas",
    "train.eps",
    "train.max_grad_norm",
    "train.gradient_checkpointing",
    "train.precision",
    "eval.every_steps",
    "eval.samples",
    "early_stopping.patience",
    "save.every_steps",
    "save.keep",
    "save.best",
    "device.device",
    "device.threads",
    "device.memory_limit",
    "export.as",
];

/// Keys and tables of the recipe format that this version does not obey, and so does not accept.
const NOT_YET: &[&str] = &[
    "model.revision",
    "model.adapter",
    "quantization",
    "lora.dropout",
    "lora.use_rslora",
    "lora.use_dora",
    "lora.init",
    "lora.modules_to_save",
    "lora.rank_pattern",
    "lora.alpha_pattern",
    "data.format",
    "data.val_set_size",
    "log",
];

/// Other tools' names for a key: torchtune, axolotl, TRL.
const RENAMED: &[(&str, &str)] = &[
    ("lora.lora_r", "lora.r"),
    ("lora.rank", "lora.r"),
    ("lora.lora_alpha", "lora.alpha"),
    ("lora.lora_target_modules", "lora.target_modules"),
    ("data.template", "data.chat_template"),
    ("data.chat_template_jinja", "data.chat_template"),
    ("data.valid", "data.validation"),
    ("data.sequence_len", "data.seq_len"),
    ("data.max_length", "data.seq_len"),
    ("data.sample_packing", "data.packing"),
    ("train.num_epochs", "train.epochs"),
    ("train.num_train_epochs", "train.epochs"),
    ("train.lr", "train.learning_rate"),
    ("train.batch_size", "train.micro_batch_size"),
    ("train.lr_scheduler_type", "train.lr_scheduler"),
    ("data.excess_length_strategy", "data.excess_length"),
    ("train.eval_steps", "eval.every_steps"),
    ("train.early_stopping_patience", "early_stopping.patience"),
    ("train.save_steps", "save.every_steps"),
    ("train.save_total_limit", "save.keep"),
    ("train.load_best_model_at_end", "save.best"),
];

/// The first key that cannot be obeyed, as a message and a hint.
pub(crate) fn check(table: &Table) -> Result<(), (String, String)> {
    check_table(table, "")
}

fn check_table(table: &Table, prefix: &str) -> Result<(), (String, String)> {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        if NOT_YET.contains(&path.as_str()) {
            let hint = "remove it: a key that would be ignored is not accepted".to_owned();
            return Err((format!("key `{path}` is not supported by this version"), hint));
        }
        let is_table_name = KNOWN.iter().chain(NOT_YET).any(|known| known.starts_with(&format!("{path}.")));
        match value {
            Value::Table(inner) if is_table_name => check_table(inner, &path)?,
            Value::Array(files) if path == "data.train" => check_files(files)?,
            _ if KNOWN.contains(&path.as_str()) => {}
            _ => return Err((format!("unknown key `{path}`"), hint_for(&path))),
        }
    }
    Ok(())
}

/// A file of `data.train` may be a table of its own.
fn check_files(files: &[Value]) -> Result<(), (String, String)> {
    for key in files.iter().filter_map(Value::as_table).flat_map(Table::keys) {
        if !["path", "weight"].contains(&key.as_str()) {
            let hint = "a file is { path = \"…\", weight = 0.5 }".to_owned();
            return Err((format!("unknown key `data.train.{key}`"), hint));
        }
    }
    Ok(())
}

fn hint_for(path: &str) -> String {
    if let Some((_, ours)) = RENAMED.iter().find(|(theirs, _)| *theirs == path) {
        return format!("it is `{ours}` here");
    }
    let nearest = KNOWN
        .iter()
        .map(|known| (strsim::jaro_winkler(path, known).max(strsim::jaro_winkler(last(path), last(known))), known))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((similarity, known)) if similarity > 0.8 => format!("did you mean `{known}`?"),
        _ => "`afina cat smollm2/135M_lora` shows a recipe with every key explained".to_owned(),
    }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
