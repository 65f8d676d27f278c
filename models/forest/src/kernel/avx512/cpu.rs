//! Proofs that the CPU can run these kernels.

use std::arch::is_x86_feature_detected;

/// Proof of AVX-512 F, BW, DQ and POPCNT. Only [`Avx512::detect`] makes one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

/// Proof of AVX-512 VBMI on top. Only [`Vbmi::detect`] makes one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vbmi(Avx512);

// === impl Avx512 ===

impl Avx512 {
    /// The proof, on a CPU that has the features.
    pub(crate) fn detect() -> Option<Avx512> {
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("popcnt"))
        .then_some(Avx512(()))
    }
}

// === impl Vbmi ===

impl Vbmi {
    /// The proof, on a CPU that has the features.
    pub(crate) fn detect() -> Option<Vbmi> {
        let avx512 = Avx512::detect()?;
        is_x86_feature_detected!("avx512vbmi").then_some(Vbmi(avx512))
    }

    /// The weaker proof.
    pub(super) fn avx512(self) -> Avx512 {
        self.0
    }
}
