//! How rows hang together.

use ev_models_core::Digest;

use super::{AuditEntry, AuditHead, AuditRecord, Origin};

/// Names the encoding, so that a hash made for something else is never one of a row.
const DOMAIN: &[u8] = b"evserve audit row, version 1";

// === impl AuditHead ===

impl AuditHead {
    /// Of an empty log.
    pub(crate) fn empty() -> AuditHead {
        AuditHead { sequence: 0, hash: Digest::of(DOMAIN).to_string() }
    }
}

// === impl AuditRecord ===

impl AuditRecord {
    /// SHA-256 of the row's canonical encoding: every field with its length before it, numbers as eight bytes, the highest first.
    /// No two different rows have the same encoding.
    pub(crate) fn expected_hash(&self) -> String {
        let AuditRecord {
            sequence,
            at_ms,
            actor,
            action,
            model,
            version,
            alias,
            digest,
            detail,
            previous_hash,
            hash: _,
        } = self;
        let mut bytes = DOMAIN.to_vec();
        for number in [*sequence, at_ms.cast_unsigned(), u64::from(version.unwrap_or(0))] {
            bytes.extend(number.to_be_bytes());
        }
        for text in [actor, action, model, alias, digest, detail, previous_hash] {
            bytes.extend((text.len() as u64).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        Digest::of(&bytes).to_string()
    }

    /// The log's end when this is its last row.
    pub(crate) fn head(&self) -> AuditHead {
        AuditHead { sequence: self.sequence, hash: self.hash.clone() }
    }
}

/// The row that an entry becomes after `head`.
pub(crate) fn link(head: &AuditHead, entry: &AuditEntry, origin: &Origin) -> AuditRecord {
    let AuditEntry { action, model, version, alias, digest, detail } = entry.clone();
    let mut record = AuditRecord {
        sequence: head.sequence + 1,
        at_ms: origin.at_ms,
        actor: origin.actor.clone(),
        action,
        model,
        version,
        alias,
        digest,
        detail,
        previous_hash: head.hash.clone(),
        hash: String::new(),
    };
    record.hash = record.expected_hash();
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> AuditRecord {
        let origin = Origin { actor: "ci".to_owned(), at_ms: 1_767_225_600_000 };
        let entry = AuditEntry::new("set_alias", "ev-range").version(3, &Digest::of(b"3")).alias("production");
        link(&AuditHead::empty(), &entry, &origin)
    }

    #[test]
    fn every_field_is_in_the_hash() {
        let changes: [fn(&mut AuditRecord); 11] = [
            |row| row.sequence += 1,
            |row| row.at_ms -= 1,
            |row| row.actor.push('x'),
            |row| row.action.push('x'),
            |row| row.model.push('x'),
            |row| row.version = None,
            |row| row.alias.clear(),
            |row| row.digest.push('x'),
            |row| row.detail = "{ }".to_owned(),
            |row| row.previous_hash.push('x'),
            // The border between two fields moves.
            |row| {
                row.actor.push('s');
                row.action.remove(0);
            },
        ];
        let good = row();
        assert_eq!(good.expected_hash(), good.hash);
        for (index, change) in changes.iter().enumerate() {
            let mut row = good.clone();
            change(&mut row);
            assert_ne!(row.expected_hash(), good.hash, "change {index}");
        }
    }

    #[test]
    fn the_encoding_is_the_one_of_logs_that_exist() {
        // Anybody may compute it with the description in docs/registry.md; a change would break every log.
        let hash = row().hash;
        assert_eq!(hash, "sha256:96df538b2ac99ea6f9b2680d54c2899c2c88299a2fd5e00a39cf896748b7977d");
    }
}
