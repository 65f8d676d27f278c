//! Three server processes on one PostgreSQL, and callers who notice every request that fails.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ev_client::Client;
use ev_proto::ev::{
    range::v1::{PredictRequest, range_prediction_client::RangePredictionClient},
    registry::v1::{AuditEvent, GetAuditLogRequest, Rollout, RolloutState, SetAliasRequest, VerifyAuditLogRequest},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};
use tonic::{Request, transport::Channel};

use super::{
    assert_eventually,
    postgres::Postgres,
    process::Evserve,
    server::Endpoint,
    zoo::{Model, Registry},
};

/// Servers of a cluster.
pub(crate) const REPLICAS: usize = 3;
/// The model they serve.
pub(crate) const MODEL: &str = "ev-range";
/// Between two requests of one caller.
const PAUSE: Duration = Duration::from_millis(4);

/// Servers that share a registry; killed when dropped.
pub(crate) struct Cluster {
    pub(crate) postgres: Postgres,
    replicas: Vec<Replica>,
    files: TempDir,
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<()>>,
}

/// One server, which may be dead.
struct Replica {
    directory: TempDir,
    process: Option<Evserve>,
    place: watch::Sender<Option<Endpoint>>,
    seen: Arc<Mutex<Seen>>,
}

/// What a server's caller saw.
#[derive(Debug, Default)]
struct Seen {
    answers: usize,
    failures: Vec<String>,
}

// === impl Seen ===

impl Seen {
    fn count(&mut self, answered: Result<(), tonic::Status>) {
        match answered {
            Ok(()) => self.answers += 1,
            Err(status) => self.failures.push(format!("{:?}: {}", status.code(), status.message())),
        }
    }
}

// === impl Cluster ===

impl Cluster {
    /// Starts one that serves version 1 of the range model and has these as further versions; none, with a printed reason,
    /// where PostgreSQL is missing.
    pub(crate) async fn start(versions: Vec<Model>) -> Option<Cluster> {
        let postgres = Postgres::start().await?;
        let files = tempfile::tempdir().expect("a temporary directory");
        let replicas = (0..REPLICAS).map(|_| Replica::new()).collect();
        let mut cluster = Cluster { postgres, replicas, files, stop: Arc::default(), callers: Vec::new() };
        cluster.start_replica(0).await;
        let mut registry = cluster.registry(0).await;
        for model in std::iter::once(Model::of(MODEL)).chain(versions) {
            model.upload(&registry).await.expect("registered");
        }
        let (model, alias) = (MODEL.to_owned(), "production".to_owned());
        let production = SetAliasRequest { model, alias, version: 1, expected_version: Some(0) };
        registry.set_alias(production).await.expect("it passes the gates");
        for replica in 1..REPLICAS {
            cluster.start_replica(replica).await;
        }
        Some(cluster)
    }

    /// Has a caller at each server ask all the time.
    pub(crate) fn call(&mut self) {
        for replica in &self.replicas {
            let (place, seen) = (replica.place.subscribe(), Arc::clone(&replica.seen));
            self.callers.push(tokio::spawn(call(place, seen, Arc::clone(&self.stop))));
        }
    }

    /// Stops the callers, none of whom may have seen a failure, but of a server that was killed.
    pub(crate) async fn hang_up(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers.drain(..) {
            caller.await.expect("callers do not panic");
        }
        for (index, replica) in self.replicas.iter().enumerate() {
            let seen = replica.seen.lock().expect("not poisoned");
            assert!(seen.failures.is_empty(), "server {index}, {} answers: {:#?}", seen.answers, seen.failures);
            assert!(seen.answers > 100, "server {index} was asked: {}", seen.answers);
        }
    }

    /// Requests that were answered so far, by server.
    pub(crate) fn answers(&self) -> Vec<usize> {
        self.replicas.iter().map(|replica| replica.seen.lock().expect("not poisoned").answers).collect()
    }

    /// SIGKILL. Its callers wait until it is back.
    pub(crate) async fn kill(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        replica.place.send_replace(None);
        replica.process.take().expect("alive").kill().await;
    }

    /// Starts a server where it was killed.
    pub(crate) async fn start_replica(&mut self, index: usize) {
        let (url, files) = (self.postgres.url(), self.files.path().to_str().expect("a path"));
        let overrides = [
            ("registry.database_url", url.as_str()),
            ("registry.artifacts_directory", files),
            ("data.bundled_models", "false"),
            ("telemetry.credit", "16"),
        ];
        let replica = &mut self.replicas[index];
        let process = Evserve::start(replica.directory.path(), &overrides).await;
        replica.place.send_replace(Some(process.endpoint()));
        replica.process = Some(process);
    }

    /// Those that are alive.
    pub(crate) fn living(&self) -> Vec<usize> {
        (0..REPLICAS).filter(|index| self.replicas[*index].process.is_some()).collect()
    }

    pub(crate) fn endpoint(&self, index: usize) -> Endpoint {
        self.replicas[index].process.as_ref().expect("alive").endpoint()
    }

    pub(crate) async fn client(&self, index: usize) -> Client {
        self.endpoint(index).client().await
    }

    pub(crate) async fn registry(&self, index: usize) -> Registry {
        Registry::new(self.endpoint(index).channel().await)
    }

    /// The server that let a rollout go on last.
    pub(crate) fn decider(&self) -> usize {
        let decided = |index: usize| {
            let logs = self.replicas[index].process.as_ref().map(Evserve::logs).unwrap_or_default();
            let decided = logs.iter().rev().find(|line| line["fields"]["message"] == "rollout changed");
            decided.and_then(|line| line["timestamp"].as_str()).map(str::to_owned)
        };
        self.living().into_iter().max_by_key(|index| decided(*index)).expect("one is alive")
    }

    /// The rollout once `done` says so, as some living server tells it. While the database is away nobody does.
    pub(crate) async fn until(&self, id: &str, what: &str, done: impl Fn(&Rollout) -> bool) -> Rollout {
        let client = self.client(self.living()[0]).await;
        let ends = Instant::now() + Duration::from_secs(60);
        loop {
            let found = client.rollouts().get(id).await;
            if let Ok(rollout) = &found
                && done(rollout)
            {
                return rollout.clone();
            }
            assert!(Instant::now() < ends, "not {what} in time: {found:#?}; {:#?}", self.warnings());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until every server answers by an alias with a version.
    pub(crate) async fn serves(&self, alias: &str, version: u32) {
        for index in self.living() {
            let mut client = RangePredictionClient::new(self.endpoint(index).channel().await);
            let mut found = None;
            let is_it = async |client: &mut RangePredictionClient<Channel>, found: &mut Option<u32>| {
                *found = answering(client, alias).await;
                *found == Some(version)
            };
            assert_eventually!(
                is_it(&mut client, &mut found).await,
                "server {index} answers with {found:?}, not with version {version}: {:#?}",
                self.warnings()
            );
        }
    }

    /// What ended in one state: every server tells of the same rollout, serves the same version, and the log tells of
    /// each of its changes once.
    pub(crate) async fn agrees(&self, id: &str) -> Rollout {
        let told = self.until(id, "over", is_over).await;
        let production = if told.state() == RolloutState::Promoted { 2 } else { 1 };
        self.serves("production", production).await;
        for index in self.living() {
            let client = self.client(index).await;
            let found = client.rollouts().get(id).await.expect("found");
            assert_eq!((found.state(), found.revision), (told.state(), told.revision), "server {index}");
            let alias = format!("{MODEL}@production").parse().expect("a reference");
            let version = client.registry().get_version(alias).await.expect("found").version.expect("a version");
            assert_eq!(version.version, production, "server {index}");
        }
        let mut registry = self.registry(self.living()[0]).await;
        let verified = registry.verify_audit_log(VerifyAuditLogRequest {}).await.expect("answered").into_inner();
        assert!(verified.ok, "{verified:?}");
        self.is_told_once(&told, &mut registry).await;
        told
    }

    /// The audit log has one row for each change of the rollout, in order, and one move of the alias for each that says so.
    async fn is_told_once(&self, told: &Rollout, registry: &mut Registry) {
        let request = GetAuditLogRequest { model: MODEL.to_owned(), page_size: 1_000, ..Default::default() };
        let mut rows = registry.get_audit_log(request).await.expect("answered").into_inner().events;
        rows.reverse();
        let detail = |row: &AuditEvent| serde_json::from_str::<Value>(&row.detail_json).unwrap_or_default();
        let is_own = |row: &AuditEvent| row.action == "rollout" && detail(row)["rollout"] == *told.id;
        let phases: Vec<String> = rows
            .iter()
            .filter(|row| is_own(row))
            .map(|row| detail(row)["phase"].as_str().unwrap_or_default().to_owned())
            .collect();
        let name = |state: RolloutState| {
            state.as_str_name().trim_start_matches("ROLLOUT_STATE_").to_lowercase().replace('_', " ")
        };
        let events: Vec<String> = told.events.iter().map(|event| name(event.state())).collect();
        assert_eq!(phases, events, "{told:#?}");
        assert_eq!(usize::try_from(told.revision).ok(), Some(events.len()));
        let places: Vec<(RolloutState, u32)> = told.events.iter().map(|event| (event.state(), event.step)).collect();
        let unique: BTreeSet<(i32, u32)> = places.iter().map(|(state, step)| (i32::from(*state), *step)).collect();
        assert_eq!(unique.len(), places.len(), "no state is entered twice: {places:?}");
        let first = rows.iter().find(|row| is_own(row)).map_or(0, |row| row.sequence);
        let last = rows.iter().rev().find(|row| is_own(row)).map_or(0, |row| row.sequence);
        let moves: Vec<u32> = rows
            .iter()
            .filter(|row| (first..=last).contains(&row.sequence) && row.action == "set_alias")
            .filter(|row| row.alias == "production")
            .map(|row| row.version)
            .collect();
        let promoted = places.iter().any(|(state, _)| *state == RolloutState::Promoted);
        let is_back = told.state() == RolloutState::RolledBack;
        let expected: &[u32] = match (promoted, is_back) {
            (true, true) => &[2, 1],
            (true, false) => &[2],
            (false, _) => &[],
        };
        assert_eq!(moves, expected, "{told:#?}");
    }

    /// Lines of the servers' logs that tell of something unexpected.
    pub(crate) fn warnings(&self) -> Vec<(usize, Value)> {
        let of = |(index, replica): (usize, &Replica)| {
            let logs = replica.process.as_ref().map(Evserve::logs).unwrap_or_default();
            let told = logs.into_iter().filter(|line| line["level"] != "INFO" && line["level"] != "DEBUG");
            told.map(|line| (index, line)).collect::<Vec<_>>()
        };
        self.replicas.iter().enumerate().flat_map(of).collect()
    }
}

pub(crate) fn is_over(rollout: &Rollout) -> bool {
    matches!(rollout.state(), RolloutState::Promoted | RolloutState::Aborted | RolloutState::RolledBack)
}

// === impl Replica ===

impl Replica {
    fn new() -> Replica {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Replica { directory, process: None, place: watch::Sender::new(None), seen: Arc::default() }
    }
}

/// A caller that asks one server, wherever it is, until told to stop.
async fn call(mut place: watch::Receiver<Option<Endpoint>>, seen: Arc<Mutex<Seen>>, stop: Arc<AtomicBool>) {
    let mut car = 0u32;
    while !stop.load(Ordering::Relaxed) {
        let Some(endpoint) = *place.borrow_and_update() else {
            let _ = tokio::time::timeout(Duration::from_millis(50), place.changed()).await;
            continue;
        };
        let Ok(channel) = tonic::transport::Endpoint::from_shared(format!("http://{}", endpoint.grpc))
            .expect("an address")
            .connect()
            .await
        else {
            continue;
        };
        let mut client = RangePredictionClient::new(channel);
        while !stop.load(Ordering::Relaxed) {
            car = (car + 1) % 500;
            let answered = client.predict(of_car(car)).await;
            if place.has_changed().unwrap_or(true) {
                break;
            }
            seen.lock().expect("not poisoned").count(answered.map(|_| ()));
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn of_car(car: u32) -> Request<PredictRequest> {
    let makes = ["Tesla", "BMW", "Kia", "Audi"];
    let make = makes[usize::try_from(car).unwrap_or(0) % makes.len()].to_owned();
    let mut request = Request::new(PredictRequest { make, model: "Model 3".to_owned(), ..PredictRequest::default() });
    let key = format!("car-{car:04}").parse().expect("a header");
    request.metadata_mut().insert("x-evserve-sticky-key", key);
    request
}

/// The version that answers by an alias.
async fn answering(client: &mut RangePredictionClient<Channel>, alias: &str) -> Option<u32> {
    let selector: ev_client::VersionRef = format!("{MODEL}@{alias}").parse().expect("a reference");
    let request = PredictRequest { model_selector: Some(selector.into()), ..of_car(1).into_inner() };
    let answer = client.predict(request).await.ok()?.into_inner();
    answer.info.and_then(|info| info.model).map(|model| model.version)
}

/// `evctl` beside `evserve`; says so where it has not been built.
pub(crate) fn evctl() -> Option<std::path::PathBuf> {
    let beside = Path::new(env!("CARGO_BIN_EXE_evserve")).with_file_name("evctl");
    if beside.is_file() {
        return Some(beside);
    }
    eprintln!("skipped: {} has not been built", beside.display());
    None
}
