//! `model.safetensors.index.json`: which shard each tensor of a model lies in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::model_dir::ModelDirError;
use crate::safetensors::SafetensorsFile;

/// The index of a model whose weights lie in several files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShardIndex {
    path: PathBuf,
    /// Tensor → the name of its file.
    weight_map: BTreeMap<String, String>,
}

impl ShardIndex {
    /// Reads an index whose shards all lie beside it.
    pub(crate) fn read(path: &Path) -> Result<ShardIndex, ModelDirError> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let json = crate::model_dir::read_json(path)?;
        let index = Index::deserialize(json).map_err(|source| ModelDirError::Json { path: path.into(), source })?;
        if let Some(shard) = index.weight_map.values().find(|shard| !is_plain_name(shard)) {
            return Err(ModelDirError::Shard { path: path.into(), shard: shard.clone() });
        }
        Ok(ShardIndex { path: path.into(), weight_map: index.weight_map })
    }

    /// The names of the shards, each once, in order.
    pub(crate) fn shards(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }

    pub(crate) fn has(&self, tensor: &str) -> bool {
        self.weight_map.contains_key(tensor)
    }

    /// Opens every shard, and compares the tensors of each with the index.
    pub(crate) fn open_shards(&self) -> Result<Vec<(String, SafetensorsFile)>, ModelDirError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let shards = self.shards();
        // All of them before the first is opened: a folder of which a shard is missing is told as that, whatever else it is.
        if let Some(shard) = shards.iter().find(|shard| !folder.join(shard).is_file()) {
            return Err(ModelDirError::MissingShard { path: self.path.clone(), shard: (*shard).to_owned() });
        }
        let mut files = Vec::with_capacity(shards.len());
        let mut seen: HashMap<String, String> = HashMap::new();
        for shard in shards {
            let file = SafetensorsFile::open(&folder.join(shard))?;
            for name in file.names() {
                if let Some(other) = seen.insert(name.clone(), shard.to_owned()) {
                    let shards = [other, shard.to_owned()];
                    return Err(ModelDirError::InTwoShards { name: name.clone(), shards });
                }
            }
            files.push((shard.to_owned(), file));
        }
        for (name, shard) in &self.weight_map {
            let found = seen.get(name);
            if found != Some(shard) {
                return Err(ModelDirError::NotInShard {
                    path: self.path.clone(),
                    name: name.clone(),
                    shard: shard.clone(),
                    found: found.map(|shard| shard.as_str().into()),
                });
            }
        }
        Ok(files)
    }
}

/// A name that stays inside its folder on every system.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0'])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::atomic::write_file;
    use crate::model_dir::{ModelDir, WEIGHTS_INDEX};
    use crate::safetensors::write_tensors;
    use crate::testing::{shard, tiny_model};

    const FIRST: &str = "model-00001-of-00002.safetensors";
    const SECOND: &str = "model-00002-of-00002.safetensors";
    const NORM: &str = "model.norm.weight";

    struct Sharded {
        dir: tempfile::TempDir,
    }

    impl Sharded {
        fn new() -> Sharded {
            let dir = tempfile::tempdir().unwrap();
            tiny_model(dir.path(), false);
            shard(dir.path(), 2);
            Sharded { dir }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn change_index(&self, change: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) {
            let path = self.path(WEIGHTS_INDEX);
            let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            change(index["weight_map"].as_object_mut().unwrap());
            write_file(&path, index.to_string().as_bytes()).unwrap();
        }

        /// Rewrites a shard with its tensors changed.
        fn change_shard(&self, name: &str, change: impl FnOnce(&mut Vec<crate::RawTensor>)) {
            let file = SafetensorsFile::open(&self.path(name)).unwrap();
            let mut tensors: Vec<_> = file.names().iter().map(|name| file.read(name).unwrap()).collect();
            change(&mut tensors);
            write_tensors(&self.path(name), &tensors).unwrap();
        }

        fn error(&self) -> String {
            let error = ModelDir::open(self.dir.path()).unwrap_err().to_string();
            error
                .replace(&format!("{}/", self.dir.path().display()), "")
                .replace(&*self.dir.path().to_string_lossy(), ".")
        }
    }

    #[test]
    fn shards_give_the_tensors_of_the_whole_and_its_name_to_each() {
        let whole = tempfile::tempdir().unwrap();
        tiny_model(whole.path(), false);
        let (whole, place) = (ModelDir::open(whole.path()).unwrap(), Sharded::new());
        let sharded = ModelDir::open(place.dir.path()).unwrap();
        assert_eq!(sharded.weight_files().collect::<Vec<_>>(), [FIRST, SECOND]);
        for name in whole.tensor_names() {
            assert_eq!(sharded.tensor(name).unwrap(), whole.tensor(name).unwrap());
        }
    }

    #[test]
    fn a_lost_shard_is_named() {
        let place = Sharded::new();
        fs::remove_file(place.path(SECOND)).unwrap();
        assert_eq!(place.error(), format!("`{WEIGHTS_INDEX}` names the shard `{SECOND}`, which is not there"));
    }

    #[test]
    fn a_tensor_in_two_shards_is_refused() {
        let place = Sharded::new();
        let norm = SafetensorsFile::open(&place.path(SECOND)).unwrap().read(NORM).unwrap();
        place.change_shard(FIRST, |tensors| tensors.push(norm));
        assert_eq!(place.error(), format!("tensor `{NORM}` is in two shards: `{FIRST}` and `{SECOND}`"));
    }

    #[test]
    fn a_tensor_in_no_shard_or_in_another_is_refused() {
        let place = Sharded::new();
        place.change_index(|map| map[NORM] = json!(FIRST));
        let expected = format!("`{WEIGHTS_INDEX}`: tensor `{NORM}`: expected in `{FIRST}`, found in `{SECOND}`");
        assert_eq!(place.error(), expected);
        place.change_shard(SECOND, |tensors| tensors.retain(|tensor| tensor.name != NORM));
        let expected = format!("`{WEIGHTS_INDEX}`: tensor `{NORM}`: expected in `{FIRST}`, found in no shard");
        assert_eq!(place.error(), expected);
        place.change_index(|map| {
            map.remove(NORM);
        });
        assert_eq!(place.error(), format!("tensor `{NORM}` is in no weights file of `.`"));
    }

    #[test]
    fn a_tensor_more_is_refused_listed_or_not() {
        let place = Sharded::new();
        let extra = crate::RawTensor::from_f32("model.layers.9.mlp.up_proj.weight", vec![1], &[1.0]);
        place.change_shard(SECOND, |tensors| tensors.push(extra));
        let expected = "tensor `model.layers.9.mlp.up_proj.weight` is not one of a Llama model of 2 layers";
        assert_eq!(place.error(), expected);
        place.change_index(|map| {
            map.insert("model.layers.9.mlp.up_proj.weight".into(), json!(SECOND));
        });
        assert_eq!(place.error(), expected);
    }

    #[test]
    fn names_that_lead_out_of_the_folder_are_refused() {
        for shard in ["../elsewhere.safetensors", "/etc/passwd", "a/b.safetensors", "..\\x", "C:x", ".hidden", ""] {
            let place = Sharded::new();
            place.change_index(|map| map[NORM] = json!(shard));
            let expected = format!("`{WEIGHTS_INDEX}` names the shard `{shard}`, which is not a plain file name");
            assert_eq!(place.error(), expected);
        }
    }
}
