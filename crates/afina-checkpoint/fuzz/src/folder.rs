//! Files made of an input, in a folder of this process, and the model that the adapters among them are for.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use afina_checkpoint::LlamaConfig;

/// What lies between two files in an input.
const CUT: &[u8] = b"\n%%\n";

/// The input cut into `N` files; those that it has not are empty.
pub fn files<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut files = [&input[..0]; N];
    let mut rest = input;
    for (index, file) in files.iter_mut().enumerate() {
        let end = rest.windows(CUT.len()).position(|bytes| bytes == CUT).filter(|_| index + 1 < N);
        let (head, tail) = rest.split_at(end.unwrap_or(rest.len()));
        *file = head;
        rest = tail.get(CUT.len()..).unwrap_or(&[]);
    }
    files
}

/// A folder of this process in the system's temporary one, where nothing is of the input before.
pub fn folder() -> PathBuf {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    let root = ROOT.get_or_init(|| std::env::temp_dir().join(format!("afina-fuzz-{}", std::process::id())));
    if let Err(error) = fs::remove_dir_all(root) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "the folder is this process's own");
    }
    let folder = root.join("input");
    fs::create_dir_all(&folder).expect("the temporary folder can be written to");
    folder
}

/// Writes a file of the folder, unless it is empty.
pub fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    if !bytes.is_empty() {
        File::create(&path).and_then(|mut file| file.write_all(bytes)).expect("the temporary folder can be written to");
    }
    path
}

/// The model that the adapters of the seeds are for.
pub fn base() -> LlamaConfig {
    LlamaConfig {
        hidden_size: 4,
        intermediate_size: 2,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 2,
        vocab_size: 6,
        max_position_embeddings: 2048,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_id: vec![2],
    }
}
