//! Every kernel gives the bits of the plain walk, whatever the forest and the rows.

use ev_models_core::{Tensor, Tensors};
use proptest::prelude::*;

use super::Kernel;
use crate::{
    ForestBackend,
    forest::{BaseOrder, Forest, Node, Tree},
    loader::Format,
    objective::Objective,
};

/// What random forests are made of.
#[derive(Debug, Clone)]
struct Shape {
    columns: u16,
    groups: usize,
    trees: usize,
    depth: usize,
    /// Of 16 nodes above the greatest depth, how many split.
    splits: u8,
    /// Distinct thresholds: few make equal ones likely, many exceed 8-bit ranks.
    thresholds: u16,
    rows: usize,
    base_order: BaseOrder,
    seed: u64,
}

/// A small generator, so that a failing case is told by its shape alone.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn small(&mut self, end: u16) -> u16 {
        u16::try_from(self.below(u64::from(end))).expect("below a u16")
    }
}

impl Shape {
    fn any() -> impl Strategy<Value = Shape> {
        let trees = prop_oneof![0..4_usize, 14..18_usize, 60..70_usize];
        let thresholds = prop_oneof![1..4_u16, 200..300_u16, Just(5_000)];
        let rows = prop_oneof![1..20_usize, Just(255), Just(256), Just(300)];
        let order = prop_oneof![Just(BaseOrder::First), Just(BaseOrder::Last)];
        let sizes = (1..140_u16, 1..6_usize, trees, 0..11_usize, 8..17_u8);
        (sizes, thresholds, rows, order, any::<u64>()).prop_map(
            |((columns, groups, trees, depth, splits), thresholds, rows, base_order, seed)| Shape {
                columns,
                groups,
                trees,
                depth,
                splits,
                thresholds,
                rows,
                base_order,
                seed,
            },
        )
    }

    /// The `index`-th threshold: zeros, denormals, infinities and ordinary numbers.
    fn threshold(&self, index: u16) -> f32 {
        match index {
            0 => 0.0,
            1 => f32::from_bits(1),
            2 => -0.0,
            3 => f32::INFINITY,
            4 => f32::NEG_INFINITY,
            5 => -f32::MAX,
            _ => (f32::from(index) - f32::from(self.thresholds) / 2.0) * 0.37,
        }
    }

    fn tree(&self, random: &mut Random, group: usize, depth: usize) -> Tree {
        let leaf = |random: &mut Random| Node {
            value: f32::from(random.small(2_000)) * 0.001_7 - 1.7,
            left: 0,
            column: 0,
            default_left: false,
        };
        let mut nodes = vec![leaf(random)];
        let mut levels = vec![0];
        let mut next = 0;
        while let Some(&level) = levels.get(next) {
            if level < depth && (level == 0 || random.below(16) < u64::from(self.splits)) && nodes.len() < 2_000 {
                nodes[next] = Node {
                    value: self.threshold(random.small(self.thresholds)),
                    left: u32::try_from(nodes.len()).expect("few nodes"),
                    column: random.small(self.columns),
                    default_left: random.below(2) == 0,
                };
                nodes.extend([leaf(random), leaf(random)]);
                levels.extend([level + 1; 2]);
            }
            next += 1;
        }
        Tree { group, depth: levels.into_iter().max().unwrap_or(0), nodes }
    }

    fn forest(&self, random: &mut Random) -> Forest {
        let mut trees: Vec<Tree> = (0..self.trees)
            .map(|tree| {
                // Some trees are shallower than the rest, or a single leaf.
                let depth = if random.below(8) == 0 { random.below(self.depth as u64 + 1) } else { self.depth as u64 };
                self.tree(random, tree % self.groups, usize::try_from(depth).expect("small"))
            })
            .collect();
        trees.sort_by_key(|tree| tree.group);
        Forest {
            columns: usize::from(self.columns),
            groups: self.groups,
            base: (0..self.groups).map(|_| f32::from(random.small(100)) * 0.13).collect(),
            base_order: self.base_order,
            objective: Objective::Identity,
            trees,
        }
    }

    fn rows(&self, random: &mut Random) -> Vec<f32> {
        let value = |random: &mut Random| {
            let threshold = self.threshold(random.small(self.thresholds));
            match random.below(16) {
                0 | 1 => f32::NAN,
                2 => threshold.next_down(),
                3 => threshold.next_up(),
                4 => f32::from_bits(u32::from(random.small(4))),
                5 => -0.0,
                6 => [f32::INFINITY, f32::NEG_INFINITY][usize::from(random.small(2))],
                7 => -f32::NAN,
                _ => threshold,
            }
        };
        (0..self.rows * usize::from(self.columns)).map(|_| value(random)).collect()
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #[test]
    fn every_kernel_gives_the_bits_of_the_plain_walk(shape in Shape::any()) {
        let mut random = Random(shape.seed);
        let forest = shape.forest(&mut random);
        let rows = shape.rows(&mut random);
        let expected: Vec<f32> = rows.chunks_exact(forest.columns).flat_map(|row| forest.margin(row)).collect();

        let mut ran = 0;
        for kernel in [None, Some(Kernel::Portable), Some(Kernel::Words), Some(Kernel::Bytes)] {
            let backend = kernel.map_or_else(ForestBackend::new, ForestBackend::with_kernel);
            let Ok(model) = backend.model("random", Format::Json, forest.clone()) else { continue };
            ran += 1;
            let mut instance = model.instantiate().expect("a forest makes instances");
            let batch = Tensors::from(vec![Tensor::f32([shape.rows, forest.columns], rows.clone())]);
            let answer = instance.run(&batch).expect("the shape is the model's");
            let margins = answer[0].as_f32().expect("margins are floats");
            prop_assert_eq!(bits(margins), bits(&expected), "{}, one batch", &model.signature().description);
            let each = rows.chunks_exact(forest.columns).zip(expected.chunks_exact(forest.groups));
            for (row, expected) in each.take(20) {
                let batch = Tensors::from(vec![Tensor::f32([1, forest.columns], row.to_vec())]);
                let answer = instance.run(&batch).expect("the shape is the model's");
                let margins = answer[0].as_f32().expect("margins are floats");
                prop_assert_eq!(bits(margins), bits(expected), "{}, one row", &model.signature().description);
            }
        }
        prop_assert!(ran >= 2, "the portable kernel runs everything");
    }
}
