//! What is counted while a test runs.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ev_client::proto::ev::{common::v1::Timings, range::v1::PredictResponse};
use hdrhistogram::Histogram;

use crate::{Percentiles, Report, report::Share};

/// Longest time that is told apart.
const LONGEST: Duration = Duration::from_secs(60);

/// Counts of one test. Requests that were due before the warm-up ended are not counted.
pub(crate) struct Recorder {
    /// Instants on the wire count from here.
    pub(crate) origin: Instant,
    counted_from: Instant,
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
    lag: Histogram<u64>,
    inference: Histogram<u64>,
    total: Histogram<u64>,
    last: Instant,
}

// === impl Recorder ===

impl Recorder {
    pub(crate) fn new(warm_up: Duration) -> Recorder {
        let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
        let histogram = || Histogram::new_with_max(longest, 3).expect("three digits to a minute are a valid histogram");
        let origin = Instant::now();
        let counted_from = origin + warm_up;
        Recorder {
            origin,
            counted_from,
            counts: Mutex::new(Counts {
                in_flight: 0,
                sent: 0,
                answered: 0,
                failed: 0,
                dropped: 0,
                error: None,
                latency: histogram(),
                lag: histogram(),
                inference: histogram(),
                total: histogram(),
                last: counted_from,
            }),
        }
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
            let lag = ns(due.elapsed());
            counts.lag.saturating_record(lag);
        }
        true
    }

    /// The answer to a request that was due at `due`.
    pub(crate) fn answer(&self, due: Instant, result: Result<Option<Timings>, String>) {
        let now = Instant::now();
        let mut counts = self.counts();
        counts.in_flight = counts.in_flight.saturating_sub(1);
        if due < self.counted_from {
            return;
        }
        counts.last = now;
        match result {
            Ok(timings) => {
                counts.answered += 1;
                counts.latency.saturating_record(ns(now - due));
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

    pub(crate) fn report(&self, load: &crate::Load) -> Report {
        let counts = self.counts();
        let seconds = (counts.last - self.counted_from).as_secs_f64().max(load.duration.as_secs_f64());
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
            per_second: Share(counts.answered).of(seconds),
            predictions_per_second: Share(counts.answered * load.scenario.rows() as u64).of(seconds),
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

/// Where the time of an answer went, or what is wrong with it.
pub(crate) fn timings(response: &PredictResponse) -> Result<Option<Timings>, String> {
    if response.range_q50_km > 0.0 {
        Ok(response.info.as_ref().and_then(|info| info.timings))
    } else {
        Err(format!("the answer is {} km", response.range_q50_km))
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
