//! The audit log over gRPC: its rows, and a stream of those to come.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use ev_proto::ev::registry::v1::{
    AuditEvent, GetAuditLogRequest, GetAuditLogResponse, VerifyAuditLogResponse, WatchEventsRequest,
    WatchEventsResponse,
};
use ev_registry::{AuditOrder, AuditQuery, AuditRecord, AuditVerification, Registry};
use futures_util::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::status;

/// Rows of a page when the caller does not say.
const PAGE_ROWS: u32 = 100;
/// Rows that a watcher holds: it reads no more before these are sent.
const WATCH_ROWS: u32 = 100;
/// Callers that watch at one time: each asks the database whenever anything has changed.
pub(crate) const WATCHERS_MAX: usize = 256;

pub(super) type Watching = Pin<Box<dyn Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

/// A caller that watches.
struct Watcher {
    registry: Arc<Registry>,
    changes: watch::Receiver<u64>,
    draining: CancellationToken,
    model: Option<String>,
    after: u64,
    ready: VecDeque<AuditRecord>,
    _place: OwnedSemaphorePermit,
}

/// A page of rows, or those of a time.
pub(super) async fn rows(registry: &Registry, request: GetAuditLogRequest) -> Result<GetAuditLogResponse, Status> {
    let GetAuditLogRequest { model, page_size, page_token, as_of } = request;
    if let Some(time) = as_of {
        if model.is_empty() {
            return Err(status::invalid("model", "MISSING_FIELD", "is empty, expected the model to look back at"));
        }
        let millis = time.seconds.saturating_mul(1000).saturating_add(i64::from(time.nanos / 1_000_000));
        let rows = registry.as_of(&model, millis).await.map_err(|error| status::of_registry(&error))?;
        let events = rows.into_iter().map(event).collect();
        return Ok(GetAuditLogResponse { events, next_page_token: String::new() });
    }
    let before = match page_token.as_str() {
        "" => None,
        token => Some(
            token
                .parse()
                .map_err(|_| status::invalid("page_token", "INVALID_PAGE", "is not one that this listing gave"))?,
        ),
    };
    let limit = if page_size == 0 { PAGE_ROWS } else { page_size };
    let model = (!model.is_empty()).then_some(model);
    let query = AuditQuery { model, order: AuditOrder::Before(before), limit };
    let rows = registry.audit(&query).await.map_err(|error| status::of_registry(&error))?;
    let full = u32::try_from(rows.len()).is_ok_and(|count| count == limit);
    let next = rows.last().filter(|row| full && row.sequence > 1);
    let next_page_token = next.map_or_else(String::new, |row| row.sequence.to_string());
    Ok(GetAuditLogResponse { events: rows.into_iter().map(event).collect(), next_page_token })
}

pub(super) fn verified(verification: AuditVerification) -> VerifyAuditLogResponse {
    let AuditVerification { head, fault } = verification;
    let ok = fault.is_none();
    let (fault_sequence, problem) = fault.map_or((0, String::new()), |fault| (fault.sequence, fault.problem));
    VerifyAuditLogResponse { ok, fault_sequence, problem, head_sequence: head.sequence, head_hash: head.hash }
}

/// Rows after one as they come; none: those to come.
pub(super) async fn watch(
    registry: Arc<Registry>,
    WatchEventsRequest { after_sequence, model }: WatchEventsRequest,
    place: OwnedSemaphorePermit,
    draining: CancellationToken,
) -> Result<Watching, Status> {
    let changes = registry.changes();
    let newest = registry.audit_head().await.map_err(|error| status::of_registry(&error))?.sequence;
    let after = after_sequence.unwrap_or(newest);
    if after > newest {
        // It would wait in silence for rows that were written long ago in another log.
        let description = format!("is {after}, expected at most {newest}, the number of the newest row");
        return Err(status::invalid("after_sequence", "OUT_OF_RANGE", description));
    }
    let model = (!model.is_empty()).then_some(model);
    let watcher = Watcher { registry, changes, draining, model, after, ready: VecDeque::new(), _place: place };
    Ok(Box::pin(stream::unfold(Some(watcher), |watcher| async move {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok(row) => Some((Ok(WatchEventsResponse { event: Some(event(row)) }), Some(watcher))),
            Err(status) => Some((Err(status), None)),
        }
    })))
}

// === impl Watcher ===

impl Watcher {
    async fn next(&mut self) -> Result<AuditRecord, Status> {
        loop {
            if let Some(row) = self.ready.pop_front() {
                return Ok(row);
            }
            // Seen before it is read: what comes between is told once more.
            self.changes.borrow_and_update();
            let order = AuditOrder::After(self.after);
            let query = AuditQuery { model: self.model.clone(), order, limit: WATCH_ROWS };
            self.ready = self.registry.audit(&query).await.map_err(|error| status::of_registry(&error))?.into();
            if let Some(last) = self.ready.back() {
                self.after = last.sequence;
                continue;
            }
            tokio::select! {
                () = self.draining.cancelled() => return Err(status::draining()),
                changed = self.changes.changed() => changed.map_err(|_| status::draining())?,
            }
        }
    }
}

fn event(row: AuditRecord) -> AuditEvent {
    let AuditRecord { sequence, at_ms, actor, action, model, version, alias, digest, detail, previous_hash, hash } =
        row;
    AuditEvent {
        sequence,
        time: Some(super::registry::timestamp(at_ms)),
        actor,
        action,
        model,
        version: version.unwrap_or(0),
        alias,
        digest,
        detail_json: detail,
        previous_hash,
        hash,
    }
}
