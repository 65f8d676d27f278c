//! XGBoost models of a few stumps, written by hand.

use serde_json::{Value, json};

/// A tree of one split: below the threshold the first leaf, else the second.
pub(crate) struct Stump {
    /// The class it speaks for; 0 where there are none.
    pub(crate) class: usize,
    pub(crate) column: usize,
    pub(crate) threshold: f32,
    pub(crate) leaves: [f32; 2],
}

/// A model file of these stumps over so many columns, with so many classes; 0 for a number.
pub(crate) fn booster(columns: usize, classes: usize, stumps: &[Stump]) -> Vec<u8> {
    let trees: Vec<Value> = stumps.iter().enumerate().map(|(id, stump)| tree(id, columns, stump)).collect();
    let groups: Vec<usize> = stumps.iter().map(|stump| stump.class).collect();
    let objective = if classes > 0 {
        json!({"name": "multi:softprob", "softmax_multiclass_param": {"num_class": classes.to_string()}})
    } else {
        json!({"name": "reg:squarederror", "reg_loss_param": {"scale_pos_weight": "1"}})
    };
    let model = json!({
        "version": [2, 1, 4],
        "learner": {
            "attributes": {},
            "feature_names": [],
            "feature_types": [],
            "gradient_booster": {
                "name": "gbtree",
                "model": {
                    "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": stumps.len().to_string()},
                    "tree_info": groups,
                    "trees": trees,
                },
            },
            "learner_model_param": {
                "base_score": "0E0",
                "boost_from_average": "1",
                "num_class": classes.to_string(),
                "num_feature": columns.to_string(),
                "num_target": "1",
            },
            "objective": objective,
        },
    });
    model.to_string().into_bytes()
}

fn tree(id: usize, columns: usize, stump: &Stump) -> Value {
    let Stump { column, threshold, leaves: [below, above], .. } = stump;
    json!({
        "id": id,
        "base_weights": [0.0, below, above],
        "categories": [], "categories_nodes": [], "categories_segments": [], "categories_sizes": [],
        "default_left": [0, 0, 0],
        "left_children": [1, -1, -1],
        "right_children": [2, -1, -1],
        "loss_changes": [1.0, 0.0, 0.0],
        "parents": [2_147_483_647, 0, 0],
        "split_conditions": [threshold, below, above],
        "split_indices": [column, 0, 0],
        "split_type": [0, 0, 0],
        "sum_hessian": [2.0, 1.0, 1.0],
        "tree_param": {
            "num_deleted": "0", "num_feature": columns.to_string(), "num_nodes": "3", "size_leaf_vector": "1",
        },
    })
}
