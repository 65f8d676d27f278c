//! Where the native libraries of inference engines are looked for.

use std::path::{Path, PathBuf};

use ev_models::Libraries;

use crate::config::BackendsConfig;

/// ONNX Runtime's file name on this system.
const ONNXRUNTIME: &str = if cfg!(target_vendor = "apple") { "libonnxruntime.dylib" } else { "libonnxruntime.so" };

/// Where packages and images put libraries of evserve's own.
const INSTALLED: &str = "/usr/lib/evserve";

/// Folders between a program cargo built and the repository: `target`, the profile, `deps`, perhaps a target triple.
const FOLDERS_MAX: usize = 5;

/// What is configured and nothing else, or else the usual places.
pub(crate) fn of(config: &BackendsConfig) -> Libraries {
    let onnxruntime = if config.onnxruntime.as_os_str().is_empty() {
        usual(std::env::current_exe().ok().as_deref())
    } else {
        vec![config.onnxruntime.clone()]
    };
    Libraries { onnxruntime }
}

/// Places in the order they are tried. Never the working directory: others may write there.
fn usual(program: Option<&Path>) -> Vec<PathBuf> {
    let folders: Vec<&Path> = program.iter().flat_map(|program| program.ancestors()).skip(1).collect();
    let beside = folders.first().map(|folder| folder.join(ONNXRUNTIME));
    let is_repository = |folder: &&&Path| folder.join("scripts/onnxruntime.sh").is_file();
    let repository = folders.iter().take(FOLDERS_MAX).find(is_repository);
    let fetched = repository.map(|folder| folder.join(".onnxruntime").join(ONNXRUNTIME));
    beside.into_iter().chain([Path::new(INSTALLED).join(ONNXRUNTIME)]).chain(fetched).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_is_the_only_place() {
        let config = BackendsConfig { onnxruntime: "/opt/onnxruntime.so".into() };
        assert_eq!(of(&config).onnxruntime, [Path::new("/opt/onnxruntime.so")]);
    }

    #[test]
    fn the_usual_places_are_beside_the_program_installed_and_in_the_repository() {
        let repository = tempfile::tempdir().expect("a temporary directory");
        let scripts = repository.path().join("scripts");
        fs_err::create_dir(&scripts).expect("created");
        fs_err::write(scripts.join("onnxruntime.sh"), "").expect("written");
        let program = repository.path().join("target/release/evserve");
        let expected = [
            program.with_file_name(ONNXRUNTIME),
            Path::new(INSTALLED).join(ONNXRUNTIME),
            repository.path().join(".onnxruntime").join(ONNXRUNTIME),
        ];
        assert_eq!(usual(Some(&program)), expected);
        assert_eq!(usual(Some(Path::new("/usr/bin/evserve"))).len(), 2);
        assert_eq!(usual(None).len(), 1);
    }
}
