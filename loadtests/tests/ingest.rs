//! Gateways keep to their credit, and a server is charged for what it keeps waiting.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use ev_client::proto::ev::telemetry::v1::{
    Ack, Credit, Durability, Gaps, Opened, PublishRequest, PublishResponse, Reject, RejectReason, SequenceRange,
    StreamRequest, StreamResponse, stream_request,
    stream_response::Message,
    telemetry_ingest_server::{TelemetryIngest, TelemetryIngestServer},
};
use ev_loadtests::{Connection, IngestLoad, IngestPace, IngestReport, IngestThresholds, LoadError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::server::TcpIncoming};

const CREDIT: u32 = 4;
const STALL: Duration = Duration::from_millis(300);

/// Receives at once, and makes durable when the credit is used up or nothing more comes.
#[derive(Clone, Copy)]
struct Taking {
    /// Before this batch it stands still.
    stalls_at: u64,
    /// From this batch on it refuses a reading of each.
    refuses_from: u64,
    /// It tells no gaps of this vehicle.
    forgets: Option<&'static str>,
}

/// The numbers that came of each vehicle.
type Came = Arc<Mutex<HashMap<String, BTreeSet<u64>>>>;

#[derive(Clone)]
struct Server {
    taking: Taking,
    came: Came,
}

impl Taking {
    async fn serve(
        self,
        came: Came,
        mut requests: Streaming<StreamRequest>,
        sender: mpsc::Sender<Result<StreamResponse, Status>>,
    ) {
        let tell = async |message| drop(sender.send(Ok(StreamResponse { message: Some(message) })).await);
        let ack = |vehicle_id: &str, sequence, durability: Durability| {
            let (vehicle_id, durability) = (vehicle_id.to_owned(), durability.into());
            Message::Ack(Ack { vehicle_id, sequence, durability, is_duplicate: false })
        };
        let (mut count, mut held) = (0, Vec::new());
        loop {
            let request = tokio::time::timeout(Duration::from_millis(1), requests.message()).await;
            match request {
                Ok(Ok(Some(StreamRequest { message: Some(stream_request::Message::Open(_)) }))) => {
                    let opened = Opened { credit: CREDIT, batch_readings_max: 100, ..Opened::default() };
                    tell(Message::Opened(opened)).await;
                }
                Ok(Ok(Some(StreamRequest { message: Some(stream_request::Message::Batch(batch)) }))) => {
                    count += 1;
                    if count == self.stalls_at {
                        tokio::time::sleep(STALL).await;
                    }
                    assert_eq!((batch.columns.len(), batch.columns[0].values.len()), (8, 10));
                    tell(ack(&batch.vehicle_id, batch.sequence, Durability::Received)).await;
                    if count >= self.refuses_from {
                        let reason = RejectReason::ImplausibleValue.into();
                        let message = "a value".to_owned();
                        tell(Message::Reject(Reject { reason, message, readings: 1, ..Reject::default() })).await;
                    }
                    add(&came, &batch.vehicle_id, batch.sequence);
                    held.push(batch);
                    if held.len() > usize::try_from(CREDIT).expect("small") {
                        let _ = sender.send(Err(Status::resource_exhausted("beyond credit"))).await;
                        return;
                    }
                }
                Ok(_) => return,
                Err(_) => {
                    let batches = u32::try_from(held.len()).expect("small");
                    for batch in held.drain(..) {
                        tell(ack(&batch.vehicle_id, batch.sequence, Durability::Durable)).await;
                    }
                    if batches > 0 {
                        tell(Message::Credit(Credit { batches })).await;
                    }
                }
            }
        }
    }
}

#[tonic::async_trait]
impl TelemetryIngest for Server {
    type StreamStream = ReceiverStream<Result<StreamResponse, Status>>;

    async fn stream(&self, request: Request<Streaming<StreamRequest>>) -> Result<Response<Self::StreamStream>, Status> {
        let (sender, receiver) = mpsc::channel(64);
        let (came, requests) = (Arc::clone(&self.came), request.into_inner());
        tokio::spawn(self.taking.serve(came, requests, sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let mut response = PublishResponse::default();
        for batch in request.into_inner().batches {
            let missing = add(&self.came, &batch.vehicle_id, batch.sequence);
            let ranges: Vec<_> =
                missing.into_iter().map(|number| SequenceRange { first: number, last: number }).collect();
            if !ranges.is_empty() && self.taking.forgets.is_none_or(|end| !batch.vehicle_id.ends_with(end)) {
                response.gaps.push(Gaps { vehicle_id: batch.vehicle_id, ranges });
            }
        }
        Ok(Response::new(response))
    }
}

/// What is missing then.
fn add(came: &Came, vehicle: &str, number: u64) -> Vec<u64> {
    let mut came = came.lock().expect("nothing panics");
    let came = came.entry(vehicle.to_owned()).or_default();
    came.insert(number);
    let highest = came.last().copied().unwrap_or_default();
    (1..highest).filter(|number| !came.contains(number)).collect()
}

async fn start(taking: Taking) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = Server { taking, came: Came::default() };
    let server = tonic::transport::Server::builder().add_service(TelemetryIngestServer::new(server));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))));
    address
}

async fn run(server: Taking, pace: IngestPace) -> IngestReport {
    let load = IngestLoad {
        endpoint: start(server).await.to_string(),
        gateways: 2,
        vehicles: 3,
        batch_readings: 10,
        pace,
        connection: Connection::Good,
        warm_up: Duration::from_millis(100),
        duration: Duration::from_secs(1),
    };
    ev_loadtests::run_ingest(&load).await.expect("it runs")
}

const WELL: Taking = Taking { stalls_at: u64::MAX, refuses_from: u64::MAX, forgets: None };

#[tokio::test]
async fn in_a_closed_loop_credit_is_used_and_kept() {
    let report = run(WELL, IngestPace::Credit).await;
    assert_eq!(IngestThresholds::default().broken(&report), [""; 0], "{report}");
    assert!(report.batches_sent > 100 && report.batches_durable == report.batches_sent, "{report}");
    // Not before it waited for more: the server makes durable a millisecond later.
    assert!(report.durable_us.p50 > 1_000.0 && report.received_us.p50 < report.durable_us.p50, "{report}");
}

#[tokio::test]
async fn a_stall_delays_acknowledgements_and_not_the_schedule() {
    let report = run(Taking { stalls_at: 40, ..WELL }, IngestPace::Rate(2_000.0)).await;
    assert_eq!((report.batches_sent, report.batches_durable), (200, 200), "{report}");
    // All that was due during the stall waited, for credit as well.
    assert!(report.received_us.p90 > 100_000.0 && report.lag_us.p90 > 50_000.0, "{report}");
    let max = Some(Duration::from_millis(100));
    let thresholds = IngestThresholds { received_p99_max: max, durable_p99_max: max, ..IngestThresholds::default() };
    assert_eq!(thresholds.broken(&report).len(), 2, "{report}");
}

#[tokio::test]
async fn refusals_fail_the_test_and_are_told() {
    let report = run(Taking { refuses_from: 1, ..WELL }, IngestPace::Rate(1_000.0)).await;
    assert!(report.rejected_readings >= 100, "{report}");
    assert!(report.error.as_deref().is_some_and(|error| error.contains("a value")), "{report}");
    assert_eq!(IngestThresholds::default().broken(&report).len(), 2, "{report}");
}

#[tokio::test]
async fn over_poor_connections_gap_ledgers_are_checked() {
    for (forgets, wrong) in [(None, 0), (Some("-1"), 2)] {
        let load = IngestLoad {
            endpoint: start(Taking { forgets, ..WELL }).await.to_string(),
            gateways: 2,
            vehicles: 3,
            batch_readings: 10,
            connection: Connection::Poor,
            duration: Duration::from_secs(1),
            ..IngestLoad::default()
        };
        let report = ev_loadtests::run_ingest(&load).await.expect("it runs");
        assert_eq!((report.ledgers, report.wrong_ledgers), (6, wrong), "{report}");
        assert_eq!(IngestThresholds::default().broken(&report).len(), usize::from(wrong > 0), "{report}");
        assert!(report.batches_sent > 100 && report.batches_durable == report.batches_sent, "{report}");
        // What was sent twice counts once.
        let sent = report.sent_per_second;
        assert!((0.90 * sent..0.99 * sent).contains(&report.durable_per_second), "{report}");
    }
}

#[tokio::test]
async fn batches_that_cannot_be_are_told_before() {
    let endpoint = start(WELL).await.to_string();
    for (batch_readings, pace) in [(101, IngestPace::Credit), (0, IngestPace::Credit), (1, IngestPace::Rate(0.0))] {
        let load = IngestLoad { endpoint: endpoint.clone(), batch_readings, pace, ..IngestLoad::default() };
        let error = ev_loadtests::run_ingest(&load).await.expect_err("it cannot be");
        assert!(matches!(error, LoadError::Invalid(_)), "{error:?}");
    }
}
