//! Running sampled rows by the version that did not answer them, on a thread that nobody waits for.
//!
//! A serving thread only puts a row into a bounded queue, or counts that there was no room. A version that is slow, hangs
//! or panics holds up this thread and nothing else.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    time::{Duration, Instant},
};

use ev_batching::{WorkerPriority, take_place};
use ev_rollouts::{Answer, Observations, Said, Share};

use crate::{
    deploy::Deployment,
    pipeline::{Estimate, InputValue, Observer, Outcome, PredictError, Rerun, Seen},
};

/// Rows that wait to be compared; of more the rest is dropped and counted.
const QUEUE_MAX: usize = 1_024;
/// How often the queue is looked at. Waking the thread would be the serving threads' work.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A row that takes longer than this in shadow will not come back.
const HANGS_AFTER: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// Who listens, to the deployments' taps.
const NAME: &str = "rollout";
/// Threads of a model that may hang: each holds its two versions and a queue of rows for as long as the process lives.
pub(super) const HUNG_MAX: usize = 2;

/// Threads that compare, those included whose comparison is over and that do not come back.
#[derive(Default)]
pub(super) struct Threads(Mutex<Vec<(String, Arc<Shared>)>>);

/// No thread compares.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// The system gives no thread.
    #[error("the system gives no thread")]
    Thread(#[source] std::io::Error),
    /// Too many hang.
    #[error(
        "{hung} threads of this server hang in rows that were run for comparison, and no more are begun; start the \
         server again"
    )]
    Hung {
        /// How many.
        hung: usize,
    },
}

/// Compares the two versions of one rollout until it is dropped.
pub(super) struct Comparison {
    shared: Arc<Shared>,
    baseline: Arc<Deployment>,
    candidate: Arc<Deployment>,
}

pub(super) struct Shared {
    rows: SyncSender<Arc<Seen>>,
    dropped: AtomicU64,
    ended: AtomicBool,
    /// The thread has come back.
    is_gone: AtomicBool,
    /// Rows the candidate ran here that production had answered, and those it failed.
    runs: AtomicU64,
    failures: AtomicU64,
    /// When the run that goes on began, in milliseconds after `started`, plus one; 0 while none does.
    running_since_ms: AtomicU64,
    started: Instant,
    seen: Mutex<Observations>,
}

/// What the thread runs rows on.
struct Comparer {
    shared: Arc<Shared>,
    baseline: Arc<Deployment>,
    candidate: Arc<Deployment>,
    cohort_by: String,
    reruns: [Option<Rerun>; 2],
}

// === impl Threads ===

impl Threads {
    /// Threads of a model that hang.
    pub(super) fn hung(&self, model: &str) -> usize {
        self.living().iter().filter(|(of, shared)| of == model && shared.hangs().is_some()).count()
    }

    /// Threads that hang, by model.
    pub(super) fn all_hung(&self) -> BTreeMap<String, usize> {
        let mut hung = BTreeMap::new();
        for (model, _) in self.living().iter().filter(|(_, shared)| shared.hangs().is_some()) {
            *hung.entry(model.clone()).or_default() += 1;
        }
        hung
    }

    fn living(&self) -> MutexGuard<'_, Vec<(String, Arc<Shared>)>> {
        let mut threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|(_, shared)| !shared.is_gone.load(Ordering::Relaxed));
        threads
    }
}

// === impl Comparison ===

impl Comparison {
    /// Begins to compare.
    ///
    /// # Errors
    ///
    /// [`StartError`]: no thread, or too many of the model's hang.
    pub(super) fn start(
        baseline: &Arc<Deployment>,
        candidate: &Arc<Deployment>,
        cohort_by: &str,
        threads: &Threads,
    ) -> Result<Comparison, StartError> {
        let hung = threads.hung(baseline.model());
        if hung >= HUNG_MAX {
            return Err(StartError::Hung { hung });
        }
        let (rows, queue) = sync_channel(QUEUE_MAX);
        let shared = Arc::new(Shared {
            rows,
            dropped: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
            runs: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            running_since_ms: AtomicU64::new(0),
            started: Instant::now(),
            seen: Mutex::default(),
        });
        let comparer = Comparer {
            shared: Arc::clone(&shared),
            baseline: Arc::clone(baseline),
            candidate: Arc::clone(candidate),
            cohort_by: cohort_by.to_owned(),
            reruns: [None, None],
        };
        let thread = std::thread::Builder::new().name("compare".to_owned());
        thread.spawn(move || comparer.work(&queue)).map_err(StartError::Thread)?;
        threads.living().push((baseline.model().to_owned(), Arc::clone(&shared)));
        Ok(Comparison { shared, baseline: Arc::clone(baseline), candidate: Arc::clone(candidate) })
    }

    /// Whether it compares these.
    pub(super) fn is_of(&self, baseline: &Arc<Deployment>, candidate: &Arc<Deployment>) -> bool {
        Arc::ptr_eq(&self.baseline, baseline) && Arc::ptr_eq(&self.candidate, candidate)
    }

    /// Takes this share of the rows from now on.
    pub(super) fn listen(&self, share: Share) {
        for deployment in [&self.baseline, &self.candidate] {
            deployment.tap().listen(NAME, share.as_percent() / 100.0, Arc::clone(&self.shared) as _);
        }
    }

    /// What was seen so far. The thread never holds it for longer than a row takes to be counted.
    pub(super) fn seen(&self) -> MutexGuard<'_, Observations> {
        self.shared.seen()
    }

    /// Rows that were not compared.
    pub(super) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Rows that the candidate ran here, which production had answered, and those it failed.
    pub(super) fn runs(&self) -> (u64, u64) {
        (self.shared.runs.load(Ordering::Relaxed), self.shared.failures.load(Ordering::Relaxed))
    }

    /// How long a run has been going on that will not end.
    pub(super) fn hangs(&self) -> Option<Duration> {
        self.shared.hangs()
    }
}

impl Drop for Comparison {
    /// The thread ends after its row, if that ends; nobody waits for it.
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        for deployment in [&self.baseline, &self.candidate] {
            deployment.tap().leave(NAME);
        }
    }
}

// === impl Shared ===

impl Observer for Shared {
    fn offer(&self, seen: &Arc<Seen>) {
        if self.rows.try_send(Arc::clone(seen)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Shared {
    fn hangs(&self) -> Option<Duration> {
        let since = self.running_since_ms.load(Ordering::Relaxed).checked_sub(1)?;
        let running = self.started.elapsed().saturating_sub(Duration::from_millis(since));
        (running > HANGS_AFTER && !self.is_gone.load(Ordering::Relaxed)).then_some(running)
    }

    fn seen(&self) -> MutexGuard<'_, Observations> {
        // A panic while it was held left counts that are a row short.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Comparer {
    /// At the end of the thread, a panic included.
    fn drop(&mut self) {
        self.shared.is_gone.store(true, Ordering::Relaxed);
    }
}

// === impl Comparer ===

impl Comparer {
    fn work(mut self, queue: &Receiver<Arc<Seen>>) {
        take_place(WorkerPriority::Idle);
        while !self.shared.ended.load(Ordering::Relaxed) {
            match queue.try_recv() {
                Ok(seen) => self.compare(&seen),
                Err(TryRecvError::Empty) => std::thread::sleep(LOOK_EVERY),
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    fn compare(&mut self, seen: &Seen) {
        let is_candidate = seen.served.version == self.candidate.version;
        let answered = answer(&seen.estimate, &seen.served.manifest.outputs[0].classes);
        let cohort = self.cohort(seen);
        {
            let mut all = self.shared.seen();
            let side = if is_candidate { &mut all.candidate } else { &mut all.baseline };
            side.latency_seconds.add(seen.timings.total.as_secs_f64());
            side.answered(&cohort, answered, !seen.out_of_distribution.is_empty());
        }
        if self.baseline.pictures().is_some() {
            // What it was is not kept.
            return;
        }
        let other = self.run(seen, !is_candidate);
        if !is_candidate {
            self.shared.runs.fetch_add(1, Ordering::Relaxed);
            self.shared.failures.fetch_add(u64::from(other.is_err()), Ordering::Relaxed);
        }
        let outcome = match &other {
            Ok(outcome) => Some(outcome),
            // What production cannot answer is no fault of the candidate's.
            Err(_) if is_candidate => return,
            Err(_) => None,
        };
        let classes = &if is_candidate { &self.baseline } else { &self.candidate }.manifest.outputs[0].classes;
        let answered = Said { answer: answered, is_outside: !seen.out_of_distribution.is_empty() };
        let other = outcome.map(|outcome| Said {
            answer: answer(&outcome.estimate, classes),
            is_outside: !outcome.out_of_distribution.is_empty(),
        });
        let mut all = self.shared.seen();
        match other {
            Some(production) if is_candidate => all.compare(&cohort, production, Some(answered)),
            candidate => all.compare(&cohort, answered, candidate),
        }
    }

    /// Runs a row on one of the versions.
    fn run(&mut self, seen: &Seen, on_candidate: bool) -> Result<Outcome, PredictError> {
        let deployment = if on_candidate { &self.candidate } else { &self.baseline };
        let rerun = &mut self.reruns[usize::from(on_candidate)];
        if rerun.is_none() {
            *rerun = match Rerun::new(deployment) {
                Ok(made) => Some(made),
                Err(error) => {
                    let (model, version) = (deployment.model(), deployment.version);
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(model, version, error, "no instance to compare rows with");
                    None
                }
            };
        }
        let Some(rerun) = rerun else { return Err(PredictError::Panicked) };
        let now_ms = u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.shared.running_since_ms.store(now_ms + 1, Ordering::Relaxed);
        let outcome = rerun.predict(seen);
        self.shared.running_since_ms.store(0, Ordering::Relaxed);
        outcome
    }

    fn cohort(&self, seen: &Seen) -> String {
        let input = seen.served.plan.input(&self.cohort_by);
        match input.and_then(|input| seen.value(input)) {
            Some(InputValue::Text(text)) => text.to_owned(),
            Some(InputValue::Flag(flag)) => flag.to_string(),
            _ => String::new(),
        }
    }
}

/// What guards hold against what the other version says.
fn answer<'a>(estimate: &Estimate, classes: &'a [String]) -> Answer<'a> {
    let likeliest = |probabilities: &[f32]| {
        let best = probabilities.iter().enumerate().max_by(|(_, one), (_, other)| one.total_cmp(other));
        best.and_then(|(index, _)| classes.get(index))
    };
    match estimate {
        Estimate::Quantiles([_, middle, _]) => Answer::Value(f64::from(*middle)),
        Estimate::Probability(probability) => Answer::Value(f64::from(*probability)),
        Estimate::Classes(probabilities) => {
            likeliest(probabilities).map_or(Answer::Unknown, |class| Answer::Class(class))
        }
        Estimate::Prediction(values) => {
            values.first().map_or(Answer::Unknown, |value| Answer::Value(f64::from(*value)))
        }
        Estimate::Unknown => Answer::Unknown,
    }
}
