//! Any bytes are a safetensors file whose every tensor can be read, or are refused.
#![no_main]

use afina_checkpoint::SafetensorsFile;
use afina_checkpoint_fuzz::{bounded, folder, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let path = write(&folder(), "x.safetensors", input);
    bounded(input, 64 << 10, 64, || {
        let Ok(file) = SafetensorsFile::open(&path) else { return };
        let mut bytes = 0;
        for name in file.names() {
            let tensor = file.read(name).expect("its place has been checked");
            assert_eq!(file.info(name), Some(&tensor.info()));
            bytes += tensor.bytes.len();
            let _ = tensor.to_f32();
        }
        assert!(bytes <= input.len(), "no byte is in two tensors");
    });
});
