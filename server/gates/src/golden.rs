//! The golden requests are reproduced.

use ev_models_core::Manifest;

use crate::{Subject, gate::Verdict, must_state};

const REQUIRED: &str = "the version loads, and every golden request is reproduced";

pub(crate) fn judge(manifest: &Manifest, subject: Subject<'_>) -> Verdict {
    match subject {
        Subject::Refused { reason } => {
            Verdict::failed(reason, REQUIRED, "register a version whose files and `[golden]` belong together")
        }
        Subject::Loaded { measured, .. } if measured.golden_count > 0 => {
            Verdict::passed(format!("{} of {} reproduced", measured.golden_count, measured.golden_count), REQUIRED)
        }
        Subject::Loaded { .. } if must_state(manifest) => Verdict::failed(
            "no golden requests",
            "at least one golden request",
            "add `[golden]` with requests and the answers that the training library gave",
        ),
        Subject::Loaded { .. } => Verdict::not_applicable("no golden requests", REQUIRED),
    }
}
