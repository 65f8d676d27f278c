//! Metadata in PostgreSQL, which replicas share.
//!
//! Writers take turns by an advisory lock, as SQLite's do by its own: what a transaction reads is still true when it writes,
//! and the audit log has one end. Readers wait for nobody.

mod audit;
mod fleet;
mod rollouts;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use ev_models_core::Digest;
use sqlx::{
    Connection as _, PgConnection, PgPool, Postgres, Row as _, Transaction,
    migrate::Migrator,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    MetadataStore,
    changes::{Changes, POLL, note},
    rows::{malformed, narrow, read},
};
use crate::{
    AliasChange, AuditEntry, AuditHead, AuditQuery, AuditRecord, Collected, Collector, Imported, ModelRecord,
    NewVersion, Origin, PRODUCTION, RegistryError, Stored, VersionChoice, VersionRecord,
    audit::DELETE_VERSION,
    record::{no_alias, no_model, no_version},
};

const REACH: &str = "reach the registry's database";

static MIGRATOR: Migrator = sqlx::migrate!("migrations/postgres");

/// The registry's own, so that it can share a database with telemetry and others.
const SCHEMA: &str = "evserve_registry";
/// Where changes are told.
const CHANNEL: &str = "evserve_registry";
/// Key of the advisory lock under which replicas take turns to write.
const WRITERS: i64 = 0x65_76_72_65_67_69_73;

/// Between two attempts to reach the database.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Where a database is, and its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// `postgres://user:password@host/database`.
    pub url: String,
    /// Connections, one of which listens for changes; at least 2.
    pub connections_max: u32,
    /// How long a call waits for a connection.
    pub acquire_timeout: Duration,
    /// How long opening waits for a database that does not answer, or is starting; 0: not at all.
    pub open_wait: Duration,
}

/// A version's columns, with its aliases in the same statement so that both are of one moment.
macro_rules! select_versions {
    ($rest:literal) => {
        select_versions!("", $rest)
    };
    ($columns:literal, $rest:literal) => {
        concat!(
            "SELECT v.model, v.version, v.digest, v.created_at_ms, v.task, v.backend, v.license, v.description, \
             v.size_bytes, EXISTS (SELECT 1 FROM pins p WHERE p.model = v.model AND p.version = v.version) AS pinned, \
             (SELECT string_agg(a.alias, ' ') FROM aliases a \
             WHERE a.model = v.model AND a.version = v.version) AS aliases",
            $columns,
            " FROM versions v ",
            $rest
        )
    };
}

/// Metadata in PostgreSQL 15 or newer.
#[derive(Debug, Clone)]
pub struct PostgresMetadataStore {
    pool: PgPool,
    changes: Changes,
}

// === impl PostgresOptions ===

impl PostgresOptions {
    /// A store in this database, with the default bounds.
    #[must_use]
    pub fn new(url: impl Into<String>) -> PostgresOptions {
        PostgresOptions {
            url: url.into(),
            connections_max: 4,
            acquire_timeout: Duration::from_secs(5),
            open_wait: Duration::ZERO,
        }
    }

    /// Checks what can be checked without the database.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Storage`] when the URL is none. It does not repeat the URL, which may hold a password.
    pub fn check(&self) -> Result<(), RegistryError> {
        self.connect_options().map(drop)
    }

    fn connect_options(&self) -> Result<PgConnectOptions, RegistryError> {
        let parsed = self.url.parse().map_err(failed("read the URL of the registry's database"));
        parsed.map(|options: PgConnectOptions| options.application_name("evserve"))
    }
}

// === impl PostgresMetadataStore ===

impl PostgresMetadataStore {
    /// Connects, and brings the database up to date. Replicas may do so at the same time.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Unreachable`] when the database does not answer for [`PostgresOptions::open_wait`];
    /// [`RegistryError::Storage`] when it refuses, or cannot be changed.
    pub async fn open(options: PostgresOptions) -> Result<PostgresMetadataStore, RegistryError> {
        let connect = options.connect_options()?;
        wait_for(&connect, &options).await?;
        let pool = PgPoolOptions::new()
            .max_connections(options.connections_max.max(2))
            .acquire_timeout(options.acquire_timeout)
            .after_connect(|connection, _| Box::pin(prepare(connection)))
            .connect_with(connect)
            .await
            .map_err(failed(REACH))?;
        MIGRATOR.run(&pool).await.map_err(|error| failed("bring the registry's database up to date")(error.into()))?;
        let head = audit::head(&mut *pool.acquire().await.map_err(failed(REACH))?).await?;
        let changes = Changes::start(head.sequence, |seen| listen(pool.clone(), seen));
        Ok(PostgresMetadataStore { pool, changes })
    }

    async fn read(&self) -> Result<PoolConnection<Postgres>, RegistryError> {
        self.pool.acquire().await.map_err(failed(REACH))
    }

    /// A transaction that writes, when it is its turn.
    async fn write(&self) -> Result<Transaction<'static, Postgres>, RegistryError> {
        let doing = "begin a transaction";
        let mut transaction = self.pool.begin().await.map_err(failed(doing))?;
        let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(WRITERS).execute(&mut *transaction).await;
        lock.map_err(failed(doing))?;
        Ok(transaction)
    }

    /// Ends a transaction whose last row in the audit log has this number, and tells whoever waits for changes.
    async fn commit(
        &self,
        transaction: Transaction<'static, Postgres>,
        sequence: u64,
        doing: &'static str,
    ) -> Result<(), RegistryError> {
        transaction.commit().await.map_err(failed(doing))?;
        self.changes.note(sequence);
        Ok(())
    }
}

/// Other replicas are heard of by notification; and, lest one is lost with its connection, by asking.
async fn listen(pool: PgPool, seen: Arc<watch::Sender<u64>>) {
    let mut listener = None;
    while !pool.is_closed() {
        if listener.is_none() {
            listener = listener_on(&pool).await.ok();
        }
        match &mut listener {
            // None: the connection was lost, and is made again by the next call.
            Some(listening) => match timeout(POLL, listening.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    if let Ok(sequence) = notification.payload().parse() {
                        note(&seen, sequence);
                        continue;
                    }
                }
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(_)) => {
                    listener = None;
                    sleep(POLL).await;
                }
            },
            None => sleep(POLL).await,
        }
        let Ok(mut connection) = pool.acquire().await else { continue };
        if let Ok(head) = audit::head(&mut connection).await {
            note(&seen, head.sequence);
        }
    }
}

async fn listener_on(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Waits until the database takes connections, and makes the schema. What waiting does not change, such as a wrong
/// password, is told at once.
async fn wait_for(connect: &PgConnectOptions, options: &PostgresOptions) -> Result<(), RegistryError> {
    let end = Instant::now() + options.open_wait;
    let mut pause = PAUSE_MIN;
    loop {
        // Within a bound of its own: packets to a host that is not there vanish.
        let error = match timeout(options.acquire_timeout, PgConnection::connect_with(connect)).await {
            Ok(Ok(mut connection)) => match make_schema(&mut connection).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            Ok(Err(error)) => error,
            Err(_) => sqlx::Error::PoolTimedOut,
        };
        let waits = is_away(&error) && Instant::now() + pause < end;
        let error = failed(REACH)(error);
        if !waits {
            return Err(error);
        }
        tracing::warn!(error = &error as &dyn std::error::Error, "waiting for the registry's database");
        sleep(pause).await;
        pause = PAUSE_MAX.min(pause * 2);
    }
}

/// Makes the schema where there is none: who may not make one can use one that is there.
async fn make_schema(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(WRITERS).execute(&mut *transaction).await?;
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)")
        .bind(SCHEMA)
        .fetch_one(&mut *transaction)
        .await?;
    if !exists {
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE SCHEMA {SCHEMA}"))).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

/// A connection uses the registry's schema, answers commits when they are on the server's disk, and gives the write lock
/// back should this process stand still while it holds it.
async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    for (name, value) in
        [("search_path", SCHEMA), ("lock_timeout", "10s"), ("idle_in_transaction_session_timeout", "30s")]
    {
        let set = sqlx::query("SELECT set_config($1, $2, false)").bind(name).bind(value);
        set.execute(&mut *connection).await?;
    }
    sqlx::query(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
    )
    .execute(connection)
    .await
    .map(drop)
}

#[async_trait]
impl MetadataStore for PostgresMetadataStore {
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
            "JOIN (SELECT model, max(version) AS newest, count(*) AS version_count FROM versions WHERE model > $1 \
             GROUP BY model ORDER BY model LIMIT $2) m ON m.model = v.model \
             WHERE v.version = m.newest \
             OR v.version = (SELECT version FROM aliases p WHERE p.model = v.model AND p.alias = $3) \
             ORDER BY v.model, v.version"
        ))
        .bind(after.unwrap_or(""))
        .bind(i64::from(limit))
        .bind(PRODUCTION)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("list models"))?;
        let mut models: Vec<ModelRecord> = Vec::new();
        for row in &rows {
            let count = row.try_get("version_count").and_then(narrow).map_err(|error| malformed(&error))?;
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
            sqlx::query(select_versions!("WHERE v.model = $1 AND v.version < $2 ORDER BY v.version DESC LIMIT $3"))
                .bind(model)
                .bind(before.map_or(i64::MAX, i64::from))
                .bind(i64::from(limit))
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
            "WHERE v.model > $1 OR v.model = $1 AND v.version < $2 ORDER BY v.model, v.version DESC LIMIT $3"
        ))
        .bind(model)
        .bind(i64::from(version))
        .bind(i64::from(limit))
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
        sqlx::query("DELETE FROM versions WHERE model = $1 AND version = $2")
            .bind(model)
            .bind(i64::from(version.version))
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
            Some(reason) => sqlx::query("INSERT INTO pins (model, version, reason) VALUES ($1, $2, $3)")
                .bind(model)
                .bind(i64::from(version.version))
                .bind(reason),
            None => sqlx::query("DELETE FROM pins WHERE model = $1 AND version = $2")
                .bind(model)
                .bind(i64::from(version.version)),
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
    connection: &mut PgConnection,
    model: &str,
    digest: &Digest,
) -> Result<Option<VersionRecord>, RegistryError> {
    let row = sqlx::query(select_versions!("WHERE v.model = $1 AND v.digest = $2"))
        .bind(model)
        .bind(digest.to_string())
        .fetch_optional(connection)
        .await
        .map_err(failed("read a version"))?;
    row.as_ref().map(read).transpose()
}

async fn version_by_number(
    connection: &mut PgConnection,
    model: &str,
    version: u32,
) -> Result<VersionRecord, RegistryError> {
    let row = sqlx::query(select_versions!("WHERE v.model = $1 AND v.version = $2"))
        .bind(model)
        .bind(i64::from(version))
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
    connection: &mut PgConnection,
    model: &str,
    alias: &str,
) -> Result<Option<VersionRecord>, RegistryError> {
    let row = sqlx::query(select_versions!(
        "WHERE v.model = $1 AND v.version = (SELECT version FROM aliases WHERE model = $1 AND alias = $2)"
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
    transaction: &mut PgConnection,
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
            "INSERT INTO aliases (model, alias, version) VALUES ($1, $2, $3) \
             ON CONFLICT (model, alias) DO UPDATE SET version = excluded.version",
        )
        .bind(model)
        .bind(alias)
        .bind(i64::from(version.version)),
        None if previous.is_none() => return Err(no_alias(model, alias)),
        None => sqlx::query("DELETE FROM aliases WHERE model = $1 AND alias = $2").bind(model).bind(alias),
    };
    query.execute(&mut *transaction).await.map_err(failed("move an alias"))?;
    let entry = change.entry(target.as_ref(), previous.as_ref());
    let row = audit::append(&mut *transaction, &entry, origin).await?;
    Ok((found, row.sequence))
}

async fn insert(connection: &mut PgConnection, version: &NewVersion) -> Result<VersionRecord, RegistryError> {
    let NewVersion { model, digest, created_at_ms, task, backend, license, description, size_bytes } = version.clone();
    let stored_size = i64::try_from(size_bytes)
        .map_err(|_| RegistryError::TooLarge { what: "the version".to_owned(), max_bytes: i64::MAX.unsigned_abs() })?;
    let row = sqlx::query(
        "INSERT INTO models (name, last_version) VALUES ($1, 1) \
         ON CONFLICT (name) DO UPDATE SET last_version = models.last_version + 1 RETURNING last_version",
    )
    .bind(&model)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed("number a version"))?;
    let number: u32 = row.try_get(0).and_then(narrow).map_err(|error| malformed(&error))?;
    sqlx::query(
        "INSERT INTO versions \
         (model, version, digest, created_at_ms, task, backend, license, description, size_bytes) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(&model)
    .bind(i64::from(number))
    .bind(digest.to_string())
    .bind(created_at_ms)
    .bind(&task)
    .bind(&backend)
    .bind(&license)
    // The one character that PostgreSQL's texts cannot have.
    .bind(description.replace('\0', ""))
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

async fn model_exists(executor: impl sqlx::PgExecutor<'_>, model: &str) -> Result<bool, RegistryError> {
    let row = sqlx::query("SELECT 1 FROM models WHERE name = $1").bind(model).fetch_optional(executor).await;
    Ok(row.map_err(failed("read a model"))?.is_some())
}

/// `too_many_connections`, what a server says that is going down, has crashed, or is coming up, and `lock_not_available`:
/// the writers before did not come to an end in time.
const AWAY: [&str; 5] = ["53300", "57P01", "57P02", "57P03", "55P03"];

fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> RegistryError {
    move |error| match error {
        sqlx::Error::PoolClosed => RegistryError::ShuttingDown,
        error if is_away(&error) => RegistryError::Unreachable { doing, source: error.into() },
        error => RegistryError::storage(doing)(error.into()),
    }
}

/// Whether it is the way to the database, or the database as a whole, that failed: later it may answer.
fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        error => {
            let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
            code.is_some_and(|code| AWAY.contains(&&*code))
        }
    }
}
