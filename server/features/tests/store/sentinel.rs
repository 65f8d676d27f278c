//! A master, a replica and their sentinel: failovers of both kinds, through a store that is told the sentinels alone.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ev_features::{MemorySettings, OnlineStore, RedisOnlineStore, RedisSettings, TieredOnlineStore};
use tokio::runtime::Handle;

use crate::{
    server::{Server, ask, free_port, program},
    suite::{row, vehicle, view_ids, write},
    views,
};

/// Ends with its owner.
struct Sentinel {
    port: u16,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Sentinel {
    fn watch(master: u16) -> Sentinel {
        let directory = tempfile::tempdir().unwrap();
        let (port, path) = (free_port(), directory.path().join("sentinel.conf"));
        let lines = [
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", directory.path().display()),
            format!("sentinel monitor mymaster 127.0.0.1 {master} 1"),
            "sentinel down-after-milliseconds mymaster 500".to_owned(),
            "sentinel failover-timeout mymaster 3000".to_owned(),
        ];
        fs_err::write(&path, lines.join("\n")).unwrap();
        let child =
            Command::new(program()).arg(&path).arg("--sentinel").stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Sentinel { port, child: child.unwrap(), _directory: directory }
    }

    fn ask(&self, words: &[&[u8]]) -> String {
        ask(self.port, words).unwrap_or_default()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn settings(sentinels: &[u16], replica: &str) -> RedisSettings {
    RedisSettings {
        // The database is the servers': sentinels have none.
        urls: sentinels.iter().map(|port| format!("redis://127.0.0.1:{port}/3")).collect(),
        sentinel: Some("mymaster".to_owned()),
        deadline: Duration::from_millis(250),
        ..RedisSettings::single("", replica)
    }
}

fn open(settings: RedisSettings) -> TieredOnlineStore {
    let redis = RedisOnlineStore::new(views(), settings, Handle::current()).unwrap();
    TieredOnlineStore::start(MemorySettings::default(), redis, &Handle::current()).unwrap()
}

/// Waits for what takes a failover, and says how long it took.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    start.elapsed()
}

/// Of one that changes its role, which ends all connections, another answer comes a moment later.
fn says(server: &Server, words: &[&[u8]], expected: &str) -> bool {
    ask(server.port, words).is_ok_and(|answer| answer.contains(expected))
}

fn is_master(server: &Server) -> bool {
    says(server, &[b"ROLE"], "master")
}

fn has_replica(server: &Server) -> bool {
    says(server, &[b"INFO", b"replication"], "state=online")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_follows_the_master_over_failovers_and_loses_nothing() {
    let Some(mut first) = Server::start(&[]) else { return };
    let Some(second) = Server::start(&["--replicaof", "127.0.0.1", &first.port.to_string()]) else { return };
    until("the second follows the first", async || has_replica(&first)).await;
    let sentinel = Sentinel::watch(first.port);
    let known = format!(":{}", second.port);
    let knows = || sentinel.ask(&[b"SENTINEL", b"REPLICAS", b"mymaster"]).contains(&known);
    until("the sentinel knows both", async || knows()).await;

    // One of the sentinels is gone, and the first that is named.
    let (now, _) = view_ids();
    let sentinels = [free_port(), sentinel.port];
    let store = open(settings(&sentinels, "a"));
    let put = async |time: i64| {
        store.put(&vehicle("v"), &[write(now, row(time, 1, time as f32))]).await.unwrap();
    };
    let fresh = async |time: i64| {
        let fetched = open(settings(&sentinels, "b")).get(&vehicle("v"), &[now]).await.unwrap();
        !fetched.degraded && fetched.rows == [Some(row(time, 1, time as f32))]
    };
    let listens = async || store.stats().is_listening;
    put(1).await;
    assert_eq!(store.flush(Duration::from_secs(10)).await, 0);
    assert!(fresh(1).await);
    until("it listens", listens).await;

    first.kill();
    put(2).await;
    let took = until("the second is the master", async || is_master(&second)).await;
    let written = until("what was written meanwhile is there", async || fresh(2).await).await;
    eprintln!("master killed: another one after {took:?}, the store has followed {written:?} later");
    until("it is in the database of the URLs", async || says(&second, &[b"INFO", b"keyspace"], "db3:keys=1")).await;
    until("it listens", listens).await;

    // The old one comes back, as a replica; then a failover without a death: the master is one no more.
    first.restart();
    until("the first follows the second", async || says(&first, &[b"ROLE"], "slave") && has_replica(&second)).await;
    until("a failover is begun", async || {
        sentinel.ask(&[b"SENTINEL", b"FAILOVER", b"mymaster"]).starts_with("+OK") || is_master(&first)
    })
    .await;
    let mut time = 2;
    let took = until("the first is the master", async || {
        time += 1;
        put(time).await;
        is_master(&first)
    })
    .await;
    time += 1;
    put(time).await;
    let written = until("the store has followed", async || fresh(time).await).await;
    eprintln!("master changed: another one after {took:?}, the store has followed {written:?} later");
    assert_eq!(store.flush(Duration::from_secs(10)).await, 0);
    until("it listens", listens).await;
    let stats = store.stats();
    assert!(!stats.is_open && stats.lost == 0, "{stats:?}");
}

#[test]
fn settings_of_sentinels_are_checked() {
    let check = |settings: RedisSettings, expected: &str| {
        let found = settings.check().map_err(|error| error.to_string());
        assert_eq!(found.err().unwrap_or_default(), expected);
    };
    let base = settings(&[1, 2, 3], "a");
    check(base.clone(), "");
    check(RedisSettings { cluster: true, ..base.clone() }, "`sentinel` is set, and so is `cluster`, which has none");
    let name = Some("my master".to_owned());
    check(
        RedisSettings { sentinel: name, ..base },
        "`sentinel` needs 1 to 64 printable ASCII characters without blanks",
    );
}
