//! What rows say, the same in both databases.

use ev_models_core::Digest;
use sqlx::{Row as _, postgres::PgRow, sqlite::SqliteRow};

use crate::{
    AuditHead, AuditRecord, KeptOutcome, PolicyRecord, RegistryError, ReplicaObservations, ReplicaRecord,
    RolloutRecord, VersionRecord,
};

/// A row, by the names of its columns.
pub(super) trait Columns {
    fn text(&self, name: &str) -> Result<String, sqlx::Error>;
    fn text_if_any(&self, name: &str) -> Result<Option<String>, sqlx::Error>;
    fn integer(&self, name: &str) -> Result<i64, sqlx::Error>;
    fn flag(&self, name: &str) -> Result<bool, sqlx::Error>;
}

/// What a row of its own query says.
pub(super) trait OfRow: Sized {
    fn of_row(row: &impl Columns) -> Result<Self, sqlx::Error>;
}

/// Reads a row.
pub(super) fn read<T: OfRow>(row: &impl Columns) -> Result<T, RegistryError> {
    T::of_row(row).map_err(|error| malformed(&error))
}

/// What is in the database cannot have been written by this.
pub(super) fn malformed(error: &sqlx::Error) -> RegistryError {
    RegistryError::Malformed { problem: error.to_string() }
}

/// A number that the database keeps in a wider type.
pub(super) fn narrow<T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>>(
    number: i64,
) -> Result<T, sqlx::Error> {
    T::try_from(number).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

macro_rules! columns {
    ($($row:ty),+) => {$(
        impl Columns for $row {
            fn text(&self, name: &str) -> Result<String, sqlx::Error> {
                self.try_get(name)
            }
            fn text_if_any(&self, name: &str) -> Result<Option<String>, sqlx::Error> {
                self.try_get(name)
            }
            fn integer(&self, name: &str) -> Result<i64, sqlx::Error> {
                self.try_get(name)
            }
            fn flag(&self, name: &str) -> Result<bool, sqlx::Error> {
                self.try_get(name)
            }
        }
    )+};
}

columns!(SqliteRow, PgRow);

impl OfRow for VersionRecord {
    fn of_row(row: &impl Columns) -> Result<VersionRecord, sqlx::Error> {
        let aliases = row.text_if_any("aliases")?;
        let mut aliases: Vec<String> = aliases.iter().flat_map(|text| text.split(' ')).map(str::to_owned).collect();
        aliases.sort_unstable();
        Ok(VersionRecord {
            model: row.text("model")?,
            version: narrow(row.integer("version")?)?,
            digest: Digest::of_row(row)?,
            created_at_ms: row.integer("created_at_ms")?,
            aliases,
            task: row.text("task")?,
            backend: row.text("backend")?,
            license: row.text("license")?,
            description: row.text("description")?,
            size_bytes: narrow(row.integer("size_bytes")?)?,
            pinned: row.flag("pinned")?,
        })
    }
}

impl OfRow for Digest {
    fn of_row(row: &impl Columns) -> Result<Digest, sqlx::Error> {
        row.text("digest")?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
    }
}

impl OfRow for AuditHead {
    fn of_row(row: &impl Columns) -> Result<AuditHead, sqlx::Error> {
        Ok(AuditHead { sequence: narrow(row.integer("sequence")?)?, hash: row.text("hash")? })
    }
}

impl OfRow for AuditRecord {
    fn of_row(row: &impl Columns) -> Result<AuditRecord, sqlx::Error> {
        Ok(AuditRecord {
            sequence: narrow(row.integer("sequence")?)?,
            at_ms: row.integer("at_ms")?,
            actor: row.text("actor")?,
            action: row.text("action")?,
            model: row.text("model")?,
            version: Some(narrow(row.integer("version")?)?).filter(|version| *version > 0),
            alias: row.text("alias")?,
            digest: row.text("digest")?,
            detail: row.text("detail")?,
            previous_hash: row.text("previous_hash")?,
            hash: row.text("hash")?,
        })
    }
}

impl OfRow for RolloutRecord {
    fn of_row(row: &impl Columns) -> Result<RolloutRecord, sqlx::Error> {
        Ok(RolloutRecord {
            id: row.text("id")?,
            model: row.text("model")?,
            is_active: row.flag("active")?,
            revision: narrow(row.integer("revision")?)?,
            created_at_ms: row.integer("created_at_ms")?,
            updated_at_ms: row.integer("updated_at_ms")?,
            document: row.text("document")?,
        })
    }
}

impl OfRow for ReplicaObservations {
    fn of_row(row: &impl Columns) -> Result<ReplicaObservations, sqlx::Error> {
        let (replica, updated_at_ms) = (row.text("replica")?, row.integer("updated_at_ms")?);
        Ok(ReplicaObservations { replica, updated_at_ms, document: row.text("document")? })
    }
}

impl OfRow for ReplicaRecord {
    fn of_row(row: &impl Columns) -> Result<ReplicaRecord, sqlx::Error> {
        let (replica, updated_at_ms) = (row.text("replica")?, row.integer("updated_at_ms")?);
        Ok(ReplicaRecord { replica, updated_at_ms, document: row.text("document")? })
    }
}

impl OfRow for PolicyRecord {
    fn of_row(row: &impl Columns) -> Result<PolicyRecord, sqlx::Error> {
        let (model, document) = (row.text("model")?, row.text("document")?);
        Ok(PolicyRecord { model, document, updated_at_ms: row.integer("updated_at_ms")? })
    }
}

impl OfRow for KeptOutcome {
    fn of_row(row: &impl Columns) -> Result<KeptOutcome, sqlx::Error> {
        Ok(KeptOutcome { sequence: narrow(row.integer("seq")?)?, document: row.text("document")? })
    }
}
