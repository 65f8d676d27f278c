//! A validated forest, and the plain walk that every kernel must equal.

use crate::objective::Objective;

/// A forest that passed the loader: every child and column exists, no cycle, no NaN.
#[derive(Debug, Clone)]
pub(crate) struct Forest {
    /// Columns of a row.
    pub(crate) columns: usize,
    /// Sums a row has: one, or one per class or target.
    pub(crate) groups: usize,
    /// Base margin of each group.
    pub(crate) base: Vec<f32>,
    /// When the base margin enters the sum; float addition is not associative.
    pub(crate) base_order: BaseOrder,
    /// What makes a prediction of a margin.
    pub(crate) objective: Objective,
    /// Trees, stably sorted by group: within a group in the order of the file, which is the order of summation.
    pub(crate) trees: Vec<Tree>,
}

/// When the base margin enters the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BaseOrder {
    /// The sum starts from it.
    First,
    /// It is added to the finished sum of leaves.
    Last,
}

/// One tree.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    /// The sum its leaves go to.
    pub(crate) group: usize,
    /// Splits between root and deepest leaf.
    pub(crate) depth: usize,
    /// Nodes breadth first: the root at 0, the right child after the left one, children after their parent.
    pub(crate) nodes: Vec<Node>,
}

/// A split or a leaf.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Node {
    /// Threshold of a split, value of a leaf.
    pub(crate) value: f32,
    /// Place of the left child; 0, the root's own place, marks a leaf.
    pub(crate) left: u32,
    /// Column a split looks at.
    pub(crate) column: u16,
    /// Where a missing value goes.
    pub(crate) default_left: bool,
}

// === impl Forest ===

impl Forest {
    /// Where the sums of a row start.
    pub(crate) fn start(&self, group: usize) -> f32 {
        match self.base_order {
            BaseOrder::First => self.base[group],
            BaseOrder::Last => 0.0,
        }
    }

    /// What turns finished sums `[rows, groups]` into margins.
    pub(crate) fn finish(&self, sums: &mut [f32]) {
        if self.base_order == BaseOrder::Last {
            for row in sums.chunks_exact_mut(self.groups) {
                for (sum, base) in row.iter_mut().zip(&self.base) {
                    *sum += base;
                }
            }
        }
    }

    /// Splits between root and deepest leaf, of the deepest tree.
    pub(crate) fn depth(&self) -> usize {
        self.trees.iter().map(|tree| tree.depth).max().unwrap_or(0)
    }

    /// Margins of one row by the plain walk: the safe twin of every kernel.
    #[cfg(test)]
    pub(crate) fn margin(&self, row: &[f32]) -> Vec<f32> {
        let mut sums: Vec<f32> = (0..self.groups).map(|group| self.start(group)).collect();
        for tree in &self.trees {
            sums[tree.group] += tree.leaf(row);
        }
        self.finish(&mut sums);
        sums
    }
}

// === impl Tree ===

impl Tree {
    /// The leaf a row falls into.
    pub(crate) fn leaf(&self, row: &[f32]) -> f32 {
        let mut node = self.nodes[0];
        while !node.is_leaf() {
            let value = row[usize::from(node.column)];
            let left = value < node.value || (value.is_nan() && node.default_left);
            node = self.nodes[node.left as usize + usize::from(!left)];
        }
        node.value
    }
}

// === impl Node ===

impl Node {
    /// True when the row's way ends here.
    pub(crate) fn is_leaf(&self) -> bool {
        self.left == 0
    }
}
