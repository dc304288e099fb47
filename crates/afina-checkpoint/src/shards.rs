//! The weights of a model folder, written: one file, or several of a bounded size with their index.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::atomic::write_file;
use crate::free_space::require;
use crate::model_dir::{ModelDir, WEIGHTS, WEIGHTS_INDEX};
use crate::safetensors::{AnyError, WriteError, write_safetensors};
use crate::tensor::{RawTensor, TensorInfo};

/// The most bytes of tensors in a file, where nobody asks for another number: huggingface_hub's.
pub const SHARD_SIZE: u64 = 5_000_000_000;

/// model.safetensors.index.json, as transformers writes it.
#[derive(Serialize)]
struct Index<'a> {
    metadata: Sizes,
    weight_map: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct Sizes {
    total_parameters: u64,
    total_size: u64,
}

/// Writes the weights of a model into `folder`, asking `next` for one tensor after the other, by name; at most one is held.
///
/// Where they take more than `shard_size` bytes they go into several files, cut where huggingface_hub cuts them. After an
/// error there is none of them. A disk that has no room for all is refused before the first byte.
pub fn write_weights(
    folder: &Path,
    infos: &[TensorInfo],
    shard_size: u64,
    next: &mut dyn FnMut(&str) -> Result<RawTensor, AnyError>,
) -> Result<(), WriteError> {
    let total_size = infos.iter().map(TensorInfo::bytes).fold(0, u64::saturating_add);
    require(folder, total_size).map_err(|source| WriteError::Io { path: folder.into(), source })?;

    let shards = split(infos, shard_size);
    let names = file_names(shards.len());
    let mut written = Written::default();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    for (name, shard) in names.iter().zip(&shards) {
        let path = folder.join(name);
        write_safetensors(&path, shard, &metadata, next)?;
        written.0.push(path);
    }
    if shards.len() > 1 {
        let files = names.iter().zip(&shards);
        let weight_map = files.flat_map(|(file, shard)| shard.iter().map(|info| (info.name.as_str(), file.as_str())));
        let total_parameters = infos.iter().map(|info| info.elements().unwrap_or(0) as u64).sum();
        let index = Index { metadata: Sizes { total_parameters, total_size }, weight_map: weight_map.collect() };
        let mut json = serde_json::to_vec_pretty(&index).expect("names and numbers are JSON");
        json.push(b'\n');
        let path = folder.join(WEIGHTS_INDEX);
        write_file(&path, &json).map_err(|source| WriteError::Io { path, source })?;
    }
    written.0.clear();
    Ok(())
}

/// The tensors of each file, in their order.
///
/// Source: huggingface_hub's `split_state_dict_into_shards_factory`: a file is full where the next tensor would lead beyond
/// the size, and a tensor beyond the size by itself is a file of its own, before the one that was being filled.
fn split(infos: &[TensorInfo], shard_size: u64) -> Vec<Vec<TensorInfo>> {
    let mut shards = Vec::new();
    let (mut current, mut current_size) = (Vec::new(), 0);
    for info in infos {
        let size = info.bytes();
        if size > shard_size {
            shards.push(vec![info.clone()]);
            continue;
        }
        if current_size + size > shard_size {
            shards.push(std::mem::take(&mut current));
            current_size = 0;
        }
        current.push(info.clone());
        current_size += size;
    }
    if !current.is_empty() || shards.is_empty() {
        shards.push(current);
    }
    shards
}

/// Whether a folder's tensors lie in the files that [`write_weights`] would put them into.
pub(crate) fn is_cut(model: &ModelDir, shard_size: u64) -> bool {
    let shards = split(&model.infos(), shard_size);
    let names = file_names(shards.len());
    let lies_in = |info: &TensorInfo, name: &str| model.weight_file(&info.name) == Some(name);
    names.iter().zip(&shards).all(|(name, shard)| shard.iter().all(|info| lies_in(info, name)))
}

fn file_names(count: usize) -> Vec<String> {
    match count {
        1 => vec![WEIGHTS.to_owned()],
        _ => (1..=count).map(|number| format!("model-{number:05}-of-{count:05}.safetensors")).collect(),
    }
}

/// Files that are removed unless this is emptied.
#[derive(Default)]
struct Written(Vec<PathBuf>);

impl Drop for Written {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Dtype;
    use crate::testing::tiny_model;

    /// Files as lists of sizes, of tensors of so many bytes each.
    fn cut(sizes: &[usize], shard_size: u64) -> Vec<Vec<u64>> {
        let infos: Vec<TensorInfo> = sizes
            .iter()
            .enumerate()
            .map(|(index, size)| TensorInfo { name: index.to_string(), dtype: Dtype::U8, shape: vec![*size] })
            .collect();
        split(&infos, shard_size).iter().map(|shard| shard.iter().map(TensorInfo::bytes).collect()).collect()
    }

    /// Expected: what huggingface_hub 2.4.0 does with the same sizes; the first is its own example.
    #[test]
    fn files_are_cut_where_huggingface_hub_cuts_them() {
        for (sizes, shard_size, expected) in [
            (&[6, 6, 2, 6, 2, 2][..], 10, vec![vec![6], vec![6, 2], vec![6, 2, 2]]),
            (&[3, 11, 4, 5], 10, vec![vec![11], vec![3, 4], vec![5]]),
            (&[11, 3], 10, vec![vec![11], vec![3]]),
            (&[5, 5], 10, vec![vec![5, 5]]),
            (&[11], 10, vec![vec![11]]),
            (&[2, 2], 1, vec![vec![2], vec![2]]),
            (&[], 10, vec![vec![]]),
        ] {
            assert_eq!(cut(sizes, shard_size), expected, "{sizes:?} in {shard_size}");
        }
    }

    fn copy(model: &ModelDir, to: &Path, shard_size: u64, fails_at: usize) -> Result<(), WriteError> {
        let infos: Vec<_> = model.tensor_names().iter().map(|name| model.info(name).unwrap().clone()).collect();
        let mut calls = 0;
        write_weights(to, &infos, shard_size, &mut |name| {
            calls += 1;
            if calls == fails_at { Err("no".into()) } else { Ok(model.tensor(name)?) }
        })
    }

    #[test]
    fn what_is_written_in_several_files_reads_as_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, to) = (dir.path().join("whole"), dir.path().join("to"));
        tiny_model(&whole, false);
        fs::create_dir(&to).unwrap();
        fs::copy(whole.join("config.json"), to.join("config.json")).unwrap();
        let model = ModelDir::open(&whole).unwrap();
        copy(&model, &to, 100_000, 0).unwrap();
        let sharded = ModelDir::open(&to).unwrap();
        let files: Vec<_> = sharded.weight_files().collect();
        assert_eq!(files.len(), 5);
        assert_eq!(files[0], "model-00001-of-00005.safetensors");
        assert!(is_cut(&sharded, 100_000) && !is_cut(&sharded, SHARD_SIZE) && !is_cut(&model, 100_000));
        for name in model.tensor_names() {
            assert_eq!(sharded.tensor(name).unwrap(), model.tensor(name).unwrap());
        }
        let index = fs::read_to_string(to.join(WEIGHTS_INDEX)).unwrap();
        let start = "{\n  \"metadata\": {\n    \"total_parameters\": 102720,\n    \"total_size\": 410880\n  },\n  \
                     \"weight_map\": {\n    \"lm_head.weight\": \"model-00005-of-00005.safetensors\",\n";
        assert!(index.starts_with(start) && index.ends_with("\"\n  }\n}\n"), "{index}");
    }

    #[test]
    fn a_tensor_that_cannot_be_made_leaves_no_file_of_any_shard() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, to) = (dir.path().join("whole"), dir.path().join("to"));
        tiny_model(&whole, false);
        fs::create_dir(&to).unwrap();
        let model = ModelDir::open(&whole).unwrap();
        for fails_at in [1, 10, 21] {
            let error = copy(&model, &to, 100_000, fails_at).unwrap_err().to_string();
            assert!(error.starts_with("failed to make tensor"), "{error}");
            assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_model_that_fits_is_one_file_without_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, to) = (dir.path().join("whole"), dir.path().join("to"));
        tiny_model(&whole, true);
        fs::create_dir(&to).unwrap();
        copy(&ModelDir::open(&whole).unwrap(), &to, SHARD_SIZE, 0).unwrap();
        let names: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [WEIGHTS]);
    }

    #[test]
    #[cfg(unix)]
    fn a_disk_without_room_for_all_is_refused_before_the_first_tensor() {
        let dir = tempfile::tempdir().unwrap();
        let info = TensorInfo { name: "w".into(), dtype: Dtype::F32, shape: vec![1 << 60] };
        let error = write_weights(dir.path(), &[info], SHARD_SIZE, &mut |_| panic!("asked")).unwrap_err();
        let WriteError::Io { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
        assert!(source.to_string().starts_with("4611686018.43 GB are needed, "), "{source}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
