//! Overload on a simulated clock: how many rows are answered in time when more come than can be run.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use ev_batching::{
    Former, Priority, RowShape, Settings, Urgency,
    former::{Pending, Poll},
};
use ev_models_core::DataType;

/// Simulated time.
const LENGTH: Duration = Duration::from_secs(20);
/// Run of a batch: a fixed part and a part for each row.
const FIXED: Duration = Duration::from_millis(8);
const ROW: Duration = Duration::from_millis(4);

/// What comes in.
#[derive(Debug, Clone, Copy)]
struct Load {
    /// Times the capacity.
    offered: f64,
    /// Time a row leaves for its answer: evenly between these.
    patience_ms: [u64; 2],
    /// By which part of its time a run is shorter or longer, at most.
    noise: f64,
}

/// What comes of it.
#[derive(Debug, Default)]
struct Outcome {
    /// Rows that came.
    offered: usize,
    /// Rows answered before their deadline, and after it.
    in_time: usize,
    late: usize,
    batches: usize,
    latencies: Vec<Duration>,
    /// In-time answers relative to what full batches without a pause would give.
    goodput: f64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Finished { instance: usize },
}

struct Arrival {
    at: Instant,
    deadline: Instant,
}

impl Outcome {
    fn percentile(&mut self, percent: usize) -> Duration {
        self.latencies.sort_unstable();
        self.latencies.get(self.latencies.len() * percent / 100).copied().unwrap_or_default()
    }
}

fn run_time(rows: usize) -> Duration {
    FIXED + ROW * u32::try_from(rows).expect("few rows")
}

fn simulate(settings: &Settings, load: Load, seed: u64) -> Outcome {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut former: Former<Arrival> = Former::new(settings.clone()).expect("sound settings");
    let shape = RowShape::new([(DataType::Fp32, [1])]);
    let max = settings.max_batch_size;
    let capacity = (settings.instance_count * max) as f64 / run_time(max).as_secs_f64();
    let start = Instant::now();
    let mut events = BinaryHeap::from([Reverse((start, Event::Arrival))]);
    let mut running: Vec<Option<(Vec<Arrival>, Instant)>> = (0..settings.instance_count).map(|_| None).collect();
    let mut outcome = Outcome::default();
    while let Some(Reverse((now, event))) = events.pop() {
        if now > start + LENGTH {
            break;
        }
        match event {
            Event::Arrival => {
                outcome.offered += 1;
                let patience = Duration::from_millis(random.u64(load.patience_ms[0]..=load.patience_ms[1]));
                let deadline = now + patience;
                let pending = Pending { row: Arrival { at: now, deadline }, shape: shape.clone(), bytes: 1 };
                let urgency = Urgency { priority: Priority::Interactive, deadline: Some(deadline) };
                let _refused = former.push(vec![pending], urgency, now);
                let pause = -(1.0 - random.f64()).ln() / (capacity * load.offered);
                events.push(Reverse((now + Duration::from_secs_f64(pause), Event::Arrival)));
            }
            Event::Finished { instance } => {
                let (rows, since) = running[instance].take().expect("it ran");
                former.measure(rows.len(), now - since, now);
                for row in rows {
                    let in_time = now <= row.deadline;
                    *if in_time { &mut outcome.in_time } else { &mut outcome.late } += 1;
                    outcome.latencies.push(now - row.at);
                }
            }
        }
        while let Some(instance) = running.iter().position(Option::is_none)
            && let Poll::Ready(batch) = former.poll(now)
        {
            let rows: Vec<Arrival> = batch.rows.into_iter().map(|queued| queued.row).collect();
            let took = run_time(rows.len()).mul_f64(1.0 + load.noise * (2.0 * random.f64() - 1.0));
            outcome.batches += 1;
            running[instance] = Some((rows, now));
            events.push(Reverse((now + took, Event::Finished { instance })));
        }
    }
    outcome.goodput = outcome.in_time as f64 / LENGTH.as_secs_f64() / capacity;
    outcome
}

#[test]
fn goodput_stays_above_nine_tenths_of_the_capacity() {
    let mut failed = Vec::new();
    // A queue that is emptied long before anybody's deadline, and one that is not.
    for (max_queue_size, instance_count, noise) in [(32, 1, 0.2), (32, 2, 0.5), (1_024, 1, 0.5), (1_024, 2, 0.2)] {
        let settings = Settings { max_batch_size: 8, max_queue_size, instance_count, ..Settings::default() };
        for patience_ms in [[150, 150], [1_000, 1_000], [100, 2_000]] {
            for offered in [2.0, 5.0, 10.0] {
                let load = Load { offered, patience_ms, noise };
                let mut outcome = simulate(&settings, load, 7);
                let goodput = outcome.goodput;
                let p99 = outcome.percentile(99);
                let rows = (outcome.in_time + outcome.late) as f64 / outcome.batches as f64;
                let late = outcome.late;
                println!(
                    "queue {max_queue_size}, instances {instance_count}, {load:?}: goodput {goodput:.3}, late {late}, rows a batch {rows:.1}, p99 {p99:?}"
                );
                if goodput < 0.9 {
                    failed.push((max_queue_size, instance_count, load, goodput));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn below_the_capacity_nearly_all_are_answered_in_time() {
    let settings = Settings { max_batch_size: 8, max_queue_size: 128, ..Settings::default() };
    for offered in [0.3, 0.7] {
        let load = Load { offered, patience_ms: [300, 300], noise: 0.2 };
        let outcome = simulate(&settings, load, 7);
        let answered = outcome.in_time as f64 / outcome.offered as f64;
        assert!(answered > 0.98, "{answered} of {} at {offered}", outcome.offered);
    }
}
