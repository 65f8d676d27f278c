//! Predictions by vehicle id: readings in through a gateway's stream, features out of the store, answers as if they had been given.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ev_client::{Client, Code};
use ev_proto::ev::{
    battery::v1::{PredictRequest, PredictResponse, Target},
    common::v1::PredictionInfo,
    features::v1::{
        Feature, FeatureStatus, FeatureValue, PutFeaturesRequest, feature, feature_store_client::FeatureStoreClient,
        feature_value,
    },
    telemetry::v1::{
        Batch, Column, Durability, Open, SignalDeclaration, SignalNaming, StreamRequest, StreamResponse,
        stream_request, stream_response::Message, telemetry_ingest_client::TelemetryIngestClient,
    },
    thermal::v1::{
        Alert, AlertFilter, AlertOrigin, AlertTopic, AssessRequest, AssessResponse, ListAlertsRequest, RiskClass,
        Severity,
    },
};
use prost_types::Timestamp;
use serde_json::Value as Json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::support::{
    assert_eventually, golden,
    refusal::Refusal,
    server::{Endpoint, TestServer},
    services::{Answer as _, assert_alike, battery_three_ways, thermal_three_ways},
};

/// What a pack sends.
const SIGNALS: [&str; 16] = [
    "Vehicle.Powertrain.TractionBattery.Temperature.Max",
    "Vehicle.Powertrain.TractionBattery.Temperature.Average",
    "Vehicle.Powertrain.TractionBattery.Temperature.Min",
    "Vehicle.Powertrain.TractionBattery.CellVoltage.Min",
    "Vehicle.Powertrain.TractionBattery.CellVoltage.Max",
    "Vehicle.Powertrain.TractionBattery.CurrentVoltage",
    "Vehicle.Powertrain.TractionBattery.CurrentCurrent",
    "Vehicle.Powertrain.TractionBattery.StateOfCharge.Current",
    "Vehicle.Powertrain.TractionBattery.StateOfHealth",
    "Vehicle.Exterior.AirTemperature",
    "Vehicle.Private.TractionBattery.InternalResistance",
    "Vehicle.Private.TractionBattery.Humidity",
    "Vehicle.Private.TractionBattery.IsMoistureDetected",
    "Vehicle.Private.TractionBattery.Vibration",
    "Vehicle.Private.TractionBattery.Pressure",
    "Vehicle.Private.TractionBattery.CycleCount",
];

/// A value for each of [`SIGNALS`]; NaN where it is not sent.
pub(crate) type Reading = [f32; SIGNALS.len()];

const NOTHING: Reading = [f32::NAN; SIGNALS.len()];

/// A pack at rest.
pub(crate) const CALM: Reading =
    [25.0, 24.0, 23.0, 3.74, 3.76, 360.0, 0.0, 60.0, 97.0, 20.0, 2.0, 40.0, 0.0, 10.0, 101.0, 120.0];

/// A gateway that waits until what it sent can be asked about.
pub(crate) struct Gateway {
    sender: mpsc::Sender<StreamRequest>,
    answers: Streaming<StreamResponse>,
    sequence: u64,
}

impl Gateway {
    pub(crate) async fn open(endpoint: Endpoint) -> Gateway {
        let (sender, requests) = mpsc::channel(64);
        let declare = |(id, name): (u32, &str)| SignalDeclaration { id, name: name.to_owned(), unit: String::new() };
        let open = Open {
            gateway_id: "depot".to_owned(),
            boot_id: "1".to_owned(),
            signals: (0..).zip(SIGNALS).map(declare).collect(),
            signal_naming: SignalNaming::Vss.into(),
            last_acked: Vec::new(),
        };
        let message = Some(stream_request::Message::Open(open));
        sender.send(StreamRequest { message }).await.expect("open");
        let mut client = TelemetryIngestClient::new(endpoint.telemetry_channel().await);
        let answers = client.stream(ReceiverStream::new(requests)).await.expect("a stream").into_inner();
        Gateway { sender, answers, sequence: 0 }
    }

    /// Readings so many seconds ago, oldest first.
    pub(crate) async fn send(&mut self, vehicle: &str, readings: &[(u64, Reading)]) {
        self.sequence += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let at = |seconds: u64| now - Duration::from_secs(seconds);
        let first = at(readings[0].0);
        let deltas = readings.windows(2).map(|pair| i64::try_from((pair[0].0 - pair[1].0) * 1_000_000).expect("small"));
        let column = |signal: usize| Column {
            signal_id: u32::try_from(signal).expect("small"),
            values: readings.iter().map(|(_, reading)| reading[signal]).collect(),
        };
        let batch = Batch {
            vehicle_id: vehicle.to_owned(),
            sequence: self.sequence,
            is_resend: false,
            first_time: Some(Timestamp {
                seconds: i64::try_from(first.as_secs()).expect("small"),
                nanos: i32::try_from(first.subsec_nanos()).expect("small"),
            }),
            time_deltas_us: std::iter::once(0).chain(deltas).collect(),
            columns: (0..SIGNALS.len()).map(column).collect(),
        };
        let message = Some(stream_request::Message::Batch(batch));
        self.sender.send(StreamRequest { message }).await.expect("open");
        loop {
            let answer = tokio::time::timeout(Duration::from_secs(20), self.answers.message()).await.expect("in time");
            match answer.expect("the stream is open").expect("the stream is open").message.expect("set") {
                Message::Ack(ack) if ack.durability() == Durability::Applied && ack.sequence == self.sequence => return,
                Message::Reject(reject) => panic!("{reject:?}"),
                _ => {}
            }
        }
    }
}

async fn put(endpoint: Endpoint, vehicle: &str, view: &str, values: &[(&str, feature_value::Value)]) {
    let value = |(name, value): &(&str, feature_value::Value)| FeatureValue {
        name: (*name).to_owned(),
        value: Some(value.clone()),
    };
    let request = PutFeaturesRequest {
        vehicle_id: vehicle.to_owned(),
        view: view.to_owned(),
        values: values.iter().map(value).collect(),
        event_time: None,
    };
    let mut client = FeatureStoreClient::new(endpoint.channel().await);
    assert!(client.put_features(request).await.expect("written").into_inner().written);
}

/// A pack of 100 by 2 cells of 50 Ah, of a family that the models know.
async fn put_battery(endpoint: Endpoint, vehicle: &str) {
    use feature_value::Value::{Number, Text};
    let values = [
        ("cell_family", Text("nmc_lco_18650_2800mah".to_owned())),
        ("rated_capacity_ah", Number(50.0)),
        ("cells_in_series", Number(100.0)),
        ("cells_in_parallel", Number(2.0)),
    ];
    put(endpoint, vehicle, "battery", &values).await;
}

/// Ten minutes of driving that ended a quarter of an hour ago, a rest, and two minutes of driving until now.
fn drives() -> Vec<(u64, Reading)> {
    let driving = |ago: u64, elapsed: u64| {
        let elapsed = u16::try_from(elapsed).map(f32::from).expect("small");
        let mut reading = CALM;
        reading[0] = 25.0 + elapsed / 60.0;
        (reading[3], reading[4]) = (4.0 - elapsed / 600.0, 4.02 - elapsed / 600.0);
        (reading[5], reading[6]) = (401.0 - elapsed / 6.0, -100.0);
        (ago, reading)
    };
    let first = (0..=60).map(|step| driving(1_500 - step * 10, step * 10));
    let rest = (1..=60).map(|step| (900 - step * 10, CALM));
    let second = (0..=60).map(|step| driving(120 - step * 2, step * 2));
    first.chain(rest).chain(second).collect()
}

/// The features of an answer that were used, as a request would give them.
fn as_inputs(info: &PredictionInfo) -> BTreeMap<String, Json> {
    let value = |found: &Feature| {
        let value = match found.value.as_ref()? {
            feature::Value::Number(number) => Json::from(f64::from(*number)),
            feature::Value::Text(text) => Json::from(text.as_str()),
            feature::Value::Flag(flag) => Json::from(*flag),
        };
        Some((found.name.clone(), value))
    };
    info.features.iter().filter_map(value).collect()
}

pub(crate) fn found<'a>(info: &'a PredictionInfo, name: &str) -> &'a Feature {
    let mut features = info.features.iter();
    features.find(|feature| feature.name == name).unwrap_or_else(|| panic!("no {name} in {:?}", info.features))
}

pub(crate) fn number(info: &PredictionInfo, name: &str) -> f32 {
    match found(info, name).value {
        Some(feature::Value::Number(number)) => number,
        ref other => panic!("{name} is {other:?}"),
    }
}

async fn predict(client: &Client, request: PredictRequest) -> Result<PredictResponse, Refusal> {
    client.battery().predict(request).await.map_err(Refusal::from)
}

pub(crate) async fn assess(client: &Client, request: AssessRequest) -> Result<AssessResponse, Refusal> {
    client.thermal().assess(request).await.map_err(Refusal::from)
}

fn of_car(vehicle: &str) -> PredictRequest {
    PredictRequest { vehicle_id: vehicle.to_owned(), ..PredictRequest::default() }
}

pub(crate) fn of_pack(vehicle: &str) -> AssessRequest {
    AssessRequest { vehicle_id: vehicle.to_owned(), ..AssessRequest::default() }
}

#[tokio::test]
async fn a_battery_by_vehicle_id_is_answered_as_if_its_features_had_been_given() {
    let server = TestServer::start(&[]).await;
    let client = server.client().await;
    let mut gateway = Gateway::open(server.endpoint()).await;
    put_battery(server.endpoint(), "car-1").await;
    let cycle_life: Vec<(String, f32)> = golden::full_and_least("battery-cycle-life")[0]
        .iter()
        .map(|(name, value)| (name.clone(), serde_json::from_value(value.clone()).expect("a number")))
        .collect();
    let values: Vec<_> =
        cycle_life.iter().map(|(name, value)| (name.as_str(), feature_value::Value::Number(*value))).collect();
    put(server.endpoint(), "car-1", "cycle_life", &values).await;
    gateway.send("car-1", &drives()).await;

    let answer = predict(&client, of_car("car-1")).await.expect("answered");
    assert_eq!(answer.unanswered, [], "everything a stream and a data sheet suffice for");
    for (target, info) in [
        (Target::StateOfHealth, answer.state_of_health.as_ref().and_then(|answer| answer.info.as_ref())),
        (Target::RemainingUsefulLife, answer.remaining_useful_life.as_ref().and_then(|answer| answer.info.as_ref())),
        (Target::Temperature, answer.temperature.as_ref().and_then(|answer| answer.info.as_ref())),
        (Target::Failure, answer.failure.as_ref().and_then(|answer| answer.info.as_ref())),
        (Target::CycleLife, answer.cycle_life.as_ref().and_then(|answer| answer.info.as_ref())),
    ] {
        let info = info.expect("an answer");
        assert!(!info.degraded && !info.features.is_empty(), "{target:?} {info:?}");
        let by_hand: PredictRequest = golden::request("ev.battery.v1.PredictRequest", &as_inputs(info));
        let by_hand = predict(&client, PredictRequest { targets: vec![target.into()], ..by_hand }).await;
        let by_hand = by_hand.expect("answered");
        let by_id = PredictRequest { targets: vec![target.into()], ..of_car("car-1") };
        let by_id = predict(&client, by_id).await.expect("answered");
        assert_eq!(by_id.bits(), by_hand.bits(), "{target:?}");
        assert_eq!(by_id.infos()[0].feature_coverage, by_hand.infos()[0].feature_coverage, "{target:?}");
        assert!(by_hand.infos()[0].features.is_empty(), "nothing was read");
    }

    let soh = answer.state_of_health.as_ref().and_then(|answer| answer.info.as_ref()).expect("an answer");
    assert_eq!((number(soh, "discharge_c_rate"), number(soh, "cycle_count")), (1.0, 120.0));
    assert_eq!(number(soh, "discharge_temperature_max_celsius"), 35.0);
    assert_eq!(found(soh, "discharge_c_rate").view, "last_discharge");
    let age = found(soh, "discharge_temperature_max_celsius").age.map_or(0, |age| age.seconds);
    assert!((900..1_000).contains(&age), "the drive ended a quarter of an hour ago, not {age} s");
    let temperature = answer.temperature.as_ref().and_then(|answer| answer.info.as_ref()).expect("an answer");
    assert_eq!((number(temperature, "discharge_elapsed_s"), number(temperature, "c_rate")), (120.0, 1.0));
    assert_eq!(number(temperature, "ambient_temperature_celsius"), 20.0);
    let timings = soh.timings.expect("timings");
    assert!(timings.total_ns >= timings.features_ns + timings.inference_ns, "{timings:?}");
    server.stop().await;
}

/// Twelve readings, a second apart, that end with a golden request's values, and its rise and drop over ten seconds.
fn towards(inputs: &BTreeMap<String, Json>) -> Vec<(u64, Reading)> {
    let input = |name: &str| -> f32 {
        match &inputs[name] {
            Json::Bool(flag) => f32::from(u8::from(*flag)),
            value => serde_json::from_value(value.clone()).expect("a number"),
        }
    };
    let names = [
        (0, "cell_temperature_max_celsius"),
        (1, "cell_temperature_mean_celsius"),
        (2, "cell_temperature_min_celsius"),
        (3, "cell_voltage_min_v"),
        (5, "pack_voltage_v"),
        (6, "pack_current_a"),
        (7, "state_of_charge_percent"),
        (8, "state_of_health_percent"),
        (9, "ambient_temperature_celsius"),
        (10, "internal_resistance_mohm"),
        (11, "humidity_percent"),
        (12, "moisture_detected"),
        (13, "vibration_mg"),
        (14, "pressure_kpa"),
    ];
    let before = |ago: u16| {
        let mut reading = NOTHING;
        names.iter().for_each(|(place, name)| reading[*place] = input(name));
        reading[0] -= input("cell_temperature_rate_celsius_per_s") * f32::from(ago);
        if ago >= 9 {
            reading[3] /= 1.0 - input("cell_voltage_drop_percent") / 100.0;
        }
        (u64::from(ago), reading)
    };
    (0..12).rev().map(before).collect()
}

#[tokio::test]
async fn every_thermal_class_is_reached_through_the_stream() {
    let server = TestServer::start(&[]).await;
    let client = server.client().await;
    let mut gateway = Gateway::open(server.endpoint()).await;
    let mut reached = BTreeMap::new();
    let full = golden::cases("thermal-risk").into_iter().filter(|case| case.coverage == 1.0);
    for (index, case) in full.enumerate() {
        let vehicle = format!("pack-{index}");
        put(server.endpoint(), &vehicle, "battery", &[("cells_in_series", feature_value::Value::Number(96.0))]).await;
        gateway.send(&vehicle, &towards(&case.inputs)).await;
        let by_id = assess(&client, of_pack(&vehicle)).await.expect("answered");
        let info = by_id.info.as_ref().expect("info");
        assert_eq!((info.features.len(), info.feature_coverage), (17, 1.0), "{info:?}");
        assert!(info.features.iter().all(|feature| feature.status() == FeatureStatus::Fresh), "{info:?}");
        let by_hand = assess(&client, golden::request("ev.thermal.v1.AssessRequest", &as_inputs(info))).await;
        assert_eq!(by_id.bits(), by_hand.expect("answered").bits(), "{vehicle}");
        reached.insert(by_id.risk_class, vehicle);
    }
    let all = [RiskClass::Normal, RiskClass::Watch, RiskClass::Warning, RiskClass::Alarm, RiskClass::Runaway];
    assert_eq!(reached.keys().copied().collect::<Vec<_>>(), all.map(i32::from), "{reached:?}");
    server.stop().await;
}

#[tokio::test]
async fn fields_that_are_given_win() {
    let server = TestServer::start(&[]).await;
    let client = server.client().await;
    let mut gateway = Gateway::open(server.endpoint()).await;
    gateway.send("pack-1", &[(1, CALM)]).await;
    let calm = assess(&client, of_pack("pack-1")).await.expect("answered");
    assert_eq!(calm.risk_class(), RiskClass::Normal);
    let request = AssessRequest { cell_temperature_max_celsius: Some(400.0), ..of_pack("pack-1") };
    let hot = assess(&client, request).await.expect("answered");
    assert_eq!(hot.risk_class(), RiskClass::Runaway);
    let info = hot.info.expect("info");
    assert!(info.features.iter().all(|feature| feature.name != "cell_temperature_max_celsius"), "it was not read");
    assert_eq!(number(&info, "cell_temperature_mean_celsius"), 24.0);

    let wrong = AssessRequest { cell_temperature_max_celsius: Some(9_000.0), ..of_pack("pack-1") };
    let refused = assess(&client, wrong).await.expect_err("refused");
    refused.is_field("OUT_OF_RANGE", "cell_temperature_max_celsius", "is 9000, expected -60 to 1200 Cel");
    server.stop().await;
}

#[tokio::test]
async fn what_is_too_old_or_missing_is_refused_or_left_out_and_told() {
    let server = TestServer::start(&[]).await;
    let client = server.client().await;
    let mut gateway = Gateway::open(server.endpoint()).await;

    // Only the required input decides; all others are too old as well.
    gateway.send("old", &[(60, CALM)]).await;
    let refused = assess(&client, of_pack("old")).await.expect_err("refused");
    assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "FEATURE_STALE"), "{refused:?}");
    let [(field, description)] = &refused.fields[..] else { panic!("one field: {refused:?}") };
    assert_eq!(field, "cell_temperature_max_celsius");
    assert!(description.starts_with("is 1m ") && description.contains("expected at most 10s"), "{description}");
    let given = AssessRequest { cell_temperature_max_celsius: Some(30.0), ..of_pack("old") };
    let answer = assess(&client, given).await.expect("answered");
    let info = answer.info.expect("info");
    let voltage = found(&info, "pack_voltage_v");
    assert_eq!((voltage.status(), voltage.value.as_ref()), (FeatureStatus::Stale, None));
    assert!(voltage.age.is_some_and(|age| age.seconds >= 60), "{voltage:?}");
    assert_eq!(info.feature_coverage, 1.0 / 17.0, "what is too old counts as not given");

    let mut humid = NOTHING;
    humid[11] = 50.0;
    gateway.send("humid", &[(1, humid)]).await;
    let refused = assess(&client, of_pack("humid")).await.expect_err("refused");
    assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "FEATURE_MISSING"), "{refused:?}");
    assert!(refused.message.contains("view `pack_now`"), "{refused:?}");

    // A battery of which little is known: targets that cannot be answered say why, and the others are answered.
    put_battery(server.endpoint(), "humid").await;
    let answer = predict(&client, of_car("humid")).await.expect("answered");
    assert!(answer.remaining_useful_life.is_some(), "its family is known: {answer:?}");
    let unanswered: Vec<_> = answer.unanswered.iter().map(|unanswered| unanswered.target()).collect();
    assert_eq!(unanswered, [Target::StateOfHealth, Target::Temperature, Target::Failure, Target::CycleLife]);
    for unanswered in &answer.unanswered {
        let told: Vec<&str> = unanswered.field_violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(told, unanswered.missing_fields, "{unanswered:?}");
        assert!(unanswered.field_violations.iter().all(|violation| violation.description.contains("view `")));
    }
    let asked = PredictRequest { targets: vec![Target::Failure.into()], ..of_car("humid") };
    let refused = predict(&client, asked).await.expect_err("refused");
    assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "FEATURE_MISSING"), "{refused:?}");

    // Of one of which nothing is known that any target needs.
    let refused = predict(&client, of_car("old")).await.expect_err("refused");
    assert_eq!(refused.code, Code::FailedPrecondition, "{refused:?}");
    assert!(
        refused
            .fields
            .iter()
            .any(|(field, why)| field == "cell_family" && why.contains("TARGET_REMAINING_USEFUL_LIFE"))
    );
    server.stop().await;
}

#[tokio::test]
async fn a_vehicle_that_nothing_is_known_of_is_not_found() {
    let server = TestServer::start(&[]).await;
    let client = server.client().await;
    let what_to_do = ["`nobody`", "TelemetryIngest", "FeatureStore"];
    let refused = assess(&client, of_pack("nobody")).await.expect_err("refused");
    refused.says(Code::NotFound, "UNKNOWN_VEHICLE", &what_to_do);
    let refused = predict(&client, of_car("nobody")).await.expect_err("refused");
    refused.says(Code::NotFound, "UNKNOWN_VEHICLE", &what_to_do);
    let given = AssessRequest { cell_temperature_max_celsius: Some(30.0), ..of_pack("nobody") };
    let refused = assess(&client, given).await.expect_err("a misspelt id is told whatever else is given");
    refused.says(Code::NotFound, "UNKNOWN_VEHICLE", &what_to_do);
    let refused = assess(&client, of_pack("a b")).await.expect_err("refused");
    assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "INVALID_ID"), "{refused:?}");
    assert_eq!(refused.fields[0].0, "vehicle_id");
    server.stop().await;
}

#[tokio::test]
async fn rows_of_all_kinds_are_answered_side_by_side_in_every_way() {
    let server = TestServer::start(&[]).await;
    let client = server.client().await;
    let mut gateway = Gateway::open(server.endpoint()).await;
    put_battery(server.endpoint(), "car-1").await;
    gateway.send("car-1", &drives()).await;
    let given = AssessRequest { cell_temperature_max_celsius: Some(30.0), ..AssessRequest::default() };
    let rows: Vec<AssessRequest> = [
        of_pack("car-1"),
        given.clone(),
        of_pack("nobody"),
        AssessRequest::default(),
        AssessRequest { vehicle_id: "car-1".to_owned(), ..given },
        of_pack("a b"),
    ]
    .into_iter()
    // As many as are read in several goes.
    .cycle()
    .take(200)
    .collect();
    let ways = thermal_three_ways(&client, &rows).await;
    assert_alike(&ways);
    let codes: Vec<_> = ways[1][..6].iter().map(|row| row.as_ref().err().map(|refused| refused.code)).collect();
    let expected = [None, None, Some(Code::NotFound), Some(Code::InvalidArgument), None, Some(Code::InvalidArgument)];
    assert_eq!(codes, expected);
    for way in &ways {
        let features = |row: usize| way[row].as_ref().expect("answered").info.as_ref().expect("info").features.len();
        assert_eq!((features(0), features(1), features(4)), (17, 0, 16));
    }

    let soh = |row: PredictRequest| PredictRequest { targets: vec![Target::StateOfHealth.into()], ..row };
    let [full, _] = golden::full_and_least("battery-soh");
    let rows =
        vec![soh(of_car("car-1")), soh(golden::request("ev.battery.v1.PredictRequest", &full)), soh(of_car("nobody"))];
    let ways = battery_three_ways(&client, &rows).await;
    assert_alike(&ways);
    assert!(ways[1][0].is_ok() && ways[1][1].is_ok() && ways[1][2].is_err(), "{ways:?}");
    server.stop().await;
}

#[tokio::test]
async fn predictions_are_kept_current_and_can_be_watched() {
    let server = TestServer::start(&[("predictions.renew_interval", "200ms")]).await;
    let client = server.client().await;
    put_battery(server.endpoint(), "car-1").await;
    let mut batteries = client.battery().watch(vec!["car-1".to_owned()]).await.expect("watching");
    let mut packs = client.thermal().watch_assessments(Vec::new()).await.expect("watching");
    let mut gateway = Gateway::open(server.endpoint()).await;
    gateway.send("car-2", &[(0, CALM)]).await;
    gateway.send("car-1", &drives()).await;

    let first = packs.next().await.expect("watching").expect("an assessment");
    let assessment = first.assessment.as_ref().expect("an assessment");
    assert_eq!((first.vehicle_id.as_str(), assessment.risk_class()), ("car-2", RiskClass::Normal));
    assert!(!assessment.info.as_ref().expect("info").prediction_id.is_empty() && first.assessed_time.is_some());
    let second = packs.next().await.expect("watching").expect("an assessment");
    assert_eq!(second.vehicle_id, "car-1");

    let battery = batteries.next().await.expect("watching").expect("a prediction");
    assert_eq!((battery.vehicle_id.as_str(), battery.missed_predictions), ("car-1", 0));
    let asked = predict(&client, of_car("car-1")).await.expect("answered");
    assert_eq!(battery.prediction.expect("a prediction").bits(), asked.bits());

    // However often it sends: once a second, and of the last readings.
    let started = std::time::Instant::now();
    let mut hot = CALM;
    for celsius in 0..40u8 {
        hot[0] = 26.0 + f32::from(celsius);
        gateway.send("car-2", &[(0, hot)]).await;
    }
    let mut seen = 0u32;
    loop {
        let next = packs.next().await.expect("watching").expect("an assessment");
        seen += u32::from(next.vehicle_id == "car-2");
        let info = next.assessment.as_ref().and_then(|assessment| assessment.info.as_ref()).expect("info");
        if next.vehicle_id == "car-2" && number(info, "cell_temperature_max_celsius") == 65.0 {
            break;
        }
    }
    let seconds = u32::try_from(started.elapsed().as_secs()).expect("small");
    assert!(seen <= seconds + 2, "{seen} assessments in {seconds} s");
    let renewed = server.endpoint().metric("ev_predictions_renewed_total{kind=\"thermal\"}").await;
    assert!(renewed >= f64::from(seen) + 2.0, "{renewed}");

    let refused = client.thermal().watch_assessments(vec!["a b".to_owned()]).await.map_err(Refusal::from);
    let Err(refused) = refused else { panic!("a blank is in no vehicle's id") };
    assert_eq!((refused.code, refused.fields[0].0.as_str()), (Code::InvalidArgument, "vehicle_ids[0]"), "{refused:?}");
    let (server, _directory) = server.into_parts();
    server.stop().await;
    let ended = packs.next().await.map_err(Refusal::from).expect_err("the server is gone");
    assert_eq!((ended.code, ended.reason.as_str()), (Code::Unavailable, "SHUTTING_DOWN"), "{ended:?}");
}

async fn alerts(client: &Client, filter: AlertFilter) -> Vec<Alert> {
    let request = ListAlertsRequest { filter: Some(filter), ..ListAlertsRequest::default() };
    client.thermal().list_alerts(request).next().await.expect("answered").map(|page| page.alerts).unwrap_or_default()
}

#[tokio::test]
async fn the_model_raises_an_alert_for_what_the_rule_does_not_see() {
    let server = TestServer::start(&[("alerts.life.raise_after.medium", "0s")]).await;
    let client = server.client().await;
    let mut gateway = Gateway::open(server.endpoint()).await;
    put(server.endpoint(), "wet", "battery", &[("cells_in_series", feature_value::Value::Number(96.0))]).await;
    // Warm, but for the rule not too warm; moist and with a high resistance, which the rule does not read.
    let mut wet = CALM;
    (wet[0], wet[1], wet[2]) = (44.0, 43.0, 42.0);
    (wet[10], wet[11], wet[12]) = (15.0, 95.0, 1.0);
    let thermal = AlertFilter { topic: AlertTopic::Thermal.into(), ..AlertFilter::default() };
    assert_eventually!(
        {
            gateway.send("wet", &[(0, wet)]).await;
            gateway.send("dry", &[(0, CALM)]).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            !alerts(&client, thermal.clone()).await.is_empty()
        },
        "no alert"
    );
    let [alert] = &alerts(&client, thermal).await[..] else { panic!("one alert, of one vehicle") };
    assert_eq!((alert.vehicle_id.as_str(), alert.origin()), ("wet", AlertOrigin::Model));
    assert_eq!((alert.risk_class(), alert.severity()), (RiskClass::Warning, Severity::Medium));
    assert_eq!(alert.sign, "risk_class");
    assert!((0.9..=1.0).contains(&alert.value), "{alert:?}");
    let response = assess(&client, of_pack("wet")).await.expect("answered");
    assert_eq!(response.risk_class(), RiskClass::Warning);
    server.stop().await;
}

#[tokio::test]
async fn limits_on_what_is_predicted_of_a_battery_raise_alerts() {
    let overrides = [
        ("predictions.renew_interval", "100ms"),
        ("alerts.life.raise_after.medium", "0s"),
        ("alerts.life.raise_after.low", "0s"),
    ];
    let server = TestServer::start(&overrides).await;
    let client = server.client().await;
    let mut gateway = Gateway::open(server.endpoint()).await;
    put_battery(server.endpoint(), "cold").await;
    // A drive in the cold, after which the cells come back to 3.3 V: what the models know as a worn cell.
    let mut drive = drives();
    for (_, reading) in &mut drive {
        (reading[0], reading[1], reading[2]) = (12.0, 11.0, 10.0);
        (reading[9], reading[15]) = (4.0, 80.0);
        if reading[6] == 0.0 {
            reading[3] = 3.3;
        }
    }
    gateway.send("cold", &drive).await;
    let of = |topic: AlertTopic| AlertFilter { topic: topic.into(), ..AlertFilter::default() };
    assert_eventually!(!alerts(&client, of(AlertTopic::StateOfHealth)).await.is_empty(), "no alert");
    let health = &alerts(&client, of(AlertTopic::StateOfHealth)).await[0];
    assert_eq!((health.origin(), health.severity(), health.limit), (AlertOrigin::Fleet, Severity::Medium, 75.0));
    let predicted = predict(&client, of_car("cold")).await.expect("answered");
    assert_eq!(health.value, predicted.state_of_health.expect("an answer").soh_q50_percent);
    let failure = &alerts(&client, of(AlertTopic::FailureProbability)).await[0];
    assert_eq!((failure.severity(), failure.limit, failure.unit.as_str()), (Severity::Medium, 0.3, "1"));
    server.stop().await;
}

#[tokio::test]
async fn the_rule_has_the_thresholds_of_the_chemistry_that_was_written() {
    let server = TestServer::start(&[("alerts.rule.chemistries.lfp.temperature_max_celsius", "56")]).await;
    let client = server.client().await;
    let mut gateway = Gateway::open(server.endpoint()).await;
    put(server.endpoint(), "lfp-1", "battery", &[("chemistry", feature_value::Value::Text("LFP".to_owned()))]).await;
    let mut warm = CALM;
    (warm[0], warm[1], warm[2]) = (57.0, 56.5, 56.0);
    let thermal = AlertFilter {
        topic: AlertTopic::Thermal.into(),
        severity_min: Severity::High.into(),
        ..AlertFilter::default()
    };
    assert_eventually!(
        {
            for vehicle in ["lfp-1", "nmc-1"] {
                gateway.send(vehicle, &[(0, warm)]).await;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            !alerts(&client, thermal.clone()).await.is_empty()
        },
        "57 degrees are above the maximum of such cells"
    );
    let [alert] = &alerts(&client, thermal).await[..] else { panic!("one alert, of one vehicle") };
    assert_eq!((alert.vehicle_id.as_str(), alert.origin()), ("lfp-1", AlertOrigin::Rule));
    assert_eq!(alert.limit, 56.0);
    server.stop().await;
}
