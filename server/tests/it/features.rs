//! Features over gRPC: from a gateway's readings, and from outside.

use std::time::{Duration, SystemTime};

use ev_client::{Client, Code, Gateway, GatewayConfig, GatewaySignal, Readings};
use ev_proto::ev::features::v1::{
    Feature, FeatureStatus, FeatureValue, GetFeaturesResponse, PutFeaturesRequest, feature::Value, feature_value,
};
use prost_types::Timestamp;

use crate::support::{
    assert_eventually,
    process::{Evserve, run},
    refusal::Refusal,
    server::{Endpoint, TestServer, shared},
};

const TEMPERATURE: &str = "Vehicle.Powertrain.TractionBattery.Temperature.Max";
const CURRENT: &str = "Vehicle.Powertrain.TractionBattery.CurrentCurrent";

/// A gateway of battery packs.
pub(crate) struct Packs {
    gateway: Gateway,
    signals: [GatewaySignal; 2],
}

impl Packs {
    pub(crate) async fn connect(endpoint: Endpoint) -> Packs {
        let mut config = GatewayConfig::new("depot");
        let signals = [config.signal(TEMPERATURE, "celsius"), config.signal(CURRENT, "A")];
        let gateway = Gateway::connect(endpoint.telemetry.to_string(), config).await.expect("connected");
        Packs { gateway, signals }
    }

    /// Sends temperature and current, each with its age in seconds, and waits until they are durable.
    pub(crate) async fn send(&self, vehicle: &str, readings: impl IntoIterator<Item = (f64, f32, f32)>) {
        let at = |age_s| SystemTime::now() - Duration::from_secs_f64(age_s);
        self.send_at(vehicle, readings.into_iter().map(|(age_s, celsius, current_a)| (at(age_s), celsius, current_a)))
            .await;
    }

    /// The same, each with its time.
    async fn send_at(&self, vehicle: &str, readings: impl IntoIterator<Item = (SystemTime, f32, f32)>) {
        let mut batch = Readings::new();
        for (time, celsius, current_a) in readings {
            let [temperature, current] = self.signals;
            batch.push(time, [(temperature, celsius), (current, current_a)]);
        }
        self.gateway.send(vehicle, batch).await.expect("sent");
        self.gateway.flush().await.expect("durable");
    }
}

/// One feature of a vehicle.
pub(crate) async fn feature(client: &Client, vehicle: &str, view: &str, name: &str) -> Feature {
    let features = get(client, vehicle, &[view]).await.features;
    features.into_iter().find(|feature| feature.name == name).unwrap_or_else(|| panic!("no {name} in {view}"))
}

pub(crate) async fn get(client: &Client, vehicle: &str, views: &[&str]) -> GetFeaturesResponse {
    let views: Vec<String> = views.iter().map(|view| (*view).to_owned()).collect();
    client.features().get(vehicle, &views).await.expect("answered")
}

fn age(feature: &Feature) -> Duration {
    feature.age.expect("an age").try_into().expect("not negative")
}

fn number(name: &str, number: f32) -> FeatureValue {
    FeatureValue { name: name.to_owned(), value: Some(feature_value::Value::Number(number)) }
}

fn text(name: &str, text: &str) -> FeatureValue {
    FeatureValue { name: name.to_owned(), value: Some(feature_value::Value::Text(text.to_owned())) }
}

fn put(vehicle: &str, view: &str, values: Vec<FeatureValue>) -> PutFeaturesRequest {
    PutFeaturesRequest { vehicle_id: vehicle.to_owned(), view: view.to_owned(), values, event_time: None }
}

fn in_seconds(seconds: i64) -> Option<Timestamp> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    Some(Timestamp { seconds: i64::try_from(now).expect("small") + seconds, nanos: 0 })
}

#[tokio::test]
async fn readings_become_features_with_their_age() {
    let server = TestServer::start(&[]).await;
    let client = server.client().await;
    let packs = Packs::connect(server.endpoint()).await;
    packs.send("car-1", [(4.0, 30.0, -20.0), (2.0, 31.0, -21.0)]).await;
    // Out of order, and between the two.
    packs.send("car-1", [(3.0, 30.5, -22.0)]).await;
    packs.send("car-2", [(3600.0, 24.0, 0.0)]).await;

    let temperature = async |vehicle| feature(&client, vehicle, "pack_now", "cell_temperature_max_celsius").await;
    assert_eventually!(temperature("car-2").await.value == Some(Value::Number(24.0)), "no features");
    let found = temperature("car-1").await;
    assert_eq!((found.value.clone(), found.status()), (Some(Value::Number(31.0)), FeatureStatus::Fresh));
    assert_eq!(found.view, "pack_now");
    let found = temperature("car-1").await;
    assert!((2.0..10.0).contains(&age(&found).as_secs_f64()), "{found:?}");
    let rate = feature(&client, "car-1", "pack_now", "cell_temperature_rate_celsius_per_s").await;
    let Some(Value::Number(rate)) = rate.value else { panic!("no rate: {rate:?}") };
    assert!((rate - 0.5).abs() < 0.01, "{rate}");
    let found = temperature("car-2").await;
    assert_eq!((found.value.clone(), found.status()), (Some(Value::Number(24.0)), FeatureStatus::Stale), "an hour old");
    assert!(age(&found) >= Duration::from_secs(3600));

    let unknown = get(&client, "car-3", &[]).await;
    assert!(!unknown.degraded && !unknown.features.is_empty());
    for feature in &unknown.features {
        let expected = match feature.name.as_str() {
            // Its view declares a default.
            "cells_in_parallel" => (Some(Value::Number(1.0)), FeatureStatus::Defaulted),
            _ => (None, FeatureStatus::Missing),
        };
        assert_eq!((feature.value.clone(), feature.status()), expected, "{feature:?}");
        assert_eq!(feature.age, None, "{feature:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_fleets_own_views_are_computed_and_grow_stale() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("views.toml");
    let (sessions, _) = ev_features::Views::DEFAULT_TOML.split_once("[[views]]").expect("views");
    let views = format!(
        r#"
        {sessions}
        [[views]]
        name = "mine"
        description = "Ours."
        ttl = "3s"
        features = [{{ name = "hottest_celsius", signal = "{TEMPERATURE}", aggregate = "max", window = "1m" }}]
        [[views]]
        name = "ours"
        description = "Written."
        ttl = "1h"
        written = true
        features = [{{ name = "depot", kind = "text" }}, {{ name = "is_leased", kind = "flag" }}]
        "#
    );
    fs_err::write(&path, views).expect("written");
    let server = TestServer::start(&[("features.views", path.to_str().expect("UTF-8"))]).await;
    let client = server.client().await;
    Packs::connect(server.endpoint()).await.send("car-1", [(2.0, 33.0, 0.0), (0.0, 31.0, 0.0)]).await;
    let hottest = async || feature(&client, "car-1", "mine", "hottest_celsius").await;
    assert_eventually!(hottest().await.value == Some(Value::Number(33.0)), "no features");
    let mut was_fresh = false;
    loop {
        let found = hottest().await;
        assert_eq!(found.value, Some(Value::Number(33.0)));
        // Never fresh beyond its time, whenever it is looked at.
        let expected = if age(&found) > Duration::from_secs(3) { FeatureStatus::Stale } else { FeatureStatus::Fresh };
        assert_eq!(found.status(), expected, "{found:?}");
        was_fresh |= expected == FeatureStatus::Fresh;
        if expected == FeatureStatus::Stale {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(was_fresh);

    let flag = FeatureValue { name: "is_leased".into(), value: Some(feature_value::Value::Flag(true)) };
    let written = client.features().put(put("car-1", "ours", vec![text("depot", "north"), flag])).await;
    assert!(written.expect("answered").written);
    let features = get(&client, "car-1", &["ours"]).await.features;
    let values: Vec<_> = features.into_iter().map(|feature| feature.value).collect();
    assert_eq!(values, [Some(Value::Text("north".into())), Some(Value::Flag(true))]);
    let error = client.features().put(put("car-1", "ours", vec![text("depot", &"n".repeat(257))])).await;
    let description = "of `depot` has 257 bytes, expected at most 256";
    Refusal::from(error.expect_err("refused")).is_field("IMPLAUSIBLE_VALUE", "values[0].text", description);
    server.stop().await;
}

#[tokio::test]
async fn what_is_put_holds_until_something_newer_is() {
    let client = shared().client().await;
    let store = client.features();
    let values = vec![text("cell_family", "panasonic-ncr18650b"), number("rated_capacity_ah", 2.8)];
    let now = PutFeaturesRequest { event_time: in_seconds(-10), ..put("car-put", "battery", values) };
    assert!(store.put(now).await.expect("answered").written);
    let capacity = async || feature(&client, "car-put", "battery", "rated_capacity_ah").await;
    let found = capacity().await;
    assert_eq!((found.value.clone(), found.status()), (Some(Value::Number(2.8)), FeatureStatus::Fresh));
    assert!((10..60).contains(&found.age.expect("an age").seconds));

    let older = put("car-put", "battery", vec![number("rated_capacity_ah", 3.1)]);
    let older = PutFeaturesRequest { event_time: in_seconds(-20), ..older };
    assert!(!store.put(older).await.expect("answered").written, "what is there is newer");
    assert_eq!(capacity().await.value, Some(Value::Number(2.8)));
    let newer = put("car-put", "battery", vec![number("rated_capacity_ah", 3.2)]);
    assert!(store.put(newer).await.expect("answered").written);
    assert_eq!(capacity().await.value, Some(Value::Number(3.2)));
    let family = feature(&client, "car-put", "battery", "cell_family").await;
    assert_eq!(family.value, Some(Value::Text("panasonic-ncr18650b".into())), "what was not given stays");

    let views = get(&client, "car-put", &["condition", "battery", "condition"]).await.features;
    let mut views: Vec<&str> = views.iter().map(|feature| feature.view.as_str()).collect();
    views.dedup();
    assert_eq!(views, ["condition", "battery"], "each once, in the order asked for");
}

#[tokio::test]
async fn bad_requests_are_told_what_was_expected() {
    let client = shared().client().await;
    let refused =
        async |request: PutFeaturesRequest| Refusal::from(client.features().put(request).await.expect_err("refused"));
    let error = client.features().get("", &[]).await.expect_err("refused");
    Refusal::from(error).is_field("INVALID_ID", "vehicle_id", "is empty, expected 1 to 64 printable characters");
    let error = client.features().get("car-1", &["pack_now".into(), "weather".into()]).await.expect_err("refused");
    Refusal::from(error).says(
        Code::InvalidArgument,
        "UNKNOWN_VIEW",
        &["`views[1]` is `weather`, expected one of battery, pack_now,"],
    );

    let capacity = |value| put("car-1", "battery", vec![text("chemistry", "nmc"), number("rated_capacity_ah", value)]);
    let range = "of `rated_capacity_ah` is -1, expected 0.1 to 1000 Ah";
    refused(capacity(-1.0)).await.is_field("OUT_OF_RANGE", "values[1].number", range);
    let finite = "of `rated_capacity_ah` is NaN, expected a finite number";
    refused(capacity(f32::NAN)).await.is_field("NOT_FINITE", "values[1].number", finite);
    let kind = "of `rated_capacity_ah` has a value of the wrong kind, expected a number";
    let wrong = put("car-1", "battery", vec![text("rated_capacity_ah", "2.8")]);
    refused(wrong).await.is_field("WRONG_KIND", "values[0].text", kind);
    let none = FeatureValue { name: "chemistry".into(), value: None };
    let description = "of `chemistry` has no value, expected a number, a text or a flag";
    refused(put("car-1", "battery", vec![none])).await.is_field("MISSING_FIELD", "values[0]", description);
    let description = "is empty, expected at least one feature";
    refused(put("car-1", "battery", Vec::new())).await.is_field("MISSING_FIELD", "values", description);
    let twice = put("car-1", "battery", vec![text("chemistry", "nmc"), text("chemistry", "lfp")]);
    let description = "is `chemistry`, which came before, expected each feature once";
    refused(twice).await.is_field("DUPLICATE_FEATURE", "values[1].name", description);
    let many = put("car-1", "battery", vec![number("a", 1.0); 257]);
    let description = "has 257 values, expected at most 256";
    refused(many).await.is_field("TOO_MANY_FEATURES", "values", description);
    refused(put("car-1", "battery", vec![number("colour", 1.0)])).await.says(
        Code::InvalidArgument,
        "UNKNOWN_FEATURE",
        &["`values[0].name` is `colour`, expected a feature of view `battery`: cell_family, chemistry,"],
    );
    refused(put("car-1", "weather", vec![number("a", 1.0)])).await.says(
        Code::InvalidArgument,
        "UNKNOWN_VIEW",
        &["`view` is `weather`, expected one of battery,"],
    );
    let computed = put("car-1", "pack_now", vec![number("cell_temperature_max_celsius", 30.0)]);
    let description = "is `pack_now`, which is computed from readings, expected one of battery, cycle_life";
    refused(computed).await.is_field("NOT_WRITABLE", "view", description);
    let bad_id = put("car 1", "battery", vec![text("chemistry", "nmc")]);
    refused(bad_id).await.says(Code::InvalidArgument, "INVALID_ID", &["`vehicle_id` "]);

    let at = |event_time| PutFeaturesRequest { event_time, ..put("car-1", "battery", vec![text("chemistry", "nmc")]) };
    refused(at(in_seconds(3600))).await.says(
        Code::InvalidArgument,
        "FUTURE_TIME",
        &["`event_time` is 3", " s ahead of the server's clock, expected a time that has come"],
    );
    let description = "is 0 s, expected a time";
    refused(at(Some(Timestamp { seconds: 0, nanos: -1 }))).await.is_field("OUT_OF_RANGE", "event_time", description);
    let found = feature(&client, "car-1", "battery", "chemistry").await;
    assert_eq!(found.status(), FeatureStatus::Missing, "nothing of it was written");
}

#[tokio::test]
async fn a_running_discharge_goes_on_after_a_kill() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let began = SystemTime::now() - Duration::from_secs(400);
    // A charge that has ended, and a discharge a reading a second.
    let reading = |second: u32| {
        let current = if second < 120 { 30.0 } else { -20.0 - 0.01 * second as f32 };
        (began + Duration::from_secs(second.into()), 25.0 + 0.01 * second as f32, current)
    };
    let evserve = Evserve::start(directory.path(), &[]).await;
    let packs = Packs::connect(evserve.endpoint()).await;
    for seconds in [0..200, 200..300, 300..301] {
        packs.send_at("bus-1", seconds.map(reading)).await;
    }
    // Durable, and perhaps not applied.
    evserve.kill().await;
    drop(packs);

    let evserve = Evserve::start(directory.path(), &[]).await;
    Packs::connect(evserve.endpoint()).await.send_at("bus-1", (301..390).map(reading)).await;
    let client = evserve.endpoint().client().await;
    let elapsed = async |client| feature(client, "bus-1", "discharge_now", "discharge_elapsed_s").await.value;
    assert_eventually!(elapsed(&client).await == Some(Value::Number(269.0)), "{:?} s", elapsed(&client).await);

    let whole = TestServer::start(&[]).await;
    Packs::connect(whole.endpoint()).await.send_at("bus-1", (0..390).map(reading)).await;
    let uninterrupted = whole.client().await;
    assert_eventually!(elapsed(&uninterrupted).await == Some(Value::Number(269.0)), "not applied");
    let values = async |client: &Client| {
        let features = get(client, "bus-1", &["pack_now", "discharge_now", "last_charge"]).await.features;
        features.into_iter().map(|feature| (feature.name, feature.value)).collect::<Vec<_>>()
    };
    let expected = values(&uninterrupted).await;
    assert!(expected.iter().filter(|(_, value)| value.is_some()).count() >= 5, "{expected:?}");
    assert_eq!(values(&client).await, expected);
    whole.stop().await;
}

#[tokio::test]
async fn a_start_with_settings_that_cannot_be_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let views = directory.path().join("views.toml");
    fs_err::write(&views, "[[views]]\nname = \"a\"\n").expect("written");
    let (views, data) = (views.display().to_string(), directory.path().join("data").display().to_string());
    let check = async |settings: &[&str], words: &[&str]| {
        let mut arguments = vec!["serve", "--data-directory", &data];
        for address in ["grpc.address=127.0.0.1:0", "telemetry.address=127.0.0.1:0", "http.address=127.0.0.1:0"] {
            arguments.extend(["--set", address]);
        }
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        let output = run(&arguments).await;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        let line = told.lines().find(|line| line.starts_with("evserve: ")).unwrap_or_else(|| panic!("{told}"));
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    };
    let missing = format!("{data}/no.toml");
    check(&[&format!("features.views={missing}")], &["cannot read `features.views`", "No such file"]).await;
    check(&[&format!("features.views={views}")], &["`features.views`", "is refused", "views.toml"]).await;
    let redis = "features.redis.urls=redis://user:secret@127.0.0.1:1";
    let pem = format!("features.redis.tls_root_certificates={missing}");
    check(&[redis, &pem], &["cannot read `features.redis.tls_root_certificates`", "No such file"]).await;
    check(&[redis, "features.redis.prefix={a}"], &["features.redis.prefix needs 1 to 64"]).await;
    check(&["features.redis.urls=http://a:secret@b"], &["features.redis.urls cannot be used, number 1: "]).await;
    check(&["features.memory_max=1KiB"], &["features.memory_max is 1.0 KiB, expected 1MiB to 1TiB"]).await;

    let output = run(&["check-config", "--set", redis]).await;
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("redis://***@127.0.0.1:1") && !told.contains("secret"), "{told}");
}
