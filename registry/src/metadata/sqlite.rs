//! Metadata in SQLite.

mod audit;
mod fleet;
mod rollouts;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use ev_models_core::Digest;
use sqlx::{
    Connection as _, Row as _, Sqlite, SqlitePool, Transaction,
    migrate::Migrator,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use sqlx_core::transaction::TransactionManager as _;
use tokio::sync::watch;

use super::{
    MetadataStore,
    changes::{Changes, POLL, note},
    rows::{malformed, read},
};
use crate::{
    AliasChange, AuditEntry, AuditHead, AuditQuery, AuditRecord, Collected, Collector, Imported, ModelRecord,
    NewVersion, Origin, PRODUCTION, RegistryError, Stored, VersionChoice, VersionRecord,
    audit::DELETE_VERSION,
    blocking::blocking,
    lock::FileLock,
    record::{no_alias, no_model, no_version},
};

const REACH: &str = "reach the registry's database";

static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// Writers take turns; a turn is a few rows and one sync, so this is hundreds of turns on a slow disk.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// One writes, the others read: SQLite has no use for more.
const MAX_CONNECTIONS: u32 = 4;

/// A version's columns, with its aliases in the same statement so that both are of one moment.
macro_rules! select_versions {
    ($rest:literal) => {
        select_versions!("", $rest)
    };
    ($columns:literal, $rest:literal) => {
        concat!(
            "SELECT v.model, v.version, v.digest, v.created_at_ms, v.task, v.backend, v.license, v.description, \
             v.size_bytes, EXISTS (SELECT 1 FROM pins p WHERE p.model = v.model AND p.version = v.version) AS pinned, \
             (SELECT group_concat(a.alias, ' ') FROM aliases a \
             WHERE a.model = v.model AND a.version = v.version) AS aliases",
            $columns,
            " FROM versions v ",
            $rest
        )
    };
}

/// Longest that a file system takes to tell another time of a file that is written again: some count in seconds.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// When a file was written last, and its size.
type Written = (SystemTime, u64);

/// The file that everything is written to first.
#[derive(Debug)]
struct WriteAheadLog {
    path: PathBuf,
    /// As it was when the database was asked last.
    read: Option<Written>,
}

/// Metadata in one SQLite file, in WAL mode, synced at every commit.
#[derive(Debug, Clone)]
pub struct SqliteMetadataStore {
    pool: SqlitePool,
    changes: Changes,
}

// === impl SqliteMetadataStore ===

impl SqliteMetadataStore {
    /// Opens a database, made where there is none, and brings it up to date.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotWritable`] and [`RegistryError::Storage`].
    pub async fn open(path: &Path) -> Result<SqliteMetadataStore, RegistryError> {
        // Neither the switch to WAL nor sqlx's migrations keep two processes apart, and both happen only here.
        let lock = path.with_extension("open.lock");
        let _opening = blocking(move || FileLock::acquire(&lock)).await?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            // A connection that is open needs no space to read; one that is opened does.
            .idle_timeout(None)
            .max_lifetime(None)
            .before_acquire(|connection, _| {
                Box::pin(async move {
                    if connection.is_in_transaction() {
                        settle(connection).await?;
                    }
                    Ok(true)
                })
            })
            .connect_with(options)
            .await
            .map_err(failed("open the registry's database"))?;
        MIGRATOR
            .run(&pool)
            .await
            .map_err(|error| RegistryError::storage("bring the registry's database up to date")(error.into()))?;
        let head = audit::head(&mut *pool.acquire().await.map_err(failed(REACH))?).await?;
        let changes = Changes::start(head.sequence, |seen| poll(pool.clone(), WriteAheadLog::of(path), seen));
        let store = SqliteMetadataStore { pool, changes };
        if head.sequence == 0 {
            store.adopt().await?;
        }
        Ok(store)
    }

    /// Writes what there was before there was an audit log into it.
    async fn adopt(&self) -> Result<(), RegistryError> {
        let mut transaction = self.write().await?;
        if audit::head(&mut transaction).await?.sequence > 0 {
            return Ok(());
        }
        let rows = sqlx::query(select_versions!("ORDER BY v.created_at_ms, v.model, v.version"));
        let rows = rows.fetch_all(&mut *transaction).await.map_err(failed("read versions"))?;
        let mut sequence = 0;
        for row in &rows {
            let version: VersionRecord = read(row)?;
            let origin = Origin { actor: crate::audit::SYSTEM.to_owned(), at_ms: version.created_at_ms };
            for entry in version.adoption() {
                sequence = audit::append(&mut transaction, &entry, &origin).await?.sequence;
            }
        }
        self.commit(transaction, sequence, "begin the audit log").await
    }

    async fn read(&self) -> Result<PoolConnection<Sqlite>, RegistryError> {
        self.pool.acquire().await.map_err(failed(REACH))
    }

    /// A transaction that writes. It takes the write lock at once, so that what it reads is still true when it writes.
    async fn write(&self) -> Result<Transaction<'static, Sqlite>, RegistryError> {
        self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed("begin a transaction"))
    }

    /// Ends a transaction whose last row in the audit log has this number, and tells whoever waits for changes.
    async fn commit(
        &self,
        transaction: Transaction<'static, Sqlite>,
        sequence: u64,
        doing: &'static str,
    ) -> Result<(), RegistryError> {
        transaction.commit().await.map_err(failed(doing))?;
        self.changes.note(sequence);
        Ok(())
    }
}

/// Other processes that use the file are heard of by asking, when somebody has written: a question takes two threads,
/// four times a second, of a server that may be busy.
async fn poll(pool: SqlitePool, mut log: WriteAheadLog, seen: Arc<watch::Sender<u64>>) {
    while !pool.is_closed() {
        tokio::time::sleep(POLL).await;
        let written = log.written();
        if log.is_read(written) {
            continue;
        }
        let Ok(mut connection) = pool.acquire().await else { continue };
        if let Ok(head) = audit::head(&mut connection).await {
            note(&seen, head.sequence);
            log.read = written;
        }
    }
}

// === impl WriteAheadLog ===

impl WriteAheadLog {
    /// The log of a database that is open.
    fn of(database: &Path) -> WriteAheadLog {
        let mut path = database.as_os_str().to_owned();
        path.push("-wal");
        WriteAheadLog { path: path.into(), read: None }
    }

    /// When it was written last, and its size. None where the system does not tell, and while it was written just now:
    /// more may come that is told with the same time.
    fn written(&self) -> Option<Written> {
        let metadata = fs_err::metadata(&self.path).ok()?;
        let at = metadata.modified().ok()?;
        // Of a time to come nothing is known either.
        let is_past = at.elapsed().is_ok_and(|since| since > SETTLED_AFTER);
        is_past.then_some((at, metadata.len()))
    }

    /// Whether everything was read that had been written then.
    fn is_read(&self, written: Option<Written>) -> bool {
        written.is_some() && written == self.read
    }
}

#[async_trait]
impl MetadataStore for SqliteMetadataStore {
    async fn register(
        &self,
        versions: &[NewVersion],
        stored: &dyn Stored,
        actor: &str,
    ) -> Result<Vec<Imported>, RegistryError> {
        let mut transaction = self.write().await?;
        let mut imported = Vec::with_capacity(versions.len());
        let mut sequence = 0;
        for version in versions {
            let known = find(&mut transaction, &version.model, &version.digest).await?;
            imported.push(match known {
                Some(version) => Imported { version, created: false },
                None => {
                    stored.check(version).await?;
                    let version = insert(&mut transaction, version).await?;
                    let origin = Origin { actor: actor.to_owned(), at_ms: version.created_at_ms };
                    sequence = audit::append(&mut transaction, &version.registration(), &origin).await?.sequence;
                    Imported { version, created: true }
                }
            });
        }
        self.commit(transaction, sequence, "register a version").await?;
        Ok(imported)
    }

    async fn find(&self, model: &str, digest: &Digest) -> Result<Option<VersionRecord>, RegistryError> {
        find(&mut *self.read().await?, model, digest).await
    }

    async fn get(&self, model: &str, choice: &VersionChoice) -> Result<VersionRecord, RegistryError> {
        let mut connection = self.read().await?;
        match choice {
            VersionChoice::Number(version) => version_by_number(&mut connection, model, *version).await,
            VersionChoice::Alias(alias) => match alias_target(&mut connection, model, alias).await? {
                Some(version) => Ok(version),
                None if model_exists(&mut *connection, model).await? => Err(no_alias(model, alias)),
                None => Err(no_model(model)),
            },
        }
    }

    async fn list_models(&self, after: Option<&str>, limit: u32) -> Result<Vec<ModelRecord>, RegistryError> {
        // One or two rows a model, by name and number: the production version, if any, and the newest.
        let rows = sqlx::query(select_versions!(
            ", m.version_count",
            "JOIN (SELECT model, max(version) AS newest, count(*) AS version_count FROM versions WHERE model > ?1 \
             GROUP BY model ORDER BY model LIMIT ?2) m ON m.model = v.model \
             WHERE v.version = m.newest \
             OR v.version = (SELECT version FROM aliases p WHERE p.model = v.model AND p.alias = ?3) \
             ORDER BY v.model, v.version"
        ))
        .bind(after.unwrap_or(""))
        .bind(limit)
        .bind(PRODUCTION)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("list models"))?;
        let mut models: Vec<ModelRecord> = Vec::new();
        for row in &rows {
            let count = row.try_get("version_count").map_err(|error| malformed(&error))?;
            ModelRecord::gather(&mut models, read(row)?, count);
        }
        Ok(models)
    }

    async fn list_versions(
        &self,
        model: &str,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Vec<VersionRecord>, RegistryError> {
        let rows =
            sqlx::query(select_versions!("WHERE v.model = ?1 AND v.version < ?2 ORDER BY v.version DESC LIMIT ?3"))
                .bind(model)
                .bind(before.map_or(i64::MAX, i64::from))
                .bind(limit)
                .fetch_all(&self.pool)
                .await
                .map_err(failed("list versions"))?;
        if rows.is_empty() && !model_exists(&self.pool, model).await? {
            return Err(no_model(model));
        }
        rows.iter().map(read).collect()
    }

    async fn list_all(&self, after: Option<(&str, u32)>, limit: u32) -> Result<Vec<VersionRecord>, RegistryError> {
        // No name is empty.
        let (model, version) = after.unwrap_or(("", 0));
        let rows = sqlx::query(select_versions!(
            "WHERE v.model > ?1 OR v.model = ?1 AND v.version < ?2 ORDER BY v.model, v.version DESC LIMIT ?3"
        ))
        .bind(model)
        .bind(i64::from(version))
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("list all versions"))?;
        rows.iter().map(read).collect()
    }

    async fn move_alias(&self, change: &AliasChange, origin: &Origin) -> Result<Option<u32>, RegistryError> {
        let mut transaction = self.write().await?;
        let (found, sequence) = move_alias(&mut transaction, change, origin).await?;
        self.commit(transaction, sequence, "move an alias").await?;
        Ok(found)
    }

    async fn delete_version(
        &self,
        model: &str,
        version: u32,
        references: &[String],
        origin: &Origin,
    ) -> Result<VersionRecord, RegistryError> {
        let mut transaction = self.write().await?;
        let version = version_by_number(&mut transaction, model, version).await?;
        version.check_unused(references)?;
        sqlx::query("DELETE FROM versions WHERE model = ?1 AND version = ?2")
            .bind(model)
            .bind(version.version)
            .execute(&mut *transaction)
            .await
            .map_err(failed("delete a version"))?;
        let row = audit::append(&mut transaction, &version.entry(DELETE_VERSION), origin).await?;
        self.commit(transaction, row.sequence, "delete a version").await?;
        Ok(version)
    }

    async fn set_pin(
        &self,
        model: &str,
        version: u32,
        reason: Option<&str>,
        origin: &Origin,
    ) -> Result<bool, RegistryError> {
        let mut transaction = self.write().await?;
        let version = version_by_number(&mut transaction, model, version).await?;
        if version.pinned == reason.is_some() {
            return Ok(false);
        }
        let query = match reason {
            Some(reason) => sqlx::query("INSERT INTO pins (model, version, reason) VALUES (?1, ?2, ?3)")
                .bind(model)
                .bind(version.version)
                .bind(reason),
            None => sqlx::query("DELETE FROM pins WHERE model = ?1 AND version = ?2").bind(model).bind(version.version),
        };
        query.execute(&mut *transaction).await.map_err(failed("pin a version"))?;
        let row = audit::append(&mut transaction, &version.pin_entry(reason), origin).await?;
        self.commit(transaction, row.sequence, "pin a version").await?;
        Ok(true)
    }

    async fn collect(&self, collector: &dyn Collector, origin: &Origin) -> Result<Collected, RegistryError> {
        let mut transaction = self.write().await?;
        let rows = sqlx::query("SELECT digest FROM versions").fetch_all(&mut *transaction).await;
        let rows = rows.map_err(failed("read versions"))?;
        let live = rows.iter().map(read::<Digest>).collect::<Result<Vec<Digest>, RegistryError>>()?;
        let collected = collector.collect(&live).await?;
        if collected.files > 0 {
            let row = audit::append(&mut transaction, &collected.entry(), origin).await?;
            self.commit(transaction, row.sequence, "collect garbage").await?;
        }
        Ok(collected)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn record(&self, entries: &[AuditEntry], origin: &Origin) -> Result<Vec<AuditRecord>, RegistryError> {
        let mut transaction = self.write().await?;
        let mut rows = Vec::with_capacity(entries.len());
        for entry in entries {
            rows.push(audit::append(&mut transaction, entry, origin).await?);
        }
        let sequence = rows.last().map_or(0, |row| row.sequence);
        self.commit(transaction, sequence, "write the audit log").await?;
        Ok(rows)
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>, RegistryError> {
        audit::rows(&mut *self.read().await?, query).await
    }

    async fn audit_head(&self) -> Result<AuditHead, RegistryError> {
        audit::head(&mut *self.read().await?).await
    }

    async fn as_of(&self, model: &str, at_ms: i64) -> Result<Vec<AuditRecord>, RegistryError> {
        audit::as_of(&mut *self.read().await?, model, at_ms).await
    }

    async fn registration(&self, model: &str, version: u32) -> Result<Option<AuditRecord>, RegistryError> {
        audit::registration(&mut *self.read().await?, model, version).await
    }

    async fn rows_of(
        &self,
        model: &str,
        version: u32,
        action: &str,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, RegistryError> {
        audit::rows_of(&mut *self.read().await?, model, version, action, limit).await
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

async fn find(
    connection: &mut SqliteConnection,
    model: &str,
    digest: &Digest,
) -> Result<Option<VersionRecord>, RegistryError> {
    let row = sqlx::query(select_versions!("WHERE v.model = ?1 AND v.digest = ?2"))
        .bind(model)
        .bind(digest.to_string())
        .fetch_optional(connection)
        .await
        .map_err(failed("read a version"))?;
    row.as_ref().map(read).transpose()
}

async fn version_by_number(
    connection: &mut SqliteConnection,
    model: &str,
    version: u32,
) -> Result<VersionRecord, RegistryError> {
    let row = sqlx::query(select_versions!("WHERE v.model = ?1 AND v.version = ?2"))
        .bind(model)
        .bind(version)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("read a version"))?;
    match row {
        Some(row) => read(&row),
        None if model_exists(connection, model).await? => Err(no_version(model, version)),
        None => Err(no_model(model)),
    }
}

/// The version an alias points at.
async fn alias_target(
    connection: &mut SqliteConnection,
    model: &str,
    alias: &str,
) -> Result<Option<VersionRecord>, RegistryError> {
    let row = sqlx::query(select_versions!(
        "WHERE v.model = ?1 AND v.version = (SELECT version FROM aliases WHERE model = ?1 AND alias = ?2)"
    ))
    .bind(model)
    .bind(alias)
    .fetch_optional(connection)
    .await
    .map_err(failed("read an alias"))?;
    row.as_ref().map(read).transpose()
}

/// Moves an alias as part of a transaction, and tells where it pointed before, and the row that says so.
async fn move_alias(
    transaction: &mut SqliteConnection,
    change: &AliasChange,
    origin: &Origin,
) -> Result<(Option<u32>, u64), RegistryError> {
    let AliasChange { model, alias, version, expected } = change;
    let target = match version {
        Some(version) => Some(version_by_number(&mut *transaction, model, *version).await?),
        None => None,
    };
    let previous = match alias_target(&mut *transaction, model, alias).await? {
        None if target.is_none() && !model_exists(&mut *transaction, model).await? => return Err(no_model(model)),
        previous => previous,
    };
    let found = previous.as_ref().map(|version| version.version);
    if !expected.holds(found) {
        return Err(RegistryError::Conflict { model: model.clone(), alias: alias.clone(), found });
    }
    let query = match &target {
        Some(version) => sqlx::query(
            "INSERT INTO aliases (model, alias, version) VALUES (?1, ?2, ?3) \
             ON CONFLICT (model, alias) DO UPDATE SET version = excluded.version",
        )
        .bind(model)
        .bind(alias)
        .bind(version.version),
        None if previous.is_none() => return Err(no_alias(model, alias)),
        None => sqlx::query("DELETE FROM aliases WHERE model = ?1 AND alias = ?2").bind(model).bind(alias),
    };
    query.execute(&mut *transaction).await.map_err(failed("move an alias"))?;
    let row = audit::append(&mut *transaction, &change.entry(target.as_ref(), previous.as_ref()), origin).await?;
    Ok((found, row.sequence))
}

async fn insert(connection: &mut SqliteConnection, version: &NewVersion) -> Result<VersionRecord, RegistryError> {
    let NewVersion { model, digest, created_at_ms, task, backend, license, description, size_bytes } = version.clone();
    let stored_size = i64::try_from(size_bytes)
        .map_err(|_| RegistryError::TooLarge { what: "the version".to_owned(), max_bytes: i64::MAX.unsigned_abs() })?;
    let row = sqlx::query(
        "INSERT INTO models (name, last_version) VALUES (?1, 1) \
         ON CONFLICT (name) DO UPDATE SET last_version = last_version + 1 RETURNING last_version",
    )
    .bind(&model)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed("number a version"))?;
    let number: u32 = row.try_get(0).map_err(|error| malformed(&error))?;
    sqlx::query(
        "INSERT INTO versions \
         (model, version, digest, created_at_ms, task, backend, license, description, size_bytes) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )
    .bind(&model)
    .bind(number)
    .bind(digest.to_string())
    .bind(created_at_ms)
    .bind(&task)
    .bind(&backend)
    .bind(&license)
    .bind(&description)
    .bind(stored_size)
    .execute(connection)
    .await
    .map_err(failed("register a version"))?;
    let aliases = Vec::new();
    let version = number;
    Ok(VersionRecord {
        model,
        version,
        digest,
        created_at_ms,
        aliases,
        task,
        backend,
        license,
        description,
        size_bytes,
        pinned: false,
    })
}

async fn model_exists(executor: impl sqlx::SqliteExecutor<'_>, model: &str) -> Result<bool, RegistryError> {
    let row = sqlx::query("SELECT 1 FROM models WHERE name = ?1").bind(model).fetch_optional(executor).await;
    Ok(row.map_err(failed("read a model"))?.is_some())
}

/// Ends what a connection takes for a transaction and SQLite has ended by itself, as it does when the disk is full.
///
/// sqlx then fails to roll back, counts the transaction as open for ever, and begins no other one on the connection.
/// Opening another connection instead would need what a full disk does not have: space for the index of the log.
async fn settle(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    // Gives the roll-back something to end; where a transaction is open after all, that one.
    let _ = sqlx::query("BEGIN").execute(&mut *connection).await;
    <Sqlite as sqlx::Database>::TransactionManager::rollback(connection).await
}

fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> RegistryError {
    move |error| RegistryError::storage(doing)(error.into())
}
