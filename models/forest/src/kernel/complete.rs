//! Complete trees: every leaf at the same depth, so that a walk is the same few steps for every row.

use crate::forest::Tree;

/// A tree of some depth `d` with all `2^d` leaves. Places are counted from the root at 1; place `p` has the children
/// `2 p` and `2 p + 1`. Leaves above the lowest level are repeated below, where it does not matter which way a row takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Complete {
    /// Splits by place, `2^d` of them; nothing at place 0 and below early leaves.
    pub(super) splits: Vec<Option<Split>>,
    /// Leaves from left to right.
    pub(super) leaves: Vec<f32>,
}

/// One comparison: right if `value >= threshold`, or by default if the value is missing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Split {
    pub(super) column: u16,
    pub(super) threshold: f32,
    pub(super) default_left: bool,
}

// === impl Complete ===

impl Complete {
    /// Completes a tree to `depth`, which is at least its own.
    pub(super) fn new(tree: &Tree, depth: usize) -> Complete {
        debug_assert!(tree.depth <= depth);
        let mut complete = Complete { splits: vec![None; 1 << depth], leaves: vec![0.0; 1 << depth] };
        // Nodes to visit: index in the tree, place in the complete tree, levels below the place.
        let mut pending = vec![(0, 1, depth)];
        while let Some((index, place, below)) = pending.pop() {
            let node = tree.nodes[index];
            if node.is_leaf() {
                let first = (place << below) - (1 << depth);
                complete.leaves[first..first + (1 << below)].fill(node.value);
                continue;
            }
            complete.splits[place] =
                Some(Split { column: node.column, threshold: node.value, default_left: node.default_left });
            let left = node.left as usize;
            pending.extend([(left, 2 * place, below - 1), (left + 1, 2 * place + 1, below - 1)]);
        }
        complete
    }
}

/// Columns that any of these trees looks at, ascending.
pub(super) fn used_columns<'a>(trees: impl Iterator<Item = &'a Tree>) -> Vec<u16> {
    let mut is_used = vec![false; usize::from(u16::MAX) + 1];
    for node in trees.flat_map(|tree| &tree.nodes).filter(|node| !node.is_leaf()) {
        is_used[usize::from(node.column)] = true;
    }
    (0..=u16::MAX).filter(|column| is_used[usize::from(*column)]).collect()
}
