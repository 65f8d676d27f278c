//! Copies of a bundled model, to register.

use std::path::Path;

use tempfile::TempDir;

/// The model that is copied: small, and quick to judge.
pub(crate) const MODEL: &str = "charging-utilization";

/// A directory with a version of [`MODEL`] that is one of its own by its description.
pub(crate) fn version(description: &str) -> TempDir {
    let zoo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/zoo").join(MODEL);
    let directory = tempfile::tempdir().expect("a directory");
    for file in ["golden.json", "point.ubj", "spread.ubj"] {
        fs_err::copy(zoo.join(file), directory.path().join(file)).expect("copied");
    }
    let manifest = fs_err::read_to_string(zoo.join("manifest.toml")).expect("manifest.toml");
    let described = |line: &str| match line.strip_prefix("description = ") {
        Some(_) => format!("description = \"{description}\"\n"),
        None => format!("{line}\n"),
    };
    let manifest: String = manifest.lines().map(described).collect();
    fs_err::write(directory.path().join("manifest.toml"), manifest).expect("written");
    directory
}
