//! Ranks: a value is replaced by the number of thresholds of its column that are not above it.
//!
//! `value >= thresholds[n]` is then `rank(value) >= n + 1`, a comparison of small integers that is exactly the float one.

use super::complete::used_columns;
use crate::forest::Tree;

/// All distinct thresholds of the columns that packed trees look at.
#[derive(Debug)]
pub(super) struct Ranks {
    /// Columns looked at, ascending; a column's place here is its slot.
    pub(super) columns: Vec<u16>,
    /// Thresholds by slot, ascending, each once.
    pub(super) thresholds: Vec<Vec<f32>>,
}

// === impl Ranks ===

impl Ranks {
    pub(super) fn new<'a>(trees: impl Iterator<Item = &'a Tree> + Clone) -> Ranks {
        let columns = used_columns(trees.clone());
        let mut ranks = Ranks { thresholds: vec![Vec::new(); columns.len()], columns };
        for node in trees.flat_map(|tree| &tree.nodes).filter(|node| !node.is_leaf()) {
            let slot = ranks.slot(node.column);
            ranks.thresholds[slot].push(node.value);
        }
        for thresholds in &mut ranks.thresholds {
            thresholds.sort_unstable_by(f32::total_cmp);
            // The two zeros are equal, and next to each other.
            thresholds.dedup();
        }
        ranks
    }

    /// The slot of a column that a tree looks at.
    pub(super) fn slot(&self, column: u16) -> usize {
        self.columns.binary_search(&column).unwrap_or_else(|_| unreachable!("every split's column is listed"))
    }

    /// Most thresholds of a column.
    pub(super) fn highest(&self) -> usize {
        self.thresholds.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Thresholds of a slot that are not above the value; 0 for a missing one.
    pub(super) fn rank(&self, slot: usize, value: f32) -> usize {
        self.thresholds[slot].partition_point(|threshold| *threshold <= value)
    }
}
