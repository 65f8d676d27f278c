//! Promotion gates: what a model version must show before the alias `production` may point at it.
//!
//! [`judge`] holds a manifest, what was measured when the version was loaded, and the version's own answers to generated
//! rows against [`Gate::ALL`]. Each [`GateResult`] says what was measured, what is required and what to do.
//!
//! Invariants:
//!
//! - Pure: no clock, no network, no file. The same version gives the same results: rows are generated from a fixed seed.
//! - Bounded: as many rows are asked for as fit into [`PROBE_TIME`] by the measured cost of one, at most [`ROWS_MAX`] at
//!   random and [`SEARCH_ROWS_MAX`] in search of classes.
//! - What a model does not state is a failure where its task has a typed service with numbers that people act upon, and
//!   not applicable to generic models and classifiers of pictures. What they do state is judged alike.
//!
//! Not here: loading and running versions (the server does, and is a [`Probe`]), who may waive a gate, and where results
//! and waivers are kept. What gates cannot see is in `docs/gates.md`.
//!
//! ```
//! use ev_gates::{Gate, Measured, Probe, Row, State, Subject, judge};
//! use ev_models_core::Manifest;
//!
//! /// Answers with the sum of what was given.
//! struct Sum;
//!
//! impl Probe for Sum {
//!     fn predict(&self, row: &Row) -> Option<Vec<f64>> {
//!         Some(vec![row.iter().flatten().filter_map(|value| value.as_number()).sum()])
//!     }
//! }
//!
//! # let text = r#"
//! # [model]
//! # name = "sum"
//! # task = "generic"
//! # description = "Adds."
//! # backend = "forest"
//! # license = "All rights reserved"
//! # [[inputs]]
//! # name = "a"
//! # dtype = "FP32"
//! # [[inputs]]
//! # name = "b"
//! # dtype = "FP32"
//! # [[heads]]
//! # name = "point"
//! # file = "model.ubj"
//! # [[outputs]]
//! # name = "y"
//! # kind = "prediction"
//! # "#;
//! let manifest = Manifest::parse(text)?;
//! let results = judge(&manifest, Subject::Loaded { probe: &Sum, measured: &Measured::default() });
//! let failed: Vec<Gate> = results.iter().filter(|result| result.state == State::Failed).map(|result| result.gate).collect();
//! assert_eq!(failed, [Gate::License]);
//! # Ok::<(), ev_models_core::ManifestError>(())
//! ```

mod baseline;
mod classes;
mod gate;
mod golden;
mod leak;
mod license;
mod limits;
mod metric;
mod probe;
mod rows;
mod signature;
mod single;
mod split;
mod synthetic;

pub use gate::{Gate, GateResult, State, UnknownGate};
pub use probe::{Measured, PROBE_TIME, Probe, ROWS_MAX, Row, SEARCH_ROWS_MAX, Subject, Value};

use ev_models_core::{Manifest, manifest::Task};

/// Holds a version against every gate, in the order of [`Gate::ALL`].
///
/// Takes up to three times [`PROBE_TIME`], and is to run where nobody waits for the thread.
#[must_use]
pub fn judge(manifest: &Manifest, subject: Subject<'_>) -> Vec<GateResult> {
    let sample = rows::Sample::of(manifest, subject);
    let verdict = |gate: Gate| match gate {
        Gate::Signature => signature::judge(manifest),
        Gate::Golden => golden::judge(manifest, subject),
        Gate::Classes => classes::judge(manifest, subject, &sample),
        Gate::TargetLeak => leak::judge(manifest),
        Gate::SingleInput => single::judge(manifest, subject, &sample),
        Gate::TooGood => metric::judge(manifest),
        Gate::Synthetic => synthetic::judge(manifest),
        Gate::GroupSplit => split::judge(manifest),
        Gate::Baseline => baseline::judge(manifest),
        Gate::Latency => limits::latency(manifest, subject),
        Gate::Memory => limits::memory(manifest, subject),
        Gate::License => license::judge(manifest),
    };
    Gate::ALL.into_iter().map(|gate| verdict(gate).of(gate)).collect()
}

/// Whether a model must state its evidence: units, golden requests, split, metrics.
///
/// Generic models and classifiers of pictures may come from elsewhere as they are.
fn must_state(manifest: &Manifest) -> bool {
    !matches!(manifest.model.task, Task::Generic | Task::ImageClassification)
}
