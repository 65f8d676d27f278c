//! Tiny models, and a look into the store.

use std::path::{Path, PathBuf};

use ev_models_core::Digest;
use ev_registry::{Limits, Registry, RegistryConfig};

pub(crate) const NOW_MS: i64 = 1_767_225_600_000;

/// A registry in a directory of its own.
pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) registry: Registry,
}

impl Fixture {
    pub(crate) async fn new() -> Fixture {
        Fixture::with_limits(Limits::default()).await
    }

    pub(crate) async fn with_limits(limits: Limits) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let config = RegistryConfig { limits, ..RegistryConfig::new(dir.path()) };
        let registry = Registry::open(&config).await.unwrap();
        Fixture { dir, registry }
    }

    pub(crate) async fn open_again(&self) -> Registry {
        Registry::open(&RegistryConfig::new(self.dir.path())).await.unwrap()
    }

    /// Temporary files.
    pub(crate) fn staged(&self) -> Vec<PathBuf> {
        let files = files_below(&self.dir.path().join("artifacts/staging"));
        files.into_iter().filter(|path| !path.to_string_lossy().ends_with("lock")).collect()
    }

    /// Stored files.
    pub(crate) fn stored(&self) -> Vec<PathBuf> {
        files_below(&self.dir.path().join("artifacts/sha256"))
    }

    /// Where the bytes with a digest lie.
    pub(crate) fn place(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.dir.path().join("artifacts/sha256").join(&hex[..2]).join(hex)
    }
}

/// A model `name` with the head `model.ubj`, and what else `rest` says.
pub(crate) fn manifest(name: &str, rest: &str) -> String {
    manifest_with_head(name, "model.ubj", rest)
}

pub(crate) fn manifest_with_head(name: &str, head: &str, rest: &str) -> String {
    format!(
        r#"
        [model]
        name = "{name}"
        task = "generic"
        description = "Adds one."
        backend = "forest"
        license = "Apache-2.0"
        [[inputs]]
        name = "x"
        dtype = "FP32"
        [[heads]]
        name = "point"
        file = "{head}"
        [[outputs]]
        name = "y"
        kind = "prediction"
        {rest}
        "#
    )
}

pub(crate) const GOLDEN: &str = "[golden]\nfile = \"golden/cases.json\"";

/// An entry of `[[files]]`.
pub(crate) fn listed(path: &str, content: &[u8]) -> String {
    format!("[[files]]\npath = \"{path}\"\nsha256 = \"{}\"\nsize = {}\n", Digest::of(content), content.len())
}

/// A source directory.
pub(crate) fn source(manifest: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join("manifest.toml"), manifest).unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, content).unwrap();
    }
    dir
}

pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs_err::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

/// Overwrites a stored file, which is read-only.
pub(crate) fn overwrite(place: &Path, content: &[u8]) {
    fs_err::remove_file(place).unwrap();
    fs_err::write(place, content).unwrap();
}
