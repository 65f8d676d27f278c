//! What the registry knows of models and versions.

use ev_models_core::Digest;
use serde_json::{Map, Value};

use crate::{AuditEntry, RegistryError, audit, error::clip};

/// A registered version: immutable but for the aliases that point at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRecord {
    /// Model name.
    pub model: String,
    /// Number, from 1, never given twice.
    pub version: u32,
    /// SHA-256 of the canonical manifest.
    pub digest: Digest,
    /// When it was registered, in milliseconds since 1970-01-01 UTC, as the importer said.
    pub created_at_ms: i64,
    /// Aliases that point at it, sorted.
    pub aliases: Vec<String>,
    /// Task, such as `range`.
    pub task: String,
    /// Backend, such as `forest`.
    pub backend: String,
    /// SPDX expression.
    pub license: String,
    /// One sentence.
    pub description: String,
    /// Bytes of all its files, without the manifest.
    pub size_bytes: u64,
    /// Whether it is pinned: then nothing deletes it.
    pub pinned: bool,
}

/// A version that is to be registered: everything but the number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVersion {
    /// Model name.
    pub model: String,
    /// SHA-256 of the canonical manifest.
    pub digest: Digest,
    /// Milliseconds since 1970-01-01 UTC.
    pub created_at_ms: i64,
    /// Task, such as `range`.
    pub task: String,
    /// Backend, such as `forest`.
    pub backend: String,
    /// SPDX expression.
    pub license: String,
    /// One sentence.
    pub description: String,
    /// Bytes of all its files, without the manifest.
    pub size_bytes: u64,
}

/// A model: a name with at least one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRecord {
    /// Name.
    pub name: String,
    /// Number of versions.
    pub version_count: u32,
    /// The version the alias [`PRODUCTION`] points at.
    pub production: Option<VersionRecord>,
    /// The newest version.
    pub latest: VersionRecord,
}

/// The outcome of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The version.
    pub version: VersionRecord,
    /// False when the same content was registered before.
    pub created: bool,
}

/// The alias that serves requests which name no version.
pub const PRODUCTION: &str = "production";

/// How a caller names a version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum VersionChoice {
    /// By number.
    Number(u32),
    /// By alias.
    Alias(String),
}

/// Where the caller last saw an alias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// Anywhere: move it in any case.
    Any,
    /// Nowhere: it must not exist.
    Absent,
    /// At this version.
    Is(u32),
}

/// An alias that is to be moved or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasChange {
    /// Model name.
    pub model: String,
    /// Alias.
    pub alias: String,
    /// The version it shall point at; none: it shall be gone.
    pub version: Option<u32>,
    /// Where the caller last saw it.
    pub expected: ExpectedVersion,
}

// === impl VersionRecord ===

impl VersionRecord {
    /// What the audit log tells of its registration.
    pub(crate) fn registration(&self) -> AuditEntry {
        let detail = [("size_bytes".to_owned(), Value::from(self.size_bytes))];
        AuditEntry::new(audit::REGISTER, &self.model).version(self.version, &self.digest).detail(Map::from_iter(detail))
    }

    /// Refuses to be deleted while something refers to it; `references` are those that the registry does not know of.
    pub(crate) fn check_unused(&self, references: &[String]) -> Result<(), RegistryError> {
        let aliases = self.aliases.iter().map(|alias| format!("alias `{alias}`"));
        let pin = self.pinned.then(|| "a pin".to_owned());
        let by: Vec<String> = aliases.chain(pin).chain(references.iter().cloned()).collect();
        if by.is_empty() {
            return Ok(());
        }
        Err(RegistryError::InUse { model: self.model.clone(), version: self.version, by })
    }

    /// An entry of the audit log about it.
    pub(crate) fn entry(&self, action: &str) -> AuditEntry {
        AuditEntry::new(action, &self.model).version(self.version, &self.digest)
    }

    /// What the audit log tells of its pin; of none, of the pin's end.
    pub(crate) fn pin_entry(&self, reason: Option<&str>) -> AuditEntry {
        match reason {
            Some(reason) => {
                let detail = [("reason".to_owned(), Value::from(reason))];
                self.entry(audit::PIN).detail(Map::from_iter(detail))
            }
            None => self.entry(audit::UNPIN),
        }
    }

    /// What the audit log tells of it when it was there before the log was.
    pub(crate) fn adoption(&self) -> impl Iterator<Item = AuditEntry> {
        let adopted = || Map::from_iter([("adopted".to_owned(), Value::from(true))]);
        let of = move |action| self.entry(action).detail(adopted());
        let aliases = self.aliases.iter().map(move |alias| of(audit::SET_ALIAS).alias(alias));
        std::iter::once(of(audit::REGISTER)).chain(aliases)
    }
}

// === impl ModelRecord ===

impl ModelRecord {
    /// Takes the next version of a listing: of each model the production version, if any, and then the newest.
    pub(crate) fn gather(models: &mut Vec<ModelRecord>, version: VersionRecord, version_count: u32) {
        let production = version.aliases.iter().any(|alias| alias == PRODUCTION).then(|| version.clone());
        match models.last_mut().filter(|model| model.name == version.model) {
            Some(model) => {
                model.production = production.or_else(|| model.production.take());
                model.latest = version;
            }
            None => {
                models.push(ModelRecord { name: version.model.clone(), version_count, production, latest: version });
            }
        }
    }
}

// === impl AliasChange ===

impl AliasChange {
    /// Points an alias at a version.
    pub fn set(
        model: impl Into<String>,
        alias: impl Into<String>,
        version: u32,
        expected: ExpectedVersion,
    ) -> AliasChange {
        AliasChange { model: model.into(), alias: alias.into(), version: Some(version), expected }
    }

    /// Removes an alias.
    pub fn remove(model: impl Into<String>, alias: impl Into<String>, expected: ExpectedVersion) -> AliasChange {
        AliasChange { model: model.into(), alias: alias.into(), version: None, expected }
    }

    /// What the audit log tells of it. A removed alias's row names the version it pointed at.
    pub(crate) fn entry(&self, target: Option<&VersionRecord>, previous: Option<&VersionRecord>) -> AuditEntry {
        let action = if target.is_some() { audit::SET_ALIAS } else { audit::REMOVE_ALIAS };
        let entry = AuditEntry::new(action, &self.model).alias(&self.alias);
        let entry = match target.or(previous) {
            Some(version) => entry.version(version.version, &version.digest),
            None => entry,
        };
        let number = |version: &VersionRecord| Value::from(version.version);
        entry.detail(Map::from_iter([("previous_version".to_owned(), previous.map_or(Value::Null, number))]))
    }
}

// === impl ExpectedVersion ===

impl ExpectedVersion {
    /// Whether an alias that points at `found` is where the caller last saw it.
    #[must_use]
    pub fn holds(self, found: Option<u32>) -> bool {
        match self {
            ExpectedVersion::Any => true,
            ExpectedVersion::Absent => found.is_none(),
            ExpectedVersion::Is(version) => found == Some(version),
        }
    }
}

/// Refuses what is no alias. It begins with a letter, so that it is never taken for a number.
pub(crate) fn check_alias(alias: &str) -> Result<(), RegistryError> {
    let first = alias.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    let rest = alias.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if first && rest && alias.len() <= 63 { Ok(()) } else { Err(RegistryError::InvalidAlias { alias: clip(alias) }) }
}

/// Tells of a name no model can have that there is no such model, before a database is asked which may not take the text.
pub(crate) fn check_model(model: &str) -> Result<(), RegistryError> {
    if model.len() <= 63 && !model.chars().any(char::is_control) { Ok(()) } else { Err(no_model(model)) }
}

pub(crate) fn no_model(model: &str) -> RegistryError {
    RegistryError::NotFound { what: format!("model `{}`", clip(model)) }
}

pub(crate) fn no_version(model: &str, version: u32) -> RegistryError {
    RegistryError::NotFound { what: format!("version {version} of model `{}`", clip(model)) }
}

pub(crate) fn no_alias(model: &str, alias: &str) -> RegistryError {
    RegistryError::NotFound { what: format!("alias `{}` of model `{}`", clip(alias), clip(model)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_begin_with_a_letter_and_are_short() {
        for (alias, good) in [
            ("production", true),
            ("a", true),
            ("blue-2", true),
            (&"a".repeat(63), true),
            (&"a".repeat(64), false),
            ("", false),
            ("1", false),
            ("2024", false),
            ("1st", false),
            ("-a", false),
            ("Production", false),
            ("a b", false),
            ("é", false),
        ] {
            assert_eq!(check_alias(alias).is_ok(), good, "{alias}");
        }
    }
}
