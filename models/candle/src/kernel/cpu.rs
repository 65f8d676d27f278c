//! Which variant a CPU can run, and how code is compiled for it.

#![allow(unsafe_code)]

/// A variant of the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Variant);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

/// Proof that the CPU has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx2(());

/// Proof that the CPU has AVX-512 F, and FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx512(());

/// Code that is compiled for each variant.
pub(super) trait Work {
    /// What it gives.
    type Output;

    /// Does it; `FUSED` when the variant multiplies and adds in one instruction. To be `#[inline(always)]`.
    fn run<const FUSED: bool>(self) -> Self::Output;
}

/// Whether the target always has fused instructions.
const PORTABLE_FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

// === impl Kernel ===

impl Kernel {
    /// The best one of this CPU.
    #[must_use]
    pub fn best() -> Kernel {
        Kernel::all().pop().unwrap_or(Kernel(Variant::Portable))
    }

    /// All that this CPU can run, from the plainest to the best.
    #[must_use]
    pub fn all() -> Vec<Kernel> {
        let mut kernels = vec![Kernel(Variant::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") {
                kernels.push(Kernel(Variant::Avx2(Avx2(()))));
                if has!("avx512f") {
                    kernels.push(Kernel(Variant::Avx512(Avx512(()))));
                }
            }
        }
        kernels
    }

    /// Its name, for operators.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Variant::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Variant::Avx2(_) => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Variant::Avx512(_) => "AVX-512",
        }
    }

    pub(super) fn variant(self) -> Variant {
        self.0
    }

    /// Does some work in this variant.
    pub(super) fn run<W: Work>(self, work: W) -> W::Output {
        match self.0 {
            Variant::Portable => work.run::<PORTABLE_FUSED>(),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the variant's proof says that the CPU has the features.
            Variant::Avx2(_) => unsafe { avx2(work) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the variant's proof says that the CPU has the features.
            Variant::Avx512(_) => unsafe { avx512(work) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<W: Work>(work: W) -> W::Output {
    work.run::<true>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn avx512<W: Work>(work: W) -> W::Output {
    work.run::<true>()
}
