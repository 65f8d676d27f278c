//! Redis killed, paused, restarted empty, with values of others in it; and two replicas.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ev_features::{Condition, FeatureRow, Fetched, OnlineStore, Put, StoreError, TieredOnlineStore, ViewId, Write};

use crate::{
    eventually, redis,
    server::{Server, free_port},
    suite::{row, vehicle, version, view_ids, write},
    tiered,
};

async fn get(store: &dyn OnlineStore, id: &str, view: ViewId) -> (Option<FeatureRow>, bool) {
    let Fetched { rows, degraded, .. } = store.get(&vehicle(id), &[view]).await.unwrap();
    (rows.into_iter().next().flatten(), degraded)
}

async fn put(store: &dyn OnlineStore, id: &str, write: Write) -> Put {
    store.put(&vehicle(id), &[write]).await.unwrap()[0]
}

async fn flushed(store: &TieredOnlineStore) {
    assert_eq!(store.flush(Duration::from_secs(10)).await, 0);
}

async fn listening(store: &TieredOnlineStore) {
    eventually("it listens", async || store.stats().is_listening).await;
}

/// The key of a vehicle's `pack_now`.
fn key(id: &str) -> Vec<u8> {
    format!("evserve:features:{{{id}}}:pack_now").into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_writes_the_other_reads_within_100_ms() {
    let Some(server) = Server::start(&[]) else { return };
    let (now, _) = view_ids();
    let (a, b) = (tiered(&server, "a"), tiered(&server, "b"));
    listening(&a).await;
    listening(&b).await;
    assert_eq!(get(&b, "v", now).await, (None, false));
    let mut took = Vec::new();
    for step in 1..=50u16 {
        let next = row(i64::from(step), 1, f32::from(step));
        put(&a, "v", write(now, next.clone())).await;
        took.push(eventually("b has it", async || get(&b, "v", now).await == (Some(next.clone()), false)).await);
    }
    took.sort();
    assert!(took[45] < Duration::from_millis(100), "{took:?}");
    assert!(b.stats().heard >= 25 && a.stats().heard == 0, "{:?} {:?}", a.stats(), b.stats());

    // Nothing changes: memory answers.
    let before = b.stats();
    for _ in 0..100 {
        get(&b, "v", now).await;
    }
    let after = b.stats();
    assert!(after.hits >= before.hits + 99 && after.fetches <= before.fetches + 1, "{before:?} {after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_replica_answers_from_redis() {
    let Some(server) = Server::start(&[]) else { return };
    let (now, charge) = view_ids();
    let before = tiered(&server, "a");
    before.put(&vehicle("v"), &[write(now, row(1, 1, 1.0)), write(charge, row(2, 2, 2.0))]).await.unwrap();
    flushed(&before).await;
    drop(before);
    let after = tiered(&server, "a");
    let fetched = after.get(&vehicle("v"), &[charge, now]).await.unwrap();
    assert_eq!(
        fetched,
        Fetched { rows: vec![Some(row(2, 2, 2.0)), Some(row(1, 1, 1.0))], degraded: false, damaged: 0 }
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_memory_serves_and_nothing_is_lost() {
    let Some(mut server) = Server::start(&[]) else { return };
    let (now, charge) = view_ids();
    let store = tiered(&server, "a");
    listening(&store).await;
    for index in 0..50u8 {
        put(&store, &format!("v{index}"), write(now, row(1, 1, f32::from(index)))).await;
    }
    flushed(&store).await;
    get(&store, "v0", now).await;
    server.kill();

    let died = Instant::now();
    for step in 0..20u8 {
        for index in 0..50u8 {
            let next = row(2, u64::from(step), f32::from(index) + 100.0);
            assert_eq!(put(&store, &format!("v{index}"), write(now, next)).await, Put::Written);
        }
    }
    eventually("the breaker is open", async || store.stats().is_open).await;
    assert!(died.elapsed() < Duration::from_secs(1), "{:?}", died.elapsed());
    assert_eq!(get(&store, "v7", now).await, (Some(row(2, 19, 107.0)), true));
    assert_eq!(get(&store, "unknown", now).await, (None, true));
    // A vehicle that a probe is just failing to write counts as well.
    eventually("writes of a vehicle are one", async || store.stats().behind == 50).await;
    let change = Write { view: charge, row: row(1, 1, 1.0), condition: Condition::Is(None) };
    assert!(matches!(store.put(&vehicle("v7"), &[change]).await, Err(StoreError::Unavailable { .. })));

    server.restart();
    flushed(&store).await;
    let other = redis(&server, "b");
    for index in 0..50u8 {
        let found = get(&other, &format!("v{index}"), now).await;
        assert_eq!(found, (Some(row(2, 19, f32::from(index) + 100.0)), false));
    }
    assert!(!store.stats().is_open && store.stats().lost == 0);
    eventually("it is not degraded", async || !get(&store, "v7", now).await.1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_holds_nobody_up() {
    let Some(server) = Server::start(&[]) else { return };
    let (now, _) = view_ids();
    let store = Arc::new(tiered(&server, "a"));
    listening(&store).await;
    put(&*store, "v", write(now, row(1, 1, 1.0))).await;
    flushed(&store).await;
    get(&*store, "v", now).await;
    server.pause();

    let paused = Instant::now();
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..200 {
        let store = Arc::clone(&store);
        readers.spawn(async move {
            let start = Instant::now();
            let (found, degraded) = get(&*store, &format!("other{reader}"), now).await;
            assert_eq!((found, degraded), (None, true));
            start.elapsed()
        });
    }
    let slowest = readers.join_all().await.into_iter().max().unwrap();
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(store.stats().is_open && paused.elapsed() < Duration::from_secs(1));
    let mut took = Vec::new();
    for step in 2..500u64 {
        let start = Instant::now();
        put(&*store, "v", write(now, row(2, step, 2.0))).await;
        assert_eq!(get(&*store, "v", now).await, (Some(row(2, step, 2.0)), true));
        took.push(start.elapsed());
    }
    took.sort();
    assert!(took[490] < Duration::from_millis(20), "{:?}", took[490]);

    server.resume();
    flushed(&store).await;
    assert_eq!(get(&redis(&server, "b"), "v", now).await, (Some(row(2, 499, 2.0)), false));
    eventually("it listens again", async || get(&*store, "v", now).await == (Some(row(2, 499, 2.0)), false)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_row_is_missing_and_told_and_replaced() {
    let Some(server) = Server::start(&[]) else { return };
    let (now, charge) = view_ids();
    let store = redis(&server, "a");
    let mut corrupt = row(i64::MAX, u64::MAX, 1.0).as_bytes().to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    let check = async |id: &str, words: &[&[u8]]| {
        assert!(!server.ask(words).starts_with('-'), "{id}");
        put(&store, id, write(charge, row(1, 1, 1.0))).await;
        let fetched = store.get(&vehicle(id), &[now, charge]).await.unwrap();
        assert_eq!((fetched.damaged, &fetched.rows[0], &fetched.rows[1]), (1, &None, &Some(row(1, 1, 1.0))), "{id}");
        let change = Write { view: now, row: row(1, 1, 1.0), condition: Condition::Is(Some(version(1, 1))) };
        assert_eq!(put(&store, id, change).await, Put::Refused(None), "{id}");
        assert_eq!(put(&store, id, write(now, row(2, 2, 2.0))).await, Put::Written, "{id}");
        assert_eq!(get(&store, id, now).await, (Some(row(2, 2, 2.0)), false), "{id}");
    };
    check("list", &[b"RPUSH", &key("list"), b"x"]).await;
    check("hash", &[b"HSET", &key("hash"), b"x", b"y"]).await;
    check("short", &[b"SET", &key("short"), b"x"]).await;
    check("empty", &[b"SET", &key("empty"), b""]).await;
    check("number", &[b"SET", &key("number"), b"12345678901234567890123456789012345678901234567890"]).await;
    check("corrupt", &[b"SET", &key("corrupt"), &corrupt]).await;

    server.ask(&[b"RPUSH", &key("first"), b"x"]);
    let first = Write { view: now, row: row(1, 1, 1.0), condition: Condition::Is(None) };
    assert_eq!(put(&store, "first", first).await, Put::Written);

    let tiered = tiered(&server, "b");
    server.ask(&[b"SET", &key("tiered"), &corrupt]);
    let fetched = tiered.get(&vehicle("tiered"), &[now]).await.unwrap();
    assert_eq!((fetched.damaged, fetched.degraded, tiered.stats().damaged), (1, false, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_came_back_empty_is_filled_by_reads_and_writes() {
    let Some(mut server) = Server::start(&[]) else { return };
    let (now, charge) = view_ids();
    let store = tiered(&server, "a");
    listening(&store).await;
    store.put(&vehicle("v"), &[write(now, row(1, 1, 1.0)), write(charge, row(1, 1, 2.0))]).await.unwrap();
    flushed(&store).await;
    server.kill();
    server.restart();
    let other = redis(&server, "b");
    assert_eq!(get(&other, "v", now).await, (None, false));

    let is_back = async || get(&store, "v", now).await == (Some(row(1, 1, 1.0)), false);
    eventually("memory's rows are read and not degraded", is_back).await;
    let is_filled = async || get(&other, "v", charge).await == (Some(row(1, 1, 2.0)), false);
    eventually("they are in Redis again", is_filled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_of_a_vehicle_ask_once() {
    let Some(server) = Server::start(&[]) else { return };
    let (now, _) = view_ids();
    put(&redis(&server, "b"), "v", write(now, row(1, 1, 1.0))).await;
    let store = Arc::new(tiered(&server, "a"));
    listening(&store).await;
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let store = Arc::clone(&store);
        readers.spawn(async move { get(&*store, "v", now).await });
    }
    assert!(readers.join_all().await.iter().all(|found| *found == (Some(row(1, 1, 1.0)), false)));
    assert!(store.stats().fetches <= 3, "{:?}", store.stats());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_go_away_leave_the_others_their_answer() {
    let Some(server) = Server::start(&[]) else { return };
    let (now, _) = view_ids();
    put(&redis(&server, "b"), "v", write(now, row(1, 1, 1.0))).await;
    let store = Arc::new(tiered(&server, "a"));
    listening(&store).await;
    server.pause();
    let reader = |store: Arc<TieredOnlineStore>| tokio::spawn(async move { get(&*store, "v", now).await });
    let first = reader(Arc::clone(&store));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let second = reader(Arc::clone(&store));
    tokio::time::sleep(Duration::from_millis(20)).await;
    first.abort();
    server.resume();
    assert_eq!(second.await.unwrap(), (Some(row(1, 1, 1.0)), false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_only_a_server_with_the_right_certificate_is_believed() {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let (own, other) = (
        rcgen::generate_simple_self_signed(names.clone()).unwrap(),
        rcgen::generate_simple_self_signed(names).unwrap(),
    );
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("certificate.pem"), directory.path().join("key.pem"));
    fs_err::write(&certificate, own.cert.pem()).unwrap();
    fs_err::write(&key, own.signing_key.serialize_pem()).unwrap();
    let (certificate, key) = (certificate.to_string_lossy(), key.to_string_lossy());
    let port = free_port();
    let options = [
        "--tls-port",
        &port.to_string(),
        "--tls-auth-clients",
        "no",
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &certificate,
    ];
    let Some(_server) = Server::start(&options) else { return };
    let (now, _) = view_ids();
    let open = |url: &str, certificate: &rcgen::Certificate| {
        let settings = ev_features::RedisSettings {
            tls_root_certificates: Some(certificate.pem().into_bytes()),
            deadline: Duration::from_secs(2),
            connect_deadline: Duration::from_secs(2),
            ..ev_features::RedisSettings::single(url, "a")
        };
        ev_features::RedisOnlineStore::new(crate::views(), settings, tokio::runtime::Handle::current()).unwrap()
    };
    for host in ["localhost", "127.0.0.1"] {
        let store = open(&format!("rediss://{host}:{port}"), &own.cert);
        put(&store, host, write(now, row(1, 1, 1.0))).await;
        assert_eq!(get(&store, host, now).await, (Some(row(1, 1, 1.0)), false));
    }
    let store = open(&format!("rediss://localhost:{port}"), &other.cert);
    let error = store.get(&vehicle("v"), &[now]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn a_redis_that_was_never_there_is_an_answer() {
    let (now, _) = view_ids();
    let port = free_port();
    let settings = ev_features::RedisSettings::single(format!("redis://user:secret@127.0.0.1:{port}"), "a");
    let redis =
        ev_features::RedisOnlineStore::new(crate::views(), settings, tokio::runtime::Handle::current()).unwrap();
    let error = redis.get(&vehicle("v"), &[now]).await.unwrap_err();
    assert!(!format!("{error} {error:?} {redis:?}").contains("secret"));
    let memory = ev_features::MemorySettings::default();
    let store = TieredOnlineStore::start(memory, redis, &tokio::runtime::Handle::current()).unwrap();
    put(&store, "v", write(now, row(1, 1, 1.0))).await;
    assert_eq!(get(&store, "v", now).await, (Some(row(1, 1, 1.0)), true));
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused_by_name() {
    let check = |change: fn(&mut ev_features::RedisSettings), expected: &str| {
        let mut settings = ev_features::RedisSettings::single("redis://127.0.0.1:1", "a");
        change(&mut settings);
        let runtime = tokio::runtime::Handle::current();
        let error = ev_features::RedisOnlineStore::new(crate::views(), settings, runtime).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    };
    check(|settings| settings.urls.clear(), "`urls` needs");
    check(|settings| settings.urls.push("redis://b".to_owned()), "`urls` needs");
    check(|settings| settings.urls = vec!["http://x".to_owned()], "`urls` cannot be used");
    check(|settings| settings.prefix = "a{b".to_owned(), "`prefix` needs");
    check(|settings| settings.replica = "a b".to_owned(), "`replica` needs");
    check(|settings| settings.deadline = Duration::ZERO, "`deadline` and");
    check(|settings| settings.retention = Duration::ZERO, "`retention` needs");
}
