//! The licence is a known SPDX expression.

use ev_models_core::Manifest;
use spdx::Expression;

use crate::gate::Verdict;

const REQUIRED: &str =
    "an SPDX expression of known licences, such as Apache-2.0, or LicenseRef-NAME for one of its own";

pub(crate) fn judge(manifest: &Manifest) -> Verdict {
    let license = manifest.model.license.trim();
    match Expression::parse(license) {
        Ok(_) => Verdict::passed(license, REQUIRED),
        Err(error) => Verdict::failed(
            format!("`{license}`: {}", error.reason),
            REQUIRED,
            "state the licence in `model.license` and register it as a new version",
        ),
    }
}
