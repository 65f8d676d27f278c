//! What every online store does, run against each of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod suite;

use std::sync::Arc;

use async_trait::async_trait;
use ev_features::{MemoryOnlineStore, MemorySettings, OnlineStore};

/// A way to get an empty store of some kind.
#[async_trait]
trait Place: Sized + Send + Sync {
    /// Makes it; none where what it needs is not on this machine, which it says.
    async fn empty() -> Option<Self>;
    /// A handle to the store.
    async fn open(&self) -> Arc<dyn OnlineStore>;
}

struct Memory;

#[async_trait]
impl Place for Memory {
    async fn empty() -> Option<Memory> {
        Some(Memory)
    }

    async fn open(&self) -> Arc<dyn OnlineStore> {
        Arc::new(MemoryOnlineStore::new(MemorySettings::default()).unwrap())
    }
}

macro_rules! behaviour {
    ($module:ident, $place:ty: $($test:ident),+ $(,)?) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    if let Some(place) = <$place>::empty().await {
                        suite::$test(place.open().await).await;
                    }
                }
            )+
        }
    };
}

behaviour! {
    memory, Memory:
    what_was_written_is_read,
    of_an_unknown_vehicle_nothing_is_known,
    only_newer_rows_are_written,
    a_row_is_changed_only_from_what_was_expected,
    of_racing_writers_the_newest_row_stays,
    of_racing_changes_none_is_lost,
    vehicles_and_views_do_not_mix,
}
