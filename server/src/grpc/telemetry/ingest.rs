//! `ev.telemetry.v1.TelemetryIngest`, and the services beside it on its listener.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::ready,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use ev_domain::{Catalogue, ReadingBatch, Source, VehicleId};
use ev_proto::ev::telemetry::v1::{
    Ack, Durability, Open, PublishRequest, PublishResponse, stream_request, telemetry_ingest_server::SERVICE_NAME,
};
use ev_telemetry::{Event, Ingestor, Session, SubmitError};
use http::{HeaderMap, Request as HttpRequest, Response as HttpResponse};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, StdError},
    metadata::MetadataValue,
    server::{Grpc, UnaryService},
};
use tonic_prost::ProstCodec;
use tower::Service;

use super::{
    answers::answers,
    conduct::Conduct,
    decode::{self, Declared},
    encode,
    gateways::Gateways,
    messages::Messages,
    query::vehicle,
    stream::GatewayStream,
    wire,
};
use crate::{
    grpc::{dispatch::reflection, let_go::until_drain, status},
    telemetry::now_us,
};

/// Batches of one `Publish`.
const PUBLISH_BATCHES_MAX: usize = 256;

/// Takes readings in. Cheap to clone.
#[derive(Clone)]
pub(crate) struct IngestService {
    inner: Arc<Inner>,
    /// Of one connection.
    conduct: Arc<Conduct>,
}

pub(super) struct Inner {
    pub(super) ingestor: Arc<Ingestor>,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) gateways: Arc<Gateways>,
    pub(super) draining: CancellationToken,
    pub(super) batch_readings_max: u32,
}

/// The method as tonic calls it: the messages of `Stream` are not prost's, so the generated server has no place for them,
/// nor for what is beside them.
struct PublishCall(IngestService);

// === impl IngestService ===

impl IngestService {
    pub(crate) fn new(
        ingestor: Arc<Ingestor>,
        catalogue: Arc<Catalogue>,
        draining: CancellationToken,
        batch_readings_max: u32,
    ) -> IngestService {
        let gateways = Arc::new(Gateways::default());
        let inner = Arc::new(Inner { ingestor, catalogue, gateways, draining, batch_readings_max });
        IngestService { inner, conduct: Arc::default() }
    }
}

impl IngestService {
    /// `Stream`, from its first byte to its last.
    fn stream(&self, headers: &HeaderMap, body: Body, size_max: usize) -> Result<HttpResponse<Body>, Status> {
        uncompressed(headers)?;
        if let Some(wait) = self.conduct.wait(Instant::now()) {
            return Err(status::too_soon(wait));
        }
        let mut messages = Messages::new(body, size_max);
        let (inner, conduct) = (Arc::clone(&self.inner), Arc::clone(&self.conduct));
        let (mut answers, response) = answers();
        // A task of its own: what was received is acknowledged at the pace of the disk, not of the gateway's reading.
        tokio::spawn(async move {
            let opened = tokio::select! {
                opened = open(&inner, &mut messages) => opened,
                () = inner.draining.cancelled() => Err(status::draining()),
                () = answers.closed() => return,
            };
            let ended = match opened {
                Ok(opened) => GatewayStream::new(&inner, &conduct, opened, messages, &mut answers).run().await,
                Err(status) => Err(status),
            };
            if let Err(status) = ended {
                answers.end(status).await;
            }
        });
        Ok(response)
    }

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let inner = &self.inner;
        let PublishRequest { gateway_id, boot_id, signals, signal_naming, batches, row_batches } = request.into_inner();
        let count = batches.len() + row_batches.len();
        if count == 0 || count > PUBLISH_BATCHES_MAX {
            let description = format!("has {count} batches, expected 1 to {PUBLISH_BATCHES_MAX}");
            let reason = if count == 0 { "EMPTY_BATCH" } else { "TOO_MANY_BATCHES" };
            return Err(status::invalid("batches", reason, description));
        }
        let naming = decode::naming(signal_naming)?;
        let declared = Declared::new(&inner.catalogue, naming, &signals)?;
        let session = inner.ingestor.open(source(&gateway_id, &boot_id)?, &[]).await;
        let mut publishing = Publishing {
            inner,
            session: session.map_err(|error| status::of_telemetry(&error))?,
            response: PublishResponse::default(),
        };
        for batch in batches {
            let (vehicle, sequence) = (batch.vehicle_id.clone(), batch.sequence);
            publishing.submit(&vehicle, sequence, declared.decode(&inner.catalogue, batch)).await?;
        }
        for batch in row_batches {
            let decoded = decode::rows(&inner.catalogue, naming, &batch);
            publishing.submit(&batch.vehicle_id, batch.sequence, decoded).await?;
        }
        publishing.finish().await.map(Response::new)
    }
}

// === impl PublishCall ===

impl UnaryService<PublishRequest> for PublishCall {
    type Response = PublishResponse;
    type Future = BoxFuture<Response<PublishResponse>, Status>;

    fn call(&mut self, request: Request<PublishRequest>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move { service.publish(request).await })
    }
}

/// A `Publish` under way.
struct Publishing<'a> {
    inner: &'a Inner,
    session: Session,
    response: PublishResponse,
}

// === impl Publishing ===

impl Publishing<'_> {
    async fn submit(&mut self, vehicle_id: &str, sequence: u64, decoded: decode::Decoded) -> Result<(), Status> {
        let vehicle = match decode::vehicle(vehicle_id) {
            Ok(vehicle) => vehicle,
            Err(reject) => {
                quarantine(self.inner, self.session.source(), None, sequence, std::slice::from_ref(&reject));
                self.response.rejects.push(encode::reject(vehicle_id, sequence, &reject));
                return Ok(());
            }
        };
        while self.session.credit() == 0 {
            self.settle_one().await?;
        }
        let rejects = decoded.rejects;
        quarantine(self.inner, self.session.source(), Some(&vehicle), sequence, &rejects);
        let batch = ReadingBatch { vehicle: vehicle.clone(), sequence, readings: decoded.readings };
        let submitted = self.session.submit(batch, now_us()).await;
        let taken = match submitted {
            Ok(received) => received.rejects,
            Err(SubmitError::Rejected(reject)) => {
                self.response.rejects.push(encode::reject(vehicle_id, sequence, &reject));
                return Ok(());
            }
            Err(error) => return Err(status::of_submit(&error)),
        };
        let rejects = rejects.iter().chain(&taken).map(|reject| encode::reject(vehicle_id, sequence, reject));
        self.response.rejects.extend(rejects);
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<(), Status> {
        match self.session.next().await {
            Some(Event::Durable { vehicle, sequence, is_duplicate }) => {
                let vehicle_id = vehicle.as_str().to_owned();
                let acks = &mut self.response.acks;
                match acks.iter_mut().find(|ack| ack.vehicle_id == vehicle_id && ack.is_duplicate == is_duplicate) {
                    Some(ack) => ack.sequence = ack.sequence.max(sequence),
                    None => {
                        acks.push(Ack { vehicle_id, sequence, durability: Durability::Durable.into(), is_duplicate });
                    }
                }
                Ok(())
            }
            Some(Event::Refused { vehicle, sequence, reject }) => {
                self.response.rejects.push(encode::reject(vehicle.as_str(), sequence, &reject));
                Ok(())
            }
            Some(Event::Failed { error, .. }) => Err(status::of_telemetry(&error)),
            Some(_) | None => Ok(()),
        }
    }

    /// Waits until everything is applied, which is after it is durable.
    async fn finish(mut self) -> Result<PublishResponse, Status> {
        while self.session.is_busy() {
            self.settle_one().await?;
        }
        let vehicles = self.response.acks.iter().filter_map(|ack| VehicleId::new(&ack.vehicle_id).ok());
        let gaps = vehicles.filter_map(|vehicle| encode::gaps(&vehicle, self.session.sequence(&vehicle)?));
        self.response.gaps = gaps.collect();
        self.response.gaps.dedup();
        Ok(self.response)
    }
}

/// A stream that was opened.
pub(super) struct Opened {
    pub(super) session: Session,
    pub(super) declared: Declared,
    pub(super) naming: ev_domain::Naming,
    /// Vehicles the gateway named, with what it believes to be acknowledged of each.
    pub(super) last_acked: BTreeMap<VehicleId, u64>,
    pub(super) place: super::gateways::Place,
}

async fn open(inner: &Inner, messages: &mut Messages) -> Result<Opened, Status> {
    let first = messages.next().await.map_err(unreadable)?;
    let first = first.map(wire::decoded).transpose().map_err(unreadable)?.and_then(|request| request.message);
    let Some(stream_request::Message::Open(open)) = first else {
        return Err(status::invalid("open", "MISSING_FIELD", "is missing: it is the first message of a stream"));
    };
    let Open { gateway_id, boot_id, signals, signal_naming, last_acked } = open;
    let source = source(&gateway_id, &boot_id)?;
    let naming = decode::naming(signal_naming)?;
    let declared = Declared::new(&inner.catalogue, naming, &signals)?;
    let mut believed = BTreeMap::new();
    for (index, acked) in last_acked.iter().enumerate() {
        let vehicle = VehicleId::new(&acked.vehicle_id).map_err(|error| {
            status::invalid(&format!("last_acked[{index}].vehicle_id"), "INVALID_ID", error.to_string())
        })?;
        believed.insert(vehicle, acked.sequence);
    }
    let vehicles: Vec<VehicleId> = believed.keys().cloned().collect();
    let place = inner.gateways.take(source.gateway.clone());
    let session = inner.ingestor.open(source, &vehicles).await.map_err(|error| status::of_telemetry(&error))?;
    Ok(Opened { session, declared, naming, last_acked: believed, place })
}

/// Refuses a compression, as tonic does: nobody agreed on one.
fn uncompressed(headers: &HeaderMap) -> Result<(), Status> {
    match headers.get("grpc-encoding").map(|name| name.as_bytes()) {
        None | Some(b"identity") => Ok(()),
        Some(other) => {
            let other = String::from_utf8_lossy(other);
            let mut refused =
                Status::unimplemented(format!("Content is compressed with `{other}` which isn't supported"));
            refused.metadata_mut().insert("grpc-accept-encoding", MetadataValue::from_static("identity"));
            Err(refused)
        }
    }
}

fn source(gateway: &str, boot: &str) -> Result<Source, Status> {
    Ok(Source { gateway: vehicle("gateway_id", gateway)?, boot: vehicle("boot_id", boot)? })
}

/// Keeps and counts what the edge left out of a batch, before the batch is taken in: so it is stored before the batch is
/// called durable. `vehicle` is none where the gateway named none that can be.
pub(super) fn quarantine(
    inner: &Inner,
    source: &Source,
    vehicle: Option<&VehicleId>,
    sequence: u64,
    rejects: &[ev_telemetry::Reject],
) {
    for reject in rejects {
        inner.ingestor.quarantine(ev_telemetry::Quarantined {
            source: source.clone(),
            vehicle: vehicle.cloned(),
            sequence,
            received_us: now_us(),
            reject: reject.clone(),
        });
    }
}

/// The key of the configuration that bounds its messages.
pub(crate) const INGEST_SIZE_KEY: &str = "telemetry.message_size_max";

/// A stream that could not be read: too large a message, one that is none, or a break.
#[cold]
pub(super) fn unreadable(error: Status) -> Status {
    if error.details().is_empty() { status::of_wire(error, INGEST_SIZE_KEY) } else { error }
}

/// The service that has a listener of its own.
pub(crate) const INGEST_SERVICE: &str = SERVICE_NAME;

/// What the listener of gateways serves: ingest, health and reflection.
#[derive(Clone)]
pub(crate) struct IngestDispatch {
    service: IngestService,
    message_size_max: usize,
    rest: tonic::service::Routes,
    draining: CancellationToken,
}

// === impl IngestDispatch ===

impl IngestDispatch {
    /// # Errors
    ///
    /// When the descriptors that reflection serves cannot be read, which is a bug of the build.
    pub(crate) fn new(
        ingest: IngestService,
        health: tonic_health::server::HealthService,
        message_size_max: usize,
    ) -> Result<IngestDispatch, tonic_reflection::server::Error> {
        let builder = || reflection([INGEST_SERVICE].into_iter());
        let (v1, v1alpha) = (builder().build_v1()?, builder().build_v1alpha()?);
        let health = tonic_health::pb::health_server::HealthServer::new(health);
        let draining = ingest.inner.draining.clone();
        Ok(IngestDispatch {
            draining,
            message_size_max,
            service: ingest,
            rest: tonic::service::Routes::new(v1.max_decoding_message_size(64 * 1024))
                .add_service(v1alpha.max_decoding_message_size(64 * 1024))
                .add_service(health.max_decoding_message_size(64 * 1024))
                .prepare(),
        })
    }
}

impl IngestDispatch {
    /// What another connection is served by: it answers for its own streams alone.
    pub(crate) fn of_connection(&self) -> IngestDispatch {
        let service = IngestService { conduct: Arc::default(), ..self.service.clone() };
        IngestDispatch { service, ..self.clone() }
    }
}

impl<B> Service<HttpRequest<B>> for IngestDispatch
where
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = BoxFuture<HttpResponse<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<B>) -> Self::Future {
        let size_max = self.message_size_max;
        match request.uri().path() {
            "/ev.telemetry.v1.TelemetryIngest/Stream" => {
                let (head, body) = request.into_parts();
                let response = self.service.stream(&head.headers, Body::new(body), size_max);
                Box::pin(ready(Ok(response.unwrap_or_else(Status::into_http))))
            }
            "/ev.telemetry.v1.TelemetryIngest/Publish" => {
                let call = PublishCall(self.service.clone());
                let mut grpc = Grpc::new(ProstCodec::default()).max_decoding_message_size(size_max);
                Box::pin(async move { Ok(grpc.unary(call, request).await) })
            }
            _ => until_drain(request, &self.draining, |request| self.rest.clone().call(request)),
        }
    }
}
