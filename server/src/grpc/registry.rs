//! `ev.registry.v1.ModelRegistry`.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use ev_proto::ev::registry::v1::{
    Check, CompareVersionsRequest, CompareVersionsResponse, DeleteVersionRequest, DeleteVersionResponse,
    GetAuditLogRequest, GetAuditLogResponse, GetGatesRequest, GetGatesResponse, GetUploadRequest, GetUploadResponse,
    GetVersionPolicyRequest, GetVersionPolicyResponse, GetVersionRequest, GetVersionResponse, ListModelsRequest,
    ListModelsResponse, ListReplicasRequest, ListReplicasResponse, ListVersionsRequest, ListVersionsResponse, Model,
    PinVersionRequest, PinVersionResponse, RegisterVersionRequest, RegisterVersionResponse, SetAliasRequest,
    SetAliasResponse, SetVersionPolicyRequest, SetVersionPolicyResponse, SignVersionRequest, SignVersionResponse,
    UnpinVersionRequest, UnpinVersionResponse, VerifyAuditLogRequest, VerifyAuditLogResponse, VerifyVersionRequest,
    VerifyVersionResponse, Version, VersionState, WaiveGateRequest, WaiveGateResponse, WatchEventsRequest,
    get_gates_request, get_version_request, model_registry_server::ModelRegistry, verify_version_request,
};
use ev_registry::{AliasChange, ExpectedVersion, PRODUCTION, Page, Registry, VersionChoice, VersionRecord};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{actor::actor, comparison, events, fleet, gates::GateService, status, upload};
use crate::{
    comparison::Comparer,
    deploy::{Deployer, ModelRoutes, NotLoaded, Routes, VersionStatus},
    fleet::Fleet,
};

/// Most of a pin's reason.
const REASON_MAX_CHARS: usize = 1000;

/// The registry over gRPC. Its work runs on the control runtime, so that no disk wait is a serving thread's.
#[derive(Clone)]
pub(crate) struct RegistryService {
    pub(crate) registry: Arc<Registry>,
    pub(crate) deployer: Arc<Deployer>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) gates: GateService,
    pub(crate) comparer: Arc<Comparer>,
    /// Places of callers that watch events.
    pub(crate) watchers: Arc<Semaphore>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) control: tokio::runtime::Handle,
    pub(crate) draining: CancellationToken,
}

#[tonic::async_trait]
impl ModelRegistry for RegistryService {
    type WatchEventsStream = events::Watching;

    async fn register_version(
        &self,
        request: Request<Streaming<RegisterVersionRequest>>,
    ) -> Result<Response<RegisterVersionResponse>, Status> {
        let registry = self.registry.on_behalf_of(&actor(&request));
        let imported = upload::take(&registry, request.into_inner()).await?;
        self.reconcile().await?;
        Ok(Response::new(RegisterVersionResponse {
            version: Some(self.version(&imported.version)),
            created: imported.created,
            gates: self.gates.judge(&imported.version).await,
        }))
    }

    async fn get_upload(&self, request: Request<GetUploadRequest>) -> Result<Response<GetUploadResponse>, Status> {
        upload::received(&self.registry, request.into_inner()).await.map(Response::new)
    }

    async fn list_models(&self, request: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let ListModelsRequest { page_size, page_token } = request.into_inner();
        let page = Page { size: page_size, token: Some(page_token) };
        let listing = self.registry.list_models(&page).await.map_err(|error| status::of_registry(&error))?;
        let models = listing.items.iter().map(|model| Model {
            name: model.name.clone(),
            version_count: model.version_count,
            production: model.production.as_ref().map(|version| self.version(version)),
            latest: Some(self.version(&model.latest)),
        });
        let models = models.collect();
        Ok(Response::new(ListModelsResponse { models, next_page_token: listing.next.unwrap_or_default() }))
    }

    async fn list_versions(
        &self,
        request: Request<ListVersionsRequest>,
    ) -> Result<Response<ListVersionsResponse>, Status> {
        let ListVersionsRequest { model, page_size, page_token } = request.into_inner();
        let page = Page { size: page_size, token: Some(page_token) };
        let listing = self.registry.list_versions(&model, &page).await.map_err(|error| status::of_registry(&error))?;
        let versions = listing.items.iter().map(|version| self.version(version)).collect();
        Ok(Response::new(ListVersionsResponse { versions, next_page_token: listing.next.unwrap_or_default() }))
    }

    async fn get_version(&self, request: Request<GetVersionRequest>) -> Result<Response<GetVersionResponse>, Status> {
        let GetVersionRequest { model, version_choice } = request.into_inner();
        let choice = version_choice.map(|choice| match choice {
            get_version_request::VersionChoice::Version(version) => VersionChoice::Number(version),
            get_version_request::VersionChoice::Alias(alias) => VersionChoice::Alias(alias),
        });
        let record = self.get(&model, choice).await?;
        let manifest = self.registry.manifest(&record).await.map_err(|error| status::of_registry(&error))?;
        let manifest_json = String::from_utf8_lossy(&manifest.canonical()).into_owned();
        let (gates, waivers, signatures) = self.gates.known(&self.registry, &record).await?;
        let version = Some(self.version(&record));
        Ok(Response::new(GetVersionResponse { version, manifest_json, gates, waivers, signatures }))
    }

    async fn verify_version(
        &self,
        request: Request<VerifyVersionRequest>,
    ) -> Result<Response<VerifyVersionResponse>, Status> {
        let VerifyVersionRequest { model, version_choice } = request.into_inner();
        let choice = version_choice.map(|choice| match choice {
            verify_version_request::VersionChoice::Version(version) => VersionChoice::Number(version),
            verify_version_request::VersionChoice::Alias(alias) => VersionChoice::Alias(alias),
        });
        let record = self.get(&model, choice).await?;
        let files = self.registry.verify_files(&record).await;
        let mut checks: Vec<Check> =
            files.into_iter().map(|check| Check { name: check.name, ok: check.ok, detail: check.detail }).collect();
        if checks.iter().all(|check| check.ok) {
            let (ok, detail) = match self.rehearse(&record).await {
                Ok(detail) => (true, detail),
                Err(NotLoaded::Refused(reason)) => (false, reason),
                Err(NotLoaded::Unread(error)) => return Err(status::of_registry(&error)),
            };
            checks.push(Check { name: "loads and reproduces its golden requests".to_owned(), ok, detail });
        }
        let ok = checks.iter().all(|check| check.ok);
        Ok(Response::new(VerifyVersionResponse { version: Some(self.version(&record)), ok, checks }))
    }

    async fn compare_versions(
        &self,
        request: Request<CompareVersionsRequest>,
    ) -> Result<Response<CompareVersionsResponse>, Status> {
        comparison::compare(&self.registry, &self.comparer, request.into_inner()).await.map(Response::new)
    }

    async fn set_alias(&self, request: Request<SetAliasRequest>) -> Result<Response<SetAliasResponse>, Status> {
        let registry = self.registry.on_behalf_of(&actor(&request));
        let SetAliasRequest { model, alias, version, expected_version } = request.into_inner();
        let expected = match expected_version {
            None => ExpectedVersion::Any,
            Some(0) => ExpectedVersion::Absent,
            Some(version) => ExpectedVersion::Is(version),
        };
        if version == 0 {
            let removal = AliasChange::remove(model, alias, expected);
            let previous =
                registry.move_alias(&removal, now_ms()).await.map_err(|error| status::of_registry(&error))?;
            self.reconcile().await?;
            return Ok(Response::new(SetAliasResponse { version: None, previous_version: previous.unwrap_or(0) }));
        }
        let change = AliasChange::set(model.as_str(), alias.as_str(), version, expected);
        // Before anything is loaded or judged for it; it is looked at once more when the alias moves.
        registry.check_move(&change).await.map_err(|error| status::of_registry(&error))?;
        let record = self.get(&model, Some(VersionChoice::Number(version))).await?;
        if alias == PRODUCTION {
            self.gates.admit(&record).await?;
        } else {
            self.check_servable(&record).await?;
        }
        // A failed version may have been repaired since; pointing an alias at it is a reason to look again.
        self.deployer.forgive(&model, version);
        let previous = registry.move_alias(&change, now_ms()).await.map_err(|error| status::of_registry(&error))?;
        self.reconcile().await?;
        let record = self.get(&model, Some(VersionChoice::Number(version))).await?;
        Ok(Response::new(SetAliasResponse {
            version: Some(self.version(&record)),
            previous_version: previous.unwrap_or(0),
        }))
    }

    async fn get_gates(&self, request: Request<GetGatesRequest>) -> Result<Response<GetGatesResponse>, Status> {
        let GetGatesRequest { model, version_choice, judge_again } = request.into_inner();
        let choice = version_choice.map(|choice| match choice {
            get_gates_request::VersionChoice::Version(version) => VersionChoice::Number(version),
            get_gates_request::VersionChoice::Alias(alias) => VersionChoice::Alias(alias),
        });
        let record = self.get(&model, choice).await?;
        self.gates.get(&self.registry, &record, judge_again).await.map(Response::new)
    }

    async fn waive_gate(&self, request: Request<WaiveGateRequest>) -> Result<Response<WaiveGateResponse>, Status> {
        let registry = self.registry.on_behalf_of(&actor(&request));
        self.gates.waive(&registry, request.into_inner()).await.map(Response::new)
    }

    async fn sign_version(
        &self,
        request: Request<SignVersionRequest>,
    ) -> Result<Response<SignVersionResponse>, Status> {
        let registry = self.registry.on_behalf_of(&actor(&request));
        self.gates.sign(&registry, request.into_inner()).await.map(Response::new)
    }

    async fn delete_version(
        &self,
        request: Request<DeleteVersionRequest>,
    ) -> Result<Response<DeleteVersionResponse>, Status> {
        let registry = self.registry.on_behalf_of(&actor(&request));
        let DeleteVersionRequest { model, version } = request.into_inner();
        let mut references =
            crate::rollouts::references(&registry).await.map_err(|error| status::of_registry(&error))?;
        let asked_for = self.deployer.references().await.map_err(|error| status::of_registry(&error))?;
        asked_for.into_iter().for_each(|(of, by)| references.entry(of).or_default().extend(by));
        let deleted = registry.delete_version(&model, version, &references, now_ms()).await;
        let deleted = deleted.map_err(|error| status::of_registry(&error))?;
        let version = self.version(&deleted);
        self.reconcile().await?;
        Ok(Response::new(DeleteVersionResponse { version: Some(version) }))
    }

    async fn pin_version(&self, request: Request<PinVersionRequest>) -> Result<Response<PinVersionResponse>, Status> {
        let registry = self.registry.on_behalf_of(&actor(&request));
        let PinVersionRequest { model, version, reason } = request.into_inner();
        let length = reason.chars().count();
        if length > REASON_MAX_CHARS {
            let description = format!("has {length} characters, expected at most {REASON_MAX_CHARS}");
            return Err(status::invalid("reason", "TOO_LONG", description));
        }
        // Text that no database refuses and no terminal obeys.
        let reason: String = reason.chars().filter(|char| !char.is_control()).collect();
        let changed = registry.pin(&model, version, &reason, now_ms()).await;
        let changed = changed.map_err(|error| status::of_registry(&error))?;
        let record = self.get(&model, Some(VersionChoice::Number(version))).await?;
        Ok(Response::new(PinVersionResponse { version: Some(self.version(&record)), changed }))
    }

    async fn unpin_version(
        &self,
        request: Request<UnpinVersionRequest>,
    ) -> Result<Response<UnpinVersionResponse>, Status> {
        let registry = self.registry.on_behalf_of(&actor(&request));
        let UnpinVersionRequest { model, version } = request.into_inner();
        let changed = registry.unpin(&model, version, now_ms()).await.map_err(|error| status::of_registry(&error))?;
        let record = self.get(&model, Some(VersionChoice::Number(version))).await?;
        Ok(Response::new(UnpinVersionResponse { version: Some(self.version(&record)), changed }))
    }

    async fn get_audit_log(
        &self,
        request: Request<GetAuditLogRequest>,
    ) -> Result<Response<GetAuditLogResponse>, Status> {
        events::rows(&self.registry, request.into_inner()).await.map(Response::new)
    }

    async fn verify_audit_log(
        &self,
        _: Request<VerifyAuditLogRequest>,
    ) -> Result<Response<VerifyAuditLogResponse>, Status> {
        // It reads everything: on the control runtime.
        let registry = Arc::clone(&self.registry);
        let verified = self.control.spawn(async move { registry.verify_audit().await }).await;
        let verified = verified.unwrap_or(Err(ev_registry::RegistryError::ShuttingDown));
        let verified = verified.map_err(|error| status::of_registry(&error))?;
        Ok(Response::new(events::verified(verified)))
    }

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let (registry, draining) = (Arc::clone(&self.registry), self.draining.clone());
        let place = status::place_of_watcher(&self.watchers, events::WATCHERS_MAX)?;
        events::watch(registry, request.into_inner(), place, draining).await.map(Response::new)
    }

    async fn set_version_policy(
        &self,
        request: Request<SetVersionPolicyRequest>,
    ) -> Result<Response<SetVersionPolicyResponse>, Status> {
        let (actor, request) = (actor(&request), request.into_inner());
        let model = request.model.clone();
        let previous = fleet::set_policy(&self.registry, &actor, &self.deployer, request).await?;
        self.reconcile().await?;
        let policy = fleet::policy(&self.registry, &self.deployer, &model).await?.policy;
        let statuses = self.routes.load().models.get(&model).map(|model| model.versions.clone()).unwrap_or_default();
        let mut versions = Vec::new();
        for (version, status) in statuses {
            if status != VersionStatus::Registered {
                versions.push(self.version(&self.get(&model, Some(VersionChoice::Number(version))).await?));
            }
        }
        let previous = previous.as_ref().map(fleet::encode);
        Ok(Response::new(SetVersionPolicyResponse { policy, previous, versions }))
    }

    async fn get_version_policy(
        &self,
        request: Request<GetVersionPolicyRequest>,
    ) -> Result<Response<GetVersionPolicyResponse>, Status> {
        let GetVersionPolicyRequest { model } = request.into_inner();
        fleet::policy(&self.registry, &self.deployer, &model).await.map(Response::new)
    }

    async fn list_replicas(
        &self,
        request: Request<ListReplicasRequest>,
    ) -> Result<Response<ListReplicasResponse>, Status> {
        let ListReplicasRequest { model } = request.into_inner();
        let replicas = fleet::replicas(&self.fleet, &model).await;
        replicas.map(Response::new).map_err(|error| status::of_registry(&error))
    }
}

// === impl RegistryService ===

impl RegistryService {
    async fn get(&self, model: &str, choice: Option<VersionChoice>) -> Result<VersionRecord, Status> {
        let choice = choice.unwrap_or_else(|| VersionChoice::Alias(ev_registry::PRODUCTION.to_owned()));
        self.registry.get(model, &choice).await.map_err(|error| status::of_registry(&error))
    }

    /// Refuses a version that would not serve: an alias that moved to one would take its callers down with it.
    async fn check_servable(&self, record: &VersionRecord) -> Result<(), Status> {
        let loaded = |model: &Arc<ModelRoutes>| model.deployments.contains_key(&record.version);
        if self.routes.load().models.get(&record.model).is_some_and(loaded) {
            return Ok(());
        }
        let rehearsed = self.rehearse(record).await.map(|_| ());
        rehearsed.map_err(|error| status::of_not_loaded(&record.model, record.version, error))
    }

    /// Loads and warms a version on the control runtime without letting it serve, and says what was found.
    async fn rehearse(&self, record: &VersionRecord) -> Result<String, NotLoaded> {
        let (deployer, record) = (Arc::clone(&self.deployer), record.clone());
        let rehearsal = self.control.spawn(async move { deployer.rehearse(&record).await });
        rehearsal.await.unwrap_or_else(|_| Err(NotLoaded::Refused("INTERNAL: loading it panicked".to_owned())))
    }

    /// Makes what is loaded match the registry, on the control runtime and even when the caller goes away.
    async fn reconcile(&self) -> Result<(), Status> {
        let deployer = Arc::clone(&self.deployer);
        let reconciled = self.control.spawn(async move { deployer.reconcile().await });
        match reconciled.await {
            Ok(result) => result.map_err(|error| status::of_registry(&error)),
            Err(_) => Err(status::of_registry(&ev_registry::RegistryError::ShuttingDown)),
        }
    }

    fn version(&self, record: &VersionRecord) -> Version {
        let snapshot = self.routes.load();
        let routes = snapshot.models.get(&record.model);
        let status = routes.and_then(|routes| routes.versions.get(&record.version));
        let (state, state_reason) = match status {
            None | Some(VersionStatus::Registered) => (VersionState::Registered, String::new()),
            Some(VersionStatus::LeftOut(reason)) => (VersionState::Registered, reason.clone()),
            Some(VersionStatus::Loading) => (VersionState::Loading, String::new()),
            Some(VersionStatus::Ready) => (VersionState::Ready, String::new()),
            Some(VersionStatus::Failed(reason)) => (VersionState::Failed, reason.clone()),
        };
        let deployment = routes.and_then(|routes| routes.deployments.get(&record.version));
        Version {
            model: record.model.clone(),
            version: record.version,
            digest: record.digest.to_string(),
            created_at: Some(timestamp(record.created_at_ms)),
            aliases: record.aliases.clone(),
            state: state.into(),
            state_reason,
            task: record.task.clone(),
            backend: record.backend.clone(),
            size_bytes: record.size_bytes,
            license: record.license.clone(),
            description: record.description.clone(),
            runtime_description: deployment.map_or_else(String::new, |deployment| deployment.runtime_description()),
            pinned: record.pinned,
        }
    }
}

/// Milliseconds since 1970 as the wire has them.
pub(super) fn timestamp(millis: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(millis.rem_euclid(1000) * 1_000_000).unwrap_or(0);
    prost_types::Timestamp { seconds: millis.div_euclid(1000), nanos }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
