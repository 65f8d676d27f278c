//! What a server tells of itself: a document whose size has a bound.

use serde::{Deserialize, Serialize};

use crate::deploy::{Snapshot, VersionStatus};

/// Most versions that a server tells of.
pub(crate) const VERSIONS_MAX: usize = 1_000;
/// Most of the reason why a version failed.
const REASON_CHARS_MAX: usize = 500;

/// What a server tells of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    /// Where it is reached.
    pub(crate) address: String,
    /// Its release.
    pub(crate) release: String,
    pub(crate) started_at_ms: i64,
    /// The row of the audit log that what it serves is of.
    pub(crate) revision: u64,
    /// What it loads, serves, or failed to load.
    pub(crate) versions: Vec<Told>,
    /// Versions beyond those.
    pub(crate) more_versions: u32,
}

/// A version on one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) model: String,
    pub(crate) version: u32,
    #[serde(default)]
    pub(crate) digest: String,
    pub(crate) state: State,
    #[serde(default)]
    pub(crate) reason: String,
    /// Whose requests it answers here.
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
}

/// Whether a version serves there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Loading,
    Ready,
    Failed,
}

// === impl Report ===

impl Report {
    /// What is published here.
    pub(super) fn of(snapshot: &Snapshot, address: String, started_at_ms: i64, revision: u64) -> Report {
        let mut versions = Vec::new();
        let mut more_versions = 0u32;
        for model in snapshot.models.values() {
            for (version, status) in &model.versions {
                let (state, reason) = match status {
                    VersionStatus::Registered | VersionStatus::LeftOut(_) => continue,
                    VersionStatus::Loading => (State::Loading, String::new()),
                    VersionStatus::Ready => (State::Ready, String::new()),
                    VersionStatus::Failed(reason) => (State::Failed, reason.chars().take(REASON_CHARS_MAX).collect()),
                };
                if versions.len() >= VERSIONS_MAX {
                    more_versions = more_versions.saturating_add(1);
                    continue;
                }
                let aliases = model.aliases.iter().filter(|(_, of)| *of == version);
                versions.push(Told {
                    model: model.name.clone(),
                    version: *version,
                    digest: model.deployments.get(version).map(|it| it.digest.clone()).unwrap_or_default(),
                    state,
                    reason,
                    aliases: aliases.map(|(alias, _)| alias.clone()).collect(),
                });
            }
        }
        let release = env!("CARGO_PKG_VERSION").to_owned();
        Report { address, release, started_at_ms, revision, versions, more_versions }
    }

    pub(super) fn document(&self) -> String {
        // Texts and numbers, of which every one can be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What a server of this or another release wrote.
    pub(super) fn read(document: &str) -> Option<Report> {
        serde_json::from_str(document).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written_and_of_other_releases_what_is_known() {
        let told = Told {
            model: "ev-range".to_owned(),
            version: 3,
            digest: "sha256:0".to_owned(),
            state: State::Failed,
            reason: "DATA_LOSS: \"it's\" gone".to_owned(),
            aliases: vec!["canary".to_owned()],
        };
        let report = Report {
            address: "evserve-0:50051".to_owned(),
            release: "1.2.3".to_owned(),
            started_at_ms: 5,
            revision: 7,
            versions: vec![told],
            more_versions: 0,
        };
        assert_eq!(Report::read(&report.document()), Some(report));
        let older = Report::read(r#"{"address": "a", "mood": "good"}"#);
        assert_eq!(older, Some(Report { address: "a".to_owned(), ..Report::default() }));
        assert_eq!(Report::read("no document"), None);
    }
}
