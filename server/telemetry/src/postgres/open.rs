//! Opening a store.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use ev_domain::Catalogue;
use sqlx::{
    Connection as _, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::{Instant, sleep, timeout};

use super::{PostgresOptions, PostgresTelemetryStore, failed, is_away};
use crate::{TelemetryError, codec::Dictionary};

static MIGRATOR: Migrator = sqlx::migrate!("migrations/postgres");

const REACH: &str = "reach the telemetry database";
/// Between two attempts to reach the database.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Key of the advisory lock under which partitions are made and dropped: replicas take turns.
pub(super) const PARTITIONS: i64 = 0x65_76_74_65_6c_65_6d;

impl PostgresTelemetryStore {
    /// Connects, and brings the database up to date. Replicas may do so at the same time.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::Unreachable`] when the database does not answer for [`PostgresOptions::open_wait`];
    /// [`TelemetryError::Storage`] when it refuses, cannot be changed, or holds what no evserve wrote.
    pub async fn open(
        options: PostgresOptions,
        catalogue: &Catalogue,
    ) -> Result<PostgresTelemetryStore, TelemetryError> {
        let connect = options.connect_options()?;
        wait_for(&connect, &options).await?;
        let pool = PgPoolOptions::new()
            .max_connections(options.connections_max)
            .acquire_timeout(options.acquire_timeout)
            .after_connect(|connection, _| Box::pin(make_commits_durable(connection)))
            .connect_with(connect)
            .await
            .map_err(failed(REACH))?;
        MIGRATOR.run(&pool).await.map_err(|error| failed("bring the telemetry database up to date")(error.into()))?;
        let dictionary = dictionary(&pool, catalogue).await?;
        // At the first moment it is seen whether there are too many.
        let rejects_untrimmed = (usize::MAX / 2).into();
        Ok(PostgresTelemetryStore { options, dictionary, pool, days: Mutex::default(), rejects_untrimmed })
    }

    /// Makes the partitions that are missing.
    pub(super) async fn make_partitions(
        &self,
        connection: &mut PgConnection,
        days: &BTreeSet<i64>,
    ) -> Result<(), TelemetryError> {
        let doing = "make a partition";
        let missing: Vec<i64> = {
            let known = self.days.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            days.difference(&known).copied().collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(PARTITIONS)
            .execute(&mut *connection)
            .await
            .map_err(failed(doing))?;
        for day in missing {
            let (name, next) = (partition(day), day.saturating_add(1));
            let sql =
                format!("CREATE TABLE IF NOT EXISTS {name} PARTITION OF chunk FOR VALUES FROM ({day}) TO ({next})");
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *connection).await.map_err(failed(doing))?;
        }
        Ok(())
    }

    /// Takes note of partitions, once the transaction that made them is committed.
    pub(super) fn note_partitions(&self, days: BTreeSet<i64>) {
        self.days.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(days);
    }

    pub(super) fn forget_partitions(&self) {
        self.days.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }
}

/// Waits until the database takes connections. What waiting does not change, such as a wrong password, is told at once.
async fn wait_for(connect: &PgConnectOptions, options: &PostgresOptions) -> Result<(), TelemetryError> {
    let end = Instant::now() + options.open_wait;
    let mut pause = PAUSE_MIN;
    loop {
        // Within a bound of its own: packets to a host that is not there vanish.
        let error = match timeout(options.acquire_timeout, PgConnection::connect_with(connect)).await {
            Ok(Ok(connection)) => {
                let fsync: Result<String, _> = sqlx::query_scalar("SHOW fsync").fetch_one(&mut { connection }).await;
                if fsync.is_ok_and(|fsync| fsync == "off") {
                    tracing::warn!("the telemetry database runs with fsync = off: a power cut may lose what it stored");
                }
                return Ok(());
            }
            Ok(Err(error)) => error,
            Err(_) => sqlx::Error::PoolTimedOut,
        };
        let waits = is_away(&error) && Instant::now() + pause < end;
        let error = failed(REACH)(error);
        if !waits {
            return Err(error);
        }
        tracing::warn!(error = &error as &dyn std::error::Error, "waiting for the telemetry database");
        sleep(pause).await;
        pause = PAUSE_MAX.min(pause * 2);
    }
}

/// A server may be set to answer commits before they are on its disk; what is acknowledged as durable must be there.
async fn make_commits_durable(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
    )
    .execute(connection)
    .await
    .map(drop)
}

/// A partition's table.
pub(super) fn partition(day: i64) -> String {
    let before = if day < 0 { "before_" } else { "" };
    format!("chunk_day_{before}{}", day.unsigned_abs())
}

/// The store's numbers of signals, after giving one to every signal of the catalogue.
async fn dictionary(pool: &PgPool, catalogue: &Catalogue) -> Result<Dictionary, TelemetryError> {
    let doing = "name signals";
    let mut transaction = pool.begin().await.map_err(failed(doing))?;
    sqlx::query("LOCK TABLE signal IN EXCLUSIVE MODE").execute(&mut *transaction).await.map_err(failed(doing))?;
    for (_, signal) in catalogue.iter() {
        sqlx::query(
            "INSERT INTO signal (id, name) SELECT (SELECT coalesce(max(id) + 1, 0) FROM signal), $1 \
             WHERE NOT EXISTS (SELECT 1 FROM signal WHERE name = $1)",
        )
        .bind(signal.name.as_ref())
        .execute(&mut *transaction)
        .await
        .map_err(failed(doing))?;
    }
    transaction.commit().await.map_err(failed(doing))?;
    let names: Vec<(i32, String)> =
        sqlx::query_as("SELECT id, name FROM signal").fetch_all(pool).await.map_err(failed(doing))?;
    let names: Vec<(u16, String)> =
        names.into_iter().filter_map(|(id, name)| Some((u16::try_from(id).ok()?, name))).collect();
    Ok(Dictionary::new(&names, catalogue))
}
