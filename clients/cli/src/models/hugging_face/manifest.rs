//! The manifest's text.

use std::fmt::Write as _;

use ev_models_core::Digest;

use super::{super::init::quoted, PREPROCESSOR, WEIGHTS};

/// Everything the manifest says.
#[derive(Debug)]
pub(super) struct Description<'a> {
    pub(super) name: &'a str,
    pub(super) description: &'a str,
    pub(super) license: &'a str,
    pub(super) height: usize,
    pub(super) width: usize,
    /// In the order of the classifier's rows.
    pub(super) classes: &'a [String],
    /// Files beside the weights, with their text.
    pub(super) files: &'a [(&'static str, &'a str)],
}

// === impl Description ===

impl Description<'_> {
    pub(super) fn to_toml(&self) -> String {
        let Description { name, description, license, height, width, classes, files } = self;
        let mut text = format!(
            "# Written by evctl import hf; every key is described in docs/manifest.md.\n\n\
             [model]\n\
             name = {}\n\
             task = \"image_classification\"\n\
             description = {}\n\
             backend = \"candle\"\n\
             license = {}\n\n\
             [[inputs]]\n\
             name = \"image\"\n\
             dtype = \"FP32\"\n\
             shape = [3, {height}, {width}]\n\
             required = true\n\n\
             [preprocessing]\n\
             hugging_face = \"{PREPROCESSOR}\"\n\n\
             [[heads]]\n\
             name = \"point\"\n\
             file = \"{WEIGHTS}\"\n\n\
             # The network's own probabilities: nothing was held out to calibrate them on.\n\
             [calibration]\n\
             method = \"none\"\n\
             tiers = [{{ min_coverage = 0.0, temperature = 1.0 }}]\n\n\
             [[outputs]]\n\
             name = \"vehicle\"\n\
             kind = \"classes\"\n\
             classes = [\n",
            quoted(name),
            quoted(description),
            quoted(license),
        );
        for class in *classes {
            let _ = writeln!(text, "    {},", quoted(class));
        }
        text.push_str("]\n");
        for (path, content) in *files {
            let digest = Digest::of(content.as_bytes());
            let size = content.len();
            let _ = write!(text, "\n[[files]]\npath = \"{path}\"\nsha256 = \"{digest}\"\nsize = {size}\n");
        }
        text
    }
}
