//! `ev.telemetry.v1.TelemetryQuery`. Its work runs on the control runtime, so that no disk wait, and no unpacking of
//! readings, is a serving thread's.

use std::{future::Future, ops::Range, pin::Pin, sync::Arc};

use ev_domain::{Catalogue, SignalId, Source, VehicleId};
use ev_proto::ev::telemetry::v1::{
    AggregateRequest, AggregateResponse, GetLatestRequest, GetLatestResponse, ListGapsRequest, ListGapsResponse,
    ListRejectedRequest, ListRejectedResponse, ListVehiclesRequest, ListVehiclesResponse, QueryRequest, QueryResponse,
    RejectCount, Resolution as ProtoResolution, SignalAggregate, SignalValue, Vehicle, WatchRequest, WatchResponse,
    telemetry_query_server::TelemetryQuery,
};
use ev_telemetry::{
    AggregateQuery, Cursor, Ingestor, QuarantineQuery, Query, RejectReason, Resolution, TelemetryError, TelemetryStore,
    VehicleSummary,
};
use futures_core::Stream;
use prost_types::Timestamp;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{decode, encode, watch};
use crate::grpc::status;

/// Most vehicles of a page, and how many where nothing is said.
const VEHICLES_MAX: u32 = 10_000;
const VEHICLES_USUAL: u32 = 1_000;
/// Most sources of a page of gaps, each with up to 64 ranges, and how many where nothing is said.
const SOURCES_MAX: u32 = 1_000;
const SOURCES_USUAL: u32 = 100;
/// How many rejects of a page, where nothing is said.
const REJECTS_USUAL: u32 = 256;
/// How many readings, or aggregates, where nothing is said.
const READINGS_USUAL: usize = 10_000;
/// Most signals of a question.
const SIGNALS_MAX: usize = 4_096;

/// Answers questions about what was taken in.
pub(crate) struct QueryService {
    pub(crate) ingestor: Arc<Ingestor>,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) control: Handle,
    pub(crate) draining: CancellationToken,
    /// When the server started, in microseconds since 1970-01-01 UTC.
    pub(crate) since_us: i64,
}

// === impl QueryService ===

impl QueryService {
    /// Asks the store on the control runtime.
    async fn ask<T, F>(&self, question: impl FnOnce(Arc<dyn TelemetryStore>) -> F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, TelemetryError>> + Send + 'static,
    {
        let answer = self.control.spawn(question(Arc::clone(self.ingestor.store()))).await;
        // A question that panicked, or a control runtime that is gone.
        let answer = answer.map_err(|_| status::of_telemetry(&TelemetryError::ShuttingDown))?;
        answer.map_err(|error| status::of_telemetry(&error))
    }

    fn signals(&self, paths: &[String]) -> Result<Vec<SignalId>, Status> {
        if paths.len() > SIGNALS_MAX {
            let description = format!("has {} signals, expected at most {SIGNALS_MAX}", paths.len());
            return Err(status::invalid("signals", "TOO_MANY_SIGNALS", description));
        }
        let find = |(index, path): (usize, &String)| {
            self.catalogue.by_name(path).ok_or_else(|| {
                let path: String = path.chars().take(128).collect();
                let description = format!("is `{path}`, expected a VSS path of the catalogue");
                status::invalid(&format!("signals[{index}]"), "UNKNOWN_SIGNAL", description)
            })
        };
        let mut signals = paths.iter().enumerate().map(find).collect::<Result<Vec<_>, _>>()?;
        let mut seen = std::collections::HashSet::new();
        signals.retain(|signal| seen.insert(*signal));
        Ok(signals)
    }
}

#[tonic::async_trait]
impl TelemetryQuery for QueryService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn list_vehicles(
        &self,
        request: Request<ListVehiclesRequest>,
    ) -> Result<Response<ListVehiclesResponse>, Status> {
        let ListVehiclesRequest { page_size, page_token } = request.into_inner();
        let size = at_most("page_size", page_size, VEHICLES_MAX, VEHICLES_USUAL)?;
        let after = if page_token.is_empty() { None } else { Some(vehicle("page_token", &page_token)?) };
        let found = self.ask(|store| async move { store.vehicles(after.as_ref(), size).await }).await?;
        let is_full = found.len() >= usize::try_from(size).unwrap_or(usize::MAX);
        let last = found.last().filter(|_| is_full).map(|last| last.vehicle.as_str().to_owned());
        let vehicles = found.iter().map(summary).collect();
        Ok(Response::new(ListVehiclesResponse { vehicles, next_page_token: last.unwrap_or_default() }))
    }

    async fn get_latest(&self, request: Request<GetLatestRequest>) -> Result<Response<GetLatestResponse>, Status> {
        let GetLatestRequest { vehicle_id, signals } = request.into_inner();
        let (vehicle, wanted) = (vehicle("vehicle_id", &vehicle_id)?, self.signals(&signals)?);
        let latest = self.ask(|store| async move { store.latest(&vehicle).await }).await?;
        let latest = latest.into_iter().filter(|latest| wanted.is_empty() || wanted.contains(&latest.signal));
        let values = latest.map(|latest| {
            let (signal, unit) = encode::name_and_unit(&self.catalogue, latest.signal);
            SignalValue { signal, value: latest.value, unit, time: Some(encode::timestamp(latest.time_us)) }
        });
        Ok(Response::new(GetLatestResponse { values: values.collect() }))
    }

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<QueryResponse>, Status> {
        let QueryRequest { vehicle_id, signals, start_time, end_time, page_size, page_token } = request.into_inner();
        let query = Query {
            vehicle: vehicle("vehicle_id", &vehicle_id)?,
            signals: self.signals(&signals)?,
            time_us: span(start_time.as_ref(), end_time.as_ref())?,
            after: cursor(&page_token)?,
            limit: limit(page_size, Query::LIMIT_MAX)?,
        };
        let page = self.ask(|store| async move { store.query(&query).await }).await?;
        let next = page.next.map(|Cursor { time_us, skip }| format!("{time_us}.{skip}")).unwrap_or_default();
        Ok(Response::new(QueryResponse {
            times_us: page.readings.times_us.clone(),
            columns: encode::columns(&self.catalogue, page.readings),
            next_page_token: next,
        }))
    }

    async fn aggregate(&self, request: Request<AggregateRequest>) -> Result<Response<AggregateResponse>, Status> {
        let AggregateRequest { vehicle_id, signals, start_time, end_time, resolution, page_size, page_token } =
            request.into_inner();
        let resolution = match ProtoResolution::try_from(resolution) {
            Ok(ProtoResolution::Minute) => Resolution::Minute,
            Ok(ProtoResolution::Hour) => Resolution::Hour,
            Ok(ProtoResolution::Day) => Resolution::Day,
            Ok(ProtoResolution::Unspecified) | Err(_) => {
                let description = format!("is {resolution}, expected a minute, an hour or a day");
                return Err(status::invalid("resolution", "UNKNOWN_VALUE", description));
            }
        };
        let query = AggregateQuery {
            vehicle: vehicle("vehicle_id", &vehicle_id)?,
            signals: self.signals(&signals)?,
            resolution,
            time_us: span(start_time.as_ref(), end_time.as_ref())?,
            after: self.aggregate_cursor(&page_token)?,
            limit: limit(page_size, AggregateQuery::LIMIT_MAX)?,
        };
        let size = query.limit;
        let found = self.ask(|store| async move { store.aggregate(&query).await }).await?;
        let last = found.last().filter(|_| found.len() >= size);
        let token = |last: &ev_telemetry::SpanAggregate| {
            format!("{} {}", last.start_us, encode::name_and_unit(&self.catalogue, last.signal).0)
        };
        let next_page_token = last.map(token).unwrap_or_default();
        let aggregates = found.iter().map(|span| {
            let (signal, unit) = encode::name_and_unit(&self.catalogue, span.signal);
            let aggregate = &span.aggregate;
            SignalAggregate {
                signal,
                unit,
                start_time: Some(encode::timestamp(span.start_us)),
                count: aggregate.count,
                mean: aggregate.mean(),
                min: aggregate.min,
                max: aggregate.max,
                last: aggregate.last,
            }
        });
        Ok(Response::new(AggregateResponse { aggregates: aggregates.collect(), next_page_token }))
    }

    async fn list_gaps(&self, request: Request<ListGapsRequest>) -> Result<Response<ListGapsResponse>, Status> {
        let ListGapsRequest { vehicle_id, page_size, page_token } = request.into_inner();
        let size = at_most("page_size", page_size, SOURCES_MAX, SOURCES_USUAL)?;
        let (vehicle, after) = (vehicle("vehicle_id", &vehicle_id)?, source_cursor(&page_token)?);
        let answer = self.ask(|store| async move {
            // In this order: what comes meanwhile makes the vehicle more complete than its holes, not less.
            let found = store.gaps(&vehicle, after.as_ref(), size).await?;
            Ok((found, store.vehicle(&vehicle).await?))
        });
        let (found, summary) = answer.await?;
        let is_full = found.len() >= usize::try_from(size).unwrap_or(usize::MAX);
        let last = found.last().filter(|_| is_full).map(|last| &last.source);
        Ok(Response::new(ListGapsResponse {
            sources: found.iter().map(encode::source_gaps).collect(),
            batches_received: summary.batches_received,
            batches_expected: summary.batches_expected,
            completeness: summary.completeness(),
            next_page_token: last.map(|last| format!("{} {}", last.gateway, last.boot)).unwrap_or_default(),
        }))
    }

    async fn list_rejected(
        &self,
        request: Request<ListRejectedRequest>,
    ) -> Result<Response<ListRejectedResponse>, Status> {
        let ListRejectedRequest { vehicle_id, gateway_id, limit, page_token } = request.into_inner();
        let only = |field: &str, id: &str| if id.is_empty() { Ok(None) } else { vehicle(field, id).map(Some) };
        let query = QuarantineQuery {
            vehicle: only("vehicle_id", &vehicle_id)?,
            gateway: only("gateway_id", &gateway_id)?,
            before: if page_token.is_empty() { None } else { Some(page_token.parse().map_err(|_| bad_token())?) },
            limit: at_most("limit", limit, QuarantineQuery::LIMIT_MAX, REJECTS_USUAL)?,
        };
        let ingestor = Arc::clone(&self.ingestor);
        let page = self.ask(|_| async move { ingestor.quarantined(&query).await }).await?;
        let counts = RejectReason::ALL.iter().zip(self.ingestor.stats().rejected).filter(|(_, readings)| *readings > 0);
        let counts = counts.map(|(reason, readings)| RejectCount { reason: encode::reason(*reason).into(), readings });
        Ok(Response::new(ListRejectedResponse {
            rejected: page.rejects.into_iter().map(encode::rejected).collect(),
            counts: counts.collect(),
            since: Some(encode::timestamp(self.since_us)),
            next_page_token: page.next.map(|next| next.to_string()).unwrap_or_default(),
        }))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let WatchRequest { vehicle_ids, signals, interval_min } = request.into_inner();
        let signals = self.signals(&signals)?;
        let wanted = watch::Wanted::new(&vehicle_ids, signals, interval_min.as_ref())?;
        let watching = watch::start(
            self.ingestor.subscribe(),
            wanted,
            Arc::clone(&self.catalogue),
            self.draining.clone(),
            &self.control,
        );
        Ok(Response::new(Box::pin(watching)))
    }
}

impl QueryService {
    fn aggregate_cursor(&self, token: &str) -> Result<Option<(i64, SignalId)>, Status> {
        if token.is_empty() {
            return Ok(None);
        }
        let parsed = token
            .split_once(' ')
            .and_then(|(start, signal)| Some((start.parse().ok()?, self.catalogue.by_name(signal)?)));
        parsed.map(Some).ok_or_else(bad_token)
    }
}

pub(in crate::grpc) fn vehicle(field: &str, id: &str) -> Result<VehicleId, Status> {
    VehicleId::new(id).map_err(|error| status::invalid(field, "INVALID_ID", error.problem()))
}

fn summary(found: &VehicleSummary) -> Vehicle {
    Vehicle {
        vehicle_id: found.vehicle.as_str().to_owned(),
        first_time: found.span_us.map(|(first, _)| encode::timestamp(first)),
        last_time: found.span_us.map(|(_, last)| encode::timestamp(last)),
        readings: found.readings,
        completeness: found.completeness(),
    }
}

fn span(start: Option<&Timestamp>, end: Option<&Timestamp>) -> Result<Range<i64>, Status> {
    let time = |field: &str, time: Option<&Timestamp>, otherwise: i64| {
        let Some(time) = time else { return Ok(otherwise * 1_000_000) };
        let malformed = || status::invalid(field, "OUT_OF_RANGE", format!("is {} s, expected a time", time.seconds));
        decode::time_us(time).ok_or_else(malformed)
    };
    Ok(time("start_time", start, decode::SECONDS.start)?..time("end_time", end, decode::SECONDS.end)?)
}

fn limit(page_size: u32, max: usize) -> Result<usize, Status> {
    match usize::try_from(page_size).unwrap_or(usize::MAX) {
        0 => Ok(READINGS_USUAL),
        size if size <= max => Ok(size),
        size => Err(status::invalid("page_size", "OUT_OF_RANGE", format!("is {size}, expected at most {max}"))),
    }
}

/// A number that was asked for; 0 stands for what is usual.
fn at_most(field: &str, asked: u32, max: u32, usual: u32) -> Result<u32, Status> {
    match asked {
        0 => Ok(usual),
        asked if asked <= max => Ok(asked),
        asked => Err(status::invalid(field, "OUT_OF_RANGE", format!("is {asked}, expected at most {max}"))),
    }
}

/// The source after which a page begins: ids hold no blanks.
fn source_cursor(token: &str) -> Result<Option<Source>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let ids = token.split_once(' ').map(|(gateway, boot)| (VehicleId::new(gateway), VehicleId::new(boot)));
    match ids {
        Some((Ok(gateway), Ok(boot))) => Ok(Some(Source { gateway, boot })),
        _ => Err(bad_token()),
    }
}

fn cursor(token: &str) -> Result<Option<Cursor>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let parsed = token
        .split_once('.')
        .and_then(|(time_us, skip)| Some(Cursor { time_us: time_us.parse().ok()?, skip: skip.parse().ok()? }));
    parsed.map(Some).ok_or_else(bad_token)
}

fn bad_token() -> Status {
    status::invalid("page_token", "INVALID_PAGE_TOKEN", "is not the `next_page_token` of an answer")
}
