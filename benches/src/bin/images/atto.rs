//! ConvNeXt V2 Atto as a model version: seeded weights in the graph that PyTorch exports, a thousand classes.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

#[path = "../../../../models/candle/tests/support/checkpoint.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod checkpoint;
#[path = "../../../../models/tests/support/export.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod export;
#[path = "../../../../models/ort/tests/support/onnx.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod onnx;

use checkpoint::{ATTO, Checkpoint};
use export::{Layout, export};

/// Writes its folder: manifest and graph.
pub(crate) fn write(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut manifest = format!(
        r#"[model]
name = "atto"
task = "image_classification"
description = "ConvNeXt V2 Atto with random weights, for measuring."
backend = "ort"
license = "Apache-2.0"
nature = "synthetic"

[[inputs]]
name = "image"
dtype = "FP32"
shape = [3, {side}, {side}]
required = true

[preprocessing]
resize = {{ shortest_edge = 256 }}
crop = {{ height = {side}, width = {side} }}
normalize = {{ mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }}

[[heads]]
name = "point"
file = "model.onnx"

[calibration]
method = "none"
tiers = [{{ min_coverage = 0.0, temperature = 1.0 }}]

[[outputs]]
name = "logits"
kind = "classes"
classes = ["#,
        side = ATTO.image
    );
    for class in 0..ATTO.classes {
        write!(manifest, "\"class {class}\", ")?;
    }
    manifest.push_str("]\n");
    fs_err::create_dir(folder)?;
    fs_err::write(folder.join("manifest.toml"), manifest)?;
    fs_err::write(folder.join("model.onnx"), export(&Checkpoint::random(1, ATTO), ATTO, Layout::Products))?;
    Ok(folder.to_owned())
}
