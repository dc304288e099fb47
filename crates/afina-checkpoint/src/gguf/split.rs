//! A model in several GGUF files, as llama.cpp's `gguf-split` cuts one: `model-00001-of-00003.gguf` and so on. The first has
//! all the metadata, and each has some of the tensors.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::reader::{GgufError, GgufTensor, OneFile};

/// The three keys that every part has.
const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// `model` and `-00002-of-00003.gguf`: what all parts of a model have in common, and what tells one of them.
///
/// Source: llama.cpp's `llama_split_prefix`.
pub(crate) fn cut_name(name: &str) -> Option<(&str, &str)> {
    const ENDING: usize = "-00001-of-00001.gguf".len();
    let (prefix, ending) = name.split_at_checked(name.len().checked_sub(ENDING)?)?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_ending = ending.is_ascii()
        && number(&ending[1..6])
        && number(&ending[10..15])
        && [&ending[..1], &ending[6..10], &ending[15..]] == ["-", "-of-", ".gguf"];
    is_ending.then_some((prefix, ending))
}

/// All files of the model that `opened` is or is a part of, the first one first.
pub(super) fn all_parts(opened: OneFile) -> Result<Vec<OneFile>, GgufError> {
    let count = number(&opened, COUNT)?.unwrap_or(1);
    if count <= 1 {
        return Ok(vec![opened]);
    }
    let no = part_number(&opened, count)?;
    let path = opened.path.clone();
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let ending = |no: u64| format!("-{:05}-of-{count:05}.gguf", no + 1);
    let Some((prefix, _)) = cut_name(&name).filter(|(_, found)| *found == ending(no)) else {
        let expected = ending(no);
        return Err(bad(&path, format!("it is part {} of {count}: expected a name that ends in `{expected}`", no + 1)));
    };

    let mut opened = Some(opened);
    let mut parts = Vec::new();
    for index in 0..count {
        if index == no {
            parts.extend(opened.take());
            continue;
        }
        let other = path.with_file_name(format!("{prefix}{}", ending(index)));
        if !other.is_file() {
            return Err(GgufError::MissingPart { path, part: other, count });
        }
        let part = OneFile::open(&other)?;
        let found = part_number(&part, count)?;
        if found != index {
            return Err(bad(&other, format!("it says that it is part {}", found.saturating_add(1))));
        }
        parts.push(part);
    }
    check_tensors(&parts)?;
    Ok(parts)
}

/// Fails unless the parts hold as many tensors as each of them says, and each tensor once.
fn check_tensors(parts: &[OneFile]) -> Result<(), GgufError> {
    let total: usize = parts.iter().map(|part| part.tensors.len()).sum();
    let mut seen: HashMap<&str, &Path> = HashMap::with_capacity(total);
    for part in parts {
        match number(part, TENSORS)? {
            Some(expected) if expected == total as u64 => {}
            None => return Err(GgufError::MissingKey { path: part.path.clone(), key: TENSORS.into() }),
            Some(expected) => {
                return Err(bad(&part.path, format!("expected {expected} tensors in all parts, found {total}")));
            }
        }
        for GgufTensor { name, .. } in &part.tensors {
            if let Some(other) = seen.insert(name, &part.path) {
                return Err(bad(&part.path, format!("tensor `{name}` is in `{}` too", other.display())));
            }
        }
    }
    Ok(())
}

/// Which part a file is, from 0; one of a model of as many parts.
fn part_number(part: &OneFile, count: u64) -> Result<u64, GgufError> {
    let found = number(part, COUNT)?.unwrap_or(1);
    if found != count {
        return Err(bad(&part.path, format!("expected one of {count} parts, found one of {found}")));
    }
    match number(part, NO)? {
        Some(no) if no < count => Ok(no),
        Some(no) => Err(bad(&part.path, format!("`{NO}`: expected a number below {count}, found {no}"))),
        None => Err(GgufError::MissingKey { path: part.path.clone(), key: NO.into() }),
    }
}

/// A count; more parts than sixteen bits count, no program writes.
fn number(part: &OneFile, key: &str) -> Result<Option<u64>, GgufError> {
    let Some((_, value)) = part.metadata.iter().find(|(name, _)| name == key) else { return Ok(None) };
    let limit = if key == TENSORS { u64::from(u32::MAX) } else { u64::from(u16::MAX) };
    match value.as_u64() {
        Some(number) if number <= limit => Ok(Some(number)),
        _ => Err(bad(&part.path, format!("`{key}`: expected a number up to {limit}, found {value:?}"))),
    }
}

fn bad(path: &Path, reason: String) -> GgufError {
    GgufError::Part { path: PathBuf::from(path), reason }
}

#[cfg(test)]
mod tests {
    use afina_quant::format::Format;
    use afina_quant::mix::Mix;

    use super::super::reader::GgufFile;
    use super::super::types::Value;
    use super::super::writer::{Entry, Metadata, write_entries};
    use super::super::{gguf_to_hf, quantize_gguf};
    use super::*;
    use crate::export::export_gguf;
    use crate::hash::sha256_hex;
    use crate::model_dir::ModelDir;
    use crate::testing::{overwrite, tiny_model, tiny_tokenizer};

    /// A tiny model as `whole.gguf`, and as `m-0000N-of-00003.gguf` as `gguf-split` cuts it.
    struct Place {
        dir: tempfile::TempDir,
        whole: GgufFile,
    }

    const COUNT_OF_PARTS: u16 = 3;

    impl Place {
        fn new() -> Place {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().join("model");
            tiny_model(&folder, false);
            tiny_tokenizer(&folder, 320);
            let path = dir.path().join("whole.gguf");
            export_gguf(&ModelDir::open(&folder).unwrap(), &path, Mix::F32, false, &mut |_, _| ()).unwrap();
            let place = Place { whole: GgufFile::open(&path).unwrap(), dir };
            for no in 0..COUNT_OF_PARTS {
                place.write(no, |_| ());
            }
            place
        }

        fn path(&self, no: u16) -> PathBuf {
            self.dir.path().join(format!("m-{:05}-of-00003.gguf", no + 1))
        }

        /// Writes a part; `change` gets its three keys.
        fn write(&self, no: u16, change: impl FnOnce(&mut Vec<(&str, Value)>)) {
            self.write_to(&self.path(no), no, change);
        }

        fn write_to(&self, path: &Path, no: u16, change: impl FnOnce(&mut Vec<(&str, Value)>)) {
            let tensors = self.whole.tensors();
            let mut keys = vec![
                (NO, Value::U16(no)),
                (COUNT, Value::U16(COUNT_OF_PARTS)),
                (TENSORS, Value::I32(tensors.len() as i32)),
            ];
            change(&mut keys);
            let mut metadata = Metadata::default();
            if no == 0 {
                for index in 0..self.whole.metadata().len() {
                    metadata.bytes.extend(self.whole.raw_metadata(index).unwrap());
                    metadata.count += 1;
                }
            }
            keys.iter().for_each(|(key, value)| metadata.push(key, value).unwrap());
            let each = tensors.len().div_ceil(usize::from(COUNT_OF_PARTS));
            let entries: Vec<Entry> = tensors
                .chunks(each)
                .nth(usize::from(no))
                .unwrap()
                .iter()
                .map(|tensor| Entry { name: tensor.name.clone(), shape: tensor.shape.clone(), kind: tensor.kind })
                .collect();
            write_entries(path, &metadata, &entries, &mut |index, sink| {
                sink.write(&self.whole.read_raw(&entries[index].name).unwrap())
            })
            .unwrap();
        }

        fn error(&self, no: u16) -> String {
            let error = GgufFile::open(&self.path(no)).unwrap_err().to_string();
            error.replace(&format!("{}/", self.dir.path().display()), "")
        }
    }

    #[test]
    fn any_part_opens_the_whole_model() {
        let place = Place::new();
        for no in 0..COUNT_OF_PARTS {
            let gguf = GgufFile::open(&place.path(no)).unwrap();
            assert_eq!(gguf.path(), place.path(0));
            assert_eq!(gguf.paths().count(), 3);
            assert_eq!(gguf.tensors().len(), place.whole.tensors().len());
            for tensor in place.whole.tensors() {
                assert_eq!(gguf.read_raw(&tensor.name).unwrap(), place.whole.read_raw(&tensor.name).unwrap());
            }
            assert_eq!(gguf.str("general.architecture").unwrap(), Some("llama"));
        }
        let gguf = GgufFile::open(&place.path(1)).unwrap();
        let lines: String = (0..3)
            .map(|no| {
                let name = format!("m-{:05}-of-00003.gguf", no + 1);
                format!("{}  {name}\n", sha256_hex(&std::fs::read(place.path(no)).unwrap()))
            })
            .collect();
        assert_eq!(gguf.sha256().unwrap(), sha256_hex(lines.as_bytes()));
        assert_eq!(place.whole.sha256().unwrap(), sha256_hex(&std::fs::read(place.whole.path()).unwrap()));
    }

    #[test]
    fn parts_become_the_folder_and_the_file_that_the_whole_becomes() {
        let place = Place::new();
        let parts = GgufFile::open(&place.path(2)).unwrap();
        let at = |name: &str| place.dir.path().join(name);
        gguf_to_hf(&place.whole, &at("a"), &mut |_, _| ()).unwrap();
        gguf_to_hf(&parts, &at("b"), &mut |_, _| ()).unwrap();
        let sha256 = |folder: &str| ModelDir::open(&at(folder)).unwrap().weights_sha256().unwrap();
        assert_eq!(sha256("a"), sha256("b"));
        for mix in [Mix::Q8_0, Mix::Q4_K_M] {
            quantize_gguf(&place.whole, &at("a.gguf"), mix, false, false, &mut |_, _| ()).unwrap();
            quantize_gguf(&parts, &at("b.gguf"), mix, false, false, &mut |_, _| ()).unwrap();
            assert!(std::fs::read(at("a.gguf")).unwrap() == std::fs::read(at("b.gguf")).unwrap(), "{mix}");
        }
        let before = std::fs::read(place.path(1)).unwrap();
        let over = quantize_gguf(&parts, &place.path(1), Mix::Q8_0, false, false, &mut |_, _| ()).unwrap_err();
        assert!(over.to_string().contains("would be overwritten by what is made of it"), "{over}");
        assert!(std::fs::read(place.path(1)).unwrap() == before);
        assert_eq!(
            GgufFile::open(&at("b.gguf")).unwrap().tensor("output_norm.weight").unwrap().kind,
            Format::F32.into()
        );
    }

    #[test]
    fn a_part_that_is_lost_renamed_or_another_models_is_named() {
        let place = Place::new();
        std::fs::rename(place.path(1), place.dir.path().join("aside")).unwrap();
        let expected = "`m-00001-of-00003.gguf` is one of 3 parts of a model, and `m-00002-of-00003.gguf` is not there";
        assert_eq!(place.error(0), expected);
        std::fs::copy(place.path(2), place.path(1)).unwrap();
        let expected = "`m-00002-of-00003.gguf` is no usable part of a model: it says that it is part 3";
        assert_eq!(place.error(0), expected);
        let expected = "`m-00002-of-00003.gguf` is no usable part of a model: it is part 3 of 3: expected a name that ends \
                        in `-00003-of-00003.gguf`";
        assert_eq!(place.error(1), expected);
        let whole = place.dir.path().join("whole.gguf");
        std::fs::copy(&whole, place.path(1)).unwrap();
        assert!(place.error(2).ends_with("expected one of 3 parts, found one of 1"), "{}", place.error(2));
        place.write_to(&place.dir.path().join("other.gguf"), 0, |_| ());
        let error = GgufFile::open(&place.dir.path().join("other.gguf")).unwrap_err().to_string();
        assert!(error.ends_with("it is part 1 of 3: expected a name that ends in `-00001-of-00003.gguf`"), "{error}");
    }

    #[test]
    fn numbers_of_parts_and_tensors_that_lie_are_refused() {
        let place = Place::new();
        let lie = |no: u16, index: usize, value: Value| {
            place.write(no, |keys| keys[index].1 = value);
            let error = place.error(0);
            place.write(no, |_| ());
            error
        };
        assert!(lie(1, 0, Value::U16(3)).ends_with("`split.no`: expected a number below 3, found 3"));
        assert!(lie(1, 0, Value::I32(-1)).contains("`split.no`: expected a number up to 65535"));
        assert!(lie(0, 1, Value::U64(u64::MAX)).contains("`split.count`: expected a number up to 65535"));
        assert!(lie(0, 1, Value::U16(65535)).contains("expected a name that ends in `-00001-of-65535.gguf`"));
        assert!(lie(2, 1, Value::U16(4)).ends_with("expected one of 3 parts, found one of 4"));
        assert!(lie(2, 2, Value::I32(7)).ends_with("expected 7 tensors in all parts, found 21"));
        assert!(lie(1, 2, Value::String("21".into())).contains("`split.tensors.count`: expected a number up to"));
        place.write(1, |keys| drop(keys.remove(0)));
        assert!(place.error(0).ends_with("has no `split.no`"));
        // The first part's tensors once more, as the second.
        place.write_to(&place.path(1), 0, |keys| keys[0].1 = Value::U16(1));
        let error = place.error(0);
        assert!(error.contains("`m-00002-of-00003.gguf` is no usable part of a model: tensor `"), "{error}");
        assert!(error.ends_with("` is in `m-00001-of-00003.gguf` too"), "{error}");
    }

    #[test]
    fn no_truncation_and_no_flipped_byte_of_a_part_panics() {
        let place = Place::new();
        let whole = std::fs::read(place.path(1)).unwrap();
        for length in (0..whole.len()).step_by(whole.len() / 60) {
            overwrite(&place.path(1), &whole[..length]);
            assert!(GgufFile::open(&place.path(0)).is_err(), "truncated at {length}");
        }
        for position in 0..1000 {
            let mut bytes = whole.clone();
            bytes[position] ^= 0xff;
            overwrite(&place.path(1), &bytes);
            if let Ok(gguf) = GgufFile::open(&place.path(0)) {
                for tensor in gguf.tensors() {
                    let _ = gguf.read_f32(&tensor.name);
                }
            }
        }
    }

    #[test]
    fn names_of_parts_are_told_from_others() {
        assert_eq!(cut_name("a-b-00002-of-00013.gguf"), Some(("a-b", "-00002-of-00013.gguf")));
        assert_eq!(cut_name("-00001-of-00001.gguf"), Some(("", "-00001-of-00001.gguf")));
        for name in
            ["a.gguf", "a-0001-of-00002.gguf", "a-00001-of-0000x.gguf", "ñ00001-of-00002.gguf", "", "ññññññññññ"]
        {
            assert_eq!(cut_name(name), None, "{name}");
        }
    }
}
