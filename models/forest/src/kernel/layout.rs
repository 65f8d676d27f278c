//! Which trees are packed and which are walked, and in what order they are run.

use std::ops::Range;

use crate::forest::Tree;

/// How a forest is run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Splits of the deepest packed tree.
    pub(super) depth: usize,
    /// Packed trees by their place in the forest, and nothing where a run is filled up.
    pub(super) packed: Vec<Option<usize>>,
    /// What is run, in order.
    pub(super) runs: Vec<Run>,
}

/// Consecutive trees of one group that are run the same way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) group: usize,
    pub(super) trees: Trees,
}

/// Which trees, and how they are run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trees {
    /// By place among the packed trees.
    Packed(Range<usize>),
    /// By place in the forest.
    Walked(Range<usize>),
}

// === impl Layout ===

impl Layout {
    /// Packs trees of at most `depth_max` splits; runs of them start at multiples of `alignment` and are filled up.
    pub(crate) fn new(trees: &[Tree], depth_max: usize, alignment: usize) -> Layout {
        let depth_max = worthwhile_depth(trees, depth_max);
        let mut layout = Layout { depth: 0, packed: Vec::new(), runs: Vec::new() };
        let mut place = 0;
        for trees in trees.chunk_by(|a, b| a.group == b.group && (a.depth <= depth_max) == (b.depth <= depth_max)) {
            let in_forest = place..place + trees.len();
            place = in_forest.end;
            let deepest = trees.iter().map(|tree| tree.depth).max().unwrap_or(0);
            let trees_of_run = if deepest <= depth_max {
                layout.depth = layout.depth.max(deepest);
                let packed = layout.packed.len()..layout.packed.len() + trees.len();
                layout.packed.extend(in_forest.map(Some));
                layout.packed.resize(layout.packed.len().next_multiple_of(alignment), None);
                Trees::Packed(packed)
            } else {
                Trees::Walked(in_forest)
            };
            layout.runs.push(Run { group: trees[0].group, trees: trees_of_run });
        }
        layout
    }

    /// Whether packing for a kernel that fills runs up pays: few trees have to be walked, and little is filled up.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn pays(&self, trees: &[Tree]) -> bool {
        let packed = self.packed.iter().flatten().count();
        4 * packed >= 3 * trees.len() && self.packed.len() <= FILLED_MAX * trees.len().max(FILLED_FREE)
    }
}

/// The greatest depth, up to `depth_max`, at which complete trees are not much larger than the trees themselves:
/// a few deep trees among many small ones are walked instead, so that memory stays in proportion to the file.
fn worthwhile_depth(trees: &[Tree], depth_max: usize) -> usize {
    let is_worthwhile = |depth: &usize| {
        let packed = trees.iter().filter(|tree| tree.depth <= *depth);
        let (count, nodes) = packed.fold((0, 0), |(count, nodes), tree| (count + 1, nodes + tree.nodes.len()));
        count << *depth <= COMPLETION_MAX * nodes + COMPLETION_FREE
    };
    (0..=depth_max).rev().find(is_worthwhile).unwrap_or(0)
}

/// Nodes of complete trees for each node of the trees themselves that are still worthwhile.
const COMPLETION_MAX: usize = 16;

/// Nodes of complete trees that cost next to nothing.
const COMPLETION_FREE: usize = 1 << 16;

/// Packed places for each tree that still pay.
#[cfg(target_arch = "x86_64")]
const FILLED_MAX: usize = 2;

/// Trees below which filling up costs next to nothing.
#[cfg(target_arch = "x86_64")]
const FILLED_FREE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forest::Node;

    #[test]
    fn runs_keep_order_and_alignment() {
        let tree = |group, depth| Tree {
            group,
            depth,
            nodes: vec![Node { value: 0.0, left: 0, column: 0, default_left: false }],
        };
        let trees = [tree(0, 2), tree(0, 3), tree(0, 9), tree(1, 1), tree(1, 0)];
        let layout = Layout::new(&trees, 6, 4);
        let run = |group, trees| Run { group, trees };
        assert_eq!(
            layout.runs,
            [run(0, Trees::Packed(0..2)), run(0, Trees::Walked(2..3)), run(1, Trees::Packed(4..6))]
        );
        assert_eq!(layout.packed, [Some(0), Some(1), None, None, Some(3), Some(4), None, None]);
        assert_eq!(layout.depth, 3);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn packing_pays_unless_much_is_walked_or_filled_up() {
        let tree = |group, depth| Tree { group, depth, nodes: Vec::new() };
        let check = |trees: &[Tree], expected| assert_eq!(Layout::new(trees, 6, 16).pays(trees), expected);
        check(&[tree(0, 2), tree(0, 3), tree(0, 6), tree(1, 9)], true);
        check(&[tree(0, 2), tree(0, 3), tree(0, 9), tree(1, 9)], false);
        check(&(0..100).map(|group| tree(group, 0)).collect::<Vec<Tree>>(), false);
        check(&(0..100).map(|place| tree(place / 10, 0)).collect::<Vec<Tree>>(), true);
    }
}
