//! The log: a bounded queue that nobody waits for, and a thread that writes what is in it.

mod file;
mod retention;
mod writer;

use std::{
    fs::TryLockError,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
        mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    error::{OutcomesError, io},
    prediction::Prediction,
    store::Outcomes,
};

use writer::Writer;

/// The time now, in microseconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What is kept, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Most predictions that wait to be written; more are dropped and counted.
    pub queue_rows_max: usize,
    /// Rows of a file.
    pub file_rows_max: usize,
    /// Bytes of its rows, before they are compressed.
    pub file_bytes_max: u64,
    /// Longest time that rows wait for a file.
    pub file_age_max: Duration,
    /// How long files are kept.
    pub keep_files: Duration,
    /// Most bytes of all files; the oldest go first.
    pub files_bytes_max: u64,
    /// How long answers and outcomes are kept.
    pub keep_answers: Duration,
    /// Most answers; the oldest go first.
    pub answers_max: u64,
}

/// Why a prediction was not logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// There were more of its version than are written in a stretch of time.
    Rate,
    /// The queue was full.
    QueueFull,
    /// The disk was full.
    DiskFull,
    /// Its answer was kept, but not its row: files could not be written for too long.
    FilesBehind,
    /// It could not be written.
    Failed,
}

/// What became of predictions.
#[derive(Debug, Default)]
pub struct Counts {
    logged: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
    files: AtomicU64,
    files_bytes: AtomicU64,
}

/// Takes predictions, as whatever becomes one.
pub struct PredictionLog<T> {
    queue: SyncSender<T>,
    commands: Sender<Command>,
    counts: Arc<Counts>,
    dozing: Arc<Dozing>,
    /// Until it is stopped.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Whether the thread is about to wait for long, so that whoever offers something wakes it.
#[derive(Default)]
struct Dozing(AtomicBool);

/// What the thread is asked.
enum Command {
    /// To look at the queue: something has come.
    Look,
    /// To write what is in the queue, and to say so. With files: also of rows that wait for theirs to become full.
    Flush { files: bool, done: Box<dyn FnOnce() + Send> },
    /// To write what is in the queue, and to end.
    Stop,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Settings {
        let day = Duration::from_secs(86_400);
        Settings {
            queue_rows_max: 8_192,
            file_rows_max: 100_000,
            file_bytes_max: 64 << 20,
            file_age_max: Duration::from_secs(600),
            keep_files: 30 * day,
            files_bytes_max: 1 << 30,
            keep_answers: 365 * day,
            answers_max: 2_000_000,
        }
    }
}

// === impl PredictionLog ===

impl<T: Into<Prediction> + Send + 'static> PredictionLog<T> {
    /// Opens the log in a directory, made where there is none, and begins to write, on a thread that does `begin` first:
    /// to take its place among others. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written, or another process writes there.
    pub fn start(
        directory: &Path,
        settings: Settings,
        clock: Clock,
        begin: impl FnOnce() + Send + 'static,
    ) -> Result<(PredictionLog<T>, Outcomes), OutcomesError> {
        fs_err::create_dir_all(directory).map_err(io("make the directory of predictions"))?;
        let lock = lock(&directory.join("predictions.lock"))?;
        let outcomes = Outcomes::new(&directory.join("predictions.db"));
        let (queue, waiting) = sync_channel(settings.queue_rows_max.max(1));
        let (commands, asked) = channel();
        let counts = Arc::new(Counts::default());
        let writer = Writer::new(directory, settings, clock, outcomes.clone(), Arc::clone(&counts));
        let dozing = Arc::new(Dozing::default());
        let thread = std::thread::Builder::new().name("prediction-log".to_owned());
        let thread = thread.spawn({
            let dozing = Arc::clone(&dozing);
            move || {
                begin();
                run(writer, &waiting, &asked, &dozing);
                drop(lock);
            }
        });
        let thread = thread.map_err(io("start the thread of the prediction log"))?;
        Ok((PredictionLog { queue, commands, counts, dozing, thread: Mutex::new(Some(thread)) }, outcomes))
    }
}

impl<T> PredictionLog<T> {
    /// Takes a prediction, or drops it. Never waits.
    pub fn offer(&self, prediction: T) {
        match self.queue.try_send(prediction) {
            Ok(()) => {
                if self.dozing.end() {
                    let _ = self.commands.send(Command::Look);
                }
            }
            Err(TrySendError::Full(_)) => self.counts.lost(Dropped::QueueFull, 1),
            // The thread has ended.
            Err(TrySendError::Disconnected(_)) => self.counts.lost(Dropped::Failed, 1),
        }
    }

    /// Counts a prediction that is not offered.
    pub fn leave_out(&self, why: Dropped) {
        self.counts.lost(why, 1);
    }

    /// What became of predictions.
    #[must_use]
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Has everything written that was offered before, and `done` called then: from the log's thread, which must not be
    /// held up. With `files`, rows get their files though these are not full.
    pub fn flush(&self, files: bool, done: impl FnOnce() + Send + 'static) {
        if let Err(unsent) = self.commands.send(Command::Flush { files, done: Box::new(done) })
            && let Command::Flush { done, .. } = unsent.0
        {
            done();
        }
    }

    /// Writes what was offered before, and ends. Blocks until then.
    pub fn stop(&self) {
        let _ = self.commands.send(Command::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl<T> Drop for PredictionLog<T> {
    /// Whoever opens the log next, in this process too, finds it closed.
    fn drop(&mut self) {
        self.stop();
    }
}

fn run<T: Into<Prediction>>(mut writer: Writer, queue: &Receiver<T>, commands: &Receiver<Command>, dozing: &Dozing) {
    let (mut was_empty, mut rest) = (false, writer::TICK);
    loop {
        let command = writer::wait(commands, rest);
        if was_empty {
            // Before the queue is looked at: what comes after that finds it said.
            dozing.begin();
        }
        let is_empty = writer.drain(queue) == 0;
        rest = if was_empty && is_empty { writer::IDLE } else { writer::TICK };
        if !is_empty {
            dozing.end();
        }
        was_empty = is_empty;
        match command {
            writer::Wake::Tick => writer.tend(),
            writer::Wake::Asked(Command::Look) => {}
            writer::Wake::Asked(Command::Flush { files, done }) => {
                if files {
                    writer.write_files();
                }
                done();
            }
            writer::Wake::Asked(Command::Stop) | writer::Wake::Gone => return writer.end(),
        }
    }
}

fn lock(path: &Path) -> Result<fs_err::File, OutcomesError> {
    let doing = "open the prediction log";
    let file = fs_err::File::create(path).map_err(io(doing))?;
    match file.file().try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OutcomesError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(doing)(source)),
    }
}

// === impl Dozing ===

impl Dozing {
    /// Says so, for whoever offers something after this.
    fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Whether it was said; true to one only.
    fn end(&self) -> bool {
        // What was offered is in the queue before it is looked here: one of the two sees the other.
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

// === impl Dropped ===

impl Dropped {
    /// All of them.
    pub const ALL: [Dropped; 5] =
        [Dropped::Rate, Dropped::QueueFull, Dropped::DiskFull, Dropped::FilesBehind, Dropped::Failed];

    /// As metrics say it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Dropped::Rate => "rate",
            Dropped::QueueFull => "queue_full",
            Dropped::DiskFull => "disk_full",
            Dropped::FilesBehind => "files_behind",
            Dropped::Failed => "failed",
        }
    }
}

// === impl Counts ===

impl Counts {
    /// Predictions that were written.
    #[must_use]
    pub fn logged(&self) -> u64 {
        self.logged.load(Ordering::Relaxed)
    }

    /// Predictions that were not.
    #[must_use]
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.dropped[why as usize].load(Ordering::Relaxed)
    }

    /// Files that are kept.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Bytes of all files.
    #[must_use]
    pub fn files_bytes(&self) -> u64 {
        self.files_bytes.load(Ordering::Relaxed)
    }

    fn lost(&self, why: Dropped, rows: usize) {
        self.dropped[why as usize].fetch_add(rows as u64, Ordering::Relaxed);
    }
}
