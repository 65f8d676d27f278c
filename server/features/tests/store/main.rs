//! What every online store does, run against each of them, and what those with a server do when it fails.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod failures;
mod sentinel;
mod server;
mod suite;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use ev_domain::Catalogue;
use ev_features::{
    MemoryOnlineStore, MemorySettings, OnlineStore, RedisOnlineStore, RedisSettings, TieredOnlineStore, Views,
};
use server::Server;
use tokio::runtime::Handle;

/// A way to get an empty store of some kind.
#[async_trait]
trait Place: Sized + Send + Sync {
    /// Makes it; none where what it needs is not on this machine, which it says.
    async fn empty() -> Option<Self>;
    /// A handle to the store.
    async fn open(&self) -> Arc<dyn OnlineStore>;
}

struct Memory;
struct Single(Server);
struct Cluster(Server);
struct Tiered(Server);

fn views() -> Arc<Views> {
    Arc::new(Views::bundled(&Catalogue::standard()).unwrap())
}

fn settings(server: &Server, replica: &str) -> RedisSettings {
    // A machine that also compiles is slow at times.
    RedisSettings { deadline: Duration::from_millis(250), ..RedisSettings::single(server.url(), replica) }
}

fn redis(server: &Server, replica: &str) -> RedisOnlineStore {
    RedisOnlineStore::new(views(), settings(server, replica), Handle::current()).unwrap()
}

fn tiered(server: &Server, replica: &str) -> TieredOnlineStore {
    TieredOnlineStore::start(MemorySettings::default(), redis(server, replica), &Handle::current()).unwrap()
}

/// Waits for something that is to happen soon, and says how long it took.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}

#[async_trait]
impl Place for Memory {
    async fn empty() -> Option<Memory> {
        Some(Memory)
    }

    async fn open(&self) -> Arc<dyn OnlineStore> {
        Arc::new(MemoryOnlineStore::new(MemorySettings::default()).unwrap())
    }
}

#[async_trait]
impl Place for Single {
    async fn empty() -> Option<Single> {
        Server::start(&[]).map(Single)
    }

    async fn open(&self) -> Arc<dyn OnlineStore> {
        Arc::new(redis(&self.0, "a"))
    }
}

#[async_trait]
impl Place for Cluster {
    async fn empty() -> Option<Cluster> {
        let server = Server::start(&["--cluster-enabled", "yes"])?;
        assert_eq!(server.ask(&[b"CLUSTER", b"ADDSLOTSRANGE", b"0", b"16383"]), "+OK\r\n");
        while !server.ask(&[b"CLUSTER", b"INFO"]).contains("cluster_state:ok") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(Cluster(server))
    }

    async fn open(&self) -> Arc<dyn OnlineStore> {
        let settings = RedisSettings { cluster: true, ..settings(&self.0, "a") };
        Arc::new(RedisOnlineStore::new(views(), settings, Handle::current()).unwrap())
    }
}

#[async_trait]
impl Place for Tiered {
    async fn empty() -> Option<Tiered> {
        Server::start(&[]).map(Tiered)
    }

    async fn open(&self) -> Arc<dyn OnlineStore> {
        Arc::new(tiered(&self.0, "a"))
    }
}

macro_rules! behaviour {
    ($($module:ident, $place:ty: $tests:tt)+) => { $(behaviour!(@one $module, $place, $tests);)+ };
    (@one $module:ident, $place:ty, [$($test:ident),+ $(,)?]) => {
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

macro_rules! behaviours {
    ($($module:ident, $place:ty;)+) => {
        behaviour! {
            $($module, $place: [
                what_was_written_is_read,
                of_an_unknown_vehicle_nothing_is_known,
                only_newer_rows_are_written,
                a_row_is_changed_only_from_what_was_expected,
                of_racing_writers_the_newest_row_stays,
                of_racing_changes_none_is_lost,
                vehicles_and_views_do_not_mix,
            ])+
        }
    };
}

behaviours! {
    memory, Memory;
    single, Single;
    cluster, Cluster;
    with_memory_before, Tiered;
}
