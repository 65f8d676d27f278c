//! From a document of the right types to a forest that means something.

use super::{
    Problem, base_score,
    schema::{self, Document, Float},
};
use crate::{
    forest::{BaseOrder, Forest, Node, Tree},
    limits::{COLUMNS_MAX, DEPTH_MAX, GROUPS_MAX, NODES_MAX, TREES_MAX},
    objective::Objective,
};

/// The first major version whose files are not known.
const VERSION_END: u32 = 4;

/// The version from which sums start at the base margin; 1.2.1 adds it last, 1.3.3 starts from it (tried).
const BASE_FIRST_SINCE: [u32; 3] = [1, 3, 0];

const MODEL: &str = "learner.gradient_booster.model";
const PARAMETERS: &str = "learner.learner_model_param";

/// Builds the forest.
pub(super) fn build(document: Document) -> Result<Forest, Problem> {
    let Document { learner, version } = document;
    let [major, minor, patch] = version;
    if major == 0 || major >= VERSION_END {
        return Err(Problem::unsupported(
            format!("a file of XGBoost {major}.{minor}.{patch}"),
            "save the model with XGBoost 1.0 to 3.x",
        ));
    }
    let objective = Objective::new(&learner.objective.name, version).ok_or_else(|| {
        let name: String = learner.objective.name.chars().take(40).collect();
        Problem::unsupported(format!("objective `{name}`"), format!("use one of {}", Objective::names()))
    })?;
    let model = gbtree(learner.gradient_booster)?;

    let parameters = learner.learner_model_param;
    let columns = parameters.num_feature.0;
    if !(1..=COLUMNS_MAX).contains(&columns) {
        let problem = format!("found {columns}, expected 1 to {COLUMNS_MAX}");
        return Err(Problem::malformed(format!("{PARAMETERS}.num_feature"), problem));
    }
    let targets = parameters.num_target.map_or(1, |targets| targets.0);
    let groups = parameters.num_class.0.max(targets).max(1);
    if groups > GROUPS_MAX {
        let problem = format!("{groups} classes or targets, expected at most {GROUPS_MAX}");
        return Err(Problem::malformed(PARAMETERS, problem));
    }
    let base = base_score::read(&parameters.base_score, groups, version)?
        .into_iter()
        .map(|score| objective.base_margin(score))
        .collect::<Option<Vec<f32>>>()
        .ok_or_else(|| {
            let problem = "outside of what the objective allows";
            Problem::malformed(format!("{PARAMETERS}.base_score"), problem)
        })?;

    let base_order = if version < BASE_FIRST_SINCE { BaseOrder::Last } else { BaseOrder::First };
    let trees = trees(model, columns, groups)?;
    Ok(Forest { columns, groups, base, base_order, objective, trees })
}

/// The model of a booster this backend runs.
fn gbtree(booster: schema::GradientBooster) -> Result<schema::GbtreeModel, Problem> {
    if booster.name != "gbtree" {
        let name: String = booster.name.chars().take(40).collect();
        return Err(Problem::unsupported(
            format!("booster `{name}`"),
            "the forest runs `gbtree`; use backend `xgboost` for `dart` and `gblinear`",
        ));
    }
    booster.model.ok_or_else(|| Problem::malformed("learner.gradient_booster", "missing field `model`"))
}

fn trees(model: schema::GbtreeModel, columns: usize, groups: usize) -> Result<Vec<Tree>, Problem> {
    let missing = |field| Problem::malformed(MODEL, format!("missing field `{field}`"));
    let info = model.tree_info.ok_or_else(|| missing("tree_info"))?.0;
    let parsed = model.trees.ok_or_else(|| missing("trees"))?.0;
    debug_assert!(parsed.len() <= TREES_MAX);
    same_length(format_args!("{MODEL}.tree_info"), info.len(), parsed.len())?;
    if let Some(parameters) = model.gbtree_model_param {
        same_length(format_args!("{MODEL}.gbtree_model_param.num_trees"), parameters.num_trees.0, parsed.len())?;
    }

    let mut nodes = 0;
    let mut trees = Vec::with_capacity(parsed.len());
    for (index, (parsed, group)) in parsed.into_iter().zip(info).enumerate() {
        let place = format!("{MODEL}.trees[{index}]");
        let group = usize::try_from(group).ok().filter(|group| *group < groups).ok_or_else(|| {
            let problem = format!("found {group}, expected 0 to {}", groups - 1);
            Problem::malformed(format!("{MODEL}.tree_info[{index}]"), problem)
        })?;
        let tree = tree(&parsed, group, columns, &place)?;
        nodes += tree.nodes.len();
        if nodes > NODES_MAX {
            return Err(Problem::malformed(place, format!("more than {NODES_MAX} nodes in all trees")));
        }
        trees.push(tree);
    }
    trees.sort_by_key(|tree| tree.group);
    Ok(trees)
}

/// One tree, its nodes laid out anew from the root: what the root does not reach, such as pruned nodes, is left behind.
fn tree(parsed: &schema::Tree, group: usize, columns: usize, place: &str) -> Result<Tree, Problem> {
    let length = parsed.left_children.0.len();
    check_lengths(parsed, length, place)?;
    let mut nodes = vec![Node { value: 0.0, left: 0, column: 0, default_left: false }];
    let mut reached = vec![false; length];
    reached[0] = true;
    // Nodes in breadth-first order: their index in the file and their depth; `nodes` grows in step.
    let mut order = vec![(0_usize, 0_usize)];
    let mut depth = 0;
    let mut next = 0;
    while let Some(&(index, level)) = order.get(next) {
        depth = depth.max(level);
        let children = children(parsed, index, &mut reached, place)?;
        let Float(value) = parsed.split_conditions.0[index];
        let node = match children {
            None => leaf(value, index, place)?,
            Some(_) if level == DEPTH_MAX => {
                return Err(Problem::malformed(place, format!("deeper than {DEPTH_MAX} splits")));
            }
            Some([left, right]) => {
                let split = split(parsed, index, nodes.len(), columns, place)?;
                order.extend([(left, level + 1), (right, level + 1)]);
                nodes.extend([nodes[0]; 2]);
                split
            }
        };
        nodes[next] = node;
        next += 1;
    }
    Ok(Tree { group, depth, nodes })
}

fn check_lengths(parsed: &schema::Tree, length: usize, place: &str) -> Result<(), Problem> {
    if parsed.tree_param.size_leaf_vector.is_some_and(|size| size.0 > 1) {
        return Err(Problem::unsupported(
            "trees with a vector in each leaf (`multi_strategy = multi_output_tree`)",
            "train with `multi_strategy = one_output_per_tree`",
        ));
    }
    if length == 0 {
        return Err(Problem::malformed(format!("{place}.left_children"), "a tree without a root"));
    }
    let lengths = [
        ("right_children", parsed.right_children.0.len()),
        ("split_conditions", parsed.split_conditions.0.len()),
        ("split_indices", parsed.split_indices.0.len()),
        ("default_left", parsed.default_left.0.len()),
        ("split_type", parsed.split_type.as_ref().map_or(length, |types| types.0.len())),
        ("tree_param.num_nodes", parsed.tree_param.num_nodes.0),
    ];
    lengths.iter().try_for_each(|(field, found)| same_length(format_args!("{place}.{field}"), *found, length))
}

fn same_length(place: impl std::fmt::Display, found: usize, expected: usize) -> Result<(), Problem> {
    if found == expected {
        return Ok(());
    }
    Err(Problem::malformed(place.to_string(), format!("found {found} values, expected {expected}")))
}

/// Children of a split, none for a leaf. Each node has one parent at most, so no walk goes in circles.
fn children(
    parsed: &schema::Tree,
    index: usize,
    reached: &mut [bool],
    place: &str,
) -> Result<Option<[usize; 2]>, Problem> {
    let left = ("left_children", parsed.left_children.0[index]);
    let right = ("right_children", parsed.right_children.0[index]);
    if left.1 == -1 && right.1 == -1 {
        return Ok(None);
    }
    let mut child = |(field, child): (&str, i32)| {
        let malformed = |problem| Problem::malformed(format!("{place}.{field}[{index}]"), problem);
        let Some(place) = usize::try_from(child).ok().filter(|child| *child < reached.len()) else {
            let problem = format!("node {child} does not exist, the tree has {} nodes", reached.len());
            return Err(malformed(problem));
        };
        if std::mem::replace(&mut reached[place], true) {
            return Err(malformed(format!("node {child} has a parent already, or is the root")));
        }
        Ok(place)
    };
    Ok(Some([child(left)?, child(right)?]))
}

fn leaf(value: f32, index: usize, place: &str) -> Result<Node, Problem> {
    if !value.is_finite() {
        let place = format!("{place}.split_conditions[{index}]");
        return Err(Problem::malformed(place, format!("leaf value {value} is not a finite number")));
    }
    Ok(Node { value, left: 0, column: 0, default_left: false })
}

/// A split whose left child stands at `left`.
fn split(parsed: &schema::Tree, index: usize, left: usize, columns: usize, place: &str) -> Result<Node, Problem> {
    if parsed.split_type.as_ref().is_some_and(|types| types.0[index] != 0) {
        return Err(Problem::unsupported(
            format!("the split by category at {place}.split_type[{index}]"),
            "train on numbers: the manifest's vocabulary encodes text, `enable_categorical` is not needed",
        ));
    }
    let Float(value) = parsed.split_conditions.0[index];
    if value.is_nan() {
        return Err(Problem::malformed(format!("{place}.split_conditions[{index}]"), "the threshold is not a number"));
    }
    let column = parsed.split_indices.0[index];
    let column = u16::try_from(column).ok().filter(|column| usize::from(*column) < columns).ok_or_else(|| {
        let problem = format!("column {column} does not exist, rows have {columns}");
        Problem::malformed(format!("{place}.split_indices[{index}]"), problem)
    })?;
    let left = u32::try_from(left).map_err(|_| Problem::malformed(place, "too many nodes"))?;
    Ok(Node { value, left, column, default_left: parsed.default_left.0[index].0 })
}
