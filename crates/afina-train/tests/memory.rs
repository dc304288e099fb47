//! The forecast of memory against every byte that is allocated.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use afina_checkpoint::{LINEAR_MODULES, LlamaConfig, ModelDir, RawTensor, names::expected_tensors};
use afina_checkpoint::{write_file, write_tensors};
use afina_data::{Batch, TokenizedExample};
use afina_model::{Llama, LoraConfig, LoraSet, Precision, load_llama};
use afina_train::*;
use burn::tensor::Device;

/// The system's allocator, counted.
struct Counted;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: what is counted is given out and taken back by the system's allocator.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// What a function returns, how much more memory is in use after it, and how much more was while it ran.
fn counted<T>(run: impl FnOnce() -> T) -> (T, u64, u64) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = run();
    (result, LIVE.load(Relaxed).saturating_sub(before) as u64, (PEAK.load(Relaxed) - before) as u64)
}

/// Within a thirtieth, or 40 kB of small things.
fn assert_near(found: u64, forecast: u64, what: &str) {
    let error = found.abs_diff(forecast);
    assert!(error < forecast / 30 + 40_000, "{what}: counted {found}, forecast {forecast}");
}

fn config(tied: bool) -> LlamaConfig {
    LlamaConfig {
        hidden_size: 200,
        intermediate_size: 500,
        num_hidden_layers: 5,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 40,
        vocab_size: 3000,
        max_position_embeddings: 2048,
        rms_norm_eps: 1e-5,
        rope_theta: 10000.0,
        rope_scaling: None,
        tie_word_embeddings: tied,
        bos_token_id: None,
        eos_token_id: vec![2],
    }
}

fn model_dir(config: &LlamaConfig, dir: &std::path::Path) -> ModelDir {
    let number = |index: usize| 0.1 * ((index * 7919) as f32 * 0.618).sin();
    let tensors: Vec<RawTensor> = expected_tensors(config)
        .into_iter()
        .map(|(name, shape)| {
            let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(number).collect();
            RawTensor::from_f32(name, shape, &values)
        })
        .collect();
    write_file(&dir.join("config.json"), config.to_json().to_string().as_bytes()).unwrap();
    write_tensors(&dir.join("model.safetensors"), &tensors).unwrap();
    ModelDir::open(dir).unwrap()
}

/// Examples of (tokens, trained tokens at their end), a row each.
fn micro_batch(examples: &[(usize, usize)]) -> MicroBatch {
    let examples: Vec<TokenizedExample> = examples
        .iter()
        .map(|&(tokens, trained)| TokenizedExample {
            line: 1,
            tokens: (0..tokens as u32).collect(),
            loss_mask: (0..tokens).map(|at| at >= tokens - trained).collect(),
        })
        .collect();
    let rows: Vec<Vec<usize>> = (0..examples.len()).map(|index| vec![index]).collect();
    MicroBatch::new(&Batch::new(&examples, &rows))
}

fn check_step(model: &Llama, settings: &MemorySettings, examples: &[(usize, usize)]) {
    let batch = micro_batch(examples);
    let what = format!("{examples:?}, {:?}, recompute {}", settings.target_modules, settings.recompute);
    let lora_config = LoraConfig { r: settings.r, alpha: 8.0, target_modules: settings.target_modules.to_vec() };
    let (lora, adapter, _) = counted(|| LoraSet::init(model, lora_config, 1));
    assert_near(adapter, 4 * parameters(settings.config, settings.r, settings.target_modules) as u64, &what);
    let weights = memory_forecast(settings, [], []).moments.iter().map(|(_, classes)| classes.base_weights).max();
    let forecast = memory_forecast(settings, [(&batch).into()], []);
    let of = |wanted: &[Moment]| {
        let moments = forecast.moments.iter().filter(|(moment, _)| wanted.contains(moment));
        moments.map(|(_, classes)| classes.total()).max().unwrap() - weights.unwrap()
    };
    // The values lie there already, and the optimizer's means are not made here.
    let (_, _, peak) = counted(|| loss_and_gradient(model, &lora, &batch, settings.recompute));
    assert_near(peak, of(&[Moment::Head, Moment::Backward]) - 3 * adapter, &what);

    let attached = lora.attach(model);
    let forecast = memory_forecast(settings, [], [(&batch).into()]);
    let evaluation = forecast.moments.iter().find(|(moment, _)| *moment == Moment::Evaluation).unwrap().1;
    let (_, _, peak) = counted(|| evaluate(&attached, &batch));
    // Six of the eight buffers are the run's and the rehearsal's.
    let expected = evaluation.block + evaluation.head + evaluation.adapter_and_optimizer - 7 * adapter;
    assert_near(peak, expected, &format!("evaluation of {what}"));
}

/// On one thread: of several, one may find nothing to do, and allocates nothing.
#[test]
fn every_buffer_is_forecast() {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(check_all);
}

fn check_all() {
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<String> = LINEAR_MODULES.map(str::to_owned).to_vec();
    let some = ["q_proj".to_owned(), "down_proj".to_owned()];
    for (tied, precision) in [(true, Precision::F32), (false, Precision::Bf16)] {
        let config = config(tied);
        let folder = dir.path().join(format!("{tied}"));
        std::fs::create_dir(&folder).unwrap();
        let base = model_dir(&config, &folder);
        let mut settings = MemorySettings {
            config: &config,
            stored_bytes: 4,
            precision,
            r: 16,
            target_modules: &all,
            recompute: false,
            accumulates: false,
            threads: threads(),
            rounds_activations: rounds_activations(),
            rest: 0,
        };
        let (model, resident, peak) =
            counted(|| load_llama(&base, &Device::flex(), precision, &mut |_, _| {}).unwrap());
        let moments = memory_forecast(&settings, [], []).moments;
        assert_near(resident, moments[1].1.base_weights, "the loaded model");
        assert_near(peak, moments[0].1.total(), "loading");
        for recompute in [false, true] {
            settings.recompute = recompute;
            for (r, target_modules) in [(16, &all[..]), (5, &some[..])] {
                (settings.r, settings.target_modules) = (r, target_modules);
                // One long example; many short ones; nearly all trained, where the head takes the most; fewer than a panel.
                check_step(&model, &settings, &[(600, 40)]);
                check_step(&model, &settings, &[(17, 3); 40]);
                check_step(&model, &settings, &[(200, 199), (150, 149)]);
                check_step(&model, &settings, &[(9, 2)]);
            }
        }
    }
}
