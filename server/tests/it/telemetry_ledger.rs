//! What did not come and what was not taken in: holes, refused readings, messages that are too large.

use ev_client::Code;
use ev_proto::ev::telemetry::v1::{
    Batch, Column, Durability, GetLatestRequest, ListGapsRequest, ListGapsResponse, ListRejectedRequest,
    ListRejectedResponse, Open, PublishRequest, RejectReason, SignalDeclaration, VehicleSequence, stream_request,
    stream_response::Message, telemetry_ingest_client::TelemetryIngestClient,
};
use tonic_types::StatusExt as _;

use crate::{
    support::{
        process::Evserve,
        refusal::Refusal,
        server::{Endpoint, TestServer, shared},
    },
    telemetry::{Gateway, SPEED, batch, open, queries},
};

async fn gaps(endpoint: Endpoint, request: ListGapsRequest) -> Result<ListGapsResponse, Refusal> {
    let answer = queries(endpoint).await.list_gaps(request).await;
    answer.map(tonic::Response::into_inner).map_err(Refusal::from)
}

fn default() -> ListRejectedRequest {
    ListRejectedRequest::default()
}

async fn rejected(endpoint: Endpoint, request: ListRejectedRequest) -> Result<ListRejectedResponse, Refusal> {
    let answer = queries(endpoint).await.list_rejected(request).await;
    answer.map(tonic::Response::into_inner).map_err(Refusal::from)
}

#[tokio::test]
async fn holes_are_listed_by_who_should_have_filled_them() {
    let endpoint = shared();
    for (boot, sequences) in [("boot-1", &[1, 2, 5, 9][..]), ("boot-2", &[1, 2]), ("boot-3", &[3])] {
        let (mut gateway, _) = Gateway::open(endpoint, Open { boot_id: boot.into(), ..open("depot-21") }).await;
        for sequence in sequences {
            gateway.batch(batch("car-21", *sequence)).await;
        }
        gateway.until_applied("car-21", sequences[sequences.len() - 1]).await;
    }
    let asked = ListGapsRequest { vehicle_id: "car-21".into(), ..ListGapsRequest::default() };
    let all = gaps(endpoint, asked.clone()).await.expect("answered");
    let shown: Vec<_> = all
        .sources
        .iter()
        .map(|of| {
            let ranges: Vec<_> = of.ranges.iter().map(|range| (range.first, range.last)).collect();
            (of.gateway_id.as_str(), of.boot_id.as_str(), of.batches_received, of.batches_missing, ranges)
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("depot-21", "boot-1", 4, 5, vec![(3, 4), (6, 8)]),
            // The one without holes is not among them.
            ("depot-21", "boot-3", 1, 2, vec![(1, 2)]),
        ]
    );
    assert_eq!((all.batches_received, all.batches_expected, all.next_page_token.as_str()), (7, 14, ""));
    assert_eq!(all.completeness, 0.5);

    let first = gaps(endpoint, ListGapsRequest { page_size: 1, ..asked.clone() }).await.expect("answered");
    assert_eq!((first.sources.len(), first.next_page_token.as_str()), (1, "depot-21 boot-1"));
    let page_token = first.next_page_token;
    let second = gaps(endpoint, ListGapsRequest { page_token, page_size: 2, ..asked.clone() }).await.expect("answered");
    assert_eq!((&second.sources[..], second.next_page_token.as_str()), (&all.sources[1..], ""));

    let check = async |change: &dyn Fn(&mut ListGapsRequest), code: Code, reason: &str, words: &str| {
        let mut request = asked.clone();
        change(&mut request);
        gaps(endpoint, request).await.expect_err("refused").says(code, reason, &[words]);
    };
    check(&|asked| asked.vehicle_id = "nobody".into(), Code::NotFound, "UNKNOWN_VEHICLE", "nobody").await;
    check(&|asked| asked.vehicle_id.clear(), Code::InvalidArgument, "INVALID_ID", "vehicle_id").await;
    check(&|asked| asked.page_size = 1_001, Code::InvalidArgument, "OUT_OF_RANGE", "page_size").await;
    check(&|asked| asked.page_token = "x".into(), Code::InvalidArgument, "INVALID_PAGE_TOKEN", "page_token").await;
}

#[tokio::test]
async fn refused_readings_are_kept_with_signal_value_and_sender() {
    let server = TestServer::start(&[]).await;
    let endpoint = server.endpoint();
    let mut declared = open("depot-22");
    declared.signals.push(SignalDeclaration { id: 3, name: "Vehicle.Warp".into(), unit: String::new() });
    let (mut gateway, _) = Gateway::open(endpoint, declared).await;
    let mut sent = batch("car-22", 1);
    sent.columns[0].values[1] = 4_000.0;
    sent.columns.push(Column { signal_id: 3, values: vec![9.0; 3] });
    gateway.batch(sent).await;
    gateway.until_applied("car-22", 1).await;
    gateway.batch(batch("car 22", 7)).await;
    gateway.reject().await;
    // The same of a sender without a stream.
    let mut client = TelemetryIngestClient::new(endpoint.telemetry_channel().await);
    let request = PublishRequest {
        gateway_id: "sensor-22".into(),
        boot_id: "1".into(),
        batches: vec![batch("", 8)],
        ..PublishRequest::default()
    };
    client.publish(request).await.expect("answered");

    let all = rejected(endpoint, ListRejectedRequest::default()).await.expect("answered");
    let shown: Vec<_> = all
        .rejected
        .iter()
        .map(|one| (one.gateway_id.as_str(), one.vehicle_id.as_str(), one.sequence, one.reason(), one.readings))
        .collect();
    let (malformed, unknown) = (RejectReason::MalformedBatch, RejectReason::UnknownSignal);
    assert_eq!(
        shown,
        [
            ("sensor-22", "", 8, malformed, 0),
            ("depot-22", "", 7, malformed, 0),
            ("depot-22", "car-22", 1, unknown, 3),
            ("depot-22", "car-22", 1, RejectReason::ImplausibleValue, 1),
        ]
    );
    let details: Vec<_> = all.rejected.iter().map(|one| (one.signal.as_str(), one.value, one.reading)).collect();
    let (warp, speed) = (("Vehicle.Warp", None, Some(0)), (SPEED, Some(4_000.0), Some(1)));
    assert_eq!(details, [("", None, None), ("", None, None), warp, speed]);
    let counts: Vec<_> = all.counts.iter().map(|count| (count.reason(), count.readings)).collect();
    assert_eq!(counts, [(unknown, 3), (RejectReason::ImplausibleValue, 1), (malformed, 2)]);
    let since = all.since.expect("a time");
    assert!(all.rejected.iter().all(|one| one.time.is_some_and(|time| time.seconds >= since.seconds)));
    assert!(all.rejected.iter().all(|one| one.boot_id == if one.gateway_id == "depot-22" { "boot-1" } else { "1" }));

    let of = async |vehicle: &str, gateway: &str, limit: u32| {
        let asked = ListRejectedRequest { vehicle_id: vehicle.into(), gateway_id: gateway.into(), limit, ..default() };
        let found = rejected(endpoint, asked).await.expect("answered").rejected;
        found.iter().map(|one| one.sequence).collect::<Vec<_>>()
    };
    assert_eq!(of("car-22", "", 0).await, [1, 1]);
    assert_eq!(of("", "sensor-22", 0).await, [8]);
    assert_eq!(of("", "", 2).await, [8, 7]);
    assert_eq!(of("depot-22", "", 0).await, [0; 0], "a gateway is no vehicle");
    let first = rejected(endpoint, ListRejectedRequest { limit: 3, ..default() }).await.expect("answered");
    let rest = ListRejectedRequest { page_token: first.next_page_token, ..default() };
    let rest = rejected(endpoint, rest).await.expect("answered");
    assert_eq!([first.rejected, rest.rejected].concat(), all.rejected);
    assert_eq!(rest.next_page_token, "");
    let refused = rejected(endpoint, ListRejectedRequest { limit: 1_001, ..default() }).await.expect_err("refused");
    refused.says(Code::InvalidArgument, "OUT_OF_RANGE", &["limit", "at most 1000"]);
    let none = ListRejectedRequest { page_token: "one".into(), ..default() };
    let refused = rejected(endpoint, none).await.expect_err("refused");
    refused.says(Code::InvalidArgument, "INVALID_PAGE_TOKEN", &["page_token"]);
    server.stop().await;
}

#[tokio::test]
async fn what_was_left_out_of_a_durable_batch_is_known_after_a_kill() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Evserve::start(directory.path(), &[]).await;
    let (mut gateway, _) = Gateway::open(server.endpoint(), open("depot-24")).await;
    let mut sent = batch("car-24", 1);
    sent.columns[0].values[1] = 4_000.0;
    gateway.batch(sent).await;
    gateway.until("car-24", 1, Durability::Durable).await;
    server.kill().await;

    let server = Evserve::start(directory.path(), &[]).await;
    let after = rejected(server.endpoint(), default()).await.expect("answered");
    let kept: Vec<_> = after.rejected.iter().map(|one| (one.vehicle_id.as_str(), one.sequence, one.value)).collect();
    assert_eq!(kept, [("car-24", 1, Some(4_000.0))]);
    assert_eq!(after.counts, [], "counted since the start");
    server.kill().await;
}

#[tokio::test]
async fn a_gateway_is_asked_for_everything_it_knows_where_batches_are_lost_for_good() {
    let endpoint = shared();
    // It has skipped a number, which it does not have any more.
    let (mut gateway, _) = Gateway::open(endpoint, open("depot-23")).await;
    gateway.batch(batch("car-23", 1)).await;
    gateway.batch(batch("car-23", 3)).await;
    let seen = gateway.until_applied("car-23", 3).await;
    let told: Vec<_> = seen.iter().filter(|message| !matches!(message, Message::Ack(_) | Message::Credit(_))).collect();
    let [Message::Gaps(gaps), Message::RequestFullState(wanted)] = &told[..] else {
        panic!("expected the hole and a request, found {told:?}");
    };
    assert_eq!((gaps.ranges.len(), wanted.vehicle_id.as_str()), (1, "car-23"));
    // The answer is a batch like any other.
    let state = Batch { columns: vec![Column { signal_id: 1, values: vec![77.0] }], ..batch("car-23", 4) };
    gateway.batch(Batch { time_deltas_us: vec![0], first_time: Some(crate::telemetry::seconds_ago(0)), ..state }).await;
    let seen = gateway.until_applied("car-23", 4).await;
    assert!(!seen.iter().any(|message| matches!(message, Message::RequestFullState(_))), "once for each hole");
    let latest = GetLatestRequest { vehicle_id: "car-23".into(), signals: vec![SPEED.into()] };
    let latest = queries(endpoint).await.get_latest(latest).await.expect("answered").into_inner();
    assert_eq!(latest.values[0].value, 77.0);
    drop(gateway);

    // When it opens: it still has the hole, or believes it filled, or believes more than the server has.
    let check = async |believed: u64, expected: bool| {
        let last_acked = vec![VehicleSequence { vehicle_id: "car-23".into(), sequence: believed }];
        let (mut gateway, opened) = Gateway::open(endpoint, Open { last_acked, ..open("depot-23") }).await;
        assert_eq!(opened.next_expected[0].sequence, 5);
        assert!(matches!(gateway.next().await, Message::Gaps(_)));
        gateway.batch(Batch { is_resend: true, ..batch("car-23", 1) }).await;
        let next = gateway.next().await;
        assert_eq!(matches!(next, Message::RequestFullState(_)), expected, "{believed}: {next:?}");
    };
    check(1, false).await;
    check(2, true).await;
    check(4, true).await;
    check(9, true).await;
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_stream_and_names_the_limit() {
    let server = TestServer::start(&[("telemetry.message_size_max", "4KiB")]).await;
    let expected = ["message length too large", "the limit is: 4096 bytes", "`telemetry.message_size_max`"];
    let large = || {
        let columns = vec![Column { signal_id: 1, values: vec![1.0; 2_000] }];
        Batch { time_deltas_us: vec![0; 2_000], columns, ..batch("car-24", 2) }
    };
    let (mut gateway, _) = Gateway::open(server.endpoint(), open("depot-24")).await;
    gateway.batch(batch("car-24", 1)).await;
    gateway.until_applied("car-24", 1).await;
    gateway.send(stream_request::Message::Batch(large())).await;
    let status = loop {
        match gateway.try_next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended in order"),
            Err(status) => break status,
        }
    };
    let facts = status.get_details_error_info().expect("a reason").metadata;
    let size: u64 = facts["size_bytes"].parse().expect("a number");
    assert!(size > 4_096, "{facts:?}");
    assert_eq!((facts["limit_bytes"].as_str(), facts["key"].as_str()), ("4096", "telemetry.message_size_max"));
    Refusal::from(status).says(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", &expected);

    let mut client = TelemetryIngestClient::new(server.endpoint().telemetry_channel().await);
    let request = PublishRequest {
        gateway_id: "sensor-24".into(),
        boot_id: "1".into(),
        signals: open("x").signals,
        batches: vec![large()],
        ..PublishRequest::default()
    };
    let refused = client.publish(request).await.map_err(Refusal::from).expect_err("refused");
    refused.says(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", &expected);
    server.stop().await;
}
