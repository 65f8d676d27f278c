//! The part of XGBoost's document that prediction needs; all other keys are skipped, whatever they hold.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

use crate::limits::{TREE_NODES_MAX, TREES_MAX};

/// Most values that a list reserves room for before they arrive: those of a usual tree.
const RESERVED_MAX: usize = 256;

/// The whole file.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    pub(super) learner: Learner,
    pub(super) version: [u32; 3],
}

/// `learner`.
#[derive(Debug, Deserialize)]
pub(super) struct Learner {
    pub(super) gradient_booster: GradientBooster,
    pub(super) learner_model_param: LearnerModelParam,
    pub(super) objective: ObjectiveName,
}

/// `learner.gradient_booster`: of boosters other than `gbtree`, the name is enough.
#[derive(Debug, Deserialize)]
pub(super) struct GradientBooster {
    pub(super) name: String,
    pub(super) model: Option<GbtreeModel>,
}

/// `learner.gradient_booster.model`; a linear booster has none of these.
#[derive(Debug, Deserialize)]
pub(super) struct GbtreeModel {
    pub(super) gbtree_model_param: Option<GbtreeModelParam>,
    pub(super) tree_info: Option<Bounded<i64, TREES_MAX>>,
    pub(super) trees: Option<Bounded<Tree, TREES_MAX>>,
}

/// `learner.gradient_booster.model.gbtree_model_param`.
#[derive(Debug, Deserialize)]
pub(super) struct GbtreeModelParam {
    pub(super) num_trees: Text<usize>,
}

/// `learner.gradient_booster.model.trees[]`: one array per property of a node.
#[derive(Debug, Deserialize)]
pub(super) struct Tree {
    pub(super) left_children: Bounded<i32, TREE_NODES_MAX>,
    pub(super) right_children: Bounded<i32, TREE_NODES_MAX>,
    pub(super) split_conditions: Bounded<Float, TREE_NODES_MAX>,
    pub(super) split_indices: Bounded<u32, TREE_NODES_MAX>,
    pub(super) default_left: Bounded<Flag, TREE_NODES_MAX>,
    /// 1 for a split by category; files of XGBoost before 1.3 have none.
    pub(super) split_type: Option<Bounded<u8, TREE_NODES_MAX>>,
    pub(super) tree_param: TreeParam,
}

/// `learner.gradient_booster.model.trees[].tree_param`.
#[derive(Debug, Deserialize)]
pub(super) struct TreeParam {
    pub(super) num_nodes: Text<usize>,
    /// Values of a leaf: 0 or 1, more for vector leaves.
    pub(super) size_leaf_vector: Option<Text<usize>>,
}

/// `learner.learner_model_param`.
#[derive(Debug, Deserialize)]
pub(super) struct LearnerModelParam {
    /// A number, or since XGBoost 3.1 a list in brackets.
    pub(super) base_score: String,
    pub(super) num_class: Text<usize>,
    pub(super) num_feature: Text<usize>,
    /// Files of XGBoost before 1.6 have none.
    pub(super) num_target: Option<Text<usize>>,
}

/// `learner.objective`.
#[derive(Debug, Deserialize)]
pub(super) struct ObjectiveName {
    pub(super) name: String,
}

/// A number that XGBoost writes as text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<T>(pub(super) T);

/// A bit that XGBoost wrote as a boolean before 1.6 and as 0 or 1 since.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag(pub(super) bool);

/// A float32; NaN when the file has no number there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Float(pub(super) f32);

/// A list of at most `MAX` values.
#[derive(Debug)]
pub(super) struct Bounded<T, const MAX: usize>(pub(super) Vec<T>);

// === impl Text ===

impl<'de, T: FromStr> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<T>, D::Error> {
        struct TextVisitor<T>(PhantomData<T>);
        impl<T: FromStr> Visitor<'_> for TextVisitor<T> {
            type Value = Text<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of reasonable size, as text")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text<T>, E> {
                let short: String = text.chars().take(40).collect();
                text.parse().map(Text).map_err(|_| E::invalid_value(serde::de::Unexpected::Str(&short), &self))
            }
        }
        deserializer.deserialize_str(TextVisitor(PhantomData))
    }
}

// === impl Flag ===

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Flag, D::Error> {
        struct FlagVisitor;
        impl Visitor<'_> for FlagVisitor {
            type Value = Flag;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, 0 or 1")
            }
            fn visit_bool<E: Error>(self, flag: bool) -> Result<Flag, E> {
                Ok(Flag(flag))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Flag, E> {
                match number {
                    0 => Ok(Flag(false)),
                    1 => Ok(Flag(true)),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Unsigned(number), &self)),
                }
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Flag, E> {
                match u64::try_from(number) {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => Err(E::invalid_value(serde::de::Unexpected::Signed(number), &self)),
                }
            }
        }
        deserializer.deserialize_any(FlagVisitor)
    }
}

// === impl Float ===

impl<'de> Deserialize<'de> for Float {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Float, D::Error> {
        struct FloatVisitor;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "the library keeps float32; `deserialize_f32` has rounded already, integers are rounded once"
        )]
        impl Visitor<'_> for FloatVisitor {
            type Value = Float;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }
            fn visit_f32<E: Error>(self, number: f32) -> Result<Float, E> {
                Ok(Float(number))
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Float, E> {
                Ok(Float(number as f32))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Float, E> {
                Ok(Float(number as f32))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Float, E> {
                Ok(Float(number as f32))
            }
            fn visit_unit<E: Error>(self) -> Result<Float, E> {
                Ok(Float(f32::NAN))
            }
        }
        deserializer.deserialize_f32(FloatVisitor)
    }
}

// === impl Bounded ===

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bounded<T, MAX>, D::Error> {
        struct BoundedVisitor<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for BoundedVisitor<T, MAX> {
            type Value = Bounded<T, MAX>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX} values")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Bounded<T, MAX>, A::Error> {
                // Grows as values arrive: the length a file claims reserves little.
                let mut values = Vec::with_capacity(list.size_hint().unwrap_or_default().min(RESERVED_MAX));
                while let Some(value) = list.next_element()? {
                    if values.len() == MAX {
                        return Err(A::Error::invalid_length(MAX + 1, &self));
                    }
                    values.push(value);
                }
                Ok(Bounded(values))
            }
        }
        deserializer.deserialize_seq(BoundedVisitor(PhantomData))
    }
}
