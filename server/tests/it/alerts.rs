//! The thermal lane: from a gateway's readings to alerts, over gRPC.

use std::{sync::Arc, time::Duration};

use ev_client::Code;
use ev_proto::ev::{
    telemetry::v1::{
        Batch, Column, Open, SignalDeclaration, SignalNaming, StreamRequest, stream_request, stream_response,
        telemetry_ingest_client::TelemetryIngestClient,
    },
    thermal::v1::{
        AcknowledgeAlertRequest, Alert, AlertFilter, AlertHappening, AlertState, AlertTopic, ListAlertsRequest,
        RiskClass, Severity, WatchAlertsRequest, WatchAlertsResponse, thermal_risk_client::ThermalRiskClient,
    },
};
use prost_types::Timestamp;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::support::{
    refusal::Refusal,
    server::{Endpoint, TestServer},
};

/// Cell temperature, weakest and strongest cell, state of charge.
const SIGNALS: [&str; 4] = [
    "Vehicle.Powertrain.TractionBattery.Temperature.Max",
    "Vehicle.Powertrain.TractionBattery.CellVoltage.Min",
    "Vehicle.Powertrain.TractionBattery.CellVoltage.Max",
    "Vehicle.Powertrain.TractionBattery.StateOfCharge.Current",
];

/// A gateway that sends within its credit, and forgets.
pub(crate) struct Gateway {
    sender: mpsc::Sender<StreamRequest>,
    credit: Arc<Semaphore>,
    /// Reads what the gateway is told, as long as there is a gateway.
    _reader: JoinSet<()>,
    /// Seconds since 1970 from which on times are counted.
    pub(crate) started: i64,
}

impl Gateway {
    pub(crate) async fn open(endpoint: Endpoint) -> Gateway {
        let (sender, requests) = mpsc::channel(1024);
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
        let mut answers = client.stream(ReceiverStream::new(requests)).await.expect("a stream").into_inner();
        let opened = answers.message().await.expect("opened").expect("opened");
        let Some(stream_response::Message::Opened(opened)) = opened.message else { panic!("{opened:?}") };
        let credit = Arc::new(Semaphore::new(opened.credit as usize));
        let (mut reader, earned) = (JoinSet::new(), Arc::clone(&credit));
        reader.spawn(async move {
            while let Ok(Some(answer)) = answers.message().await {
                if let Some(stream_response::Message::Credit(credit)) = answer.message {
                    earned.add_permits(credit.batches as usize);
                }
            }
        });
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        Gateway { sender, credit, _reader: reader, started: i64::try_from(now.as_secs()).expect("small") - 400 }
    }

    /// Readings a second apart, the first one `at` seconds after the start.
    pub(crate) async fn send(&self, vehicle: &str, sequence: u64, at: i64, readings: &[[f32; 4]]) {
        let column = |signal: usize| Column {
            signal_id: u32::try_from(signal).expect("small"),
            values: readings.iter().map(|reading| reading[signal]).collect(),
        };
        let batch = Batch {
            vehicle_id: vehicle.to_owned(),
            sequence,
            is_resend: false,
            first_time: Some(Timestamp { seconds: self.started + at, nanos: 0 }),
            time_deltas_us: (0..readings.len()).map(|place| if place == 0 { 0 } else { 1_000_000 }).collect(),
            columns: (0..SIGNALS.len()).map(column).collect(),
        };
        self.credit.acquire().await.expect("credit").forget();
        let message = Some(stream_request::Message::Batch(batch));
        self.sender.send(StreamRequest { message }).await.expect("open");
    }
}

/// A pack at rest.
pub(crate) const CALM: [f32; 4] = [25.0, 3.70, 3.71, 60.0];

/// A cell that loses its voltage over some seconds and heats by two degrees a second.
pub(crate) fn runaway() -> Vec<[f32; 4]> {
    let voltages = [3.3, 3.0, 2.7, 2.5, 2.4, 2.35, 2.3, 2.28, 2.26, 2.25, 2.24, 2.23];
    let hot = (0u8..).map(|second| 30.0 + 2.0 * f32::from(second));
    hot.zip(voltages).map(|(celsius, voltage)| [celsius, voltage, 3.70, 60.0]).collect()
}

async fn thermal(server: &TestServer) -> ThermalRiskClient<Channel> {
    ThermalRiskClient::new(server.endpoint().channel().await)
}

async fn next(watching: &mut Streaming<WatchAlertsResponse>) -> (AlertHappening, Alert) {
    let next = tokio::time::timeout(Duration::from_secs(20), watching.message()).await.expect("in time");
    let next = next.expect("no error").expect("an event");
    assert_eq!(next.missed_events, 0);
    (next.happening(), next.alert.expect("an alert"))
}

pub(crate) async fn list(client: &mut ThermalRiskClient<Channel>, filter: AlertFilter) -> Vec<Alert> {
    let request = ListAlertsRequest { filter: Some(filter), ..ListAlertsRequest::default() };
    client.list_alerts(request).await.expect("listed").into_inner().alerts
}

#[tokio::test]
async fn a_pack_that_runs_away_is_told_within_a_moment() {
    let server = TestServer::start(&[]).await;
    let mut client = thermal(&server).await;
    let filter = AlertFilter { topic: AlertTopic::Thermal.into(), ..AlertFilter::default() };
    let request = WatchAlertsRequest { filter: Some(filter.clone()) };
    let mut watching = client.watch_alerts(request).await.expect("watching").into_inner();
    let gateway = Gateway::open(server.endpoint()).await;
    gateway.send("bus-1", 1, 0, &[CALM; 300]).await;
    gateway.send("bus-2", 1, 0, &[CALM; 300]).await;
    gateway.send("bus-1", 2, 300, &runaway()).await;
    gateway.send("bus-2", 2, 300, &[CALM; 8]).await;

    let mut seen = Vec::new();
    let critical = loop {
        let (happening, alert) = next(&mut watching).await;
        assert_eq!(alert.vehicle_id, "bus-1");
        seen.push(happening);
        if alert.severity() == Severity::Critical {
            break alert;
        }
    };
    assert_eq!(seen[0], AlertHappening::Raised);
    assert_eq!((critical.risk_class(), critical.topic()), (RiskClass::Runaway, AlertTopic::Thermal));
    assert_eq!(critical.sign, "confirmed_by_voltage");
    let action = critical.action.as_ref().expect("what to do");
    assert_eq!(action.id, "stop_charging_isolate_evacuate");

    // Who comes later is told what is open.
    let mut later = client.watch_alerts(WatchAlertsRequest::default()).await.expect("watching").into_inner();
    let (happening, open) = next(&mut later).await;
    assert_eq!((happening, &open.id), (AlertHappening::Unspecified, &critical.id));

    let request = AcknowledgeAlertRequest { id: critical.id.clone(), by: "night shift".into(), note: "on it".into() };
    let known = client.acknowledge_alert(request).await.expect("acknowledged").into_inner().alert.expect("an alert");
    assert_eq!(known.acknowledgement.as_ref().map(|known| known.by.as_str()), Some("night shift"));
    let acknowledged = loop {
        let (happening, alert) = next(&mut watching).await;
        if happening == AlertHappening::Acknowledged {
            break alert;
        }
    };
    assert!(acknowledged.revision > critical.revision);

    let open = list(&mut client, AlertFilter { state: AlertState::Open.into(), ..filter.clone() }).await;
    assert_eq!(open.iter().map(|alert| alert.id.as_str()).collect::<Vec<_>>(), [critical.id.as_str()]);
    assert!(list(&mut client, AlertFilter { vehicle_id: "bus-2".into(), ..filter.clone() }).await.is_empty());
    assert!(list(&mut client, AlertFilter { acknowledged: Some(false), ..filter }).await.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn limits_on_single_values_raise_alerts() {
    let server = TestServer::start(&[("alerts.life.raise_after.low", "0s")]).await;
    let mut client = thermal(&server).await;
    let filter = AlertFilter { topic: AlertTopic::StateOfCharge.into(), ..AlertFilter::default() };
    let request = WatchAlertsRequest { filter: Some(filter) };
    let mut watching = client.watch_alerts(request).await.expect("watching").into_inner();
    let gateway = Gateway::open(server.endpoint()).await;
    let mut nearly_empty = CALM;
    nearly_empty[3] = 18.0;
    gateway.send("bus-3", 1, 0, &[nearly_empty]).await;
    let (happening, alert) = next(&mut watching).await;
    assert_eq!((happening, alert.vehicle_id.as_str()), (AlertHappening::Raised, "bus-3"));
    assert_eq!(
        (alert.severity(), alert.value, alert.limit, alert.unit.as_str()),
        (Severity::Low, 18.0, 20.0, "percent")
    );
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_acknowledged_or_listed_is_refused() {
    let server = TestServer::start(&[]).await;
    let mut client = thermal(&server).await;
    let unknown = "01994d6e-0000-7000-8000-000000000000".to_owned();
    let mut check = async |id: &str, by: &str, code: Code, reason: &str, words: &str| {
        let request = AcknowledgeAlertRequest { id: id.to_owned(), by: by.to_owned(), note: String::new() };
        let refused = client.acknowledge_alert(request).await.map_err(Refusal::from).expect_err("refused");
        refused.says(code, reason, &[words]);
    };
    check("17", "me", Code::InvalidArgument, "INVALID_ID", "`17`").await;
    check(&unknown, "", Code::InvalidArgument, "MISSING_FIELD", "by").await;
    check(&unknown, &"x".repeat(200), Code::InvalidArgument, "TOO_LONG", "200 bytes").await;
    check(&unknown, "me", Code::NotFound, "UNKNOWN_ALERT", &unknown).await;
    let request = ListAlertsRequest { page_size: 5_000, ..ListAlertsRequest::default() };
    let refused = client.list_alerts(request).await.map_err(Refusal::from).expect_err("refused");
    refused.says(Code::InvalidArgument, "INVALID_PAGE", &["page"]);
    server.stop().await;
}
