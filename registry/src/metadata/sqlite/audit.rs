//! The audit log in SQLite.

use sqlx::sqlite::SqliteConnection;

use super::{super::rows::read, failed};
use crate::{
    AuditEntry, AuditHead, AuditOrder, AuditQuery, AuditRecord, Origin, RegistryError,
    audit::{REMOVE_ALIAS, SET_ALIAS, link},
};

const READ: &str = "read the audit log";
const WRITE: &str = "write the audit log";

macro_rules! select_rows {
    ($rest:literal) => {
        concat!(
            "SELECT sequence, at_ms, actor, action, model, version, alias, digest, detail, previous_hash, hash \
             FROM audit ",
            $rest
        )
    };
}

/// Appends a row within the transaction of the change it tells of, which holds the write lock.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    entry: &AuditEntry,
    origin: &Origin,
) -> Result<AuditRecord, RegistryError> {
    entry.check()?;
    let row = link(&head(connection).await?, entry, origin);
    sqlx::query(
        "INSERT INTO audit \
         (sequence, at_ms, actor, action, model, version, alias, digest, detail, previous_hash, hash) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )
    .bind(number(row.sequence))
    .bind(row.at_ms)
    .bind(&row.actor)
    .bind(&row.action)
    .bind(&row.model)
    .bind(row.version.unwrap_or(0))
    .bind(&row.alias)
    .bind(&row.digest)
    .bind(&row.detail)
    .bind(&row.previous_hash)
    .bind(&row.hash)
    .execute(&mut *connection)
    .await
    .map_err(failed(WRITE))?;
    sqlx::query(
        "INSERT INTO audit_head (id, sequence, hash) VALUES (1, ?1, ?2) \
         ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, hash = excluded.hash",
    )
    .bind(number(row.sequence))
    .bind(&row.hash)
    .execute(connection)
    .await
    .map_err(failed(WRITE))?;
    Ok(row)
}

pub(super) async fn head(connection: &mut SqliteConnection) -> Result<AuditHead, RegistryError> {
    let row = sqlx::query("SELECT sequence, hash FROM audit_head WHERE id = 1").fetch_optional(connection).await;
    row.map_err(failed(READ))?.as_ref().map_or_else(|| Ok(AuditHead::empty()), read)
}

pub(super) async fn rows(
    connection: &mut SqliteConnection,
    query: &AuditQuery,
) -> Result<Vec<AuditRecord>, RegistryError> {
    // The sign of the number says which way to go.
    let rows = match query.order {
        AuditOrder::After(sequence) => {
            sqlx::query(select_rows!("WHERE sequence > ?1 AND (?2 IS NULL OR model = ?2) ORDER BY sequence LIMIT ?3"))
                .bind(number(sequence))
        }
        AuditOrder::Before(sequence) => sqlx::query(select_rows!(
            "WHERE sequence < ?1 AND (?2 IS NULL OR model = ?2) ORDER BY sequence DESC LIMIT ?3"
        ))
        .bind(sequence.map_or(i64::MAX, number)),
    };
    let rows = rows.bind(query.model.as_deref()).bind(query.limit).fetch_all(connection).await;
    rows.map_err(failed(READ))?.iter().map(read).collect()
}

/// The row that last moved each alias of a model until some time.
pub(super) async fn as_of(
    connection: &mut SqliteConnection,
    model: &str,
    at_ms: i64,
) -> Result<Vec<AuditRecord>, RegistryError> {
    let rows = sqlx::query(select_rows!(
        "WHERE sequence IN (SELECT max(sequence) FROM audit \
         WHERE model = ?1 AND at_ms <= ?2 AND action IN (?3, ?4) GROUP BY alias) ORDER BY alias"
    ))
    .bind(model)
    .bind(at_ms)
    .bind(SET_ALIAS)
    .bind(REMOVE_ALIAS)
    .fetch_all(connection)
    .await;
    rows.map_err(failed(READ))?.iter().map(read).collect()
}

/// The row that registered a version last.
pub(super) async fn registration(
    connection: &mut SqliteConnection,
    model: &str,
    version: u32,
) -> Result<Option<AuditRecord>, RegistryError> {
    let row = sqlx::query(select_rows!(
        "WHERE model = ?1 AND version = ?2 AND action = 'register' ORDER BY sequence DESC LIMIT 1"
    ))
    .bind(model)
    .bind(version)
    .fetch_optional(connection)
    .await;
    row.map_err(failed(READ))?.as_ref().map(read).transpose()
}

/// The newest rows of one action about a version.
pub(super) async fn rows_of(
    connection: &mut SqliteConnection,
    model: &str,
    version: u32,
    action: &str,
    limit: u32,
) -> Result<Vec<AuditRecord>, RegistryError> {
    let rows =
        sqlx::query(select_rows!("WHERE model = ?1 AND version = ?2 AND action = ?3 ORDER BY sequence DESC LIMIT ?4"));
    let rows = rows.bind(model).bind(version).bind(action).bind(limit).fetch_all(connection).await;
    rows.map_err(failed(READ))?.iter().map(read).collect()
}

fn number(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}
