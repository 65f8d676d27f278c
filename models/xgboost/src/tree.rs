//! A tree of a file, checked and laid out anew: the library is given every node it counts on, and no other.

use serde::{Deserialize, Serialize};

use crate::document::Problem;

/// Splits between a root and its deepest leaf.
const DEPTH_MAX: usize = 1_024;

/// One array per property of a node, as the library has them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tree {
    left_children: Vec<i32>,
    right_children: Vec<i32>,
    split_conditions: Vec<f32>,
    split_indices: Vec<u32>,
    default_left: Vec<Flag>,
    split_type: Option<Vec<u8>>,
    #[serde(skip_deserializing)]
    parents: Vec<i32>,
    // What the library demands and prediction does not use.
    #[serde(skip_deserializing)]
    base_weights: Vec<f32>,
    #[serde(skip_deserializing)]
    loss_changes: Vec<f32>,
    #[serde(skip_deserializing)]
    sum_hessian: Vec<f32>,
    #[serde(skip_deserializing)]
    categories: [i32; 0],
    #[serde(skip_deserializing)]
    categories_nodes: [i32; 0],
    #[serde(skip_deserializing)]
    categories_segments: [i32; 0],
    #[serde(skip_deserializing)]
    categories_sizes: [i32; 0],
    #[serde(skip_deserializing)]
    id: usize,
    #[serde(skip_deserializing)]
    tree_param: TreeParameters,
}

#[derive(Debug, Default, Serialize)]
struct TreeParameters {
    num_deleted: String,
    num_feature: String,
    num_nodes: String,
    size_leaf_vector: String,
}

/// A boolean before XGBoost 1.6, 0 or 1 since, and written as that.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(from = "AnyFlag", into = "u8")]
struct Flag(bool);

#[derive(Deserialize)]
#[serde(untagged)]
enum AnyFlag {
    Bool(bool),
    Number(u8),
}

// === impl Flag ===

impl From<AnyFlag> for Flag {
    fn from(flag: AnyFlag) -> Flag {
        match flag {
            AnyFlag::Bool(flag) => Flag(flag),
            AnyFlag::Number(number) => Flag(number != 0),
        }
    }
}

impl From<Flag> for u8 {
    fn from(Flag(flag): Flag) -> u8 {
        u8::from(flag)
    }
}

// === impl Tree ===

impl Tree {
    /// Checks the tree and lays it out anew, breadth first from the root.
    pub(crate) fn check(&mut self, place: &str, id: usize, columns: usize) -> Result<(), Problem> {
        let malformed = |field: &str, problem: String| Problem::malformed(format!("{place}.{field}"), problem);
        let length = self.left_children.len();
        let lengths = [
            ("right_children", self.right_children.len()),
            ("split_conditions", self.split_conditions.len()),
            ("split_indices", self.split_indices.len()),
            ("default_left", self.default_left.len()),
            ("split_type", self.split_type.as_ref().map_or(length, Vec::len)),
        ];
        for (field, found) in lengths {
            if found != length || length == 0 {
                return Err(malformed(field, format!("found {found} values, expected {length}, at least 1")));
            }
        }
        // Nodes breadth first: index in the file, parent's place and depth.
        let mut order = vec![(0_usize, i32::MAX, 0_usize)];
        let mut is_reached = vec![false; length];
        is_reached[0] = true;
        let mut laid = Tree { id, ..Tree::empty() };
        while let Some(&(index, parent, depth)) = order.get(laid.parents.len()) {
            let here = laid.parents.len();
            let at = |field: &str| format!("{field}[{index}]");
            let value = self.split_conditions[index];
            if !value.is_finite() {
                return Err(malformed(&at("split_conditions"), "expected a finite number".to_owned()));
            }
            let children =
                [("left_children", self.left_children[index]), ("right_children", self.right_children[index])];
            if children.map(|(_, child)| child) == [-1, -1] {
                laid.push(parent, [-1, -1], value, 0, Flag(false));
                continue;
            }
            for (field, child) in children {
                let child = usize::try_from(child).ok().filter(|child| *child < length && depth < DEPTH_MAX);
                let Some(child) = child.filter(|child| !std::mem::replace(&mut is_reached[*child], true)) else {
                    let problem = "no such node, a second parent, or too deep".to_owned();
                    return Err(malformed(&at(field), problem));
                };
                order.push((child, to_i32(here), depth + 1));
            }
            if self.split_type.as_ref().is_some_and(|types| types[index] != 0) {
                let what = format!("the split by category at {place}.{}", at("split_type"));
                return Err(Problem::unsupported(what, "train on numbers"));
            }
            let column = self.split_indices[index];
            if usize::try_from(column).map_or(true, |column| column >= columns) {
                let problem = format!("column {column} does not exist, rows have {columns}");
                return Err(malformed(&at("split_indices"), problem));
            }
            let right = to_i32(order.len() - 1);
            laid.push(parent, [right - 1, right], value, column, self.default_left[index]);
        }
        let nodes = laid.parents.len();
        laid.split_type = Some(vec![0; nodes]);
        (laid.base_weights, laid.loss_changes) = (vec![0.0; nodes], vec![0.0; nodes]);
        laid.sum_hessian = vec![1.0; nodes];
        laid.tree_param = TreeParameters {
            num_deleted: "0".to_owned(),
            num_feature: columns.to_string(),
            num_nodes: nodes.to_string(),
            size_leaf_vector: "0".to_owned(),
        };
        *self = laid;
        Ok(())
    }

    fn empty() -> Tree {
        Tree {
            left_children: Vec::new(),
            right_children: Vec::new(),
            split_conditions: Vec::new(),
            split_indices: Vec::new(),
            default_left: Vec::new(),
            split_type: None,
            parents: Vec::new(),
            base_weights: Vec::new(),
            loss_changes: Vec::new(),
            sum_hessian: Vec::new(),
            categories: [],
            categories_nodes: [],
            categories_segments: [],
            categories_sizes: [],
            id: 0,
            tree_param: TreeParameters::default(),
        }
    }

    fn push(&mut self, parent: i32, [left, right]: [i32; 2], value: f32, column: u32, default_left: Flag) {
        self.parents.push(parent);
        self.left_children.push(left);
        self.right_children.push(right);
        self.split_conditions.push(value);
        self.split_indices.push(column);
        self.default_left.push(default_left);
    }
}

/// A place among nodes, of which a file of at most 64 MiB has fewer than an `i32` counts.
fn to_i32(place: usize) -> i32 {
    i32::try_from(place).unwrap_or(i32::MAX)
}
