//! The models inside the program, and how they come into an empty registry.

use ev_registry::{AliasChange, Bundle, ExpectedVersion, PRODUCTION, Registry, RegistryError};

/// A model version embedded at build time.
pub(crate) struct BundledModel {
    pub(crate) manifest_toml: &'static str,
    pub(crate) files: &'static [(&'static str, &'static [u8])],
}

include!(concat!(env!("OUT_DIR"), "/bundled.rs"));

/// Registers every bundled model, and points `production` at those whose model had none.
///
/// Safe to run at every start: content that is registered keeps its version, an alias somebody moved stays where it is.
///
/// # Errors
///
/// [`RegistryError`] when the registry cannot be written.
pub(crate) async fn register(registry: &Registry, now_ms: i64) -> Result<usize, RegistryError> {
    let bundles = BUNDLED.iter().map(|model| {
        Bundle::new(
            model.manifest_toml,
            model.files.iter().map(|(path, bytes)| (*path, bytes::Bytes::from_static(bytes))),
        )
    });
    let imported = registry.import_bundles(bundles.collect(), now_ms).await?;
    let mut created = 0;
    for version in imported {
        created += usize::from(version.created);
        let record = version.version;
        let change = AliasChange::set(record.model, PRODUCTION, record.version, ExpectedVersion::Absent);
        match registry.move_alias(&change, now_ms).await {
            Ok(_) | Err(RegistryError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(created)
}
