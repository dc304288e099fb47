//! Whatever mlx-lm's two files hold, they are an adapter that PEFT can have, or are refused.
#![no_main]

use afina_checkpoint::{AdapterKind, convert_adapter, read_adapter};
use afina_checkpoint_fuzz::{base, bounded, files, folder, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let folder = folder();
    let [config, weights] = files(input);
    write(&folder, "adapter_config.json", config);
    write(&folder, "adapters.safetensors", weights);
    let (peft, file) = (folder.join("peft"), folder.join("x.gguf"));
    bounded(input, 4 << 20, 64, || {
        let Ok(report) = convert_adapter(&folder, &peft, AdapterKind::Peft, None, None) else { return };
        let (config, loras) = read_adapter(&peft).expect("what was written can be read");
        assert_eq!(loras.len(), report.modules);
        assert!(loras.iter().all(|lora| config.scaling(&lora.module).is_finite()));
        // What is not finite, or fits no base, is refused here.
        let _ = convert_adapter(&peft, &file, AdapterKind::GgufLora, None, Some(&base()));
    });
});
