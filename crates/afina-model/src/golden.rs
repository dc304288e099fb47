//! The model against transformers' and peft's numbers (`tests/fixtures/golden`), on four tiny Llamas.

use std::ops::ControlFlow;
use std::path::PathBuf;

use afina_checkpoint::{ModelDir, SafetensorsFile, read_adapter};
use afina_ops::{Segments, test_device};
use serde_json::Value;

use crate::*;

const VARIANTS: [&str; 4] = ["tied", "untied", "llama3", "linear"];

/// Two f32 implementations that sum in different orders stay within this, on logits of several units.
const LOGIT_TOLERANCE: f32 = 1e-4;

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

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn logits(model: &Llama, tokens: &[u32], segments: Segments) -> Vec<f32> {
    model.logits(model.forward(tokens, segments, None)).try_into_vec_as().unwrap()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn expected_rows(name: &str) -> (Vec<Vec<u32>>, Vec<Vec<f32>>) {
    let file = SafetensorsFile::open(&fixture("golden/logits.safetensors")).unwrap();
    let ids = file.read(&format!("{name}.input_ids")).unwrap();
    let tokens: Vec<u32> =
        ids.bytes.chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()) as u32).collect();
    let logits = file.read(&format!("{name}.logits")).unwrap();
    let row = logits.shape[1] * logits.shape[2];
    let rows = logits.to_f32().unwrap().chunks_exact(row).map(<[f32]>::to_vec).collect();
    (tokens.chunks_exact(ids.shape[1]).map(<[u32]>::to_vec).collect(), rows)
}

#[test]
fn logits_equal_those_of_transformers() {
    for variant in VARIANTS {
        let model = model(variant);
        let (rows, expected) = expected_rows(variant);
        for (tokens, expected) in rows.iter().zip(&expected) {
            let difference = largest_difference(&logits(&model, tokens, Segments::one(tokens.len())), expected);
            assert!(difference <= LOGIT_TOLERANCE, "{variant}: {difference}");
        }
    }
}

#[test]
fn examples_of_one_flat_batch_do_not_see_each_other() {
    for variant in VARIANTS {
        let model = model(variant);
        let (rows, expected) = expected_rows(variant);
        let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
        let found = logits(&model, &rows.concat(), Segments::from_lengths(&lengths));
        let difference = largest_difference(&found, &expected.concat());
        assert!(difference <= LOGIT_TOLERANCE, "{variant}: {difference}");
    }
}

#[test]
fn cached_equals_full() {
    for variant in VARIANTS {
        let model = model(variant);
        let (rows, expected) = expected_rows(variant);
        let tokens = &rows[0];
        let mut cache = KvCache::new();
        let mut found = Vec::new();
        for part in [&tokens[..7], &tokens[7..8], &tokens[8..20], &tokens[20..]] {
            let hidden = model.forward(part, Segments::one(part.len()), Some(&mut cache));
            found.extend(model.logits(hidden).try_into_vec_as::<f32>().unwrap());
        }
        assert_eq!(cache.len(), tokens.len());
        let difference = largest_difference(&found, &expected[0]);
        assert!(difference <= LOGIT_TOLERANCE, "{variant}: {difference}");
    }
}

fn greedy(max_tokens: usize, stop_tokens: Vec<u32>) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling: SamplingOptions { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 },
        stop_tokens,
    }
}

#[test]
fn greedy_tokens_equal_those_of_transformers() {
    for (variant, case) in json("golden/generation.json")["variants"].as_object().unwrap() {
        let model = model(variant);
        let (prompt, expected) = (ids(&case["prompt"]), ids(&case["generated"]));
        let options = greedy(expected.len(), Vec::new());
        let generated =
            generate(&model, &prompt, &mut KvCache::new(), &options, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(generated, Generated { tokens: expected, stop: Stop::Length }, "{variant}");
    }
}

#[test]
fn a_cache_from_another_prompt_changes_no_token() {
    let case = &json("golden/generation.json")["variants"]["tied"];
    let model = model("tied");
    let (prompt, expected) = (ids(&case["prompt"]), ids(&case["generated"]));
    let mut cache = KvCache::new();
    let mut other = prompt[..4].to_vec();
    other.extend([9, 9, 9, 9]);
    for prompt in [&other, &prompt, &prompt] {
        let options = greedy(expected.len(), Vec::new());
        let generated = generate(&model, prompt, &mut cache, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        if *prompt != other {
            assert_eq!(generated.tokens, expected);
        }
    }
}

#[test]
fn generation_ends_at_a_stop_token_a_caller_or_the_context() {
    let case = &json("golden/generation.json")["variants"]["tied"];
    let model = model("tied");
    let (prompt, expected) = (ids(&case["prompt"]), ids(&case["generated"]));
    let run = |options: &GenerateOptions, flow: ControlFlow<()>| {
        generate(&model, &prompt, &mut KvCache::new(), options, &mut |_| flow).unwrap()
    };
    let stopped = run(&greedy(24, vec![expected[3]]), ControlFlow::Continue(()));
    assert_eq!(stopped, Generated { tokens: expected[..3].to_vec(), stop: Stop::EndOfTurn });
    let broken = run(&greedy(24, Vec::new()), ControlFlow::Break(()));
    assert_eq!(broken, Generated { tokens: expected[..1].to_vec(), stop: Stop::Caller });

    let context = model.config.max_position_embeddings;
    let nearly_full = vec![5; context - 2];
    let generated =
        generate(&model, &nearly_full, &mut KvCache::new(), &greedy(9, Vec::new()), &mut |_| ControlFlow::Continue(()))
            .unwrap();
    assert_eq!((generated.tokens.len(), generated.stop), (2, Stop::Length));
    let error = generate(&model, &vec![5; context + 1], &mut KvCache::new(), &greedy(1, Vec::new()), &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap_err();
    assert_eq!(error.to_string(), format!("the prompt has {} tokens; the model's context is {context}", context + 1));
}

#[test]
fn scores_are_the_log_softmax_of_the_full_pass() {
    let model = model("llama3");
    let (rows, expected) = expected_rows("llama3");
    let vocab = model.config.vocab_size;
    let prompt = &rows[0][..10];
    let continuations = vec![rows[0][10..14].to_vec(), vec![3], rows[0][10..12].to_vec()];
    let scores = score_continuations(&model, prompt, &continuations, &mut KvCache::new()).unwrap();
    // What an earlier prompt left in the cache changes nothing.
    let mut cache = KvCache::new();
    score_continuations(&model, &[&prompt[..6], &[9, 9]].concat(), &continuations, &mut cache).unwrap();
    let again = score_continuations(&model, prompt, &continuations, &mut cache).unwrap();
    for (again, scores) in again.iter().zip(&scores) {
        assert!(largest_difference(again, scores) <= LOGIT_TOLERANCE);
    }
    for (continuation, scores) in
        [(0, 4), (2, 2)].map(|(index, length)| (&continuations[index], (&scores[index], length)))
    {
        let (scores, length) = scores;
        assert_eq!(scores.len(), length);
        for (offset, (&token, &found)) in continuation.iter().zip(scores).enumerate() {
            let row = &expected[0][(9 + offset) * vocab..(10 + offset) * vocab];
            let largest = row.iter().copied().fold(f32::MIN, f32::max);
            let log_sum = row.iter().map(|logit| (logit - largest).exp()).sum::<f32>().ln() + largest;
            let expected = row[token as usize] - log_sum;
            assert!((found - expected).abs() <= 2.0 * LOGIT_TOLERANCE, "{found} {expected}");
        }
    }
    assert_eq!(scores[1].len(), 1);
    // A prompt of one token has nothing before it to read.
    let short = score_continuations(&model, &rows[0][..1], &[rows[0][1..3].to_vec()], &mut KvCache::new()).unwrap();
    let long = score_continuations(&model, &rows[0][..2], &[rows[0][2..3].to_vec()], &mut KvCache::new()).unwrap();
    assert!((short[0][1] - long[0][0]).abs() <= LOGIT_TOLERANCE);
}

#[test]
fn inverse_frequencies_equal_those_of_transformers() {
    for (variant, expected) in json("golden/rope.json")["inv_freq"].as_object().unwrap() {
        let model = model(variant);
        let expected: Vec<f32> =
            expected.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect();
        for (found, expected) in model.rope.inverse_frequencies().iter().zip(&expected) {
            assert!((found / expected - 1.0).abs() <= 1e-6, "{variant}: {found} {expected}");
        }
    }
}

#[test]
fn an_adapter_on_the_base_gives_pefts_logits() {
    for (run, base) in [("tied_all", "tied"), ("untied_all", "untied"), ("tied_qv", "tied")] {
        let (config, tensors) = read_adapter(&fixture(&format!("golden/lora/{run}/final"))).unwrap();
        let adapted = apply_adapter(&model(base), &config, &tensors).unwrap();
        let file = SafetensorsFile::open(&fixture(&format!("golden/lora/{run}/merged.safetensors"))).unwrap();
        let tokens: Vec<u32> = file
            .read("input_ids")
            .unwrap()
            .bytes
            .chunks_exact(8)
            .map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()) as u32)
            .collect();
        let found = logits(&adapted, &tokens, Segments::one(tokens.len()));
        for expected in ["adapter_logits", "merged_logits"] {
            let expected = file.read(expected).unwrap().to_f32().unwrap();
            let difference = largest_difference(&found, &expected);
            assert!(difference <= LOGIT_TOLERANCE, "{run}: {difference}");
        }
    }
}

#[test]
fn sampling_keeps_what_transformers_keeps() {
    let golden = json("golden/sampling.json");
    let floats = |value: &Value| -> Vec<f32> {
        value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
    };
    let logits = floats(&golden["logits"]);
    for case in golden["cases"].as_array().unwrap() {
        let sampler = Sampler::new(SamplingOptions {
            temperature: case["temperature"].as_f64().unwrap() as f32,
            top_k: case["top_k"].as_u64().unwrap() as usize,
            top_p: case["top_p"].as_f64().unwrap() as f32,
            seed: 0,
        });
        let mut found = vec![0f32; logits.len()];
        for (index, probability) in sampler.probabilities(&logits) {
            found[index] = probability as f32;
        }
        let difference = largest_difference(&found, &floats(&case["probabilities"]));
        assert!(difference <= 1e-6, "{case}: {difference}");
    }
}

#[test]
fn draws_follow_the_probabilities_and_the_seed() {
    let options = SamplingOptions { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 7 };
    let logits = [0.0, 1.0, 2.0];
    let draw = |seed| -> Vec<usize> {
        let mut sampler = Sampler::new(SamplingOptions { seed, ..options.clone() });
        (0..6000).map(|_| sampler.sample(&logits)).collect()
    };
    let drawn = draw(7);
    assert_eq!(drawn, draw(7));
    assert_ne!(drawn, draw(8));
    // Chi-square with 2 degrees of freedom: 13.8 is exceeded once in a thousand seeds.
    let chi_square: f64 = Sampler::new(options)
        .probabilities(&logits)
        .into_iter()
        .map(|(index, probability)| {
            let expected = probability * drawn.len() as f64;
            let found = drawn.iter().filter(|&&token| token == index).count() as f64;
            (found - expected).powi(2) / expected
        })
        .sum();
    assert!(chi_square < 13.8, "{chi_square}");
}

#[test]
fn an_adapter_that_does_not_fit_is_refused_by_name() {
    let (config, tensors) = read_adapter(&fixture("golden/lora/tied_qv/final")).unwrap();
    let mut wrong = tensors.clone();
    wrong[0].module = "model.layers.7.self_attn.q_proj".to_owned();
    let error = apply_adapter(&model("tied"), &config, &wrong).unwrap_err().to_string();
    assert!(error.contains("model.layers.7.self_attn.q_proj") && error.contains("layers 0 to 1"), "{error}");
    let error = apply_adapter(&model("llama3"), &config, &tensors).unwrap_err().to_string();
    assert!(error.contains("the model's projection is [64, 32]"), "{error}");
}
