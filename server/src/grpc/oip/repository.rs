//! Loading and unloading as Triton's clients ask for it: what serves a model is what its alias `production` points at.

use ev_proto::{
    ev::registry::v1::{SetAliasRequest, model_registry_server::ModelRegistry as _},
    inference::{RepositoryModelLoadRequest, RepositoryModelUnloadRequest},
};
use ev_registry::{PRODUCTION, Page, RegistryError, VersionChoice};
use tonic::{Request, Status};

use crate::grpc::{registry::RegistryService, status};

/// Points `production` where it points, which loads again what failed; where there is none, at the newest version.
pub(super) async fn load(
    registry: &RegistryService,
    request: Request<RepositoryModelLoadRequest>,
) -> Result<(), Status> {
    let (metadata, extensions, RepositoryModelLoadRequest { repository_name: _, model_name, parameters }) =
        request.into_parts();
    if let Some(name) = parameters.keys().min() {
        let description = format!("`{name}` is not taken: what a model needs comes with its version");
        return Err(status::invalid("parameters", "UNSUPPORTED_PARAMETER", description));
    }
    let choice = VersionChoice::Alias(PRODUCTION.to_owned());
    let (version, expected) = match registry.registry.get(&model_name, &choice).await {
        Ok(production) => (production.version, production.version),
        Err(RegistryError::NotFound { .. }) => {
            let newest = registry.registry.list_versions(&model_name, &Page { size: 1, token: None }).await;
            let newest = newest.map_err(|error| status::of_registry(&error))?.items;
            let Some(newest) = newest.first() else {
                return Err(status::not_found("NOT_FOUND", format!("model `{model_name}` has no version")));
            };
            (newest.version, 0)
        }
        Err(error) => return Err(status::of_registry(&error)),
    };
    let alias = PRODUCTION.to_owned();
    let request = SetAliasRequest { model: model_name, alias, version, expected_version: Some(expected) };
    registry.set_alias(Request::from_parts(metadata, extensions, request)).await.map(drop)
}

/// Removes `production`.
pub(super) async fn unload(
    registry: &RegistryService,
    request: Request<RepositoryModelUnloadRequest>,
) -> Result<(), Status> {
    let (metadata, extensions, RepositoryModelUnloadRequest { repository_name: _, model_name, parameters }) =
        request.into_parts();
    if let Some(name) = parameters.keys().filter(|name| *name != "unload_dependents").min() {
        let description = format!("`{name}` is not taken, expected `unload_dependents` or none");
        return Err(status::invalid("parameters", "UNSUPPORTED_PARAMETER", description));
    }
    let alias = PRODUCTION.to_owned();
    let request = SetAliasRequest { model: model_name, alias, version: 0, expected_version: None };
    registry.set_alias(Request::from_parts(metadata, extensions, request)).await.map(drop)
}
