//! Weights that bitsandbytes, AutoGPTQ and AutoAWQ packed, against what those decode; and everything that can be wrong.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;
use crate::hash::sha256_hex;
use crate::safetensors::{SafetensorsFile, write_tensors};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/golden/quantized").join(name)
}

fn cases() -> Map<String, Value> {
    serde_json::from_slice(&std::fs::read(fixture("cases.json")).unwrap()).unwrap()
}

/// The tensors of a case.
fn tensors(case: &str) -> Vec<RawTensor> {
    let file = SafetensorsFile::open(&fixture(&format!("{case}.safetensors"))).unwrap();
    file.names().iter().map(|name| file.read(name).unwrap()).collect()
}

/// Finds and reads the one weight among `tensors`, with a case's settings and shape.
fn decode(case: &Value, tensors: &[RawTensor]) -> Result<RawTensor, QuantizationError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    write_tensors(&path, tensors).unwrap();
    let stored = StoredTensors::new(vec![("w.safetensors".into(), SafetensorsFile::open(&path).unwrap())]);
    let shape: Vec<usize> = serde_json::from_value(case["shape"].clone()).unwrap();
    let scheme = Quantization::of_config(case)?;
    let (found, parts) = find(scheme, &[("w.weight".into(), shape)], &stored)?;
    let weight = found.get("w.weight").expect("the case has one quantized weight");
    assert_eq!(parts.len(), tensors.len(), "all of it are parts of the weight");
    assert_eq!(weight.bytes, tensors.iter().map(|tensor| tensor.bytes.len() as u64).sum::<u64>());
    let tensor = weight.read(&stored)?;
    assert_eq!(tensor.info(), weight.info);
    Ok(tensor)
}

/// The error of a case once its settings and tensors are changed.
fn error(name: &str, change: impl FnOnce(&mut Value, &mut Vec<RawTensor>)) -> String {
    let (mut case, mut tensors) = (cases()[name].clone(), tensors(name));
    change(&mut case, &mut tensors);
    let error = decode(&case, &tensors).unwrap_err();
    let (mut text, mut cause) = (error.to_string(), std::error::Error::source(&error));
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

fn part<'a>(tensors: &'a mut [RawTensor], name: &str) -> &'a mut RawTensor {
    tensors.iter_mut().find(|tensor| tensor.name == format!("w.{name}")).unwrap()
}

/// The error of `nf4_nested` with another text in its state.
fn state_error(from: &str, to: &str) -> String {
    error("nf4_nested", |_, tensors| {
        let state = part(tensors, bitsandbytes::STATE);
        let text = String::from_utf8(state.bytes.clone()).unwrap();
        assert!(text.contains(from), "{text}");
        state.bytes = text.replace(from, to).into_bytes();
        state.shape = vec![state.bytes.len()];
    })
}

#[test]
fn every_weight_decodes_to_the_bits_of_the_program_that_packed_it() {
    let cases = cases();
    assert!(cases.len() >= 13, "only {} cases", cases.len());
    for (name, case) in cases {
        let tensor = decode(&case, &tensors(&name)).unwrap();
        assert_eq!(tensor.dtype.as_str(), case["dtype"], "{name}");
        assert_eq!(sha256_hex(&tensor.bytes), case["sha256"], "{name}");
    }
}

#[test]
fn the_first_form_of_gptq_holds_zero_as_the_largest_number() {
    // GPTQModel adds one within the bits of a number; AutoGPTQ packs no zero point of 0.
    let (case, mut tensors) = (cases()["gptq_4_one"].clone(), tensors("gptq_4_one"));
    part(&mut tensors, "qzeros").bytes.fill(0xff);
    part(&mut tensors, "qweight").bytes.fill(0);
    assert!(decode(&case, &tensors).unwrap().to_f32().unwrap().iter().all(|value| *value == 0.0));
}

#[test]
fn a_bias_of_zeros_and_a_missing_order_are_taken() {
    for (name, order) in [("gptq_8_64", "w.g_idx"), ("gptq_4_one", "w.g_idx")] {
        let (case, mut tensors) = (cases()[name].clone(), tensors(name));
        tensors.retain(|tensor| tensor.name != order);
        tensors.push(RawTensor { name: "w.bias".into(), dtype: Dtype::F16, shape: vec![64], bytes: vec![0; 128] });
        assert_eq!(sha256_hex(&decode(&case, &tensors).unwrap().bytes), case["sha256"], "{name}");
    }
    let bias = |bytes: Vec<u8>, shape| RawTensor { name: "w.bias".into(), dtype: Dtype::F16, shape, bytes };
    let message = error("gptq_8_64", |_, tensors| tensors.push(bias(vec![1; 128], vec![64])));
    assert_eq!(message, "`w.bias` is not zero, and a Llama's linear layers have no bias");
    let message = error("awq", |_, tensors| tensors.push(bias(vec![0; 64], vec![32])));
    assert_eq!(message, "tensor `w.bias`: expected a bias of [64], found F16 [32]");
}

#[test]
fn what_is_not_read_is_refused_by_name_with_the_way_out() {
    let refused = |settings: Value| {
        let error = Quantization::of_config(&json!({ "quantization_config": settings })).unwrap_err();
        assert!(error.hint().unwrap().contains("unquantized"));
        error.to_string()
    };
    for (settings, scheme) in [
        (json!({"quant_method": "hqq"}), "hqq"),
        (json!({"quant_method": "compressed-tensors", "format": "pack-quantized"}), "compressed-tensors"),
        (json!({"quant_method": "bitsandbytes", "load_in_8bit": true}), "bitsandbytes int8"),
        (json!({"load_in_4bit": true}), "bitsandbytes fp4"),
        (json!({"load_in_4bit": true, "bnb_4bit_quant_type": "fp4"}), "bitsandbytes fp4"),
    ] {
        let expected =
            format!("weights quantized with `{scheme}` are not read, expected bitsandbytes nf4, gptq or awq");
        assert_eq!(refused(settings), expected);
    }
    let gptq = |key: &str, value: Value| {
        let mut settings = json!({"quant_method": "gptq", "bits": 4, "group_size": 128});
        settings[key] = value;
        refused(settings)
    };
    assert_eq!(gptq("bits", json!(5)), "`quantization_config`: `bits`: expected 2, 3, 4 or 8, found `5`");
    let message = gptq("checkpoint_format", json!("marlin"));
    assert_eq!(message, "`quantization_config`: `checkpoint_format`: expected gptq or gptq_v2, found `marlin`");
    assert!(gptq("format", json!("gptq_p")).contains("`format`: expected gptq or gptq_v2, found `gptq_p`"));
    for size in [json!(0), json!(-2), json!(u64::MAX), json!("128"), Value::Null] {
        assert!(gptq("group_size", size.clone()).contains("`group_size`: expected -1, or"), "{size}");
    }
    assert!(gptq("desc_act", json!("yes")).contains("`desc_act`: expected true or false, found `yes`"));
    assert!(gptq("is_marlin_format", json!(true)).contains("`is_marlin_format`: expected false"));
    let awq = |key: &str, value: Value| {
        let mut settings = json!({"quant_method": "awq", "w_bit": 4, "q_group_size": 128});
        assert!(Quantization::of_config(&json!({ "quantization_config": settings })).unwrap().is_some());
        settings[key] = value;
        refused(settings)
    };
    assert!(awq("version", json!("gemv")).ends_with("`version`: expected gemm, found `gemv`"));
    assert!(awq("w_bit", json!(8)).ends_with("`w_bit`: expected 4, found `8`"));
    assert!(awq("zero_point", json!(false)).ends_with("`zero_point`: expected true, found `false`"));
    assert!(refused(json!([1])).contains("`quantization_config`: expected an object"));
    assert_eq!(Quantization::of_config(&json!({ "quantization_config": null })).unwrap(), None);
}

#[test]
fn a_state_that_lies_is_refused() {
    let lies = [
        (r#""nf4""#, r#""fp4""#, "`quant_type`: expected nf4, found `fp4`"),
        (
            r#""blocksize": 32"#,
            r#""blocksize": 33"#,
            "`blocksize`: expected one of [32, 64, 128, 256, 512, 1024, 2048, 4096], found `33`",
        ),
        (r#""blocksize": 32"#, r#""blocksize": 18446744073709551615"#, "found `18446744073709551615`"),
        ("[64, 256]", "[256, 64]", "`shape`: expected [64, 256], found `[256, 64]`"),
        ("[64, 256]", "[4294967296, 4294967296]", "`shape`: expected [64, 256]"),
        (
            r#""dtype": "float32", "shape""#,
            r#""dtype": "int8", "shape""#,
            "`dtype`: expected float32, float16 or bfloat16, found `int8`",
        ),
        (
            r#""nested_blocksize": 256"#,
            r#""nested_blocksize": 64"#,
            "`nested_blocksize`: expected 256, found `Some(64)`",
        ),
        (r#""nested_dtype": "float32""#, r#""nested_dtype": "float16""#, "`nested_dtype`: expected float32"),
        (
            r#""nested_offset": "#,
            r#""nested_offset": 1e300, "x": "#,
            "`nested_offset`: expected a finite number, found `inf`",
        ),
        (r#""nested_offset": "#, r#""x": "#, "tensor `w.weight.absmax`: expected F32 [512], found U8 [512]"),
        (r#""blocksize": 32"#, r#""blocksize": 64"#, "tensor `w.weight.absmax`: expected U8 [256], found U8 [512]"),
        ("}", "", "is not the JSON of a quantization state"),
        ("[64, 256]", "null", "is not the JSON of a quantization state"),
    ];
    for (from, to, expected) in lies {
        let message = state_error(from, to);
        assert!(message.contains(expected), "{message}");
    }
    let long = state_error("{", &format!("{{{}", " ".repeat(5000)));
    assert!(long.contains("expected U8 of one dimension, at most 4096"), "{long}");
}

#[test]
fn parts_that_are_lost_or_have_another_shape_are_named() {
    for name in cases().keys() {
        let whole = tensors(name);
        for lost in &whole {
            let optional =
                lost.name == "w.g_idx" && !cases()[name]["quantization_config"]["desc_act"].as_bool().unwrap();
            if optional {
                continue;
            }
            let message = error(name, |_, tensors| tensors.retain(|tensor| tensor.name != lost.name));
            let of_weight = format!("the quantized weight of `w` has no `{}`", lost.name);
            assert_eq!(message, of_weight, "{name} without {}", lost.name);
        }
        for changed in &whole {
            let message = error(name, |_, tensors| {
                let tensor = tensors.iter_mut().find(|tensor| tensor.name == changed.name).unwrap();
                let size = tensor.dtype.size();
                tensor.bytes.truncate(tensor.bytes.len() - size);
                tensor.shape = vec![tensor.bytes.len() / size];
            });
            assert!(message.contains(&changed.name), "{name}: {message}");
        }
    }
    let message = error("gptq_4_32", |_, tensors| part(tensors, "scales").dtype = Dtype::I16);
    assert_eq!(message, "tensor `w.scales`: expected F16, BF16 or F32 [3, 64], found I16 [3, 64]");
    let message = error("gptq_4_32", |case, _| case["quantization_config"]["group_size"] = json!(1));
    assert_eq!(message, "tensor `w.qzeros`: expected I32 [96, 8], found I32 [3, 8]");
    let message = error("gptq_4_32", |case, _| case["quantization_config"]["bits"] = json!(8));
    assert_eq!(message, "tensor `w.qweight`: expected I32 [24, 64], found I32 [12, 64]");
    let message = error("gptq_3_32", |case, _| case["shape"] = json!([64, 90]));
    assert!(message.contains("expected 90 numbers of 3 bits in whole words of 32 bits"), "{message}");
    let message = error("awq", |case, _| case["shape"] = json!([60, 96]));
    assert!(message.contains("60 outputs by eight"), "{message}");
    let message = error("awq", |case, _| case["quantization_config"]["group_size"] = json!(64));
    assert!(message.contains("whole groups of 96 inputs"), "{message}");
}

#[test]
fn numbers_that_lead_out_are_refused_by_their_index() {
    for group in [3_i32, -1, i32::MAX, i32::MIN] {
        let message = error("gptq_4_32", |_, tensors| {
            part(tensors, "g_idx").bytes[4 * 7..4 * 8].copy_from_slice(&group.to_le_bytes());
        });
        assert_eq!(message, format!("`w.g_idx` puts input 7 into group {group}, and there are 3 groups"));
    }
    let message = error("nf4_plain", |_, tensors| {
        part(tensors, bitsandbytes::ABSMAX).bytes[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert!(message.contains("tensor `w.weight` cannot be stored as `BF16`: value 64 is NaN"), "{message}");
    let message = error("nf4_plain", |_, tensors| part(tensors, bitsandbytes::QUANT_MAP).bytes[3] = 0x3f);
    assert!(message.contains("tensor `w.weight.quant_map`: expected the numbers of nf4, found [1.0"), "{message}");
    let message = error("awq", |_, tensors| part(tensors, "scales").bytes[..2].copy_from_slice(&[0x00, 0x7c]));
    assert!(message.contains("tensor `w.weight` cannot be stored as `F16`"), "{message}");
}

#[test]
fn parts_of_another_scheme_or_of_none_are_told_as_that() {
    for name in ["nf4_nested", "gptq_4_32", "awq"] {
        let message = error(name, |case, _| drop(case.as_object_mut().unwrap().remove("quantization_config")));
        assert!(message.contains("config.json has no `quantization_config`, and `w."), "{message}");
    }
    let message =
        error("gptq_4_32", |case, _| case["quantization_config"] = cases()["nf4_plain"]["quantization_config"].clone());
    let expected = "config.json says that weights are quantized with bitsandbytes nf4, and `w.qweight` is a part of another scheme";
    assert_eq!(message, expected);
    let message =
        error("nf4_plain", |case, _| case["quantization_config"] = cases()["awq"]["quantization_config"].clone());
    assert!(message.contains("quantized with awq, 4 bits, groups of 32, and `w.weight.absmax`"), "{message}");
    let message = error("awq", |_, tensors| tensors.push(RawTensor::from_f32("w.weight", vec![1], &[0.0])));
    assert_eq!(message, "tensor `w.weight`: expected none beside its quantized parts, found F32 [1]");
}

#[test]
fn no_flipped_byte_panics() {
    for name in ["nf4_nested", "gptq_4_32", "awq"] {
        let (case, whole) = (cases()[name].clone(), tensors(name));
        for index in 0..whole.len() {
            // The small parts hold what others are counted by.
            let step = whole[index].bytes.len().div_ceil(20);
            for position in (0..whole[index].bytes.len()).step_by(step) {
                let mut tensors = whole.clone();
                tensors[index].bytes[position] ^= 0xff;
                let _ = decode(&case, &tensors);
            }
        }
    }
}
