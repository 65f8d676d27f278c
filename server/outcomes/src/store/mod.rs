//! The database of answers and outcomes.

mod append;
mod compare;
mod errors;
mod expire;
mod report;

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions as _, Row as _, SqlitePool,
    migrate::Migrator,
    sqlite::{
        SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};
use tokio::sync::{OnceCell, watch};

pub(crate) use append::{Due, Staged};
pub use compare::{Comparison, Question};
pub use errors::{ErrorsQuestion, PAIRS_MAX};
pub(crate) use expire::expire;

use crate::{
    codec,
    error::{OutcomesError, failed},
    prediction::Version,
};

static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// Connections that report and compare: more wait for each other.
const CONNECTIONS_MAX: u32 = 3;
/// Writers take turns; a turn is some hundred rows.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// What was answered, and what happened.
#[derive(Debug, Clone)]
pub struct Outcomes {
    pool: SqlitePool,
    connect: SqliteConnectOptions,
    /// Whether the file is there and up to date.
    ready: Arc<OnceCell<()>>,
    /// Counts calls that stored something of what happened.
    reports: Arc<watch::Sender<u64>>,
}

// === impl Outcomes ===

impl Outcomes {
    /// A database that is opened when it is first used, and made where there is none: that the disk is full is no reason
    /// not to start.
    pub(crate) fn new(path: &Path) -> Outcomes {
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A process that dies loses nothing that was committed; a machine that does, the last commits at most.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(64);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(connect.clone());
        Outcomes { pool, connect, ready: Arc::new(OnceCell::new()), reports: Arc::new(watch::Sender::new(0)) }
    }

    /// The database, opened and up to date.
    async fn pool(&self) -> Result<&SqlitePool, OutcomesError> {
        let open = || async {
            let migrated = MIGRATOR.run(&self.pool).await;
            migrated.map_err(|error| failed("bring the database of predictions up to date")(error.into()))
        };
        self.ready.get_or_try_init(open).await?;
        Ok(&self.pool)
    }

    /// Changes when something of what happened was stored.
    #[must_use]
    pub fn reports(&self) -> watch::Receiver<u64> {
        self.reports.subscribe()
    }

    /// The name of this log, for as long as there is its database: whatever process writes it.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn log_id(&self) -> Result<String, OutcomesError> {
        let id = sqlx::query_scalar("SELECT id FROM log").fetch_one(self.pool().await?).await;
        id.map_err(failed("read the name of the log"))
    }

    /// A connection of the log's own.
    pub(crate) async fn connect(&self) -> Result<SqliteConnection, OutcomesError> {
        self.pool().await?;
        self.connect.clone().connect().await.map_err(failed("open the database of predictions"))
    }

    /// Waits for what is under way, and closes the database.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A version of the columns `model, version, digest, columns`.
fn version_of(row: &SqliteRow) -> Result<Arc<Version>, OutcomesError> {
    let malformed = || OutcomesError::Malformed { what: "a model version" };
    let read = || Ok((row.try_get("model")?, row.try_get("version")?, row.try_get("digest")?, row.try_get("columns")?));
    let (model, version, digest, columns): (String, u32, String, &[u8]) =
        read().map_err(failed("read a model version"))?;
    let (inputs, output) = codec::take_columns(columns).ok_or_else(malformed)?;
    Ok(Arc::new(Version { model, version, digest, inputs, output }))
}

/// The least id of a prediction that was made at this time.
fn first_id(time_us: i64) -> [u8; 16] {
    let ms = u64::try_from(time_us.max(0) / 1_000).unwrap_or_default();
    let mut id = [0; 16];
    id[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
    id
}
