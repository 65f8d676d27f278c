//! Kernels for x86-64 with AVX-512.
//!
//! A row becomes one or two registers of ranks. A tree of depth 6 becomes 64 slots: which column each split looks at,
//! and the rank from which it goes right. One permutation fetches every split's rank and one comparison decides all
//! splits of a tree; shallower trees share a comparison. The way through a tree is then read off the comparison's mask,
//! for 16 rows of a batch (or 16 trees of a row) at a time.
//!
//! All unsafe code of the crate is in the modules below: loads and stores through references of the right size,
//! and calls that need CPU features which an [`Avx512`] or [`Vbmi`] proves.

mod bytes;
mod cpu;
mod packed;
mod search;
mod walk;
mod words;

pub(crate) use self::{
    cpu::{Avx512, Vbmi},
    packed::{DEPTH_MAX, Packed},
    walk::LANES,
};
