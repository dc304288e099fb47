//! For tests: the device they run on.

use burn::tensor::Device;

/// The CPU, or what `AFINA_TEST_DEVICE` names (`cuda:0`), so that the same tests run on a GPU.
///
/// # Panics
/// On a name that no backend of this build answers to.
#[doc(hidden)]
pub fn test_device() -> Device {
    match std::env::var("AFINA_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => Device::flex(),
        #[cfg(feature = "cuda")]
        Ok(name) if name.starts_with("cuda") => {
            Device::cuda(name.strip_prefix("cuda:").and_then(|n| n.parse::<usize>().ok()).unwrap_or(0))
        }
        Ok(other) => panic!("AFINA_TEST_DEVICE={other}: no such device in this build"),
    }
}
