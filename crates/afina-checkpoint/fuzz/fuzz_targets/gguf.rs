//! Any bytes are a GGUF file whose every tensor can be read, or are refused; what becomes a model folder can be opened as one.
#![no_main]

use afina_checkpoint::gguf::{Vocabulary, config_from_gguf, gguf_to_hf};
use afina_checkpoint::{GgufFile, ModelDir};
use afina_checkpoint_fuzz::{bounded, folder, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let folder = folder();
    let path = write(&folder, "x.gguf", input);
    // A value of an array takes 32 bytes in memory and one in the file, and twice that while the array grows.
    bounded(input, 24 << 20, 128, || {
        let Ok(gguf) = GgufFile::open(&path) else { return };
        for tensor in gguf.tensors() {
            let bytes = gguf.read_raw(&tensor.name).expect("its place has been checked");
            assert!(bytes.len() <= input.len());
            let values = gguf.read_f32(&tensor.name);
            assert_eq!(values.is_ok(), tensor.kind.format().is_some(), "{}", tensor.name);
        }
        let _ = Vocabulary::from_gguf(&gguf);
        let _ = config_from_gguf(&gguf);
        let to = folder.join("model");
        if gguf_to_hf(&gguf, &to, &mut |_, _| ()).is_ok() {
            let model = ModelDir::open(&to).expect("what was converted is a model folder");
            assert_eq!(model.config, config_from_gguf(&gguf).expect("it was read before"));
        }
    });
});
