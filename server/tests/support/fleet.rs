//! Gateways that stream whatever happens to the server, and a look at whether all they sent is there, once.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ev_client::{Gateway, GatewayConfig, GatewayEvent, Readings, RetryPolicy};
use ev_proto::ev::telemetry::v1::{
    ListGapsRequest, PublishRequest, QueryRequest, Reading, RowBatch, SignalNaming,
    telemetry_ingest_client::TelemetryIngestClient, telemetry_query_client::TelemetryQueryClient,
};
use prost_types::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint as TonicEndpoint;

use super::server::Endpoint;

const SPEED: &str = "Vehicle.Speed";
const GATEWAYS: u64 = 3;
const VEHICLES_PER_GATEWAY: u64 = 2;
/// Between two readings of a vehicle: far apart enough to be told apart, near enough to end before now.
const STEP_US: i64 = 1_000;
/// Numbers that the one who leaves some out leaves out: fewer than the ledger's ranges.
const HOLES: usize = 50;
/// Longest time for the last batches to become durable.
const END_WAIT: Duration = Duration::from_secs(120);

/// Gateways at work: some that lose nothing, and one that leaves out numbers.
pub(crate) struct Fleet {
    stop: CancellationToken,
    gateways: Vec<JoinHandle<(Vec<Sent>, u64)>>,
    holes: JoinHandle<Sent>,
    begin_us: i64,
}

/// What was sent, and acknowledged as durable, of a vehicle.
#[derive(Debug)]
struct Sent {
    vehicle: String,
    readings: i64,
    batches: u64,
    /// Numbers that were left out.
    holes: Vec<u64>,
}

/// Everything that was acknowledged as durable.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    vehicles: Vec<Sent>,
    begin_us: i64,
    /// How often gateways lost their stream.
    pub(crate) breaks: u64,
}

// === impl Fleet ===

impl Fleet {
    /// Starts to stream to an address, whether somebody listens there or not.
    pub(crate) fn start(telemetry: SocketAddr) -> Fleet {
        let stop = CancellationToken::new();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let begin_us = i64::try_from(now.as_secs()).expect("small") * 1_000_000 - 86_400_000_000;
        let gateway = |number| tokio::spawn(stream(telemetry, number, begin_us, stop.clone()));
        let gateways = (0..GATEWAYS).map(gateway).collect();
        let holes = tokio::spawn(publish(telemetry, begin_us, stop.clone()));
        Fleet { stop, gateways, holes, begin_us }
    }

    /// Ends as soon as everything is durable.
    pub(crate) async fn end(self) -> Acknowledged {
        let Fleet { stop, gateways, holes, begin_us } = self;
        stop.cancel();
        let (mut vehicles, mut breaks) = (Vec::new(), 0);
        for gateway in gateways {
            let (sent, lost) = gateway.await.expect("no panic");
            vehicles.extend(sent);
            breaks += lost;
        }
        vehicles.push(holes.await.expect("no panic"));
        Acknowledged { vehicles, begin_us, breaks }
    }
}

/// A gateway as the client has it: it numbers, waits for credit, resumes.
async fn stream(address: SocketAddr, number: u64, begin_us: i64, stop: CancellationToken) -> (Vec<Sent>, u64) {
    let mut config = GatewayConfig::new(format!("gateway-{number}"));
    let speed = config.signal(SPEED, "km/h");
    config.send_timeout = END_WAIT;
    config.reconnect =
        RetryPolicy { delay_min: Duration::from_millis(20), delay_max: Duration::from_millis(200), ..config.reconnect };
    let gateway = Gateway::lazy(address.to_string(), config).expect("an address");
    let vehicle = |vehicle| format!("car-{number}-{vehicle}");
    let mut sent: Vec<Sent> = (0..VEHICLES_PER_GATEWAY)
        .map(|number| Sent { vehicle: vehicle(number), readings: 0, batches: 0, holes: Vec::new() })
        .collect();
    let mut lost = 0;
    while !stop.is_cancelled() {
        for of in &mut sent {
            let mut readings = Readings::new();
            for _ in 0..=of.batches % 7 {
                readings.push_us(begin_us + of.readings * STEP_US, [(speed, value(of.readings))]);
                of.readings += 1;
            }
            gateway.send(&of.vehicle, readings).await.expect("room");
            of.batches += 1;
        }
        while let Some(event) = gateway.try_event() {
            match event {
                GatewayEvent::Lost { .. } => lost += 1,
                GatewayEvent::Rejected(reject) => panic!("nothing of it is to be refused: {reject:?}"),
                _ => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::timeout(END_WAIT, gateway.close()).await.expect("durable in time").expect("durable");
    (sent, lost)
}

/// Sends single batches until each is durable, and leaves out some numbers for good.
async fn publish(address: SocketAddr, begin_us: i64, stop: CancellationToken) -> Sent {
    let channel = TonicEndpoint::from_shared(format!("http://{address}")).expect("an address");
    let mut client = TelemetryIngestClient::new(channel.timeout(Duration::from_secs(10)).connect_lazy());
    let mut sent = Sent { vehicle: "car-with-holes".to_owned(), readings: 0, batches: 0, holes: Vec::new() };
    let mut sequence = 0;
    while !stop.is_cancelled() || sequence < 5 {
        sequence += 1;
        if sequence % 4 == 2 && sent.holes.len() < HOLES {
            sent.holes.push(sequence);
            sequence += 1;
        }
        let time_us = begin_us + sent.readings * STEP_US;
        let nanos = i32::try_from(time_us % 1_000_000 * 1_000).expect("small");
        let time = Some(Timestamp { seconds: time_us / 1_000_000, nanos });
        let readings = vec![Reading { time, values: [(SPEED.to_owned(), value(sent.readings))].into() }];
        let vehicle_id = sent.vehicle.clone();
        let request = PublishRequest {
            gateway_id: "publisher".to_owned(),
            boot_id: "boot-1".to_owned(),
            signal_naming: SignalNaming::Vss.into(),
            row_batches: vec![RowBatch { vehicle_id, sequence, is_resend: false, readings }],
            ..PublishRequest::default()
        };
        let end = tokio::time::Instant::now() + END_WAIT;
        while let Err(status) = client.publish(request.clone()).await {
            assert!(tokio::time::Instant::now() < end, "not durable in time: {status}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        sent.readings += 1;
        sent.batches += 1;
    }
    sent
}

/// A plausible speed, in km/h, that tells readings near each other apart.
fn value(reading: i64) -> f32 {
    f32::from(i16::try_from(reading % 199).expect("small"))
}

// === impl Acknowledged ===

impl Acknowledged {
    /// Every reading is there once, with its value, and the ledger has the numbers that were left out, and no others.
    pub(crate) async fn check(&self, endpoint: Endpoint) {
        let mut client = TelemetryQueryClient::new(endpoint.channel().await).max_decoding_message_size(64 << 20);
        for Sent { vehicle, readings, batches, holes } in &self.vehicles {
            let times: Vec<(i64, f32)> = read(&mut client, vehicle).await;
            let expected = (0..*readings).map(|reading| (self.begin_us + reading * STEP_US, value(reading)));
            let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
            for (time, _) in &times {
                *counts.entry((time - self.begin_us) / STEP_US).or_default() += 1;
            }
            let lost: Vec<i64> = (0..*readings).filter(|reading| !counts.contains_key(reading)).collect();
            let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
            assert!(lost.is_empty() && twice.is_empty(), "{vehicle}: lost {lost:?}, stored twice {twice:?}");
            assert!(times.iter().copied().eq(expected), "{vehicle} has other values or an other order");

            let request = ListGapsRequest { vehicle_id: vehicle.clone(), ..ListGapsRequest::default() };
            let gaps = client.list_gaps(request).await.expect("answered").into_inner();
            let missing: Vec<u64> =
                gaps.sources.iter().flat_map(|of| &of.ranges).flat_map(|range| range.first..=range.last).collect();
            assert_eq!(&missing, holes, "{vehicle}");
            let expected = (*batches, batches + holes.len() as u64);
            assert_eq!((gaps.batches_received, gaps.batches_expected), expected, "{vehicle}");
        }
    }

    /// Readings of all vehicles.
    pub(crate) fn readings(&self) -> i64 {
        self.vehicles.iter().map(|sent| sent.readings).sum()
    }
}

async fn read(client: &mut TelemetryQueryClient<tonic::transport::Channel>, vehicle: &str) -> Vec<(i64, f32)> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = QueryRequest {
            vehicle_id: vehicle.to_owned(),
            signals: vec![SPEED.to_owned()],
            page_size: 100_000,
            page_token,
            ..QueryRequest::default()
        };
        let page = client.query(request).await.expect("answered").into_inner();
        let values = page.columns.first().map_or(&[][..], |column| &column.values);
        assert_eq!(values.len(), page.times_us.len());
        found.extend(page.times_us.iter().copied().zip(values.iter().copied()));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}
