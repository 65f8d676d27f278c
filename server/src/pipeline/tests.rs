//! What holds for every backend and every bundled model: a panic stays with its batch, and a batch is its rows.

use std::sync::{
    Arc, LazyLock, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use ev_batching::{Budget, ExecutionPolicy, Settings};
use ev_models_core::{
    ArtifactDir, Backend, DataType, Digest, HeadSignature, Instance, LoadError, LoadOptions, Manifest, Model, RunError,
    Tensor, Tensors, manifest::Input,
};
use proptest::prelude::*;

use super::{
    BadRow, Batch, Draw, Estimate, InputValue, Observer, Outcome, PredictError, PredictionIds, RowBuilder, Seen, Want,
    predict_batch, predict_row, submit_row,
};
use crate::{
    bundled::BUNDLED,
    deploy::{Deployment, QueueConfig},
};

// === a backend that panics ===

/// Doubles its input, refuses 7, and panics at 13.
#[derive(Default)]
struct Superstitious {
    /// Instances made so far.
    made: Arc<AtomicUsize>,
}

struct Doubler {
    signature: HeadSignature,
    made: Arc<AtomicUsize>,
}

struct DoublerInstance(Tensors);

impl Backend for Superstitious {
    fn name(&self) -> &'static str {
        "forest"
    }

    fn load(&self, _: &ArtifactDir, _: &LoadOptions) -> Result<Arc<dyn Model>, LoadError> {
        let signature = HeadSignature { columns: 1, outputs: 1, description: "doubler".to_owned() };
        Ok(Arc::new(Doubler { signature, made: Arc::clone(&self.made) }))
    }
}

impl Model for Doubler {
    fn signature(&self) -> &HeadSignature {
        &self.signature
    }

    fn instantiate(&self) -> Result<Box<dyn Instance>, LoadError> {
        self.made.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(DoublerInstance(Tensors::default())))
    }
}

impl Instance for DoublerInstance {
    fn run(&mut self, batch: &Tensors) -> Result<&Tensors, RunError> {
        let values = batch[0].as_f32().expect("float32");
        assert!(!values.contains(&13.0), "thirteen");
        if values.contains(&7.0) {
            return Err(RunError::Engine { backend: "forest", reason: "seven".to_owned() });
        }
        let doubled: Vec<f32> = values.iter().map(|value| value * 2.0).collect();
        let tensor = Tensor::f32([values.len(), 1], doubled);
        self.0 = Tensors::from(vec![tensor.clone(), tensor]);
        Ok(&self.0)
    }
}

const DOUBLER: &str = r#"
[model]
name = "doubler"
task = "generic"
description = "Doubles."
backend = "forest"
license = "Apache-2.0"
[[inputs]]
name = "x"
dtype = "FP32"
[[heads]]
name = "point"
file = "model.ubj"
[[outputs]]
name = "y"
kind = "prediction"
"#;

fn doubler(backend: &Superstitious) -> Deployment {
    let manifest = Manifest::parse(DOUBLER).expect("a manifest");
    Deployment::load(backend, manifest, 1, "sha256:0".to_owned(), &ArtifactDir::default(), 1).expect("loaded")
}

fn ask(deployment: &Deployment, x: f32) -> Result<Estimate, PredictError> {
    predict_row(deployment, Want::Estimate, |row| row.input(0, InputValue::Number(x))).map(|outcome| outcome.estimate)
}

fn ask_all(deployment: &Deployment, xs: &[f32]) -> Vec<Result<Estimate, PredictError>> {
    let answered = batch(deployment, xs.len(), |row, builder| builder.input(0, InputValue::Number(xs[row])));
    answered.into_iter().map(|result| result.map(|outcome| outcome.estimate)).collect()
}

fn batch(
    deployment: &Deployment,
    rows: usize,
    fill: impl Fn(usize, &mut RowBuilder<'_>),
) -> Vec<Result<Outcome, PredictError>> {
    let batch = Batch { rows, deadline: None, want: Want::EstimateAndRaw, bad_row: BadRow::FailsAlone, draw: None };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(predict_batch(deployment, batch, fill)).expect("a batch that may run")
}

#[test]
fn a_panic_fails_its_request_and_the_next_one_is_answered() {
    let backend = Superstitious::default();
    let deployment = doubler(&backend);
    let made = backend.made.load(Ordering::Relaxed);
    assert_eq!(ask(&deployment, 2.0).expect("answered"), Estimate::Prediction(vec![4.0]));
    assert!(matches!(ask(&deployment, 13.0), Err(PredictError::Panicked)));
    assert_eq!(backend.made.load(Ordering::Relaxed), made + 1, "the instance was replaced");
    assert_eq!(ask(&deployment, 3.0).expect("answered"), Estimate::Prediction(vec![6.0]));
    let stats = deployment.stats();
    assert_eq!((stats.success.count, stats.fail.count), (2, 1));
}

#[test]
fn a_panic_fails_its_batch_and_no_other() {
    let backend = Superstitious::default();
    let deployment = doubler(&backend);
    let made = backend.made.load(Ordering::Relaxed);
    let results = ask_all(&deployment, &[1.0, 13.0, f32::NAN]);
    assert!(matches!(results[0], Err(PredictError::Panicked)), "{results:?}");
    assert!(matches!(results[1], Err(PredictError::Panicked)), "{results:?}");
    assert!(
        matches!(&results[2], Err(PredictError::Invalid(_))),
        "a row that never ran has its own error: {results:?}"
    );
    assert_eq!(backend.made.load(Ordering::Relaxed), made + 1, "the instance was replaced once");
    let results = ask_all(&deployment, &[1.0, 2.0]);
    let values: Vec<Estimate> = results.into_iter().map(|result| result.expect("answered")).collect();
    assert_eq!(values, [Estimate::Prediction(vec![2.0]), Estimate::Prediction(vec![4.0])]);
}

#[test]
fn a_failing_engine_is_not_replaced() {
    let backend = Superstitious::default();
    let deployment = doubler(&backend);
    let made = backend.made.load(Ordering::Relaxed);
    assert!(matches!(ask(&deployment, 7.0), Err(PredictError::Backend(_))));
    let results = ask_all(&deployment, &[7.0, 8.0]);
    assert!(results.iter().all(|result| matches!(result, Err(PredictError::Backend(_)))), "{results:?}");
    assert_eq!(backend.made.load(Ordering::Relaxed), made);
    assert_eq!(ask(&deployment, 8.0).expect("answered"), Estimate::Prediction(vec![16.0]));
}

// === the same in a queue ===

fn queue(deployment: Deployment) -> Arc<Deployment> {
    let settings = Settings { instance_count: 1, max_batch_size: 16, max_queue_size: 64, ..Settings::default() };
    let config = QueueConfig { settings, budget: Budget::new(1) };
    let mut deployment = deployment;
    deployment.settle(ExecutionPolicy::Queued, &config).expect("settled");
    deployment.start_queue(&config).expect("queued");
    Arc::new(deployment)
}

fn queued_row(deployment: &Arc<Deployment>, fill: impl FnOnce(&mut RowBuilder<'_>)) -> Result<Outcome, PredictError> {
    let queue = deployment.queue().expect("a queue");
    let row = submit_row(deployment, queue, Want::EstimateAndRaw, None, fill)?;
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(row.outcome())
}

#[test]
fn a_panic_on_a_worker_fails_its_batch_and_the_instance_is_replaced() {
    let backend = Superstitious::default();
    let deployment = queue(doubler(&backend));
    let ask = |x| queued_row(&deployment, |row| row.input(0, InputValue::Number(x))).map(|outcome| outcome.estimate);
    assert_eq!(ask(2.0).expect("answered"), Estimate::Prediction(vec![4.0]));
    let made = backend.made.load(Ordering::Relaxed);
    assert!(matches!(ask(13.0), Err(PredictError::Panicked)));
    assert_eq!(backend.made.load(Ordering::Relaxed), made + 1, "the instance was replaced");
    assert!(matches!(ask(7.0), Err(PredictError::Backend(_))));
    assert_eq!(ask(3.0).expect("answered"), Estimate::Prediction(vec![6.0]));
    let results = ask_all(&deployment, &[1.0, 13.0, f32::NAN]);
    assert!(matches!(results[0], Err(PredictError::Panicked)), "{results:?}");
    assert!(matches!(&results[2], Err(PredictError::Invalid(_))), "{results:?}");
    let stats = deployment.stats();
    assert_eq!((stats.success.count, stats.fail.count), (3, 2), "a batch is answered, whatever its rows are");
}

#[test]
fn a_batch_larger_than_the_queue_is_run_in_parts() {
    let deployment = queue(doubler(&Superstitious::default()));
    let xs: Vec<f32> = (20..320_u16).map(f32::from).collect();
    let results = ask_all(&deployment, &xs);
    assert_eq!(results.len(), 300);
    for (x, result) in xs.iter().zip(results) {
        assert_eq!(result.expect("answered"), Estimate::Prediction(vec![x * 2.0]));
    }
    let stats = deployment.stats();
    assert_eq!((stats.success.count, stats.rows), (1, 300));
    let runs: u64 = stats.batches.iter().map(|(rows, runs)| *rows as u64 * runs.inference.count).sum();
    assert_eq!(runs, 300, "{:?}", stats.batches);
}

#[test]
fn a_row_that_no_queue_could_hold_is_refused_when_it_is_loaded() {
    let settings = Settings { max_queue_bytes: 7, ..Settings::default() };
    let config = QueueConfig { settings, budget: Budget::new(1) };
    let mut deployment = doubler(&Superstitious::default());
    deployment.settle(ExecutionPolicy::Queued, &config).expect("settled");
    let refused = deployment.start_queue(&config).expect_err("too large");
    let source = std::error::Error::source(&refused).map(ToString::to_string);
    assert_eq!(source.as_deref(), Some("a row has 8 bytes, but `batching.max_queue_bytes` is 7"));
}

// === a batch is its rows ===

/// Every bundled model, with a queue.
static QUEUED: LazyLock<Vec<Arc<Deployment>>> = LazyLock::new(|| load_bundled().into_iter().map(queue).collect());

/// Every bundled model, loaded as the server loads them.
/// Those of single values: pictures have tests of their own.
static MODELS: LazyLock<Vec<Deployment>> = LazyLock::new(load_bundled);

fn load_bundled() -> Vec<Deployment> {
    let load = |(model, manifest): (&crate::bundled::BundledModel, Manifest)| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let files: Vec<_> = model
            .files
            .iter()
            .map(|(name, bytes)| {
                let path = directory.path().join(name);
                fs_err::write(&path, bytes).expect("written");
                ((*name).to_owned(), path)
            })
            .collect();
        let backend = ev_models::backend(&manifest.model.backend, &ev_models::Libraries::default()).expect("built in");
        let digest = Digest::of(model.manifest_toml.as_bytes()).to_string();
        Deployment::load(&*backend, manifest, 1, digest, &ArtifactDir::new(files), 1).expect("loaded")
    };
    let parsed = BUNDLED.iter().map(|model| (model, Manifest::parse(model.manifest_toml).expect("a manifest")));
    parsed.filter(|(_, manifest)| manifest.preprocessing.is_none()).map(load).collect()
}

/// What a caller may send for one input: nothing, something usual, something strange, something wrong.
#[derive(Debug, Clone)]
enum Sent {
    Nothing,
    Number(f32),
    Text(String),
    Flag(bool),
}

fn sent(input: &Input) -> BoxedStrategy<Sent> {
    let something = match input.dtype {
        DataType::Bool => any::<bool>().prop_map(Sent::Flag).boxed(),
        DataType::Bytes => {
            let unknown = "[ a-zA-Z0-9é]{0,12}".prop_map(Sent::Text);
            if input.vocabulary.is_empty() {
                unknown.boxed()
            } else {
                let known = proptest::sample::select(input.vocabulary.clone()).prop_map(Sent::Text);
                prop_oneof![4 => known, 1 => unknown].boxed()
            }
        }
        _ => {
            let [low, high] = input.range.expect("every number of an EV task has a range");
            let within =
                (0.0f64..=1.0).prop_map(move |share| Sent::Number(super::plan::narrow(low + share * (high - low))));
            let trained = input.trained_range.unwrap_or([low, high]);
            let usual = (0.0f64..=1.0).prop_map(move |share| {
                Sent::Number(super::plan::narrow(trained[0] + share * (trained[1] - trained[0])))
            });
            let wrong = proptest::sample::select(vec![f32::NAN, f32::INFINITY, -1e30]).prop_map(Sent::Number);
            prop_oneof![8 => usual, 4 => within, 1 => wrong].boxed()
        }
    };
    let nothing = if input.required { 1 } else { 4 };
    prop_oneof![nothing => Just(Sent::Nothing), 12 => something].boxed()
}

/// Some model, and rows for it.
fn rows() -> impl Strategy<Value = (usize, Vec<Vec<Sent>>)> {
    (0..MODELS.len()).prop_flat_map(|model| {
        let row: Vec<BoxedStrategy<Sent>> = MODELS[model].manifest.inputs.iter().map(sent).collect();
        (Just(model), proptest::collection::vec(row, 1..40))
    })
}

fn fill(row: &[Sent], builder: &mut RowBuilder<'_>) {
    for (index, value) in row.iter().enumerate() {
        match value {
            Sent::Nothing => {}
            Sent::Number(number) => builder.input(index, InputValue::Number(*number)),
            Sent::Text(text) => builder.input(index, InputValue::Text(text)),
            Sent::Flag(flag) => builder.input(index, InputValue::Flag(*flag)),
        }
    }
}

/// An answer without its times, which differ, in bits, which must not.
fn comparable(result: Result<Outcome, PredictError>) -> Result<String, String> {
    let outcome = result.map_err(|error| format!("{error:?}"))?;
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let estimate = match &outcome.estimate {
        Estimate::Quantiles(values) => bits(values),
        Estimate::Probability(value) => bits(&[*value]),
        Estimate::Classes(values) | Estimate::Prediction(values) => bits(values),
        Estimate::Unknown => Vec::new(),
    };
    let raw = bits(&outcome.raw);
    Ok(format!("{estimate:?} {raw:?} {} {:?}", outcome.coverage.to_bits(), outcome.out_of_distribution))
}

/// Keeps what it is shown.
#[derive(Default)]
struct Collecting(Mutex<Vec<Arc<Seen>>>);

impl Observer for Collecting {
    fn offer(&self, seen: &Arc<Seen>) {
        self.0.lock().expect("no panic").push(Arc::clone(seen));
    }
}

/// What an observer is shown of an outcome.
fn shown(deployment: &Deployment, outcome: &Outcome) -> Arc<Seen> {
    let collecting = Arc::new(Collecting::default());
    deployment.tap().listen("shown", 1.0, Arc::clone(&collecting) as _);
    let id = PredictionIds::new().of(outcome.taken, outcome.draw);
    deployment.tap().show(deployment.served(), id, 0, outcome);
    collecting.0.lock().expect("no panic").pop().expect("it wants all")
}

#[test]
fn a_share_of_rows_is_copied_and_every_row_while_somebody_wants_all() {
    let deployment = doubler(&Superstitious::default());
    let copied = |rows: usize| {
        let ask = |_| predict_row(&deployment, Want::Estimate, |row| row.input(0, InputValue::Number(1.0)));
        (0..rows).map(ask).filter(|outcome| outcome.as_ref().expect("answered").inputs.is_some()).count()
    };
    assert_eq!(copied(100), 0, "nobody listens");
    deployment.tap().listen("some", 0.25, Arc::new(Collecting::default()));
    // Ten standard deviations of a binomial.
    assert!((2_066..=2_934).contains(&copied(10_000)));
    deployment.tap().listen("all", 1.0, Arc::new(Collecting::default()));
    assert_eq!(copied(100), 100);
    deployment.tap().leave("all");
    deployment.tap().leave("some");
    assert_eq!(copied(100), 0);
}

#[test]
fn an_observer_is_shown_its_share_by_the_ids_of_the_predictions() {
    let deployment = doubler(&Superstitious::default());
    let (all, some) = (Arc::new(Collecting::default()), Arc::new(Collecting::default()));
    deployment.tap().listen("all", 1.0, Arc::clone(&all) as _);
    deployment.tap().listen("some", 0.5, Arc::clone(&some) as _);
    let ids = PredictionIds::new();
    let batch = Batch {
        rows: 1_000,
        deadline: None,
        want: Want::Estimate,
        bad_row: BadRow::FailsAll,
        draw: Some(Draw::of_request()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let one = |_: usize, row: &mut RowBuilder<'_>| row.input(0, InputValue::Number(1.0));
    let of_request = runtime.block_on(predict_batch(&deployment, batch, one)).expect("answered");
    let alone = (0..1_000).map(|_| predict_row(&deployment, Want::Estimate, |row| one(0, row)));
    for outcome in of_request.into_iter().chain(alone) {
        let outcome = outcome.expect("answered");
        deployment.tap().show(deployment.served(), ids.of(outcome.taken, outcome.draw), 0, &outcome);
    }
    // The share as anybody computes it from an id: 30 bits behind the variant.
    let is_below = |seen: &&Arc<Seen>| seen.id.as_u64_pair().1 >> 32 & 0x3fff_ffff < 1 << 29;
    let all = all.0.lock().expect("no panic");
    let expected: Vec<_> = all.iter().filter(is_below).map(|seen| seen.id).collect();
    let found: Vec<_> = some.0.lock().expect("no panic").iter().map(|seen| seen.id).collect();
    assert_eq!((all.len(), found), (2_000, expected.clone()));
    let of_request = expected.iter().filter(|id| id.as_u64_pair().1 >> 32 == all[0].id.as_u64_pair().1 >> 32).count();
    assert!(of_request == 0 || of_request == 1_000, "rows of a request are shown together: {of_request}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        max_shrink_time: 10_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_batch_answers_as_its_rows_would_alone((model, rows) in rows()) {
        let deployment = &MODELS[model];
        let together = batch(deployment, rows.len(), |row, builder| fill(&rows[row], builder));
        for (row, together) in rows.iter().zip(together) {
            let alone = predict_row(deployment, Want::EstimateAndRaw, |builder| fill(row, builder));
            prop_assert_eq!(comparable(alone), comparable(together));
        }
    }

    #[test]
    fn a_queue_answers_as_rows_would_be_answered_inline((model, rows) in rows()) {
        let (inline, queued) = (&MODELS[model], &QUEUED[model]);
        let together = batch(queued, rows.len(), |row, builder| fill(&rows[row], builder));
        for (row, together) in rows.iter().zip(together) {
            let expected = comparable(predict_row(inline, Want::EstimateAndRaw, |builder| fill(row, builder)));
            prop_assert_eq!(&comparable(together), &expected);
            let alone = queued_row(queued, |builder| fill(row, builder));
            prop_assert_eq!(&comparable(alone), &expected);
        }
    }

    #[test]
    fn what_is_shown_of_a_row_makes_the_same_answer_again((model, rows) in rows()) {
        let (inline, queued) = (&MODELS[model], &QUEUED[model]);
        let collecting = || Arc::new(Collecting::default());
        inline.tap().listen("shown", 1.0, collecting());
        queued.tap().listen("shown", 1.0, collecting());
        let of_queue = batch(queued, rows.len(), |row, builder| fill(&rows[row], builder));
        let together = batch(inline, rows.len(), |row, builder| fill(&rows[row], builder));
        let alone = rows.iter().map(|row| predict_row(inline, Want::EstimateAndRaw, |builder| fill(row, builder)));
        let served = std::iter::repeat_n(&**queued, rows.len()).chain(std::iter::repeat(inline));
        for (of, outcome) in served.zip(of_queue.into_iter().chain(together).chain(alone)) {
            let Ok(outcome) = outcome else { continue };
            let seen = shown(of, &outcome);
            let again = predict_row(inline, Want::EstimateAndRaw, |builder| seen.fill(inline.plan(), builder));
            prop_assert_eq!(comparable(again), comparable(Ok(outcome)));
        }
    }

    #[test]
    fn an_answer_is_finite_ordered_and_within_its_range((model, rows) in rows()) {
        let deployment = &MODELS[model];
        for row in &rows {
            let Ok(outcome) = predict_row(deployment, Want::Estimate, |builder| fill(row, builder)) else { continue };
            let [low, high] = deployment.manifest.outputs[0].range.unwrap_or([f64::NEG_INFINITY, f64::INFINITY]);
            match outcome.estimate {
                Estimate::Quantiles([q10, q50, q90]) => {
                    prop_assert!(q10.is_finite() && q10 <= q50 && q50 <= q90 && q90.is_finite());
                    prop_assert!(f64::from(q10) >= low && f64::from(q90) <= high, "{} {} of {:?}", q10, q90, [low, high]);
                }
                Estimate::Probability(probability) => prop_assert!((0.0..=1.0).contains(&probability)),
                Estimate::Classes(classes) => {
                    let sum: f64 = classes.iter().map(|class| f64::from(*class)).sum();
                    prop_assert!((sum - 1.0).abs() < 1e-6, "they sum to {}", sum);
                    prop_assert!(classes.iter().all(|class| (0.0..=1.0).contains(class)));
                }
                Estimate::Prediction(_) => prop_assert!(false, "no bundled model answers so"),
                Estimate::Unknown => prop_assert!(!outcome.out_of_distribution.is_empty(), "it says why"),
            }
            prop_assert!((0.0..=1.0).contains(&outcome.coverage));
        }
    }
}
