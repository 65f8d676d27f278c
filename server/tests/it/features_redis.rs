//! Features shared through Redis: real servers, a real `redis-server`, and its failures.

use std::time::{Duration, Instant};

use ev_client::{Client, Code};
use ev_proto::ev::{
    features::v1::{FeatureStatus, FeatureValue, PutFeaturesRequest, feature::Value, feature_value},
    range::v1::PredictRequest,
};

use crate::{
    features::{Packs, feature, get},
    support::{assert_eventually, process::Evserve, redis::Server as Redis, refusal::Refusal},
};

const VIEW: &str = "pack_now";
const TEMPERATURE: &str = "cell_temperature_max_celsius";

pub(crate) async fn start(directory: &tempfile::TempDir, redis: &Redis, more: &[(&str, &str)]) -> Evserve {
    let url = redis.url();
    let settings = [&[("features.redis.urls", url.as_str())], more].concat();
    Evserve::start(directory.path(), &settings).await
}

pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

async fn temperature(client: &Client, vehicle: &str) -> Option<Value> {
    feature(client, vehicle, VIEW, TEMPERATURE).await.value
}

/// Times a call often, and gives the 99th percentile.
async fn p99<F: Future<Output = ()>>(calls: usize, call: impl Fn() -> F) -> Duration {
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let start = Instant::now();
        call().await;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    times[calls * 99 / 100]
}

fn logged(evserve: &Evserve, level: &str, words: &str) -> usize {
    let is_it = |line: &serde_json::Value| {
        line["level"] == level && line["fields"]["message"].as_str().is_some_and(|text| text.contains(words))
    };
    evserve.logs().iter().filter(|line| is_it(line)).count()
}

#[tokio::test]
async fn a_reading_at_one_replica_is_read_at_another_and_after_a_restart() {
    let Some(redis) = Redis::start(&[]) else { return };
    let folders = [folder(), folder(), folder()];
    let (a, b) = (start(&folders[0], &redis, &[]).await, start(&folders[1], &redis, &[]).await);
    let (packs, reader) = (Packs::connect(a.endpoint()).await, b.endpoint().client().await);
    assert_eq!(temperature(&reader, "car-1").await, None);
    let mut taken = Vec::new();
    for round in 0..40u8 {
        let celsius = 20.0 + f32::from(round);
        packs.send("car-1", [(0.0, celsius, -5.0)]).await;
        // From durable on at A; B has it in memory, and must hear that it has changed.
        let start = Instant::now();
        assert_eventually!(temperature(&reader, "car-1").await == Some(Value::Number(celsius)), "not heard of");
        taken.push(start.elapsed());
    }
    taken.sort_unstable();
    eprintln!("from durable at one replica to read at another: median {:?}, longest {:?}", taken[20], taken[39]);
    assert!(taken[39] < Duration::from_secs(2), "{taken:?}");

    // Nothing of A but what is in Redis: its folder is another one.
    a.kill().await;
    let a = start(&folders[2], &redis, &[]).await;
    let client = a.endpoint().client().await;
    let answer = get(&client, "car-1", &[VIEW]).await;
    assert!(!answer.degraded);
    let found = answer.features.into_iter().find(|feature| feature.name == TEMPERATURE).expect("declared");
    assert_eq!(found.value, Some(Value::Number(59.0)));
    // What it takes in now stands beside what it did not hear itself.
    Packs::connect(a.endpoint()).await.send("car-1", [(0.0, 61.0, -5.0)]).await;
    assert_eventually!(temperature(&client, "car-1").await == Some(Value::Number(61.0)), "not taken in");
    assert_eventually!(temperature(&reader, "car-1").await == Some(Value::Number(61.0)), "not heard of");
}

#[tokio::test]
async fn a_redis_that_dies_or_hangs_is_given_up_on_and_nothing_is_lost() {
    let check = async |what: &str, fail: &dyn Fn(&mut Redis), heal: &dyn Fn(&mut Redis)| {
        let Some(mut redis) = Redis::start(&[]) else { return };
        let folders = [folder(), folder()];
        let evserve = start(&folders[0], &redis, &[]).await;
        let (endpoint, client) = (evserve.endpoint(), evserve.endpoint().client().await);
        let packs = Packs::connect(endpoint).await;
        packs.send("car-1", [(0.0, 30.0, -5.0)]).await;
        assert_eventually!(temperature(&client, "car-1").await == Some(Value::Number(30.0)), "not taken in");
        assert_eventually!(endpoint.metric("ev_features_redis_behind").await == 0.0, "not written");
        assert_eq!(endpoint.metric("ev_features_redis_available").await, 1.0);
        let tesla = PredictRequest { make: "Tesla".into(), model: "Model 3".into(), ..Default::default() };
        let predict = async || drop(client.range().predict(tesla.clone()).await.expect("answered"));
        let before = p99(500, predict).await;

        fail(&mut redis);
        // One vehicle after the other that memory does not know: each has to ask.
        let failing = async {
            let (mut first, mut unknown) = (None, 0);
            while endpoint.metric("ev_features_redis_available").await == 1.0 {
                get(&client, &format!("unknown-{unknown}"), &[VIEW]).await;
                unknown += 1;
                if first.is_none() && endpoint.metric("ev_features_redis_failures_total").await > 0.0 {
                    first = Some(Instant::now());
                }
            }
            first.map_or(Duration::ZERO, |first| first.elapsed())
        };
        let (opened, meanwhile) = tokio::join!(failing, p99(500, predict));
        let after = p99(500, predict).await;
        eprintln!(
            "{what}: first failure to open {opened:?}; p99 of range predictions {before:?} before, {meanwhile:?} while \
             it opened, {after:?} after"
        );
        assert!(opened < Duration::from_secs(2), "{what}: {opened:?}");
        // Longer than any question of Redis takes would mean that others wait for it.
        let bound = (before * 5).max(Duration::from_millis(100));
        assert!(meanwhile < bound && after < bound, "{what}: {before:?}, {meanwhile:?}, {after:?}");

        let answer = get(&client, "car-1", &[VIEW]).await;
        assert!(answer.degraded, "{what}");
        assert!(answer.features.iter().any(|feature| feature.value == Some(Value::Number(30.0))), "{what}");
        packs.send("car-1", [(0.0, 33.0, -5.0)]).await;
        assert_eventually!(temperature(&client, "car-1").await == Some(Value::Number(33.0)), "{what}: not from memory");
        let capacity =
            FeatureValue { name: "rated_capacity_ah".into(), value: Some(feature_value::Value::Number(2.8)) };
        let put = PutFeaturesRequest {
            vehicle_id: "car-1".into(),
            view: "battery".into(),
            values: vec![capacity],
            event_time: None,
        };
        let refused = Refusal::from(client.features().put(put.clone()).await.expect_err("refused"));
        refused.says(Code::Unavailable, "STORE_UNREACHABLE", &["the online store cannot be reached"]);

        heal(&mut redis);
        assert_eventually!(!get(&client, "car-1", &[VIEW]).await.degraded, "{what}: not found again");
        client.features().put(put).await.expect("written");
        let other = start(&folders[1], &redis, &[]).await;
        let reader = other.endpoint().client().await;
        assert_eventually!(
            temperature(&reader, "car-1").await == Some(Value::Number(33.0)),
            "{what}: what was taken in meanwhile is lost"
        );
        assert_eq!(logged(&evserve, "WARN", "does not answer"), 1, "{what}");
        assert_eq!(logged(&evserve, "INFO", "answers again"), 1, "{what}");
    };
    check("killed", &Redis::kill, &Redis::restart).await;
    check("paused", &|redis| redis.pause(), &|redis| redis.resume()).await;
}

#[tokio::test]
async fn what_is_no_feature_in_redis_is_missing_and_is_replaced() {
    let Some(redis) = Redis::start(&[]) else { return };
    let key = |vehicle: &str| format!("evserve:features:{{{vehicle}}}:{VIEW}").into_bytes();
    redis.ask(&[b"RPUSH", &key("car-1"), b"a", b"list"]);
    redis.ask(&[b"SET", &key("car-2"), b"no row at all, but long enough to have the head of one"]);
    redis.ask(&[b"SET", &key("car-3"), b""]);
    let folder = folder();
    let evserve = start(&folder, &redis, &[]).await;
    let client = evserve.endpoint().client().await;
    let packs = Packs::connect(evserve.endpoint()).await;
    for (number, vehicle) in (1u8..).zip(["car-1", "car-2", "car-3"]) {
        let answer = get(&client, vehicle, &[VIEW]).await;
        assert!(!answer.degraded, "{vehicle}");
        assert!(answer.features.iter().all(|feature| feature.status() == FeatureStatus::Missing), "{vehicle}");
        let damaged = evserve.endpoint().metric("ev_features_redis_damaged_total").await;
        assert!(damaged >= f64::from(number), "{vehicle}: {damaged}");
        packs.send(vehicle, [(0.0, 30.0, -5.0)]).await;
        assert_eventually!(temperature(&client, vehicle).await == Some(Value::Number(30.0)), "{vehicle}");
        assert_eventually!(redis.ask(&[b"TYPE", &key(vehicle)]).contains("string"), "{vehicle} is not replaced");
    }
    assert_eq!(evserve.endpoint().metric("ev_features_redis_available").await, 1.0);
}

#[tokio::test]
async fn a_server_starts_and_ends_without_its_redis() {
    let Some(mut redis) = Redis::start(&[]) else { return };
    redis.kill();
    let folder = folder();
    let mut evserve = start(&folder, &redis, &[]).await;
    let client = evserve.endpoint().client().await;
    Packs::connect(evserve.endpoint()).await.send("car-1", [(0.0, 30.0, -5.0)]).await;
    assert_eventually!(temperature(&client, "car-1").await == Some(Value::Number(30.0)), "not taken in");
    assert_eventually!(get(&client, "car-1", &[VIEW]).await.degraded, "does not say so");
    let start = Instant::now();
    evserve.terminate().await;
    assert!(evserve.exited().await.success());
    assert!(start.elapsed() < Duration::from_secs(20), "it waited for Redis: {:?}", start.elapsed());
    assert_eq!(logged(&evserve, "WARN", "did not get the newest features"), 1);
}
