//! The portable kernel: complete trees walked without branches, eight trees of a row at a time.
//!
//! Values become integer keys that compare as the floats do. A row holds each value twice, once for splits that send
//! a missing value right (where missing is the highest key) and once for those that send it left (the lowest),
//! so that one integer comparison decides.

use std::{fmt::Debug, ops::Range};

use super::{
    Kernel, Pack,
    complete::{Complete, Split, used_columns},
    layout::Layout,
};
use crate::forest::Tree;

/// Deepest tree that is packed: 256 leaves, 3 KB a tree.
pub(crate) const DEPTH_MAX: usize = 8;

/// Trees walked at the same time, so that their chains of dependent loads overlap.
const INTERLEAVED: usize = 8;

/// Trees run over all rows of a block before the next: they stay in the first-level cache.
const TILE_TREES: usize = 32;

/// Trees packed for the portable kernel; `I` is the type of an index into a row's keys.
#[derive(Debug)]
pub(crate) struct Portable<I> {
    depth: usize,
    /// Columns looked at; the value of the `n`-th is at the indices `2 n` and `2 n + 1` of a row.
    columns: Vec<u16>,
    /// Thresholds as keys, by tree and place.
    keys: Vec<i32>,
    /// Indices into a row, by tree and place.
    indices: Vec<I>,
    /// By tree, from left to right.
    leaves: Vec<f32>,
}

/// An index into a row's keys. A row has a key for every value of the type, so no index is out of bounds.
pub(crate) trait Index: Copy + Default + Debug + Send + Sync + TryFrom<usize> + 'static {
    /// Keys of a row.
    type Row: AsMut<[i32]> + Clone + Send;

    /// Rows of a block, few where a row's keys are many.
    const BLOCK_ROWS: usize;

    /// A row without values.
    fn row() -> Self::Row;

    /// The key at this index.
    fn key(self, row: &Self::Row) -> i32;
}

/// Keys of a row of at most 128 columns looked at. The padding keeps rows from competing for the same cache sets.
#[repr(align(64))]
#[derive(Debug, Clone)]
pub(crate) struct NarrowRow {
    keys: [i32; 1 << 8],
    _padding: [i32; 16],
}

/// Keys of a row of at most 32,768 columns looked at.
#[derive(Debug, Clone)]
pub(crate) struct WideRow(Box<[i32; 1 << 16]>);

// === impl Index ===

impl Index for u8 {
    type Row = NarrowRow;
    const BLOCK_ROWS: usize = 64;

    fn row() -> NarrowRow {
        NarrowRow { keys: [0; 1 << 8], _padding: [0; 16] }
    }

    #[inline(always)]
    fn key(self, row: &NarrowRow) -> i32 {
        row.keys[usize::from(self)]
    }
}

impl Index for u16 {
    type Row = WideRow;
    const BLOCK_ROWS: usize = 8;

    fn row() -> WideRow {
        WideRow(Box::new([0; 1 << 16]))
    }

    #[inline(always)]
    fn key(self, row: &WideRow) -> i32 {
        row.0[usize::from(self)]
    }
}

impl AsMut<[i32]> for NarrowRow {
    fn as_mut(&mut self) -> &mut [i32] {
        &mut self.keys
    }
}

impl AsMut<[i32]> for WideRow {
    fn as_mut(&mut self) -> &mut [i32] {
        &mut self.0[..]
    }
}

// === impl Portable ===

impl<I: Index> Portable<I> {
    /// Packs the trees of a layout; none when they look at more columns than `I` can tell apart.
    pub(crate) fn new(trees: &[Tree], layout: &Layout) -> Option<Portable<I>> {
        let depth = layout.depth.max(1);
        let trees = layout.packed.iter().flatten().map(|place| &trees[*place]);
        let columns = used_columns(trees.clone());
        if !columns.is_empty() {
            I::try_from(2 * columns.len() - 1).ok()?;
        }
        let mut pack = Portable { depth, columns, keys: Vec::new(), indices: Vec::new(), leaves: Vec::new() };
        for tree in trees {
            let Complete { splits, leaves } = Complete::new(tree, depth);
            let (keys, indices): (Vec<i32>, Vec<I>) =
                splits.into_iter().map(|split| packed::<I>(split, &pack.columns)).unzip();
            pack.keys.extend(keys);
            pack.indices.extend(indices);
            pack.leaves.extend(leaves);
        }
        Some(pack)
    }

    #[inline(always)]
    fn sum(&self, trees: Range<usize>, row: &I::Row, sum: f32) -> f32 {
        match self.depth {
            1 => self.sum_at::<1, 2>(trees, row, sum),
            2 => self.sum_at::<2, 4>(trees, row, sum),
            3 => self.sum_at::<3, 8>(trees, row, sum),
            4 => self.sum_at::<4, 16>(trees, row, sum),
            5 => self.sum_at::<5, 32>(trees, row, sum),
            6 => self.sum_at::<6, 64>(trees, row, sum),
            7 => self.sum_at::<7, 128>(trees, row, sum),
            8 => self.sum_at::<8, 256>(trees, row, sum),
            _ => unreachable!("no deeper tree is packed"),
        }
    }

    /// [`Portable::sum`] for trees of `DEPTH` splits and `WIDTH = 2^DEPTH` leaves.
    fn sum_at<const DEPTH: usize, const WIDTH: usize>(&self, trees: Range<usize>, row: &I::Row, mut sum: f32) -> f32 {
        let (keys, keys_rest) = self.keys.as_chunks::<WIDTH>().0[trees.clone()].as_chunks::<INTERLEAVED>();
        let (indices, indices_rest) = self.indices.as_chunks::<WIDTH>().0[trees.clone()].as_chunks::<INTERLEAVED>();
        let (leaves, leaves_rest) = self.leaves.as_chunks::<WIDTH>().0[trees].as_chunks::<INTERLEAVED>();
        for ((keys, indices), leaves) in keys.iter().zip(indices).zip(leaves) {
            sum = step::<DEPTH, WIDTH, INTERLEAVED, I>(keys, indices, leaves, row, sum);
        }
        let rest = keys_rest.as_chunks::<1>().0.iter().zip(indices_rest.as_chunks::<1>().0);
        for ((keys, indices), leaves) in rest.zip(leaves_rest.as_chunks::<1>().0) {
            sum = step::<DEPTH, WIDTH, 1, I>(keys, indices, leaves, row, sum);
        }
        sum
    }
}

impl<I: Index> Pack for Portable<I> {
    const KERNEL: Kernel = Kernel::Portable;
    const ROWS_MIN: usize = 2;
    const BLOCK_ROWS: usize = I::BLOCK_ROWS;

    type Scratch = Vec<I::Row>;

    fn scratch(&self) -> Vec<I::Row> {
        Vec::new()
    }

    fn quantise(&self, rows: &[f32], columns: usize, scratch: &mut Vec<I::Row>) {
        let count = rows.len() / columns;
        debug_assert!(count <= I::BLOCK_ROWS);
        if scratch.len() < count {
            scratch.resize_with(count, I::row);
        }
        for (row, keys) in rows.chunks_exact(columns).zip(scratch) {
            for (column, keys) in self.columns.iter().zip(keys.as_mut().as_chunks_mut::<2>().0) {
                let value = row[usize::from(*column)];
                *keys = if value.is_nan() { [i32::MAX, i32::MIN] } else { [key(value); 2] };
            }
        }
    }

    fn add_row(&self, trees: Range<usize>, row: usize, scratch: &mut Vec<I::Row>, sum: f32) -> f32 {
        self.sum(trees, &scratch[row], sum)
    }

    fn add_rows(&self, trees: Range<usize>, scratch: &mut Vec<I::Row>, sums: &mut [f32]) {
        for start in trees.clone().step_by(TILE_TREES) {
            let tile = start..trees.end.min(start + TILE_TREES);
            for (row, sum) in scratch.iter().zip(&mut *sums) {
                *sum = self.sum(tile.clone(), row, *sum);
            }
        }
    }
}

/// Adds the leaves of a few trees, walked at the same time.
#[inline(always)]
fn step<const DEPTH: usize, const WIDTH: usize, const TREES: usize, I: Index>(
    keys: &[[i32; WIDTH]; TREES],
    indices: &[[I; WIDTH]; TREES],
    leaves: &[[f32; WIDTH]; TREES],
    row: &I::Row,
    mut sum: f32,
) -> f32 {
    let mut places = [1; TREES];
    for _ in 0..DEPTH {
        for (tree, place) in places.iter_mut().enumerate() {
            // The mask changes nothing, a place above the leaves is below `WIDTH`; it spares the bounds check.
            let here = *place & (WIDTH - 1);
            *place = 2 * here + usize::from(indices[tree][here].key(row) >= keys[tree][here]);
        }
    }
    for (leaves, place) in leaves.iter().zip(places) {
        sum += leaves[place & (WIDTH - 1)];
    }
    sum
}

/// Threshold and index of a split; where there is none, anything does.
fn packed<I: Index>(split: Option<Split>, columns: &[u16]) -> (i32, I) {
    let Some(Split { column, threshold, default_left }) = split else { return (i32::MIN, I::default()) };
    let slot = columns.binary_search(&column).unwrap_or_else(|_| unreachable!("every split's column is listed"));
    let index = I::try_from(2 * slot + usize::from(default_left));
    (key(threshold), index.unwrap_or_else(|_| unreachable!("checked for the highest index")))
}

/// An integer that compares as the float does: equal for the two zeros, between the extremes for infinities.
fn key(value: f32) -> i32 {
    // Adding zero makes -0.0 into 0.0. Negative floats compare backwards as integers, so their other bits are flipped.
    #[expect(clippy::cast_possible_wrap, reason = "the bits are what is wanted")]
    let bits = (value + 0.0).to_bits() as i32;
    bits ^ ((bits >> 31) & i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_compare_as_floats_do() {
        let denormal = f32::from_bits(1);
        let ascending =
            [f32::NEG_INFINITY, f32::MIN, -1.0, -denormal, 0.0, denormal, 1.0, f32::MAX, f32::INFINITY].map(key);
        assert!(ascending.is_sorted_by(|a, b| a < b), "{ascending:?}");
        assert!(ascending[0] > i32::MIN && ascending[8] < i32::MAX);
        assert_eq!(key(-0.0), key(0.0));
    }
}
