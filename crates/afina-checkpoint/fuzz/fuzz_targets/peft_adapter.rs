//! Whatever PEFT's two files hold, they are an adapter, or are refused; what is read can be written, and reads back as the same.
#![no_main]

use afina_checkpoint::{Adapter, read_adapter, write_adapter};
use afina_checkpoint_fuzz::{bounded, files, folder, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let folder = folder();
    let [config, weights] = files(input);
    write(&folder, "adapter_config.json", config);
    write(&folder, "adapter_model.safetensors", weights);
    // Expressions that are compiled take up to 4 MiB, and what compiles them some more.
    let read = bounded(input, 32 << 20, 64, || Adapter::open(&folder));
    let Ok(adapter) = read else { return };
    for (name, info) in adapter.whole_tensors() {
        let tensor = adapter.whole_tensor(name).expect("it lies in the file").expect("it is listed");
        assert_eq!((&tensor.shape, tensor.dtype), (&info.shape, info.dtype));
    }
    // A plain LoRA is what more than `merge` can use.
    let Ok((config, adapters)) = read_adapter(&folder) else { return };
    for lora in &adapters {
        assert_eq!(config.rank(&lora.module), lora.a.shape[0]);
        assert!(!config.scaling(&lora.module).is_nan());
    }
    let copy = folder.join("copy");
    write_adapter(&copy, &config, &adapters).expect("what was read can be written");
    let (config_again, again) = read_adapter(&copy).expect("what was written can be read");
    assert_eq!(config_again, config);
    assert_eq!(again.len(), adapters.len());
    for (one, other) in again.iter().zip(&adapters) {
        assert_eq!((&one.module, &one.a.bytes, &one.b.bytes), (&other.module, &other.a.bytes, &other.b.bytes));
    }
});
