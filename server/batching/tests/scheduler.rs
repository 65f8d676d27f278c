//! The scheduler with a toy model: answers, refusals, panics, hangs, and its end.

mod support;

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use ev_batching::{
    Bound, Budget, Cut, Priority, Row, RowError, RowInputs, RowShape, Scheduler, Scratch, Settings, StartError,
    SubmitError, Urgency, WorkerPriority,
};
use ev_models_core::{DataType, HeadSignature, Instance, LoadError, Model, RunError, Tensor, Tensors};

use support::{FAILS, HANGS, PANICS, Place, Toy, eventually, expected};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Rows of one column each.
fn rows(values: &[f32]) -> Vec<Row> {
    Row::split(Tensors::from(vec![Tensor::f32([values.len(), 1], values.to_vec())])).expect("one tensor")
}

fn within(time: Duration) -> Urgency {
    Urgency { deadline: Some(Instant::now() + time), ..Urgency::default() }
}

/// Keeps the only instance busy until the gate is opened.
fn occupy(toy: &Toy, scheduler: &Scheduler) -> ev_batching::Answers {
    let answers = scheduler.submit(rows(&[HANGS]), Urgency::default()).expect("admitted");
    eventually("the instance hangs", || toy.behaviour.gate.waiting() == 1);
    answers
}

fn value(result: Result<ev_batching::Answer, RowError>) -> f32 {
    result.expect("answered").outputs[0].as_f32().expect("float32")[0]
}

#[test]
fn rows_are_answered_each_with_its_own() {
    let toy = Toy::new();
    let scheduler = toy.start(Settings { max_batch_size: 2, ..Settings::default() });
    let started = Instant::now();
    let results = scheduler.submit(rows(&[1.0, 2.0, 3.0]), Urgency::default()).expect("admitted").wait();
    let took = started.elapsed();
    for (result, value) in results.into_iter().zip([1.0, 2.0, 3.0]) {
        let answer = result.expect("answered");
        assert_eq!(answer.outputs[0].shape, [1, 2]);
        assert_eq!(answer.outputs[0].as_f32(), Some(&expected(&[value])[..]));
        assert_eq!(answer.outputs[1].as_f32(), Some(&[value][..]));
        assert!(answer.timings.queue + answer.timings.prepare + answer.timings.inference <= took);
        assert_eq!((answer.batch_rows, answer.cut), if value < 3.0 { (2, Cut::Full) } else { (1, Cut::Idle) });
    }
    let stats = scheduler.stats();
    assert_eq!((stats.rows_entered, stats.rows_left, stats.rows_answered), (3, 3, 3));
    assert_eq!((stats.batches, stats.batch_rows, stats.cuts.full, stats.cuts.idle), (2, 3, 1, 1));
    assert!(stats.saturation >= 0.0 && stats.saturation <= 1.0);
}

#[test]
fn workers_are_named_and_give_way() {
    let ran = |toy: &Toy| toy.behaviour.threads.lock().expect("sound")[0].clone();
    // This thread runs one itself.
    let inline = Toy::new();
    let row = Tensors::from(vec![Tensor::f32([1, 1], vec![1.0])]);
    inline.instantiate().expect("made").run(&row).expect("run");
    let (_, usual) = ran(&inline);
    let check = |worker_priority: WorkerPriority, expected: Place| {
        let toy = Toy::new();
        let scheduler = toy.start(Settings { worker_priority, ..Settings::default() });
        value(scheduler.submit(rows(&[1.0]), Urgency::default()).expect("admitted").wait().remove(0));
        let expected = if cfg!(target_os = "linux") { expected } else { usual };
        assert_eq!(ran(&toy), ("run0-toy".to_owned(), expected), "{worker_priority:?}");
    };
    check(WorkerPriority::Normal, usual);
    check(WorkerPriority::Low, Place { nice: (usual.nice + 10).min(19), ..usual });
    check(WorkerPriority::Idle, Place { nice: 0, policy: 5 });
}

#[test]
fn workers_of_idle_priority_are_above_background_work() {
    let check = |worker_priority: WorkerPriority, usual: i64, meanwhile: i64| {
        let (toy, budget) = (Toy::new(), Budget::new(1));
        let settings = Settings { worker_priority, ..Settings::default() };
        let scheduler = Scheduler::start_within(budget.clone(), "toy", &(Arc::clone(&toy) as Arc<dyn Model>), settings)
            .expect("started");
        let policies = |count: usize| {
            for _ in 0..count {
                value(scheduler.submit(rows(&[1.0]), Urgency::default()).expect("admitted").wait().remove(0));
            }
            let ran = std::mem::take(&mut *toy.behaviour.threads.lock().expect("sound"));
            ran.into_iter().map(|(_, place)| place.policy).collect::<Vec<_>>()
        };
        assert_eq!(policies(2), [usual; 2]);
        let background = [budget.background(), budget.background()];
        assert_eq!(policies(3), [meanwhile; 3], "{worker_priority:?}");
        let [first, second] = background;
        drop(first);
        assert_eq!(policies(1), [meanwhile], "there is some more");
        drop(second);
        assert_eq!(policies(2), [usual; 2], "{worker_priority:?}");
        // A scheduler ends whichever thread its worker is at.
        let _background = budget.background();
        assert_eq!(policies(1), [meanwhile]);
        drop(scheduler);
        assert_eq!(Arc::strong_count(&toy.behaviour), 1, "no thread is left");
    };
    let (usual, idle) = (0, 5);
    check(WorkerPriority::Idle, if cfg!(target_os = "linux") { idle } else { usual }, usual);
    check(WorkerPriority::Low, usual, usual);
    check(WorkerPriority::Normal, usual, usual);
}

#[test]
fn a_row_that_cannot_be_prepared_fails_alone() {
    #[derive(Debug, thiserror::Error)]
    #[error("no image")]
    struct NoImage;
    let toy = Toy::new();
    let scheduler = toy.start(Settings::default());
    let blocked = occupy(&toy, &scheduler);
    let shape = RowShape::new([(DataType::Fp32, [1])]);
    let write = |value: f32| {
        move |inputs: &mut RowInputs<'_>, scratch: &mut Scratch| {
            *scratch.get::<usize>() += 1;
            inputs.f32(0)?[0] = value;
            Ok(())
        }
    };
    let batch = vec![
        Row::new(shape.clone(), 4, write(1.0)),
        Row::new(shape.clone(), 4, |_: &mut RowInputs<'_>, _: &mut Scratch| Err(NoImage.into())),
        Row::new(shape.clone(), 4, write(2.0)),
        Row::new(shape.clone(), 4, |inputs: &mut RowInputs<'_>, _: &mut Scratch| {
            inputs.f32(0)?[0] = 99.0;
            panic!("corrupt")
        }),
        Row::new(shape.clone(), 4, |_: &mut RowInputs<'_>, _: &mut Scratch| Ok(())),
        Row::new(shape, 4, write(3.0)),
    ];
    let answers = scheduler.submit(batch, Urgency::default()).expect("admitted");
    toy.behaviour.gate.open();
    drop(blocked.wait());
    let mut results = answers.wait();
    assert!(matches!(&results[1], Err(RowError::Prepare(error)) if error.is::<NoImage>()), "{:?}", results[1]);
    assert!(matches!(&results[3], Err(RowError::PreparePanicked { message }) if message == "corrupt"));
    assert!(matches!(&results[4], Err(RowError::Prepare(error)) if error.is::<ev_batching::InputError>()));
    for (row, expected) in [(5, 3.0), (2, 2.0), (0, 1.0)] {
        let answer = results.remove(row).expect("answered");
        assert_eq!(answer.outputs[1].as_f32(), Some(&[expected][..]));
        assert_eq!(answer.batch_rows, 3);
    }
    assert_eq!(scheduler.stats().failed.prepare, 3);
}

#[test]
fn a_full_queue_refuses_and_a_cancelled_row_frees_its_place() {
    let toy = Toy::new();
    let scheduler = toy.start(Settings { max_batch_size: 2, max_queue_size: 2, ..Settings::default() });
    let blocked = occupy(&toy, &scheduler);
    let first = scheduler.submit(rows(&[1.0]), Urgency::default()).expect("admitted");
    let second = scheduler.submit(rows(&[2.0]), Urgency::default()).expect("admitted");
    let refused = scheduler.submit(rows(&[3.0]), Urgency::default()).expect_err("full");
    assert!(matches!(refused, SubmitError::QueueFull { bound: Bound::Rows, rows: 2, .. }), "{refused:?}");
    drop(first);
    let third = scheduler.submit(rows(&[3.0]), Urgency::default()).expect("a place is free");
    let critical = Urgency { priority: Priority::Critical, deadline: None };
    let urgent = scheduler.submit(rows(&[4.0]), critical).expect("displaces the youngest");
    assert!(matches!(third.wait()[..], [Err(RowError::Displaced { .. })]));
    toy.behaviour.gate.open();
    drop(blocked.wait());
    assert_eq!((value(second.wait().remove(0)), value(urgent.wait().remove(0))), (2.0, 4.0));
    let stats = scheduler.stats();
    assert_eq!((stats.dropped.cancelled, stats.dropped.displaced, stats.refused.queue_full), (1, 1, 1));
    assert_eq!(*toy.behaviour.runs.lock().expect("sound"), [1, 2]);
}

#[test]
fn rows_without_time_or_caller_are_not_run() {
    let toy = Toy::new();
    let scheduler = toy.start(Settings::default());
    let past = scheduler.submit(rows(&[1.0]), within(Duration::ZERO));
    assert_eq!(past.map(drop), Err(SubmitError::DeadlineExceeded));
    let blocked = occupy(&toy, &scheduler);
    let late = scheduler.submit(rows(&[1.0]), within(ms(1))).expect("admitted");
    drop(scheduler.submit(rows(&[2.0]), Urgency::default()).expect("admitted"));
    thread::sleep(ms(2));
    toy.behaviour.gate.open();
    drop(blocked.wait());
    assert!(matches!(late.wait()[..], [Err(RowError::DeadlineExceeded)]));
    assert_eq!(*toy.behaviour.runs.lock().expect("sound"), [1]);
    assert_eq!((scheduler.stats().dropped.expired, scheduler.stats().dropped.cancelled), (1, 1));
}

#[test]
fn rows_whose_caller_goes_while_others_are_prepared_are_left_out() {
    let toy = Toy::new();
    let scheduler = toy.start(Settings { max_queue_delay: ms(100), max_batch_size: 2, ..Settings::default() });
    let (started, is_started) = mpsc::channel::<()>();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let slow =
        Row::new(RowShape::new([(DataType::Fp32, [1])]), 4, move |inputs: &mut RowInputs<'_>, _: &mut Scratch| {
            started.send(())?;
            may_go_on.recv()?;
            inputs.f32(0)?[0] = 1.0;
            Ok(())
        });
    let first = scheduler.submit(vec![slow], Urgency::default()).expect("admitted");
    let second = scheduler.submit(rows(&[2.0]), Urgency::default()).expect("admitted");
    is_started.recv().expect("preparing");
    drop(second);
    go_on.send(()).expect("it waits");
    assert_eq!(first.wait().remove(0).expect("answered").batch_rows, 1);
    assert_eq!(scheduler.stats().dropped.cancelled, 1);
}

#[test]
fn a_failing_run_fails_its_batch_only() {
    let toy = Toy::new();
    let scheduler = toy.start(Settings::default());
    let results = scheduler.submit(rows(&[1.0, FAILS]), Urgency::default()).expect("admitted").wait();
    assert!(results.iter().all(|result| matches!(result, Err(RowError::Run(_)))), "{results:?}");
    assert_eq!(value(scheduler.submit(rows(&[5.0]), Urgency::default()).expect("admitted").wait().remove(0)), 5.0);
    assert_eq!(toy.behaviour.instances.load(SeqCst), 1);
}

#[test]
fn a_panicking_instance_is_replaced_and_a_broken_engine_is_left_alone_for_a_while() {
    let toy = Toy::new();
    let scheduler = toy.start(Settings::default());
    let fail = |values: &[f32]| {
        let results = scheduler.submit(rows(values), Urgency::default()).expect("admitted").wait();
        for result in results {
            assert!(
                matches!(&result, Err(RowError::Panicked { message }) if message.contains("told to")),
                "{result:?}"
            );
        }
    };
    fail(&[1.0, PANICS]);
    assert_eq!(toy.behaviour.instances.load(SeqCst), 2);
    assert_eq!(toy.behaviour.live.load(SeqCst), 1);
    toy.behaviour.broken.store(true, SeqCst);
    fail(&[PANICS]);
    // No instance: callers are told when their time is over.
    let late = scheduler.submit(rows(&[1.0]), within(ms(5))).expect("admitted").wait();
    assert!(matches!(late[..], [Err(RowError::DeadlineExceeded)]), "{late:?}");
    toy.behaviour.broken.store(false, SeqCst);
    assert_eq!(value(scheduler.submit(rows(&[7.0]), Urgency::default()).expect("admitted").wait().remove(0)), 7.0);
    assert_eq!(scheduler.stats().failed.panicked, 3);
}

/// Polls a future until it is done, on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
        thread::yield_now();
    }
}

#[test]
fn a_drain_finishes_what_is_queued_and_refuses_what_comes() {
    let toy = Toy::new();
    let scheduler = toy.start(Settings { max_queue_delay: Duration::from_secs(60), ..Settings::default() });
    let answers = scheduler.submit(rows(&[1.0, 2.0]), Urgency::default()).expect("admitted");
    assert_eq!(block_on(scheduler.drain(Duration::from_secs(20))).unfinished_rows, 0);
    assert_eq!(answers.wait().into_iter().map(value).collect::<Vec<_>>(), [1.0, 2.0]);
    let refused = scheduler.submit(rows(&[1.0]), Urgency::default());
    assert_eq!(refused.map(drop), Err(SubmitError::ShuttingDown));
    assert_eq!(toy.behaviour.live.load(SeqCst), 0);
    assert_eq!(block_on(scheduler.drain(Duration::ZERO)).unfinished_rows, 0);
}

#[test]
fn the_batches_of_one_submission_run_side_by_side() {
    let toy = Toy::new();
    let scheduler = toy.start(Settings { max_batch_size: 1, instance_count: 2, ..Settings::default() });
    // Time for both workers to fall asleep, so that both have to be woken.
    thread::sleep(ms(20));
    let answers = scheduler.submit(rows(&[HANGS, HANGS]), Urgency::default()).expect("admitted");
    eventually("both instances run", || toy.behaviour.gate.waiting() == 2);
    toy.behaviour.gate.open();
    assert!(answers.wait().iter().all(Result::is_ok));
}

#[test]
fn a_hung_instance_holds_up_neither_drain_nor_drop() {
    let toy = Toy::new();
    let scheduler = toy.start(Settings { max_batch_size: 1, ..Settings::default() });
    let hung = occupy(&toy, &scheduler);
    let queued = scheduler.submit(rows(&[1.0, 2.0]), Urgency::default()).expect("admitted");
    assert_eq!(block_on(scheduler.drain(ms(10))).unfinished_rows, 3);
    for results in [hung.wait(), queued.wait()] {
        assert!(results.iter().all(|result| matches!(result, Err(RowError::ShuttingDown))), "{results:?}");
    }
    let stats = scheduler.stats();
    assert_eq!((stats.rows_entered, stats.dropped.shutting_down, stats.running_rows), (3, 3, 0));
    drop(scheduler);
    assert_eq!(toy.behaviour.live.load(SeqCst), 1, "it hangs still");
    toy.behaviour.gate.open();
    eventually("it ends when it can", || toy.behaviour.live.load(SeqCst) == 0);
}

#[test]
fn dropping_answers_everybody_and_joins() {
    let toy = Toy::new();
    let scheduler = toy.start(Settings { max_queue_delay: Duration::from_secs(60), ..Settings::default() });
    let answers = scheduler.submit(rows(&[1.0]), Urgency::default()).expect("admitted");
    drop(scheduler);
    assert_eq!(toy.behaviour.live.load(SeqCst), 0);
    assert!(matches!(answers.wait()[..], [Err(RowError::ShuttingDown)]));
}

#[test]
fn a_worker_may_drop_the_scheduler() {
    let toy = Toy::new();
    let scheduler = Arc::new(toy.start(Settings::default()));
    let (last, is_last) = mpsc::channel::<()>();
    let held = Arc::clone(&scheduler);
    let row =
        Row::new(RowShape::new([(DataType::Fp32, [1])]), 4, move |inputs: &mut RowInputs<'_>, _: &mut Scratch| {
            is_last.recv()?;
            drop(held);
            inputs.f32(0)?[0] = 1.0;
            Ok(())
        });
    let answers = scheduler.submit(vec![row], Urgency::default()).expect("admitted");
    drop(scheduler);
    last.send(()).expect("it waits");
    assert!(matches!(answers.wait()[..], [Err(RowError::ShuttingDown)]));
    eventually("the worker ends", || toy.behaviour.live.load(SeqCst) == 0);
}

#[test]
fn what_cannot_be_started_says_why() {
    let toy = Toy::new();
    let model: Arc<dyn Model> = Arc::clone(&toy) as Arc<dyn Model>;
    let start = |settings| Scheduler::start("toy", &model, settings).map(drop);
    let refused = start(Settings { max_batch_size: 0, ..Settings::default() });
    assert!(matches!(refused, Err(StartError::Settings(error)) if error.setting == "max_batch_size"));
    toy.behaviour.broken.store(true, SeqCst);
    assert!(matches!(start(Settings::default()), Err(StartError::Instance { index: 0, .. })));
}

/// Counts how many of its instances run at one time.
#[derive(Clone)]
struct Crowd {
    signature: HeadSignature,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    outputs: Tensors,
}

impl Model for Crowd {
    fn signature(&self) -> &HeadSignature {
        &self.signature
    }

    fn instantiate(&self) -> Result<Box<dyn Instance>, LoadError> {
        Ok(Box::new(self.clone()))
    }
}

impl Instance for Crowd {
    fn run(&mut self, batch: &Tensors) -> Result<&Tensors, RunError> {
        self.most.fetch_max(self.running.fetch_add(1, SeqCst) + 1, SeqCst);
        thread::sleep(ms(1));
        self.running.fetch_sub(1, SeqCst);
        self.outputs = batch.clone();
        Ok(&self.outputs)
    }
}

#[test]
fn schedulers_that_share_a_budget_run_no_more_than_it_has_places() {
    let signature = HeadSignature { columns: 1, outputs: 1, description: "crowd".to_owned() };
    let most = Arc::new(AtomicUsize::new(0));
    let crowd = Crowd { signature, running: Arc::default(), most: Arc::clone(&most), outputs: Tensors::default() };
    let model: Arc<dyn Model> = Arc::new(crowd);
    let settings = Settings { instance_count: 2, max_batch_size: 1, ..Settings::default() };
    let budget = Budget::new(1);
    let start = |name| Scheduler::start_within(budget.clone(), name, &model, settings.clone()).expect("started");
    let schedulers = [start("one"), start("two")];
    let submit = |scheduler: &Scheduler| scheduler.submit(rows(&[1.0; 30]), Urgency::default()).expect("admitted");
    let answers = schedulers.each_ref().map(submit);
    let mut waited = Duration::ZERO;
    for answer in answers.into_iter().flat_map(ev_batching::Answers::wait) {
        waited += answer.expect("answered").timings.queue;
    }
    assert_eq!(most.load(SeqCst), 1);
    let counted: Duration = schedulers.iter().map(|scheduler| scheduler.stats().queue_total).sum();
    assert_eq!(counted, waited, "waiting for a turn is waiting");
    let sizes: Vec<_> = schedulers.iter().map(|scheduler| scheduler.stats().sizes[&1].batches).collect();
    assert_eq!(sizes, [30, 30]);
}

#[test]
fn an_engine_that_hangs_does_not_hold_up_the_others_for_ever() {
    let (hanging, other) = (Toy::new(), Toy::new());
    let budget = Budget::new(1);
    let start = |toy: &Arc<Toy>| {
        let model: Arc<dyn Model> = Arc::clone(toy) as Arc<dyn Model>;
        Scheduler::start_within(budget.clone(), "toy", &model, Settings::default()).expect("started")
    };
    let (first, second) = (start(&hanging), start(&other));
    let hangs = occupy(&hanging, &first);
    let answers = second.submit(rows(&[1.0]), Urgency::default()).expect("admitted").wait();
    assert_eq!(answers.into_iter().map(value).collect::<Vec<_>>(), [1.0]);
    hanging.behaviour.gate.open();
    assert_eq!(hangs.wait().len(), 1);
}
