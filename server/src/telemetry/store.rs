//! Opening what keeps readings: SQLite in the data directory, or PostgreSQL.

use std::{
    fs::TryLockError,
    path::{Path, PathBuf},
    sync::Arc,
};

use ev_domain::Catalogue;
use ev_telemetry::{
    PostgresOptions, PostgresTelemetryStore, SqliteOptions, SqliteTelemetryStore, TelemetryError, TelemetryStore,
};

use super::TelemetryStartError;
use crate::config::TelemetryConfig;

/// A store that is open.
pub(super) struct Opened {
    pub(super) store: Arc<dyn TelemetryStore>,
    /// Of a store that only one process may have open.
    pub(super) lock: Option<fs_err::File>,
}

/// Opens what the configuration names; `directory` is where SQLite's file lies.
pub(super) async fn open(
    config: &TelemetryConfig,
    directory: PathBuf,
    catalogue: &Catalogue,
) -> Result<Opened, TelemetryStartError> {
    if config.database_url.is_empty() {
        open_sqlite(config, &directory, catalogue).await
    } else {
        open_postgres(config, catalogue).await
    }
}

async fn open_sqlite(
    config: &TelemetryConfig,
    directory: &Path,
    catalogue: &Catalogue,
) -> Result<Opened, TelemetryStartError> {
    let path = directory.join("telemetry.db");
    let failed = |source| TelemetryStartError::Store { path: path.clone(), source };
    fs_err::create_dir_all(directory)
        .map_err(|source| failed(TelemetryError::Storage { doing: "make its folder", source: Arc::new(source) }))?;
    let lock = lock(directory)?;
    let options = SqliteOptions { vehicles_max: config.vehicles_max, ..SqliteOptions::new(&path) };
    let store = SqliteTelemetryStore::open(options, catalogue).await.map_err(failed)?;
    Ok(Opened { store: Arc::new(store), lock: Some(lock) })
}

/// Replicas share it, so that nothing is locked. It is waited for, because it may be starting beside this process.
async fn open_postgres(config: &TelemetryConfig, catalogue: &Catalogue) -> Result<Opened, TelemetryStartError> {
    let options = PostgresOptions {
        vehicles_max: config.vehicles_max,
        connections_max: config.database_connections_max,
        open_wait: config.database_wait,
        ..PostgresOptions::new(config.database_url.reveal())
    };
    let (url, waited) = (config.database_url.clone(), config.database_wait);
    match PostgresTelemetryStore::open(options, catalogue).await {
        Ok(store) => {
            tracing::info!(database = %url, "telemetry is kept in PostgreSQL");
            Ok(Opened { store: Arc::new(store), lock: None })
        }
        Err(source @ TelemetryError::Unreachable { .. }) => {
            Err(TelemetryStartError::DatabaseUnreachable { url, waited, source })
        }
        Err(source) => Err(TelemetryStartError::Database { url, source }),
    }
}

/// Keeps a second process out of the directory until the file is closed, however this one ends.
fn lock(directory: &Path) -> Result<fs_err::File, TelemetryStartError> {
    let path = directory.join("telemetry.lock");
    let failed = |source: std::io::Error| TelemetryStartError::Store {
        path: path.clone(),
        source: TelemetryError::Storage { doing: "lock it", source: Arc::new(source) },
    };
    let file = fs_err::File::create(&path).map_err(failed)?;
    match file.file().try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TelemetryStartError::InUse { path }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
