//! The models inside the program, and how they come into an empty registry.

use ev_gates::Gate;
use ev_registry::{AliasChange, Bundle, ExpectedVersion, Imported, PRODUCTION, Registry, RegistryError};

/// A model version embedded at build time.
pub(crate) struct BundledModel {
    pub(crate) manifest_toml: &'static str,
    pub(crate) files: &'static [(&'static str, &'static [u8])],
}

/// A gate that a bundled model fails, and why it serves all the same. Each is said in the model's card.
struct BundledWaiver {
    model: &'static str,
    gate: Gate,
    reason: &'static str,
}

const WAIVERS: [BundledWaiver; 3] = [
    BundledWaiver {
        model: "thermal-risk",
        gate: Gate::Synthetic,
        reason: "there is no open data of packs on their way to runaway: it learned from labels of a formula and from \
                 simulated runs with stated physics, and the rule of GB 38031-2025 decides beside it",
    },
    BundledWaiver {
        model: "thermal-risk",
        gate: Gate::GroupSplit,
        reason: "records of the synthetic set are drawn one by one and belong to no group; simulated runs are split by \
                 run",
    },
    BundledWaiver {
        model: "battery-rul",
        gate: Gate::Baseline,
        reason: "of the least a caller may send, the cell family alone, it knows no more than the family's mean, and \
                 says so by its interval; of a full request its error is a third of that",
    },
];

include!(concat!(env!("OUT_DIR"), "/bundled.rs"));

/// Registers every bundled model, and points `production` at those whose model had none.
///
/// Safe to run at every start: content that is registered keeps its version, an alias somebody moved stays where it is.
///
/// # Errors
///
/// [`RegistryError`] when the registry cannot be written.
pub(crate) async fn register(registry: &Registry, now_ms: i64) -> Result<Vec<Imported>, RegistryError> {
    let bundles = BUNDLED.iter().map(|model| {
        Bundle::new(
            model.manifest_toml,
            model.files.iter().map(|(path, bytes)| (*path, bytes::Bytes::from_static(bytes))),
        )
    });
    let imported = registry.import_bundles(bundles.collect(), now_ms).await?;
    for Imported { version: record, created } in &imported {
        for waiver in WAIVERS.iter().filter(|waiver| *created && waiver.model == record.model) {
            registry.waive(record, waiver.gate.name(), waiver.reason, now_ms).await?;
        }
        let change = AliasChange::set(record.model.as_str(), PRODUCTION, record.version, ExpectedVersion::Absent);
        match registry.move_alias(&change, now_ms).await {
            Ok(_) | Err(RegistryError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    for (_, bytes) in BUNDLED.iter().flat_map(|model| model.files) {
        release(bytes);
    }
    Ok(imported)
}

/// Has the system forget that a part of the program was read, a tenth of what the process would hold otherwise. Who reads it
/// again gets it again.
#[cfg(target_os = "linux")]
fn release(bytes: &'static [u8]) {
    use rustix::mm::{Advice, madvise};

    let page = rustix::param::page_size();
    let whole = bytes.as_ptr_range();
    // Pages that hold anything else stay.
    let begin = whole.start.align_offset(page);
    let length = bytes.len().saturating_sub(begin) / page * page;
    let Some(pages) = bytes.get(begin..begin + length).filter(|pages| !pages.is_empty()) else { return };
    #[expect(unsafe_code, reason = "the system's own advice")]
    // SAFETY: the pages are of constants, which lie in the program's file and are mapped to be read: nobody can have changed
    // them, and they come back from the file when they are touched.
    let advised = unsafe { madvise(pages.as_ptr().cast_mut().cast(), pages.len(), Advice::LinuxDontNeed) };
    if let Err(error) = advised {
        tracing::debug!(error = &error as &dyn std::error::Error, "bundled models stay in memory");
    }
}

/// Elsewhere they stay.
#[cfg(not(target_os = "linux"))]
fn release(_bytes: &'static [u8]) {}
