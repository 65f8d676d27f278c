//! The registry of the process: opened as configured, followed, and kept tidy.

mod follow;
mod tidy;
mod uploads;

use std::time::{Duration, Instant};

use ev_registry::{Registry, RegistryError, VersionRecord};

pub(crate) use follow::follow;
pub(crate) use tidy::keep_tidy;
pub(crate) use uploads::count_uploads;

use crate::{
    Config, bundled,
    config::{DatabaseUrl, RegistryConfig},
    deploy::Deployer,
    grpc::now_ms,
};

/// Between two attempts to load what the registry asks for, while its database is away.
const PAUSE: Duration = Duration::from_millis(500);

/// The registry cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryStartError {
    /// Its directory, or the database in it.
    #[error("cannot open the model registry in `{directory}`")]
    Directory {
        /// `data.directory`.
        directory: String,
        /// Why.
        #[source]
        source: Box<RegistryError>,
    },
    /// The artifact store refused, or did not answer when there was something to put into it.
    #[error(
        "the artifact store {url} cannot be used: correct `registry.artifacts_url`, or the AWS_* variables of the \
         environment"
    )]
    Artifacts {
        /// `registry.artifacts_url`.
        url: String,
        /// Why.
        #[source]
        source: Box<RegistryError>,
    },
    /// The database did not answer in time.
    #[error(
        "the registry's database {url} did not answer for {waited:?}: start it, correct `registry.database_url`, or \
         allow more time with `registry.database_wait`"
    )]
    DatabaseUnreachable {
        /// `registry.database_url`, without its password.
        url: DatabaseUrl,
        /// `registry.database_wait`.
        waited: std::time::Duration,
        /// Why.
        #[source]
        source: Box<RegistryError>,
    },
    /// The database refused, or holds what no evserve wrote.
    #[error(
        "the registry's database {url} cannot be used: check user, password and database in `registry.database_url`"
    )]
    Database {
        /// `registry.database_url`, without its password.
        url: DatabaseUrl,
        /// Why.
        #[source]
        source: Box<RegistryError>,
    },
}

/// Opens what the configuration names, and registers the bundled models, whose versions come with it.
pub(crate) async fn open(config: &Config) -> Result<(Registry, Vec<VersionRecord>), RegistryStartError> {
    let place = ev_registry::RegistryConfig {
        database: config.registry.database(),
        artifacts: config.registry.artifacts(),
        staged: config.registry.staged(),
        ..ev_registry::RegistryConfig::new(config.data.directory.join("registry"))
    };
    // By a thread of the control plane: those of SQLite get the priority of the one that starts them.
    let opened = tokio::spawn(async move { Registry::open(&place).await }).await;
    let opened = opened.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
    let registry = opened.map_err(|source| start_error(config, source))?;
    if !config.registry.database_url.is_empty() {
        tracing::info!(database = %config.registry.database_url, "the registry is kept in PostgreSQL");
    }
    if !config.registry.artifacts_url.is_empty() {
        tracing::info!(url = config.registry.artifacts_url, "model files are kept in an object store");
    }
    if !config.data.bundled_models {
        return Ok((registry, Vec::new()));
    }
    let imported = bundled::register(&registry, now_ms()).await.map_err(|source| start_error(config, source))?;
    let created = imported.iter().filter(|version| version.created).count();
    if created > 0 {
        tracing::info!(created, "bundled models registered");
    }
    Ok((registry, imported.into_iter().map(|version| version.version).collect()))
}

/// Loads what the registry asks for. A database that goes away meanwhile is waited for, as one that is away before.
pub(crate) async fn load(deployer: &Deployer, wait: Duration) -> Result<(), RegistryError> {
    let until = Instant::now() + wait;
    loop {
        match deployer.reconcile().await {
            Err(error @ RegistryError::Unreachable { .. }) if Instant::now() < until => {
                tracing::warn!(error = &error as &dyn std::error::Error, "waiting for the registry's database");
                tokio::time::sleep(PAUSE).await;
            }
            loaded => return loaded,
        }
    }
}

pub(crate) fn start_error(config: &Config, source: RegistryError) -> RegistryStartError {
    let RegistryConfig { database_url, database_wait, artifacts_url, .. } = &config.registry;
    match source {
        _ if source.is_of_store() => {
            RegistryStartError::Artifacts { url: artifacts_url.clone(), source: source.into() }
        }
        // What is told of files, the directory is at fault for.
        RegistryError::NotWritable { .. } => directory_error(config, source),
        _ if database_url.is_empty() => directory_error(config, source),
        RegistryError::Unreachable { .. } => RegistryStartError::DatabaseUnreachable {
            url: database_url.clone(),
            waited: *database_wait,
            source: source.into(),
        },
        RegistryError::Storage { .. } => {
            RegistryStartError::Database { url: database_url.clone(), source: source.into() }
        }
        _ => directory_error(config, source),
    }
}

fn directory_error(config: &Config, source: RegistryError) -> RegistryStartError {
    RegistryStartError::Directory { directory: config.data.directory.display().to_string(), source: source.into() }
}
