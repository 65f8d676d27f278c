//! Many callers, small queues, and everything that can go wrong at once: every row gets one answer, its own.

mod support;

use std::{
    future::Future,
    panic,
    pin::Pin,
    sync::{Arc, Barrier, atomic::Ordering::SeqCst},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use ev_batching::{
    Answers, Drops, Priority, Row, RowError, RowInputs, RowResult, RowShape, Scheduler, Scratch, Settings, Stats,
    SubmitError, Urgency,
};
use ev_models_core::DataType;
use fastrand::Rng;

use support::{FAILS, HANGS, PANICS, Toy, eventually, expected};

const CASES: u64 = 150;
const CALLERS: usize = 4;
const SUBMISSIONS: usize = 40;

/// What may go wrong in a case.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    panics: bool,
    fails: bool,
    hangs: bool,
    bad_rows: bool,
    cancels: bool,
    deadlines: bool,
    /// Taken down while callers still submit.
    early_end: bool,
}

/// What one caller saw.
#[derive(Debug, Default)]
struct Seen {
    submitted: u64,
    refused: u64,
    answered: u64,
    failed: u64,
    given_up: u64,
}

fn settings(random: &mut Rng) -> Settings {
    let max_batch_size = random.usize(1..=6);
    Settings {
        max_batch_size,
        preferred_batch_sizes: if random.bool() { vec![random.usize(1..=max_batch_size)] } else { Vec::new() },
        max_queue_delay: Duration::from_micros(random.u64(0..=1_500).saturating_sub(500)),
        max_queue_size: max_batch_size + random.usize(0..=12),
        max_queue_bytes: random.usize(72..=512),
        instance_count: random.usize(1..=3),
        ..Settings::default()
    }
}

/// Rows that no other caller has, and what the model gives for each.
fn submission(random: &mut Rng, trouble: Trouble, first: f32) -> Vec<(Row, Vec<f32>)> {
    let columns = random.usize(1..=3);
    let shape = RowShape::new([(DataType::Fp32, [columns])]);
    let count = random.usize(1..=6);
    let row = |index: usize| {
        let mut values = vec![first + index as f32];
        values.extend((1..columns).map(|_| random.f32()));
        match random.usize(0..60) {
            0 if trouble.panics => values[0] = PANICS,
            1 if trouble.fails => values[0] = FAILS,
            2 if trouble.hangs => values[0] = HANGS,
            _ => {}
        }
        let bad = trouble.bad_rows && random.usize(0..10) == 0;
        let panics = random.bool();
        let given = values.clone();
        let prepare = move |inputs: &mut RowInputs<'_>, scratch: &mut Scratch| {
            let place = inputs.f32(0)?;
            place[0] = f32::NAN;
            *scratch.get::<u64>() += 1;
            assert!(!(bad && panics), "bad row");
            if bad {
                return Err("bad row".into());
            }
            place.copy_from_slice(&given);
            Ok(())
        };
        (Row::new(shape.clone(), 4 * columns, prepare), values)
    };
    (0..count).map(row).collect()
}

fn urgency(random: &mut Rng, trouble: Trouble) -> Urgency {
    let deadline =
        (trouble.deadlines && random.bool()).then(|| Instant::now() + Duration::from_micros(random.u64(0..=3_000)));
    Urgency { priority: Priority::ALL[random.usize(0..Priority::COUNT)], deadline }
}

fn check(trouble: Trouble, results: Vec<RowResult>, rows: &[Vec<f32>], seen: &mut Seen) {
    assert_eq!(results.len(), rows.len());
    for (result, values) in results.into_iter().zip(rows) {
        match result {
            Ok(answer) => {
                assert_eq!(answer.outputs[0].as_f32(), Some(&expected(values)[..]), "of {values:?}");
                assert_eq!(answer.outputs[1].as_f32(), Some(&values[..1]));
                seen.answered += 1;
                continue;
            }
            Err(RowError::Prepare(_) | RowError::PreparePanicked { .. }) => assert!(trouble.bad_rows),
            Err(RowError::Panicked { .. }) => assert!(trouble.panics),
            Err(RowError::Run(_)) => assert!(trouble.fails),
            Err(RowError::DeadlineExceeded | RowError::WouldMissDeadline) => assert!(trouble.deadlines),
            Err(RowError::Displaced { .. }) => {}
            Err(RowError::ShuttingDown) => assert!(trouble.early_end || trouble.hangs),
            Err(error) => panic!("{error}"),
        }
        seen.failed += 1;
    }
}

/// Polls a few times and goes away.
fn give_up(random: &mut Rng, mut answers: Answers) -> Option<Vec<RowResult>> {
    for _ in 0..random.usize(0..=3) {
        if let Poll::Ready(results) = Pin::new(&mut answers).poll(&mut Context::from_waker(Waker::noop())) {
            return Some(results);
        }
        thread::yield_now();
    }
    None
}

fn call(scheduler: &Scheduler, trouble: Trouble, caller: usize, mut random: Rng) -> Seen {
    let mut seen = Seen::default();
    let mut pending: Vec<(Answers, Vec<Vec<f32>>)> = Vec::new();
    for number in 0..SUBMISSIONS {
        let first = (caller * SUBMISSIONS + number) as f32 * 10.0 + 1.0;
        let (rows, values): (Vec<Row>, Vec<Vec<f32>>) = submission(&mut random, trouble, first).into_iter().unzip();
        let count = rows.len() as u64;
        match scheduler.submit(rows, urgency(&mut random, trouble)) {
            Ok(answers) => {
                seen.submitted += count;
                if trouble.cancels && random.usize(0..4) == 0 {
                    match give_up(&mut random, answers) {
                        Some(results) => check(trouble, results, &values, &mut seen),
                        None => seen.given_up += count,
                    }
                } else {
                    pending.push((answers, values));
                }
            }
            Err(error) => {
                assert!(!matches!(error, SubmitError::NoRows | SubmitError::TooLarge { .. }), "{error}");
                seen.refused += count;
            }
        }
        // One at a time, or many at once.
        if pending.len() > random.usize(0..8) {
            for (answers, values) in pending.drain(..) {
                check(trouble, answers.wait(), &values, &mut seen);
            }
        }
    }
    for (answers, values) in pending {
        check(trouble, answers.wait(), &values, &mut seen);
    }
    seen
}

fn balanced(stats: &Stats, now: bool) {
    assert_eq!(stats.rows_left + stats.queue_rows as u64, stats.rows_entered);
    let gone = stats.rows_answered + stats.failed.total() + stats.dropped.total();
    assert_eq!(stats.rows_entered, gone + (stats.queue_rows + stats.running_rows) as u64, "{stats:#?}");
    assert!((0.0..=1.0).contains(&stats.saturation), "{stats:#?}");
    assert!(!now || stats.queue_rows + stats.running_rows == 0, "{stats:#?}");
}

fn case(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let mut trouble = || random.usize(0..3) == 0;
    let trouble = Trouble {
        panics: trouble(),
        fails: trouble(),
        hangs: trouble(),
        bad_rows: trouble(),
        cancels: trouble(),
        deadlines: trouble(),
        early_end: trouble(),
    };
    let settings = settings(&mut random);
    let toy = Toy::new();
    *toy.behaviour.slow.lock().expect("sound") = Duration::from_micros(random.u64(0..=200).saturating_sub(100));
    let scheduler = toy.start(settings.clone());
    let ready = Barrier::new(CALLERS + 1);
    let seen = thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (random, scheduler, ready) = (random.fork(), &scheduler, &ready);
                scope.spawn(move || {
                    ready.wait();
                    call(scheduler, trouble, caller, random)
                })
            })
            .collect();
        ready.wait();
        while callers.iter().any(|caller| !caller.is_finished()) {
            let stats = scheduler.stats();
            balanced(&stats, false);
            assert!(stats.queue_rows <= settings.max_queue_size, "{stats:#?}");
            assert!(stats.queue_bytes <= settings.max_queue_bytes, "{stats:#?}");
            // What hangs goes on after a while, unless all is taken down first.
            if toy.behaviour.gate.waiting() > 0 && !trouble.early_end {
                toy.behaviour.gate.open();
            }
            if trouble.early_end && random.usize(0..20) == 0 {
                let mut drain = Box::pin(scheduler.drain(Duration::from_millis(random.u64(0..=3))));
                let mut context = Context::from_waker(Waker::noop());
                while drain.as_mut().poll(&mut context).is_pending() {
                    thread::yield_now();
                }
            }
            thread::sleep(Duration::from_micros(200));
        }
        let mut sum = Seen::default();
        for caller in callers {
            let Seen { submitted, refused, answered, failed, given_up } = caller.join().expect("no caller panics");
            sum.submitted += submitted;
            sum.refused += refused;
            sum.answered += answered;
            sum.failed += failed;
            sum.given_up += given_up;
        }
        sum
    });
    // Rows that hang may have lost their callers.
    toy.behaviour.gate.open();
    // Everybody has an answer; what was given up may still be run.
    assert_eq!(seen.submitted, seen.answered + seen.failed + seen.given_up, "{seen:?}");
    eventually("the workers are done", || {
        let stats = scheduler.stats();
        stats.queue_rows + stats.running_rows == 0
    });
    let stats = scheduler.stats();
    balanced(&stats, true);
    assert_eq!(stats.rows_entered, seen.submitted);
    let Drops { cancelled, .. } = stats.dropped;
    assert!(cancelled <= seen.given_up, "{stats:#?} {seen:?}");
    assert!(stats.rows_answered >= seen.answered && stats.rows_answered <= seen.answered + seen.given_up);
    assert!(toy.behaviour.runs.lock().expect("sound").iter().all(|rows| *rows <= settings.max_batch_size));
    drop(scheduler);
    eventually("every instance is gone", || toy.behaviour.live.load(SeqCst) == 0);
    assert_eq!(Arc::strong_count(&toy.behaviour), 1, "nothing of the scheduler is left");
}

#[test]
fn every_row_gets_one_answer_its_own() {
    // Panics of workers are part of the test, and not worth a page each.
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !thread::current().name().is_some_and(|name| name.starts_with("run")) {
            usual(info);
        }
    }));
    let first = std::env::var("STRESS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = first.map_or(0..CASES, |seed| seed..seed + 1);
    for seed in seeds {
        if let Err(panic) = panic::catch_unwind(|| case(seed)) {
            eprintln!("case {seed} failed: run it alone with STRESS_SEED={seed}");
            panic::resume_unwind(panic);
        }
    }
}
