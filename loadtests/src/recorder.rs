//! What is counted while a test runs.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ev_client::proto::ev::{
    common::v1::{PredictionInfo, Timings},
    range::v1::PredictResponse,
};
use hdrhistogram::Histogram;

use crate::{Load, Percentiles, Report, report::Share};

/// Longest time that is told apart, in nanoseconds: a minute.
pub(crate) const LONGEST_NS: u64 = 60_000_000_000;

/// Counts of one test. Requests that were due before the warm-up ended are not counted, but their answers count as
/// throughput when they come later: a server with a full queue answers no fewer requests for that.
pub(crate) struct Recorder {
    /// Instants on the wire count from here.
    pub(crate) origin: Instant,
    counted_from: Instant,
    counted_to: Instant,
    counts: Mutex<Counts>,
}

struct Counts {
    in_flight: usize,
    sent: u64,
    answered: u64,
    failed: u64,
    dropped: u64,
    error: Option<String>,
    latency: Histogram<u64>,
    /// Answers that came while requests were counted, whenever they were due.
    came: u64,
    lag: Histogram<u64>,
    inference: Histogram<u64>,
    total: Histogram<u64>,
    last_sent: Instant,
    last: Instant,
    /// Each answer, where somebody wants to see them one by one; at most as many as are due.
    samples: Option<Vec<Sample>>,
}

/// What an answer says of itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Answered {
    pub(crate) timings: Option<Timings>,
    /// The model version that answered; 0 where that is not told.
    pub(crate) version: u32,
}

/// One answered request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) due: Instant,
    pub(crate) took: Duration,
    /// The model version that answered; 0 where that is not told.
    pub(crate) version: u32,
}

// === impl Sample ===

impl Sample {
    pub(crate) fn answered(&self) -> Instant {
        self.due + self.took
    }
}

// === impl Recorder ===

impl Recorder {
    pub(crate) fn new(load: &Load) -> Recorder {
        Recorder::since(Instant::now(), load)
    }

    /// Of a test that begins at `origin`.
    pub(crate) fn since(origin: Instant, load: &Load) -> Recorder {
        let histogram =
            || Histogram::new_with_max(LONGEST_NS, 3).expect("three digits to a minute are a valid histogram");
        let counted_from = origin + load.warm_up;
        Recorder {
            origin,
            counted_from,
            counted_to: counted_from + load.duration,
            counts: Mutex::new(Counts {
                in_flight: 0,
                sent: 0,
                answered: 0,
                failed: 0,
                dropped: 0,
                error: None,
                latency: histogram(),
                came: 0,
                lag: histogram(),
                inference: histogram(),
                total: histogram(),
                last_sent: counted_from,
                last: counted_from,
                samples: None,
            }),
        }
    }

    /// The same, keeping every answer.
    pub(crate) fn keeping(self) -> Recorder {
        self.counts().samples = Some(Vec::new());
        self
    }

    /// The answers that were kept, in the order they came.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.counts().samples.take().unwrap_or_default()
    }

    /// A request that is due now, or was; false when it must be dropped.
    pub(crate) fn send(&self, due: Instant, in_flight_max: usize) -> bool {
        let mut counts = self.counts();
        let counted = due >= self.counted_from;
        if counts.in_flight >= in_flight_max {
            counts.dropped += u64::from(counted);
            return false;
        }
        counts.in_flight += 1;
        if counted {
            counts.sent += 1;
            counts.last_sent = Instant::now();
            let lag = counts.last_sent.saturating_duration_since(due);
            counts.lag.saturating_record(ns(lag));
        }
        true
    }

    /// The answer to a request that was due at `due`.
    pub(crate) fn answer(&self, due: Instant, result: Result<Answered, String>) {
        let now = Instant::now();
        let mut counts = self.counts();
        counts.in_flight = counts.in_flight.saturating_sub(1);
        let in_time = now >= self.counted_from && now < self.counted_to;
        counts.came += u64::from(in_time && result.is_ok());
        if due < self.counted_from {
            return;
        }
        counts.last = now;
        match result {
            Ok(Answered { timings, version }) => {
                counts.answered += 1;
                counts.latency.saturating_record(ns(now - due));
                if let Some(samples) = &mut counts.samples {
                    samples.push(Sample { due, took: now - due, version });
                }
                if let Some(timings) = timings {
                    counts.inference.saturating_record(timings.inference_ns);
                    counts.total.saturating_record(timings.total_ns);
                }
            }
            Err(error) => {
                counts.failed += 1;
                counts.error.get_or_insert(error);
            }
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.counts().in_flight
    }

    pub(crate) fn report(&self, load: &Load) -> Report {
        let counts = self.counts();
        let duration = load.duration.as_secs_f64();
        let sending = (counts.last_sent - self.counted_from).as_secs_f64().max(duration);
        let seconds = (counts.last - self.counted_from).as_secs_f64().max(duration);
        Report {
            scenario: load.scenario,
            pace: load.pace,
            connections: load.connections,
            streams: load.streams,
            seconds,
            sent: counts.sent,
            answered: counts.answered,
            failed: counts.failed,
            dropped: counts.dropped,
            unanswered: counts.sent - counts.answered - counts.failed,
            per_second: Share(counts.came).of(duration),
            predictions_per_second: Share(counts.came * load.scenario.rows() as u64).of(duration),
            sent_per_second: Share(counts.sent + counts.dropped).of(sending),
            latency_us: Percentiles::of(&counts.latency),
            lag_us: Percentiles::of(&counts.lag),
            inference_us: Percentiles::of(&counts.inference),
            server_us: Percentiles::of(&counts.total),
            error: counts.error.clone(),
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an answer says of itself, or what is wrong with it.
pub(crate) fn answered(response: &PredictResponse) -> Result<Answered, String> {
    if response.range_q50_km > 0.0 {
        Ok(response.info.as_ref().map(Answered::of_row).unwrap_or_default())
    } else {
        Err(format!("the answer is {} km", response.range_q50_km))
    }
}

// === impl Answered ===

impl Answered {
    /// Of one row: of rows that ran together, each has its part of the model's time.
    pub(crate) fn of_row(info: &PredictionInfo) -> Answered {
        let rows = info.batch.as_ref().map_or(1, |batch| batch.rows.max(1));
        let part = |timings: Timings| Timings { inference_ns: timings.inference_ns / u64::from(rows), ..timings };
        Answered { timings: info.timings.map(part), version: info.model.as_ref().map_or(0, |model| model.version) }
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
