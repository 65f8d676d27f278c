//! What every telemetry store does, run against each of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod fleet;
mod model;
mod suite;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use ev_domain::Catalogue;
use ev_telemetry::{
    PostgresOptions, PostgresTelemetryStore, SequenceLimits, SqliteOptions, SqliteTelemetryStore, TelemetryError,
    TelemetryStore,
};

/// Bounds that tests reach.
const LIMITS: SequenceLimits = SequenceLimits { gaps_max: 4, jump_max: 100 };
const VEHICLES_MAX: u64 = 50;
const REJECTS_MAX: usize = 80;

/// An empty database of some kind.
#[async_trait]
trait Database: Sized + Send + Sync {
    /// Makes it; none, with a printed reason, where there is no server for it.
    async fn empty() -> Option<Self>;
    /// Opens it. What was open before was dropped, as a crash would.
    async fn open(&self) -> Arc<dyn TelemetryStore>;
    /// Removes it.
    async fn end(self) {}
}

struct Sqlite(tempfile::TempDir);

#[async_trait]
impl Database for Sqlite {
    async fn empty() -> Option<Sqlite> {
        Some(Sqlite(tempfile::tempdir().unwrap()))
    }

    async fn open(&self) -> Arc<dyn TelemetryStore> {
        let options = SqliteOptions {
            sequence_limits: LIMITS,
            vehicles_max: VEHICLES_MAX,
            vehicles_cached_max: 2,
            chunk_readings_min: 8,
            flush_readings: 60,
            waiting_readings_max: 200,
            rejects_max: REJECTS_MAX,
            ..SqliteOptions::new(self.0.path().join("telemetry.db"))
        };
        Arc::new(SqliteTelemetryStore::open(options, &Catalogue::standard()).await.unwrap())
    }
}

/// A database of its own on the server that `EVSERVE_TEST_POSTGRES` names, such as
/// `postgres://postgres@127.0.0.1:5432/postgres`.
struct Postgres {
    server: sqlx::PgPool,
    name: String,
    url: String,
}

const SERVER: &str = "EVSERVE_TEST_POSTGRES";

#[async_trait]
impl Database for Postgres {
    async fn empty() -> Option<Postgres> {
        let Ok(server) = std::env::var(SERVER) else {
            println!("skipped: {SERVER} names no PostgreSQL server");
            return None;
        };
        let (base, _) = server.rsplit_once('/').unwrap();
        let name = format!("ev_telemetry_{}", fastrand::u64(..));
        let url = format!("{base}/{name}");
        let server = sqlx::PgPool::connect(&server).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&server).await.unwrap();
        Some(Postgres { server, name, url })
    }

    async fn open(&self) -> Arc<dyn TelemetryStore> {
        let options = PostgresOptions {
            sequence_limits: LIMITS,
            vehicles_max: VEHICLES_MAX,
            flush_readings: 60,
            rejects_max: REJECTS_MAX,
            ..PostgresOptions::new(&self.url)
        };
        Arc::new(PostgresTelemetryStore::open(options, &Catalogue::standard()).await.unwrap())
    }

    async fn end(self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        sqlx::query(sqlx::AssertSqlSafe(drop)).execute(&self.server).await.unwrap();
    }
}

/// What is asked at a place where nobody answers is told within the time that was given.
#[tokio::test]
async fn a_database_that_does_not_answer_is_waited_for_and_told() {
    // Bound, and not listening: nobody else gets the port, and connections are refused.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    for open_wait in [0, 700] {
        let options = PostgresOptions {
            open_wait: Duration::from_millis(open_wait),
            ..PostgresOptions::new(format!("postgres://ev:secret@127.0.0.1:{port}/ev"))
        };
        let begin = Instant::now();
        let error = PostgresTelemetryStore::open(options, &Catalogue::standard()).await.unwrap_err();
        assert!(matches!(error, TelemetryError::Unreachable { .. }), "{error:?}");
        assert_eq!(error.to_string(), "cannot reach the telemetry database: the database does not answer");
        let waited = begin.elapsed();
        let (least, most) = (Duration::from_millis(open_wait / 2), Duration::from_millis(open_wait + 5_000));
        assert!(waited >= least && waited < most, "{waited:?} of {open_wait} ms");
    }
    let refused = PostgresOptions::new("postgres://ev:secret@host:port/ev").check().unwrap_err();
    assert!(!format!("{refused:?}").contains("secret"), "{refused:?}");
}

macro_rules! behaviour {
    ($module:ident, $database:ty: $($test:ident),+ $(,)?) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    if let Some(database) = <$database>::empty().await {
                        suite::$test(&database).await;
                        database.end().await;
                    }
                }
            )+
        }
    };
}

macro_rules! behaviours {
    ($($test:ident),+ $(,)?) => {
        behaviour! { sqlite, Sqlite: $($test),+ }
        behaviour! { postgres, Postgres: $($test),+ }
    };
}

behaviours! {
    a_batch_is_stored_once,
    a_batch_without_readings_is_counted,
    racing_resends_are_stored_once,
    numbers_are_counted_for_each_source_and_vehicle,
    an_implausible_number_is_refused_and_nothing_of_it_stored,
    no_more_vehicles_are_taken_than_may_be,
    pages_are_in_order_of_time,
    signals_are_chosen_and_empty_readings_left_out,
    vehicles_are_listed_in_pages,
    gaps_and_completeness_are_exact,
    gaps_are_listed_in_pages,
    the_latest_value_is_by_the_vehicles_clock,
    aggregates_are_paged_by_time_and_name,
    questions_that_make_no_sense_are_refused,
    late_repeated_and_unordered_batches_give_what_ordered_ones_do,
    rejects_are_kept_once_and_listed_in_pages,
    the_latest_rejects_are_kept,
    what_is_old_is_deleted_and_its_aggregates_stay,
    a_source_that_is_forgotten_is_new_again,
    a_closed_store_fails_and_does_not_panic,
}
