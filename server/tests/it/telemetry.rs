//! Telemetry over gRPC: taken in, acknowledged, refused, asked about, and kept over a restart.

use std::{collections::BTreeMap, time::Duration};

use ev_client::Code;
use ev_proto::ev::telemetry::v1::{
    AggregateRequest, Batch, Column, Durability, GetLatestRequest, ListVehiclesRequest, Open, PublishRequest,
    QueryRequest, Reading, Reject, RejectReason, Resolution, RowBatch, SignalDeclaration, SignalNaming, StreamRequest,
    StreamResponse, VehicleSequence, WatchRequest, stream_request, stream_response::Message,
    telemetry_ingest_client::TelemetryIngestClient, telemetry_query_client::TelemetryQueryClient,
};
use prost_types::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Status, Streaming, transport::Channel};

use crate::support::{
    refusal::Refusal,
    server::{Endpoint, TestServer, shared},
};

pub(crate) const SPEED: &str = "Vehicle.Speed";
pub(crate) const SOC: &str = "Vehicle.Powertrain.TractionBattery.StateOfCharge.Current";

/// A gateway's stream, driven by hand.
pub(crate) struct Gateway {
    sender: mpsc::Sender<StreamRequest>,
    answers: Streaming<StreamResponse>,
}

pub(crate) fn open(gateway: &str) -> Open {
    let declare = |id: u32, name: &str| SignalDeclaration { id, name: name.to_owned(), unit: String::new() };
    Open {
        gateway_id: gateway.to_owned(),
        boot_id: "boot-1".to_owned(),
        signals: vec![declare(1, SPEED), declare(2, SOC)],
        signal_naming: SignalNaming::Vss.into(),
        last_acked: Vec::new(),
    }
}

pub(crate) fn seconds_ago(seconds: i64) -> Timestamp {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    Timestamp { seconds: i64::try_from(now.as_secs()).expect("small") - seconds, nanos: 0 }
}

/// Three readings, a second apart, the last one three seconds ago.
pub(crate) fn batch(vehicle: &str, sequence: u64) -> Batch {
    Batch {
        vehicle_id: vehicle.to_owned(),
        sequence,
        is_resend: false,
        first_time: Some(seconds_ago(5)),
        time_deltas_us: vec![0, 1_000_000, 1_000_000],
        columns: vec![
            Column { signal_id: 1, values: vec![10.0, 20.0, 30.0] },
            Column { signal_id: 2, values: vec![81.0, f32::NAN, 80.0] },
        ],
    }
}

impl Gateway {
    pub(crate) async fn open(endpoint: Endpoint, open: Open) -> (Gateway, ev_proto::ev::telemetry::v1::Opened) {
        let mut gateway = Gateway::connect(endpoint).await;
        gateway.send(stream_request::Message::Open(open)).await;
        match gateway.next().await {
            Message::Opened(opened) => (gateway, opened),
            other => panic!("expected to be opened, found {other:?}"),
        }
    }

    pub(crate) async fn connect(endpoint: Endpoint) -> Gateway {
        let (sender, requests) = mpsc::channel(1024);
        let mut client = TelemetryIngestClient::new(endpoint.telemetry_channel().await);
        let answers = client.stream(ReceiverStream::new(requests)).await.expect("a stream").into_inner();
        Gateway { sender, answers }
    }

    pub(crate) async fn send(&self, message: stream_request::Message) {
        self.sender.send(StreamRequest { message: Some(message) }).await.expect("the stream is open");
    }

    pub(crate) async fn batch(&self, batch: Batch) {
        self.send(stream_request::Message::Batch(batch)).await;
    }

    pub(crate) async fn next(&mut self) -> Message {
        self.try_next().await.expect("an answer").expect("the stream is open")
    }

    pub(crate) async fn try_next(&mut self) -> Result<Option<Message>, Status> {
        let answer = tokio::time::timeout(Duration::from_secs(20), self.answers.message()).await.expect("in time")?;
        Ok(answer.map(|answer| answer.message.expect("set")))
    }

    /// What comes until a batch is applied.
    pub(crate) async fn until_applied(&mut self, vehicle: &str, sequence: u64) -> Vec<Message> {
        self.until(vehicle, sequence, Durability::Applied).await
    }

    /// What comes until a batch is so safe.
    pub(crate) async fn until(&mut self, vehicle: &str, sequence: u64, durability: Durability) -> Vec<Message> {
        let mut seen = Vec::new();
        loop {
            let message = self.next().await;
            let is_so_safe = matches!(&message, Message::Ack(ack) if ack.vehicle_id == vehicle
                && ack.durability() >= durability && ack.sequence >= sequence);
            seen.push(message);
            if is_so_safe {
                return seen;
            }
        }
    }

    /// The next reject; credit may come before it.
    pub(crate) async fn reject(&mut self) -> Reject {
        loop {
            match self.next().await {
                Message::Reject(reject) => return reject,
                Message::Credit(_) => {}
                other => panic!("expected a reject, found {other:?}"),
            }
        }
    }

    /// How the stream ends.
    pub(crate) async fn end(&mut self) -> Result<(), Refusal> {
        loop {
            match self.try_next().await {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(status) => return Err(Refusal::from(status)),
            }
        }
    }
}

pub(crate) async fn queries(endpoint: Endpoint) -> TelemetryQueryClient<Channel> {
    TelemetryQueryClient::new(endpoint.channel().await)
}

pub(crate) fn query(vehicle: &str) -> QueryRequest {
    QueryRequest {
        vehicle_id: vehicle.to_owned(),
        start_time: Some(seconds_ago(3600)),
        end_time: Some(seconds_ago(-60)),
        ..QueryRequest::default()
    }
}

fn rejects(seen: &[Message]) -> Vec<(RejectReason, Option<u32>, u32, &str)> {
    let rejects = seen.iter().filter_map(|message| match message {
        Message::Reject(reject) => Some((reject.reason(), reject.reading, reject.readings, reject.message.as_str())),
        _ => None,
    });
    rejects.collect()
}

#[tokio::test]
async fn a_batch_is_received_durable_applied_and_can_be_asked_about() {
    let server = TestServer::start(&[]).await;
    let (mut gateway, opened) = Gateway::open(server.endpoint(), open("depot-1")).await;
    assert_eq!((opened.credit, opened.batch_readings_max), (16, 4096));
    gateway.batch(batch("car-1", 1)).await;
    let seen = gateway.until_applied("car-1", 1).await;
    let durabilities = seen.iter().filter_map(|message| match message {
        Message::Ack(ack) => Some((ack.durability(), ack.sequence, ack.is_duplicate)),
        _ => None,
    });
    let expected = [Durability::Received, Durability::Durable, Durability::Applied];
    assert_eq!(durabilities.collect::<Vec<_>>(), expected.map(|durability| (durability, 1, false)));

    let mut client = queries(server.endpoint()).await;
    let page = client.query(query("car-1")).await.expect("answered").into_inner();
    assert_eq!(page.times_us.len(), 3);
    let columns: BTreeMap<&str, (&str, &[f32])> = page
        .columns
        .iter()
        .map(|column| (column.signal.as_str(), (column.unit.as_str(), column.values.as_slice())))
        .collect();
    assert_eq!(columns[SPEED], ("km/h", &[10.0, 20.0, 30.0][..]));
    let (unit, soc) = columns[SOC];
    assert!(unit == "percent" && soc[0] == 81.0 && soc[1].is_nan() && soc[2] == 80.0);

    let latest = GetLatestRequest { vehicle_id: "car-1".into(), signals: vec![SPEED.into()] };
    let latest = client.get_latest(latest).await.expect("answered").into_inner().values;
    assert_eq!((latest.len(), latest[0].value, latest[0].signal.as_str()), (1, 30.0, SPEED));

    let vehicles = client.list_vehicles(ListVehiclesRequest::default()).await.expect("answered").into_inner();
    let [car] = &vehicles.vehicles[..] else { panic!("expected one, found {vehicles:?}") };
    assert_eq!((car.vehicle_id.as_str(), car.readings, car.completeness), ("car-1", 3, 1.0));

    let aggregate = AggregateRequest {
        vehicle_id: "car-1".into(),
        signals: vec![SPEED.into()],
        start_time: Some(seconds_ago(86_400)),
        end_time: Some(seconds_ago(-86_400)),
        resolution: Resolution::Day.into(),
        ..AggregateRequest::default()
    };
    let days = client.aggregate(aggregate).await.expect("answered").into_inner().aggregates;
    let count: u64 = days.iter().map(|day| day.count).sum();
    let sum: f64 = days.iter().map(|day| day.mean * day.count as f64).sum();
    assert_eq!((count, sum), (3, 60.0));
    server.stop().await;
}

#[tokio::test]
async fn what_was_durable_is_there_after_a_restart_and_a_resend_is_a_duplicate() {
    let server = TestServer::start(&[]).await;
    let (mut gateway, _) = Gateway::open(server.endpoint(), open("depot-1")).await;
    for sequence in [1, 2, 5] {
        gateway.batch(batch("car-1", sequence)).await;
    }
    let seen = gateway.until_applied("car-1", 5).await;
    let gaps: Vec<_> = seen.iter().filter(|message| matches!(message, Message::Gaps(_))).collect();
    let [Message::Gaps(gaps)] = &gaps[..] else { panic!("expected one gap, found {gaps:?}") };
    assert_eq!(gaps.ranges.iter().map(|range| (range.first, range.last)).collect::<Vec<_>>(), [(3, 4)]);
    drop(gateway);
    let directory = server.stop().await;

    let server = TestServer::start_on(directory, &[]).await;
    let last_acked = vec![VehicleSequence { vehicle_id: "car-1".into(), sequence: 5 }];
    let (mut gateway, opened) = Gateway::open(server.endpoint(), Open { last_acked, ..open("depot-1") }).await;
    assert_eq!(opened.next_expected[0].sequence, 6);
    let Message::Gaps(gaps) = gateway.next().await else { panic!("the gap is remembered") };
    assert_eq!((gaps.ranges[0].first, gaps.ranges[0].last), (3, 4));
    gateway.batch(Batch { is_resend: true, ..batch("car-1", 2) }).await;
    let duplicate = loop {
        if let Message::Ack(ack) = gateway.next().await {
            break ack;
        }
    };
    assert_eq!((duplicate.sequence, duplicate.is_duplicate), (2, true));
    for sequence in [3, 4] {
        gateway.batch(Batch { is_resend: true, ..batch("car-1", sequence) }).await;
    }
    gateway.until_applied("car-1", 4).await;
    let mut client = queries(server.endpoint()).await;
    let page = client.query(query("car-1")).await.expect("answered").into_inner();
    assert_eq!(page.times_us.len(), 15, "five batches of three, none twice");
    let vehicles = client.list_vehicles(ListVehiclesRequest::default()).await.expect("answered").into_inner();
    assert_eq!(vehicles.vehicles[0].completeness, 1.0);
    server.stop().await;
}

#[tokio::test]
async fn what_is_implausible_is_told_and_the_rest_is_kept() {
    let endpoint = shared();
    let mut declared = open("depot-2");
    declared.signals.push(SignalDeclaration { id: 3, name: "Vehicle.Warp".into(), unit: String::new() });
    declared.signals.push(SignalDeclaration { id: 4, name: SPEED.into(), unit: "V".into() });
    let (mut gateway, _) = Gateway::open(endpoint, declared).await;
    let mut told = Vec::new();
    for _ in 0..2 {
        let reject = gateway.reject().await;
        assert_eq!((reject.sequence, reject.reason()), (0, RejectReason::UnknownSignal));
        told.push(reject.message);
    }
    told.sort_unstable();
    assert_eq!(
        told,
        [
            "signal `Vehicle.Speed` is declared in `V`, expected one of m/s, km/h, mph",
            "signal `Vehicle.Warp` is unknown, expected a VSS path of the catalogue"
        ]
    );

    let mut sequence = 0;
    let mut check = async |change: &dyn Fn(&mut Batch), expected: &[(RejectReason, Option<u32>, u32, &str)]| {
        sequence += 1;
        let mut sent = batch("car-2", sequence);
        change(&mut sent);
        gateway.batch(sent).await;
        let seen = gateway.until_applied("car-2", sequence).await;
        let found = rejects(&seen);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!((found.0, found.1, found.2), (expected.0, expected.1, expected.2), "{found:?}");
            assert!(found.3.contains(expected.3), "{found:?}");
        }
    };
    check(&|_| {}, &[]).await;
    check(
        &|batch| batch.columns[0].values[1] = 4_000.0,
        &[(RejectReason::ImplausibleValue, Some(1), 1, "Vehicle.Speed is 4000, expected -250 to 500 km/h")],
    )
    .await;
    check(
        &|batch| batch.columns[0].values[2] = f32::INFINITY,
        &[(RejectReason::ImplausibleValue, Some(2), 1, "is inf")],
    )
    .await;
    check(
        &|batch| batch.columns[0].signal_id = 9,
        &[(RejectReason::UnknownSignal, Some(0), 3, "signal id 9 was not declared")],
    )
    .await;
    check(&|batch| batch.columns[0].signal_id = 3, &[(RejectReason::UnknownSignal, Some(0), 3, "Vehicle.Warp")]).await;
    check(
        &|batch| batch.columns[0].values.push(1.0),
        &[(RejectReason::MalformedBatch, None, 3, "a column of 4 values for 3 readings")],
    )
    .await;
    check(&|batch| batch.columns[1].signal_id = 1, &[(RejectReason::MalformedBatch, None, 3, "")]).await;
    check(&|batch| batch.time_deltas_us.clear(), &[(RejectReason::MalformedBatch, None, 0, "without time_deltas")])
        .await;
    check(
        &|batch| batch.first_time = Some(seconds_ago(400 * 86_400)),
        &[(RejectReason::ImplausibleTime, Some(0), 3, "behind")],
    )
    .await;
    check(
        &|batch| batch.first_time = Some(seconds_ago(-365 * 86_400)),
        &[(RejectReason::ImplausibleTime, Some(0), 3, "ahead of the server")],
    )
    .await;
    check(&|batch| batch.first_time = None, &[(RejectReason::ImplausibleTime, None, 3, "first_time is missing")]).await;
    check(&|batch| batch.time_deltas_us[1] = i64::MAX, &[(RejectReason::ImplausibleTime, None, 3, "beyond all time")])
        .await;
    check(
        &|batch| {
            batch.time_deltas_us = vec![0; 5_000];
            batch.columns.clear();
        },
        &[(RejectReason::TooLarge, None, 5_000, "5000 readings, expected at most 4096")],
    )
    .await;
    let kept = queries(endpoint).await.query(query("car-2")).await.expect("answered").into_inner();
    // Of thirteen batches: six lost nothing or a value or a column, the others all their readings.
    assert_eq!(kept.times_us.len(), 5 * 3);

    // What has no number or no vehicle is not acknowledged.
    gateway.batch(batch("car-2", 0)).await;
    let reject = gateway.reject().await;
    assert_eq!((reject.reason(), reject.reading), (RejectReason::ImplausibleSequence, None));
    gateway.batch(batch("car-2", u64::MAX)).await;
    let reject = gateway.reject().await;
    assert_eq!((reject.reason(), reject.reading), (RejectReason::ImplausibleSequence, None));
    gateway.batch(batch("car 2", 1)).await;
    let reject = gateway.reject().await;
    assert_eq!((reject.reason(), reject.vehicle_id.as_str()), (RejectReason::MalformedBatch, "car 2"));
}

#[tokio::test]
async fn rows_and_other_peoples_names_and_units_are_taken() {
    let endpoint = shared();
    let mut declared = Open { signals: Vec::new(), ..open("depot-3") };
    declared.signal_naming = SignalNaming::TeslaFleetTelemetry.into();
    let (mut gateway, _) = Gateway::open(endpoint, declared).await;
    let values = [("VehicleSpeed", 100.0), ("Soc", 81.5), ("HasTowHitch", 1.0)];
    let values = values.map(|(name, value)| (name.to_owned(), value)).into();
    let readings = vec![Reading { time: Some(seconds_ago(2)), values }];
    let rows = RowBatch { vehicle_id: "car-3".into(), sequence: 1, is_resend: false, readings };
    gateway.send(stream_request::Message::RowBatch(rows)).await;
    let seen = gateway.until_applied("car-3", 1).await;
    let expected =
        "signal `HasTowHitch` is unknown, expected a field of Tesla's fleet-telemetry that the catalogue knows";
    assert_eq!(rejects(&seen), [(RejectReason::UnknownSignal, Some(0), 1, expected)]);
    let latest = GetLatestRequest { vehicle_id: "car-3".into(), signals: Vec::new() };
    let latest = queries(endpoint).await.get_latest(latest).await.expect("answered").into_inner().values;
    let latest: Vec<(&str, f32)> = latest.iter().map(|value| (value.signal.as_str(), value.value)).collect();
    assert_eq!(latest, [(SOC, 81.5), (SPEED, 160.9344)], "miles an hour became kilometres");
}

#[tokio::test]
async fn a_stream_that_breaks_the_protocol_is_told_how() {
    let endpoint = shared();
    let check = async |first: stream_request::Message, reason: &str, words: &str| {
        let mut gateway = Gateway::connect(endpoint).await;
        gateway.send(first).await;
        gateway.end().await.expect_err("refused").says(Code::InvalidArgument, reason, &[words]);
    };
    let opened = stream_request::Message::Open;
    check(stream_request::Message::Batch(batch("car-4", 1)), "MISSING_FIELD", "open").await;
    check(opened(Open { gateway_id: String::new(), ..open("x") }), "INVALID_ID", "gateway_id").await;
    check(opened(Open { boot_id: "a b".into(), ..open("x") }), "INVALID_ID", "boot_id").await;
    check(opened(Open { signal_naming: 9, ..open("x") }), "UNKNOWN_VALUE", "signal_naming").await;
    let mut twice = open("x");
    twice.signals[1].id = 1;
    check(opened(twice), "DUPLICATE", "signals[1].id").await;
    let mut large = open("x");
    large.signals[0].id = 70_000;
    check(opened(large), "OUT_OF_RANGE", "signals[0].id").await;

    let (mut gateway, _) = Gateway::open(endpoint, open("depot-4")).await;
    gateway.send(opened(open("depot-4"))).await;
    gateway.end().await.expect_err("refused").says(Code::InvalidArgument, "OUT_OF_ORDER", &["open"]);
}

#[tokio::test]
async fn the_second_stream_of_a_gateway_ends_the_first() {
    let endpoint = shared();
    let (mut first, _) = Gateway::open(endpoint, open("depot-5")).await;
    let (mut second, _) = Gateway::open(endpoint, open("depot-5")).await;
    first.end().await.expect_err("superseded").says(Code::Aborted, "SUPERSEDED", &["depot-5"]);
    second.batch(batch("car-5", 1)).await;
    second.until_applied("car-5", 1).await;
}

#[tokio::test]
async fn credit_bounds_what_a_gateway_may_send() {
    let server = TestServer::start(&[("telemetry.credit", "4")]).await;
    let (mut gateway, opened) = Gateway::open(server.endpoint(), open("depot-6")).await;
    assert_eq!(opened.credit, 4);
    // One that keeps to its credit goes on for ever.
    let mut credit = opened.credit;
    for sequence in 1..=100 {
        while credit == 0 {
            if let Message::Credit(more) = gateway.next().await {
                credit += more.batches;
            }
        }
        credit -= 1;
        gateway.batch(batch("car-6", sequence)).await;
    }
    gateway.until_applied("car-6", 100).await;
    drop(gateway);

    // One that floods is ended, and what was acknowledged is there.
    let (mut flood, _) = Gateway::open(server.endpoint(), open("depot-7")).await;
    for sequence in 1..=1_000 {
        let message = Some(stream_request::Message::Batch(batch("car-7", sequence)));
        if flood.sender.send(StreamRequest { message }).await.is_err() {
            break;
        }
    }
    flood.end().await.expect_err("ended").says(Code::ResourceExhausted, "OUT_OF_CREDIT", &["4 batches"]);
    server.stop().await;
}

#[tokio::test]
async fn a_connection_whose_stream_was_ended_waits_before_the_next() {
    let server = TestServer::start(&[("telemetry.credit", "2")]).await;
    let mut client = TelemetryIngestClient::new(server.endpoint().telemetry_channel().await);
    let (sender, requests) = mpsc::channel(64);
    let answers = client.stream(ReceiverStream::new(requests)).await.expect("a stream").into_inner();
    let mut flood = Gateway { sender, answers };
    flood.send(stream_request::Message::Open(open("depot-30"))).await;
    for sequence in 1..=50 {
        let message = Some(stream_request::Message::Batch(batch("car-30", sequence)));
        let _ = flood.sender.send(StreamRequest { message }).await;
    }
    flood.end().await.expect_err("ended").says(Code::ResourceExhausted, "OUT_OF_CREDIT", &["2 batches"]);

    let mut again = async || {
        let (_sender, requests) = mpsc::channel(1);
        client.stream(ReceiverStream::new(requests)).await.map_err(Refusal::from).map(|_| ())
    };
    again().await.expect_err("refused").says(Code::ResourceExhausted, "TOO_SOON", &["open the next in"]);
    // Another connection has done nothing.
    let (mut other, _) = Gateway::open(server.endpoint(), open("depot-31")).await;
    other.batch(batch("car-31", 1)).await;
    other.until_applied("car-31", 1).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    again().await.expect("it has waited");
    server.stop().await;
}

#[tokio::test]
async fn a_gateway_that_sends_nothing_to_be_taken_is_slowed_down() {
    let (mut gateway, _) = Gateway::open(shared(), open("depot-32")).await;
    let begin = std::time::Instant::now();
    let pauses = 40;
    for sequence in 1..=8 + pauses {
        gateway.batch(batch("no id", sequence)).await;
        assert_eq!(gateway.reject().await.reason(), RejectReason::MalformedBatch);
    }
    assert!(begin.elapsed() >= Duration::from_millis(10 * (pauses - 1)), "{:?}", begin.elapsed());
    // One that can be taken is, and those after it.
    let begin = std::time::Instant::now();
    gateway.batch(batch("car-32", 1)).await;
    gateway.until_applied("car-32", 1).await;
    for sequence in 2..=8 {
        gateway.batch(batch("no id", sequence)).await;
        gateway.reject().await;
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_publish_is_durable_when_it_is_answered() {
    let endpoint = shared();
    let mut client = TelemetryIngestClient::new(endpoint.telemetry_channel().await);
    let signals = open("x").signals;
    let request = PublishRequest {
        gateway_id: "sensor-1".into(),
        boot_id: "1".into(),
        signals,
        batches: vec![batch("car-8", 1), batch("car-8", 3), batch("car-9", 1), batch("", 1)],
        ..PublishRequest::default()
    };
    let response = client.publish(request.clone()).await.expect("published").into_inner();
    let acks: BTreeMap<&str, u64> = response.acks.iter().map(|ack| (ack.vehicle_id.as_str(), ack.sequence)).collect();
    assert_eq!(acks, BTreeMap::from([("car-8", 3), ("car-9", 1)]));
    assert_eq!(response.rejects.len(), 1);
    assert_eq!((response.gaps[0].vehicle_id.as_str(), response.gaps[0].ranges[0].first), ("car-8", 2));
    let again = client.publish(request.clone()).await.expect("published").into_inner();
    assert!(again.acks.iter().all(|ack| ack.is_duplicate));
    let kept = queries(endpoint).await.query(query("car-8")).await.expect("answered").into_inner();
    assert_eq!(kept.times_us.len(), 6);
    let empty = client.publish(PublishRequest { batches: Vec::new(), ..request }).await.map_err(Refusal::from);
    empty.expect_err("refused").says(Code::InvalidArgument, "EMPTY_BATCH", &["batches"]);
}

#[tokio::test]
async fn questions_that_cannot_be_answered_are_refused() {
    let mut client = queries(shared()).await;
    let mut check = async |request: QueryRequest, code: Code, reason: &str, words: &str| {
        let refused = client.query(request).await.map_err(Refusal::from).expect_err("refused");
        refused.says(code, reason, &[words]);
    };
    check(query("nobody"), Code::NotFound, "UNKNOWN_VEHICLE", "nobody").await;
    check(query(""), Code::InvalidArgument, "INVALID_ID", "vehicle_id").await;
    let start_time = Some(Timestamp { seconds: i64::MAX, nanos: 0 });
    check(QueryRequest { start_time, ..query("a") }, Code::InvalidArgument, "OUT_OF_RANGE", "start_time").await;
    let signals = vec!["Vehicle.Warp".to_owned()];
    check(QueryRequest { signals, ..query("a") }, Code::InvalidArgument, "UNKNOWN_SIGNAL", "Vehicle.Warp").await;
    check(QueryRequest { page_size: 200_000, ..query("a") }, Code::InvalidArgument, "OUT_OF_RANGE", "page_size").await;
    let page_token = "yesterday".to_owned();
    check(QueryRequest { page_token, ..query("a") }, Code::InvalidArgument, "INVALID_PAGE_TOKEN", "page_token").await;
}

#[tokio::test]
async fn pages_of_readings_follow_each_other() {
    let endpoint = shared();
    let (mut gateway, _) = Gateway::open(endpoint, open("depot-10")).await;
    for sequence in 1..=4 {
        gateway.batch(batch("car-10", sequence)).await;
    }
    gateway.until_applied("car-10", 4).await;
    let mut client = queries(endpoint).await;
    let (mut times, mut request) = (Vec::new(), QueryRequest { page_size: 5, ..query("car-10") });
    loop {
        let page = client.query(request.clone()).await.expect("answered").into_inner();
        assert!(page.times_us.len() <= 5);
        times.extend(page.times_us);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert!(times.len() == 12 && times.is_sorted());
    let all = QueryRequest { start_time: None, end_time: None, ..query("car-10") };
    assert_eq!(client.query(all).await.expect("answered").into_inner().times_us, times);
}

#[tokio::test]
async fn a_watcher_sees_readings_as_they_come() {
    let endpoint = shared();
    let request = WatchRequest {
        vehicle_ids: vec!["car-11".into()],
        signals: vec![SPEED.into()],
        interval_min: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
    };
    let mut seen = queries(endpoint).await.watch(request).await.expect("watching").into_inner();
    let (mut gateway, _) = Gateway::open(endpoint, open("depot-11")).await;
    gateway.batch(batch("car-12", 1)).await;
    gateway.batch(batch("car-11", 1)).await;
    gateway.until_applied("car-11", 1).await;
    let first = seen.next().await.expect("a reading").expect("a reading");
    assert_eq!((first.vehicle_id.as_str(), first.missed_batches), ("car-11", 0));
    assert_eq!((first.columns.len(), &first.columns[0].values[..]), (1, &[10.0, 30.0][..]), "two seconds apart");
}

#[tokio::test]
async fn a_gateway_is_told_where_to_go_on_when_the_server_ends() {
    let server = TestServer::start(&[]).await;
    let (mut gateway, _) = Gateway::open(server.endpoint(), open("depot-12")).await;
    gateway.batch(batch("car-12", 1)).await;
    gateway.until_applied("car-12", 1).await;
    let stopped = tokio::spawn(server.stop());
    gateway.end().await.expect_err("ended").says(Code::Unavailable, "SHUTTING_DOWN", &["open the stream again"]);
    stopped.await.expect("stopped");
}
