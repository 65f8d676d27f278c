//! The former by table: what is pushed, when it is asked, what it says.

use ev_models_core::DataType;

use super::*;

/// A former with a clock in milliseconds.
struct Bench {
    former: Former<u32>,
    start: Instant,
}

fn settings() -> Settings {
    Settings {
        max_batch_size: 4,
        max_queue_delay: ms(10),
        max_queue_size: 8,
        max_queue_bytes: 1_000,
        ..Settings::default()
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn shape(columns: usize) -> RowShape {
    RowShape::new([(DataType::Fp32, [columns])])
}

impl Bench {
    fn new(settings: Settings) -> Bench {
        Bench { former: Former::new(settings).expect("sound settings"), start: Instant::now() }
    }

    fn push_all(
        &mut self,
        at: u64,
        rows: &[(u32, usize, usize)],
        priority: Priority,
        deadline: Option<u64>,
    ) -> Result<Range<RowId>, SubmitError> {
        let pending = |&(row, columns, bytes)| Pending { row, shape: shape(columns), bytes };
        let urgency = Urgency { priority, deadline: deadline.map(|deadline| self.start + ms(deadline)) };
        let rows = rows.iter().map(pending).collect();
        self.former.push(rows, urgency, self.start + ms(at)).map_err(|refused| refused.error)
    }

    fn push(&mut self, at: u64, row: u32) {
        self.push_all(at, &[(row, 1, 1)], Priority::Interactive, None).expect("admitted");
    }

    /// What the former says: rows and reason of a batch, `until N`, or `idle`.
    fn poll(&mut self, at: u64) -> String {
        match self.former.poll(self.start + ms(at)) {
            Poll::Ready(batch) => {
                let rows: Vec<u32> = batch.rows.iter().map(|queued| queued.row).collect();
                format!("{rows:?} {:?}", batch.cut)
            }
            Poll::WaitUntil(until) => format!("until {}", (until - self.start).as_millis()),
            Poll::Idle => "idle".to_owned(),
        }
    }

    fn dropped(&mut self) -> Vec<(u32, DropReason)> {
        self.former.take_dropped().into_iter().map(|dropped| (dropped.row, dropped.reason)).collect()
    }
}

#[test]
fn a_batch_is_cut_when_it_is_full_or_has_waited() {
    let mut bench = Bench::new(settings());
    assert_eq!(bench.poll(0), "idle");
    (0..5).for_each(|row| bench.push(u64::from(row), row));
    assert_eq!(bench.poll(5), "[0, 1, 2, 3] Full");
    assert_eq!(bench.poll(5), "until 14");
    assert_eq!(bench.poll(13), "until 14");
    bench.push(13, 5);
    assert_eq!(bench.poll(14), "[4, 5] Delay");
    assert_eq!(bench.poll(14), "idle");
}

#[test]
fn without_a_delay_a_lone_row_runs_at_once() {
    let mut bench = Bench::new(Settings { max_queue_delay: Duration::ZERO, ..settings() });
    bench.push(0, 1);
    assert_eq!(bench.poll(0), "[1] Idle");
    (0..6).for_each(|row| bench.push(1, row));
    assert_eq!(bench.poll(1), "[0, 1, 2, 3] Full");
    assert_eq!(bench.poll(1), "[4, 5] Idle");
}

#[test]
fn the_largest_possible_preferred_size_is_cut() {
    let mut bench = Bench::new(Settings { max_batch_size: 8, preferred_batch_sizes: vec![6, 3], ..settings() });
    (0..2).for_each(|row| bench.push(0, row));
    assert_eq!(bench.poll(0), "until 10");
    (2..7).for_each(|row| bench.push(0, row));
    assert_eq!(bench.poll(0), "[0, 1, 2, 3, 4, 5] Preferred");
    assert_eq!(bench.poll(0), "until 10");
    (7..10).for_each(|row| bench.push(1, row));
    assert_eq!(bench.poll(1), "[6, 7, 8] Preferred");
    assert_eq!(bench.poll(10), "until 11");
    assert_eq!(bench.poll(11), "[9] Delay");
}

#[test]
fn flushed_rows_wait_for_nobody() {
    let mut bench = Bench::new(settings());
    bench.push(0, 1);
    assert_eq!(bench.poll(0), "until 10");
    bench.former.flush();
    assert_eq!(bench.poll(1), "[1] Idle");
}

#[test]
fn a_row_that_would_be_late_is_waited_for_no_longer() {
    let check = |measured: &[(usize, u64)], expected: [&str; 2]| {
        let mut bench = Bench::new(settings());
        for (rows, took) in measured {
            bench.former.measure(*rows, ms(*took), bench.start);
        }
        bench.push(0, 1);
        bench.push_all(0, &[(2, 1, 1)], Priority::Interactive, Some(8)).expect("admitted");
        assert_eq!(bench.poll(0), expected[0], "{measured:?}");
        let until = expected[0].strip_prefix("until ").map_or(0, |until| until.parse().expect("a number"));
        assert_eq!(bench.poll(until), expected[1], "{measured:?}");
    };
    // Half of its time is left for a run that was never measured.
    check(&[], ["until 4", "[1, 2] Deadline"]);
    check(&[(2, 3)], ["until 5", "[1, 2] Deadline"]);
    check(&[(1, 3)], ["until 2", "[1, 2] Deadline"]);
    check(&[(2, 8)], ["[1, 2] Deadline", "idle"]);
}

#[test]
fn a_batch_is_made_smaller_for_a_row_that_is_in_time_only_so() {
    let check = |deadlines: [Option<u64>; 3], expected: [&str; 2]| {
        let mut bench = Bench::new(Settings { max_queue_delay: Duration::ZERO, ..settings() });
        for (rows, took) in [(1, 10), (2, 20), (4, 40)] {
            bench.former.measure(rows, ms(took), bench.start);
        }
        for (row, deadline) in deadlines.into_iter().enumerate() {
            let row = u32::try_from(row).expect("few");
            bench.push_all(0, &[(row, 1, 1)], Priority::Interactive, deadline).expect("admitted");
        }
        for expected in expected {
            assert_eq!(bench.poll(0), expected, "{deadlines:?}");
        }
    };
    check([Some(15), None, None], ["[0] Deadline", "[1, 2] Idle"]);
    check([None, Some(25), None], ["[0, 1] Deadline", "[2] Idle"]);
    check([Some(45), None, Some(45)], ["[0, 1, 2] Idle", "idle"]);
    // Whoever is before it, it is late in any batch: no reason to make the batch smaller.
    check([None, Some(15), None], ["[0, 1, 2] Idle", "idle"]);
}

#[test]
fn rows_without_time_are_dropped_before_they_are_run() {
    let mut bench = Bench::new(Settings { max_queue_delay: Duration::ZERO, ..settings() });
    for (row, deadline) in [(0, 5), (1, 50), (2, 5)] {
        bench.push_all(0, &[(row, 1, 1)], Priority::Interactive, Some(deadline)).expect("admitted");
    }
    assert_eq!(bench.poll(5), "[1] Idle");
    assert_eq!(bench.dropped(), [(0, DropReason::Expired), (2, DropReason::Expired)]);
    // A run of one takes 10 ms, so that a row with 9 ms is late already.
    bench.former.measure(1, ms(10), bench.start + ms(5));
    bench.push_all(5, &[(3, 1, 1)], Priority::Interactive, Some(14)).expect("nobody was before it");
    bench.push_all(5, &[(4, 1, 1)], Priority::Interactive, Some(15)).expect("admitted");
    assert_eq!(bench.poll(5), "[4] Idle");
    assert_eq!(bench.dropped(), [(3, DropReason::Late)]);
}

#[test]
fn while_a_full_batch_waits_only_rows_with_time_for_one_are_run() {
    let mut bench = Bench::new(Settings { max_queue_delay: Duration::ZERO, ..settings() });
    for (rows, took) in [(1, 10), (4, 30)] {
        bench.former.measure(rows, ms(took), bench.start);
    }
    bench.push_all(0, &[(0, 1, 1)], Priority::Critical, Some(12)).expect("admitted");
    bench.push_all(0, &[(1, 1, 1)], Priority::Interactive, Some(29)).expect("admitted");
    (2..6).for_each(|row| bench.push(0, row));
    // Nobody makes the most urgent row late: its batch is made smaller.
    assert_eq!(bench.poll(0), "[0] Deadline");
    assert_eq!(bench.dropped(), [(1, DropReason::Late)]);
    assert_eq!(bench.poll(0), "[2, 3, 4, 5] Full");
}

#[test]
fn a_row_with_too_much_before_it_is_refused() {
    let mut bench = Bench::new(settings());
    bench.former.measure(4, ms(30), bench.start);
    (0..4).for_each(|row| bench.push(0, row));
    let refused = bench.push_all(0, &[(9, 1, 1)], Priority::Interactive, Some(29));
    assert_eq!(refused, Err(SubmitError::WouldMissDeadline { expected: ms(30) }));
    // What is less urgent does not count as being before it.
    assert_eq!(bench.push_all(0, &[(9, 1, 1)], Priority::Critical, Some(29)), Ok(4..5));
    assert_eq!(bench.push_all(0, &[(9, 1, 1)], Priority::Interactive, Some(31)), Ok(5..6));
    // Nor does anything once the measurement is old.
    assert_eq!(bench.push_all(2_000, &[(9, 1, 1)], Priority::Interactive, Some(2_001)), Ok(6..7));
}

#[test]
fn the_queue_is_bounded() {
    let mut bench = Bench::new(settings());
    let check = |bench: &mut Bench, rows: &[(u32, usize, usize)], expected: Result<(), SubmitError>| {
        assert_eq!(bench.push_all(1, rows, Priority::Interactive, None).map(drop), expected);
    };
    check(&mut bench, &[], Err(SubmitError::NoRows));
    check(&mut bench, &[(0, 1, 1); 9], Err(SubmitError::TooManyRows { rows: 9, max: 8 }));
    check(&mut bench, &[(0, 1, 1_001)], Err(SubmitError::TooLarge { bytes: 1_001, max: 1_000 }));
    check(&mut bench, &[(0, 1, usize::MAX); 2], Err(SubmitError::TooLarge { bytes: usize::MAX, max: 1_000 }));
    check(&mut bench, &[(0, 1, 100); 7], Ok(()));
    let full = |bound, retry_after| SubmitError::QueueFull { bound, rows: 7, bytes: 700, retry_after };
    check(&mut bench, &[(0, 1, 1); 2], Err(full(Bound::Rows, RETRY_AFTER)));
    check(&mut bench, &[(0, 1, 301)], Err(full(Bound::Bytes, RETRY_AFTER)));
    bench.former.measure(4, ms(40), bench.start);
    check(&mut bench, &[(0, 1, 1); 2], Err(full(Bound::Rows, ms(70))));
    let past = bench.push_all(1, &[(0, 1, 1)], Priority::Interactive, Some(1));
    assert_eq!(past, Err(SubmitError::DeadlineExceeded));
    check(&mut bench, &[(0, 1, 300)], Ok(()));
    assert_eq!((bench.former.rows(), bench.former.bytes()), (8, 1_000));
}

#[test]
fn rows_that_expired_make_room() {
    let mut bench = Bench::new(settings());
    bench.push_all(0, &[(0, 1, 1); 8], Priority::Interactive, Some(3)).expect("admitted");
    assert!(bench.push_all(2, &[(1, 1, 1)], Priority::Interactive, None).is_err());
    assert!(bench.push_all(3, &[(1, 1, 1)], Priority::Interactive, None).is_ok());
    assert_eq!(bench.dropped(), [(0, DropReason::Expired); 8]);
}

#[test]
fn cancelled_rows_make_room() {
    let mut bench = Bench::new(settings());
    let first = bench.push_all(0, &[(1, 1, 1), (2, 2, 1), (3, 1, 1)], Priority::Interactive, None).expect("admitted");
    bench.push_all(0, &[(4, 1, 1); 5], Priority::Bulk, None).expect("admitted");
    assert_eq!(bench.poll(0), "[1, 3, 4, 4] Full");
    assert_eq!(bench.former.cancel(first), [2]);
    assert_eq!(bench.former.rows(), 3);
    assert_eq!(bench.poll(10), "[4, 4, 4] Delay");
    assert_eq!(bench.poll(10), "idle");
}

#[test]
fn only_rows_of_one_shape_share_a_batch() {
    let mut bench = Bench::new(settings());
    for (row, columns) in [(0, 1), (1, 2), (2, 2), (3, 1), (4, 2), (5, 2)] {
        bench.push_all(u64::from(row), &[(row, columns, 1)], Priority::Interactive, None).expect("admitted");
    }
    assert_eq!(bench.poll(6), "[1, 2, 4, 5] Full");
    assert_eq!(bench.poll(6), "until 10");
    assert_eq!(bench.poll(10), "[0, 3] Delay");
}

#[test]
fn more_urgent_rows_go_first_and_displace_others() {
    let mut bench = Bench::new(settings());
    bench.push_all(0, &[(30, 1, 1), (31, 1, 1)], Priority::Shadow, None).expect("admitted");
    bench.push_all(0, &[(20, 1, 1), (21, 1, 1)], Priority::Bulk, None).expect("admitted");
    bench.push_all(0, &[(10, 1, 1); 4], Priority::Interactive, None).expect("admitted");
    assert!(bench.push_all(0, &[(32, 1, 1)], Priority::Shadow, None).is_err());
    bench.push_all(0, &[(0, 1, 1); 2], Priority::Critical, None).expect("displaces the youngest of the two lowest");
    assert_eq!(bench.dropped(), [(21, DropReason::Displaced), (31, DropReason::Displaced)]);
    // The oldest of each priority stays, so that four rows cannot be had.
    assert!(bench.push_all(0, &[(0, 1, 1); 4], Priority::Critical, None).is_err());
    assert_eq!(bench.dropped(), []);
    assert_eq!(bench.poll(0), "[0, 0, 10, 10] Full");
    assert_eq!(bench.poll(0), "[10, 10, 20, 30] Full");
}

#[test]
fn a_priority_that_is_passed_over_leads_in_its_turn() {
    let mut bench = Bench::new(settings());
    bench.push_all(0, &[(2, 1, 1); 2], Priority::Bulk, None).expect("admitted");
    for batch in 0..20 {
        bench.push_all(batch, &[(1, 1, 1); 4], Priority::Interactive, None).expect("admitted");
        let expected = match batch {
            8 | 17 => "[2, 1, 1, 1] Full",
            _ => "[1, 1, 1, 1] Full",
        };
        assert_eq!(bench.poll(batch), expected, "batch {batch}");
    }
}

#[test]
fn the_clock_does_not_go_back() {
    let mut bench = Bench::new(settings());
    bench.push(20, 1);
    assert_eq!(bench.poll(5), "until 30");
    assert_eq!(bench.poll(30), "[1] Delay");
}
