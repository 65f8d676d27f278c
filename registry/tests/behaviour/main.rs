//! What every metadata store does, run against each of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod fleet;
mod rollouts;
mod suite;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use ev_registry::{
    AuditEntry, MetadataStore, Origin, PostgresMetadataStore, PostgresOptions, RegistryError, SqliteMetadataStore,
};

/// An empty database of some kind.
#[async_trait]
trait Database: Sized + Send + Sync {
    /// Makes it; none, with a printed reason, where there is no server for it.
    async fn empty() -> Option<Self>;
    /// Opens another handle, as another process would.
    async fn open(&self) -> Arc<dyn MetadataStore>;
    /// Removes it.
    async fn end(self) {}
}

struct Sqlite(tempfile::TempDir);

#[async_trait]
impl Database for Sqlite {
    async fn empty() -> Option<Sqlite> {
        Some(Sqlite(tempfile::tempdir().unwrap()))
    }

    async fn open(&self) -> Arc<dyn MetadataStore> {
        Arc::new(SqliteMetadataStore::open(&self.0.path().join("registry.db")).await.unwrap())
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
        let name = format!("ev_registry_{}", fastrand::u64(..));
        let url = format!("{base}/{name}");
        let server = sqlx::PgPool::connect(&server).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&server).await.unwrap();
        Some(Postgres { server, name, url })
    }

    async fn open(&self) -> Arc<dyn MetadataStore> {
        Arc::new(PostgresMetadataStore::open(PostgresOptions::new(&self.url)).await.unwrap())
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
        let error = PostgresMetadataStore::open(options).await.unwrap_err();
        assert!(matches!(error, RegistryError::Unreachable { .. }), "{error:?}");
        assert_eq!(error.to_string(), "cannot reach the registry's database: the database does not answer");
        let waited = begin.elapsed();
        let (least, most) = (Duration::from_millis(open_wait / 2), Duration::from_millis(open_wait + 5_000));
        assert!(waited >= least && waited < most, "{waited:?} of {open_wait} ms");
    }
    let refused = PostgresOptions::new("postgres://ev:secret@host:port/ev").check().unwrap_err();
    assert!(!format!("{refused:?}").contains("secret"), "{refused:?}");
}

/// Replicas that start at the same moment, beside another room's tables, find one registry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_may_open_an_empty_database_at_once() {
    let Some(database) = Postgres::empty().await else { return };
    let other = sqlx::PgPool::connect(&database.url).await.unwrap();
    sqlx::raw_sql("CREATE TABLE models (other text); CREATE TABLE _sqlx_migrations (other text)")
        .execute(&other)
        .await
        .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let url = database.url.clone();
        tasks.spawn(async move { PostgresMetadataStore::open(PostgresOptions::new(url)).await.unwrap() });
    }
    for store in tasks.join_all().await {
        assert_eq!(store.audit_head().await.unwrap().sequence, 0);
        store.close().await;
    }
    other.close().await;
    database.end().await;
}

/// What a database keeps from everybody: rows of the log are neither changed nor removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_refuses_to_change_the_audit_log() {
    let Some(database) = Postgres::empty().await else { return };
    let store = database.open().await;
    let by = Origin { actor: "tester".to_owned(), at_ms: 0 };
    store.record(&[AuditEntry::new("waive", "a")], &by).await.unwrap();
    let shell = sqlx::PgPool::connect(&database.url).await.unwrap();
    for sql in [
        "UPDATE evserve_registry.audit SET actor = 'x'",
        "DELETE FROM evserve_registry.audit",
        "TRUNCATE evserve_registry.audit",
    ] {
        let refused = sqlx::query(sql).execute(&shell).await.unwrap_err();
        assert!(refused.to_string().contains("the audit log is append-only"), "{refused}");
    }
    shell.close().await;
    database.end().await;
}

/// Processes whose clocks differ by whatever they like go by one: the database's, or that of the machine they share.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_have_one_clock() {
    let sqlite = Sqlite::empty().await.unwrap();
    assert_eq!(sqlite.open().await.time_ms(7).await.unwrap(), 7);
    let Some(database) = Postgres::empty().await else { return };
    let (slow, fast) = (database.open().await, database.open().await);
    let times = [slow.time_ms(0).await, fast.time_ms(i64::MAX).await, slow.time_ms(0).await].map(Result::unwrap);
    assert!(times.is_sorted() && times[2] - times[0] < 60_000, "{times:?}");
    // 2023, which no test runs before.
    assert!(times[0] > 1_672_531_200_000, "{times:?}");
    drop((slow, fast));
    database.end().await;
}

macro_rules! behaviour {
    ($sqlite:ident, $postgres:ident, $suite:ident: $($test:ident),+ $(,)?) => {
        behaviour! { @ $sqlite, Sqlite, $suite: $($test),+ }
        behaviour! { @ $postgres, Postgres, $suite: $($test),+ }
    };
    (@ $module:ident, $database:ty, $suite:ident: $($test:ident),+ $(,)?) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let Some(database) = <$database>::empty().await else { return };
                    $suite::$test(&database).await;
                    database.end().await;
                }
            )+
        }
    };
}

behaviour! {
    sqlite, postgres, suite:
    versions_are_numbered_from_one_for_each_model,
    the_same_digest_is_the_same_version,
    a_batch_is_registered_whole,
    racing_registrations_of_one_digest_give_one_version,
    racing_registrations_of_many_digests_leave_no_gap,
    versions_are_found_by_number_alias_and_digest,
    all_versions_are_listed_page_by_page,
    what_does_not_exist_is_named,
    an_alias_moves_only_from_where_it_is_expected,
    of_two_racing_moves_one_wins,
    a_refused_move_changes_nothing,
    an_alias_is_removed_only_from_where_it_is_expected,
    every_change_has_its_audit_row_and_a_refused_one_has_none,
    audit_rows_come_in_pages_from_either_end,
    audit_rows_of_one_action_about_a_version_are_found,
    what_aliases_pointed_at_is_known_for_every_time,
    racing_changes_make_one_chain,
    a_version_is_deleted_only_when_nothing_refers_to_it,
    numbers_of_deleted_versions_are_not_given_again,
    pins_are_put_on_and_taken_off,
    a_version_whose_files_are_gone_is_not_registered,
    a_collector_is_shown_every_version,
    changes_are_told_to_every_handle_within_a_second,
    models_are_listed_by_name_with_production_and_latest,
    a_thousand_versions_are_listed_in_pages,
    everything_is_there_after_opening_again,
    a_closed_store_fails_and_does_not_panic,
}

behaviour! {
    sqlite_rollouts, postgres_rollouts, rollouts:
    a_model_has_one_rollout_under_way,
    a_rollout_changes_only_from_where_it_was_seen,
    an_alias_moves_with_its_rollout_or_neither_does,
    of_racing_changes_one_wins,
    what_processes_saw_is_kept_by_process,
    old_rollouts_are_forgotten,
}

behaviour! {
    sqlite_fleet, postgres_fleet, fleet:
    a_policy_is_set_replaced_and_removed_with_its_audit_row,
    what_a_server_says_replaces_what_it_said,
    servers_that_are_not_heard_of_are_forgotten,
    what_was_reported_is_kept_in_order_until_it_is_taken,
}
