//! A gateway against a server that keeps the contract and dies at will.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ev_client::{
    Code, Error, Gateway, GatewayConfig, GatewayError, GatewayEvent, GatewaySignal, Readings,
    proto::ev::telemetry::v1::{
        Ack, Batch, Credit, Durability, Gaps, Opened, PublishRequest, PublishResponse, Reject, RejectReason,
        SequenceRange, StreamRequest, StreamResponse, VehicleSequence, stream_request,
        stream_response::Message,
        telemetry_ingest_server::{TelemetryIngest, TelemetryIngestServer},
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

const CREDIT: u32 = 8;

type Sender = mpsc::Sender<Result<StreamResponse, Status>>;

/// What survives its deaths.
#[derive(Default)]
struct Store {
    /// First value by vehicle and sequence.
    batches: Mutex<BTreeMap<(String, u64), f32>>,
    stored_twice: AtomicU64,
    resent: AtomicU64,
    streams: AtomicU64,
    boots: Mutex<Vec<String>>,
}

/// Ends each stream after so many batches; of the last ones every other is lost.
#[derive(Clone)]
struct Dying {
    store: Arc<Store>,
    dies_after: u64,
    end: Option<Status>,
}

impl Store {
    fn next_expected(&self, vehicle: &str) -> u64 {
        let batches = self.batches.lock().expect("no panic");
        batches.keys().filter(|(of, _)| of == vehicle).map(|(_, sequence)| sequence + 1).max().unwrap_or(1)
    }

    fn holes(&self, vehicle: &str) -> Vec<SequenceRange> {
        let next = self.next_expected(vehicle);
        let batches = self.batches.lock().expect("no panic");
        let missing = (1..next).filter(|number| !batches.contains_key(&(vehicle.to_owned(), *number)));
        missing.map(|number| SequenceRange { first: number, last: number }).collect()
    }

    fn insert(&self, vehicle: &str, sequence: u64, value: f32) -> bool {
        let before = self.batches.lock().expect("no panic").insert((vehicle.to_owned(), sequence), value);
        self.stored_twice.fetch_add(u64::from(before.is_some_and(|before| before != value)), Ordering::Relaxed);
        before.is_some()
    }
}

async fn tell(sender: &Sender, message: Message) {
    let _ = sender.send(Ok(StreamResponse { message: Some(message) })).await;
}

impl Dying {
    async fn serve(self, mut requests: Streaming<StreamRequest>, sender: Sender) {
        let first = requests.message().await.expect("a message").and_then(|request| request.message);
        let Some(stream_request::Message::Open(open)) = first else { panic!("first comes `open`") };
        self.store.boots.lock().expect("no panic").push(open.boot_id.clone());
        if let Some(end) = self.end {
            let _ = sender.send(Err(end)).await;
            return;
        }
        let named: Vec<&str> = open.last_acked.iter().map(|acked| acked.vehicle_id.as_str()).collect();
        let next_expected = named.iter().map(|vehicle| VehicleSequence {
            vehicle_id: (*vehicle).to_owned(),
            sequence: self.store.next_expected(vehicle),
        });
        let opened = Opened {
            next_expected: next_expected.collect(),
            stream_id: "s".to_owned(),
            credit: CREDIT,
            batch_readings_max: 100,
        };
        tell(&sender, Message::Opened(opened)).await;
        for vehicle in named {
            let ranges = self.store.holes(vehicle);
            if !ranges.is_empty() {
                tell(&sender, Message::Gaps(Gaps { vehicle_id: vehicle.to_owned(), ranges })).await;
            }
        }
        let (mut seen, mut credit, mut held) = (0, CREDIT, Vec::new());
        loop {
            // What waits is stored together: when there is enough of it, or nothing more comes.
            let message = match tokio::time::timeout(Duration::from_millis(2), requests.message()).await {
                Ok(Ok(Some(message))) => message,
                Ok(_) => return,
                Err(_) => {
                    self.commit(&sender, &mut held, &mut credit).await;
                    continue;
                }
            };
            let Some(stream_request::Message::Batch(batch)) = message.message else { panic!("then come batches") };
            assert!(credit > 0, "a batch beyond credit");
            credit -= 1;
            seen += 1;
            self.store.resent.fetch_add(u64::from(batch.is_resend), Ordering::Relaxed);
            held.push(batch);
            if seen == self.dies_after {
                for Batch { vehicle_id, sequence, columns, .. } in held.iter().step_by(2) {
                    self.store.insert(vehicle_id, *sequence, columns[0].values[0]);
                }
                return;
            }
            if held.len() == 3 || credit == 0 {
                self.commit(&sender, &mut held, &mut credit).await;
            }
        }
    }

    async fn commit(&self, sender: &Sender, held: &mut Vec<Batch>, credit: &mut u32) {
        for Batch { vehicle_id, sequence, columns, .. } in held.drain(..) {
            if vehicle_id == "refused" {
                let reason = RejectReason::VehicleNotAllowed.into();
                tell(sender, Message::Reject(Reject { vehicle_id, sequence, reason, ..Reject::default() })).await;
                continue;
            }
            let is_duplicate = self.store.insert(&vehicle_id, sequence, columns[0].values[0]);
            let durability = Durability::Durable.into();
            tell(sender, Message::Ack(Ack { vehicle_id, sequence, durability, is_duplicate })).await;
        }
        if *credit < CREDIT {
            tell(sender, Message::Credit(Credit { batches: CREDIT - *credit })).await;
            *credit = CREDIT;
        }
    }
}

#[tonic::async_trait]
impl TelemetryIngest for Dying {
    type StreamStream = ReceiverStream<Result<StreamResponse, Status>>;

    async fn stream(&self, request: Request<Streaming<StreamRequest>>) -> Result<Response<Self::StreamStream>, Status> {
        self.store.streams.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(64);
        let (server, requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move { server.serve(requests, sender).await });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn publish(&self, _: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

async fn start(dies_after: u64, end: Option<Status>) -> (SocketAddr, Arc<Store>) {
    let store = Arc::new(Store::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let service = TelemetryIngestServer::new(Dying { store: Arc::clone(&store), dies_after, end });
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, store)
}

fn config() -> (GatewayConfig, GatewaySignal) {
    let mut config = GatewayConfig::new("depot");
    config.reconnect.delay_min = Duration::from_millis(1);
    config.send_timeout = Duration::from_secs(20);
    config.batches_max = 32;
    let speed = config.signal("Vehicle.Speed", "km/h");
    (config, speed)
}

fn readings(signal: GatewaySignal, value: f32) -> Readings {
    let mut readings = Readings::new();
    readings.push_us(0, [(signal, value)]);
    readings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_the_server_dies_everything_is_stored_once() {
    let (address, store) = start(17, None).await;
    let (config, speed) = config();
    let gateway = Gateway::connect(address.to_string(), config).await.expect("it opens");
    for value in 0u16..200 {
        for vehicle in ["a", "b"] {
            let sequence = gateway.send(vehicle, readings(speed, f32::from(value))).await.expect("taken");
            assert_eq!(sequence, u64::from(value) + 1);
        }
    }
    tokio::time::timeout(Duration::from_secs(30), gateway.flush()).await.expect("in time").expect("durable");
    assert_eq!(gateway.pending(), 0);
    let batches = store.batches.lock().expect("no panic").clone();
    assert_eq!(batches.len(), 400);
    for ((vehicle, sequence), value) in batches {
        assert_eq!(format!("{}", value + 1.0), sequence.to_string(), "{vehicle}");
    }
    assert_eq!(store.stored_twice.load(Ordering::Relaxed), 0);
    let streams = store.streams.load(Ordering::Relaxed);
    assert!(streams > 20, "{streams} streams of 17 batches");
    // Not everything that was on its way was sent again, or the numbers the server expects were not looked at.
    let resent = store.resent.load(Ordering::Relaxed);
    assert!(resent < streams * u64::from(CREDIT), "{resent} batches were sent again on {streams} streams");
    let boots = store.boots.lock().expect("no panic").clone();
    assert!(boots.iter().all(|boot| boot == gateway.boot_id()));
    tokio::time::timeout(Duration::from_secs(10), gateway.close()).await.expect("in time").expect("closed");
}

#[tokio::test]
async fn what_is_refused_for_good_is_told_and_not_waited_for() {
    let (address, store) = start(u64::MAX, None).await;
    let (config, speed) = config();
    let gateway = Gateway::connect(address.to_string(), config).await.expect("it opens");
    gateway.send("refused", readings(speed, 1.0)).await.expect("taken");
    gateway.send("a", readings(speed, 1.0)).await.expect("taken");
    tokio::time::timeout(Duration::from_secs(10), gateway.flush()).await.expect("in time").expect("settled");
    assert_eq!(store.batches.lock().expect("no panic").len(), 1);
    let events: Vec<GatewayEvent> = std::iter::from_fn(|| gateway.try_event()).collect();
    assert!(
        matches!(&events[..], [GatewayEvent::Opened { .. }, GatewayEvent::Rejected(reject)] if reject.sequence == 1),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_gateway_whose_place_is_taken_ends() {
    let details = ErrorDetails::with_error_info("SUPERSEDED", "evserve", std::collections::HashMap::new());
    let end = Status::with_error_details(Code::Aborted, "another stream", details);
    let (address, store) = start(u64::MAX, Some(end)).await;
    let (config, speed) = config();
    let gateway = Gateway::lazy(address.to_string(), config).expect("a gateway");
    gateway.send("a", readings(speed, 1.0)).await.expect("kept");
    let ended = gateway.flush().await.expect_err("it ends");
    let GatewayError::Ended(error) = ended else { panic!("{ended:?}") };
    assert!(matches!(&*error, Error::Call(call) if call.reason == "SUPERSEDED"), "{error:?}");
    assert!(matches!(gateway.send("a", readings(speed, 2.0)).await, Err(GatewayError::Ended(_))));
    while gateway.event().await.is_some() {}
    assert_eq!(store.streams.load(Ordering::Relaxed), 1, "it does not come back");
}

#[tokio::test]
async fn without_a_server_batches_are_kept_up_to_a_bound() {
    let (mut config, speed) = config();
    config.send_timeout = Duration::from_millis(20);
    config.batches_max = 2;
    config.events_max = 4;
    // A port nobody listens on: it was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let refused = Gateway::connect(free.to_string(), config.clone()).await.expect_err("nobody listens");
    assert!(matches!(&refused, GatewayError::Ended(error) if matches!(**error, Error::Unreachable { .. })));
    let gateway = Gateway::lazy(free.to_string(), config).expect("a gateway");
    for value in [1.0, 2.0] {
        gateway.send("a", readings(speed, value)).await.expect("kept");
    }
    let full = gateway.send("a", readings(speed, 3.0)).await.expect_err("no room");
    assert!(matches!(full, GatewayError::Full { batches: 2, .. }), "{full:?}");
    assert!(matches!(gateway.event().await, Some(GatewayEvent::Lost { .. } | GatewayEvent::Missed { .. })));
    let mut large = Readings::new();
    (0..400_000).for_each(|time_us| large.push_us(time_us, [(speed, 1.0)]));
    let impossible = [("a b", readings(speed, 1.0)), ("", readings(speed, 1.0)), ("a", Readings::new()), ("a", large)];
    for (vehicle, batch) in impossible {
        let error = gateway.send(vehicle, batch).await.expect_err("it cannot be");
        assert!(matches!(error, GatewayError::Invalid(_)), "{error:?}");
    }
}
