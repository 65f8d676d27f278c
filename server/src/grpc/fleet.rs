//! Which versions are served, as somebody wants it and as every server says that it is.

use ev_proto::ev::registry::v1::{
    GetVersionPolicyResponse, ListReplicasResponse, Replica as ProtoReplica, ReplicaVersion, SetVersionPolicyRequest,
    VersionNumbers, VersionPolicy as ProtoPolicy, VersionState, version_policy::Policy,
};
use ev_registry::{AuditEntry, Page, PolicyChange, Registry, RegistryError, SET_VERSION_POLICY, VersionChoice};
use tonic::Status;

use super::{
    registry::{now_ms, timestamp},
    status,
};
use crate::{
    deploy::{Deployer, POLICY_VERSIONS_MAX, VersionPolicy},
    fleet::{Fleet, Replica, Report, State, Told},
};

/// Sets or removes a model's policy, and gives the one that somebody had set before.
pub(super) async fn set_policy(
    registry: &Registry,
    actor: &str,
    deployer: &Deployer,
    request: SetVersionPolicyRequest,
) -> Result<Option<VersionPolicy>, Status> {
    let SetVersionPolicyRequest { model, policy } = request;
    if model.is_empty() {
        return Err(status::invalid("model", "MISSING_FIELD", "is missing, expected the name of a model"));
    }
    let policy = policy.map(decode).transpose()?;
    if let Some(VersionPolicy::Versions(versions)) = &policy {
        for version in versions {
            let found = registry.get(&model, &VersionChoice::Number(*version)).await;
            found.map_err(|error| status::of_registry(&error))?;
        }
    }
    let detail = policy.as_ref().map_or_else(|| "as configured".to_owned(), VersionPolicy::to_string);
    let detail = std::iter::once(("policy".to_owned(), detail.into())).collect();
    let change = PolicyChange {
        entry: AuditEntry::new(SET_VERSION_POLICY, &model).detail(detail),
        document: policy.as_ref().map(VersionPolicy::to_string),
        origin: ev_registry::Origin { actor: ev_registry::actor_name(actor), at_ms: now_ms() },
        model,
    };
    let before = registry.fleet().set_policy(&change).await.map_err(|error| status::of_registry(&error))?;
    // What failed may have been repaired: whoever asks for it wants it tried.
    deployer.forgive_all(&change.model);
    // Of another release, which knew other policies, nothing is told.
    Ok(before.and_then(|before| before.parse().ok()))
}

/// The policy of a model that exists.
pub(super) async fn policy(
    registry: &Registry,
    deployer: &Deployer,
    model: &str,
) -> Result<GetVersionPolicyResponse, Status> {
    let known = registry.list_versions(model, &Page { size: 1, token: None }).await;
    known.map_err(|error| status::of_registry(&error))?;
    let (policy, is_configured) = deployer.policy(model).await.map_err(|error| status::of_registry(&error))?;
    Ok(GetVersionPolicyResponse { policy: Some(encode(&policy)), is_configured })
}

/// What servers told, of one model or of all.
pub(super) async fn replicas(fleet: &Fleet, model: &str) -> Result<ListReplicasResponse, RegistryError> {
    let replicas = fleet.replicas().await?.into_iter().map(|replica| encode_replica(replica, model));
    Ok(ListReplicasResponse { replicas: replicas.collect() })
}

fn decode(policy: ProtoPolicy) -> Result<VersionPolicy, Status> {
    let refused = |field: &str, reason, description: String| Err(status::invalid(field, reason, description));
    let must_be_true = |field: &str| refused(field, "OUT_OF_RANGE", "is false, expected true".to_owned());
    let policy = match policy.policy {
        None => {
            let expected = "is empty, expected `latest`, `versions`, `all` or `aliases_only`";
            return refused("policy", "MISSING_FIELD", expected.to_owned());
        }
        Some(Policy::Latest(count)) => VersionPolicy::Latest(count),
        Some(Policy::Versions(VersionNumbers { numbers })) => VersionPolicy::Versions(numbers.into_iter().collect()),
        Some(Policy::All(true)) => VersionPolicy::All,
        Some(Policy::All(false)) => return must_be_true("policy.all"),
        Some(Policy::AliasesOnly(true)) => VersionPolicy::Aliases,
        Some(Policy::AliasesOnly(false)) => return must_be_true("policy.aliases_only"),
    };
    match &policy {
        policy if policy.is_sound() => {}
        VersionPolicy::Latest(count) => {
            let description = format!("is {count}, expected 1 to {POLICY_VERSIONS_MAX}");
            return refused("policy.latest", "OUT_OF_RANGE", description);
        }
        other => {
            let description = format!("is `{other}`, expected 1 to {POLICY_VERSIONS_MAX} numbers from 1");
            return refused("policy.versions.numbers", "OUT_OF_RANGE", description.chars().take(200).collect());
        }
    }
    Ok(policy)
}

pub(super) fn encode(policy: &VersionPolicy) -> ProtoPolicy {
    let policy = match policy {
        VersionPolicy::Aliases => Policy::AliasesOnly(true),
        VersionPolicy::All => Policy::All(true),
        VersionPolicy::Latest(count) => Policy::Latest(*count),
        VersionPolicy::Versions(versions) => {
            Policy::Versions(VersionNumbers { numbers: versions.iter().copied().collect() })
        }
    };
    ProtoPolicy { policy: Some(policy) }
}

fn encode_replica(replica: Replica, only: &str) -> ProtoReplica {
    let Replica { id, report, reported_at_ms, age, is_stale } = replica;
    let Report { address, release, started_at_ms, revision, versions, more_versions } = report;
    let versions = versions.into_iter().filter(|version| only.is_empty() || version.model == only);
    let version = |told: Told| {
        let Told { model, version, digest, state, reason, aliases } = told;
        let state = match state {
            State::Loading => VersionState::Loading,
            State::Ready => VersionState::Ready,
            State::Failed => VersionState::Failed,
        };
        ReplicaVersion { model, version, digest, state: state.into(), state_reason: reason, aliases }
    };
    ProtoReplica {
        id,
        address,
        release,
        started_at: Some(timestamp(started_at_ms)),
        reported_at: Some(timestamp(reported_at_ms)),
        age: prost_types::Duration::try_from(age).ok(),
        stale: is_stale,
        revision,
        versions: versions.map(version).collect(),
        more_versions,
    }
}
