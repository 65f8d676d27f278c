//! Configuration: defaults, then a file, then the environment, then flags; typed, and checked once.

mod database_url;
mod deploy;
mod features;
mod prediction_log;
mod predictions;
mod registry;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use bytesize::ByteSize;
use ev_alerts::AlertsConfig;
use ev_batching::{ExecutionPolicy, Settings, WorkerPriority};
use ev_images::Limits;
use ev_models_core::manifest::Task;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use database_url::DatabaseUrl;
pub use deploy::DeployConfig;
pub use features::{FeaturesConfig, RedisConfig, RedisUrl};
pub use prediction_log::PredictionLogConfig;
pub use predictions::PredictionsConfig;
pub use registry::{AwsVariables, RegistryConfig, SignaturePolicy};

use crate::{grpc::Origins, pipeline::PictureLimits};

/// The defaults, as text with comments.
pub const DEFAULT_TOML: &str = include_str!("../default.toml");

/// Prefix of environment variables; `__` separates table and key.
const ENV_PREFIX: &str = "EVSERVE_";

/// Most worker threads of a model, and most batches at one time.
const INSTANCE_COUNT_MAX: usize = 256;

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// When vehicles raise alerts, and where these are sent.
    pub alerts: AlertsConfig,
    /// Where data lies.
    pub data: DataConfig,
    /// What is loaded beside what is needed, and how this server tells of it.
    pub deploy: DeployConfig,
    /// What is known of vehicles, and where it is shared.
    pub features: FeaturesConfig,
    /// Predictions that are kept current.
    pub predictions: PredictionsConfig,
    /// The gRPC listener.
    pub grpc: GrpcConfig,
    /// Native libraries of inference engines.
    pub backends: BackendsConfig,
    /// Which models run on worker threads, and how.
    pub batching: BatchingConfig,
    /// The HTTP listener.
    pub http: HttpConfig,
    /// What pictures may take.
    pub images: ImagesConfig,
    /// Who may connect.
    pub security: SecurityConfig,
    /// The model that answers each task.
    pub routes: HashMap<Task, String>,
    /// Where model versions are kept.
    pub registry: RegistryConfig,
    /// How the server ends.
    pub shutdown: ShutdownConfig,
    /// What gateways may send, and how long it is kept.
    pub telemetry: TelemetryConfig,
    /// Logs and traces.
    pub observability: ObservabilityConfig,
}

/// `[data]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Registry database and model files.
    pub directory: PathBuf,
    /// Register the models inside the program.
    pub bundled_models: bool,
}

/// `[grpc]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcConfig {
    /// Listening address.
    pub address: SocketAddr,
    /// Serving threads; 0 for the CPU quota.
    pub serving_cores: usize,
    /// Connections at one time.
    pub connections_max: usize,
    /// Calls in flight on one connection.
    pub streams_per_connection_max: u32,
    /// Largest request.
    pub message_size_max: ByteSize,
    /// Largest request of services that take pictures.
    pub image_message_size_max: ByteSize,
    /// Most bytes of such requests at one time.
    pub image_messages_memory_max: ByteSize,
    /// Largest request of an upload.
    pub upload_message_size_max: ByteSize,
    /// Rows of one batch request.
    pub batch_rows_max: usize,
    /// Request headers of one call.
    pub header_list_size_max: ByteSize,
    /// Origins whose web pages may call over gRPC-Web.
    pub web_allowed_origins: Vec<String>,
    /// When a connection is asked to reconnect.
    #[serde(with = "humantime_serde")]
    pub connection_age_max: Duration,
    /// Probe of silent connections.
    #[serde(with = "humantime_serde")]
    pub keepalive_interval: Duration,
    /// Time to answer a probe.
    #[serde(with = "humantime_serde")]
    pub keepalive_timeout: Duration,
}

/// `[telemetry]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Listening address of gateways.
    pub address: SocketAddr,
    /// Connections of gateways at one time.
    pub connections_max: usize,
    /// Largest message.
    pub message_size_max: ByteSize,
    /// A fleet's own signals; empty for none.
    pub signal_overlay: PathBuf,
    /// Batches a gateway may have on their way.
    pub credit: NonZeroU32,
    /// Most readings of a batch.
    pub batch_readings_max: usize,
    /// Most readings of all gateways that wait to be stored.
    pub queue_readings_max: u32,
    /// Most vehicles.
    pub vehicles_max: u64,
    /// Where readings are kept; empty: in SQLite in the data directory.
    pub database_url: DatabaseUrl,
    /// Connections to that database.
    pub database_connections_max: u32,
    /// How long a start waits for that database.
    #[serde(with = "humantime_serde")]
    pub database_wait: Duration,
    /// How far ahead of the server's clock a reading may be.
    #[serde(with = "humantime_serde")]
    pub future_max: Duration,
    /// How long readings are kept, and how old one may be.
    #[serde(with = "humantime_serde")]
    pub keep_readings: Duration,
    /// How long aggregates of minutes are kept.
    #[serde(with = "humantime_serde")]
    pub keep_minutes: Duration,
    /// How long aggregates of hours are kept; those of days are kept for ever.
    #[serde(with = "humantime_serde")]
    pub keep_hours: Duration,
}

/// `[backends]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendsConfig {
    /// The ONNX Runtime library; empty for the usual places.
    pub onnxruntime: PathBuf,
}

/// `[batching]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchingConfig {
    /// Where models run.
    pub execution: ExecutionMode,
    /// Dearest row that runs inline.
    #[serde(with = "humantime_serde")]
    pub inline_max: Duration,
    /// Batches run at one time, over all models; 0 for the CPU quota.
    pub worker_threads: usize,
    /// When worker threads get a processor that others want too.
    pub worker_priority: WorkerPriorityConfig,
    /// Instances of each queued model; 0 for as many as `worker_threads`.
    pub instance_count: usize,
    /// Most rows of one run.
    pub max_batch_size: usize,
    /// The same of models that take pictures.
    pub max_image_batch_size: usize,
    /// Sizes of batches that are cut at once.
    pub preferred_batch_sizes: Vec<usize>,
    /// Longest wait for company.
    #[serde(with = "humantime_serde")]
    pub max_queue_delay: Duration,
    /// Most rows waiting for one model.
    pub max_queue_size: usize,
    /// Most bytes waiting for one model.
    pub max_queue_bytes: ByteSize,
    /// What is otherwise for a model, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, ModelBatching>,
}

/// `[batching.models.<name>]`: what is not said is as in `[batching]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelBatching {
    /// Where it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionMode>,
    /// Dearest row that runs inline.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub inline_max: Option<Duration>,
    /// When its worker threads get a processor that others want too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_priority: Option<WorkerPriorityConfig>,
    /// Its instances.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_count: Option<usize>,
    /// Most rows of one run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_batch_size: Option<usize>,
    /// Sizes of batches that are cut at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_batch_sizes: Option<Vec<usize>>,
    /// Longest wait for company.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub max_queue_delay: Option<Duration>,
    /// Most rows waiting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queue_size: Option<usize>,
    /// Most bytes waiting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queue_bytes: Option<ByteSize>,
}

/// `[images]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagesConfig {
    /// Size of a file.
    pub bytes_max: ByteSize,
    /// Width times height.
    pub pixels_max: u64,
    /// Width and height.
    pub side_max: u32,
    /// Memory for decoding and resizing one.
    pub memory_max: ByteSize,
    /// CPU time for decoding and resizing one.
    #[serde(with = "humantime_serde")]
    pub decode_time_max: Duration,
}

/// When worker threads get a processor that others want too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerPriorityConfig {
    /// When nobody else wants one.
    Idle,
    /// With a tenth of a usual thread's share.
    Low,
    /// As every other thread.
    Normal,
}

/// Where models run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionMode {
    /// By the measured cost of a row.
    Auto,
    /// On the serving threads, all of them.
    Inline,
    /// On worker threads, all of them.
    Queued,
}

/// `[http]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Listening address.
    pub address: SocketAddr,
}

/// `[security]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityConfig {
    /// Allow addresses beyond loopback without TLS and keys.
    pub allow_insecure_listen: bool,
}

/// `[shutdown]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownConfig {
    /// From "not ready" to telling connections.
    #[serde(with = "humantime_serde")]
    pub pause: Duration,
    /// For calls in flight.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
}

/// `[observability]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservabilityConfig {
    /// Log filter.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// OTLP collector; empty for none.
    pub otlp_endpoint: String,
    /// Share of calls traced.
    pub trace_sample_ratio: f64,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors.
    Json,
}

/// The configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file")]
    Unreadable(#[source] std::io::Error),
    /// Not TOML.
    #[error("`{source_name}` is not TOML: {reason}")]
    Syntax {
        /// File name, or `defaults`.
        source_name: String,
        /// The parser's words.
        reason: String,
    },
    /// An unknown key, or a value of the wrong type.
    #[error("configuration is not valid: {reason}")]
    Invalid {
        /// Key, value, and what was expected.
        reason: String,
    },
}

// === impl Config ===

impl Config {
    /// Defaults, then `file`, then `environment` (names with their prefix), then `overrides` (`grpc.address`, value).
    ///
    /// # Errors
    ///
    /// [`ConfigError`] naming file, key and what was expected.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let mut merged = parse("defaults", DEFAULT_TOML)?;
        let alerts = parse("defaults of alerts", ev_alerts::DEFAULT_TOML)?;
        merged.insert("alerts".to_owned(), Value::Table(alerts));
        if let Some(path) = file {
            let text = fs_err::read_to_string(path).map_err(ConfigError::Unreadable)?;
            merge(&mut merged, parse(&path.display().to_string(), &text)?);
        }
        let environment: Vec<(String, String)> = environment.into_iter().collect();
        for (name, value) in &environment {
            if let Some(key) = name.strip_prefix(ENV_PREFIX)
                && key.contains("__")
            {
                let key = key.to_ascii_lowercase().replace("__", ".");
                set(&mut merged, &key, value).map_err(|reason| invalid(format!("{name}: {reason}")))?;
            }
        }
        for (key, value) in overrides {
            set(&mut merged, &key, &value).map_err(|reason| invalid(format!("{key}: {reason}")))?;
        }
        let mut config: Config =
            merged.try_into().map_err(|error: toml::de::Error| invalid(error.message().to_owned()))?;
        config.registry.aws = AwsVariables::of(environment.iter());
        config.check()?;
        Ok(config)
    }

    /// The effective configuration as TOML, with secrets masked: it is for people, not for another start.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_default()
    }

    fn check(&self) -> Result<(), ConfigError> {
        let ratio = self.observability.trace_sample_ratio;
        if !(0.0..=1.0).contains(&ratio) {
            return Err(invalid(format!("observability.trace_sample_ratio is {ratio}, expected 0 to 1")));
        }
        for (name, value) in [
            ("grpc.connections_max", self.grpc.connections_max),
            ("grpc.batch_rows_max", self.grpc.batch_rows_max),
            ("telemetry.connections_max", self.telemetry.connections_max),
            ("grpc.streams_per_connection_max", self.grpc.streams_per_connection_max as usize),
        ] {
            if !(1..=1_000_000).contains(&value) {
                return Err(invalid(format!("{name} is {value}, expected 1 to 1000000")));
            }
        }
        for (name, value) in [
            ("grpc.message_size_max", self.grpc.message_size_max),
            ("grpc.image_message_size_max", self.grpc.image_message_size_max),
            ("grpc.upload_message_size_max", self.grpc.upload_message_size_max),
            ("grpc.header_list_size_max", self.grpc.header_list_size_max),
            ("telemetry.message_size_max", self.telemetry.message_size_max),
        ] {
            if !(ByteSize::kib(1)..=ByteSize::mib(256)).contains(&value) {
                return Err(invalid(format!("{name} is {value}, expected 1KiB to 256MiB")));
            }
        }
        let least = self.grpc.image_message_size_max;
        if self.grpc.image_messages_memory_max < least {
            let found = self.grpc.image_messages_memory_max;
            return Err(invalid(format!(
                "grpc.image_messages_memory_max is {found}, expected at least grpc.image_message_size_max, {least}"
            )));
        }
        if self.grpc.serving_cores > 1024 {
            return Err(invalid(format!("grpc.serving_cores is {}, expected at most 1024", self.grpc.serving_cores)));
        }
        for (name, value) in [
            ("grpc.connection_age_max", self.grpc.connection_age_max),
            ("grpc.keepalive_interval", self.grpc.keepalive_interval),
            ("grpc.keepalive_timeout", self.grpc.keepalive_timeout),
        ] {
            if value < Duration::from_millis(10) || value > Duration::from_secs(366 * 86_400) {
                return Err(invalid(format!("{name} is {value:?}, expected 10ms to 366days")));
            }
        }
        self.batching.check()?;
        self.images.check()?;
        if let Err(reason) = Origins::parse(&self.grpc.web_allowed_origins) {
            return Err(invalid(format!("grpc.web_allowed_origins {reason}")));
        }
        self.registry.check()?;
        self.deploy.check()?;
        self.telemetry.check()?;
        self.features.check()?;
        self.predictions.check()?;
        self.alerts.check().map_err(|error| invalid(format!("alerts: {error}")))?;
        for (name, address) in [
            ("grpc.address", self.grpc.address),
            ("telemetry.address", self.telemetry.address),
            ("http.address", self.http.address),
        ] {
            if !address.ip().is_loopback() && !self.security.allow_insecure_listen {
                return Err(invalid(format!(
                    "{name} is {address}, which others can reach, and neither TLS nor API keys are configured; \
                     listen on 127.0.0.1, or set security.allow_insecure_listen = true if the network protects it"
                )));
            }
        }
        Ok(())
    }
}

// === impl BatchingConfig ===

impl BatchingConfig {
    /// What holds for the model of this name, whose rows are pictures or not.
    #[must_use]
    pub fn of(&self, model: &str, rows_are_pictures: bool) -> BatchingConfig {
        let mut all = BatchingConfig { models: BTreeMap::new(), ..self.clone() };
        if rows_are_pictures {
            all.max_batch_size = all.max_image_batch_size;
            // What is said for all models may be more than a batch of pictures has.
            all.preferred_batch_sizes.retain(|size| *size <= all.max_image_batch_size);
        }
        let Some(own) = self.models.get(model) else { return all };
        let ModelBatching {
            execution,
            inline_max,
            worker_priority,
            instance_count,
            max_batch_size,
            preferred_batch_sizes,
            max_queue_delay,
            max_queue_size,
            max_queue_bytes,
        } = own.clone();
        all.execution = execution.unwrap_or(all.execution);
        all.inline_max = inline_max.unwrap_or(all.inline_max);
        all.worker_priority = worker_priority.unwrap_or(all.worker_priority);
        all.instance_count = instance_count.unwrap_or(all.instance_count);
        all.max_batch_size = max_batch_size.unwrap_or(all.max_batch_size);
        all.preferred_batch_sizes = preferred_batch_sizes.unwrap_or(all.preferred_batch_sizes);
        all.max_queue_delay = max_queue_delay.unwrap_or(all.max_queue_delay);
        all.max_queue_size = max_queue_size.unwrap_or(all.max_queue_size);
        all.max_queue_bytes = max_queue_bytes.unwrap_or(all.max_queue_bytes);
        all
    }

    /// Where a model runs.
    #[must_use]
    pub fn policy(&self) -> ExecutionPolicy {
        match self.execution {
            ExecutionMode::Auto => ExecutionPolicy::ByCost { inline_max: self.inline_max },
            ExecutionMode::Inline => ExecutionPolicy::Inline,
            ExecutionMode::Queued => ExecutionPolicy::Queued,
        }
    }

    /// The scheduler's settings, where `cores` are the CPUs of the quota.
    #[must_use]
    pub fn settings(&self, cores: usize) -> Settings {
        let or = |configured: usize, otherwise: usize| if configured > 0 { configured } else { otherwise };
        Settings {
            max_batch_size: self.max_batch_size,
            preferred_batch_sizes: self.preferred_batch_sizes.clone(),
            max_queue_delay: self.max_queue_delay,
            max_queue_size: self.max_queue_size,
            max_queue_bytes: usize::try_from(self.max_queue_bytes.as_u64()).unwrap_or(usize::MAX),
            instance_count: or(self.instance_count, self.workers(cores)).min(INSTANCE_COUNT_MAX),
            worker_priority: self.priority(),
        }
    }

    /// When threads get a processor that the serving threads want too: workers, and those that load versions.
    pub(crate) fn priority(&self) -> WorkerPriority {
        match self.worker_priority {
            WorkerPriorityConfig::Idle => WorkerPriority::Idle,
            WorkerPriorityConfig::Low => WorkerPriority::Low,
            WorkerPriorityConfig::Normal => WorkerPriority::Normal,
        }
    }

    /// The same of the threads of the control plane. Somebody waits for what they do, so that they are never the last.
    #[must_use]
    pub fn control_priority(&self) -> WorkerPriority {
        match self.priority() {
            WorkerPriority::Idle | WorkerPriority::Low => WorkerPriority::Low,
            WorkerPriority::Normal => WorkerPriority::Normal,
        }
    }

    /// Batches run at one time, where `cores` are the CPUs of the quota.
    #[must_use]
    pub fn workers(&self, cores: usize) -> usize {
        if self.worker_threads > 0 { self.worker_threads } else { cores.max(1) }
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.check_as("batching")?;
        let (found, max) = (self.max_image_batch_size, self.max_queue_size);
        if !(1..=max).contains(&found) {
            let reason = format!("batching.max_image_batch_size is {found}, expected 1 to max_queue_size, {max}");
            return Err(invalid(reason));
        }
        self.models.keys().try_for_each(|model| self.of(model, false).check_as(&format!("batching.models.{model}")))
    }

    fn check_as(&self, table: &str) -> Result<(), ConfigError> {
        for (name, value) in [("worker_threads", self.worker_threads), ("instance_count", self.instance_count)] {
            if value > INSTANCE_COUNT_MAX {
                return Err(invalid(format!("{table}.{name} is {value}, expected at most {INSTANCE_COUNT_MAX}")));
            }
        }
        self.settings(1).check().map_err(|error| {
            let ev_batching::SettingsError { setting, found, expected } = error;
            invalid(format!("{table}.{setting} is {found}, expected {expected}"))
        })
    }
}

// === impl TelemetryConfig ===

impl TelemetryConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let (credit, readings) = (self.credit.get(), self.batch_readings_max);
        if credit > 65_536 {
            return Err(invalid(format!("telemetry.credit is {credit}, expected 1 to 65536")));
        }
        if !(1..=65_536).contains(&readings) {
            return Err(invalid(format!("telemetry.batch_readings_max is {readings}, expected 1 to 65536")));
        }
        let (found, max) = (self.queue_readings_max, 100_000_000);
        if usize::try_from(found).unwrap_or(usize::MAX) < readings || found > max {
            return Err(invalid(format!(
                "telemetry.queue_readings_max is {found}, expected batch_readings_max, {readings}, to {max}"
            )));
        }
        if !(1..=100_000_000).contains(&self.vehicles_max) {
            let found = self.vehicles_max;
            return Err(invalid(format!("telemetry.vehicles_max is {found}, expected 1 to 100000000")));
        }
        self.check_database()?;
        let years = Duration::from_secs(100 * 366 * 86_400);
        for (name, value, least) in [
            ("future_max", self.future_max, Duration::from_secs(1)),
            ("keep_readings", self.keep_readings, Duration::from_secs(86_400)),
            ("keep_minutes", self.keep_minutes, Duration::from_secs(86_400)),
            ("keep_hours", self.keep_hours, Duration::from_secs(86_400)),
        ] {
            if value < least || value > years {
                return Err(invalid(format!("telemetry.{name} is {value:?}, expected {least:?} to 100 years")));
            }
        }
        Ok(())
    }

    fn check_database(&self) -> Result<(), ConfigError> {
        let (url, connections, wait) = (&self.database_url, self.database_connections_max, self.database_wait);
        let options = ev_telemetry::PostgresOptions::new(url.reveal());
        if !url.is_empty() && (!url.is_postgres() || options.check().is_err()) {
            let expected = "postgres://user:password@host:port/database, or nothing for SQLite in data.directory";
            return Err(invalid(format!("telemetry.database_url is `{url}`, expected {expected}")));
        }
        if !(1..=1_000).contains(&connections) {
            let expected = "expected 1 to 1000";
            return Err(invalid(format!("telemetry.database_connections_max is {connections}, {expected}")));
        }
        if wait > Duration::from_secs(3_600) {
            return Err(invalid(format!("telemetry.database_wait is {wait:?}, expected at most 1h")));
        }
        Ok(())
    }
}

// === impl ImagesConfig ===

impl ImagesConfig {
    /// What one picture may take.
    pub(crate) fn limits(&self) -> PictureLimits {
        let limits = Limits {
            bytes_max: usize::try_from(self.bytes_max.as_u64()).unwrap_or(usize::MAX),
            pixels_max: self.pixels_max,
            side_max: self.side_max,
            memory_max: self.memory_max.as_u64(),
        };
        PictureLimits { limits, decode_time_max: self.decode_time_max }
    }

    fn check(&self) -> Result<(), ConfigError> {
        for (name, value) in [("bytes_max", self.bytes_max), ("memory_max", self.memory_max)] {
            if !(ByteSize::kib(1)..=ByteSize::gib(4)).contains(&value) {
                return Err(invalid(format!("images.{name} is {value}, expected 1KiB to 4GiB")));
            }
        }
        if !(1..=1_000_000_000).contains(&self.pixels_max) {
            return Err(invalid(format!("images.pixels_max is {}, expected 1 to 1000000000", self.pixels_max)));
        }
        if !(1..=1_000_000).contains(&self.side_max) {
            return Err(invalid(format!("images.side_max is {}, expected 1 to 1000000", self.side_max)));
        }
        let most = Duration::from_secs(600);
        if self.decode_time_max.is_zero() || self.decode_time_max > most {
            let found = self.decode_time_max;
            return Err(invalid(format!("images.decode_time_max is {found:?}, expected up to 10min")));
        }
        Ok(())
    }
}

fn invalid(reason: String) -> ConfigError {
    ConfigError::Invalid { reason }
}

fn parse(source_name: &str, text: &str) -> Result<Table, ConfigError> {
    text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
        source_name: source_name.to_owned(),
        reason: error.to_string(),
    })
}

/// Lays `over` on `base`, table by table.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Sets a dotted key to a value written as text, typed as the value it replaces; that of one model as that of all.
fn set(table: &mut Table, key: &str, text: &str) -> Result<(), String> {
    let (section, name) = key.split_once('.').ok_or("has no table, expected such as grpc.address")?;
    let section =
        table.get_mut(section).and_then(Value::as_table_mut).ok_or_else(|| format!("no table `{section}`"))?;
    // Tables in tables, such as `alerts.life`.
    if let Some((inner, _)) = name.split_once('.')
        && section.get(inner).is_some_and(Value::is_table)
        && inner != "models"
    {
        return set(section, name, text);
    }
    let of_model = name.strip_prefix("models.").and_then(|name| name.split_once('.'));
    let value = typed(section.get(of_model.map_or(name, |(_, name)| name)), text)?;
    let Some((model, name)) = of_model else {
        section.insert(name.to_owned(), value);
        return Ok(());
    };
    let tables = section.entry("models").or_insert_with(|| Value::Table(Table::new()));
    let own = tables.as_table_mut().ok_or("`models` is not a table")?.entry(model);
    let own = own.or_insert_with(|| Value::Table(Table::new()));
    own.as_table_mut().ok_or_else(|| format!("`models.{model}` is not a table"))?.insert(name.to_owned(), value);
    Ok(())
}

/// A text as a value of the type that another one has.
fn typed(like: Option<&Value>, text: &str) -> Result<Value, String> {
    Ok(match like {
        Some(Value::Boolean(_)) => Value::Boolean(text.parse().map_err(|_| format!("`{text}` is not true or false"))?),
        Some(Value::Integer(_)) => Value::Integer(text.parse().map_err(|_| format!("`{text}` is not a whole number"))?),
        Some(Value::Float(_)) => Value::Float(text.parse().map_err(|_| format!("`{text}` is not a number"))?),
        Some(Value::Array(_)) => {
            let elements = text.split(',').map(str::trim).filter(|element| !element.is_empty());
            let element = |text: &str| text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Integer);
            Value::Array(elements.map(element).collect())
        }
        _ => Value::String(text.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(overrides: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::load(None, [], overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn the_defaults_are_valid_and_print_what_they_read() {
        let config = load(&[]).expect("defaults");
        let again: Config = toml::from_str(&config.to_toml()).expect("printed");
        assert_eq!(config, again);
    }

    #[test]
    fn later_layers_win() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("evserve.toml");
        fs_err::write(&path, "[grpc]\naddress = \"127.0.0.1:1\"\nbatch_rows_max = 7\n").expect("written");
        let environment = [("EVSERVE_GRPC__BATCH_ROWS_MAX".to_owned(), "8".to_owned())];
        let overrides = [("grpc.address".to_owned(), "127.0.0.1:2".to_owned())];
        let config = Config::load(Some(&path), environment, overrides).expect("valid");
        assert_eq!((config.grpc.batch_rows_max, config.grpc.address.port()), (8, 2));
    }

    #[test]
    fn lists_are_written_with_commas() {
        let origins = |text| load(&[("grpc.web_allowed_origins", text)]).expect("valid").grpc.web_allowed_origins;
        assert_eq!(origins("https://a.example, http://localhost:5173"), ["https://a.example", "http://localhost:5173"]);
        assert!(origins("").is_empty());
        let sizes = load(&[("batching.preferred_batch_sizes", "4, 8")]).expect("valid").batching.preferred_batch_sizes;
        assert_eq!(sizes, [4, 8]);
    }

    #[test]
    fn worker_threads_come_from_the_quota_unless_set() {
        let check = |worker_threads: &str, instance_count: &str, expected: (usize, usize)| {
            let overrides = [("batching.worker_threads", worker_threads), ("batching.instance_count", instance_count)];
            let batching = load(&overrides).expect("valid").batching;
            assert_eq!((batching.workers(3), batching.settings(3).instance_count), expected, "{overrides:?}");
        };
        check("0", "0", (3, 3));
        check("2", "0", (2, 2));
        check("0", "1", (3, 1));
        check("2", "4", (2, 4));
    }

    #[test]
    fn a_model_may_have_settings_of_its_own() {
        let overrides = [
            ("batching.max_batch_size", "4"),
            ("batching.models.photos.max_batch_size", "16"),
            ("batching.models.photos.preferred_batch_sizes", "8,16"),
            ("batching.models.photos.max_queue_delay", "5ms"),
            ("batching.models.photos.execution", "queued"),
        ];
        let config = load(&overrides).expect("valid");
        let batching = &config.batching;
        let photos = batching.of("photos", true).settings(2);
        assert_eq!((photos.max_batch_size, &photos.preferred_batch_sizes[..]), (16, &[8, 16][..]));
        assert_eq!((photos.max_queue_delay, photos.max_queue_size), (Duration::from_millis(5), 128));
        assert_eq!(batching.of("photos", true).policy(), ExecutionPolicy::Queued);
        assert_eq!(batching.of("others", true).settings(2).max_batch_size, 1, "of pictures");
        assert_eq!(batching.of("others", false).settings(2).max_batch_size, 4);
        assert_eq!(batching.of("others", false), BatchingConfig { models: BTreeMap::new(), ..batching.clone() });
        let again: Config = toml::from_str(&config.to_toml()).expect("printed");
        assert_eq!(config, again);
    }

    #[test]
    fn mistakes_are_named() {
        let check = |key: &str, value: &str, expected: &str| {
            let error = load(&[(key, value)]).expect_err(key).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("grpc.adress", "127.0.0.1:1", "unknown field `adress`");
        check("alerts.life.raise_after.low", "soon", "invalid value");
        check("alerts.life.lower_aftr", "1s", "unknown field `lower_aftr`");
        check("alerts.fleet.state_of_charge.margin", "-1", "alerts: ");
        check("telemetry.batch_readings_max", "0", "telemetry.batch_readings_max is 0, expected 1 to 65536");
        check("telemetry.credit", "0", "invalid value");
        check(
            "telemetry.database_url",
            "mysql://ev:secret@host/ev",
            "is `mysql://ev:***@host/ev`, expected postgres://",
        );
        check("telemetry.database_url", "postgres://ev:secret@host:port/ev", "is `postgres://ev:***@host:port/ev`");
        check("telemetry.database_connections_max", "0", "is 0, expected 1 to 1000");
        check("telemetry.database_wait", "2h", "telemetry.database_wait is 7200s, expected at most 1h");
        check(
            "registry.database_url",
            "mysql://ev:secret@host/ev",
            "is `mysql://ev:***@host/ev`, expected postgres://",
        );
        check("registry.artifacts_url", "https://a", "registry.artifacts_url is `https://a`, expected s3://bucket or");
        check("registry.artifacts_url", "s3://key:secret@b", "is `s3://key:***@b`, expected s3://bucket or");
        check("registry.artifacts_cache_max", "1GiB", "artifacts_cache_max is 1.0 GiB, expected at least 2.0 GiB");
        check("registry.database_connections_max", "1", "is 1, expected 2 to 1000");
        check("registry.database_wait", "2h", "registry.database_wait is 7200s, expected at most 1h");
        check("registry.keep_unnamed_files", "1m", "registry.keep_unnamed_files is 60s, expected 1h");
        check("telemetry.keep_readings", "1h", "telemetry.keep_readings is 3600s, expected 86400s");
        check("features.memory_max", "1KiB", "features.memory_max is 1.0 KiB, expected 1MiB to 1TiB");
        check("features.vehicles_max", "0", "features.vehicles_max is 0, expected 1 to 100000000");
        check("predictions.renew_interval", "1ms", "predictions.renew_interval is 1ms, expected 100ms to 1day");
        check("predictions.log.share", "1.5", "predictions.log.share is 1.5, expected 0 to 1");
        let expected = "predictions.log.rows_per_second_max is 1, expected 10 to 1000000";
        check("predictions.log.rows_per_second_max", "1", expected);
        check("predictions.log.queue_rows_max", "0", "predictions.log.queue_rows_max is 0, expected 1 to 1000000");
        check("predictions.log.keep_files", "1s", "predictions.log.keep_files is 1s, expected 60s to 100 years");
        check("predictions.log.file_size_max", "1KiB", "expected 64KiB to 4GiB");
        let expected = "predictions.alert_probability_min is 1.5, expected 0 to 1";
        check("predictions.alert_probability_min", "1.5", expected);
        check("features.lateness", "2days", "features.lateness is 172800s, expected at most a day");
        check("features.replay", "2days", "features.replay is 172800s, expected at most a day");
        check("features.redis.url", "redis://a", "unknown field `url`");
        check("features.redis.urls", "redis://a,redis://b", "features.redis.urls needs one URL, or with `cluster`");
        check("features.redis.urls", "http://a", "features.redis.urls cannot be used, number 1: ");
        check("grpc.address", "localhost", "invalid socket address");
        check("grpc.batch_rows_max", "many", "`many` is not a whole number");
        check("grpc.batch_rows_max", "0", "grpc.batch_rows_max is 0, expected 1 to 1000000");
        check("grpc.message_size_max", "1TiB", "expected 1KiB to 256MiB");
        check("shutdown.grace", "soon", "invalid value");
        check("grpc.web_allowed_origins", "https://a.example,b.example", "has `b.example`, expected such as https://");
        check("grpc.address", "0.0.0.0:50051", "security.allow_insecure_listen");
        check("batching.execution", "fast", "unknown variant `fast`, expected one of `auto`, `inline`, `queued`");
        check("batching.max_batch_size", "0", "batching.max_batch_size is 0, expected 1..=65536");
        check("batching.max_queue_size", "7", "batching.max_queue_size is 7, expected 8..=65536");
        check("batching.preferred_batch_sizes", "4,9", "batching.preferred_batch_sizes is 9, expected 1..=8");
        check("batching.max_image_batch_size", "129", "max_image_batch_size is 129, expected 1 to max_queue_size, 128");
        check("batching.instance_count", "257", "batching.instance_count is 257, expected at most 256");
        check("batching.worker_priority", "high", "unknown variant `high`, expected one of `idle`, `low`, `normal`");
        check("batching.models.a.max_batch_size", "0", "batching.models.a.max_batch_size is 0, expected 1..=65536");
        check("batching.models.a.max_queue_size", "7", "batching.models.a.max_queue_size is 7, expected 8..=65536");
        check("batching.models.a.worker_threads", "7", "unknown field `worker_threads`");
        check("grpc.image_messages_memory_max", "1MiB", "expected at least grpc.image_message_size_max, 16.0 MiB");
        check("images.bytes_max", "5GiB", "expected 1KiB to 4GiB");
        check("images.decode_time_max", "0s", "images.decode_time_max is 0ns, expected up to 10min");
        check("deploy.policy_versions_max", "0", "deploy.policy_versions_max is 0, expected 1 to 10000");
        check("deploy.report_interval", "1ms", "deploy.report_interval is 1ms, expected 100ms to 1h");
        check("deploy.forget_replicas", "20s", "deploy.forget_replicas is 20s, expected at least three times");
        check("deploy.serve.ev-range", "latest:0", "is `latest:0`, expected `aliases`, `all`, `latest:N`");
        check("registry.signatures", "maybe", "unknown variant `maybe`, expected one of `off`, `warn`, `require`");
        check("nothing", "1", "has no table");
        check("no.thing", "1", "no table `no`");
    }
}
