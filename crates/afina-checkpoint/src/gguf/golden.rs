//! The small GGUF files of `tests/fixtures/gguf` against what the gguf package and llama.cpp made of them.

use std::path::{Path, PathBuf};

use afina_quant::mix::Mix;
use serde_json::Value;
use tokenizers::Tokenizer;

use super::tokenizer_to_hf::tokenizer_json;
use super::vocabulary::{TokenizerModel, Vocabulary};
use super::{GgufFile, QuantizeError, gguf_to_hf, quantize_gguf, vocabulary_from_hf};
use crate::hash::sha256_hex;
use crate::model_dir::ModelDir;
use crate::testing::overwrite;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/gguf").join(name)
}

fn golden() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("golden.json")).unwrap()).unwrap()
}

/// Texts whose ids differ from llama.cpp's, with both.
fn differences(vocabulary: &Vocabulary, golden: &Value, ids: &Value) -> Vec<String> {
    let mut tokenizer = Tokenizer::from_bytes(tokenizer_json(vocabulary).unwrap().to_string()).unwrap();
    tokenizer.set_encode_special_tokens(true);
    let texts = golden["texts"].as_array().unwrap();
    assert!(texts.len() >= 30);
    let pairs = texts.iter().zip(ids.as_array().unwrap());
    pairs
        .filter_map(|(text, expected)| {
            let expected: Vec<u32> = serde_json::from_value(expected.clone()).unwrap();
            let found = tokenizer.encode(text.as_str().unwrap(), false).unwrap();
            (found.get_ids() != expected).then(|| format!("{text}: {:?} {expected:?}", found.get_ids()))
        })
        .collect()
}

#[test]
fn tensors_equal_the_gguf_packages() {
    let golden = golden();
    for kind in ["bpe", "spm"] {
        let dir = tempfile::tempdir().unwrap();
        let gguf = GgufFile::open(&fixture(&format!("tiny-{kind}.gguf"))).unwrap();
        gguf_to_hf(&gguf, dir.path(), &mut |_, _| ()).unwrap();
        let model = ModelDir::open(dir.path()).unwrap();
        let expected = golden[kind]["tensors"].as_object().unwrap();
        assert_eq!(model.tensor_names().len(), expected.len());
        for name in model.tensor_names() {
            assert_eq!(sha256_hex(&model.tensor(name).unwrap().bytes), expected[name], "{kind} {name}");
        }
        assert_eq!(model.config.tie_word_embeddings, kind == "spm");
        assert_eq!(model.config.rope_scaling.is_some(), kind == "bpe");
    }
}

#[test]
fn every_pre_tokenizer_gives_llama_cpps_ids() {
    let golden = golden();
    let gguf = GgufFile::open(&fixture("tiny-bpe.gguf")).unwrap();
    let mut vocabulary = Vocabulary::from_gguf(&gguf).unwrap();
    assert!(vocabulary.add_bos, "llama.cpp's default for llama-bpe");
    let by_pre = golden["bpe"]["ids"].as_object().unwrap();
    assert_eq!(by_pre.len(), super::pre_tokenizers::KNOWN.len(), "one name of each is in the golden file");
    for (name, ids) in by_pre {
        let TokenizerModel::Bpe { pre, .. } = &mut vocabulary.model else { panic!("a byte-level tokenizer") };
        *pre = name.clone();
        assert_eq!(differences(&vocabulary, &golden, ids), [""; 0], "{name}");
    }
}

#[test]
fn sentencepiece_gives_llama_cpps_ids_and_survives_the_way_back() {
    let golden = golden();
    let gguf = GgufFile::open(&fixture("tiny-spm.gguf")).unwrap();
    let vocabulary = Vocabulary::from_gguf(&gguf).unwrap();
    let ids = &golden["spm"]["ids"]["llama"];
    assert_eq!(differences(&vocabulary, &golden, ids), [""; 0]);

    let dir = tempfile::tempdir().unwrap();
    gguf_to_hf(&gguf, dir.path(), &mut |_, _| ()).unwrap();
    let back = vocabulary_from_hf(dir.path(), vocabulary.tokens.len(), &[2]).unwrap();
    assert_eq!((&back.tokens, &back.types, back.add_bos), (&vocabulary.tokens, &vocabulary.types, true));
    assert_eq!(differences(&back, &golden, ids), [""; 0]);
}

#[test]
fn damaged_header_of_a_real_file_never_panics() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    let whole = std::fs::read(fixture("tiny-spm.gguf")).unwrap();
    // Every 29th byte: the reader's own test hits every byte of a smaller file.
    for position in (0..20_000).step_by(29) {
        let mut bytes = whole.clone();
        bytes[position] ^= 0x81;
        overwrite(&path, &bytes);
        if let Ok(gguf) = GgufFile::open(&path) {
            let _ = super::config_from_gguf(&gguf);
            let _ = Vocabulary::from_gguf(&gguf).map(|vocabulary| tokenizer_json(&vocabulary).map(|_| ()));
        }
    }
}

#[test]
fn quantized_files_are_llama_cpps() {
    let golden: Value = serde_json::from_slice(&std::fs::read(fixture("quantized.json")).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("out.gguf");
    for kind in ["bpe", "spm"] {
        let gguf = GgufFile::open(&fixture(&format!("tiny-{kind}.gguf"))).unwrap();
        for mix in Mix::ALL {
            let refused = quantize_gguf(&gguf, &to, mix, false, false, &mut |_, _| ());
            assert!(matches!(refused, Err(QuantizeError::Requantize { .. })), "{kind} {mix}");
            assert!(!to.exists());
            for measure in [false, true] {
                quantize_gguf(&gguf, &to, mix, true, measure, &mut |_, _| ()).unwrap();
                assert_eq!(sha256_hex(&std::fs::read(&to).unwrap()), golden[kind][mix.name()], "{kind} {mix}");
            }
            std::fs::remove_file(&to).unwrap();
        }
    }
}
