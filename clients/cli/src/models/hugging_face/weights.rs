//! `model.safetensors`: its header, which is all that is read here.

use std::{collections::BTreeMap, io::Read as _, path::Path};

use fs_err::File;
use serde::Deserialize;

use super::config::Config;
use crate::failure::Failure;

/// Bytes of a header; the largest published ConvNeXt V2 has 50,000.
const HEADER_BYTES_MAX: u64 = 16 << 20;
/// What Git leaves in place of a large file that was not fetched.
const LFS_POINTER: &[u8] = b"version https://git-lfs";
/// Bytes of the header's length, which comes first.
const LENGTH_BYTES: u64 = 8;

/// What the header says of a tensor.
#[derive(Debug, Deserialize)]
struct Tensor {
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// Checks that the header can be read, describes the bytes that follow, and names a classifier of these classes.
pub(super) fn check(path: &Path, config: &Config) -> Result<(), Failure> {
    let file = File::open(path).map_err(Failure::Input)?;
    let size = file.metadata().map_err(Failure::Input)?.len();
    let tensors = read(file, size)
        .map_err(|(problem, advice)| Failure::usage(format!("{} {problem}", path.display()), &advice))?;
    check_classifier(&tensors, config).map_err(|problem| {
        let advice = "are config.json and the weights of one checkpoint, and is it an image classifier?";
        Failure::usage(format!("{} {problem}", path.display()), &[advice])
    })
}

type Refused = (String, Vec<&'static str>);

fn read(mut file: impl std::io::Read, size: u64) -> Result<BTreeMap<String, Tensor>, Refused> {
    let refused = |problem: String| (problem, vec!["was it downloaded to its end? fetch it again"]);
    let mut first = Vec::new();
    let unreadable = |error: std::io::Error| (format!("cannot be read: {error}"), Vec::new());
    file.by_ref().take(LFS_POINTER.len() as u64).read_to_end(&mut first).map_err(unreadable)?;
    if first == LFS_POINTER {
        let problem = "is a pointer of Git LFS, not the weights themselves".to_owned();
        return Err((problem, vec!["fetch them with: git lfs pull, or with: hf download ID --local-dir DIR"]));
    }
    let length = first.first_chunk().map(|length| u64::from_le_bytes(*length));
    let Some(length) = length.filter(|length| *length <= HEADER_BYTES_MAX && LENGTH_BYTES + length <= size) else {
        return Err(refused("is not a safetensors file: it does not begin with the length of a header".to_owned()));
    };
    let mut header = first.split_off(usize::try_from(LENGTH_BYTES).unwrap_or(usize::MAX));
    file.take(length.saturating_sub(header.len() as u64)).read_to_end(&mut header).map_err(unreadable)?;
    header.truncate(usize::try_from(length).unwrap_or(usize::MAX));

    let garbled = |error: serde_json::Error| refused(format!("has a header that cannot be read: {error}"));
    let mut entries: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&header).map_err(garbled)?;
    entries.remove("__metadata__");
    let parse = |(name, value)| serde_json::from_value(value).map(|tensor: Tensor| (name, tensor));
    let tensors: BTreeMap<String, Tensor> =
        entries.into_iter().map(parse).collect::<Result<_, _>>().map_err(garbled)?;
    let described = tensors.values().map(|tensor| tensor.data_offsets[1]).max().unwrap_or(0);
    let found = size - LENGTH_BYTES - length;
    if described != found {
        return Err(refused(format!("has {found} bytes of weights, its header describes {described}")));
    }
    Ok(tensors)
}

fn check_classifier(tensors: &BTreeMap<String, Tensor>, config: &Config) -> Result<(), String> {
    let shape = |name: &str| match tensors.get(name) {
        Some(tensor) => Ok(tensor.shape.as_slice()),
        None => Err(format!("has no tensor `{name}` among its {}", tensors.len())),
    };
    let weight = shape("classifier.weight")?;
    let bias = shape("classifier.bias")?;
    let [rows, features] = *weight else {
        return Err(format!("has a classifier.weight of the shape {weight:?}, expected [classes, features]"));
    };
    let classes = config.labels.len();
    if rows != classes || *bias != [rows] {
        return Err(format!("classifies into {rows} classes (bias {bias:?}), config.json has {classes}"));
    }
    match config.features {
        Some(expected) if expected != features => {
            Err(format!("classifies by {features} features, the hidden_sizes of config.json end with {expected}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, weights: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + weights, 0);
        bytes
    }

    fn classifier(shape: &str) -> String {
        format!(
            r#"{{"__metadata__": {{"format": "pt"}},
                "classifier.weight": {{"dtype": "F32", "shape": {shape}, "data_offsets": [0, 24]}},
                "classifier.bias": {{"dtype": "F32", "shape": [3], "data_offsets": [24, 36]}}}}"#
        )
    }

    fn found(bytes: &[u8]) -> Result<(), String> {
        let tensors = read(bytes, bytes.len() as u64).map_err(|(problem, _)| problem)?;
        let labels = ["a", "b", "c"].map(str::to_owned).to_vec();
        check_classifier(&tensors, &Config { labels, features: Some(2), notes: Vec::new() })
    }

    #[test]
    fn a_classifier_of_as_many_classes_passes() {
        found(&file(&classifier("[3, 2]"), 36)).expect("passes");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let check = |bytes: &[u8], expected: &str| {
            let problem = found(bytes).expect_err(expected);
            assert!(problem.contains(expected), "{problem}");
        };
        check(b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "is a pointer of Git LFS");
        check(b"", "is not a safetensors file");
        check(&[0xff; 64], "is not a safetensors file");
        check(&100u64.to_le_bytes(), "is not a safetensors file");
        check(&file("{\"a\": 1}", 0), "has a header that cannot be read: invalid type");
        check(&file("{", 0), "has a header that cannot be read: EOF");
        check(&file("{}", 0), "has no tensor `classifier.weight` among its 0");
        check(&file(&classifier("[3, 2]"), 35), "has 35 bytes of weights, its header describes 36");
        check(&file(&classifier("[2, 3]"), 36), "classifies into 2 classes (bias [3]), config.json has 3");
        check(&file(&classifier("[3, 4]"), 36), "classifies by 4 features, the hidden_sizes of config.json end with 2");
        check(&file(&classifier("[6]"), 36), "has a classifier.weight of the shape [6]");
    }
}
