//! Running sampled rows by the version that did not answer them, on a thread that nobody waits for.
//!
//! A serving thread only puts a row into a bounded queue, or counts that there was no room. A version that is slow, hangs
//! or panics holds up this thread and nothing else.

use std::{
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

/// Compares the two versions of one rollout until it is dropped.
pub(super) struct Comparison {
    shared: Arc<Shared>,
    baseline: Arc<Deployment>,
    candidate: Arc<Deployment>,
}

struct Shared {
    rows: SyncSender<Arc<Seen>>,
    dropped: AtomicU64,
    ended: AtomicBool,
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

// === impl Comparison ===

impl Comparison {
    /// Begins to compare.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub(super) fn start(
        baseline: &Arc<Deployment>,
        candidate: &Arc<Deployment>,
        cohort_by: &str,
    ) -> std::io::Result<Comparison> {
        let (rows, queue) = sync_channel(QUEUE_MAX);
        let shared = Arc::new(Shared {
            rows,
            dropped: AtomicU64::new(0),
            ended: AtomicBool::new(false),
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
        std::thread::Builder::new().name("compare".to_owned()).spawn(move || comparer.work(&queue))?;
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
        let since = self.shared.running_since_ms.load(Ordering::Relaxed).checked_sub(1)?;
        let running = self.shared.started.elapsed().saturating_sub(Duration::from_millis(since));
        (running > HANGS_AFTER).then_some(running)
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
    fn seen(&self) -> MutexGuard<'_, Observations> {
        // A panic while it was held left counts that are a row short.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
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
