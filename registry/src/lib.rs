//! The model registry: immutable, numbered versions of models, the aliases that point at them, and their files by digest.
//!
//! Invariants:
//!
//! - A version that can be found is whole: its files are on disk, synced, before the transaction that names it.
//!   What an import leaves behind that was cut off can never be found, and is removed when the store is opened next.
//! - A version's digest is the SHA-256 of its canonical manifest, which lists every file with its own: one digest names every byte.
//!   The same content is one version, however often and from however many processes it is imported.
//! - No file that a version names is deleted: garbage is collected within transactions of the database, and a version is registered
//!   in one that has seen its files.
//! - A number is never given twice, and what it names never changes.
//! - An alias moves by compare-and-set: of two callers that saw the same state, one wins and the other is told.
//! - Files are verified whenever they are fetched; importing the same content again repairs those that were lost.
//! - Every change has its row in the audit log, written in the change's own transaction; rows hang together by their hashes.
//!   A version is fetched only if it is the one whose registration the log tells of.
//! - Nothing in a file or in the database makes this crate panic.
//!
//! Not here: loading or running models and their golden requests (the server does, with `ev-models`), protobuf and gRPC,
//! and the clock (callers say when).
//!
//! ```
//! use ev_registry::{AliasChange, ExpectedVersion, Registry, RegistryConfig, VersionChoice};
//!
//! # const MANIFEST: &str = r#"
//! # [model]
//! # name = "doubler"
//! # task = "generic"
//! # description = "Doubles."
//! # backend = "forest"
//! # license = "Apache-2.0"
//! # [[inputs]]
//! # name = "x"
//! # dtype = "FP32"
//! # [[heads]]
//! # name = "point"
//! # file = "model.ubj"
//! # [[outputs]]
//! # name = "y"
//! # kind = "prediction"
//! # "#;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let registry = Registry::open(&RegistryConfig::new(directory.path())).await?;
//!
//! let imported = registry.import_files(MANIFEST, [("model.ubj", &b"trees"[..])], 1_767_225_600_000).await?;
//! assert!(imported.created);
//! assert_eq!(imported.version.version, 1);
//!
//! let production = AliasChange::set("doubler", "production", 1, ExpectedVersion::Absent);
//! registry.move_alias(&production, 1_767_225_600_000).await?;
//! let version = registry.get("doubler", &VersionChoice::Alias("production".into())).await?;
//! let files = registry.fetch(&version).await?;
//! assert_eq!(fs_err::read(files.path("model.ubj")?)?, b"trees");
//! # Ok(())
//! # }
//! ```

mod artifacts;
pub mod audit;
mod blocking;
mod config;
mod error;
mod fleet;
mod garbage;
mod import;
mod lock;
mod metadata;
mod page;
mod plan;
mod record;
mod registry;
mod resume;
mod rollout;
mod source;
mod trust;
mod upload;

pub use artifacts::{
    ArtifactStore, CacheCounts, DirectoryArtifactStore, Located, LocatedFiles, Partials, S3ArtifactStore, S3Options,
    Staged, StagedCounts, Staging, StoredFile, Swept,
};
pub use audit::{
    AuditEntry, AuditFault, AuditHead, AuditOrder, AuditQuery, AuditRecord, AuditVerification, Origin, actor_name,
};
pub use config::{Artifacts, Limits, RegistryConfig, StagedLimits};
pub use error::RegistryError;
pub use fleet::{
    FleetStore, KeptOutcome, OUTCOMES_MAX, PolicyChange, PolicyRecord, REPLICAS_MAX, ReplicaRecord, SET_VERSION_POLICY,
};
pub use garbage::{Collected, References};
pub use import::Bundle;
pub use metadata::{Collector, MetadataStore, PostgresMetadataStore, PostgresOptions, SqliteMetadataStore, Stored};
pub use page::{Listing, Page};
pub use record::{
    AliasChange, ExpectedVersion, Imported, ModelRecord, NewVersion, PRODUCTION, VersionChoice, VersionRecord,
};
pub use registry::{Check, Registry};
pub use resume::ResumableUpload;
pub use rollout::{
    NewRollout, REPLICAS_KEPT, ROLLOUT, ROLLOUTS_KEPT, ReplicaObservations, RolloutChange, RolloutRecord, RolloutStore,
};
pub use trust::{Judgement, VersionSignature, Waiver};
pub use upload::Upload;
