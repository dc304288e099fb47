//! From a word to a device: the only place where one is made.

use anyhow::Result;
use burn::tensor::Device;

use crate::Usage;

/// `auto`, `cpu`, `cuda[:N]` or `wgpu[:N]`.
pub fn device(name: &str) -> Result<Device> {
    let (kind, index) = match name.split_once(':') {
        None => (name, 0),
        Some((kind, index)) => match index.parse::<usize>() {
            Ok(index) => (kind, index),
            Err(_) => {
                return Err(Usage::error(
                    format!("device `{name}`: expected a number after the colon, found `{index}`"),
                    "as in cuda:0",
                ));
            }
        },
    };
    match kind {
        "auto" | "cpu" => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(index)),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(burn::tensor::DeviceKind::DiscreteGpu(index))),
        "cuda" | "wgpu" => {
            let _ = index;
            Err(Usage::error(
                format!("device `{name}`: this build has no `{kind}`"),
                format!("build it with `cargo build --release --features {kind}`"),
            ))
        }
        _ => Err(Usage::error(format!("unknown device `{name}`"), "expected cpu, cuda[:N] or wgpu[:N]")),
    }
}
