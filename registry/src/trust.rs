//! What was said of a version after it was registered: how gates judged it, who waived one of them and why, and who
//! signed it.
//!
//! All of it is rows of the audit log, so that none can be altered unseen, and nothing that was said is ever lost.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use crate::{AuditEntry, AuditRecord, Registry, RegistryError, VersionRecord, audit, error::clip};

/// Rows of one kind that count for a version, the newest.
const ROWS_MAX: u32 = 64;

/// A gate that somebody takes upon themselves for one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiver {
    /// The gate's name.
    pub gate: String,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub actor: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
}

/// A signature of one version. Whether it holds is for others to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionSignature {
    /// The public key that it claims to be of.
    pub public_key: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
    /// Who brought it.
    pub actor: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
}

/// How gates judged one version.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Their report, as it was given.
    pub report: Value,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
}

// === impl Waiver ===

impl Waiver {
    /// Longest reason, in bytes.
    pub const REASON_MAX_BYTES: usize = 1000;
}

// === impl Registry ===

impl Registry {
    /// Waives a gate for a version. A gate that was waived before is waived anew, with the new reason.
    ///
    /// # Errors
    ///
    /// [`RegistryError::InvalidAuditEntry`] for a reason that is empty or longer than [`Waiver::REASON_MAX_BYTES`],
    /// [`RegistryError::DiskFull`], [`RegistryError::Storage`].
    pub async fn waive(
        &self,
        version: &VersionRecord,
        gate: &str,
        reason: &str,
        at_ms: i64,
    ) -> Result<(), RegistryError> {
        let reason = reason.trim();
        if reason.is_empty() || reason.len() > Waiver::REASON_MAX_BYTES {
            let (found, max) = (reason.len(), Waiver::REASON_MAX_BYTES);
            let problem = format!("a reason of {found} bytes for waiving `{}`, expected 1 to {max}", clip(gate));
            return Err(RegistryError::InvalidAuditEntry { problem });
        }
        let detail = [("gate".to_owned(), gate.into()), ("reason".to_owned(), reason.into())];
        self.say(version, audit::WAIVE, Map::from_iter(detail), at_ms).await
    }

    /// The gates that are waived for a version, each once, by name.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Tampered`] when a row that waives one was altered, [`RegistryError::Storage`] and
    /// [`RegistryError::Malformed`].
    pub async fn waivers(&self, version: &VersionRecord) -> Result<Vec<Waiver>, RegistryError> {
        let mut waivers: Vec<Waiver> = Vec::new();
        for (row, detail) in self.said(version, audit::WAIVE).await? {
            let text = |key: &str| detail.get(key).and_then(Value::as_str).map(str::to_owned);
            let (Some(gate), Some(reason)) = (text("gate"), text("reason")) else { return Err(malformed(&row)) };
            if waivers.iter().all(|waiver| waiver.gate != gate) {
                waivers.push(Waiver { gate, reason, actor: row.actor, at_ms: row.at_ms });
            }
        }
        waivers.sort_by(|a, b| a.gate.cmp(&b.gate));
        Ok(waivers)
    }

    /// Keeps a signature of a version.
    ///
    /// # Errors
    ///
    /// [`RegistryError::InvalidAuditEntry`] for one that is no signature by its size, [`RegistryError::DiskFull`],
    /// [`RegistryError::Storage`].
    pub async fn add_signature(
        &self,
        version: &VersionRecord,
        public_key: &[u8],
        signature: &[u8],
        at_ms: i64,
    ) -> Result<(), RegistryError> {
        let text = |bytes: &[u8]| Value::from(STANDARD.encode(bytes));
        let detail = [("public_key".to_owned(), text(public_key)), ("signature".to_owned(), text(signature))];
        self.say(version, audit::SIGN, Map::from_iter(detail), at_ms).await
    }

    /// The signatures of a version, the newest of each key, the newest first.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Tampered`] when a row that holds one was altered, [`RegistryError::Storage`] and
    /// [`RegistryError::Malformed`].
    pub async fn signatures(&self, version: &VersionRecord) -> Result<Vec<VersionSignature>, RegistryError> {
        let mut signatures: Vec<VersionSignature> = Vec::new();
        for (row, detail) in self.said(version, audit::SIGN).await? {
            let bytes = |key: &str| detail.get(key).and_then(Value::as_str).and_then(|text| STANDARD.decode(text).ok());
            let (Some(public_key), Some(signature)) = (bytes("public_key"), bytes("signature")) else {
                return Err(malformed(&row));
            };
            if signatures.iter().all(|known| known.public_key != public_key) {
                signatures.push(VersionSignature { public_key, signature, actor: row.actor, at_ms: row.at_ms });
            }
        }
        Ok(signatures)
    }

    /// Keeps how gates judged a version.
    ///
    /// # Errors
    ///
    /// [`RegistryError::InvalidAuditEntry`] for a report of more than [`AuditEntry::MAX_DETAIL_BYTES`],
    /// [`RegistryError::DiskFull`], [`RegistryError::Storage`].
    pub async fn judged(&self, version: &VersionRecord, report: Value, at_ms: i64) -> Result<(), RegistryError> {
        self.say(version, audit::JUDGE, Map::from_iter([("gates".to_owned(), report)]), at_ms).await
    }

    /// How gates judged a version last; none when they have not.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Tampered`] when the row that says so was altered, [`RegistryError::Storage`] and
    /// [`RegistryError::Malformed`].
    pub async fn judgement(&self, version: &VersionRecord) -> Result<Option<Judgement>, RegistryError> {
        let newest = self.said(version, audit::JUDGE).await?.into_iter().next();
        newest
            .map(|(row, mut detail)| {
                let report = detail.remove("gates").ok_or_else(|| malformed(&row))?;
                Ok(Judgement { report, at_ms: row.at_ms })
            })
            .transpose()
    }

    async fn say(
        &self,
        version: &VersionRecord,
        action: &str,
        detail: Map<String, Value>,
        at_ms: i64,
    ) -> Result<(), RegistryError> {
        let entry = AuditEntry::new(action, &version.model).version(version.version, &version.digest).detail(detail);
        self.record(entry, at_ms).await.map(drop)
    }

    /// Rows of one kind about a version, the newest first, each as it was written.
    async fn said(
        &self,
        version: &VersionRecord,
        action: &str,
    ) -> Result<Vec<(AuditRecord, Map<String, Value>)>, RegistryError> {
        let rows = self.metadata().rows_of(&version.model, version.version, action, ROWS_MAX).await?;
        let read = |row: AuditRecord| {
            if row.expected_hash() != row.hash || row.digest != version.digest.to_string() {
                let problem =
                    format!("row {} of the audit log, which says `{action}` of it, was altered", row.sequence);
                return Err(RegistryError::Tampered {
                    model: version.model.clone(),
                    version: version.version,
                    problem,
                });
            }
            match serde_json::from_str(&row.detail) {
                Ok(Value::Object(detail)) => Ok((row, detail)),
                _ => Err(malformed(&row)),
            }
        };
        rows.into_iter().map(read).collect()
    }
}

fn malformed(row: &AuditRecord) -> RegistryError {
    RegistryError::Malformed {
        problem: format!("row {} of the audit log says nothing of `{}`", row.sequence, row.action),
    }
}
