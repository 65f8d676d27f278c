//! Ranks of values, found 16 thresholds at a time.

#![allow(unsafe_code)]

use std::arch::x86_64::{_CMP_LE_OQ, _mm512_cmp_ps_mask, _mm512_load_ps, _mm512_set1_ps};

use super::Avx512;
use crate::kernel::ranks::Ranks;

/// Children of a node.
const FANOUT: usize = 16;

/// A search tree for each slot: nodes of 16 keys, level after level.
#[derive(Debug)]
pub(super) struct Search {
    cpu: Avx512,
    slots: Vec<Slot>,
    nodes: Vec<Node>,
}

/// The search tree of one slot.
#[derive(Debug)]
struct Slot {
    column: u16,
    /// First node of each level, from the root to the level that holds all thresholds.
    levels: Vec<u32>,
}

/// Up to 16 keys, ascending; the rest is NaN, which is never counted.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Node([f32; FANOUT]);

// === impl Search ===

impl Search {
    pub(super) fn new(cpu: Avx512, ranks: &Ranks) -> Search {
        let mut search = Search { cpu, slots: Vec::new(), nodes: Vec::new() };
        for (column, thresholds) in ranks.columns.iter().zip(&ranks.thresholds) {
            let levels = search.add(thresholds);
            search.slots.push(Slot { column: *column, levels });
        }
        search
    }

    /// Adds the tree of one slot; gives the first node of each level.
    fn add(&mut self, thresholds: &[f32]) -> Vec<u32> {
        // Thresholds below a node's child, from the root's level down to 1.
        let mut spans = vec![1];
        while spans[0] * FANOUT < thresholds.len() {
            spans.insert(0, spans[0] * FANOUT);
        }
        spans.into_iter().map(|span| self.add_level(thresholds, span)).collect()
    }

    /// Adds the nodes whose children span that many thresholds each. A key is the last threshold below its child.
    /// One node more than full ones, so that a value above all thresholds finds an empty node at the end.
    fn add_level(&mut self, thresholds: &[f32], span: usize) -> u32 {
        let first = u32::try_from(self.nodes.len()).unwrap_or_else(|_| unreachable!("thresholds are fewer than nodes"));
        // Above the lowest level the last child has no key: counting all others leads to it.
        let keys = if span == 1 { FANOUT } else { FANOUT - 1 };
        for node in 0..=thresholds.len() / (span * FANOUT) {
            let key = |child| {
                let last = (node * FANOUT + child + 1) * span - 1;
                thresholds.get(last).copied().filter(|_| child < keys).unwrap_or(f32::NAN)
            };
            self.nodes.push(Node(std::array::from_fn(key)));
        }
        first
    }

    /// The rank of each slot's value in a row, in order of slots; none where it is missing.
    #[inline]
    pub(super) fn ranks(&self, row: &[f32], take: impl FnMut(usize, Option<usize>)) {
        let Avx512 { .. } = self.cpu;
        // SAFETY: `self.cpu` proves the CPU features.
        unsafe { self.ranks_proven(row, take) }
    }

    #[target_feature(enable = "avx512f,popcnt")]
    fn ranks_proven(&self, row: &[f32], mut take: impl FnMut(usize, Option<usize>)) {
        for (place, slot) in self.slots.iter().enumerate() {
            let value = row[usize::from(slot.column)];
            let rank = self.rank(slot, value);
            take(place, (!value.is_nan()).then_some(rank));
        }
    }

    /// Thresholds of a slot that are not above the value.
    #[inline]
    #[target_feature(enable = "avx512f,popcnt")]
    fn rank(&self, slot: &Slot, value: f32) -> usize {
        let value = _mm512_set1_ps(value);
        let mut rank = 0;
        for first in &slot.levels {
            let node: &Node = &self.nodes[*first as usize + rank];
            // SAFETY: the reference is to 64 bytes that are aligned to 64.
            let keys = unsafe { _mm512_load_ps(node.0.as_ptr()) };
            let below = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(keys, value);
            rank = FANOUT * rank + below.count_ones() as usize;
        }
        rank
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_the_safe_search() {
        let Some(cpu) = Avx512::detect() else { return };
        for count in [0, 1, 2, 15, 16, 17, 31, 32, 240, 255, 256, 257, 4_095, 4_096, 4_097, 65_534] {
            let mut thresholds: Vec<f32> = (0..count).map(|n: u16| f32::from(n) * 0.5 - 100.0).collect();
            if count > 200 {
                thresholds[0] = f32::NEG_INFINITY;
                thresholds[usize::from(count) - 1] = f32::INFINITY;
            }
            let ranks = Ranks { columns: vec![0], thresholds: vec![thresholds.clone()] };
            let search = Search::new(cpu, &ranks);
            let near = thresholds.iter().flat_map(|value| [*value, value.next_up(), value.next_down()]);
            let extremes = [f32::NEG_INFINITY, f32::MIN, -0.0, 0.0, f32::from_bits(1), f32::MAX, f32::INFINITY];
            for value in near.chain(extremes).filter(|value| !value.is_nan()) {
                search.ranks(&[value], |slot, rank| {
                    assert_eq!(rank, Some(ranks.rank(slot, value)), "{value} among {count}");
                });
            }
            search.ranks(&[f32::NAN], |_, rank| assert_eq!(rank, None));
        }
    }
}
