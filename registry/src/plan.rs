//! What a manifest asks for, and the version it becomes when everything has come.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path},
};

use ev_models_core::{Digest, Manifest, ManifestError, manifest::FileEntry};

use crate::{Limits, NewVersion, RegistryError, error::clip};

/// A file that belongs to a version without being named by its manifest: the model card.
pub(crate) const README: &str = "README.md";

/// What a manifest asks for.
#[derive(Debug)]
pub(crate) struct Plan {
    manifest: Manifest,
    required: BTreeSet<String>,
    limits: Limits,
}

/// Two paths that are one on some file system, so that a copy of the version would lose a file: paths are ASCII, so that
/// they can only differ in case, or one can be a folder of the other.
fn clash(paths: &BTreeSet<String>) -> Option<(String, String)> {
    let mut lower: BTreeMap<String, &str> = BTreeMap::from([(README.to_ascii_lowercase(), README)]);
    for path in paths {
        if let Some(other) = lower.insert(path.to_ascii_lowercase(), path).filter(|other| other != path) {
            return Some((path.clone(), format!("`{other}` differs from it in case only")));
        }
    }
    let folders = |path: &'_ str| path.match_indices('/').map(|(end, _)| path[..end].to_owned()).collect::<Vec<_>>();
    lower.keys().find_map(|path| {
        let folder = folders(path).into_iter().find(|folder| lower.contains_key(folder))?;
        Some((lower[path].to_owned(), format!("it lies in `{}`, which is a file", lower[&folder])))
    })
}

/// A version ready to be stored and registered.
#[derive(Debug)]
pub(crate) struct Package {
    /// The manifest with every file listed, in its canonical form.
    pub(crate) canonical: Vec<u8>,
    /// Every file.
    pub(crate) files: Vec<FileEntry>,
    /// What is registered.
    pub(crate) version: NewVersion,
}

// === impl Plan ===

impl Plan {
    /// Parses a manifest and refuses one that asks for more than the limits.
    pub(crate) fn new(manifest_toml: &str, limits: Limits) -> Result<Plan, RegistryError> {
        let manifest = Manifest::parse(manifest_toml).map_err(RegistryError::InvalidManifest)?;
        let required: BTreeSet<String> = manifest.file_paths().into_iter().map(str::to_owned).collect();
        if required.len() > limits.max_files {
            return Err(RegistryError::TooManyFiles { found: required.len(), max: limits.max_files });
        }
        // The manifest's own check has seen to this; a path that leaves the directory must not depend on one check alone.
        let outside =
            |path: &&String| Path::new(path).components().any(|component| !matches!(component, Component::Normal(_)));
        if let Some(path) = required.iter().find(outside) {
            let problem = "it leads out of the model's directory".to_owned();
            return Err(RegistryError::RefusedFile { file: path.clone(), problem });
        }
        if let Some((path, problem)) = clash(&required) {
            return Err(RegistryError::RefusedFile { file: path, problem });
        }
        let plan = Plan { manifest, required, limits };
        if let Some(file) = plan.manifest.files.iter().find(|file| file.size > limits.max_file_bytes) {
            return Err(plan.file_too_large(&file.path));
        }
        let listed = plan.manifest.files.iter().try_fold(0u64, |total, file| total.checked_add(file.size));
        if listed.is_none_or(|total| total > limits.max_total_bytes) {
            return Err(plan.version_too_large());
        }
        Ok(plan)
    }

    /// Paths of the files that must come.
    pub(crate) fn required(&self) -> impl Iterator<Item = &str> {
        self.required.iter().map(String::as_str)
    }

    /// Whether the file must come.
    pub(crate) fn requires(&self, path: &str) -> bool {
        self.required.contains(path)
    }

    /// Refuses a file that may not come.
    pub(crate) fn expects(&self, path: &str) -> Result<(), RegistryError> {
        if self.requires(path) || path == README {
            Ok(())
        } else {
            Err(RegistryError::UnknownFile { file: clip(path) })
        }
    }

    /// Refuses files that are not those of the version, by what is said of them before any of their bytes come.
    pub(crate) fn expected(&self, files: Vec<FileEntry>) -> Result<BTreeMap<String, FileEntry>, RegistryError> {
        let (mut entries, mut total) = (BTreeMap::new(), 0);
        for file in files {
            self.expects(&file.path)?;
            self.check_size(&file.path, file.size, total)?;
            self.check(&file)?;
            total += file.size;
            let path = file.path.clone();
            if entries.insert(path.clone(), file).is_some() {
                return Err(RegistryError::OutOfOrder { file: path });
            }
        }
        match self.required.iter().find(|path| !entries.contains_key(*path)) {
            Some(file) => Err(RegistryError::MissingFile { file: file.clone() }),
            None => Ok(entries),
        }
    }

    /// Refuses a file that is to grow to `size` bytes, beside `others` bytes of other files.
    pub(crate) fn check_size(&self, path: &str, size: u64, others: u64) -> Result<(), RegistryError> {
        if let Some(listed) = self.listed(path).filter(|listed| size > listed.size) {
            return Err(RegistryError::SizeMismatch { file: path.to_owned(), expected: listed.size, found: size });
        }
        if size > self.limits.max_file_bytes {
            return Err(self.file_too_large(path));
        }
        if size.saturating_add(others) > self.limits.max_total_bytes {
            return Err(self.version_too_large());
        }
        Ok(())
    }

    /// Most bytes a file may have, beside `others` bytes of other files.
    pub(crate) fn max_bytes(&self, others: u64) -> u64 {
        self.limits.max_file_bytes.min(self.limits.max_total_bytes.saturating_sub(others))
    }

    /// Refuses a file that came whole but is not what the manifest lists.
    pub(crate) fn check(&self, file: &FileEntry) -> Result<(), RegistryError> {
        let FileEntry { path, sha256: found, size } = file;
        match self.listed(path) {
            Some(listed) if listed.size != *size => {
                Err(RegistryError::SizeMismatch { file: path.clone(), expected: listed.size, found: *size })
            }
            Some(listed) if listed.sha256 != *found => {
                Err(RegistryError::DigestMismatch { file: path.clone(), expected: listed.sha256, found: *found })
            }
            _ => Ok(()),
        }
    }

    /// The version, when every file has come.
    pub(crate) fn complete(
        mut self,
        files: BTreeMap<String, FileEntry>,
        created_at_ms: i64,
    ) -> Result<Package, RegistryError> {
        if let Some(file) = self.required.iter().find(|path| !files.contains_key(*path)) {
            return Err(RegistryError::MissingFile { file: file.clone() });
        }
        if files.len() > self.limits.max_files {
            return Err(RegistryError::TooManyFiles { found: files.len(), max: self.limits.max_files });
        }
        let files: Vec<FileEntry> = files.into_values().collect();
        self.manifest.files.clone_from(&files);
        let canonical = self.manifest.canonical();
        // With its files listed the manifest may have outgrown what can be read back.
        if canonical.len() > Manifest::MAX_BYTES {
            let (bytes, max_bytes) = (canonical.len(), Manifest::MAX_BYTES);
            return Err(RegistryError::InvalidManifest(ManifestError::TooLarge { bytes, max_bytes }));
        }
        let model = self.manifest.model;
        let version = NewVersion {
            model: model.name,
            digest: Digest::of(&canonical),
            created_at_ms,
            task: model.task.name().to_owned(),
            backend: model.backend,
            license: model.license,
            description: model.description,
            size_bytes: files.iter().map(|file| file.size).sum(),
        };
        Ok(Package { canonical, files, version })
    }

    fn listed(&self, path: &str) -> Option<&FileEntry> {
        self.manifest.files.iter().find(|file| file.path == path)
    }

    fn file_too_large(&self, path: &str) -> RegistryError {
        RegistryError::TooLarge { what: format!("`{path}`"), max_bytes: self.limits.max_file_bytes }
    }

    fn version_too_large(&self) -> RegistryError {
        RegistryError::TooLarge { what: "the version".to_owned(), max_bytes: self.limits.max_total_bytes }
    }
}
