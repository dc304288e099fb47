//! Training against peft's and torch's numbers (`tests/fixtures/golden`), and against itself.

use std::path::PathBuf;

use afina_checkpoint::{LINEAR_MODULES, ModelDir, SafetensorsFile, read_adapter};
use afina_data::{Batch, TokenizedExample};
use afina_kernels::Cpu;
use afina_model::{Llama, LoraConfig, LoraSet, PackedLlama, Precision, load_llama};
use afina_ops::{Weight, test_device};
use serde_json::Value;

use crate::*;

fn fixture(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(path)
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(path)).unwrap()).unwrap()
}

fn model(variant: &str) -> Llama {
    let dir = ModelDir::open(&fixture(&format!("tiny_llama/{variant}"))).unwrap();
    load_llama(&dir, &test_device(), Precision::F32, &mut |_, _| {}).unwrap()
}

fn example(value: &Value) -> TokenizedExample {
    TokenizedExample {
        line: 1,
        tokens: value["tokens"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect(),
        loss_mask: value["loss_mask"].as_array().unwrap().iter().map(|trained| trained.as_bool().unwrap()).collect(),
    }
}

fn examples() -> Vec<TokenizedExample> {
    json("golden/lora/examples.json")["examples"].as_array().unwrap().iter().map(example).collect()
}

/// Rows of one example each.
fn micro_batch(examples: &[TokenizedExample], indexes: &[usize]) -> MicroBatch {
    let rows: Vec<Vec<usize>> = indexes.iter().map(|&index| vec![index]).collect();
    MicroBatch::new(&Batch::new(examples, &rows))
}

fn indexes(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|index| index.as_u64().unwrap() as usize).collect()
}

fn adapter(model: &Llama, path: &str) -> LoraSet {
    let (config, tensors) = read_adapter(&fixture(path)).unwrap();
    let config = LoraConfig { r: config.r, alpha: config.lora_alpha, target_modules: config.target_modules };
    LoraSet::from_tensors(model, config, &tensors).unwrap()
}

fn floats(lora: &LoraSet) -> Vec<f32> {
    lora.values.try_to_vec_as().unwrap()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn relative(found: f64, expected: f64) -> f64 {
    (found / expected - 1.0).abs()
}

struct Run {
    settings: TrainSettings,
    schedule: Schedule,
    batches: Vec<Vec<Vec<usize>>>,
    expected: Vec<Value>,
}

fn run(name: &str, recompute: bool) -> Run {
    let run = json(&format!("golden/lora/{name}/run.json"));
    let number = |key: &str| run[key].as_f64().unwrap();
    let betas = [run["betas"][0].as_f64().unwrap(), run["betas"][1].as_f64().unwrap()];
    Run {
        settings: TrainSettings {
            adamw: AdamW { betas, eps: number("eps"), weight_decay: number("weight_decay") },
            max_grad_norm: number("max_grad_norm"),
            recompute,
        },
        schedule: Schedule {
            scheduler: serde_json::from_value(run["lr_scheduler"].clone()).unwrap(),
            learning_rate: number("learning_rate"),
            warmup_ratio: number("warmup_ratio"),
            min_lr_ratio: number("min_lr_ratio"),
            total_steps: run["steps"].as_u64().unwrap() as usize,
        },
        batches: run["batches"]
            .as_array()
            .unwrap()
            .iter()
            .map(|micro_batches| micro_batches.as_array().unwrap().iter().map(indexes).collect())
            .collect(),
        expected: run["expected"].as_array().unwrap().clone(),
    }
}

#[test]
fn learning_rates_equal_the_golden_ones() {
    for case in json("golden/schedule.json")["cases"].as_array().unwrap() {
        let number = |key: &str| case[key].as_f64().unwrap();
        let schedule = Schedule {
            scheduler: serde_json::from_value(case["lr_scheduler"].clone()).unwrap(),
            learning_rate: number("learning_rate"),
            warmup_ratio: number("warmup_ratio"),
            min_lr_ratio: number("min_lr_ratio"),
            total_steps: case["steps"].as_u64().unwrap() as usize,
        };
        for (step, expected) in case["expected"].as_array().unwrap().iter().enumerate() {
            assert!(relative(schedule.at(step), expected.as_f64().unwrap()) < 1e-12, "{schedule:?} at {step}");
        }
    }
}

#[test]
fn twenty_steps_equal_pefts() {
    let examples = examples();
    for (name, base) in [("tied_all", "tied"), ("untied_all", "untied"), ("tied_qv", "tied")] {
        for recompute in [false, true] {
            let model = model(base);
            let run = run(name, recompute);
            let mut lora = adapter(&model, &format!("golden/lora/{name}/initial"));
            let mut optimizer = AdamWState::new(&lora.values);
            for (step, expected) in run.expected.iter().enumerate() {
                let micro_batches: Vec<MicroBatch> =
                    run.batches[step % run.batches.len()].iter().map(|rows| micro_batch(&examples, rows)).collect();
                let learning_rate = run.schedule.at(step);
                let outcome =
                    train_step(&model, &mut lora, &mut optimizer, &micro_batches, learning_rate, &run.settings);
                let at = format!("{name}, recompute {recompute}, step {step}: {outcome:?}, expected {expected}");
                assert_eq!(outcome.loss.tokens as u64, expected["trained_tokens"].as_u64().unwrap(), "{at}");
                assert!(relative(learning_rate, expected["learning_rate"].as_f64().unwrap()) < 1e-12, "{at}");
                assert!(relative(outcome.loss.mean(), expected["loss"].as_f64().unwrap()) <= 1e-4, "{at}");
                assert!(relative(outcome.grad_norm, expected["grad_norm"].as_f64().unwrap()) <= 1e-3, "{at}");
            }
            let last = adapter(&model, &format!("golden/lora/{name}/final"));
            // Adam divides by the gradient's own size: where a gradient is nearly zero, its rounding decides the step.
            let difference = largest_difference(&floats(&lora), &floats(&last));
            assert!(difference <= 2e-3, "{name}, recompute {recompute}: {difference}");
        }
    }
}

#[test]
fn gradients_equal_pefts() {
    let examples = examples();
    for base in ["tied", "untied"] {
        let model = model(base);
        let expected = json(&format!("golden/gradients/{base}/expected.json"));
        let lora = adapter(&model, &format!("golden/gradients/{base}/adapter"));
        let (mut loss, mut gradient) = (LossSum::default(), lora.values.zeros_like());
        for rows in expected["batches"].as_array().unwrap() {
            let (sum, part) = loss_and_gradient(&model, &lora, &micro_batch(&examples, &indexes(rows)), false);
            loss.add(sum);
            gradient = gradient.add(part);
        }
        assert!(relative(loss.mean(), expected["loss"].as_f64().unwrap()) <= 1e-5);
        let found = LoraSet { values: gradient.div_scalar(loss.tokens as f64), ..lora.clone() };
        let file = SafetensorsFile::open(&fixture(&format!("golden/gradients/{base}/gradients.safetensors"))).unwrap();
        for tensors in found.to_tensors() {
            for (factor, tensor) in [("lora_A", &tensors.a), ("lora_B", &tensors.b)] {
                let name = format!("base_model.model.{}.{factor}.weight", tensors.module);
                let expected = file.read(&name).unwrap().to_f32().unwrap();
                let size = expected.iter().fold(0f32, |size, value| size.max(value.abs()));
                let difference = largest_difference(&tensor.to_f32().unwrap(), &expected);
                assert!(difference <= 1e-5 * size.max(1.0), "{name}: {difference} of {size}");
            }
        }
    }
}

fn settings() -> TrainSettings {
    TrainSettings {
        adamw: AdamW { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01 },
        max_grad_norm: 1.0,
        recompute: false,
    }
}

fn fresh(model: &Llama) -> LoraSet {
    let target_modules = LINEAR_MODULES.iter().map(|&name| name.to_owned()).collect();
    LoraSet::init(model, LoraConfig { r: 4, alpha: 8.0, target_modules }, 1)
}

#[test]
fn four_micro_batches_of_one_are_one_of_four() {
    let (model, examples) = (model("tied"), examples());
    let step = |split: &[&[usize]]| {
        let mut lora = adapter(&model, "golden/gradients/tied/adapter");
        let mut optimizer = AdamWState::new(&lora.values);
        let batches: Vec<MicroBatch> = split.iter().map(|rows| micro_batch(&examples, rows)).collect();
        let outcome = train_step(&model, &mut lora, &mut optimizer, &batches, 1e-2, &settings());
        (outcome, floats(&lora))
    };
    let (whole, whole_values) = step(&[&[0, 1, 2, 3]]);
    let (parts, parts_values) = step(&[&[0], &[1], &[2], &[3]]);
    assert_eq!((whole.loss.tokens, whole.tokens), (parts.loss.tokens, parts.tokens));
    assert!(relative(parts.loss.mean(), whole.loss.mean()) < 1e-6, "{whole:?} {parts:?}");
    assert!(relative(parts.grad_norm, whole.grad_norm) < 1e-5, "{whole:?} {parts:?}");
    // The first Adam step is ± the learning rate whatever the gradient's size: only a gradient of rounding size may differ.
    let differing = whole_values.iter().zip(&parts_values).filter(|(a, b)| (*a - *b).abs() > 1e-4).count();
    assert!(differing * 1000 <= whole_values.len(), "{differing} of {}", whole_values.len());
}

/// The model with every matrix a plain tensor: what runs is the definition of each operation, under burn's own autodiff.
fn defined(model: &Llama) -> Llama {
    let mut model = model.clone();
    let dense = |weight: &Weight| Weight::dense(weight.to_tensor());
    (model.embed_tokens, model.lm_head) = (dense(&model.embed_tokens), dense(&model.lm_head));
    for layer in &mut model.layers {
        layer.projections_mut().into_iter().for_each(|(_, linear)| linear.weight = dense(&linear.weight));
    }
    model
}

fn on(cpu: Cpu, model: &Llama) -> PackedLlama<'_> {
    let mut packed = PackedLlama::new(model).unwrap();
    packed.cpu = cpu;
    packed
}

#[test]
fn kernels_equal_the_definition_under_autodiff() {
    let examples = examples();
    for (base, precision) in [("tied", Precision::F32), ("untied", Precision::Bf16)] {
        let dir = ModelDir::open(&fixture(&format!("tiny_llama/{base}"))).unwrap();
        let model = load_llama(&dir, &test_device(), precision, &mut |_, _| {}).unwrap();
        let lora = adapter(&model, &format!("golden/gradients/{base}/adapter"));
        for rows in [vec![0], vec![0, 1, 2, 3]] {
            let batch = micro_batch(&examples, &rows);
            let (expected_loss, expected) = loss_and_gradient(&defined(&model), &lora, &batch, false);
            let attached = lora.attach(&model);
            let expected_evaluation = evaluate(&defined(&attached), &batch);
            for cpu in Cpu::available() {
                let what = format!("{base}, {rows:?}, {cpu:?}");
                // Where pairs of bf16 are multiplied, activations are rounded to 8 bits before each product.
                let rounds = cpu.rounds_activations() && precision == Precision::Bf16;
                let (of_loss, of_gradient) = if rounds { (1e-3, 2e-2) } else { (1e-6, 1e-5) };
                let (loss, gradient) = packed::loss_and_gradient(&on(cpu, &model), &lora, &batch, true);
                assert!(relative(loss.nats, expected_loss.nats) < of_loss, "{what}: {loss:?} {expected_loss:?}");
                assert!(rounds || loss.correct == expected_loss.correct, "{what}");
                let floats = |x: &burn::tensor::Tensor<1>| -> Vec<f32> { x.try_to_vec_as().unwrap() };
                let (gradient, expected) = (floats(&gradient), floats(&expected));
                let size = expected.iter().fold(0f32, |size, value| size.max(value.abs()));
                let difference = largest_difference(&gradient, &expected);
                assert!(difference <= of_gradient * size, "{what}: {difference} of {size}");
                let loss = packed::evaluate(&on(cpu, &attached), &batch);
                assert!(relative(loss.nats, expected_evaluation.nats) < of_loss, "{what}: {loss:?}");
            }
        }
    }
}

#[test]
fn packed_is_unpacked() {
    let golden = json("golden/packing/expected.json");
    let examples: Vec<TokenizedExample> = golden["examples"].as_array().unwrap().iter().map(example).collect();
    let packed = MicroBatch::new(&Batch::new(&examples, &[vec![0, 1]]));
    for (base, expected) in golden["variants"].as_object().unwrap() {
        let model = model(base);
        let lora = adapter(&model, &format!("golden/packing/{base}"));
        let sums: Vec<f64> =
            expected["loss_sums"].as_array().unwrap().iter().map(|sum| sum.as_f64().unwrap()).collect();
        let (loss, gradient) = loss_and_gradient(&model, &lora, &packed, false);
        assert!(relative(loss.nats, sums.iter().sum()) <= 1e-5, "{base}: {loss:?}");
        let norm = afina_ops::norm(&gradient);
        assert!(relative(norm, expected["grad_norm_of_sum"].as_f64().unwrap()) <= 1e-4, "{base}: {norm}");
        for (index, &sum) in sums.iter().enumerate() {
            let alone = evaluate(&lora.attach(&model), &micro_batch(&examples, &[index]));
            assert!(relative(alone.nats, sum) <= 1e-5, "{base}: {alone:?}");
        }
    }
}

#[test]
fn blocks_below_the_lowest_adapter_change_no_gradient() {
    let (model, examples) = (model("tied"), examples());
    let whole = adapter(&model, "golden/gradients/tied/adapter");
    let upper = whole.modules.iter().position(|module| module.layer == 1).unwrap();
    let offset = whole.modules[upper].offset;
    // The same adapter with layer 0 left out of the set but kept on the model.
    let attached = LoraSet { modules: whole.modules[..upper].to_vec(), ..whole.clone() }.attach(&model);
    let mut modules = whole.modules[upper..].to_vec();
    modules.iter_mut().for_each(|module| module.offset -= offset);
    let length = whole.parameters() - offset;
    let part =
        LoraSet { modules, values: whole.values.clone().narrow(0, offset, length), config: whole.config.clone() };
    let batch = micro_batch(&examples, &[0, 1]);
    let (_, all) = loss_and_gradient(&model, &whole, &batch, false);
    let (_, found) = loss_and_gradient(&attached, &part, &batch, false);
    let expected: Vec<f32> = all.narrow(0, offset, length).try_into_vec_as().unwrap();
    assert!(largest_difference(&found.try_into_vec_as::<f32>().unwrap(), &expected) < 1e-5);
}

#[test]
fn a_checkpoint_gives_back_the_same_bits_and_the_same_next_step() {
    let (model, examples) = (model("tied"), examples());
    let mut lora = fresh(&model);
    let mut optimizer = AdamWState::new(&lora.values);
    let batch = [micro_batch(&examples, &[0, 1, 2])];
    for _ in 0..3 {
        train_step(&model, &mut lora, &mut optimizer, &batch, 1e-2, &settings());
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("step-000003");
    let config = read_adapter(&fixture("golden/lora/tied_all/final")).unwrap().0;
    let best = Some(Best { step: 2, eval_loss: 1.5 });
    let state = TrainState {
        step: 3,
        num_tokens: 99,
        eval_loss: Some(1.5),
        best,
        ..TrainState::new(false, Default::default())
    };
    save_checkpoint(&path, &config, None, &lora, &optimizer, &state).unwrap();

    let (mut read, mut read_optimizer, read_state) = load_checkpoint(&path, &model, lora.config.clone()).unwrap();
    assert_eq!(read_state, state);
    assert_eq!(floats(&read), floats(&lora));
    let next = train_step(&model, &mut lora, &mut optimizer, &batch, 1e-2, &settings());
    let read_next = train_step(&model, &mut read, &mut read_optimizer, &batch, 1e-2, &settings());
    assert_eq!(read_next, next);
    assert_eq!(floats(&read), floats(&lora));
}

#[test]
fn training_moves_the_adapter_and_never_the_base() {
    let (model, examples) = (model("untied"), examples());
    let weight =
        |model: &Llama| -> Vec<f32> { model.layers[0].mlp.up_proj.weight.to_tensor().try_into_vec_as().unwrap() };
    let before = weight(&model);
    let mut lora = fresh(&model);
    let mut optimizer = AdamWState::new(&lora.values);
    let batch = [micro_batch(&examples, &[0, 1, 2, 3])];
    let first = train_step(&model, &mut lora, &mut optimizer, &batch, 1e-2, &settings());
    let mut last = first.clone();
    for _ in 0..30 {
        last = train_step(&model, &mut lora, &mut optimizer, &batch, 1e-2, &settings());
    }
    assert!(last.loss.mean() < 0.5 * first.loss.mean(), "{first:?} {last:?}");
    assert_eq!(weight(&model), before);
}

#[test]
fn a_step_whose_loss_is_not_finite_moves_nothing() {
    let (mut model, examples) = (model("tied"), examples());
    model.norm = model.norm.mul_scalar(f32::NAN);
    let mut lora = fresh(&model);
    let mut optimizer = AdamWState::new(&lora.values);
    let before = floats(&lora);
    let outcome = train_step(&model, &mut lora, &mut optimizer, &[micro_batch(&examples, &[0])], 1e-2, &settings());
    assert!(!outcome.loss.nats.is_finite());
    assert_eq!((floats(&lora), optimizer.steps), (before, 0));
}
