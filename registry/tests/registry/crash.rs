//! Imports that end in the middle.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::Arc,
};

use async_trait::async_trait;
use ev_models_core::Digest;
use ev_registry::{
    AliasChange, AuditEntry, AuditHead, AuditQuery, AuditRecord, Collected, Collector, DirectoryArtifactStore,
    FleetStore, Imported, KeptOutcome, Limits, MetadataStore, ModelRecord, NewRollout, NewVersion, Origin, Page,
    PolicyChange, PolicyRecord, Registry, RegistryConfig, RegistryError, ReplicaObservations, ReplicaRecord,
    RolloutChange, RolloutRecord, RolloutStore, SqliteMetadataStore, StagedLimits, Stored, VersionChoice,
    VersionRecord,
};

use tokio::sync::watch;

use crate::support::{Fixture, NOW_MS, manifest};

const CHILD_DIRECTORY: &str = "EV_REGISTRY_TEST_CRASH_DIRECTORY";

/// A database that fails whenever a version is registered.
struct Failing(SqliteMetadataStore);

#[async_trait]
impl RolloutStore for Failing {
    async fn start_rollout(&self, rollout: &NewRollout) -> Result<RolloutRecord, RegistryError> {
        self.0.start_rollout(rollout).await
    }

    async fn rollout(&self, id: &str) -> Result<RolloutRecord, RegistryError> {
        self.0.rollout(id).await
    }

    async fn list_rollouts(
        &self,
        model: Option<&str>,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<RolloutRecord>, RegistryError> {
        self.0.list_rollouts(model, before, limit).await
    }

    async fn active_rollouts(&self) -> Result<Vec<RolloutRecord>, RegistryError> {
        self.0.active_rollouts().await
    }

    async fn rollouts_mark(&self) -> Result<u64, RegistryError> {
        self.0.rollouts_mark().await
    }

    async fn change_rollout(&self, change: &RolloutChange) -> Result<RolloutRecord, RegistryError> {
        self.0.change_rollout(change).await
    }

    async fn observe_rollout(&self, id: &str, seen: &ReplicaObservations) -> Result<(), RegistryError> {
        self.0.observe_rollout(id, seen).await
    }

    async fn rollout_observations(&self, id: &str) -> Result<Vec<ReplicaObservations>, RegistryError> {
        self.0.rollout_observations(id).await
    }
}

#[async_trait]
impl FleetStore for Failing {
    async fn set_policy(&self, change: &PolicyChange) -> Result<Option<String>, RegistryError> {
        self.0.set_policy(change).await
    }

    async fn policies(&self) -> Result<Vec<PolicyRecord>, RegistryError> {
        self.0.policies().await
    }

    async fn tell_replica(&self, told: &ReplicaRecord, forget_before_ms: i64) -> Result<(), RegistryError> {
        self.0.tell_replica(told, forget_before_ms).await
    }

    async fn replicas(&self) -> Result<Vec<ReplicaRecord>, RegistryError> {
        self.0.replicas().await
    }

    async fn keep_outcomes(
        &self,
        documents: &[String],
        at_ms: i64,
        forget_before_ms: i64,
    ) -> Result<usize, RegistryError> {
        self.0.keep_outcomes(documents, at_ms, forget_before_ms).await
    }

    async fn kept_outcomes(&self, after: u64, limit: u32) -> Result<Vec<KeptOutcome>, RegistryError> {
        self.0.kept_outcomes(after, limit).await
    }

    async fn remove_outcomes(&self, sequences: &[u64]) -> Result<(), RegistryError> {
        self.0.remove_outcomes(sequences).await
    }

    async fn forget_replica(&self, replica: &str) -> Result<(), RegistryError> {
        self.0.forget_replica(replica).await
    }
}

#[async_trait]
impl MetadataStore for Failing {
    async fn register(&self, _: &[NewVersion], _: &dyn Stored, _: &str) -> Result<Vec<Imported>, RegistryError> {
        Err(RegistryError::Storage { doing: "register a version".to_owned(), source: "the test says so".into() })
    }
    async fn find(&self, model: &str, digest: &Digest) -> Result<Option<VersionRecord>, RegistryError> {
        self.0.find(model, digest).await
    }
    async fn get(&self, model: &str, choice: &VersionChoice) -> Result<VersionRecord, RegistryError> {
        self.0.get(model, choice).await
    }
    async fn list_models(&self, after: Option<&str>, limit: u32) -> Result<Vec<ModelRecord>, RegistryError> {
        self.0.list_models(after, limit).await
    }
    async fn list_versions(
        &self,
        model: &str,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Vec<VersionRecord>, RegistryError> {
        self.0.list_versions(model, before, limit).await
    }

    async fn list_all(&self, after: Option<(&str, u32)>, limit: u32) -> Result<Vec<VersionRecord>, RegistryError> {
        self.0.list_all(after, limit).await
    }
    async fn move_alias(&self, change: &AliasChange, origin: &Origin) -> Result<Option<u32>, RegistryError> {
        self.0.move_alias(change, origin).await
    }
    async fn delete_version(
        &self,
        model: &str,
        version: u32,
        references: &[String],
        origin: &Origin,
    ) -> Result<VersionRecord, RegistryError> {
        self.0.delete_version(model, version, references, origin).await
    }
    async fn set_pin(
        &self,
        model: &str,
        version: u32,
        reason: Option<&str>,
        origin: &Origin,
    ) -> Result<bool, RegistryError> {
        self.0.set_pin(model, version, reason, origin).await
    }
    async fn collect(&self, collector: &dyn Collector, origin: &Origin) -> Result<Collected, RegistryError> {
        self.0.collect(collector, origin).await
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes()
    }
    async fn record(&self, entries: &[AuditEntry], origin: &Origin) -> Result<Vec<AuditRecord>, RegistryError> {
        self.0.record(entries, origin).await
    }
    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>, RegistryError> {
        self.0.audit(query).await
    }
    async fn audit_head(&self) -> Result<AuditHead, RegistryError> {
        self.0.audit_head().await
    }
    async fn as_of(&self, model: &str, at_ms: i64) -> Result<Vec<AuditRecord>, RegistryError> {
        self.0.as_of(model, at_ms).await
    }
    async fn registration(&self, model: &str, version: u32) -> Result<Option<AuditRecord>, RegistryError> {
        self.0.registration(model, version).await
    }
    async fn close(&self) {
        self.0.close().await;
    }
}

#[tokio::test]
async fn what_was_stored_but_not_registered_is_invisible_and_used_by_the_next_import() {
    let fixture = Fixture::new().await;
    let artifacts =
        DirectoryArtifactStore::open(fixture.dir.path().join("artifacts"), StagedLimits::default()).await.unwrap();
    let metadata = SqliteMetadataStore::open(&fixture.dir.path().join("registry.db")).await.unwrap();
    let failing = Registry::with_stores(Arc::new(artifacts), Arc::new(Failing(metadata)), Limits::default());
    let (text, files) = (manifest("adder", ""), [("model.ubj", &b"trees"[..])]);
    failing.import_files(&text, files, NOW_MS).await.unwrap_err();
    assert_eq!(fixture.stored().len(), 2);
    assert!(fixture.registry.list_models(&Page::default()).await.unwrap().items.is_empty());
    assert!(fixture.registry.get("adder", &VersionChoice::Number(1)).await.is_err());

    let imported = fixture.registry.import_files(&text, files, NOW_MS).await.unwrap();
    assert_eq!((imported.created, imported.version.version), (true, 1));
    assert_eq!(fixture.stored().len(), 2);
}

#[tokio::test]
async fn leftovers_are_removed_at_open_and_running_uploads_are_not() {
    let fixture = Fixture::new().await;
    let mut upload = fixture.registry.begin_upload(&manifest("adder", "")).await.unwrap();
    upload.write("model.ubj", bytes::Bytes::from_static(b"tr")).await.unwrap();
    let staging = fixture.dir.path().join("artifacts/staging");
    for folder in ["7", "8"] {
        fs_err::create_dir(staging.join(folder)).unwrap();
        fs_err::write(staging.join(folder).join("0"), "half a file").unwrap();
    }
    fs_err::write(staging.join("8/lock"), "").unwrap();
    assert_eq!(fixture.staged().len(), 3);

    let other = fixture.open_again().await;
    assert_eq!(fixture.staged().len(), 1, "the upload's own");
    upload.write("model.ubj", bytes::Bytes::from_static(b"ees")).await.unwrap();
    let version = upload.finish(NOW_MS).await.unwrap().version;
    other.fetch(&version).await.unwrap();
}

/// Not a test of its own: the process that the next test kills.
#[test]
fn imports_until_it_is_killed() {
    let Some(directory) = std::env::var_os(CHILD_DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let registry = Registry::open(&RegistryConfig::new(directory)).await.unwrap();
        for index in 0.. {
            let content = vec![u8::try_from(index % 251).unwrap(); 50_000 + index];
            let text = manifest("adder", "");
            let imported = registry.import_files(&text, [("model.ubj", content)], NOW_MS).await.unwrap();
            println!("\nregistered {}", imported.version.version);
        }
    });
}

#[tokio::test]
async fn after_a_kill_every_version_is_whole_and_none_that_was_acknowledged_is_missing() {
    for acknowledged in [1, 2, 5, 9] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::imports_until_it_is_killed", "--nocapture"])
            .env(CHILD_DIRECTORY, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut registered = lines.map_while(Result::ok).filter(|line| line.starts_with("registered "));
        let last = registered.nth(acknowledged - 1);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(last, Some(format!("registered {acknowledged}")));

        let registry = Registry::open(&RegistryConfig::new(dir.path())).await.unwrap();
        let versions = registry.list_versions("adder", &Page::default()).await.unwrap().items;
        assert!(versions.len() >= acknowledged);
        for version in versions {
            registry.fetch(&version).await.unwrap();
        }
        let staging = crate::support::files_below(&dir.path().join("artifacts/staging"));
        assert!(staging.iter().all(|path| path.to_string_lossy().ends_with("lock")), "{staging:?}");
    }
}
