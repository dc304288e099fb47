//! The tensors of a folder as they lie in its safetensors files, whatever they are parts of.

use std::collections::HashMap;

use crate::safetensors::{ReadError, SafetensorsFile};
use crate::tensor::{RawTensor, TensorInfo};

/// Open safetensors files that go together, and which of them holds each tensor.
#[derive(Debug)]
pub(crate) struct StoredTensors {
    pub files: Vec<(String, SafetensorsFile)>,
    places: HashMap<String, usize>,
}

impl StoredTensors {
    pub(crate) fn new(files: Vec<(String, SafetensorsFile)>) -> StoredTensors {
        let mut places = HashMap::new();
        for (index, (_, file)) in files.iter().enumerate() {
            places.extend(file.names().iter().map(|name| (name.clone(), index)));
        }
        StoredTensors { files, places }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.places.keys()
    }

    pub(crate) fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.file_of(name)?.info(name)
    }

    /// The file that has a tensor of this name.
    pub(crate) fn file_of(&self, name: &str) -> Option<&SafetensorsFile> {
        Some(&self.files[*self.places.get(name)?].1)
    }

    /// The name of that file.
    pub(crate) fn name_of_file(&self, name: &str) -> Option<&str> {
        Some(&self.files[*self.places.get(name)?].0)
    }

    /// `None` if no file has a tensor of this name.
    pub(crate) fn read(&self, name: &str) -> Option<Result<RawTensor, ReadError>> {
        Some(self.file_of(name)?.read(name))
    }
}
