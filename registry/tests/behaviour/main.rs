//! What every metadata store does, run against each of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod rollouts;
mod suite;

use std::sync::Arc;

use async_trait::async_trait;
use ev_registry::{MetadataStore, SqliteMetadataStore};

/// An empty database of some kind.
#[async_trait]
trait Database: Sized + Send + Sync {
    /// Makes it.
    async fn empty() -> Self;
    /// Opens another handle, as another process would.
    async fn open(&self) -> Arc<dyn MetadataStore>;
}

struct Sqlite(tempfile::TempDir);

#[async_trait]
impl Database for Sqlite {
    async fn empty() -> Sqlite {
        Sqlite(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Arc<dyn MetadataStore> {
        Arc::new(SqliteMetadataStore::open(&self.0.path().join("registry.db")).await.unwrap())
    }
}

macro_rules! behaviour {
    ($module:ident, $database:ty, $suite:ident: $($test:ident),+ $(,)?) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    $suite::$test(&<$database>::empty().await).await;
                }
            )+
        }
    };
}

behaviour! {
    sqlite, Sqlite, suite:
    versions_are_numbered_from_one_for_each_model,
    the_same_digest_is_the_same_version,
    a_batch_is_registered_whole,
    racing_registrations_of_one_digest_give_one_version,
    racing_registrations_of_many_digests_leave_no_gap,
    versions_are_found_by_number_alias_and_digest,
    what_does_not_exist_is_named,
    an_alias_moves_only_from_where_it_is_expected,
    of_two_racing_moves_one_wins,
    a_refused_move_changes_nothing,
    an_alias_is_removed_only_from_where_it_is_expected,
    every_change_has_its_audit_row_and_a_refused_one_has_none,
    audit_rows_come_in_pages_from_either_end,
    what_aliases_pointed_at_is_known_for_every_time,
    racing_changes_make_one_chain,
    models_are_listed_by_name_with_production_and_latest,
    a_thousand_versions_are_listed_in_pages,
    everything_is_there_after_opening_again,
    a_closed_store_fails_and_does_not_panic,
}

behaviour! {
    sqlite_rollouts, Sqlite, rollouts:
    a_model_has_one_rollout_under_way,
    a_rollout_changes_only_from_where_it_was_seen,
    an_alias_moves_with_its_rollout_or_neither_does,
    of_racing_changes_one_wins,
    what_processes_saw_is_kept_by_process,
    old_rollouts_are_forgotten,
}
