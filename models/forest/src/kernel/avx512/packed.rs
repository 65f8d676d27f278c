//! Trees packed for these kernels; what both have in common. All of it is safe code.

use std::{fmt::Debug, ops::Range};

use super::{
    Avx512,
    search::Search,
    walk::{LANES, Masks, add_rows, leaf_indices},
};
use crate::{
    forest::Tree,
    kernel::{
        Kernel, Pack,
        complete::{Complete, Split},
        layout::Layout,
        ranks::Ranks,
    },
};

/// Deepest tree that is packed: its splits fill a vector of 64 slots.
pub(crate) const DEPTH_MAX: usize = 6;

/// Shallowest depth a forest is packed at; trees that need less are completed to it.
const DEPTH_MIN: usize = 3;

/// Slots of a vector of splits.
const SLOTS: usize = 64;

/// Vectors of splits that one row is compared with before the masks are walked.
const TILE: usize = 64;

/// Rows of a block.
const ROWS: usize = 256;

/// Trees packed with ranks of type `R` for rows of up to `WIDTH` columns looked at.
#[derive(Debug)]
pub(crate) struct Packed<R: Rank, const WIDTH: usize> {
    cpu: R::Cpu,
    depth: usize,
    search: Search,
    /// Vectors of splits, each of `64 / 2^depth` trees.
    splits: Vec<Splits<R>>,
    /// For each vector, which splits send a missing value left.
    defaults: Vec<u64>,
    /// By tree, from left to right.
    leaves: Vec<f32>,
}

/// The slots of a vector of splits: which slot of a row, and the lowest rank that goes right.
/// Where there is no split every rank goes right, which does not matter.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(crate) struct Splits<R> {
    pub(super) slots: [R; SLOTS],
    pub(super) ranks: [R; SLOTS],
}

/// The ranks of a row.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(crate) struct Row<R, const WIDTH: usize>(pub(super) [R; WIDTH]);

/// Buffers of an instance.
pub(crate) struct Buffers<R, const WIDTH: usize> {
    rows: Vec<Row<R, WIDTH>>,
    /// Whether a row has all values.
    are_complete: Vec<bool>,
    masks: Vec<Masks>,
    sums: Vec<[f32; LANES]>,
}

/// The integer a rank is held in, and the comparisons for it.
pub(crate) trait Rank: Copy + Default + Debug + Send + Sync + TryFrom<usize> + 'static {
    /// Proof of the CPU features it takes.
    type Cpu: Copy + Debug + Send + Sync + 'static;

    /// Which kernel this is.
    const KERNEL: Kernel;

    /// The rank of a missing value: the highest there is.
    const MISSING: Self;

    /// Ranks in a register.
    const REGISTER: usize;

    /// The weaker proof.
    fn avx512(cpu: Self::Cpu) -> Avx512;

    /// For each vector of splits, which of them one row passes to the right.
    fn masks_of_row<const WIDTH: usize>(
        cpu: Self::Cpu,
        splits: &[Splits<Self>],
        defaults: &[u64],
        row: &Row<Self, WIDTH>,
        is_complete: bool,
        masks: &mut [u64],
    );

    /// For each row, which splits of one vector it passes to the right.
    fn masks_of_rows<const WIDTH: usize>(
        cpu: Self::Cpu,
        splits: &Splits<Self>,
        defaults: u64,
        rows: &[Row<Self, WIDTH>],
        masks: &mut [u64],
    );
}

// === impl Packed ===

impl<R: Rank, const WIDTH: usize> Packed<R, WIDTH> {
    /// Packs the trees of a layout; none when they look at too many columns or have too many thresholds for it.
    pub(crate) fn new(cpu: R::Cpu, trees: &[Tree], layout: &Layout) -> Option<Packed<R, WIDTH>> {
        const { assert!(WIDTH == R::REGISTER || WIDTH == 2 * R::REGISTER) };
        let depth = layout.depth.max(DEPTH_MIN);
        let ranks = Ranks::new(layout.packed.iter().flatten().map(|place| &trees[*place]));
        // A rank is at most the number of thresholds, and must stay below that of a missing value.
        R::try_from(ranks.highest() + 1).ok()?;
        if ranks.columns.len() > WIDTH {
            return None;
        }

        let each = SLOTS >> depth;
        debug_assert!(layout.packed.len().is_multiple_of(LANES));
        let mut pack = Packed {
            cpu,
            depth,
            search: Search::new(R::avx512(cpu), &ranks),
            splits: Vec::with_capacity(layout.packed.len() / each),
            defaults: Vec::with_capacity(layout.packed.len() / each),
            leaves: Vec::with_capacity(layout.packed.len() << depth),
        };
        for places in layout.packed.chunks_exact(each) {
            pack.add_vector(places.iter().map(|place| place.map(|place| &trees[place])), &ranks);
        }
        Some(pack)
    }

    /// Adds a vector of splits and its trees' leaves; a place without a tree has leaves that nobody adds.
    fn add_vector<'a>(&mut self, trees: impl Iterator<Item = Option<&'a Tree>>, ranks: &Ranks) {
        let small = |number| R::try_from(number).unwrap_or_else(|_| unreachable!("checked for the highest"));
        let mut splits = Splits { slots: [R::default(); SLOTS], ranks: [R::default(); SLOTS] };
        let mut defaults = 0;
        for (position, tree) in trees.enumerate() {
            let Some(tree) = tree else {
                self.leaves.extend(std::iter::repeat_n(0.0, 1 << self.depth));
                continue;
            };
            let complete = Complete::new(tree, self.depth);
            self.leaves.extend(complete.leaves);
            for (place, split) in complete.splits.into_iter().enumerate() {
                let Some(Split { column, threshold, default_left }) = split else { continue };
                let place = (position << self.depth) + place;
                let slot = ranks.slot(column);
                splits.slots[place] = small(slot);
                // The rank of the threshold itself counts it, as does that of everything above.
                splits.ranks[place] = small(ranks.rank(slot, threshold));
                defaults |= u64::from(default_left) << place;
            }
        }
        self.splits.push(splits);
        self.defaults.push(defaults);
    }

    /// Vectors of splits that hold these trees, of which the first stands at the start of one.
    fn vectors(&self, trees: &Range<usize>) -> Range<usize> {
        let each = SLOTS >> self.depth;
        trees.start / each..trees.end.div_ceil(each)
    }

    fn add_row_at<const DEPTH: usize>(
        &self,
        trees: Range<usize>,
        row: &Row<R, WIDTH>,
        is_complete: bool,
        mut sum: f32,
    ) -> f32 {
        // A layout starts every run at a multiple of the lanes, and fills it up to one.
        let padded = trees.start..trees.end.next_multiple_of(LANES);
        let vectors = self.vectors(&padded);
        let splits = self.splits[vectors.clone()].chunks(TILE).zip(self.defaults[vectors].chunks(TILE));
        let mut leaves = self.leaves[padded.start << DEPTH..padded.end << DEPTH].chunks_exact(LANES << DEPTH);
        let mut remaining = trees.len();
        let mut masks = [0; TILE];
        for (splits, defaults) in splits {
            R::masks_of_row(self.cpu, splits, defaults, row, is_complete, &mut masks);
            for masks in masks[..splits.len()].chunks_exact((LANES << DEPTH) / SLOTS) {
                let Some(leaves) = leaves.next() else { break };
                let indices = leaf_indices::<DEPTH>(R::avx512(self.cpu), masks);
                let count = remaining.min(LANES);
                for index in &indices[..count] {
                    sum += leaves[*index as usize];
                }
                remaining -= count;
            }
        }
        sum
    }

    fn add_rows_at<const DEPTH: usize>(&self, trees: Range<usize>, buffers: &mut Buffers<R, WIDTH>, groups: usize) {
        let each = SLOTS >> DEPTH;
        let rows = &buffers.rows[..groups * LANES];
        let masks = &mut buffers.masks[..groups];
        for vector in self.vectors(&trees) {
            R::masks_of_rows(self.cpu, &self.splits[vector], self.defaults[vector], rows, masks.as_flattened_mut());
            for position in 0..each.min(trees.end - vector * each) {
                let tree = vector * each + position;
                let leaves = &self.leaves[tree << DEPTH..(tree + 1) << DEPTH];
                add_rows::<DEPTH>(R::avx512(self.cpu), masks, position, leaves, &mut buffers.sums[..groups]);
            }
        }
    }
}

impl<R: Rank, const WIDTH: usize> Pack for Packed<R, WIDTH> {
    const KERNEL: Kernel = R::KERNEL;
    const BLOCK_ROWS: usize = ROWS;
    const ROWS_MIN: usize = 5;

    type Scratch = Buffers<R, WIDTH>;

    fn scratch(&self) -> Buffers<R, WIDTH> {
        Buffers {
            rows: vec![Row([R::default(); WIDTH]); ROWS],
            are_complete: vec![false; ROWS],
            masks: vec![[0; LANES]; ROWS / LANES],
            sums: vec![[0.0; LANES]; ROWS / LANES],
        }
    }

    fn quantise(&self, rows: &[f32], columns: usize, buffers: &mut Buffers<R, WIDTH>) {
        let targets = buffers.rows.iter_mut().zip(&mut buffers.are_complete);
        for (row, (ranks, is_complete)) in rows.chunks_exact(columns).zip(targets) {
            *is_complete = true;
            self.search.ranks(row, |slot, rank| {
                ranks.0[slot] = match rank {
                    Some(rank) => R::try_from(rank).unwrap_or(R::MISSING),
                    None => R::MISSING,
                };
                *is_complete &= rank.is_some();
            });
        }
    }

    fn add_row(&self, trees: Range<usize>, row: usize, buffers: &mut Buffers<R, WIDTH>, sum: f32) -> f32 {
        let (row, is_complete) = (&buffers.rows[row], buffers.are_complete[row]);
        match self.depth {
            3 => self.add_row_at::<3>(trees, row, is_complete, sum),
            4 => self.add_row_at::<4>(trees, row, is_complete, sum),
            5 => self.add_row_at::<5>(trees, row, is_complete, sum),
            _ => self.add_row_at::<6>(trees, row, is_complete, sum),
        }
    }

    fn add_rows(&self, trees: Range<usize>, buffers: &mut Buffers<R, WIDTH>, sums: &mut [f32]) {
        // Rows beyond the last hold ranks of an earlier block, or none: their sums are thrown away.
        let groups = sums.len().div_ceil(LANES);
        buffers.sums.as_flattened_mut()[..sums.len()].copy_from_slice(sums);
        match self.depth {
            3 => self.add_rows_at::<3>(trees, buffers, groups),
            4 => self.add_rows_at::<4>(trees, buffers, groups),
            5 => self.add_rows_at::<5>(trees, buffers, groups),
            _ => self.add_rows_at::<6>(trees, buffers, groups),
        }
        sums.copy_from_slice(&buffers.sums.as_flattened()[..sums.len()]);
    }
}
