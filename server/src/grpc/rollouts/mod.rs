//! `ev.registry.v1.Rollouts`.

mod plan;
mod shown;

use std::{pin::Pin, sync::Arc, time::Duration};

use ev_models_core::DataType;
use ev_proto::ev::registry::v1::{
    RolloutsAbortRequest, RolloutsAbortResponse, RolloutsGetRequest, RolloutsGetResponse, RolloutsListRequest,
    RolloutsListResponse, RolloutsPauseRequest, RolloutsPauseResponse, RolloutsPromoteRequest, RolloutsPromoteResponse,
    RolloutsResumeRequest, RolloutsResumeResponse, RolloutsRollbackRequest, RolloutsRollbackResponse,
    RolloutsStartRequest, RolloutsStartResponse, RolloutsWatchRequest, RolloutsWatchResponse,
    rollouts_server::Rollouts as RolloutsRpc,
};
use ev_registry::{Page, Registry, RegistryError, VersionChoice, VersionRecord};
use ev_rollouts::{Action, REASON_BYTES_MAX};
use futures_core::Stream;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{actor::actor, gates::GateService, registry::now_ms, status};
use crate::rollouts::{Rollouts, RolloutsError};

/// Rollouts of a page, unless the request says how many, and at most.
const PAGE: u32 = 20;
const PAGE_MAX: u32 = 100;
/// How often a watcher is told though nothing has changed: guards and counts have.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Callers that watch at one time: each asks the database every second.
pub(crate) const WATCHERS_MAX: usize = 64;
/// Messages that wait for a watcher to read them.
const WAITING_MAX: usize = 4;

/// Rollouts over gRPC. Its work runs on the control runtime, so that no disk wait is a serving thread's.
pub(crate) struct RolloutsService {
    pub(crate) rollouts: Arc<Rollouts>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) gates: GateService,
    /// Places of callers that watch.
    pub(crate) watchers: Arc<Semaphore>,
    pub(crate) control: tokio::runtime::Handle,
    pub(crate) draining: CancellationToken,
}

#[tonic::async_trait]
impl RolloutsRpc for RolloutsService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<RolloutsWatchResponse, Status>> + Send>>;

    async fn start(&self, request: Request<RolloutsStartRequest>) -> Result<Response<RolloutsStartResponse>, Status> {
        let by = actor(&request);
        let RolloutsStartRequest { model, version, plan } = request.into_inner();
        if version == 0 {
            return Err(status::invalid("version", "MISSING_FIELD", "is missing, expected the candidate's number"));
        }
        let plan = plan::of_proto(plan)?;
        // Before a version is judged, which takes seconds.
        plan.check().map_err(|error| status::of_rollouts(&error.into()))?;
        let candidate = self.registry.get(&model, &VersionChoice::Number(version)).await;
        let candidate = candidate.map_err(|error| status::of_registry(&error))?;
        self.check_cohort(&candidate, &plan.cohort_by).await?;
        self.check_free(&model).await?;
        // What may not be in production need not be on its way there.
        self.gates.admit(&candidate).await?;
        let rollouts = Arc::clone(&self.rollouts);
        let rollout = self
            .on_control(async move {
                let stored = rollouts.start(&model, version, plan, &by, now_ms()).await?;
                Ok(rollouts.status(&stored.rollout.id, now_ms()).await?)
            })
            .await?;
        Ok(Response::new(RolloutsStartResponse { rollout: Some(shown::status(&rollout)) }))
    }

    async fn get(&self, request: Request<RolloutsGetRequest>) -> Result<Response<RolloutsGetResponse>, Status> {
        let RolloutsGetRequest { rollout } = request.into_inner();
        let rollouts = Arc::clone(&self.rollouts);
        let found = self.on_control(async move { Ok(rollouts.status(&rollout, now_ms()).await?) }).await?;
        Ok(Response::new(RolloutsGetResponse { rollout: Some(shown::status(&found)) }))
    }

    async fn list(&self, request: Request<RolloutsListRequest>) -> Result<Response<RolloutsListResponse>, Status> {
        let RolloutsListRequest { model, page_size, page_token } = request.into_inner();
        let size = match page_size {
            0 => PAGE,
            1..=PAGE_MAX => page_size,
            _ => {
                let description = format!("is {page_size}, expected 1 to {PAGE_MAX}, or 0 for {PAGE}");
                return Err(status::invalid("page_size", "OUT_OF_RANGE", description));
            }
        };
        if !page_token.is_empty() && uuid::Uuid::parse_str(&page_token).is_err() {
            return Err(status::invalid("page_token", "INVALID_PAGE", "is not one that this listing gave"));
        }
        if !model.is_empty() {
            // A model that does not exist is told from one that never had a rollout.
            let newest = self.registry.list_versions(&model, &Page { size: 1, token: None }).await;
            newest.map_err(|error| status::of_registry(&error))?;
        }
        let rollouts = Arc::clone(&self.rollouts);
        let listing = async move {
            let (model, before) =
                (Some(model).filter(|it| !it.is_empty()), Some(page_token).filter(|it| !it.is_empty()));
            let found = rollouts.list(model.as_deref(), before.as_deref(), size + 1).await?;
            Ok((found, rollouts.time_ms(now_ms()).await?))
        };
        let (mut found, now_ms) = self.on_control(listing).await?;
        let has_more = found.len() > size as usize;
        found.truncate(size as usize);
        let next = if has_more { found.last().map(|last| last.rollout.id.clone()) } else { None };
        let rollouts = found.iter().map(|stored| shown::rollout(stored, now_ms)).collect();
        Ok(Response::new(RolloutsListResponse { rollouts, next_page_token: next.unwrap_or_default() }))
    }

    async fn pause(&self, request: Request<RolloutsPauseRequest>) -> Result<Response<RolloutsPauseResponse>, Status> {
        let by = actor(&request);
        let RolloutsPauseRequest { rollout, reason } = request.into_inner();
        let rollout = Some(self.act(rollout, Action::Pause, reason, by).await?);
        Ok(Response::new(RolloutsPauseResponse { rollout }))
    }

    async fn resume(
        &self,
        request: Request<RolloutsResumeRequest>,
    ) -> Result<Response<RolloutsResumeResponse>, Status> {
        let by = actor(&request);
        let RolloutsResumeRequest { rollout, reason } = request.into_inner();
        let rollout = Some(self.act(rollout, Action::Resume, reason, by).await?);
        Ok(Response::new(RolloutsResumeResponse { rollout }))
    }

    async fn promote(
        &self,
        request: Request<RolloutsPromoteRequest>,
    ) -> Result<Response<RolloutsPromoteResponse>, Status> {
        let by = actor(&request);
        let RolloutsPromoteRequest { rollout, reason } = request.into_inner();
        let rollout = Some(self.act(rollout, Action::Promote, reason, by).await?);
        Ok(Response::new(RolloutsPromoteResponse { rollout }))
    }

    async fn abort(&self, request: Request<RolloutsAbortRequest>) -> Result<Response<RolloutsAbortResponse>, Status> {
        let by = actor(&request);
        let RolloutsAbortRequest { rollout, reason } = request.into_inner();
        let rollout = Some(self.act(rollout, Action::Abort, reason, by).await?);
        Ok(Response::new(RolloutsAbortResponse { rollout }))
    }

    async fn rollback(
        &self,
        request: Request<RolloutsRollbackRequest>,
    ) -> Result<Response<RolloutsRollbackResponse>, Status> {
        let by = actor(&request);
        let RolloutsRollbackRequest { rollout, reason } = request.into_inner();
        let rollout = Some(self.act(rollout, Action::Rollback, reason, by).await?);
        Ok(Response::new(RolloutsRollbackResponse { rollout }))
    }

    async fn watch(&self, request: Request<RolloutsWatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let RolloutsWatchRequest { rollout } = request.into_inner();
        let place = status::place_of_watcher(&self.watchers, WATCHERS_MAX)?;
        let rollouts = Arc::clone(&self.rollouts);
        let first = self.on_control(async move { Ok(rollouts.status(&rollout, now_ms()).await?) }).await?;
        let id = first.stored.rollout.id.clone();
        let (sender, messages) = mpsc::channel(WAITING_MAX);
        let (rollouts, draining) = (Arc::clone(&self.rollouts), self.draining.clone());
        self.control.spawn(async move {
            let _place = place;
            let mut changes = rollouts.changes();
            let mut found = Ok(first);
            loop {
                let message = found.map(|found| shown::status(&found));
                let is_over = message.as_ref().map_or(true, shown::is_over);
                let message = message.map(|rollout| RolloutsWatchResponse { rollout: Some(rollout) });
                let message = message.map_err(|error: RegistryError| status::of_registry(&error));
                if sender.send(message).await.is_err() || is_over {
                    return;
                }
                tokio::select! {
                    _ = changes.changed() => {}
                    () = tokio::time::sleep(TELL_EVERY) => {}
                    () = sender.closed() => return,
                    () = draining.cancelled() => {
                        let _ = sender.send(Err(status::draining())).await;
                        return;
                    }
                }
                found = rollouts.status(&id, now_ms()).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}

// === impl RolloutsService ===

impl RolloutsService {
    /// Refuses a model that has a rollout under way, before a version is judged in vain.
    async fn check_free(&self, model: &str) -> Result<(), Status> {
        let active = self.registry.rollouts().active_rollouts().await;
        let active = active.map_err(|error| status::of_registry(&error))?;
        match active.into_iter().find(|rollout| rollout.model == model) {
            None => Ok(()),
            Some(rollout) => {
                let (model, id) = (rollout.model, rollout.id);
                Err(status::of_registry(&RegistryError::RolloutUnderWay { model, id }))
            }
        }
    }

    /// Refuses cohorts of what is no text input of the candidate: there would be none, and nobody would notice.
    async fn check_cohort(&self, candidate: &VersionRecord, cohort_by: &str) -> Result<(), Status> {
        if cohort_by.is_empty() {
            return Ok(());
        }
        let manifest = self.registry.manifest(candidate).await.map_err(|error| status::of_registry(&error))?;
        let texts = manifest.inputs.iter().filter(|input| input.dtype == DataType::Bytes);
        let texts: Vec<&str> = texts.map(|input| input.name.as_str()).collect();
        if texts.contains(&cohort_by) {
            return Ok(());
        }
        let found: String = cohort_by.chars().take(64).collect();
        let expected = if texts.is_empty() { "nothing: it has none".to_owned() } else { texts.join(", ") };
        let description = format!("is `{found}`, expected a text input of the version: {expected}");
        Err(status::invalid("plan.cohort_by", "UNKNOWN_INPUT", description))
    }

    async fn act(
        &self,
        name: String,
        action: Action,
        reason: String,
        by: String,
    ) -> Result<ev_proto::ev::registry::v1::Rollout, Status> {
        if reason.len() > REASON_BYTES_MAX {
            let description = format!("has {} bytes, expected at most {REASON_BYTES_MAX}", reason.len());
            return Err(status::invalid("reason", "TOO_LONG", description));
        }
        let rollouts = Arc::clone(&self.rollouts);
        let changed = self
            .on_control(async move {
                let stored = rollouts.act(&name, action, &reason, &by, now_ms()).await?;
                Ok(rollouts.status(&stored.rollout.id, now_ms()).await?)
            })
            .await?;
        Ok(shown::status(&changed))
    }

    /// Works on the control runtime, to its end even when the caller goes away.
    async fn on_control<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, RolloutsError>> + Send + 'static,
    ) -> Result<T, Status> {
        match self.control.spawn(work).await {
            Ok(worked) => worked.map_err(|error| status::of_rollouts(&error)),
            Err(_) => Err(status::of_registry(&RegistryError::ShuttingDown)),
        }
    }
}
