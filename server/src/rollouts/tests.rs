//! What a candidate that misbehaves in shadow does to production: nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ev_models_core::{
    ArtifactDir, Backend, HeadSignature, Instance, LoadError, LoadOptions, Manifest, Model, RunError, Tensor, Tensors,
};
use ev_rollouts::{ALL, Share};
use uuid::Uuid;

use super::compare::{Comparison, HUNG_MAX, Threads};
use crate::{
    deploy::Deployment,
    pipeline::{Estimate, InputValue, Want, predict_row},
};

const MANIFEST: &str = r#"
[model]
name = "adder"
task = "generic"
description = "Adds."
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

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Good,
    Slow,
    Hangs,
    Panics,
    Fails,
}

/// An engine of some manners. Rows it ran are counted.
struct Engine(Manner, Arc<AtomicU64>);

struct Adder(HeadSignature, Manner, Arc<AtomicU64>);

struct AdderInstance(Tensors, Manner, Arc<AtomicU64>);

impl Backend for Engine {
    fn name(&self) -> &'static str {
        "forest"
    }

    fn load(&self, _: &ArtifactDir, _: &LoadOptions) -> Result<Arc<dyn Model>, LoadError> {
        let signature = HeadSignature { columns: 1, outputs: 1, description: "adder".to_owned() };
        Ok(Arc::new(Adder(signature, self.0, Arc::clone(&self.1))))
    }
}

impl Model for Adder {
    fn signature(&self) -> &HeadSignature {
        &self.0
    }

    fn instantiate(&self) -> Result<Box<dyn Instance>, LoadError> {
        Ok(Box::new(AdderInstance(Tensors::default(), self.1, Arc::clone(&self.2))))
    }
}

impl Instance for AdderInstance {
    fn run(&mut self, batch: &Tensors) -> Result<&Tensors, RunError> {
        self.2.fetch_add(1, Ordering::Relaxed);
        match self.1 {
            Manner::Good => {}
            Manner::Slow => std::thread::sleep(Duration::from_millis(2)),
            // As good as for ever: longer than any test.
            Manner::Hangs => std::thread::sleep(Duration::from_secs(3_600)),
            Manner::Panics => panic!("as it does"),
            Manner::Fails => return Err(RunError::Engine { backend: "forest", reason: "as it does".to_owned() }),
        }
        let values: Vec<f32> = batch[0].as_f32().expect("float32").iter().map(|value| value + 1.0).collect();
        let tensor = Tensor::f32([values.len(), 1], values);
        self.0 = Tensors::from(vec![tensor.clone(), tensor]);
        Ok(&self.0)
    }
}

fn deployment(version: u32, manner: Manner, runs: &Arc<AtomicU64>) -> Arc<Deployment> {
    let manifest = Manifest::parse(MANIFEST).expect("a manifest");
    let engine = Engine(manner, Arc::clone(runs));
    let loaded = Deployment::load(&engine, manifest, version, "sha256:0".to_owned(), &ArtifactDir::default(), 1);
    Arc::new(loaded.expect("loaded"))
}

/// Asks as a request does, the tap included.
fn ask(deployment: &Deployment, x: f32) -> Estimate {
    let fill = |row: &mut crate::pipeline::RowBuilder<'_>| row.input(0, InputValue::Number(x));
    let outcome = predict_row(deployment, Want::Estimate, fill).expect("answered");
    if outcome.inputs.is_some() {
        deployment.tap().show(deployment.served(), Uuid::nil(), 0, &outcome);
    }
    outcome.estimate
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let ends = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < ends, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn whatever_a_shadow_does_production_answers_as_before() {
    const ROWS: u16 = 5_000;
    for manner in [Manner::Good, Manner::Slow, Manner::Hangs, Manner::Panics, Manner::Fails] {
        let (production_runs, runs) = (Arc::default(), Arc::default());
        let (production, candidate) = (deployment(1, Manner::Good, &production_runs), deployment(2, manner, &runs));
        let comparison = Comparison::start(&production, &candidate, "", &Threads::default()).expect("a thread");
        comparison.listen(Share::ALL);
        let started = Instant::now();
        for row in 0..ROWS {
            assert_eq!(
                ask(&production, f32::from(row)),
                Estimate::Prediction(vec![f32::from(row) + 1.0]),
                "{manner:?}"
            );
        }
        // Rows that a slow one would take ten seconds for, and one that hangs an hour.
        let took = started.elapsed();
        assert!(took < Duration::from_secs(5), "{manner:?}: {took:?}");
        assert_eq!(production_runs.load(Ordering::Relaxed), u64::from(ROWS), "the shadow runs none of production's");
        assert_eq!(production.stats().success.count, u64::from(ROWS));
        wait("it runs", || runs.load(Ordering::Relaxed) > 0);
        match manner {
            Manner::Good => {
                wait("all are compared or dropped", || {
                    comparison.seen().pair_count() + comparison.dropped() == u64::from(ROWS)
                });
                let seen = comparison.seen();
                assert_eq!(seen.pairs[ALL].absolute.mean(), Some(0.0));
                assert_eq!(seen.pairs[ALL].candidate.count, seen.pair_count());
            }
            Manner::Slow => assert!(comparison.dropped() > 0),
            Manner::Hangs => {
                assert!(comparison.dropped() > 0);
                assert_eq!(comparison.seen().pair_count(), 0);
                wait("it is noticed", || comparison.hangs().is_some());
            }
            Manner::Panics | Manner::Fails => {
                wait("failures are pairs", || comparison.seen().pair_count() > 0);
                let failed = comparison.seen().pairs[ALL].failed;
                assert!(failed > 0 && comparison.runs().1 >= failed);
            }
        }
        // Counted nowhere: neither a request of the candidate's nor a lock that statistics wait for.
        assert_eq!(candidate.stats().success.count, 0);
        drop(comparison);
        let before = production.stats().success.count;
        ask(&production, 1.0);
        assert_eq!(production.stats().success.count, before + 1);
    }
}

#[test]
fn a_row_of_the_candidate_is_held_against_what_production_would_have_said() {
    let runs = Arc::default();
    let (production, candidate) = (deployment(1, Manner::Good, &runs), deployment(2, Manner::Good, &runs));
    let comparison = Comparison::start(&production, &candidate, "", &Threads::default()).expect("a thread");
    comparison.listen(Share::ALL);
    for row in 0..100u8 {
        ask(&candidate, f32::from(row));
    }
    wait("all are compared", || comparison.seen().pair_count() == 100);
    let seen = comparison.seen();
    assert_eq!((seen.candidate.outputs[ALL].count, seen.baseline.outputs.len()), (100, 0));
    assert_eq!(comparison.runs(), (0, 0));
    drop(seen);
    drop(comparison);
}

#[test]
fn threads_that_hang_are_counted_and_no_more_are_begun() {
    let (threads, runs) = (Threads::default(), Arc::default());
    let production = deployment(1, Manner::Good, &runs);
    let start = |manner| Comparison::start(&production, &deployment(2, manner, &runs), "", &threads);
    // One that comes back is not counted, however many there were.
    for _ in 0..=HUNG_MAX {
        let comparison = start(Manner::Good).expect("a thread");
        comparison.listen(Share::ALL);
        ask(&production, 1.0);
        wait("it is compared", || comparison.seen().pair_count() > 0);
    }
    for hung in 0..HUNG_MAX {
        assert_eq!(threads.hung("adder"), hung);
        let comparison = start(Manner::Hangs).expect("a thread");
        comparison.listen(Share::ALL);
        ask(&production, 1.0);
        wait("it is noticed", || comparison.hangs().is_some());
    }
    // Their comparisons are over, and the threads are still there.
    assert_eq!(threads.all_hung().get("adder"), Some(&HUNG_MAX));
    let refused = start(Manner::Good).err().expect("refused").to_string();
    assert!(refused.starts_with(&format!("{HUNG_MAX} threads of this server hang")), "{refused}");
    assert_eq!(threads.hung("another"), 0);
}
