//! Three server processes on one PostgreSQL: whichever dies, the database included, a rollout ends in one state.
//!
//! `EVSERVE_TEST_PROCESSES=long` has the long form: every server killed at every step, outages of 30 s, a hundred races.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use ev_client::Code;
use ev_proto::ev::registry::v1::{
    Rollout, RolloutGuards, RolloutPlan, RolloutShadow, RolloutState, SetAliasRequest, VerifyAuditLogRequest,
    VersionState,
};

use super::rollouts::{seconds, step, times};
use crate::support::{
    assert_eventually,
    cluster::{Cluster, MODEL, REPLICAS, evctl, is_over},
    refusal::Refusal,
};

/// In which all servers shall follow a change.
const WITHIN: Duration = Duration::from_secs(1);

fn is_long() -> bool {
    std::env::var("EVSERVE_TEST_PROCESSES").is_ok_and(|form| form == "long")
}

/// Through every state in a few seconds. What guards say is another test's matter: few rows are seen here.
fn plan() -> RolloutPlan {
    let off = ["latency_p99_ratio_max", "shift_max", "out_of_distribution_increase_max"];
    let guards = RolloutGuards { off: off.map(str::to_owned).to_vec(), ..RolloutGuards::default() };
    RolloutPlan {
        shadow: Some(RolloutShadow { duration: seconds(200), minimum_pairs: 20 }),
        steps: vec![step(10.0, 200, 5), step(50.0, 200, 10)],
        bake: seconds(300),
        compare_percent: Some(20.0),
        guards: Some(guards),
        ..RolloutPlan::default()
    }
}

/// No further than to the moment that is asked for, and on to production; all the way in the long form.
fn plan_to(moment: Moment) -> RolloutPlan {
    let mut plan = plan();
    if is_long() {
        return plan;
    }
    if moment != Moment::In(RolloutState::Shadowing, 0) {
        plan.shadow = None;
    }
    if moment != Moment::In(RolloutState::Canary, 2) {
        plan.steps.truncate(1);
    }
    if moment != Moment::In(RolloutState::Baking, 0) {
        plan.bake = None;
    }
    plan
}

/// All requests to the candidate until somebody says otherwise.
fn until_told() -> RolloutPlan {
    RolloutPlan { shadow: None, steps: vec![step(100.0, 3_600_000, 0)], ..plan() }
}

/// Where a rollout is when something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    In(RolloutState, u32),
    /// While it is taken back.
    RollingBack,
}

const MOMENTS: [Moment; 7] = [
    Moment::In(RolloutState::Pending, 0),
    Moment::In(RolloutState::Shadowing, 0),
    Moment::In(RolloutState::Canary, 1),
    Moment::In(RolloutState::Canary, 2),
    Moment::In(RolloutState::Baking, 0),
    Moment::In(RolloutState::Promoted, 0),
    Moment::RollingBack,
];

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// One of the servers; the operator calls number 0.
    Number(usize),
    /// Whichever let the rollout go on last.
    Decider,
}

const VICTIMS: [Victim; 4] = [Victim::Number(0), Victim::Number(1), Victim::Number(2), Victim::Decider];

/// Whether a rollout is where something shall happen, or has been.
fn reached(rollout: &Rollout, moment: Moment) -> bool {
    let Moment::In(state, step) = moment else { return is_over(rollout) };
    rollout.events.iter().any(|event| (event.state(), event.step) == (state, step)) || is_over(rollout)
}

async fn start(cluster: &Cluster, plan: RolloutPlan) -> Rollout {
    cluster.client(0).await.rollouts().start(MODEL, 2, Some(plan)).await.expect("started")
}

/// Takes a promoted version back, whoever has to be asked.
async fn roll_back(cluster: &Cluster, id: &str) -> Rollout {
    for index in cluster.living() {
        let client = cluster.client(index).await;
        let found = client.rollouts().get(id).await.expect("found");
        if found.state() == RolloutState::Promoted {
            // Whoever was asked before may have done it after all.
            let _ = client.rollouts().rollback(id, "the test is over").await;
        }
    }
    cluster.agrees(id).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_survives_the_death_of_any_server_at_any_step() {
    let Some(mut cluster) = Cluster::start(vec![times(1.004)]).await else { return };
    cluster.call();
    let deaths: Vec<(Moment, Victim)> = if is_long() {
        MOMENTS.iter().flat_map(|moment| VICTIMS.map(|victim| (*moment, victim))).collect()
    } else {
        MOMENTS.into_iter().zip(VICTIMS.into_iter().cycle()).collect()
    };
    for (moment, victim) in deaths {
        let started = start(&cluster, plan_to(moment)).await;
        let id = started.id.as_str();
        if let Moment::In(..) = moment {
            cluster.until(id, "there", |rollout| reached(rollout, moment)).await;
        } else {
            assert_eq!(cluster.until(id, "over", is_over).await.state(), RolloutState::Promoted);
        }
        let victim = match victim {
            Victim::Number(index) => index,
            Victim::Decider => cluster.decider(),
        };
        if moment == Moment::RollingBack {
            // The operator asks the server that dies.
            let client = cluster.client(victim).await;
            let name = id.to_owned();
            let asking = tokio::spawn(async move { client.rollouts().rollback(&name, "it dies of it").await });
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..20))).await;
            cluster.kill(victim).await;
            let _ = asking.await.expect("no panic");
        } else {
            cluster.kill(victim).await;
        }
        cluster.start_replica(victim).await;
        let over = cluster.agrees(id).await;
        let expected = if moment == Moment::RollingBack { over.state() } else { RolloutState::Promoted };
        assert_eq!(over.state(), expected, "{moment:?} {victim}: {over:#?}");
        assert_eq!(roll_back(&cluster, id).await.state(), RolloutState::RolledBack, "{moment:?} {victim}");
    }
    cluster.hang_up().await;
}

/// Servers that listen for changes.
async fn listeners(cluster: &Cluster) -> usize {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN %' AND application_name = 'evserve'";
    cluster.postgres.ask(sql).await.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_survives_outages_of_the_database_and_predictions_do_not_notice() {
    let Some(mut cluster) = Cluster::start(vec![times(1.004), times(1.002)]).await else { return };
    a_promotion_reaches_all_within_a_second(&cluster).await;
    cluster.call();
    outages_in_every_state(&cluster).await;
    deaths_of_the_database_while_it_promotes(&cluster).await;
    cluster.hang_up().await;
    operators_race_for_an_alias(&cluster).await;
}

async fn a_promotion_reaches_all_within_a_second(cluster: &Cluster) {
    let (mut promoted, mut taken_back) = (Duration::MAX, Duration::MAX);
    // Every server is asked once, and again where none was quick: what others do with this machine's processors
    // meanwhile is not the servers'.
    for asked in (0..REPLICAS).chain(0..REPLICAS) {
        let shadow = Some(RolloutShadow { duration: seconds(3_600_000), minimum_pairs: 1 });
        let started = start(cluster, RolloutPlan { shadow, ..until_told() }).await;
        let id = started.id.as_str();
        cluster.until(id, "in shadow", |rollout| rollout.state() == RolloutState::Shadowing).await;
        // Everybody has it loaded and serves the other: else the second would be one of loading, or of nothing.
        for index in 0..REPLICAS {
            let client = cluster.client(index).await;
            let candidate = || format!("{MODEL}:2").parse().expect("a reference");
            let found = async || client.registry().get_version(candidate()).await.expect("found").version;
            assert_eventually!(
                found().await.is_some_and(|version| version.state() == VersionState::Ready),
                "server {index} does not load it"
            );
        }
        cluster.serves("production", 1).await;
        let client = cluster.client(asked).await;
        let moved = Instant::now();
        client.rollouts().promote(id, "good enough").await.expect("promoted");
        cluster.serves("production", 2).await;
        promoted = promoted.min(moved.elapsed());
        let moved = Instant::now();
        client.rollouts().rollback(id, "not good enough").await.expect("rolled back");
        cluster.serves("production", 1).await;
        taken_back = taken_back.min(moved.elapsed());
        cluster.agrees(id).await;
        if promoted.max(taken_back) < WITHIN && (asked + 1 == REPLICAS || !is_long()) {
            return;
        }
    }
    panic!("the last server followed {promoted:?} after a promotion, {taken_back:?} after a rollback");
}

async fn outages_in_every_state(cluster: &Cluster) {
    let lengths_s: [u64; 5] = if is_long() { [30; 5] } else { [1, 1, 6, 1, 1] };
    let mut started = None;
    for (moment, length_s) in MOMENTS.into_iter().zip(lengths_s) {
        let id = match &started {
            None => started.insert(start(cluster, plan()).await).id.clone(),
            Some(started) => started.id.clone(),
        };
        let before = cluster.until(&id, "there", |rollout| reached(rollout, moment)).await;
        assert!(!is_over(&before), "{moment:?} was missed: {before:#?}");
        cluster.postgres.stop("fast").await;
        let answers = cluster.answers();
        let client = cluster.client(0).await;
        let refused = client.rollouts().pause(&id, "").await.map_err(Refusal::from).expect_err("refused");
        assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "STORE_UNREACHABLE"));
        tokio::time::sleep(Duration::from_secs(length_s)).await;
        for (before, after) in answers.iter().zip(cluster.answers()) {
            assert!(after > before + 20, "predictions went on: {answers:?}, {after}");
        }
        cluster.postgres.start_again().await;
    }
    let id = started.expect("started").id;
    let over = cluster.agrees(&id).await;
    assert_eq!(over.state(), RolloutState::Promoted, "{over:#?}");
    assert_eventually!(listeners(cluster).await == REPLICAS, "not all listen: {}", listeners(cluster).await);
    roll_back(cluster, &id).await;
}

async fn deaths_of_the_database_while_it_promotes(cluster: &Cluster) {
    for death in 0..if is_long() { 20 } else { 2 } {
        let started = start(cluster, until_told()).await;
        let id = started.id.as_str();
        cluster.until(id, "in its step", |rollout| rollout.percent > 99.0).await;
        let client = cluster.client(death % REPLICAS).await;
        let name = id.to_owned();
        let asking = tokio::spawn(async move { client.rollouts().promote(&name, "now").await });
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..25))).await;
        cluster.postgres.kill().await;
        let answered = asking.await.expect("no panic");
        cluster.postgres.start_again().await;
        // What was acknowledged has happened; what was not may have.
        let found = cluster.until(id, "found", |_| true).await;
        if answered.is_ok() {
            assert_eq!(found.state(), RolloutState::Promoted, "{found:#?}");
        } else if found.state() != RolloutState::Promoted {
            let client = cluster.client(0).await;
            assert_eventually!(
                client.rollouts().promote(id, "again").await.is_ok()
                    || cluster.until(id, "found", |_| true).await.state() == RolloutState::Promoted,
                "it cannot be promoted any more"
            );
        }
        cluster.agrees(id).await;
        roll_back(cluster, id).await;
    }
    assert_eventually!(listeners(cluster).await == REPLICAS, "not all listen: {}", listeners(cluster).await);
}

/// Two operators with `evctl`, who saw the same, at different servers.
async fn operators_race_for_an_alias(cluster: &Cluster) {
    let Some(evctl) = evctl() else { return };
    let mut registry = cluster.registry(0).await;
    // All are loaded, so that nobody waits for that.
    for (version, alias) in [(1, "one"), (2, "two"), (3, "three"), (1, "racing")] {
        let (model, alias) = (MODEL.to_owned(), alias.to_owned());
        let request = SetAliasRequest { model, alias, version, expected_version: None };
        registry.set_alias(request).await.expect("set");
    }
    let operator = |index: usize, version: u32, expected: u32| {
        let mut command = tokio::process::Command::new(&evctl);
        command
            .env_clear()
            .args(["models", "alias", MODEL, "racing", &version.to_string(), "--expect", &expected.to_string()])
            .args(["--server", &format!("http://{}", cluster.endpoint(index).grpc)])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        async move { command.output().await.expect("evctl runs") }
    };
    let mut current = 1;
    for race in 0..if is_long() { 100 } else { 5 } {
        let [one, other] = [current % 3 + 1, (current + 1) % 3 + 1];
        let (first, second) = (race % REPLICAS, (race + 1) % REPLICAS);
        let (left, right) = tokio::join!(operator(first, one, current), operator(second, other, current));
        let (winner, loser) = if left.status.success() { (one, &right) } else { (other, &left) };
        assert_ne!(left.status.success(), right.status.success(), "one wins: {left:?}, {right:?}");
        let told = String::from_utf8_lossy(&loser.stderr);
        for word in [format!("points at version {winner}"), "racing".to_owned()] {
            assert!(told.contains(&word), "`{word}` in {told}");
        }
        cluster.serves("racing", winner).await;
        current = winner;
    }
    let verified = registry.verify_audit_log(VerifyAuditLogRequest {}).await.expect("answered").into_inner();
    assert!(verified.ok, "{verified:?}");
}
