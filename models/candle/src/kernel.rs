//! Layers on channels-last activations, in variants for the CPU's registers.
//!
//! Bodies are written once over arrays of lanes, which the compiler turns into whatever registers the variant may use.
//! Only the matrix product has a hand-written variant; elsewhere it is the `gemm` crate's.

mod block;
mod cpu;
mod depthwise;
mod elementwise;
mod gelu;
mod lanes;
mod linear;
mod norm;
#[cfg(target_arch = "x86_64")]
mod packed;
#[cfg(test)]
mod tests;

pub(crate) use block::{Block, Downsample};
pub use cpu::Kernel;
pub(crate) use linear::{Linear, Store};
pub(crate) use norm::Norm;

/// Rows, columns and channels of an image between layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) channels: usize,
}

// === impl Geometry ===

impl Geometry {
    pub(crate) fn pixels(self) -> usize {
        self.rows * self.columns
    }

    pub(crate) fn len(self) -> usize {
        self.pixels() * self.channels
    }
}
