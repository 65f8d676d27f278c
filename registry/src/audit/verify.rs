//! Whether the log is what was written, and the registry what the log says.

use std::collections::{BTreeMap, BTreeSet};

use super::{AuditHead, AuditQuery, AuditRecord, DELETE_VERSION, PIN, REGISTER, REMOVE_ALIAS, SET_ALIAS, UNPIN};
use crate::{MetadataStore, Page, Registry, RegistryError, VersionRecord};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditVerification {
    /// The last row that was looked at.
    pub head: AuditHead,
    /// The first row that is not what was written, or the first thing that is not what the log says.
    pub fault: Option<AuditFault>,
}

/// The first thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFault {
    /// The row's number; of something that the log does not know, 0.
    pub sequence: u64,
    /// What is wrong with it.
    pub problem: String,
}

/// What the registry must hold, by its log.
#[derive(Debug, Default)]
struct Expected {
    // With the row that says so.
    versions: BTreeMap<(String, u32), (String, u64)>,
    aliases: BTreeMap<(String, String), (u32, u64)>,
    pins: BTreeMap<(String, u32), u64>,
}

// === impl Registry ===

impl Registry {
    /// Reads the whole audit log, checks that no row was altered, removed or inserted, and that versions, aliases and pins
    /// are those it tells of.
    ///
    /// Somebody who can write the database can write a whole new log; who has noted the head of the log before, or has a
    /// copy of it elsewhere, can tell.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Storage`] and [`RegistryError::Malformed`].
    pub async fn verify_audit(&self) -> Result<AuditVerification, RegistryError> {
        let (mut head, mut expected) = (AuditHead::empty(), Expected::default());
        loop {
            if let Some(fault) = walk(self.metadata(), &mut head, &mut expected).await? {
                return Ok(AuditVerification { head, fault: Some(fault) });
            }
            let fault = expected.compare(self).await?;
            // Of a registry that changed meanwhile nothing can be said yet.
            if self.metadata().audit_head().await? == head {
                return Ok(AuditVerification { head, fault });
            }
        }
    }
}

/// Goes on from `head` to the log's end.
async fn walk(
    metadata: &dyn MetadataStore,
    head: &mut AuditHead,
    expected: &mut Expected,
) -> Result<Option<AuditFault>, RegistryError> {
    loop {
        // The head before the rows: rows that come between are told from rows that somebody has put there.
        let end = metadata.audit_head().await?;
        let rows = metadata.audit(&AuditQuery::after(head.sequence)).await?;
        for row in &rows {
            if let Some(fault) = fault_of(row, head) {
                return Ok(Some(fault));
            }
            *head = row.head();
            expected.take(row);
        }
        if head.sequence < end.sequence && rows.is_empty() {
            return fault(head.sequence + 1, format!("it is missing, the log has had {} rows", end.sequence));
        }
        if head.sequence == end.sequence && head.hash != end.hash {
            return fault(head.sequence, "it is not the last row that was written".to_owned());
        }
        if rows.is_empty() {
            return if head.sequence > metadata.audit_head().await?.sequence {
                fault(end.sequence + 1, format!("it was inserted, the log has only had {} rows", end.sequence))
            } else {
                Ok(None)
            };
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "its callers return it")]
fn fault(sequence: u64, problem: String) -> Result<Option<AuditFault>, RegistryError> {
    Ok(Some(AuditFault { sequence, problem }))
}

/// What is wrong with a row that shall follow `head`.
fn fault_of(row: &AuditRecord, head: &AuditHead) -> Option<AuditFault> {
    let next = head.sequence + 1;
    if row.sequence != next {
        let problem = format!("it was removed, row {} comes after row {}", row.sequence, head.sequence);
        return Some(AuditFault { sequence: next, problem });
    }
    let expected = row.expected_hash();
    if row.hash != expected {
        let problem = format!("it was altered, its hash is {expected} and was {}", row.hash);
        return Some(AuditFault { sequence: next, problem });
    }
    (row.previous_hash != head.hash).then(|| {
        let problem = if head.sequence == 0 {
            "it was not the first row when it was written".to_owned()
        } else {
            format!("it was replaced, or row {next} inserted: row {next} was written after another one")
        };
        AuditFault { sequence: head.sequence.max(1), problem }
    })
}

// === impl Expected ===

impl Expected {
    fn take(&mut self, row: &AuditRecord) {
        let (model, sequence) = (row.model.clone(), row.sequence);
        let alias = (model.clone(), row.alias.clone());
        match (row.action.as_str(), row.version) {
            (REGISTER, Some(version)) => {
                self.versions.insert((model, version), (row.digest.clone(), sequence));
            }
            (DELETE_VERSION, Some(version)) => {
                self.versions.remove(&(model, version));
            }
            (SET_ALIAS, Some(version)) => {
                self.aliases.insert(alias, (version, sequence));
            }
            (REMOVE_ALIAS, _) => {
                self.aliases.remove(&alias);
            }
            (PIN, Some(version)) => {
                self.pins.insert((model, version), sequence);
            }
            (UNPIN, Some(version)) => {
                self.pins.remove(&(model, version));
            }
            // What others have written.
            _ => {}
        }
    }

    /// The first thing that is not what the log says.
    async fn compare(&self, registry: &Registry) -> Result<Option<AuditFault>, RegistryError> {
        let mut seen = BTreeSet::new();
        let mut page = Page { size: Page::MAX_SIZE, token: None };
        loop {
            let models = registry.list_models(&page).await?;
            for model in models.items {
                if let Some(fault) = self.compare_model(registry, &model.name, &mut seen).await? {
                    return Ok(Some(fault));
                }
            }
            let Some(next) = models.next else { break };
            page.token = Some(next);
        }
        let missing = self.versions.iter().find(|(version, _)| !seen.contains(*version));
        Ok(missing.map(|((model, version), (_, sequence))| AuditFault {
            sequence: *sequence,
            problem: format!("it registered version {version} of model `{model}`, which is gone"),
        }))
    }

    async fn compare_model(
        &self,
        registry: &Registry,
        model: &str,
        seen: &mut BTreeSet<(String, u32)>,
    ) -> Result<Option<AuditFault>, RegistryError> {
        let mut aliases = BTreeMap::new();
        let mut page = Page { size: Page::MAX_SIZE, token: None };
        loop {
            let versions = registry.list_versions(model, &page).await?;
            for version in versions.items {
                if let Some(fault) = self.compare_version(&version) {
                    return Ok(Some(fault));
                }
                seen.insert((model.to_owned(), version.version));
                aliases.extend(version.aliases.into_iter().map(|alias| (alias, version.version)));
            }
            let Some(next) = versions.next else { break };
            page.token = Some(next);
        }
        Ok(self.compare_aliases(model, &aliases))
    }

    fn compare_version(&self, version: &VersionRecord) -> Option<AuditFault> {
        let key = (version.model.clone(), version.version);
        let what = format!("version {} of model `{}`", version.version, version.model);
        let Some((digest, sequence)) = self.versions.get(&key) else {
            return Some(AuditFault { sequence: 0, problem: format!("{what} was never registered") });
        };
        if *digest != version.digest.to_string() {
            let problem = format!("{what} has the digest {}, it was registered with {digest}", version.digest);
            return Some(AuditFault { sequence: *sequence, problem });
        }
        match (version.pinned, self.pins.get(&key)) {
            (true, None) => Some(AuditFault { sequence: 0, problem: format!("{what} is pinned, which nobody did") }),
            (false, Some(sequence)) => {
                Some(AuditFault { sequence: *sequence, problem: format!("it pinned {what}, which is not pinned") })
            }
            _ => None,
        }
    }

    fn compare_aliases(&self, model: &str, found: &BTreeMap<String, u32>) -> Option<AuditFault> {
        let expected = self.aliases.iter().filter(|((name, _), _)| name == model);
        for ((_, alias), (version, sequence)) in expected {
            let points = found.get(alias);
            if points != Some(version) {
                let points = points.map_or_else(|| "is gone".to_owned(), |found| format!("points at version {found}"));
                let problem =
                    format!("alias `{alias}` of model `{model}` {points}, it was pointed at version {version}");
                return Some(AuditFault { sequence: *sequence, problem });
            }
        }
        let unknown = found.keys().find(|alias| !self.aliases.contains_key(&(model.to_owned(), (*alias).clone())));
        unknown.map(|alias| AuditFault {
            sequence: 0,
            problem: format!("alias `{alias}` of model `{model}` points somewhere, which nobody did"),
        })
    }
}
