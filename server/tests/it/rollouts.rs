//! A new version's way to production, with the bundled range model: one that is better, and one that mixed up its units.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ev_client::{Client, Code};
use ev_proto::ev::{
    range::v1::{PredictRequest, PredictResponse, range_prediction_client::RangePredictionClient},
    registry::v1::{
        Rollout, RolloutGuards, RolloutPlan, RolloutShadow, RolloutState, RolloutStep, Version,
        model_registry_client::ModelRegistryClient,
    },
};
use tokio::task::JoinHandle;
use tonic::{Request, transport::Channel};

use crate::support::{refusal::Refusal, server::TestServer, zoo::Model};

/// Kilometres in miles.
const MILES: f64 = 0.621_371;
/// Callers that ask one after the other.
const CALLERS: usize = 4;
/// Keys of the callers, in turn.
const KEYS: usize = 200;

/// The range model, whose answers are `factor` of what they were: a bias that was corrected, or another unit. Its golden
/// answers are its own, as those of a model would be that was trained so.
pub(crate) fn times(factor: f64) -> Model {
    let mut model = Model::of("ev-range");
    model.set("description", &format!("Trained anew: {factor}."));
    model.table("linear").insert("intercept".to_owned(), factor.ln().into());
    model.edit_golden(|golden| {
        let cases = golden["cases"].as_array_mut().expect("cases");
        // What is clamped to the plausible range, 20 to 1500 km, tells nothing of the scale.
        cases.retain(|case| {
            let quantiles =
                case["expected"].as_object().expect("quantiles").values().filter_map(|value| value.as_f64());
            quantiles.into_iter().all(|value| value * factor.min(1.0) > 20.0 && value * factor.max(1.0) < 1_500.0)
        });
        for case in cases {
            for value in case["expected"].as_object_mut().expect("quantiles").values_mut() {
                *value = (value.as_f64().expect("a number") * factor).into();
            }
        }
    });
    model
}

pub(crate) async fn registered(server: &TestServer, model: Model) -> Version {
    let registry = ModelRegistryClient::new(server.endpoint().channel().await);
    model.upload(&registry).await.expect("registered").version.expect("a version")
}

pub(crate) fn seconds(milliseconds: i64) -> Option<prost_types::Duration> {
    let nanos = i32::try_from(milliseconds % 1_000 * 1_000_000).expect("below a second");
    Some(prost_types::Duration { seconds: milliseconds / 1_000, nanos })
}

pub(crate) fn step(percent: f64, milliseconds: i64, minimum_requests: u64) -> RolloutStep {
    RolloutStep { percent, duration: seconds(milliseconds), minimum_requests }
}

/// A plan of seconds. Latency is another test's matter: many tests share this machine.
pub(crate) fn plan() -> RolloutPlan {
    let guards =
        RolloutGuards { minimum: Some(50), off: vec!["latency_p99_ratio_max".to_owned()], ..RolloutGuards::default() };
    RolloutPlan {
        shadow: Some(RolloutShadow { duration: seconds(200), minimum_pairs: 100 }),
        steps: vec![step(10.0, 300, 20), step(50.0, 300, 50)],
        bake: seconds(300),
        compare_percent: Some(100.0),
        cohort_by: "make".to_owned(),
        guards: Some(guards),
        ..RolloutPlan::default()
    }
}

/// One answer to a caller.
#[derive(Debug, Clone)]
struct Answered {
    at: Instant,
    version: u32,
    range_km: f32,
}

/// Callers that go on until they are stopped.
struct Traffic {
    stop: Arc<AtomicBool>,
    answered: Arc<Mutex<Vec<Answered>>>,
    callers: Vec<JoinHandle<()>>,
}

// === impl Traffic ===

impl Traffic {
    async fn start(server: &TestServer) -> Traffic {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let mut callers = Vec::new();
        for caller in 0..CALLERS {
            let client = RangePredictionClient::new(server.endpoint().channel().await);
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            callers.push(tokio::spawn(async move {
                let mut key = caller;
                while !stop.load(Ordering::Relaxed) {
                    key = (key + CALLERS) % KEYS;
                    // No request may fail, whatever is rolled out or back.
                    let response = ask(client.clone(), key).await;
                    let model = response.info.and_then(|info| info.model).expect("a model version");
                    let found =
                        Answered { at: Instant::now(), version: model.version, range_km: response.range_q50_km };
                    answered.lock().expect("not poisoned").push(found);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }));
        }
        Traffic { stop, answered, callers }
    }

    fn so_far(&self) -> Vec<Answered> {
        self.answered.lock().expect("not poisoned").clone()
    }

    async fn stop(self) -> Vec<Answered> {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await.expect("no request failed");
        }
        self.answered.lock().expect("not poisoned").clone()
    }
}

async fn ask(mut client: RangePredictionClient<Channel>, key: usize) -> PredictResponse {
    let makes = ["Tesla", "BMW", "Kia", "Audi"];
    let capacity = 40.0 + 60.0 * f32::from(u16::try_from(key).expect("small")) / 200.0;
    let mut request = Request::new(PredictRequest {
        make: makes[key % makes.len()].to_owned(),
        model: "Model 3".to_owned(),
        battery_capacity_kwh: Some(capacity),
        ..PredictRequest::default()
    });
    let key = format!("car-{key:04}").parse().expect("a header");
    request.metadata_mut().insert("x-evserve-sticky-key", key);
    client.predict(request).await.expect("answered").into_inner()
}

/// The rollout once it is over, or once `done` says so.
pub(crate) async fn until(client: &Client, what: &str, done: impl Fn(&Rollout) -> bool) -> Rollout {
    let ends = Instant::now() + Duration::from_secs(60);
    loop {
        let rollout = client.rollouts().get("ev-range").await.expect("found");
        if done(&rollout) {
            return rollout;
        }
        assert!(Instant::now() < ends, "not {what} in time: {rollout:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn is_over(rollout: &Rollout) -> bool {
    matches!(rollout.state(), RolloutState::Promoted | RolloutState::Aborted | RolloutState::RolledBack)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_better_version_goes_to_production_by_itself_and_is_had_back_at_once() {
    let server = TestServer::start(&[]).await;
    assert_eq!(registered(&server, times(1.004)).await.version, 2);
    let client = server.client().await;
    let traffic = Traffic::start(&server).await;
    let started = client.rollouts().start("ev-range", 2, Some(plan())).await.expect("started");
    assert_eq!((started.baseline_version, started.candidate_version), (1, 2));
    let again = client.rollouts().start("ev-range", 2, None).await.map_err(Refusal::from).expect_err("refused");
    again.says(Code::FailedPrecondition, "ROLLOUT_UNDER_WAY", &[started.id.as_str()]);

    let over = until(&client, "over", is_over).await;
    assert_eq!(over.state(), RolloutState::Promoted, "{over:#?}");
    let states: Vec<(RolloutState, u32)> = over.events.iter().map(|event| (event.state(), event.step)).collect();
    let expected = [
        (RolloutState::Pending, 0),
        (RolloutState::Shadowing, 0),
        (RolloutState::Canary, 1),
        (RolloutState::Canary, 2),
        (RolloutState::Baking, 0),
        (RolloutState::Promoted, 0),
    ];
    assert_eq!(states, expected);
    let of = |alias: &str| format!("ev-range@{alias}").parse().expect("a reference");
    let registry = client.registry();
    let version = |found: ev_proto::ev::registry::v1::GetVersionResponse| found.version.map(|version| version.version);
    assert_eq!(version(registry.get_version(of("production")).await.expect("found")), Some(2));
    assert_eq!(version(registry.get_version(of("fallback")).await.expect("found")), Some(1));

    // Back, under load.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(traffic.so_far().iter().rev().take(CALLERS).all(|answered| answered.version == 2));
    let called = Instant::now();
    let back = client.rollouts().rollback("ev-range", "the depot reports nonsense").await.expect("rolled back");
    let returned = called.elapsed();
    assert_eq!((back.state(), back.reason.as_str()), (RolloutState::RolledBack, "the depot reports nonsense"));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let answered = traffic.stop().await;
    let last = answered.iter().filter(|answered| answered.version == 2).map(|answered| answered.at).max();
    let took = last.expect("it served").saturating_duration_since(called);
    assert!(took < Duration::from_secs(1), "the last answer of the version came {took:?} after the call");
    assert!(returned < Duration::from_secs(1), "the call took {returned:?}");
    assert_eq!(answered.last().map(|answered| answered.version), Some(1));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn miles_for_kilometres_are_caught_in_shadow() {
    let server = TestServer::start(&[]).await;
    assert_eq!(registered(&server, times(MILES)).await.version, 2);
    let client = server.client().await;
    let traffic = Traffic::start(&server).await;
    client.rollouts().start("ev-range", 2, Some(plan())).await.expect("started");
    let over = until(&client, "over", is_over).await;
    assert_eq!(over.state(), RolloutState::RolledBack, "{over:#?}");
    assert!(over.reason.starts_with("guard disagreement_relative is 0.37"), "{}", over.reason);
    assert_eq!(over.events.iter().map(|event| event.step).max(), Some(0), "before anybody had an answer of it");
    let answered = traffic.stop().await;
    assert!(answered.iter().all(|answered| answered.version == 1 && answered.range_km > 150.0));
    // Nothing asks for it any more, so it is not kept.
    let version = client.registry().get_version("ev-range:2".parse().expect("a reference")).await.expect("found");
    assert_eq!(version.version.expect("a version").runtime_description, "");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_stays_on_its_side_and_more_percent_only_add_keys() {
    let server = TestServer::start(&[]).await;
    registered(&server, times(1.001)).await;
    let client = server.client().await;
    let forever = |percent| step(percent, 600_000, 0);
    let plan = RolloutPlan { shadow: None, steps: vec![forever(20.0), forever(60.0)], ..plan() };
    let first = RolloutPlan { steps: vec![forever(20.0)], ..plan.clone() };
    let mut sides: Vec<BTreeSet<usize>> = Vec::new();
    // The second rollout has the first one's step, and then its own; its salt is another.
    client.rollouts().start("ev-range", 2, Some(first)).await.expect("started");
    until(&client, "in its step", |rollout| rollout.percent > 0.0).await;
    // The registry says so a moment before the routes do.
    let channel = RangePredictionClient::new(server.endpoint().channel().await);
    let ends = Instant::now() + Duration::from_secs(30);
    for key in (0..KEYS).cycle() {
        if ask(channel.clone(), key).await.info.and_then(|info| info.model).expect("a model version").version == 2 {
            break;
        }
        assert!(Instant::now() < ends, "its share of the requests does not come");
    }
    for _ in 0..2 {
        let channel = RangePredictionClient::new(server.endpoint().channel().await);
        let mut versions: BTreeMap<usize, BTreeSet<u32>> = BTreeMap::new();
        for key in (0..KEYS).chain(0..KEYS) {
            let model = ask(channel.clone(), key).await.info.and_then(|info| info.model).expect("a model version");
            versions.entry(key).or_default().insert(model.version);
        }
        assert!(versions.values().all(|versions| versions.len() == 1), "a key changed sides");
        let canary = |(key, versions): (usize, BTreeSet<u32>)| versions.contains(&2).then_some(key);
        sides.push(versions.into_iter().filter_map(canary).collect());
    }
    assert_eq!(sides[0], sides[1]);
    // 200 keys at 20 %: six standard deviations are 34 keys.
    assert!((6..=74).contains(&sides[0].len()), "{}", sides[0].len());
    let range = client.range();
    let named = range.predict(PredictRequest {
        make: "Tesla".to_owned(),
        model: "Model 3".to_owned(),
        model_selector: Some("ev-range:1".parse::<ev_client::VersionRef>().expect("a reference").into()),
        ..PredictRequest::default()
    });
    let model = named.await.expect("answered").info.and_then(|info| info.model).expect("a model version");
    assert_eq!(model.version, 1, "who names a version has it");
    client.rollouts().abort("ev-range", "").await.expect("aborted");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_goes_on_after_a_restart() {
    let server = TestServer::start(&[]).await;
    registered(&server, times(1.002)).await;
    let client = server.client().await;
    let plan = RolloutPlan { shadow: None, steps: vec![step(100.0, 600_000, 0)], ..plan() };
    let started = client.rollouts().start("ev-range", 2, Some(plan)).await.expect("started");
    until(&client, "in its step", |rollout| rollout.percent > 99.0).await;
    client.rollouts().pause("ev-range", "lunch").await.expect("paused");
    let server = TestServer::start_on(server.stop().await, &[]).await;
    let client = server.client().await;
    let rollout = client.rollouts().get(&started.id).await.expect("found");
    assert_eq!((rollout.state(), rollout.paused_in()), (RolloutState::Paused, RolloutState::Canary));
    let channel = RangePredictionClient::new(server.endpoint().channel().await);
    let ends = Instant::now() + Duration::from_secs(30);
    while ask(channel.clone(), 1).await.info.and_then(|info| info.model).expect("a version").version != 2 {
        assert!(Instant::now() < ends, "its share of the requests is not back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    client.rollouts().resume("ev-range", "").await.expect("resumed");
    let promoted = client.rollouts().promote("ev-range", "good enough").await.expect("promoted");
    assert_eq!(promoted.state(), RolloutState::Promoted);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_rolled_out_is_refused_with_what_is_wrong() {
    let server = TestServer::start(&[]).await;
    let client = server.client().await;
    let start = |version: u32, plan: RolloutPlan| {
        let rollouts = client.rollouts();
        async move { rollouts.start("ev-range", version, Some(plan)).await.map_err(Refusal::from).expect_err("refused") }
    };
    start(1, plan()).await.says(Code::FailedPrecondition, "ALREADY_PRODUCTION", &["version 1"]);
    start(9, plan()).await.says(Code::NotFound, "NOT_FOUND", &["version 9"]);
    registered(&server, times(1.003)).await;
    let steps = RolloutPlan { steps: vec![step(50.0, 0, 0), step(10.0, 0, 0)], ..plan() };
    start(2, steps).await.says(Code::InvalidArgument, "OUT_OF_RANGE", &["plan.steps[1].percent", "more than the step"]);
    let unknown = client.rollouts().get("nothing").await.map_err(Refusal::from).expect_err("refused");
    unknown.says(Code::NotFound, "NOT_FOUND", &["rollout `nothing`"]);
    server.stop().await;
}
