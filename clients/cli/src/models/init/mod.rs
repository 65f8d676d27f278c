//! `evctl models init`: a manifest for a model of your own.

mod onnx;
mod skeleton;
mod xgboost;

use std::path::{Path, PathBuf};

use clap::Args;
use ev_models_core::Manifest;
use serde::Serialize;

use self::skeleton::Skeleton;
pub(super) use self::skeleton::quoted;
use crate::{
    exit::Exit,
    failure::Failure,
    output::Output,
    style::{BOLD, GOOD},
};

/// Largest model file that is read.
const FILE_SIZE_MAX_BYTES: u64 = 1 << 30;

/// Files that hold a Python pickle, or run code when they are loaded.
const PICKLED: [&str; 7] = ["pkl", "pickle", "joblib", "sav", "pt", "pth", "dill"];

/// Write a manifest.toml for an XGBoost or ONNX model of your own.
#[derive(Debug, Args)]
#[command(after_help = "\
Reads .json and .ubj as XGBoost's save_model writes them, and .onnx.
What is written can be imported as it is; the comments in it say what else can be told.

Examples:
  evctl models init demand.ubj --name demand      writes manifest.toml beside demand.ubj
  evctl models init demand.ubj -d demand/         writes demand/manifest.toml and copies the model there
  evctl models import demand/ --alias production  registers it and lets it serve")]
pub(crate) struct InitCommand {
    /// Model file: XGBoost .json or .ubj, or .onnx.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Directory of the manifest; the model file is copied there [default: where the model file is].
    #[arg(short, long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Name of the model: lower-case letters, digits and dashes [default: from the file's name].
    #[arg(long)]
    name: Option<String>,
    /// Overwrite a manifest.toml that is there.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Serialize)]
struct Written {
    name: String,
    manifest: PathBuf,
    inputs: usize,
    next: String,
}

// === impl InitCommand ===

impl InitCommand {
    pub(crate) fn run(self, output: &Output) -> Result<Exit, Failure> {
        let InitCommand { file, directory, name, force } = self;
        let file_name = plain_file_name(&file)?;
        refuse_others(&file, &file_name)?;
        let size = fs_err::metadata(&file).map_err(Failure::Input)?.len();
        if size > FILE_SIZE_MAX_BYTES {
            return Err(Failure::usage(format!("{} is larger than 1 GiB", file.display()), &[]));
        }
        let bytes = fs_err::read(&file).map_err(Failure::Input)?;
        let name = name.unwrap_or_else(|| model_name(&file));
        let skeleton = read(&file_name, &bytes, &name)?;
        let text = skeleton.to_toml();
        let checked = Manifest::parse(&text)
            .map_err(|error| Failure::usage(format!("no manifest can be written: {error}"), &["see --name"]))?;

        let target = directory.clone().unwrap_or_else(|| file.parent().map(Path::to_owned).unwrap_or_default());
        let manifest = target.join("manifest.toml");
        if manifest.exists() && !force {
            return Err(Failure::usage(
                format!("{} exists already", manifest.display()),
                &["keep it, write elsewhere with -d DIR, or overwrite it with --force"],
            ));
        }
        write(&target, &manifest, &text, directory.is_some().then_some((file_name.as_str(), bytes.as_slice())))?;

        let shown = if target.as_os_str().is_empty() { Path::new(".") } else { &target };
        let next = format!("evctl models import {} --alias production", shown.display());
        let written = Written { name, manifest, inputs: checked.inputs.len(), next };
        output.answer(&written, || written.render(&skeleton))?;
        for note in &skeleton.notes {
            output.advise(note);
        }
        Ok(Exit::Ok)
    }
}

impl Written {
    fn render(&self, skeleton: &Skeleton) -> String {
        format!(
            "{GOOD}wrote{GOOD:#} {BOLD}{}{BOLD:#}\n{}\nnext: {BOLD}{}{BOLD:#}",
            self.manifest.display(),
            skeleton.summary,
            self.next
        )
    }
}

fn read(file: &str, bytes: &[u8], name: &str) -> Result<Skeleton, Failure> {
    if has_extension(file, &["onnx"]) { onnx::read(file, bytes, name) } else { xgboost::read(file, bytes, name) }
}

fn write(target: &Path, manifest: &Path, text: &str, copy: Option<(&str, &[u8])>) -> Result<(), Failure> {
    if let Some((file, bytes)) = copy {
        fs_err::create_dir_all(target).map_err(Failure::Output)?;
        fs_err::write(target.join(file), bytes).map_err(Failure::Output)?;
    }
    fs_err::write(manifest, text).map_err(Failure::Output)
}

fn refuse_others(file: &Path, file_name: &str) -> Result<(), Failure> {
    if has_extension(file_name, &["safetensors"]) {
        return Err(Failure::usage(
            format!("{} holds weights alone; its directory says what network they are of", file.display()),
            &["register a directory from Hugging Face with: evctl import hf DIR --name NAME"],
        ));
    }
    if !has_extension(file_name, &PICKLED) {
        return Ok(());
    }
    Err(Failure::usage(
        format!("{} is a pickle: it runs arbitrary code when it is loaded, so it is never accepted", file.display()),
        &[
            "XGBoost: model.save_model(\"model.ubj\")",
            "scikit-learn: export to ONNX with skl2onnx; PyTorch: with torch.onnx.export",
        ],
    ))
}

fn has_extension(file: &str, extensions: &[&str]) -> bool {
    let extension = Path::new(file).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    extensions.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// The file's name, which the manifest takes only if it is plain.
fn plain_file_name(file: &Path) -> Result<String, Failure> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if plain {
        return Ok(name.to_owned());
    }
    Err(Failure::usage(
        format!("a manifest cannot name {}", file.display()),
        &["rename it: letters, digits, `.`, `_` and `-`"],
    ))
}

/// A model name from a file's: lower case, with dashes for everything else.
fn model_name(file: &Path) -> String {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_ascii_lowercase();
    let dashed: String =
        stem.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).take(63).collect();
    dashed.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_files() {
        for (file, name) in
            [("a/Demand_v2.ubj", "demand-v2"), ("_x.json", "x"), ("model.2024.onnx", "model-2024"), ("___.ubj", "")]
        {
            assert_eq!(model_name(Path::new(file)), name);
        }
    }

    #[test]
    fn pickles_are_refused_by_name() {
        for file in ["m.pkl", "m.PICKLE", "m.joblib", "m.pt"] {
            let failure = refuse_others(Path::new(file), file).expect_err(file);
            assert!(failure.to_string().contains("runs arbitrary code"));
            assert_eq!(failure.exit(), Exit::Usage);
        }
        let weights = refuse_others(Path::new("m.safetensors"), "m.safetensors").expect_err("weights alone");
        assert!(weights.to_string().contains("holds weights alone"));
        assert!(refuse_others(Path::new("m.ubj"), "m.ubj").is_ok());
    }

    #[test]
    fn odd_file_names_are_refused() {
        assert!(plain_file_name(Path::new("my model.ubj")).is_err());
        assert_eq!(plain_file_name(Path::new("a b/model.ubj")).expect("plain"), "model.ubj");
    }
}
