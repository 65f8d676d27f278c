//! Bringing SQLite's write-ahead log into the file, from a connection of its own.

use std::time::{Duration, Instant};

use sqlx::{Row as _, sqlite::SqliteConnection};

use super::{SqliteTelemetryStore, failed};
use crate::TelemetryError;

/// How often the log is brought into the file. Commits share the disk with it: done ten times as often, it takes twice the
/// time in all, since pages that change again and again are written each time, and more commits meet it.
const INTERVAL: Duration = Duration::from_secs(1);
/// Pages of 4 KiB in the log, 64 MiB, from which on a commit waits until all of it is in the file: only then does
/// SQLite begin the log anew, and while commits follow each other that moment never comes by itself. A log that is written
/// over syncs faster than one that grows. With 16 MiB one commit in a hundred of the fastest fleet waited, 4 to 20 ms.
const LOG_PAGES_MAX: i64 = 16_384;

/// Brings the log into the file.
#[derive(Debug)]
pub(super) struct Checkpointer {
    connection: SqliteConnection,
    last: Option<Instant>,
}

// === impl Checkpointer ===

impl Checkpointer {
    pub(super) fn new(connection: SqliteConnection) -> Checkpointer {
        Checkpointer { connection, last: None }
    }

    /// Does it when it is time.
    async fn run_due(&mut self, store: &SqliteTelemetryStore) -> Result<(), TelemetryError> {
        if self.last.is_some_and(|last| last.elapsed() < INTERVAL) {
            return Ok(());
        }
        self.run(store).await
    }

    pub(super) async fn run(&mut self, store: &SqliteTelemetryStore) -> Result<(), TelemetryError> {
        self.last = Some(Instant::now());
        let pages = self.checkpoint().await?;
        if pages > LOG_PAGES_MAX {
            // What came during a long checkpoint is much, and what came during a short one is little.
            self.checkpoint().await?;
            let _no_commits = store.writer.lock().await;
            self.checkpoint().await?;
        }
        Ok(())
    }

    /// Pages in the log.
    async fn checkpoint(&mut self) -> Result<i64, TelemetryError> {
        let doing = "bring the log into the telemetry database";
        let row = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
            .fetch_one(&mut self.connection)
            .await
            .map_err(failed(doing))?;
        row.try_get(1).map_err(failed(doing))
    }
}

impl SqliteTelemetryStore {
    pub(super) async fn run_maintenance(&self) -> Result<bool, TelemetryError> {
        let mut background = self.background.lock().await;
        let flushed = self.flush_due().await?;
        let deleted = self.delete_journal().await?;
        self.trim_rejects().await?;
        background.run_due(self).await?;
        Ok(flushed || deleted)
    }
}
