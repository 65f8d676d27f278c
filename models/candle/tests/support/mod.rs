//! What the tests of the backend share.

#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod checkpoint;

use checkpoint::Size;
use ev_models_core::{InputColumns, LoadOptions};

/// The options of a model of this size, for its own image size.
pub(crate) fn options(size: Size) -> LoadOptions {
    image_options(size.image, size.image)
}

/// The options of a model for images of this size.
pub(crate) fn image_options(height: usize, width: usize) -> LoadOptions {
    LoadOptions {
        inputs: vec![InputColumns { name: "pixels".into(), shape: vec![3, height, width] }],
        ..LoadOptions::new("model.safetensors", 3 * height * width)
    }
}
