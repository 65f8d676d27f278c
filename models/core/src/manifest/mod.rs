//! The manifest: what a model version takes, how it is run, and how its output becomes an answer.
//!
//! `docs/manifest.md` is the reference for authors; the types here are the same thing, key by key.
//! [`Manifest::parse`] returns only consistent manifests, so that nothing downstream has to check again.

mod check;
mod error;
mod preprocessing;
mod types;

pub use error::ManifestError;
pub use preprocessing::{Preprocessing, check_size};
pub use types::*;

use crate::Digest;

impl Manifest {
    /// Largest accepted manifest: vocabularies of tens of thousands of entries fit, a bomb does not.
    pub const MAX_BYTES: usize = 4 * 1024 * 1024;

    /// Parses and checks a `manifest.toml`.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] naming the place, what was found and what was expected.
    pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
        if text.len() > Self::MAX_BYTES {
            return Err(ManifestError::TooLarge { bytes: text.len(), max_bytes: Self::MAX_BYTES });
        }
        let manifest: Manifest =
            toml::from_str(text).map_err(|error| ManifestError::Syntax { reason: error.to_string() })?;
        check::check(&manifest)?;
        Ok(manifest)
    }

    /// Parses and checks the canonical form that [`Manifest::canonical`] writes.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] as [`Manifest::parse`].
    pub fn parse_canonical(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(ManifestError::TooLarge { bytes: bytes.len(), max_bytes: Self::MAX_BYTES });
        }
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|error| ManifestError::Syntax { reason: error.to_string() })?;
        check::check(&manifest)?;
        Ok(manifest)
    }

    /// The canonical form: JSON with sorted keys and without blanks. Its SHA-256 is the version's digest.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        // serde_json's map sorts its keys (the `preserve_order` feature is off), so going through `Value` sorts.
        let value = serde_json::to_value(self).expect("a checked manifest holds finite numbers and text keys only");
        serde_json::to_vec(&value).expect("a JSON value can always be written")
    }

    /// SHA-256 of the canonical form.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.canonical())
    }

    /// Paths of the files the heads, the preprocessing, the golden cases and `[[files]]` name, sorted, each once.
    ///
    /// Pictures that golden cases name are not known here: they have to stand in `[[files]]`.
    #[must_use]
    pub fn file_paths(&self) -> Vec<&str> {
        let heads = self.bodies().flat_map(|body| body.heads.iter().map(|head| head.file.as_str()));
        let golden = self.golden.iter().map(|golden| golden.file.as_str());
        let preprocessing = self.preprocessing.iter().filter_map(Preprocessing::file);
        let listed = self.files.iter().map(|file| file.path.as_str());
        let mut paths: Vec<&str> = heads.chain(golden).chain(preprocessing).chain(listed).collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// The single body, or every variant's.
    pub fn bodies(&self) -> impl Iterator<Item = &Body> {
        self.body.iter().chain(self.variants.iter().map(|variant| &variant.body))
    }

    /// The column names: as given, or all inputs and then all derived columns.
    #[must_use]
    pub fn column_names(&self) -> Vec<&str> {
        if self.columns.is_empty() {
            let inputs = self.inputs.iter().map(|input| input.name.as_str());
            inputs.chain(self.derived.iter().map(|derived| derived.name.as_str())).collect()
        } else {
            self.columns.iter().map(String::as_str).collect()
        }
    }

    /// Number of float32 columns of a row: one a name, more for an input that is a vector.
    #[must_use]
    pub fn column_count(&self) -> usize {
        self.column_names()
            .into_iter()
            .map(|name| self.inputs.iter().find(|input| input.name == name).map_or(1, Input::width))
            .sum()
    }
}
