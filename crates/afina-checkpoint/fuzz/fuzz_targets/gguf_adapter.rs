//! Any bytes are llama.cpp's adapter on a base, which PEFT can have, or are refused.
#![no_main]

use afina_checkpoint::{AdapterKind, convert_adapter, inspect, read_adapter};
use afina_checkpoint_fuzz::{base, bounded, folder, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let folder = folder();
    let path = write(&folder, "x.gguf", input);
    let (peft, mlx) = (folder.join("peft"), folder.join("mlx"));
    bounded(input, 4 << 20, 128, || {
        let _ = inspect(&path);
        let Ok(report) = convert_adapter(&path, &peft, AdapterKind::Peft, None, Some(&base())) else { return };
        let (config, loras) = read_adapter(&peft).expect("what was written can be read");
        assert_eq!(loras.len(), report.modules);
        assert!(loras.iter().all(|lora| config.scaling(&lora.module).is_finite()));
        // What is not finite is refused here.
        let _ = convert_adapter(&path, &mlx, AdapterKind::Mlx, None, Some(&base()));
    });
});
