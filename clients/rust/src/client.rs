//! The connection and how calls go over it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    BatteryHealth, ChargingUtilization, Config, Error, FeatureStore, Health, ModelRegistry, OpenInference, Outcomes,
    RangePrediction, RetryPolicy, Rollouts, TelemetryIngest, TelemetryQuery, ThermalRisk, VehicleVision,
};

/// How much earlier than ours a server's clock may end a call whose deadline it was told.
const LATE: Duration = Duration::from_millis(5);

/// Says who calls.
const ACTOR: &str = "x-evserve-actor";

/// A connection to a server; cheap to clone, and clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    endpoint: Arc<str>,
    config: Arc<Config>,
}

/// What a ping found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// From request to answer.
    pub round_trip: Duration,
    /// The server's clock, to the second, if it sent it.
    pub server_time: Option<SystemTime>,
}

/// How often a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// As the retry policy says: a repetition changes nothing.
    Idempotent,
    /// Once.
    Once,
}

// === impl Client ===

impl Client {
    /// Connects with the default bounds. The scheme may be left out: `127.0.0.1:50051`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidEndpoint`] and [`Error::Unreachable`].
    pub async fn connect(endpoint: impl AsRef<str>) -> Result<Client, Error> {
        Client::connect_with(endpoint, Config::default()).await
    }

    /// Connects with bounds of your own.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidEndpoint`] and [`Error::Unreachable`].
    pub async fn connect_with(endpoint: impl AsRef<str>, config: Config) -> Result<Client, Error> {
        let transport = transport(endpoint.as_ref(), &config)?;
        let endpoint = endpoint.as_ref();
        let channel = transport
            .connect()
            .await
            .map_err(|source| Error::Unreachable { endpoint: endpoint.to_owned(), source: Box::new(source) })?;
        Ok(Client { channel, endpoint: endpoint.into(), config: Arc::new(config) })
    }

    /// Connects at the first call, and again whenever the connection is lost. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidEndpoint`].
    pub fn lazy(endpoint: impl AsRef<str>, config: Config) -> Result<Client, Error> {
        let channel = transport(endpoint.as_ref(), &config)?.connect_lazy();
        Ok(Client { channel, endpoint: endpoint.as_ref().into(), config: Arc::new(config) })
    }

    /// The same connection with another deadline for unary calls.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Client {
        self.with_config(Config { deadline, ..Config::clone(&self.config) })
    }

    /// The same connection with another retry policy.
    #[must_use]
    pub fn with_retry(&self, retry: RetryPolicy) -> Client {
        self.with_config(Config { retry, ..Config::clone(&self.config) })
    }

    /// How far does this car go?
    #[must_use]
    pub fn range(&self) -> RangePrediction {
        RangePrediction::new(self.clone())
    }

    /// How many charging sessions a day will this station see?
    #[must_use]
    pub fn utilization(&self) -> ChargingUtilization {
        ChargingUtilization::new(self.clone())
    }

    /// How healthy is this battery, and how long does it last?
    #[must_use]
    pub fn battery(&self) -> BatteryHealth {
        BatteryHealth::new(self.clone())
    }

    /// Is this pack heading for thermal runaway?
    #[must_use]
    pub fn thermal(&self) -> ThermalRisk {
        ThermalRisk::new(self.clone())
    }

    /// Which vehicle is on this photo?
    #[must_use]
    pub fn vision(&self) -> VehicleVision {
        VehicleVision::new(self.clone())
    }

    /// What was taken in from vehicles.
    #[must_use]
    pub fn telemetry(&self) -> TelemetryQuery {
        TelemetryQuery::new(self.clone())
    }

    /// What is known of vehicles now.
    #[must_use]
    pub fn features(&self) -> FeatureStore {
        FeatureStore::new(self.clone())
    }

    /// What came of predictions, and how right they were.
    #[must_use]
    pub fn outcomes(&self) -> Outcomes {
        Outcomes::new(self.clone())
    }

    /// Takes in readings, where this is a connection to the ingest address; a [`crate::Gateway`] has its own.
    #[must_use]
    pub fn ingest(&self) -> TelemetryIngest {
        TelemetryIngest::new(self.clone())
    }

    /// The model registry.
    #[must_use]
    pub fn registry(&self) -> ModelRegistry {
        ModelRegistry::new(self.clone())
    }

    /// New versions' ways to production.
    #[must_use]
    pub fn rollouts(&self) -> Rollouts {
        Rollouts::new(self.clone())
    }

    /// The Open Inference Protocol: any model by tensors.
    #[must_use]
    pub fn open_inference(&self) -> OpenInference {
        OpenInference::new(self.clone())
    }

    /// Health of the server's services.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::new(self.clone())
    }

    /// Sends the least request there is, and says how long the answer took and what time the server has.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`], [`Error::Call`].
    pub async fn ping(&self) -> Result<Ping, Error> {
        let begin = Instant::now();
        let metadata = self.health().check_for_metadata().await?;
        let round_trip = begin.elapsed();
        let date = metadata.get("date").and_then(|date| date.to_str().ok());
        Ok(Ping { round_trip, server_time: date.and_then(|date| httpdate::parse_http_date(date).ok()) })
    }

    /// Where it is connected, as it was given.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// A request that says who calls.
    pub(crate) fn request<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        if let Some(actor) = self.config.actor() {
            request.metadata_mut().insert(ACTOR, actor);
        }
        request
    }

    pub(crate) fn error(&self, status: Status) -> Error {
        Error::of_status(&self.endpoint, status)
    }

    /// Makes a unary call under the deadline, again where that is harmless and promising.
    pub(crate) async fn unary<Q, A, F>(
        &self,
        repeat: Repeat,
        request: Q,
        send: impl Fn(Request<Q>) -> F,
    ) -> Result<A, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let deadline = self.config.deadline;
        let end = Instant::now() + deadline;
        let mut attempt = 1;
        loop {
            let result = self.attempt(request.clone(), end, &send).await.unwrap_or(Err(Error::deadline(deadline)));
            let error = match result {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let delay = match repeat {
                Repeat::Idempotent => self.config.retry.delay(attempt, &error),
                Repeat::Once => None,
            };
            match delay {
                Some(delay) if Instant::now() + delay < end => tokio::time::sleep(delay).await,
                _ => return Err(error),
            }
            attempt += 1;
        }
    }

    /// One attempt; `None` when the deadline passed.
    async fn attempt<Q, A, F>(
        &self,
        request: Q,
        end: Instant,
        send: impl Fn(Request<Q>) -> F,
    ) -> Option<Result<A, Error>>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut request = self.request(request);
        request.set_timeout(end.saturating_duration_since(Instant::now()));
        let result = tokio::time::timeout_at(end, send(request)).await.ok()?;
        // The server's clock and ours race for the same deadline; some servers call what they end then cancelled.
        let is_late = Instant::now() + LATE >= end;
        if is_late && result.as_ref().is_err_and(|status| status.code() == Code::Cancelled) {
            return None;
        }
        Some(result.map(Response::into_inner).map_err(|status| self.error(status)))
    }

    fn with_config(&self, config: Config) -> Client {
        Client { config: Arc::new(config), ..self.clone() }
    }
}

fn transport(endpoint: &str, config: &Config) -> Result<Endpoint, Error> {
    let invalid = |source: Box<dyn std::error::Error + Send + Sync>| Error::InvalidEndpoint {
        endpoint: endpoint.to_owned(),
        source,
    };
    let uri = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
    let uri: http::Uri = uri.parse().map_err(|error| invalid(Box::new(error)))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(invalid("TLS is not part of this build".into())),
        _ => return Err(invalid("the scheme must be http".into())),
    }
    Ok(Endpoint::from(uri)
        .user_agent(config.full_user_agent())
        .map_err(|error| invalid(Box::new(error)))?
        .connect_timeout(config.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(config.keepalive_interval)
        .keep_alive_timeout(config.keepalive_timeout)
        .keep_alive_while_idle(true))
}
