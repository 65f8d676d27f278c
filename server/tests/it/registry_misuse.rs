//! Hostile and clumsy operators: every call of the registry and of rollouts says what is wrong, quickly, and nothing breaks.

use ev_client::Code;
use ev_proto::ev::{
    common::v1::{ModelSelector, model_selector},
    registry::v1::{
        CompareVersionsRequest, DeleteVersionRequest, GetAuditLogRequest, GetGatesRequest, GetVersionRequest,
        ListModelsRequest, ListVersionsRequest, PinVersionRequest, RolloutGuards, RolloutPlan, RolloutShadow,
        RolloutsAbortRequest, RolloutsGetRequest, RolloutsListRequest, RolloutsPauseRequest, RolloutsPromoteRequest,
        RolloutsResumeRequest, RolloutsRollbackRequest, RolloutsStartRequest, RolloutsWatchRequest, SetAliasRequest,
        SignVersionRequest, UnpinVersionRequest, VerifyAuditLogRequest, VerifyVersionRequest, WaiveGateRequest,
        WatchEventsRequest, get_version_request::VersionChoice, rollouts_client::RolloutsClient,
    },
};
use prost_types::{Duration, Timestamp};
use tonic::{Response, Status, Streaming, transport::Channel};

use super::rollouts::{step, times};
use crate::support::{
    assert_eventually,
    postgres::Postgres,
    refusal::Refusal,
    server::TestServer,
    zoo::{Model, Registry},
};

/// Most of a refusal's message: whatever was sent, nobody is sent it back.
const MESSAGE_MAX_BYTES: usize = 1_000;

/// What a call is refused with.
async fn refusal<T>(what: &str, call: impl Future<Output = Result<Response<T>, Status>>) -> Refusal {
    let refused = match call.await {
        Ok(_) => panic!("{what} was not refused"),
        Err(status) => Refusal::from(status),
    };
    assert!(refused.message.len() <= MESSAGE_MAX_BYTES, "{what}: {} bytes", refused.message.len());
    refused
}

/// Has calls refused, each with a code, a reason, and words of its message.
macro_rules! refuse {
    ($($client:ident.$method:ident($request:expr) => $code:ident $reason:literal [$($word:expr),*];)+) => {$(
        let what = concat!(stringify!($method), " ", stringify!($request));
        let refused = refusal(what, $client.clone().$method($request)).await;
        assert_eq!((refused.code, refused.reason.as_str()), (Code::$code, $reason), "{what}: {refused:?}");
        let words: Vec<String> = vec![$($word.to_string()),*];
        for word in words {
            assert!(refused.message.contains(&word), "{what}: `{word}` in {}", refused.message);
        }
    )+};
}

/// As long as fits into a message.
fn long() -> String {
    "x".repeat(500_000)
}

/// Names that no model has, and that some databases do not take.
fn strange_names() -> Vec<String> {
    let names = ["", "nonesuch", "EV-RANGE", "ev-range\0", "\u{202e}egnar-ve", "ëv-range", "../ev-range", "'; --"];
    names.into_iter().map(str::to_owned).chain([long()]).collect()
}

fn version(model: &str, version: u32) -> GetVersionRequest {
    GetVersionRequest { model: model.to_owned(), version_choice: Some(VersionChoice::Version(version)) }
}

fn alias(alias: &str, version: u32, expected_version: Option<u32>) -> SetAliasRequest {
    SetAliasRequest { model: "ev-range".to_owned(), alias: alias.to_owned(), version, expected_version }
}

fn selector(name: &str, version: u32) -> Option<ModelSelector> {
    let version_choice = Some(model_selector::VersionChoice::Version(version));
    Some(ModelSelector { name: name.to_owned(), version_choice })
}

fn start(plan: RolloutPlan) -> RolloutsStartRequest {
    RolloutsStartRequest { model: "ev-range".to_owned(), version: 2, plan: Some(plan) }
}

fn plan() -> RolloutPlan {
    RolloutPlan { steps: vec![step(10.0, 3_600_000, 0)], ..RolloutPlan::default() }
}

async fn with_two_versions(overrides: &[(&str, &str)]) -> (TestServer, Registry, RolloutsClient<Channel>) {
    let server = TestServer::start(overrides).await;
    let registry = Registry::new(server.endpoint().channel().await);
    times(1.004).upload(&registry).await.expect("registered");
    let rollouts = RolloutsClient::new(server.endpoint().channel().await);
    (server, registry, rollouts)
}

/// Every call that names a model, with names that none has.
async fn strange_models(registry: &Registry, rollouts: &RolloutsClient<Channel>) {
    for name in strange_names() {
        let model = || name.clone();
        let about = SetAliasRequest { model: model(), ..alias("canary", 1, None) };
        let of = |version| ev_proto::ev::registry::v1::GetGatesRequest {
            model: model(),
            judge_again: false,
            version_choice: Some(ev_proto::ev::registry::v1::get_gates_request::VersionChoice::Version(version)),
        };
        let verify = VerifyVersionRequest { model: model(), version_choice: None };
        let waive = WaiveGateRequest { model: model(), version: 1, gate: "license".into(), reason: "because".into() };
        let versions = ListVersionsRequest { model: model(), ..Default::default() };
        let started = RolloutsStartRequest { model: model(), version: 1, plan: None };
        refuse! {
            registry.list_versions(versions) => NotFound "NOT_FOUND" [];
            registry.get_version(version(&name, 1)) => NotFound "NOT_FOUND" [];
            registry.verify_version(verify) => NotFound "NOT_FOUND" [];
            registry.set_alias(about.clone()) => NotFound "NOT_FOUND" [];
            registry.set_alias(SetAliasRequest { version: 0, ..about }) => NotFound "NOT_FOUND" [];
            registry.delete_version(DeleteVersionRequest { model: model(), version: 1 }) => NotFound "NOT_FOUND" [];
            registry.pin_version(PinVersionRequest { model: model(), version: 1, reason: long() }) =>
                InvalidArgument "TOO_LONG" [];
            registry.pin_version(PinVersionRequest { model: model(), version: 1, reason: "\0".into() }) =>
                NotFound "NOT_FOUND" [];
            registry.unpin_version(UnpinVersionRequest { model: model(), version: 1 }) => NotFound "NOT_FOUND" [];
            registry.get_gates(of(1)) => NotFound "NOT_FOUND" [];
            registry.waive_gate(waive) => NotFound "NOT_FOUND" [];
            rollouts.start(started) => NotFound "NOT_FOUND" [];
            rollouts.get(RolloutsGetRequest { rollout: model() }) => NotFound "NOT_FOUND" [];
            rollouts.pause(RolloutsPauseRequest { rollout: model(), reason: String::new() }) => NotFound "NOT_FOUND" [];
            rollouts.resume(RolloutsResumeRequest { rollout: model(), reason: "\0".into() }) => NotFound "NOT_FOUND" [];
            rollouts.promote(RolloutsPromoteRequest { rollout: model(), reason: long() }) =>
                InvalidArgument "TOO_LONG" [];
            rollouts.abort(RolloutsAbortRequest { rollout: model(), reason: String::new() }) => NotFound "NOT_FOUND" [];
            rollouts.rollback(RolloutsRollbackRequest { rollout: model(), reason: String::new() }) =>
                NotFound "NOT_FOUND" [];
            rollouts.watch(RolloutsWatchRequest { rollout: model() }) => NotFound "NOT_FOUND" [];
        }
        if !name.is_empty() {
            let compare =
                CompareVersionsRequest { left: selector(&name, 1), right: selector("ev-range", 1), requests_max: 0 };
            let listed = RolloutsListRequest { model: model(), ..Default::default() };
            refuse! {
                registry.compare_versions(compare) => NotFound "NOT_FOUND" [];
                rollouts.list(listed) => NotFound "NOT_FOUND" [];
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registry_says_what_is_wrong() {
    let (server, registry, rollouts) = with_two_versions(&[]).await;
    strange_models(&registry, &rollouts).await;
    for number in [0, 9, u32::MAX] {
        let numbered = |version| PinVersionRequest { model: "ev-range".into(), version, reason: String::new() };
        refuse! {
            registry.get_version(version("ev-range", number)) => NotFound "NOT_FOUND" ["model `ev-range`"];
            registry.pin_version(numbered(number)) => NotFound "NOT_FOUND" ["model `ev-range`"];
        }
    }
    for strange in ["", "Production", "a b", "ß", "a\0", "1", &long()] {
        let by_alias = GetVersionRequest {
            model: "ev-range".into(),
            version_choice: Some(VersionChoice::Alias(strange.to_owned())),
        };
        refuse! {
            registry.set_alias(alias(strange, 1, None)) => InvalidArgument "INVALID_ALIAS" ["expected a lower-case letter"];
            registry.set_alias(alias(strange, 0, None)) => InvalidArgument "INVALID_ALIAS" [];
            registry.get_version(by_alias) => NotFound "NOT_FOUND" ["alias"];
        }
    }
    let page = |page_size, page_token: &str| ListVersionsRequest {
        model: "ev-range".into(),
        page_size,
        page_token: page_token.to_owned(),
    };
    let log = |page_size, page_token: &str| GetAuditLogRequest {
        page_size,
        page_token: page_token.to_owned(),
        ..GetAuditLogRequest::default()
    };
    for token in ["x", "-1", "99999999999999999999", "1\0", " 1", &long()] {
        refuse! {
            registry.list_versions(page(0, token)) => InvalidArgument "INVALID_PAGE" [];
            registry.get_audit_log(log(0, token)) => InvalidArgument "INVALID_PAGE" [];
        }
    }
    let models = |page_size, page_token: String| ListModelsRequest { page_size, page_token };
    let waive = |gate: &str, reason: &str| WaiveGateRequest {
        model: "ev-range".into(),
        version: 2,
        gate: gate.to_owned(),
        reason: reason.to_owned(),
    };
    let sign = |public_key: Vec<u8>, signature: Vec<u8>| SignVersionRequest {
        model: "ev-range".into(),
        version: 2,
        public_key,
        signature,
    };
    let compare = |left, right, requests_max| CompareVersionsRequest { left, right, requests_max };
    let (range, thermal) = (|| selector("ev-range", 1), || selector("thermal-risk", 1));
    let none = GetGatesRequest { model: String::new(), ..Default::default() };
    refuse! {
        registry.list_versions(page(1_001, "")) => InvalidArgument "INVALID_PAGE" ["1001", "1000"];
        registry.list_versions(page(u32::MAX, "")) => InvalidArgument "INVALID_PAGE" [];
        registry.get_audit_log(log(u32::MAX, "")) => InvalidArgument "INVALID_PAGE" [];
        registry.list_models(models(1_001, String::new())) => InvalidArgument "INVALID_PAGE" [];
        registry.list_models(models(0, long())) => InvalidArgument "INVALID_PAGE" [];
        registry.list_models(models(0, "\0".into())) => InvalidArgument "INVALID_PAGE" [];
        registry.set_alias(alias("production", 2, Some(7))) => Aborted "ALIAS_MOVED" ["points at version 1"];
        registry.set_alias(alias("canary", 2, Some(1))) => Aborted "ALIAS_MOVED" ["points at nothing"];
        registry.set_alias(alias("canary", 0, None)) => NotFound "NOT_FOUND" ["alias `canary`"];
        registry.delete_version(DeleteVersionRequest { model: "ev-range".into(), version: 1 }) =>
            FailedPrecondition "VERSION_IN_USE" ["alias `production`"];
        registry.get_gates(none) => NotFound "NOT_FOUND" [];
        registry.waive_gate(waive("", "because")) => InvalidArgument "UNKNOWN_GATE" [];
        registry.waive_gate(waive(&long(), "because")) => InvalidArgument "UNKNOWN_GATE" [];
        registry.waive_gate(waive("license", " ")) => InvalidArgument "WRONG_LENGTH" ["has 0 bytes"];
        registry.waive_gate(waive("license", &long())) => InvalidArgument "WRONG_LENGTH" [];
        registry.sign_version(sign(Vec::new(), Vec::new())) => InvalidArgument "MALFORMED" ["public_key"];
        registry.sign_version(sign(vec![0; 500_000], vec![0; 64])) => InvalidArgument "MALFORMED" ["public_key"];
        registry.compare_versions(compare(None, range(), 0)) => InvalidArgument "MISSING_FIELD" ["left.name"];
        registry.compare_versions(compare(range(), selector("", 1), 0)) => InvalidArgument "MISSING_FIELD" ["right.name"];
        registry.compare_versions(compare(range(), range(), 501)) => InvalidArgument "OUT_OF_RANGE" ["requests_max"];
        registry.compare_versions(compare(range(), selector("ev-range", 9), 0)) => NotFound "NOT_FOUND" ["version 9"];
        registry.compare_versions(compare(range(), thermal(), 0)) =>
            FailedPrecondition "NOT_COMPARABLE" ["quantiles", "classes"];
        registry.watch_events(WatchEventsRequest { after_sequence: Some(u64::MAX), model: String::new() }) =>
            InvalidArgument "OUT_OF_RANGE" ["after_sequence"];
    }
    let mut asked = registry.clone();
    for (seconds, nanos, aliases) in [(i64::MIN, i32::MIN, 0), (i64::MAX, i32::MAX, 1), (0, -1, 0)] {
        let as_of = Some(Timestamp { seconds, nanos });
        let request = GetAuditLogRequest { model: "ev-range".into(), as_of, ..Default::default() };
        let found = asked.get_audit_log(request).await.expect("answered").into_inner().events;
        assert_eq!(found.len(), aliases, "{seconds} {nanos}");
    }
    pins_race(&registry).await;
    let verified = asked.verify_audit_log(VerifyAuditLogRequest {}).await.expect("answered").into_inner();
    assert!(verified.ok, "{verified:?}");
    server.stop().await;
}

/// Whoever wins, the log tells of what was changed and of nothing else.
async fn pins_race(registry: &Registry) {
    let mut racing = tokio::task::JoinSet::new();
    for racer in 0..16 {
        let mut registry = registry.clone();
        racing.spawn(async move {
            let (model, version) = ("ev-range".to_owned(), 2);
            if racer % 2 == 0 {
                let reason = format!("racer {racer}");
                registry
                    .pin_version(PinVersionRequest { model, version, reason })
                    .await
                    .expect("answered")
                    .into_inner()
                    .changed
            } else {
                registry
                    .unpin_version(UnpinVersionRequest { model, version })
                    .await
                    .expect("answered")
                    .into_inner()
                    .changed
            }
        });
    }
    let changed = racing.join_all().await.into_iter().filter(|changed| *changed).count();
    let request = GetAuditLogRequest { model: "ev-range".into(), ..Default::default() };
    let rows = registry.clone().get_audit_log(request).await.expect("answered").into_inner().events;
    let told: Vec<&str> =
        rows.iter().rev().map(|row| row.action.as_str()).filter(|action| matches!(*action, "pin" | "unpin")).collect();
    assert_eq!(told.len(), changed);
    assert!(told.iter().enumerate().all(|(index, action)| *action == ["pin", "unpin"][index % 2]), "{told:?}");
    let found = registry.clone().get_version(version("ev-range", 2)).await.expect("found").into_inner().version;
    assert_eq!(found.map(|version| version.pinned), Some(told.last() == Some(&"pin")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollouts_say_what_is_wrong() {
    let (server, mut registry, rollouts) = with_two_versions(&[]).await;
    let steps = |percents: &[f64]| RolloutPlan {
        steps: percents.iter().map(|percent| step(*percent, 0, 0)).collect(),
        ..RolloutPlan::default()
    };
    let lasting = |seconds, nanos| Some(Duration { seconds, nanos });
    let long_step = |duration| {
        let step = ev_proto::ev::registry::v1::RolloutStep { duration, ..step(10.0, 0, 0) };
        RolloutPlan { steps: vec![step], ..RolloutPlan::default() }
    };
    let guards = |guards: RolloutGuards| RolloutPlan { guards: Some(guards), ..plan() };
    let of = |version, plan| RolloutsStartRequest { version, ..start(plan) };
    let compared = |percent| RolloutPlan { compare_percent: Some(percent), ..plan() };
    let by = |cohort: &str| RolloutPlan { cohort_by: cohort.to_owned(), ..plan() };
    let shadow = |duration, minimum_pairs| RolloutPlan {
        shadow: Some(RolloutShadow { duration, minimum_pairs }),
        ..RolloutPlan::default()
    };
    let listed = |page_size, page_token: &str| RolloutsListRequest {
        model: String::new(),
        page_size,
        page_token: page_token.to_owned(),
    };
    refuse! {
        rollouts.start(of(0, plan())) => InvalidArgument "MISSING_FIELD" ["version"];
        rollouts.start(of(9, plan())) => NotFound "NOT_FOUND" ["version 9"];
        rollouts.start(of(u32::MAX, plan())) => NotFound "NOT_FOUND" [];
        rollouts.start(of(1, plan())) => FailedPrecondition "ALREADY_PRODUCTION" ["version 1"];
        rollouts.start(start(RolloutPlan::default())) => InvalidArgument "OUT_OF_RANGE" ["plan.steps", "is empty"];
        rollouts.start(start(steps(&vec![1.0; 100_000]))) =>
            InvalidArgument "OUT_OF_RANGE" ["plan.steps", "100000 steps", "at most 20"];
        rollouts.start(start(steps(&[f64::NAN]))) => InvalidArgument "OUT_OF_RANGE" ["plan.steps[0].percent", "NaN"];
        rollouts.start(start(steps(&[f64::INFINITY]))) => InvalidArgument "OUT_OF_RANGE" ["inf"];
        rollouts.start(start(steps(&[-5.0]))) => InvalidArgument "OUT_OF_RANGE" ["is -5, expected above 0"];
        rollouts.start(start(steps(&[0.0]))) => InvalidArgument "OUT_OF_RANGE" ["plan.steps[0].percent"];
        rollouts.start(start(steps(&[5.0, 100.5]))) => InvalidArgument "OUT_OF_RANGE" ["plan.steps[1].percent", "100.5"];
        rollouts.start(start(steps(&[50.0, 5.0]))) => InvalidArgument "OUT_OF_RANGE" ["more than the step before"];
        rollouts.start(start(long_step(lasting(-1, 0)))) => InvalidArgument "OUT_OF_RANGE" ["plan.steps[0].duration", "negative"];
        rollouts.start(start(long_step(lasting(i64::MAX, 0)))) => InvalidArgument "OUT_OF_RANGE" ["at most 30 days"];
        rollouts.start(start(long_step(lasting(i64::MIN, i32::MIN)))) => InvalidArgument "OUT_OF_RANGE" [];
        rollouts.start(start(shadow(None, u64::MAX))) => InvalidArgument "OUT_OF_RANGE" ["plan.shadow.minimum_pairs"];
        rollouts.start(start(RolloutPlan { bake: lasting(0, -1), ..plan() })) => InvalidArgument "OUT_OF_RANGE" ["plan.bake"];
        rollouts.start(start(compared(f64::NAN))) => InvalidArgument "OUT_OF_RANGE" ["plan.compare_percent", "NaN"];
        rollouts.start(start(compared(101.0))) => InvalidArgument "OUT_OF_RANGE" ["101"];
        rollouts.start(start(RolloutPlan { sticky_key: 99, ..plan() })) => InvalidArgument "UNKNOWN_VALUE" ["plan.sticky_key", "99"];
        rollouts.start(start(by(&long()))) => InvalidArgument "OUT_OF_RANGE" ["plan.cohort_by", "bytes"];
        rollouts.start(start(by("colour"))) => InvalidArgument "UNKNOWN_INPUT" ["`colour`", "make"];
        rollouts.start(start(by("battery_capacity_kwh"))) => InvalidArgument "UNKNOWN_INPUT" ["expected a text input"];
        rollouts.start(start(by("make\0"))) => InvalidArgument "UNKNOWN_INPUT" [];
        rollouts.start(start(guards(RolloutGuards { minimum: Some(0), ..Default::default() }))) =>
            InvalidArgument "OUT_OF_RANGE" ["plan.guards.minimum"];
        rollouts.start(start(guards(RolloutGuards { shift_max: Some(f64::NAN), ..Default::default() }))) =>
            InvalidArgument "OUT_OF_RANGE" ["plan.guards.shift_max"];
        rollouts.start(start(guards(RolloutGuards { off: vec![long()], ..Default::default() }))) =>
            InvalidArgument "UNKNOWN_GUARD" ["plan.guards.off"];
        rollouts.list(listed(101, "")) => InvalidArgument "OUT_OF_RANGE" ["page_size"];
        rollouts.list(listed(0, "x")) => InvalidArgument "INVALID_PAGE" ["page_token"];
        rollouts.list(listed(0, "\0")) => InvalidArgument "INVALID_PAGE" [];
        rollouts.list(listed(0, &long())) => InvalidArgument "INVALID_PAGE" [];
    }
    one_at_a_time(&mut registry, &rollouts).await;
    server.stop().await;
}

/// Of rollouts that are started together one begins; what it needs stays, and what it is past is refused.
async fn one_at_a_time(registry: &mut Registry, rollouts: &RolloutsClient<Channel>) {
    let mut starting = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut rollouts = rollouts.clone();
        starting
            .spawn(async move { rollouts.start(start(plan())).await.map(Response::into_inner).map_err(Refusal::from) });
    }
    let (begun, refused): (Vec<_>, Vec<_>) = starting.join_all().await.into_iter().partition(Result::is_ok);
    let begun: Vec<_> = begun.into_iter().filter_map(|begun| begun.ok()?.rollout).collect();
    assert_eq!((begun.len(), refused.len()), (1, 3), "{refused:?}");
    let id = begun[0].id.clone();
    for refused in refused.into_iter().filter_map(Result::err) {
        refused.says(Code::FailedPrecondition, "ROLLOUT_UNDER_WAY", &[&id]);
    }
    let named = |name: &str| name.to_owned();
    let pause = |name: &str| RolloutsPauseRequest { rollout: named(name), reason: String::new() };
    let resume = |name: &str| RolloutsResumeRequest { rollout: named(name), reason: String::new() };
    let abort = |name: &str| RolloutsAbortRequest { rollout: named(name), reason: "\0\u{1b}[2J".to_owned() };
    let deleted = |version| DeleteVersionRequest { model: "ev-range".into(), version };
    let registry = registry.clone();
    refuse! {
        registry.delete_version(deleted(2)) => FailedPrecondition "VERSION_IN_USE" [format!("rollout `{id}`")];
        rollouts.resume(resume(&id)) => FailedPrecondition "ROLLOUT_STATE" [];
    }
    rollouts.clone().pause(pause("ev-range")).await.expect("paused");
    refuse! { rollouts.pause(pause(&id)) => FailedPrecondition "ROLLOUT_STATE" ["not paused"]; }
    rollouts.clone().abort(abort(&id)).await.expect("aborted");
    let promote = RolloutsPromoteRequest { rollout: id.clone(), reason: String::new() };
    let rollback = RolloutsRollbackRequest { rollout: id.clone(), reason: String::new() };
    refuse! {
        rollouts.abort(abort(&id)) => FailedPrecondition "ROLLOUT_STATE" ["aborted"];
        rollouts.promote(promote) => FailedPrecondition "ROLLOUT_STATE" [];
        rollouts.rollback(rollback) => FailedPrecondition "ROLLOUT_STATE" [];
    }
    registry.clone().delete_version(deleted(2)).await.expect("nothing needs it any more");
}

/// Opens streams until one is refused, which says that there are too many; how many were open.
async fn until_too_many<T>(mut open: impl AsyncFnMut() -> Result<Streaming<T>, Status>) -> Vec<Streaming<T>> {
    let mut opened = Vec::new();
    loop {
        match open().await {
            Ok(stream) => opened.push(stream),
            Err(status) => {
                Refusal::from(status).says(Code::ResourceExhausted, "TOO_MANY_WATCHERS", &["watch already"]);
                return opened;
            }
        }
        assert!(opened.len() < 1_000, "nobody counts them");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_have_a_bound() {
    let (server, registry, mut rollouts) = with_two_versions(&[]).await;
    rollouts.start(start(plan())).await.expect("started");
    // More than one connection may open.
    let others = [registry.clone(), Registry::new(server.endpoint().channel().await)];
    let mut turn = 0;
    let events = until_too_many(async || {
        turn += 1;
        let mut registry = others[turn % 2].clone();
        registry.watch_events(WatchEventsRequest::default()).await.map(Response::into_inner)
    });
    let events = events.await;
    let watched = until_too_many(async || {
        let request = RolloutsWatchRequest { rollout: "ev-range".into() };
        rollouts.clone().watch(request).await.map(Response::into_inner)
    });
    let watched = watched.await;
    assert_eq!((events.len(), watched.len()), (256, 64));
    // Whoever goes makes room.
    drop((events, watched));
    let mut again = others[0].clone();
    assert_eventually!(again.watch_events(WatchEventsRequest::default()).await.is_ok(), "there is no room again");
    let request = || RolloutsWatchRequest { rollout: "ev-range".into() };
    assert_eventually!(rollouts.watch(request()).await.is_ok(), "there is no room again");
    server.stop().await;
}

/// Texts that SQLite takes and PostgreSQL does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strange_texts_reach_no_postgres() {
    let Some(postgres) = Postgres::start().await else { return };
    let url = postgres.url();
    let overrides = [("registry.database_url", url.as_str()), ("data.bundled_models", "false")];
    let server = TestServer::start(&overrides).await;
    let registry = Registry::new(server.endpoint().channel().await);
    Model::of("ev-range").upload(&registry).await.expect("registered");
    let rollouts = RolloutsClient::new(server.endpoint().channel().await);
    strange_models(&registry, &rollouts).await;
    let pin = PinVersionRequest { model: "ev-range".into(), version: 1, reason: "a\0b".into() };
    registry.clone().pin_version(pin).await.expect("pinned");
    let waive =
        WaiveGateRequest { model: "ev-range".into(), version: 1, gate: "license".into(), reason: "a\0b".into() };
    registry.clone().waive_gate(waive).await.expect("waived");
    let verified = registry.clone().verify_audit_log(VerifyAuditLogRequest {}).await.expect("answered").into_inner();
    assert!(verified.ok, "{verified:?}");
    server.stop().await;
}
