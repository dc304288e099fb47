//! The rehearsal before the first step: it changes nothing, leaves nothing, and what is asked for at the end is there.

use std::path::Path;

use afina_chat::{ChatFormat, TemplateChoice, TrainOn};
use afina_checkpoint::{LINEAR_MODULES, ModelDir, write_adapter};
use afina_data::Share;
use afina_model::{LoraConfig, LoraSet, load_llama};
use afina_ops::test_device;
use afina_train::{AdamW, AdamWState, Schedule, TrainSettings, train_step};

use crate::testing::{adapter, model_dir, recipe, train, train_until};
use crate::{Event, ExcessLength, plan::Plan, read_examples};

#[test]
fn a_run_is_its_steps_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("base"));
    let recipe = recipe(dir.path(), "r", &["data.packing=false"]);
    train(&recipe, false, None).unwrap();

    // The same without the loop, and so without the rehearsal.
    let base = ModelDir::open(&recipe.model.base).unwrap();
    let format = ChatFormat::load_with_template(&recipe.model.base, &TemplateChoice::Model).unwrap();
    let file = [recipe.data.train[0].path.clone()];
    let examples = read_examples(&file, &format, TrainOn::Assistant, 128, ExcessLength::Error).unwrap().tokenized;
    let plan = Plan::new(&recipe, &examples, &[Share { examples: 9, weight: 1.0 }]).unwrap();
    let model = load_llama(&base, &test_device(), afina_model::Precision::F32, &mut |_, _| {}).unwrap();
    let target_modules = LINEAR_MODULES.iter().map(|&name| name.to_owned()).collect();
    let mut lora = LoraSet::init(&model, LoraConfig { r: 4, alpha: 32.0, target_modules }, recipe.seed);
    let mut optimizer = AdamWState::new(&lora.values);
    let table = &recipe.train;
    let schedule = Schedule {
        scheduler: table.lr_scheduler,
        learning_rate: table.learning_rate,
        warmup_ratio: table.warmup_ratio,
        min_lr_ratio: table.min_lr_ratio,
        total_steps: 7,
    };
    let adamw = AdamW { betas: table.betas, eps: table.eps, weight_decay: table.weight_decay };
    let settings = TrainSettings { adamw, max_grad_norm: table.max_grad_norm, recompute: false };
    for step in 0..7 {
        let batches = plan.micro_batches(step, &examples);
        train_step(&model, &mut lora, &mut optimizer, &batches, schedule.at(step), &settings);
    }
    let (config, _) = afina_checkpoint::read_adapter(Path::new(&recipe.run)).unwrap();
    let parts = dir.path().join("parts");
    write_adapter(&parts, &config, &lora.to_tensors()).unwrap();
    assert!(std::fs::read(parts.join("adapter_model.safetensors")).unwrap() == adapter(&recipe));
}

#[test]
fn exports_are_rehearsed_and_written_when_the_run_is_over() {
    let dir = tempfile::tempdir().unwrap();
    model_dir(&dir.path().join("base"));
    let recipe =
        recipe(dir.path(), "r", &["export.as=[\"peft\", \"gguf:q8_0\", \"gguf:Q4_K\", \"hf\"]", "train.max_steps=2"]);
    let mut rehearsals = 0;
    let rehearsed = train_until(&recipe, false, |event| {
        rehearsals += usize::from(matches!(event, Event::Rehearsed(_)));
        matches!(event, Event::Rehearsed(_))
    });
    assert!(rehearsed.unwrap().interrupted && rehearsals == 1);
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(&recipe.run).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["manifest.json", "metrics.csv", "recipe.toml"], "a rehearsal leaves nothing");
    for _ in 0..2 {
        // The second time takes the first one's place.
        train(&recipe, true, None).unwrap();
        let merged = ModelDir::open(&Path::new(&recipe.run).join("export-hf")).unwrap();
        assert!(
            merged.weights_sha256().unwrap() != ModelDir::open(&recipe.model.base).unwrap().weights_sha256().unwrap()
        );
        let found = names();
        for name in ["export-q8_0.gguf", "export-q4_k_m.gguf"] {
            assert!(found.contains(&name.to_owned()), "{found:?}");
        }
        assert!(!found.iter().any(|name| name.contains("merged") || name.starts_with('.')), "{found:?}");
    }
}
