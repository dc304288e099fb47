//! What the processor can.
//!
//! A kernel is written once over [`Simd`] and compiled for each level; which one runs is decided when it is called.

use crate::simd::{Portable, Simd};
#[cfg(target_arch = "x86_64")]
use crate::x86::{Avx2, Avx512};

/// The vector instructions that kernels may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpu {
    /// What every processor has.
    Portable,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 F, BW, VL.
    Avx512,
    /// AVX-512 with `vdpbf16ps`: products of bf16 pairs.
    Avx512Bf16,
}

impl Cpu {
    /// The best level of this processor.
    pub fn detect() -> Cpu {
        *Cpu::available().last().expect("the portable level is always there")
    }

    /// The levels of this processor, ascending.
    pub fn available() -> Vec<Cpu> {
        #[allow(unused_mut)]
        let mut levels = vec![Cpu::Portable];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            levels.push(Cpu::Avx2);
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
            {
                levels.push(Cpu::Avx512);
                if is_x86_feature_detected!("avx512bf16") {
                    levels.push(Cpu::Avx512Bf16);
                }
            }
        }
        levels
    }

    /// Whether a product with a bf16 matrix rounds what it multiplies to bf16 as well, into a copy.
    pub fn rounds_activations(self) -> bool {
        self == Cpu::Avx512Bf16
    }
}

/// A piece of work for one thread. `run` must be `#[inline(always)]`, and so all it calls: only so is it compiled for the level.
pub(crate) trait Kernel {
    type Output;
    fn run<S: Simd>(self) -> Self::Output;
}

/// Runs a kernel at a level.
pub(crate) fn run<K: Kernel>(cpu: Cpu, kernel: K) -> K::Output {
    match cpu {
        Cpu::Portable => kernel.run::<Portable>(),
        // SAFETY: a level comes from `available`, which asked the processor.
        #[cfg(target_arch = "x86_64")]
        Cpu::Avx2 => unsafe { run_avx2(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Cpu::Avx512 => unsafe { run_avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Cpu::Avx512Bf16 => unsafe { run_avx512_bf16(kernel) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => kernel.run::<Portable>(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512<false>>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma")]
unsafe fn run_avx512_bf16<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512<true>>()
}
