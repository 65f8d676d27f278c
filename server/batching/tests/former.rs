//! The former against a ledger: a plain list of who waits, and the rules of the crate written down a second time.

use std::{
    collections::BTreeSet,
    ops::Range,
    time::{Duration, Instant},
};

use ev_batching::{
    Cut, Former, Priority, RowShape, Settings, SubmitError, Urgency,
    former::{Batch, DropReason, Pending, Poll, RowId},
};
use ev_models_core::DataType;
use proptest::prelude::*;

/// Batches that may pass over a priority, and priorities that may go before it then.
const PASSED_MAX: usize = 8 + 3;

#[derive(Debug, Clone)]
enum Step {
    /// Milliseconds go by.
    Pass(u64),
    Push {
        rows: usize,
        columns: usize,
        bytes: usize,
        priority: Priority,
        patience_ms: Option<u64>,
    },
    Poll,
    /// Of the submissions so far, counted round.
    Cancel(usize),
    Measure {
        rows: usize,
        took_ms: u64,
    },
}

#[derive(Debug, Clone)]
struct Waiting {
    id: RowId,
    columns: usize,
    bytes: usize,
    priority: Priority,
    entered: Instant,
    deadline: Option<Instant>,
}

/// Who waits, by admission.
struct Ledger {
    settings: Settings,
    start: Instant,
    now: Instant,
    waiting: Vec<Waiting>,
    /// Every row that left, and may not be seen again.
    gone: BTreeSet<RowId>,
    submissions: Vec<Range<RowId>>,
    measured: bool,
    /// Since when an idle instance asked in time.
    asked_in_time: bool,
    passed: [usize; Priority::COUNT],
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn shape(columns: usize) -> RowShape {
    RowShape::new([(DataType::Fp32, [columns])])
}

impl Ledger {
    fn new(settings: Settings) -> Ledger {
        let start = Instant::now();
        Ledger {
            settings,
            start,
            now: start,
            waiting: Vec::new(),
            gone: BTreeSet::new(),
            submissions: Vec::new(),
            measured: false,
            asked_in_time: true,
            passed: [0; Priority::COUNT],
        }
    }

    fn leave(&mut self, id: RowId) -> Waiting {
        assert!(self.gone.insert(id), "row {id} left twice");
        let place = self.waiting.iter().position(|row| row.id == id);
        self.waiting.remove(place.unwrap_or_else(|| panic!("row {id} was never admitted")))
    }

    fn bytes(&self) -> usize {
        self.waiting.iter().map(|row| row.bytes).sum()
    }

    /// Rows that were dropped: each for a reason that holds.
    fn dropped(&mut self, former: &mut Former<RowId>, pushed: Option<Priority>) {
        for dropped in former.take_dropped() {
            let row = self.leave(dropped.row);
            match dropped.reason {
                DropReason::Expired => assert!(row.deadline.is_some_and(|deadline| deadline <= self.now), "{row:?}"),
                DropReason::Late => assert!(self.measured && row.deadline.is_some(), "{row:?}"),
                DropReason::Displaced => {
                    assert!(pushed.is_some_and(|pushed| pushed < row.priority), "{row:?} by {pushed:?}");
                    let older = self.waiting.iter().any(|other| other.priority == row.priority && other.id < row.id);
                    assert!(older, "{row:?} was the oldest of its priority");
                }
            }
        }
        let expired = self.waiting.iter().find(|row| row.deadline.is_some_and(|deadline| deadline <= self.now));
        assert!(expired.is_none(), "{expired:?} still waits at {:?}", self.now);
    }

    fn push(&mut self, former: &mut Former<RowId>, rows: usize, columns: usize, bytes: usize, urgency: Urgency) {
        let next = self.submissions.last().map_or(0, |ids| ids.end);
        let pending = |row: u64| Pending { row: next + row, shape: shape(columns), bytes };
        let pushed = former.push((0..rows as u64).map(pending).collect(), urgency, self.now);
        self.dropped(former, Some(urgency.priority));
        let Settings { max_queue_size, max_queue_bytes, .. } = self.settings;
        let fits = self.waiting.len() + rows <= max_queue_size && self.bytes() + rows * bytes <= max_queue_bytes;
        match pushed {
            Ok(ids) => {
                assert!(fits, "admitted beyond the bounds");
                assert_eq!(ids, next..next + rows as u64);
                self.waiting.extend(ids.clone().map(|id| Waiting {
                    id,
                    columns,
                    bytes,
                    priority: urgency.priority,
                    entered: self.now,
                    deadline: urgency.deadline,
                }));
                self.submissions.push(ids);
            }
            Err(refused) => {
                assert_eq!(refused.rows.len(), rows, "rows are given back");
                match refused.error {
                    SubmitError::NoRows => assert_eq!(rows, 0),
                    SubmitError::TooManyRows { .. } => assert!(rows > max_queue_size),
                    SubmitError::TooLarge { .. } => assert!(rows * bytes > max_queue_bytes),
                    SubmitError::QueueFull { .. } => assert!(!fits),
                    SubmitError::DeadlineExceeded => assert!(urgency.deadline.is_some_and(|at| at <= self.now)),
                    SubmitError::WouldMissDeadline { expected } => {
                        assert!(self.measured && urgency.deadline.is_some_and(|at| at < self.now + expected));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn poll(&mut self, former: &mut Former<RowId>) {
        let poll = former.poll(self.now);
        self.dropped(former, None);
        match poll {
            Poll::Idle => assert!(self.waiting.is_empty(), "{:?} wait", self.waiting),
            Poll::WaitUntil(until) => {
                assert!(until > self.now);
                self.nothing_is_due(until);
                // Whoever asks again by then keeps every delay.
                self.asked_in_time = true;
            }
            Poll::Ready(batch) => self.batch(&batch),
        }
    }

    fn nothing_is_due(&self, until: Instant) {
        let Settings { max_batch_size, preferred_batch_sizes, max_queue_delay, .. } = &self.settings;
        assert!(!max_queue_delay.is_zero());
        for columns in 1..=2 {
            let rows: Vec<&Waiting> = self.waiting.iter().filter(|row| row.columns == columns).collect();
            assert!(rows.len() < *max_batch_size);
            assert!(!preferred_batch_sizes.iter().any(|size| *size <= rows.len()));
            for row in rows {
                assert!(until <= row.entered + *max_queue_delay, "{row:?} waits too long");
                assert!(row.deadline.is_none_or(|deadline| until <= deadline), "{row:?} waits too long");
            }
        }
    }

    fn batch(&mut self, batch: &Batch<RowId>) {
        let Settings { max_batch_size, preferred_batch_sizes, max_queue_delay, .. } = self.settings.clone();
        let lanes: BTreeSet<Priority> = self.waiting.iter().map(|row| row.priority).collect();
        let columns = (1..=2).find(|columns| batch.shape == shape(*columns)).expect("a shape that was pushed");
        let candidates = self.waiting.iter().filter(|row| row.columns == columns).count();
        let rows: Vec<Waiting> = batch.rows.iter().map(|queued| self.leave(queued.row)).collect();
        for (queued, row) in batch.rows.iter().zip(&rows) {
            assert_eq!((queued.id, queued.entered, queued.deadline), (row.id, row.entered, row.deadline));
            assert_eq!(row.columns, columns);
        }
        assert!(!rows.is_empty() && rows.len() <= max_batch_size);
        // First come, first served, within a priority and a shape.
        for priority in Priority::ALL {
            let taken: Vec<RowId> = rows.iter().filter(|row| row.priority == priority).map(|row| row.id).collect();
            assert!(taken.is_sorted(), "{taken:?}");
            let left = self.waiting.iter().filter(|row| row.columns == columns && row.priority == priority);
            assert!(left.map(|row| row.id).min().is_none_or(|left| taken.last().is_none_or(|last| *last < left)));
        }
        let waited = rows.iter().map(|row| self.now - row.entered).max().unwrap_or_default();
        match batch.cut {
            Cut::Full => assert_eq!(rows.len(), max_batch_size),
            Cut::Preferred => {
                let fit = preferred_batch_sizes.iter().filter(|size| **size <= candidates).max();
                assert_eq!(Some(&rows.len()), fit);
                assert!(candidates < max_batch_size);
            }
            Cut::Delay => {
                assert_eq!(rows.len(), candidates);
                assert!(!max_queue_delay.is_zero() && waited >= max_queue_delay);
            }
            Cut::Idle => {
                assert_eq!(rows.len(), candidates);
                assert!(max_queue_delay.is_zero());
            }
            Cut::Deadline => assert!(rows.iter().any(|row| row.deadline.is_some())),
        }
        if self.asked_in_time && !max_queue_delay.is_zero() && batch.cut == Cut::Delay {
            assert_eq!(waited, max_queue_delay, "asked in time, and cut too late");
        }
        self.asked_in_time = false;
        for priority in Priority::ALL {
            let served = rows.iter().any(|row| row.priority == priority);
            let passed = &mut self.passed[priority as usize];
            *passed = if served || !lanes.contains(&priority) { 0 } else { *passed + 1 };
            // Rows that nobody has to cut yet are not passed over.
            if max_queue_delay.is_zero() {
                assert!(*passed <= PASSED_MAX, "{priority:?} was passed over {passed} times");
            }
        }
    }

    fn take(&mut self, former: &mut Former<RowId>, step: &Step) {
        match *step {
            Step::Pass(by) => {
                self.now += ms(by);
                self.asked_in_time = false;
            }
            Step::Push { rows, columns, bytes, priority, patience_ms } => {
                let deadline = patience_ms.map(|patience| self.now + ms(patience));
                self.push(former, rows, columns, bytes, Urgency { priority, deadline });
                self.asked_in_time = false;
            }
            Step::Poll => self.poll(former),
            Step::Cancel(which) if !self.submissions.is_empty() => {
                let ids = self.submissions[which % self.submissions.len()].clone();
                let waiting: Vec<RowId> = self.waiting.iter().map(|row| row.id).filter(|id| ids.contains(id)).collect();
                let mut cancelled = former.cancel(ids);
                cancelled.sort_unstable();
                assert_eq!(cancelled, waiting);
                for id in cancelled {
                    self.leave(id);
                }
            }
            Step::Cancel(_) => {}
            Step::Measure { rows, took_ms } => {
                former.measure(rows, ms(took_ms), self.now);
                self.measured = true;
            }
        }
        assert_eq!(
            (former.rows(), former.bytes()),
            (self.waiting.len(), self.bytes()),
            "at {:?}",
            self.now - self.start
        );
    }
}

/// Asks at every instant the former names, as an idle worker does, until nobody waits.
fn run_out(former: &mut Former<RowId>, ledger: &mut Ledger) {
    for _ in 0..10_000 {
        match former.poll(ledger.now) {
            Poll::Idle => break,
            Poll::WaitUntil(until) => {
                ledger.dropped(former, None);
                ledger.nothing_is_due(until);
                ledger.now = until;
                ledger.asked_in_time = true;
                continue;
            }
            Poll::Ready(batch) => {
                ledger.dropped(former, None);
                // Waiting until the instant named kept every delay: nobody waited longer, whatever the reason.
                if ledger.asked_in_time {
                    let delay = ledger.settings.max_queue_delay;
                    assert!(batch.rows.iter().all(|queued| ledger.now <= queued.entered + delay));
                }
                ledger.batch(&batch);
            }
        }
    }
    ledger.dropped(former, None);
    assert!(ledger.waiting.is_empty(), "lost: {:?}", ledger.waiting);
    assert_eq!(ledger.gone.len() as u64, ledger.submissions.last().map_or(0, |ids| ids.end));
}

fn settings() -> impl Strategy<Value = Settings> {
    (1_usize..=6, proptest::collection::vec(1_usize..=6, 0..3), 0_u64..=12, 0_usize..=12, 1_usize..=60, 1_usize..=3)
        .prop_map(|(max_batch_size, preferred, delay, more, max_queue_bytes, instance_count)| Settings {
            max_batch_size,
            preferred_batch_sizes: preferred.into_iter().map(|size| size.min(max_batch_size)).collect(),
            max_queue_delay: ms(delay.saturating_sub(4)),
            max_queue_size: max_batch_size + more,
            max_queue_bytes,
            instance_count,
            ..Settings::default()
        })
}

fn step() -> impl Strategy<Value = Step> {
    let priority = (0..Priority::COUNT).prop_map(|priority| Priority::ALL[priority]);
    let push = (0_usize..=5, 1_usize..=2, 0_usize..=6, priority, proptest::option::of(0_u64..=40)).prop_map(
        |(rows, columns, bytes, priority, patience_ms)| Step::Push { rows, columns, bytes, priority, patience_ms },
    );
    prop_oneof![
        3 => (0_u64..=6).prop_map(Step::Pass),
        6 => push,
        6 => Just(Step::Poll),
        1 => (0_usize..100).prop_map(Step::Cancel),
        1 => (1_usize..=6, 0_u64..=15).prop_map(|(rows, took_ms)| Step::Measure { rows, took_ms }),
    ]
}

/// At least a thousand cases; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.max(1_000), failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_row_is_lost_late_out_of_order_or_beyond_the_bounds(
        settings in settings(),
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let mut former = Former::new(settings.clone()).expect("sound settings");
        let mut ledger = Ledger::new(settings);
        for step in &steps {
            ledger.take(&mut former, step);
        }
        ledger.asked_in_time = false;
        run_out(&mut former, &mut ledger);
    }

    #[test]
    fn an_idle_instance_keeps_every_delay(
        settings in settings(),
        pushes in proptest::collection::vec((0_u64..=6, step()), 0..60),
    ) {
        let mut former = Former::new(settings.clone()).expect("sound settings");
        let mut ledger = Ledger::new(settings.clone());
        for (pause, step) in &pushes {
            // The instance asks at every instant it was told, until the next rows come.
            let next = ledger.now + ms(*pause);
            loop {
                match former.poll(ledger.now) {
                    Poll::Idle => break,
                    Poll::WaitUntil(until) if until <= next => {
                        ledger.dropped(&mut former, None);
                        ledger.now = until;
                    }
                    Poll::WaitUntil(_) => break,
                    Poll::Ready(batch) => {
                        ledger.dropped(&mut former, None);
                        let kept = |entered: Instant| ledger.now <= entered + settings.max_queue_delay;
                        prop_assert!(batch.rows.iter().all(|queued| kept(queued.entered)), "{:?}", batch);
                        ledger.batch(&batch);
                    }
                }
            }
            ledger.dropped(&mut former, None);
            ledger.now = next;
            // What falls due at the very instant of the next push is asked for first.
            while let Poll::Ready(batch) = former.poll(ledger.now) {
                ledger.dropped(&mut former, None);
                ledger.batch(&batch);
            }
            ledger.dropped(&mut former, None);
            if matches!(step, Step::Push { .. }) {
                ledger.take(&mut former, step);
            }
        }
    }
}
