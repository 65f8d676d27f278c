//! Kernels: ways of running a forest that give the same sums, bit for bit.
//!
//! A kernel packs trees of moderate depth into complete trees, which need no branches; deeper trees are walked.
//! Trees of a group are added in the file's order whatever runs them, for float addition is not associative.

use std::{fmt, ops::Range, sync::Arc};

use self::layout::{Run, Trees};
use crate::forest::Forest;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod complete;
mod layout;
pub(crate) mod portable;
#[cfg(target_arch = "x86_64")]
mod ranks;
#[cfg(test)]
mod tests;

pub(crate) use self::{layout::Layout, portable::Portable};

/// A way of running a forest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernel {
    /// Plain Rust: complete trees, eight interleaved, no branches. Runs everywhere.
    Portable,
    /// AVX-512 with 16-bit ranks: two comparisons evaluate all splits of a tree.
    Words,
    /// AVX-512 VBMI with 8-bit ranks: one comparison evaluates all splits of a tree.
    Bytes,
}

/// Trees packed for a kernel.
pub(crate) trait Pack: Send + Sync + Sized + 'static {
    /// Which kernel this is.
    const KERNEL: Kernel;

    /// Rows that are quantised and run together: their quantised values stay in the first-level cache.
    const BLOCK_ROWS: usize;

    /// Fewest rows for which [`Pack::add_rows`] beats as many [`Pack::add_row`].
    const ROWS_MIN: usize;

    /// Buffers of one instance, allocated once.
    type Scratch: Send;

    /// Buffers for up to [`Pack::BLOCK_ROWS`] rows.
    fn scratch(&self) -> Self::Scratch;

    /// Quantises up to [`Pack::BLOCK_ROWS`] rows of `columns` values.
    fn quantise(&self, rows: &[f32], columns: usize, scratch: &mut Self::Scratch);

    /// Adds the leaves of some packed trees to the sum of the `row`-th quantised row.
    fn add_row(&self, trees: Range<usize>, row: usize, scratch: &mut Self::Scratch, sum: f32) -> f32;

    /// Adds the leaves of some packed trees to the sums of the first quantised rows.
    fn add_rows(&self, trees: Range<usize>, scratch: &mut Self::Scratch, sums: &mut [f32]);
}

/// A forest made ready for a kernel.
pub(crate) struct Program<P> {
    forest: Arc<Forest>,
    pack: P,
    layout: Arc<Layout>,
}

/// Buffers of one instance.
pub(crate) struct Scratch<S> {
    pack: S,
    sums: Vec<f32>,
}

// === impl Kernel ===

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kernel::Portable => "portable",
            Kernel::Words => "AVX-512 16 bit",
            Kernel::Bytes => "AVX-512 VBMI 8 bit",
        })
    }
}

// === impl Program ===

impl<P: Pack> Program<P> {
    /// Makes a forest ready: `pack` holds the packed trees of the layout.
    pub(crate) fn new(forest: Arc<Forest>, pack: P, layout: Arc<Layout>) -> Program<P> {
        Program { forest, pack, layout }
    }

    pub(crate) fn forest(&self) -> &Forest {
        &self.forest
    }

    pub(crate) fn scratch(&self) -> Scratch<P::Scratch> {
        Scratch { pack: self.pack.scratch(), sums: vec![0.0; P::BLOCK_ROWS] }
    }

    /// Margins `[rows, groups]` of rows `[rows, columns]`.
    pub(crate) fn margins(&self, rows: &[f32], scratch: &mut Scratch<P::Scratch>, margins: &mut [f32]) {
        let Forest { columns, groups, .. } = *self.forest;
        debug_assert_eq!(rows.len() / columns, margins.len() / groups);
        let blocks = rows.chunks(P::BLOCK_ROWS * columns).zip(margins.chunks_mut(P::BLOCK_ROWS * groups));
        for (rows, margins) in blocks {
            self.block(rows, scratch, margins);
        }
        self.forest.finish(margins);
    }

    /// Sums of up to [`Pack::BLOCK_ROWS`] rows.
    fn block(&self, rows: &[f32], scratch: &mut Scratch<P::Scratch>, sums: &mut [f32]) {
        let groups = self.forest.groups;
        for row in sums.chunks_exact_mut(groups) {
            for (group, sum) in row.iter_mut().enumerate() {
                *sum = self.forest.start(group);
            }
        }
        self.pack.quantise(rows, self.forest.columns, &mut scratch.pack);
        for Run { group, trees } in &self.layout.runs {
            match trees {
                Trees::Walked(trees) => self.walk(trees.clone(), *group, rows, sums),
                Trees::Packed(trees) if sums.len() / groups < P::ROWS_MIN => {
                    for (row, sums) in sums.chunks_exact_mut(groups).enumerate() {
                        sums[*group] = self.pack.add_row(trees.clone(), row, &mut scratch.pack, sums[*group]);
                    }
                }
                Trees::Packed(trees) => {
                    let block = &mut scratch.sums[..sums.len() / groups];
                    for (sum, row) in block.iter_mut().zip(sums.chunks_exact(groups)) {
                        *sum = row[*group];
                    }
                    self.pack.add_rows(trees.clone(), &mut scratch.pack, block);
                    for (sum, row) in block.iter().zip(sums.chunks_exact_mut(groups)) {
                        row[*group] = *sum;
                    }
                }
            }
        }
    }

    fn walk(&self, trees: Range<usize>, group: usize, rows: &[f32], sums: &mut [f32]) {
        for tree in &self.forest.trees[trees] {
            let rows = rows.chunks_exact(self.forest.columns).zip(sums.chunks_exact_mut(self.forest.groups));
            for (row, sums) in rows {
                sums[group] += tree.leaf(row);
            }
        }
    }
}
