//! What there is: the server, its models, and their tensors.

use std::{iter, sync::Arc};

use ev_models_core::manifest::Input;
use ev_proto::inference::{
    ModelMetadataResponse, ServerMetadataResponse, model_metadata_response::TensorMetadata,
    repository_index_response::ModelIndex,
};

use super::outputs::{self, dimension};
use crate::{
    deploy::{Asker, Deployment, Snapshot, VersionStatus},
    pipeline::{PredictError, Violation},
};

/// Extensions of the protocol that are served whole.
const EXTENSIONS: [&str; 4] = ["binary_tensor_data", "model_configuration", "model_repository", "statistics"];

/// The deployment a name and a version (a number, an alias, or nothing for `production`) stand for.
///
/// # Errors
///
/// An empty name, an unknown model, version or alias, or a version that does not serve.
#[inline]
pub(super) fn deployment<'s>(
    snapshot: &'s Snapshot,
    name: &str,
    version: &str,
    asker: Asker<'_>,
) -> Result<&'s Arc<Deployment>, PredictError> {
    if name.is_empty() {
        let known: Vec<&str> = snapshot.models.keys().take(12).map(String::as_str).collect();
        return Err(PredictError::Invalid(vec![Violation {
            field: "model_name".to_owned(),
            reason: "MISSING_FIELD",
            description: format!("is empty, expected the name of a model, such as {}", known.join(", ")),
        }]));
    }
    snapshot.model(name)?.choose_text(version, asker)
}

/// Whether every model with a `production` version serves it, or has been refused: one that cannot be loaded is told by
/// `ModelReady` and `RepositoryIndex`, and keeps the server from answering for no other.
pub(super) fn all_ready(snapshot: &Snapshot) -> bool {
    snapshot.models.values().all(|model| match model.aliases.get("production") {
        Some(version) => !matches!(model.versions.get(version), Some(VersionStatus::Loading)),
        None => true,
    })
}

pub(super) fn server() -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: "evserve".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).to_vec(),
    }
}

pub(super) fn model(snapshot: &Snapshot, name: &str, version: &str) -> Result<ModelMetadataResponse, PredictError> {
    let deployment = deployment(snapshot, name, version, Asker::Server)?;
    let manifest = &deployment.manifest;
    let shape = |dimensions: Vec<i64>| iter::once(-1).chain(dimensions).collect();
    let inputs = manifest.inputs.iter().map(|input| TensorMetadata {
        name: input.name.clone(),
        datatype: input.dtype.name().to_owned(),
        shape: shape(dimensions(input)),
    });
    let output = &manifest.outputs[0];
    let outputs = outputs::offered(output).map(|part| TensorMetadata {
        name: part.name(output),
        datatype: part.datatype().name().to_owned(),
        shape: shape(vec![dimension(part.width(deployment))]),
    });
    Ok(ModelMetadataResponse {
        name: name.to_owned(),
        versions: snapshot.model(name)?.deployments.keys().map(u32::to_string).collect(),
        platform: platform(deployment),
        inputs: inputs.collect(),
        outputs: outputs.collect(),
    })
}

/// Such as `evserve_forest`.
pub(super) fn platform(deployment: &Deployment) -> String {
    format!("evserve_{}", deployment.manifest.model.backend)
}

/// Dimensions of one row's value; a single value is `[1]`.
pub(super) fn dimensions(input: &Input) -> Vec<i64> {
    if input.shape.is_empty() { vec![1] } else { input.shape.iter().copied().map(dimension).collect() }
}

/// Every registered version, or only those that take requests.
pub(super) fn index(snapshot: &Snapshot, ready: bool) -> Vec<ModelIndex> {
    let versions = snapshot.models.values().flat_map(|model| {
        model.versions.iter().map(move |(version, status)| {
            let (state, reason) = match status {
                VersionStatus::Ready => ("READY", String::new()),
                VersionStatus::Loading => ("LOADING", String::new()),
                VersionStatus::Registered => {
                    ("UNAVAILABLE", "no alias points at it and no version policy asks for it".to_owned())
                }
                VersionStatus::LeftOut(reason) | VersionStatus::Failed(reason) => ("UNAVAILABLE", reason.clone()),
            };
            ModelIndex { name: model.name.clone(), version: version.to_string(), state: state.to_owned(), reason }
        })
    });
    versions.filter(|version| !ready || version.state == "READY").collect()
}
