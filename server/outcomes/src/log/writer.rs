//! What the log's thread does.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use sqlx::sqlite::SqliteConnection;
use tokio::runtime::Runtime;

use super::{Clock, Command, Counts, Dropped, Settings, file::ParquetFile, retention};
use crate::{
    error::{OutcomesError, io},
    prediction::Prediction,
    store::{Due, Outcomes, Staged, expire},
};

/// How often the queue is looked at: while rows come they wake nobody, so that no request pays for it.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// How long nothing is done while none come. The first one wakes the thread.
pub(super) const IDLE: Duration = Duration::from_secs(5);
/// Most rows of one transaction.
const GROUP_MAX: usize = 1024;
/// Rows of a group in a file.
const ROW_GROUP: usize = 8192;
/// How often the age of files and answers is looked at.
const TEND_EVERY: Duration = Duration::from_secs(60);
/// How often a file that could not be written is tried again, and a failure is told.
const RETRY_EVERY: Duration = Duration::from_secs(60);
/// Rows may wait for files that cannot be written, up to so many files' worth.
const WAITING_FILES_MAX: u64 = 4;

/// Why the thread goes on.
pub(super) enum Wake {
    /// Some time has passed.
    Tick,
    /// Somebody wants something.
    Asked(Command),
    /// Nobody is left who could.
    Gone,
}

/// Writes predictions.
pub(super) struct Writer {
    directory: PathBuf,
    settings: Settings,
    clock: Clock,
    outcomes: Outcomes,
    counts: Arc<Counts>,
    /// Made on the thread.
    open: Option<Open>,
    group: Vec<Prediction>,
    tended: Option<Instant>,
    /// When a failure was told.
    told: Option<Instant>,
    untold: usize,
    /// When files are tried again.
    files_after: Option<Instant>,
}

/// What is there while nothing has failed.
struct Open {
    runtime: Runtime,
    connection: SqliteConnection,
    staged: Staged,
    /// Answers there are at most; counted once, which takes a look at all of them.
    answers: Option<u64>,
}

/// Waits until there may be something to do, at most for so long.
pub(super) fn wait(commands: &Receiver<Command>, rest: Duration) -> Wake {
    match commands.recv_timeout(rest) {
        Ok(command) => Wake::Asked(command),
        Err(RecvTimeoutError::Timeout) => Wake::Tick,
        Err(RecvTimeoutError::Disconnected) => Wake::Gone,
    }
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(
        directory: &Path,
        settings: Settings,
        clock: Clock,
        outcomes: Outcomes,
        counts: Arc<Counts>,
    ) -> Writer {
        Writer {
            directory: directory.to_owned(),
            settings,
            clock,
            outcomes,
            counts,
            open: None,
            group: Vec::new(),
            tended: None,
            told: None,
            untold: 0,
            files_after: None,
        }
    }

    /// Writes what is in the queue now; how many rows that was.
    pub(super) fn drain<T: Into<Prediction>>(&mut self, queue: &Receiver<T>) -> usize {
        let mut rows = 0;
        // What comes meanwhile is not waited for.
        for _ in 0..=self.settings.queue_rows_max / GROUP_MAX {
            self.group.clear();
            self.group.extend(queue.try_iter().take(GROUP_MAX).map(Into::into));
            if self.group.is_empty() {
                break;
            }
            rows += self.group.len();
            let group = std::mem::take(&mut self.group);
            match self.append(&group) {
                Ok(true) => {
                    self.counts.logged.fetch_add(group.len() as u64, Ordering::Relaxed);
                }
                Ok(false) => self.counts.lost(Dropped::FilesBehind, group.len()),
                Err(error) => self.lose(&group, &error),
            }
            self.group = group;
        }
        rows
    }

    /// Says whether their rows were written as well as their answers.
    fn append(&mut self, group: &[Prediction]) -> Result<bool, OutcomesError> {
        let most = self.settings.file_bytes_max.saturating_mul(WAITING_FILES_MAX);
        let open = self.open()?;
        // Files cannot be written: answers are kept all the same.
        let with_rows = open.staged.bytes() < most;
        let appended = open.runtime.block_on(open.staged.append(&mut open.connection, group, with_rows));
        open.answers = open.answers.map(|answers| answers + group.len() as u64);
        if appended.is_err() {
            open.staged.forget_names();
            // It may be within a transaction.
            self.open = None;
        }
        appended.map(|()| with_rows)
    }

    fn lose(&mut self, group: &[Prediction], error: &OutcomesError) {
        let why = if error.is_full() { Dropped::DiskFull } else { Dropped::Failed };
        self.counts.lost(why, group.len());
        self.tell(group.len(), error);
    }

    /// One line a minute, however much fails.
    fn tell(&mut self, rows: usize, error: &OutcomesError) {
        self.untold += rows;
        if self.told.is_some_and(|told| told.elapsed() < RETRY_EVERY) {
            return;
        }
        let error = error as &dyn std::error::Error;
        tracing::error!(rows = self.untold, error, "predictions cannot be logged; they are answered all the same");
        (self.told, self.untold) = (Some(Instant::now()), 0);
    }

    fn open(&mut self) -> Result<&mut Open, OutcomesError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
                let runtime = runtime.map_err(io("start the prediction log"))?;
                let (connection, staged) = runtime.block_on(async {
                    let mut connection = self.outcomes.connect().await?;
                    let staged = Staged::load(&mut connection).await?;
                    Ok::<_, OutcomesError>((connection, staged))
                })?;
                Open { runtime, connection, staged, answers: None }
            }
        };
        Ok(self.open.insert(open))
    }

    /// Writes files that are due, and forgets what is too old.
    pub(super) fn tend(&mut self) {
        let (now_us, settings) = ((self.clock)(), self.settings.clone());
        let age_max = i64::try_from(settings.file_age_max.as_micros()).unwrap_or(i64::MAX);
        self.write_due(|rows, bytes, since_us| {
            rows >= settings.file_rows_max
                || bytes >= settings.file_bytes_max
                || now_us.saturating_sub(since_us) >= age_max
        });
        if self.tended.is_some_and(|tended| tended.elapsed() < TEND_EVERY) {
            return;
        }
        self.tended = Some(Instant::now());
        self.forget(now_us);
    }

    /// Writes a file of everything that waits for one.
    pub(super) fn write_files(&mut self) {
        self.files_after = None;
        self.write_due(|_, _, _| true);
    }

    fn write_due(&mut self, is_due: impl Fn(usize, u64, i64) -> bool) {
        if self.files_after.is_some_and(|after| Instant::now() < after) {
            return;
        }
        let due = match self.open() {
            Ok(open) => open.staged.due(is_due),
            Err(error) => return self.put_off(&error),
        };
        for due in due {
            if let Err(error) = self.write_file(&due) {
                return self.put_off(&error);
            }
        }
    }

    fn put_off(&mut self, error: &OutcomesError) {
        self.open = None;
        self.files_after = Some(Instant::now() + RETRY_EVERY);
        self.tell(0, error);
    }

    /// Rows leave the database when their file is safe. A process that dies between the two writes the same file again.
    fn write_file(&mut self, due: &Due) -> Result<(), OutcomesError> {
        let directory = self.directory.clone();
        let Open { runtime, connection, .. } = self.open()?;
        let mut file: Option<ParquetFile> = None;
        let mut after = -1;
        loop {
            let (rows, span) = runtime.block_on(Staged::read(connection, due, after, ROW_GROUP))?;
            let Some((first, last)) = span else { break };
            let file = match &mut file {
                Some(file) => file,
                // The number of the first is never given again.
                None => file.insert(ParquetFile::create(&directory, &due.version, due.since_us, first)?),
            };
            file.write(&rows)?;
            after = last;
        }
        if let Some(file) = file {
            let (path, bytes) = file.finish()?;
            tracing::debug!(path = %path.display(), bytes, "predictions written");
            self.counts.files.fetch_add(1, Ordering::Relaxed);
            self.counts.files_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        let Open { runtime, connection, staged, .. } = self.open()?;
        runtime.block_on(staged.unstage(connection, due, after))
    }

    fn forget(&mut self, now_us: i64) {
        let Settings { keep_files, files_bytes_max, keep_answers, answers_max, .. } = self.settings.clone();
        let before = |keep: Duration| now_us.saturating_sub(i64::try_from(keep.as_micros()).unwrap_or(i64::MAX));
        match retention::forget_files(&self.directory, before(keep_files), files_bytes_max) {
            Ok(kept) => {
                self.counts.files.store(kept.files, Ordering::Relaxed);
                self.counts.files_bytes.store(kept.bytes, Ordering::Relaxed);
            }
            Err(error) => self.tell(0, &io("forget old files of predictions")(error)),
        }
        let forgotten = match self.open() {
            Ok(Open { runtime, connection, answers, .. }) => {
                runtime.block_on(expire(connection, before(keep_answers), answers_max, answers))
            }
            Err(error) => Err(error),
        };
        match forgotten {
            Ok(0) => {}
            Ok(predictions) => tracing::info!(predictions, "old predictions forgotten"),
            Err(error) => {
                self.open = None;
                self.tell(0, &error);
            }
        }
    }

    /// Everything is in the database; files are written by whoever opens it next.
    pub(super) fn end(self) {
        if let Some(Open { runtime, connection, .. }) = self.open {
            let _ = runtime.block_on(sqlx::Connection::close(connection));
        }
    }
}
