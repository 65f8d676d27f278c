//! A version of a forest that gives the same answers, bit for bit, in several times the time: its trees are there several
//! times, of which all but the first add nothing.

use std::path::Path;

use serde_json::{Map, Number, Value};

use super::SubjectError;

/// Containers inside containers; XGBoost writes seven.
const NESTING_MAX: usize = 64;
/// What of a tree is read to predict.
const TREE_KEYS: [&str; 7] = [
    "left_children",
    "right_children",
    "split_conditions",
    "split_indices",
    "default_left",
    "split_type",
    "tree_param",
];

/// Writes the slower version of the model in `from` to `to`, and gives its manifest.
pub(super) fn write(from: &Path, to: &Path, manifest: toml::Table, times: usize) -> Result<String, SubjectError> {
    for entry in fs_err::read_dir(from)? {
        let path = entry?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            fs_err::copy(&path, to.join(name))?;
        }
    }
    let mut text = manifest.to_string();
    for head in ["point", "spread"] {
        let file = format!("{head}.ubj");
        let path = from.join(&file);
        if !path.is_file() {
            continue;
        }
        let invalid =
            |problem: &str| SubjectError::Invalid { place: path.display().to_string(), problem: problem.to_owned() };
        let mut reader = Reader { bytes: &fs_err::read(&path)?, nesting: 0 };
        let mut forest = reader.value().ok_or_else(|| invalid("is not the UBJSON that XGBoost writes"))?;
        repeat(&mut forest, times).ok_or_else(|| invalid("is not a forest"))?;
        let written = format!("{head}.json");
        fs_err::write(to.join(&written), forest.to_string())?;
        text = text.replace(&format!("\"{file}\""), &format!("\"{written}\""));
    }
    Ok(text)
}

/// Has every tree there `times` times, the added ones with leaves of zero.
fn repeat(forest: &mut Value, times: usize) -> Option<()> {
    let model = forest.pointer_mut("/learner/gradient_booster/model")?;
    let trees: Vec<Value> = model["trees"].as_array()?.iter().map(needed).collect();
    let mut silent = trees.clone();
    for tree in &mut silent {
        let leaves: Vec<bool> =
            tree["left_children"].as_array()?.iter().map(|child| child.as_i64() == Some(-1)).collect();
        for (condition, _) in tree["split_conditions"].as_array_mut()?.iter_mut().zip(leaves).filter(|(_, leaf)| *leaf)
        {
            *condition = 0.into();
        }
    }
    let info = model["tree_info"].as_array()?.clone();
    let copies = || (1..times).flat_map(|_| silent.iter().cloned());
    model["trees"] = trees.into_iter().chain(copies()).collect();
    model["tree_info"] = (0..times).flat_map(|_| info.iter().cloned()).collect();
    let count = model["trees"].as_array()?.len();
    model["gbtree_model_param"]["num_trees"] = count.to_string().into();
    // How many trees make a round is nobody's question.
    model.as_object_mut()?.remove("iteration_indptr");
    Some(())
}

fn needed(tree: &Value) -> Value {
    let known = TREE_KEYS.iter().filter_map(|key| Some(((*key).to_owned(), tree.get(key)?.clone())));
    Value::Object(known.collect())
}

/// Universal Binary JSON, as far as XGBoost writes it.
struct Reader<'b> {
    bytes: &'b [u8],
    nesting: usize,
}

// === impl Reader ===

impl Reader<'_> {
    fn take<const COUNT: usize>(&mut self) -> Option<[u8; COUNT]> {
        let (taken, left) = self.bytes.split_first_chunk()?;
        self.bytes = left;
        Some(*taken)
    }

    fn marker(&mut self) -> Option<u8> {
        self.take().map(|[marker]| marker)
    }

    fn integer(&mut self, marker: u8) -> Option<i64> {
        Some(match marker {
            b'i' => i64::from(i8::from_be_bytes(self.take()?)),
            b'U' => i64::from(u8::from_be_bytes(self.take()?)),
            b'I' => i64::from(i16::from_be_bytes(self.take()?)),
            b'l' => i64::from(i32::from_be_bytes(self.take()?)),
            b'L' => i64::from_be_bytes(self.take()?),
            _ => return None,
        })
    }

    fn text(&mut self) -> Option<String> {
        let marker = self.marker()?;
        let length = usize::try_from(self.integer(marker)?).ok()?;
        let (text, left) = self.bytes.split_at_checked(length)?;
        self.bytes = left;
        String::from_utf8(text.to_vec()).ok()
    }

    fn value(&mut self) -> Option<Value> {
        let marker = self.marker()?;
        self.marked(marker)
    }

    fn marked(&mut self, marker: u8) -> Option<Value> {
        Some(match marker {
            b'Z' => Value::Null,
            b'T' => true.into(),
            b'F' => false.into(),
            // Doubles hold every float32.
            b'd' => number(f64::from(f32::from_be_bytes(self.take()?))),
            b'D' => number(f64::from_be_bytes(self.take()?)),
            b'S' => self.text()?.into(),
            b'[' | b'{' => {
                self.nesting += 1;
                let value = (self.nesting <= NESTING_MAX).then(|| self.container(marker == b'{'))??;
                self.nesting -= 1;
                value
            }
            marker => self.integer(marker)?.into(),
        })
    }

    fn container(&mut self, is_object: bool) -> Option<Value> {
        let kind = self.after(b'$').then(|| self.marker()).flatten();
        let mut count = None;
        if self.after(b'#') {
            let marker = self.marker()?;
            count = Some(usize::try_from(self.integer(marker)?).ok()?);
        }
        let end = if is_object { b'}' } else { b']' };
        let (mut list, mut object) = (Vec::new(), Map::new());
        while count.map_or_else(|| !self.after(end), |count| list.len() + object.len() < count) {
            let key = if is_object { self.text()? } else { String::new() };
            let marker = match kind {
                Some(kind) => kind,
                None => self.marker()?,
            };
            let value = self.marked(marker)?;
            if is_object { drop(object.insert(key, value)) } else { list.push(value) }
        }
        Some(if is_object { Value::Object(object) } else { Value::Array(list) })
    }

    /// Whether this comes next; it is taken then.
    fn after(&mut self, marker: u8) -> bool {
        match self.bytes.split_first() {
            Some((next, left)) if *next == marker => {
                self.bytes = left;
                true
            }
            _ => false,
        }
    }
}

/// JSON has no infinities and no NaN, and forests that come with the server have none.
fn number(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zoo() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/zoo/ev-range")
    }

    #[test]
    fn a_slower_forest_has_its_own_trees_first_and_silent_ones_behind() {
        let bytes = fs_err::read(zoo().join("point.ubj")).expect("a bundled model");
        let mut reader = Reader { bytes: &bytes, nesting: 0 };
        let mut forest = reader.value().expect("UBJSON");
        assert!(reader.bytes.is_empty());
        let trees =
            |forest: &Value| forest["learner"]["gradient_booster"]["model"]["trees"].as_array().expect("trees").clone();
        let before = trees(&forest);
        repeat(&mut forest, 3).expect("a forest");
        let after = trees(&forest);
        assert_eq!(after.len(), 3 * before.len());
        assert!(before.iter().zip(&after).all(|(before, after)| needed(before) == *after));
        let leaf = |tree: &Value| {
            let is_leaf = |(child, _): &(&Value, &Value)| child.as_i64() == Some(-1);
            let children = tree["left_children"].as_array().expect("children").iter();
            let leaves: Vec<f64> = children
                .zip(tree["split_conditions"].as_array().expect("conditions"))
                .filter(is_leaf)
                .filter_map(|(_, value)| value.as_f64())
                .collect();
            leaves
        };
        assert!(leaf(&after[0]).iter().any(|value| *value != 0.0));
        assert!(after[before.len()..].iter().all(|tree| leaf(tree).iter().all(|value| *value == 0.0)));
    }

    #[test]
    fn what_is_cut_off_is_no_forest() {
        let bytes = fs_err::read(zoo().join("spread.ubj")).expect("a bundled model");
        for end in [0, 1, 2, 10, 100, bytes.len() / 2, bytes.len() - 1] {
            let mut reader = Reader { bytes: &bytes[..end], nesting: 0 };
            assert_eq!(reader.value(), None, "the first {end} bytes");
        }
    }
}
