//! Whatever config.json, generation_config.json, the shard index and two weights files hold, they are a model whose every
//! tensor can be read, or are refused; quantized ones by the tensor.
#![no_main]

use afina_checkpoint::ModelDir;
use afina_checkpoint_fuzz::{bounded, files, folder, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let folder = folder();
    let [config, generation, index, first, second] = files(input);
    write(&folder, "config.json", config);
    write(&folder, "generation_config.json", generation);
    write(&folder, "model.safetensors.index.json", index);
    write(&folder, if index.is_empty() { "model.safetensors" } else { "a.safetensors" }, first);
    write(&folder, "b.safetensors", second);
    // The names of 4096 layers, the most that a config may ask for, are as many bytes whatever the input.
    bounded(input, 16 << 20, 64, || {
        let Ok(model) = ModelDir::open(&folder) else { return };
        for name in model.tensor_names() {
            match model.tensor(name) {
                Ok(tensor) => assert_eq!(model.info(name), Some(&tensor.info())),
                // What quantized parts hold is seen when they are decoded; of others all is known.
                Err(error) => assert!(model.quantization().is_some(), "{error}"),
            }
        }
        model.eos_token_ids();
        assert!(model.origin().expect("it has no manifest").is_none());
    });
});
