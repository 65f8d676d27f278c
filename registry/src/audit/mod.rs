//! Who changed what, and when: rows that are only ever appended, each with the hash of the one before.

mod chain;
mod verify;

use ev_models_core::Digest;
use serde_json::{Map, Value};

pub(crate) use chain::link;
pub use verify::{AuditFault, AuditVerification};

use crate::{RegistryError, error::clip};

/// A version was registered.
pub const REGISTER: &str = "register";
/// An alias was pointed at a version.
pub const SET_ALIAS: &str = "set_alias";
/// An alias was removed.
pub const REMOVE_ALIAS: &str = "remove_alias";
/// A version was deleted.
pub const DELETE_VERSION: &str = "delete_version";
/// A version was pinned.
pub const PIN: &str = "pin";
/// A pin was taken off.
pub const UNPIN: &str = "unpin";
/// Gates judged a version.
pub const JUDGE: &str = "judge";
/// A gate was waived for a version.
pub const WAIVE: &str = "waive";
/// A version was signed.
pub const SIGN: &str = "sign";
/// Files that no version names were deleted.
pub const COLLECT_GARBAGE: &str = "collect_garbage";

/// Actor of what evserve does by itself, such as registering its bundled models.
pub const SYSTEM: &str = "evserve";

/// Who asks for a change, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Who; made by [`actor_name`].
    pub actor: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
}

/// Something to be written into the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    action: String,
    model: String,
    version: Option<u32>,
    alias: String,
    digest: String,
    detail: String,
}

/// A row of the audit log, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Number, from 1 and without gaps.
    pub sequence: u64,
    /// When, in milliseconds since 1970-01-01 UTC, by the clock of the server that did it.
    pub at_ms: i64,
    /// Who asked for it.
    pub actor: String,
    /// What was done, such as [`SET_ALIAS`].
    pub action: String,
    /// Model name.
    pub model: String,
    /// Version, where there is one.
    pub version: Option<u32>,
    /// Alias; empty where there is none.
    pub alias: String,
    /// Digest of the version, `sha256:<hex>`; empty where there is none.
    pub digest: String,
    /// What else there is to know: a JSON object.
    pub detail: String,
    /// Hash of the row before.
    pub previous_hash: String,
    /// SHA-256 of everything above, `sha256:<hex>`.
    pub hash: String,
}

/// The last row of the audit log. Who keeps it elsewhere can tell later whether the log was written anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditHead {
    /// Number of the last row; 0 for an empty log.
    pub sequence: u64,
    /// Its hash.
    pub hash: String,
}

/// Which rows of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only those of this model; none: all.
    pub model: Option<String>,
    /// In which order, and from where.
    pub order: AuditOrder,
    /// Most rows, 1 to [`AuditQuery::MAX_ROWS`].
    pub limit: u32,
}

/// In which order rows come, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOrder {
    /// The oldest first, of those after a number; 0: from the beginning.
    After(u64),
    /// The newest first, of those before a number; none: from the end.
    Before(Option<u64>),
}

// === impl AuditEntry ===

impl AuditEntry {
    /// Bytes of an entry's detail: a rollout's report of its guards is a tenth of it.
    pub const MAX_DETAIL_BYTES: usize = 16 * 1024;

    /// An entry about a model.
    #[must_use]
    pub fn new(action: impl Into<String>, model: impl Into<String>) -> AuditEntry {
        AuditEntry {
            action: action.into(),
            model: model.into(),
            version: None,
            alias: String::new(),
            digest: String::new(),
            detail: "{}".to_owned(),
        }
    }

    /// About one version.
    #[must_use]
    pub fn version(mut self, version: u32, digest: &Digest) -> AuditEntry {
        self.version = Some(version);
        self.digest = digest.to_string();
        self
    }

    /// About one alias.
    #[must_use]
    pub fn alias(mut self, alias: impl Into<String>) -> AuditEntry {
        self.alias = alias.into();
        self
    }

    /// With what else there is to know.
    #[must_use]
    pub fn detail(mut self, detail: Map<String, Value>) -> AuditEntry {
        self.detail = Value::Object(detail).to_string();
        self
    }

    /// Refuses what would be no row anybody can read.
    pub(crate) fn check(&self) -> Result<(), RegistryError> {
        let refused = |problem: String| Err(RegistryError::InvalidAuditEntry { problem });
        let part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.');
        if self.action.is_empty() || self.action.len() > 63 || !self.action.bytes().all(part) {
            let found = clip(&self.action);
            return refused(format!("action `{found}`, expected lower-case letters, digits, `_` and `.`, at most 63"));
        }
        for (what, text) in [("model", &self.model), ("alias", &self.alias)] {
            if text.len() > 63 || text.chars().any(char::is_control) {
                return refused(format!("{what} `{}`, expected at most 63 bytes", clip(text)));
            }
        }
        if self.detail.len() > Self::MAX_DETAIL_BYTES {
            let (found, max) = (self.detail.len(), Self::MAX_DETAIL_BYTES);
            return refused(format!("a detail of {found} bytes, expected at most {max}"));
        }
        Ok(())
    }
}

// === impl AuditQuery ===

impl AuditQuery {
    /// Most rows of one query.
    pub const MAX_ROWS: u32 = 1000;

    /// The oldest rows after one, of all models.
    #[must_use]
    pub fn after(sequence: u64) -> AuditQuery {
        AuditQuery { model: None, order: AuditOrder::After(sequence), limit: Self::MAX_ROWS }
    }

    pub(crate) fn check(&self) -> Result<(), RegistryError> {
        if (1..=Self::MAX_ROWS).contains(&self.limit) {
            return Ok(());
        }
        let problem = format!("it has size {}, expected 1 to {}", self.limit, Self::MAX_ROWS);
        Err(RegistryError::InvalidPage { problem })
    }
}

/// What the audit log calls somebody: printable, at most 128 characters, never empty.
#[must_use]
pub fn actor_name(text: &str) -> String {
    let printable =
        |char: &char| !char.is_control() && !matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}');
    let name: String = text.trim().chars().filter(printable).take(128).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_has_a_short_printable_name() {
        let check = |text: &str, expected: &str| assert_eq!(actor_name(text), expected);
        check("ci@example.com", "ci@example.com");
        check("  Zoë ", "Zoë");
        check("a\nb\x1b[31m\0c", "ab[31mc");
        check("\u{202e}evil", "evil");
        check("", "unknown");
        check(" \r\n", "unknown");
        check(&"é".repeat(500), &"é".repeat(128));
    }

    #[test]
    fn an_entry_is_refused_with_what_is_wrong() {
        let check = |entry: AuditEntry, expected: Option<&str>| {
            let found = entry.check().err().map(|error| error.to_string());
            match expected {
                None => assert_eq!(found, None),
                Some(part) => assert!(found.as_ref().is_some_and(|text| text.contains(part)), "{found:?}: {part}"),
            }
        };
        check(AuditEntry::new("rollout.promote", "ev-range").alias("canary"), None);
        check(AuditEntry::new("", "ev-range"), Some("action ``"));
        check(AuditEntry::new("Set Alias", "ev-range"), Some("action `Set Alias`"));
        check(AuditEntry::new("a".repeat(64), "ev-range"), Some("at most 63"));
        check(AuditEntry::new("pin", "m".repeat(64)), Some("model `m"));
        check(AuditEntry::new("pin", "m").alias("a\n"), Some("alias `a"));
        let detail = Map::from_iter([("reason".to_owned(), Value::from("x".repeat(20_000)))]);
        check(AuditEntry::new("waive", "m").detail(detail), Some("a detail of 20013 bytes"));
    }
}
