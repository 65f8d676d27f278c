//! Do requests notice that `production` moves to another version, again and again?

use std::{
    fmt,
    ops::Range,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    Bench, SwapError,
    absence::{Absences, Witness},
    median,
    probe::{Capacity, Stage, WARM_UP},
};
use crate::{
    Percentiles,
    recorder::{LONGEST_NS, Sample},
    report::Share,
};

/// Swaps of a test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SwapsPlan {
    /// Swaps of a turn.
    pub swaps: u32,
    /// From one to the next.
    pub every: Duration,
    /// After so many swaps follows as much time without, under the same load: a machine that is slow for a minute is slow
    /// with and without.
    pub block: u32,
    /// Both versions stay loaded; otherwise each swap loads the one and frees the other.
    pub warm: bool,
    /// Also note when the machine was away. The threads that do wake a thousand times a second, and whenever one has run,
    /// the system may go on with a thread of the control plane instead of the serving one that had the processor.
    pub witness: bool,
}

/// What a test of swaps found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SwapReport {
    /// The model.
    pub model: String,
    /// Whether both versions stayed loaded.
    pub warm: bool,
    /// One a turn.
    pub rounds: Vec<SwapRound>,
}

/// One turn: the same load without swaps and with them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SwapRound {
    /// Requests a second that would fill the server's processors, at the end of the turn. Found anew for each pair of blocks.
    pub capacity_per_second: f64,
    /// Requests a second that the client got in a closed loop before, and the share of a processor the server took for them.
    pub closed_loop: (f64, f64),
    /// Requests a second, the median of the pairs of blocks; in a pair it is the same with and without swaps.
    pub rate: f64,
    /// Without swaps.
    pub calm_us: Percentiles,
    /// Requests that were under way in as many moments without swaps, each as long as a swap was. A swap's moments are a
    /// twentieth of the time: where the machine itself stops for a while once in some seconds, their p99 is either that
    /// or nothing of it, and that of all the time without swaps never is.
    pub calm_moments_us: Percentiles,
    /// Requests that were under way while a version was swapped.
    pub overlapping_us: Percentiles,
    /// All requests of the time with swaps, those between them too: what was replaced is freed then.
    pub all_us: Percentiles,
    /// Requests that were under way while a version was swapped.
    pub overlapping: u64,
    /// Swaps that were made.
    pub swaps: u64,
    /// The middle and the longest of the swaps, from the call to its answer.
    pub swap_ms: (f64, f64),
    /// Swaps that were late because the one before took so long.
    pub late: u64,
    /// Requests that failed, were dropped or not answered.
    pub failed: u64,
    /// The first error.
    pub error: Option<String>,
    /// The client's own lateness at its 99th percentile, the median of the pairs of blocks.
    pub lag_p99_us: f64,
    /// Share of a processor that the server used without swaps, the median of the pairs of blocks.
    pub busy: f64,
    /// The same without requests that met an absence of the machine, where the system lets those be seen.
    pub undisturbed: Option<Undisturbed>,
}

/// Requests during which, and some time before which, no processor was away: virtual machines lose theirs for milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Undisturbed {
    /// Share of the time that processors were away for a millisecond or longer.
    pub away: f64,
    /// Share of all requests that is left out.
    pub left_out: f64,
    /// Requests that were under way while a version was swapped, and are not left out.
    pub overlapping: u64,
    /// Without swaps.
    pub calm_us: Percentiles,
    /// While a version was swapped.
    pub overlapping_us: Percentiles,
    /// All of the time with swaps.
    pub all_us: Percentiles,
}

/// What was done in a turn, and when.
#[derive(Default)]
struct Turn {
    samples: Vec<Sample>,
    /// From the call of each swap to its answer.
    swaps: Vec<Range<Instant>>,
    late: u64,
    /// As long, and as far from the beginning of the time without swaps.
    calm_moments: Vec<Range<Instant>>,
    /// Beginnings and ends of the times with swaps, and of those without.
    swapping: Vec<Range<Instant>>,
    calm: Vec<Range<Instant>>,
    /// Requests a second, the share of a processor that the server used for them without swaps, and how late the client was
    /// at its 99th percentile: of each pair of blocks.
    rates: Vec<f64>,
    busy: Vec<f64>,
    lag_p99_us: Vec<f64>,
    failed: u64,
    error: Option<String>,
}

/// Runs a test of swaps.
///
/// # Errors
///
/// [`SwapError`]; requests that fail are part of the report.
pub async fn run_swaps(
    bench: &Bench,
    plan: SwapsPlan,
    mut progress: impl FnMut(&SwapRound),
) -> Result<SwapReport, SwapError> {
    let stage = Stage::set(bench).await?;
    if plan.warm {
        for (alias, version) in ["blue", "green"].into_iter().zip(stage.versions) {
            stage.alias(alias, version).await?;
        }
    }
    let mut report = SwapReport { model: bench.subject.model.clone(), warm: plan.warm, rounds: Vec::new() };
    let mut capacity = stage.capacity().await?;
    let mut versions = stage.versions.iter().copied().rev().cycle();
    for number in 0..bench.rounds {
        let (mut turn, mut left) = (Turn::default(), plan.swaps);
        let witness = plan.witness.then(|| Witness::start(&bench.place.processors));
        if let Some(Err(error)) = &witness {
            eprintln!("when the machine is away is not seen, for want of real-time priority (CAP_SYS_NICE): {error}");
        }
        let began = Instant::now();
        while left > 0 {
            let swaps = left.min(plan.block.max(1));
            left -= swaps;
            let rate = stage.rate(&capacity);
            let plan = SwapsPlan { swaps, ..plan };
            // Virtual processors change their speed: what is 70 % of one becomes 95 % of a slower one.
            if let Some(busy) = turn.go_on(&stage, rate, plan, &mut versions, number % 2 == 0).await? {
                capacity.per_second = f64::midpoint(capacity.per_second, rate * capacity.processors / busy);
            }
        }
        let took = began.elapsed();
        let absences = witness.and_then(Result::ok).map(|witness| witness.finish(bench.load));
        let undisturbed = absences.map(|absences| Undisturbed::new(&turn, &absences, took));
        let round = SwapRound { undisturbed, ..SwapRound::new(&capacity, &turn) };
        progress(&round);
        report.rounds.push(round);
    }
    Ok(report)
}

// === impl Turn ===

impl Turn {
    /// Loads the server while versions are swapped, and for as long while they are not; gives the share of a processor that
    /// it used without swaps, where these left it time to be seen.
    async fn go_on(
        &mut self,
        stage: &Stage<'_>,
        rate: f64,
        plan: SwapsPlan,
        versions: &mut impl Iterator<Item = u32>,
        is_calm_first: bool,
    ) -> Result<Option<f64>, SwapError> {
        // The client's load begins a moment after the clock of the swaps, and must not end before it.
        let time = plan.every * (2 * plan.swaps + 1);
        let (loaded, busy) = tokio::join!(stage.load(rate, time), self.alternate(stage, plan, versions, is_calm_first));
        let ((report, samples, _), busy) = (loaded?, busy?);
        self.samples.extend(samples);
        self.failed += report.failed + report.dropped + report.unanswered;
        self.error = self.error.take().or(report.error);
        self.rates.push(rate);
        self.busy.extend(busy);
        self.lag_p99_us.push(report.lag_us.p99);
        Ok(busy)
    }

    async fn alternate(
        &mut self,
        stage: &Stage<'_>,
        plan: SwapsPlan,
        versions: &mut impl Iterator<Item = u32>,
        is_calm_first: bool,
    ) -> Result<Option<f64>, SwapError> {
        let (mut now, length, mut busy) = (Instant::now() + WARM_UP, plan.every * plan.swaps, None);
        let mut swaps = Vec::new();
        for is_calm in [is_calm_first, !is_calm_first] {
            let (began, ended) = (now, now + length);
            now = ended;
            tokio::time::sleep_until(began.into()).await;
            if is_calm {
                // Swaps that took too long have had some of its time.
                let began = began.max(Instant::now());
                let before = stage.server.used()?;
                tokio::time::sleep_until(ended.into()).await;
                let used = stage.server.used()?.saturating_sub(before);
                let lasted = ended.saturating_duration_since(began);
                if lasted >= length / 2 {
                    busy = Some(used.as_secs_f64() / lasted.as_secs_f64());
                }
                self.calm.push(began..ended.max(began));
                continue;
            }
            for (number, to) in (0..plan.swaps).zip(&mut *versions) {
                // In the middle, so that what the last one has left behind is gone when the calm begins.
                let due = began + plan.every * number + plan.every / 2;
                tokio::time::sleep_until(due.into()).await;
                let began = Instant::now();
                stage.alias(super::probe::PRODUCTION, to).await?;
                swaps.push(began..Instant::now());
                self.late += u64::from(began - due > plan.every / 4);
            }
            self.swapping.push(began..ended);
        }
        if let (Some(calm), Some(swapping)) = (self.calm.last(), self.swapping.last()) {
            let there = |swap: &Range<Instant>| calm.start + (swap.start - swapping.start);
            let moments = swaps.iter().map(|swap| there(swap)..(there(swap) + (swap.end - swap.start)).min(calm.end));
            self.calm_moments.extend(moments);
        }
        self.swaps.extend(swaps);
        tokio::time::sleep_until(now.into()).await;
        Ok(busy)
    }
}

/// Those that were due in these times, one of which ends before the next begins.
fn within<'s>(samples: &'s [Sample], times: &'s [Range<Instant>]) -> impl Iterator<Item = &'s Sample> {
    samples.iter().filter(|sample| {
        let next = times.partition_point(|time| time.end <= sample.due);
        times.get(next).is_some_and(|time| time.contains(&sample.due))
    })
}

fn latencies<'s>(samples: impl Iterator<Item = &'s Sample>) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_max(LONGEST_NS, 3).expect("three digits to a minute are valid");
    for sample in samples {
        histogram.saturating_record(u64::try_from(sample.took.as_nanos()).unwrap_or(u64::MAX));
    }
    histogram
}

/// Those that were under way in one of these moments, one of which ends before the next begins.
fn overlapping<'s>(samples: &'s [Sample], moments: &'s [Range<Instant>]) -> impl Iterator<Item = &'s Sample> {
    samples.iter().filter(|sample| {
        let next = moments.partition_point(|moment| moment.end < sample.due);
        moments.get(next).is_some_and(|moment| moment.start <= sample.answered())
    })
}

// === impl SwapRound ===

impl SwapRound {
    fn new(capacity: &Capacity, turn: &Turn) -> SwapRound {
        let Turn { samples, swaps, late, calm_moments, swapping, calm, rates, busy, lag_p99_us, failed, error } = turn;
        let calm_moments = latencies(overlapping(samples, calm_moments));
        let overlapping = latencies(overlapping(samples, swaps));
        let took: Vec<f64> = swaps.iter().map(|swap| (swap.end - swap.start).as_secs_f64() * 1e3).collect();
        let longest = took.iter().copied().fold(0.0, f64::max);
        SwapRound {
            capacity_per_second: capacity.per_second,
            closed_loop: capacity.closed_loop,
            rate: median(rates.clone()),
            calm_us: Percentiles::of(&latencies(within(samples, calm))),
            calm_moments_us: Percentiles::of(&calm_moments),
            overlapping_us: Percentiles::of(&overlapping),
            all_us: Percentiles::of(&latencies(within(samples, swapping))),
            overlapping: overlapping.len(),
            swaps: swaps.len() as u64,
            swap_ms: (median(took), longest),
            late: *late,
            failed: *failed,
            error: error.clone(),
            lag_p99_us: median(lag_p99_us.clone()),
            busy: median(busy.clone()),
            undisturbed: None,
        }
    }

    fn ratios(&self) -> SwapRatios {
        SwapRatios {
            overlapping_p50: self.overlapping_us.p50 / self.calm_us.p50,
            overlapping_p99: self.overlapping_us.p99 / self.calm_us.p99,
            moments_p99: self.overlapping_us.p99 / self.calm_moments_us.p99,
            all_p99: self.all_us.p99 / self.calm_us.p99,
        }
    }
}

// === impl Undisturbed ===

impl Undisturbed {
    fn new(turn: &Turn, absences: &Absences, took: Duration) -> Undisturbed {
        let Turn { samples, swaps, swapping, calm, .. } = turn;
        let spared = |sample: &&Sample| absences.spare(sample.due, sample.answered());
        let overlapping = latencies(overlapping(samples, swaps).filter(spared));
        let left_out = samples.iter().filter(|sample| !spared(sample)).count();
        Undisturbed {
            away: absences.away.as_secs_f64() / took.as_secs_f64(),
            left_out: left_out as f64 / samples.len() as f64,
            overlapping: overlapping.len(),
            calm_us: Percentiles::of(&latencies(within(samples, calm).filter(spared))),
            overlapping_us: Percentiles::of(&overlapping),
            all_us: Percentiles::of(&latencies(within(samples, swapping).filter(spared))),
        }
    }

    fn overlapping_p99(&self) -> f64 {
        self.overlapping_us.p99 / self.calm_us.p99
    }

    fn all_p99(&self) -> f64 {
        self.all_us.p99 / self.calm_us.p99
    }
}

impl fmt::Display for Undisturbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Undisturbed { away, left_out, overlapping, calm_us, overlapping_us, all_us } = self;
        write!(
            f,
            "undisturbed: machine away {:.1} %, {:.0} % left out   without {:>6.0} {:>6.0}   overlapping {:>6.0} {:>6.0} ({overlapping:>6})   \
             all {:>6.0} {:>6.0}   times {:>5.2} {:>5.2}",
            away * 100.0,
            left_out * 100.0,
            calm_us.p50,
            calm_us.p99,
            overlapping_us.p50,
            overlapping_us.p99,
            all_us.p50,
            all_us.p99,
            self.overlapping_p99(),
            self.all_p99(),
        )
    }
}

impl fmt::Display for SwapRound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SwapRatios { overlapping_p50, overlapping_p99, moments_p99, all_p99 } = self.ratios();
        write!(
            f,
            "{:>6.0} a second   without {:>6.0} {:>6.0}, in moments {:>6.0}   overlapping {:>6.0} {:>6.0} ({:>6})   all {:>6.0} {:>6.0}   \
             times {overlapping_p50:>5.2} {overlapping_p99:>5.2} {moments_p99:>5.2} {all_p99:>5.2}   \
             swap {:>6.1} {:>6.1} ms, {} late   failed {}   lag p99 {:.0}   busy {:.0} %",
            self.rate,
            self.calm_us.p50,
            self.calm_us.p99,
            self.calm_moments_us.p99,
            self.overlapping_us.p50,
            self.overlapping_us.p99,
            self.overlapping,
            self.all_us.p50,
            self.all_us.p99,
            self.swap_ms.0,
            self.swap_ms.1,
            self.late,
            self.failed,
            self.lag_p99_us,
            self.busy * 100.0
        )?;
        match &self.undisturbed {
            Some(undisturbed) => write!(f, "\n  {undisturbed}"),
            None => Ok(()),
        }
    }
}

// === impl SwapReport ===

impl SwapReport {
    /// Medians of the rounds' ratios of requests that overlap a swap, or of all of the time with swaps, to those without.
    #[must_use]
    pub fn ratios(&self) -> SwapRatios {
        let of = |of: fn(SwapRatios) -> f64| median(self.rounds.iter().map(|round| of(round.ratios())).collect());
        SwapRatios {
            overlapping_p50: of(|ratios| ratios.overlapping_p50),
            overlapping_p99: of(|ratios| ratios.overlapping_p99),
            moments_p99: of(|ratios| ratios.moments_p99),
            all_p99: of(|ratios| ratios.all_p99),
        }
    }

    /// The same of requests that met no absence of the machine: those that overlap a swap, and all of the time with swaps;
    /// none where a turn could not tell.
    #[must_use]
    pub fn undisturbed(&self) -> Option<(f64, f64)> {
        let rounds: Option<Vec<Undisturbed>> = self.rounds.iter().map(|round| round.undisturbed).collect();
        let of = |of: fn(&Undisturbed) -> f64| Some(median(rounds.as_ref()?.iter().map(of).collect()));
        Some((of(Undisturbed::overlapping_p99)?, of(Undisturbed::all_p99)?))
    }

    /// One sentence for each promise that was not kept.
    #[must_use]
    pub fn broken(&self, p99_ratio_max: f64) -> Vec<String> {
        let mut broken = Vec::new();
        let failed: u64 = self.rounds.iter().map(|round| round.failed).sum();
        if failed > 0 {
            let error = self.rounds.iter().find_map(|round| round.error.as_deref()).unwrap_or("none was told");
            broken.push(format!("{failed} requests failed, expected none: {error}"));
        }
        let ratios = self.ratios();
        for (name, ratio) in [("that overlap a swap", ratios.overlapping_p99), ("with swaps", ratios.all_p99)] {
            // NaN, of nothing measured, is not kept either.
            if ratio.is_nan() || ratio > p99_ratio_max {
                broken.push(format!(
                    "the p99 of requests {name} is {ratio:.2} times that without, expected at most {p99_ratio_max}"
                ));
            }
        }
        let late: u64 = self.rounds.iter().map(|round| round.late).sum();
        if late > 0 {
            broken.push(format!("{late} swaps came late, because the one before took too long"));
        }
        broken
    }
}

/// Medians of the rounds' ratios to the same load without swaps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SwapRatios {
    /// Median latency of requests that overlap a swap.
    pub overlapping_p50: f64,
    /// Their 99th percentile.
    pub overlapping_p99: f64,
    /// The same, to as many moments as long without swaps.
    pub moments_p99: f64,
    /// 99th percentile of all requests of the time with swaps.
    pub all_p99: f64,
}

impl fmt::Display for SwapReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SwapRatios { overlapping_p50, overlapping_p99, moments_p99, all_p99 } = self.ratios();
        let kind = if self.warm { "both versions stay loaded" } else { "each swap loads the one and frees the other" };
        let swaps: u64 = self.rounds.iter().map(|round| round.swaps).sum();
        let failed: u64 = self.rounds.iter().map(|round| round.failed).sum();
        writeln!(f, "{}: {swaps} swaps, {kind}", self.model)?;
        let of = |of: &dyn Fn(&SwapRound) -> f64| median(self.rounds.iter().map(of).collect());
        writeln!(
            f,
            "capacity {:.0} requests/s (closed loop: {:.0} with {:.0} % of a processor), load {:.0} requests/s",
            of(&|round| round.capacity_per_second),
            of(&|round| round.closed_loop.0),
            of(&|round| round.closed_loop.1) * 100.0,
            of(&|round| round.rate)
        )?;
        let calm = (of(&|round| round.calm_us.p50), of(&|round| round.calm_us.p99));
        let moments = (of(&|round| round.calm_moments_us.p50), of(&|round| round.calm_moments_us.p99));
        let overlapping = (of(&|round| round.overlapping_us.p50), of(&|round| round.overlapping_us.p99));
        let all = (of(&|round| round.all_us.p50), of(&|round| round.all_us.p99));
        writeln!(f, "{:<34} {:>10} {:>10}", "medians of the rounds, us", "p50", "p99")?;
        for (name, (p50, p99)) in [
            ("without swaps", calm),
            ("in as many moments without swaps", moments),
            ("overlapping a swap", overlapping),
            ("all, with swaps", all),
        ] {
            writeln!(f, "{name:<34} {p50:>10.0} {p99:>10.0}")?;
        }
        writeln!(f, "overlapping a swap / without        {overlapping_p50:>9.2} {overlapping_p99:>10.2}")?;
        writeln!(f, "overlapping a swap / as many moments{:>9} {moments_p99:>10.2}", "")?;
        writeln!(f, "all, with swaps / without           {:>9} {all_p99:>10.2}", "")?;
        if let Some((overlapping, all)) = self.undisturbed() {
            let away = |of: fn(&Undisturbed) -> f64| {
                median(self.rounds.iter().filter_map(|round| round.undisturbed.as_ref()).map(of).collect()) * 100.0
            };
            writeln!(
                f,
                "of requests that met no absence of the machine (away {:.1} % of the time, {:.0} % of requests left out):",
                away(|undisturbed| undisturbed.away),
                away(|undisturbed| undisturbed.left_out),
            )?;
            writeln!(f, "overlapping a swap / without        {:>9} {overlapping:>10.2}", "")?;
            writeln!(f, "all, with swaps / without           {:>9} {all:>10.2}", "")?;
        }
        let count = Share(failed).of(1.0);
        writeln!(
            f,
            "a swap takes {:.1} ms, at most {:.1}; {count:.0} requests failed; server busy {:.0} % without swaps",
            of(&|round| round.swap_ms.0),
            self.rounds.iter().map(|round| round.swap_ms.1).fold(0.0, f64::max),
            of(&|round| round.busy) * 100.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_overlaps_a_swap_when_any_of_its_time_does() {
        let origin = Instant::now();
        let at = |ms: u64| origin + Duration::from_millis(ms);
        let swaps = [at(10)..at(20), at(30)..at(40)];
        let check = |due_ms: u64, took_ms: u64, expected: bool| {
            let sample = Sample { due: at(due_ms), took: Duration::from_millis(took_ms), version: 1 };
            let found = overlapping(&[sample], &swaps).count() == 1;
            assert_eq!(found, expected, "due at {due_ms} ms for {took_ms} ms");
        };
        check(0, 5, false);
        check(0, 10, true);
        check(12, 3, true);
        check(19, 5, true);
        check(21, 5, false);
        check(21, 30, true);
        check(0, 100, true);
        check(41, 5, false);
    }

    #[test]
    fn a_request_counts_where_it_was_due() {
        let origin = Instant::now();
        let at = |ms: u64| origin + Duration::from_millis(ms);
        let times = [at(10)..at(20), at(30)..at(40)];
        let due = [5, 10, 19, 20, 25, 30, 39, 40].map(|ms| Sample {
            due: at(ms),
            took: Duration::from_millis(7),
            version: 1,
        });
        let found: Vec<Instant> = within(&due, &times).map(|sample| sample.due).collect();
        assert_eq!(found, [10, 19, 30, 39].map(at));
    }
}
