//! The model registry.

use std::{path::Path, sync::Arc};

use ev_proto::ev::registry::v1::{
    CompareVersionsRequest, CompareVersionsResponse, DeleteVersionRequest, DeleteVersionResponse, GetAuditLogRequest,
    GetAuditLogResponse, GetGatesRequest, GetGatesResponse, GetVersionPolicyRequest, GetVersionPolicyResponse,
    GetVersionRequest, GetVersionResponse, ListModelsRequest, ListReplicasRequest, ListVersionsRequest, Model,
    PinVersionRequest, PinVersionResponse, RegisterVersionResponse, Replica, SetAliasRequest, SetAliasResponse,
    SetVersionPolicyRequest, SetVersionPolicyResponse, SignVersionRequest, SignVersionResponse, UnpinVersionRequest,
    UnpinVersionResponse, VerifyAuditLogRequest, VerifyAuditLogResponse, VerifyVersionRequest, VerifyVersionResponse,
    Version, VersionPolicy, WaiveGateRequest, WaiveGateResponse, WatchEventsRequest, WatchEventsResponse,
    model_registry_client::ModelRegistryClient,
};
use tokio::{sync::oneshot, time::Instant};
use tonic::{Code, transport::Channel};

use crate::{
    Client, Error, Replies, UploadEvent, VersionRef,
    client::Repeat,
    patience::{Cut, Patience},
    upload::{Listener, Rest, Upload},
};

const PAGE_SIZE: u32 = 1000;

/// The model registry.
#[derive(Debug, Clone)]
pub struct ModelRegistry {
    client: Client,
    inner: ModelRegistryClient<Channel>,
}

// === impl ModelRegistry ===

impl ModelRegistry {
    pub(crate) fn new(client: Client) -> ModelRegistry {
        let size = client.config().message_size_max_bytes;
        let inner =
            ModelRegistryClient::new(client.channel()).max_decoding_message_size(size).max_encoding_message_size(size);
        ModelRegistry { client, inner }
    }

    /// All models, by name.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`], [`Error::Call`].
    pub async fn list_models(&self) -> Result<Vec<Model>, Error> {
        let mut models = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListModelsRequest { page_size: PAGE_SIZE, page_token };
            let page = self
                .client
                .unary(Repeat::Idempotent, request, |request| {
                    let mut inner = self.inner.clone();
                    async move { inner.list_models(request).await }
                })
                .await?;
            models.extend(page.models);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(models);
            }
        }
    }

    /// All versions of a model, newest first.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND` for an unknown model, [`Error::Unreachable`].
    pub async fn list_versions(&self, model: &str) -> Result<Vec<Version>, Error> {
        let mut versions = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListVersionsRequest { model: model.to_owned(), page_size: PAGE_SIZE, page_token };
            let page = self
                .client
                .unary(Repeat::Idempotent, request, |request| {
                    let mut inner = self.inner.clone();
                    async move { inner.list_versions(request).await }
                })
                .await?;
            versions.extend(page.versions);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(versions);
            }
        }
    }

    /// One version with its manifest.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND` for an unknown model, version or alias, [`Error::Unreachable`].
    pub async fn get_version(&self, version: VersionRef) -> Result<GetVersionResponse, Error> {
        self.client
            .unary(Repeat::Idempotent, GetVersionRequest::from(version), |request| {
                let mut inner = self.inner.clone();
                async move { inner.get_version(request).await }
            })
            .await
    }

    /// Has the server read every file of a version again, compare digests and run its golden requests.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND` for an unknown model, version or alias, [`Error::Unreachable`].
    pub async fn verify_version(&self, version: VersionRef) -> Result<VerifyVersionResponse, Error> {
        self.client
            .with_deadline(self.client.config().upload_deadline)
            .unary(Repeat::Idempotent, VerifyVersionRequest::from(version), |request| {
                let mut inner = self.inner.clone();
                async move { inner.verify_version(request).await }
            })
            .await
    }

    /// Which versions of a model are loaded beside those that its aliases and rollouts need.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND` for an unknown model, [`Error::Unreachable`].
    pub async fn version_policy(&self, model: &str) -> Result<GetVersionPolicyResponse, Error> {
        let request = GetVersionPolicyRequest { model: model.to_owned() };
        self.client
            .unary(Repeat::Idempotent, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.get_version_policy(request).await }
            })
            .await
    }

    /// Says which versions of a model are loaded beside those that its aliases and rollouts need; none: what the servers'
    /// configuration says. Returns when the server that was asked has loaded them, or has found that it cannot.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND` for an unknown model or version, [`Error::Unreachable`].
    pub async fn set_version_policy(
        &self,
        model: &str,
        policy: Option<VersionPolicy>,
    ) -> Result<SetVersionPolicyResponse, Error> {
        let request = SetVersionPolicyRequest { model: model.to_owned(), policy };
        self.client
            .with_deadline(self.client.config().upload_deadline)
            .unary(Repeat::Idempotent, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.set_version_policy(request).await }
            })
            .await
    }

    /// The servers that share the registry, with what each really serves of a model, or of all where its name is empty.
    ///
    /// # Errors
    ///
    /// [`Error::Call`], [`Error::Unreachable`].
    pub async fn list_replicas(&self, model: &str) -> Result<Vec<Replica>, Error> {
        let request = ListReplicasRequest { model: model.to_owned() };
        let response = self.client.unary(Repeat::Idempotent, request, |request| {
            let mut inner = self.inner.clone();
            async move { inner.list_replicas(request).await }
        });
        Ok(response.await?.replicas)
    }

    /// Points an alias at a version. With `expected`, only if it points there now; 0 when it must not exist yet.
    /// Made once: a repetition could undo someone else's move.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `ABORTED` when it points elsewhere, `NOT_FOUND` for an unknown model or version,
    /// `FAILED_PRECONDITION` when the version cannot serve, or with the reason `GATE_FAILED` when `production` may not point
    /// at it; [`Error::Unreachable`].
    pub async fn set_alias(
        &self,
        model: &str,
        alias: &str,
        version: u32,
        expected: Option<u32>,
    ) -> Result<SetAliasResponse, Error> {
        let request =
            SetAliasRequest { model: model.to_owned(), alias: alias.to_owned(), version, expected_version: expected };
        // The version is loaded, and held against the gates where it shall be in production.
        self.client
            .with_deadline(self.client.config().upload_deadline)
            .unary(Repeat::Once, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.set_alias(request).await }
            })
            .await
    }

    /// Deletes a version that neither an alias nor a pin refers to.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `FAILED_PRECONDITION` naming what refers to it, `NOT_FOUND` for an unknown model or version;
    /// [`Error::Unreachable`].
    pub async fn delete_version(&self, model: &str, version: u32) -> Result<DeleteVersionResponse, Error> {
        let request = DeleteVersionRequest { model: model.to_owned(), version };
        self.client
            .unary(Repeat::Once, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.delete_version(request).await }
            })
            .await
    }

    /// Keeps a version from being deleted, for a reason that the audit log tells.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND` for an unknown model or version, [`Error::Unreachable`].
    pub async fn pin_version(&self, model: &str, version: u32, reason: &str) -> Result<PinVersionResponse, Error> {
        let request = PinVersionRequest { model: model.to_owned(), version, reason: reason.to_owned() };
        self.client
            .unary(Repeat::Idempotent, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.pin_version(request).await }
            })
            .await
    }

    /// Takes a version's pin off.
    ///
    /// # Errors
    ///
    /// As [`ModelRegistry::pin_version`].
    pub async fn unpin_version(&self, model: &str, version: u32) -> Result<UnpinVersionResponse, Error> {
        let request = UnpinVersionRequest { model: model.to_owned(), version };
        self.client
            .unary(Repeat::Idempotent, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.unpin_version(request).await }
            })
            .await
    }

    /// A page of the audit log, newest first, or what each alias of a model pointed at at some time.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND` for an unknown model, [`Error::Unreachable`].
    pub async fn audit_log(&self, request: GetAuditLogRequest) -> Result<GetAuditLogResponse, Error> {
        self.client
            .unary(Repeat::Idempotent, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.get_audit_log(request).await }
            })
            .await
    }

    /// What is changed, as it is changed, for as long as the answer is held: rows of the audit log after one, or from now
    /// on; of one model, or of all where `model` is empty. Who comes again with the `sequence` it saw last misses nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] when the request is refused, [`Error::Unreachable`]; later errors come from the replies.
    pub async fn watch_events(&self, after: Option<u64>, model: &str) -> Result<Replies<WatchEventsResponse>, Error> {
        let request = WatchEventsRequest { after_sequence: after, model: model.to_owned() };
        let mut inner = self.inner.clone();
        let response = inner.watch_events(self.client.request(request)).await;
        let response = response.map_err(|status| self.client.error(status))?;
        Ok(Replies::new(self.client.clone(), response.into_inner()))
    }

    /// Has the server ask two versions the golden requests of both, at most `requests_max` of each (1 to 500; 0: 200).
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND` for an unknown model, version or alias, `FAILED_PRECONDITION` where a version does
    /// not load or their answers have no difference; [`Error::Unreachable`].
    pub async fn compare_versions(
        &self,
        left: VersionRef,
        right: VersionRef,
        requests_max: u32,
    ) -> Result<CompareVersionsResponse, Error> {
        let request = CompareVersionsRequest { left: Some(left.into()), right: Some(right.into()), requests_max };
        self.client
            .with_deadline(self.client.config().upload_deadline)
            .unary(Repeat::Once, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.compare_versions(request).await }
            })
            .await
    }

    /// Has the server read the whole audit log again.
    ///
    /// # Errors
    ///
    /// [`Error::Call`], [`Error::Unreachable`].
    pub async fn verify_audit_log(&self) -> Result<VerifyAuditLogResponse, Error> {
        self.client
            .with_deadline(self.client.config().upload_deadline)
            .unary(Repeat::Idempotent, VerifyAuditLogRequest {}, |request| {
                let mut inner = self.inner.clone();
                async move { inner.verify_audit_log(request).await }
            })
            .await
    }

    /// How a version stands with the promotion gates, and how it is signed. With `judge_again` it is judged now; without,
    /// that is done only where it has not been.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND` for an unknown model, version or alias, [`Error::Unreachable`].
    pub async fn gates(&self, version: VersionRef, judge_again: bool) -> Result<GetGatesResponse, Error> {
        let request = GetGatesRequest { judge_again, ..GetGatesRequest::from(version) };
        self.client
            .with_deadline(self.client.config().upload_deadline)
            .unary(Repeat::Idempotent, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.get_gates(request).await }
            })
            .await
    }

    /// Waives a promotion gate for a version. The reason is for those who ask later.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `INVALID_ARGUMENT` for a gate that does not exist or cannot be waived and for a reason that is
    /// empty or too long, `NOT_FOUND` for an unknown model or version; [`Error::Unreachable`].
    pub async fn waive_gate(
        &self,
        model: &str,
        version: u32,
        gate: &str,
        reason: &str,
    ) -> Result<WaiveGateResponse, Error> {
        let (model, gate, reason) = (model.to_owned(), gate.to_owned(), reason.to_owned());
        self.client
            .unary(Repeat::Once, WaiveGateRequest { model, version, gate, reason }, |request| {
                let mut inner = self.inner.clone();
                async move { inner.waive_gate(request).await }
            })
            .await
    }

    /// Keeps an Ed25519 signature of a version: 32 bytes of the public key, 64 of the signature.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `INVALID_ARGUMENT` for a signature that this key has not made of this version, `NOT_FOUND` for
    /// an unknown model or version; [`Error::Unreachable`].
    pub async fn sign_version(
        &self,
        model: &str,
        version: u32,
        public_key: &[u8],
        signature: &[u8],
    ) -> Result<SignVersionResponse, Error> {
        let (model, public_key, signature) = (model.to_owned(), public_key.to_vec(), signature.to_vec());
        self.client
            .unary(Repeat::Once, SignVersionRequest { model, version, public_key, signature }, |request| {
                let mut inner = self.inner.clone();
                async move { inner.sign_version(request).await }
            })
            .await
    }

    /// Registers the version in a directory: its `manifest.toml`, every file that names, and `README.md` if there is one.
    ///
    /// Files that the server has are not sent. Where the upload is cut off it goes on by itself, as long as bytes get
    /// through now and then: see [`crate::Config::upload_patience`]. `listener` is told what happens.
    ///
    /// # Errors
    ///
    /// [`Error::Upload`] when a file cannot be read, [`Error::Call`] when the version is refused, [`Error::Unreachable`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the upload; the server keeps what has come for a while, and the next call goes on with it.
    pub async fn register_directory(
        &self,
        directory: impl AsRef<Path>,
        listener: impl FnMut(UploadEvent<'_>) + Send + 'static,
    ) -> Result<RegisterVersionResponse, Error> {
        self.register(Upload::open(directory.as_ref()).await?, Listener::new(listener)).await
    }

    /// Registers files of a directory under a manifest that is not among them: every file it names, and `README.md` if
    /// there is one. Nothing is written to the directory. Otherwise as [`ModelRegistry::register_directory`].
    ///
    /// # Errors
    ///
    /// As [`ModelRegistry::register_directory`].
    ///
    /// # Cancel safety
    ///
    /// As [`ModelRegistry::register_directory`].
    pub async fn register_files(
        &self,
        directory: impl AsRef<Path>,
        manifest_toml: String,
        listener: impl FnMut(UploadEvent<'_>) + Send + 'static,
    ) -> Result<RegisterVersionResponse, Error> {
        self.register(Upload::with_manifest(directory.as_ref(), manifest_toml).await?, Listener::new(listener)).await
    }

    async fn register(&self, upload: Upload, listener: Listener) -> Result<RegisterVersionResponse, Error> {
        let config = self.client.config();
        let end = Instant::now() + config.upload_deadline;
        let upload = Arc::new(upload);
        let mut patience = Patience::new(config.upload_patience);
        loop {
            let (error, received) = match self.received(&upload, end).await {
                Ok(rest) => {
                    let received_bytes = rest.received_bytes();
                    patience.saw(received_bytes);
                    if received_bytes > 0 {
                        listener.tell(UploadEvent::Resumed { received_bytes, total_bytes: upload.total_bytes() });
                    }
                    match self.send(&upload, rest, &listener, end).await {
                        Ok(response) => return Ok(response),
                        Err(cut) => (cut, received_bytes),
                    }
                }
                Err(cut) => (cut, 0),
            };
            let Cut { error, passing } = error;
            let delay = match patience.delay(&error, passing, received, &config.retry) {
                Some(delay) if Instant::now() + delay < end => delay,
                _ => return Err(error),
            };
            listener.tell(UploadEvent::Interrupted { error: &error, delay });
            tokio::time::sleep(delay).await;
        }
    }

    /// How much of an upload the server has.
    async fn received(&self, upload: &Upload, end: Instant) -> Result<Rest, Cut> {
        let deadline = end.saturating_duration_since(Instant::now()).min(self.client.config().deadline);
        let client = self.client.with_deadline(deadline);
        let asked = client.unary(Repeat::Once, upload.question(), |request| {
            let mut inner = self.inner.clone();
            async move { inner.get_upload(request).await }
        });
        match asked.await {
            Ok(answer) => Ok(Rest::After(answer.files.iter().map(|file| file.received_bytes).collect())),
            // A server from before uploads could be gone on with.
            Err(error) if error.code() == Some(Code::Unimplemented) => Ok(Rest::All),
            Err(error) => {
                let passing =
                    matches!(error, Error::Unreachable { .. }) || error.code() == Some(Code::DeadlineExceeded);
                Err(Cut { error, passing })
            }
        }
    }

    async fn send(
        &self,
        upload: &Arc<Upload>,
        rest: Rest,
        listener: &Listener,
        end: Instant,
    ) -> Result<RegisterVersionResponse, Cut> {
        let resumable = matches!(rest, Rest::After(_));
        let deadline = end.saturating_duration_since(Instant::now());
        let (failed, failure) = oneshot::channel();
        let mut request = self.client.request(upload.stream(rest, listener.clone(), failed));
        request.set_timeout(deadline);
        let mut inner = self.inner.clone();
        let call = tokio::time::timeout_at(end, inner.register_version(request));
        tokio::select! {
            // A file that could not be read: the call is dropped, so that the server never takes a part for the whole.
            Ok(error) = failure => Err(Cut { error: Error::Upload(error), passing: false }),
            result = call => match result {
                Ok(Ok(response)) => Ok(response.into_inner()),
                Ok(Err(status)) => {
                    // What the server says has no source; what the connection's end makes up has.
                    let passing = resumable && std::error::Error::source(&status).is_some();
                    Err(Cut { error: self.client.error(status), passing })
                }
                Err(_) => Err(Cut { error: Error::deadline(self.client.config().upload_deadline), passing: false }),
            },
        }
    }
}
