//! The labels were measured, not made.

use ev_models_core::{Manifest, manifest::Nature};

use crate::gate::Verdict;

const REQUIRED: &str = "`nature = \"real\"`, or a waiver";

pub(crate) fn judge(manifest: &Manifest) -> Verdict {
    match manifest.model.nature {
        Nature::Real => Verdict::passed("`nature` is real", REQUIRED),
        Nature::Synthetic => Verdict::failed(
            "`nature` is synthetic: the labels were made by a formula or a simulator",
            REQUIRED,
            "train on measured labels, or waive this with the reason why these are trusted",
        ),
    }
}
