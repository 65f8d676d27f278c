//! `evctl import hf`: a Hugging Face directory as a model version.

mod config;
mod license;
mod manifest;
mod weights;

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use clap::Args;
use ev_models_core::{Manifest, recipe::Recipe};
use serde::Serialize;

use self::{config::Config, manifest::Description};
use super::import;
use crate::{cli::GlobalOptions, exit::Exit, failure::Failure, output::Output};

const CONFIG: &str = "config.json";
const PREPROCESSOR: &str = "preprocessor_config.json";
const WEIGHTS: &str = "model.safetensors";
const CARD: &str = "README.md";
/// Bytes of a text file; the names of 21,841 classes take 1 MiB.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// What stands where the weights are sought, why it is not taken, and the way out.
const OTHER_WEIGHTS: [(&str, &str, &str); 4] = [
    (
        "pytorch_model.bin",
        "is a pickle: it runs arbitrary code when it is loaded, so it is never accepted",
        "save it as model.safetensors, on a machine where you trust it: \
         AutoModelForImageClassification.from_pretrained(DIR).save_pretrained(NEW, safe_serialization=True)",
    ),
    (
        "model.safetensors.index.json",
        "says that the weights are in several files, of which only one is taken",
        "save them in one: \
         AutoModelForImageClassification.from_pretrained(DIR).save_pretrained(NEW, max_shard_size=\"4GB\")",
    ),
    (
        "tf_model.h5",
        "holds TensorFlow's weights, which are not read",
        "save them as model.safetensors: \
         AutoModelForImageClassification.from_pretrained(DIR, from_tf=True).save_pretrained(NEW)",
    ),
    (
        "flax_model.msgpack",
        "holds Flax's weights, which are not read",
        "save them as model.safetensors: \
         AutoModelForImageClassification.from_pretrained(DIR, from_flax=True).save_pretrained(NEW)",
    ),
];

/// Register a ConvNeXt V2 image classifier from Hugging Face.
#[derive(Debug, Args)]
#[command(after_help = "\
The directory is as save_pretrained and `hf download` write it; nothing is written to it.
Its classes are those of config.json in the order of their ids; equal names get their ids.
The licence is what the front matter of its README.md says, or --license.

Examples:
  hf download facebook/convnextv2-atto-1k-224 --local-dir atto
  evctl import hf atto --name photos --set-alias production   and let it serve at once
  evctl predict image car.jpg --model photos
  evctl import hf atto --name photos --dry-run                what would be registered")]
pub(crate) struct HuggingFaceCommand {
    /// Directory with config.json, model.safetensors and preprocessor_config.json.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Name of the model: lower-case letters, digits and dashes.
    #[arg(long)]
    name: String,
    /// Point this alias at the version; production lets it serve.
    #[arg(long, visible_alias = "alias", value_name = "ALIAS")]
    set_alias: Option<String>,
    /// One sentence on the model [default: what the files say].
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Licence of the model as an SPDX expression, such as Apache-2.0 [default: what README.md says].
    #[arg(long, value_name = "SPDX")]
    license: Option<String>,
    /// Print the manifest and register nothing; no server is needed.
    #[arg(long)]
    dry_run: bool,
}

/// What a dry run prints for scripts.
#[derive(Debug, Serialize)]
struct Written {
    manifest_toml: String,
}

/// A directory that was read through, ready to be registered.
#[derive(Debug)]
struct Prepared {
    manifest: String,
    /// For the person at the terminal: what to know.
    notes: Vec<String>,
}

// === impl HuggingFaceCommand ===

impl HuggingFaceCommand {
    pub(crate) async fn run(self, global: &GlobalOptions, output: &Output) -> Result<Exit, Failure> {
        let Prepared { manifest, notes } = self.prepare()?;
        let HuggingFaceCommand { directory, name, set_alias, dry_run, .. } = self;
        for note in &notes {
            output.advise(note);
        }
        if dry_run {
            let written = Written { manifest_toml: manifest };
            output.answer(&written, || written.manifest_toml.clone())?;
            return Ok(Exit::Ok);
        }
        if directory.join("manifest.toml").exists() {
            return Err(Failure::usage(
                format!("{} has a manifest.toml, which says how it is registered", directory.display()),
                &[
                    &format!("register it as it says: evctl models import {}", directory.display()),
                    "or take manifest.toml away",
                ],
            ));
        }
        let client = global.connect().await?;
        let registry = client.registry();
        import::register(&client, output, set_alias.as_deref(), async |progress| {
            registry.register_files(&directory, manifest, progress).await
        })
        .await?;
        if set_alias.as_deref() == Some("production") {
            output.advise(&format!("ask it with: evctl predict image PHOTO --model {name}"));
        }
        Ok(Exit::Ok)
    }

    /// Reads everything but the weights, of which the header is enough, and writes the manifest.
    fn prepare(&self) -> Result<Prepared, Failure> {
        let HuggingFaceCommand { directory, name, description, license, .. } = self;
        if !directory.is_dir() {
            return Err(Failure::usage(
                format!("there is no directory {}", directory.display()),
                &["fetch one with: hf download facebook/convnextv2-atto-1k-224 --local-dir DIR"],
            ));
        }
        check_weights_are_there(directory)?;
        let config_text = required_text(directory, CONFIG, "it says which network it is")?;
        let config = Config::read(&config_text)?;
        let preprocessor_text = required_text(
            directory,
            PREPROCESSOR,
            "it says how pictures become numbers; save it beside the model: \
             AutoImageProcessor.from_pretrained(ID).save_pretrained(DIR)",
        )?;
        let [height, width] = picture_size(&preprocessor_text)?;
        weights::check(&directory.join(WEIGHTS), &config)?;
        let license = match license {
            Some(license) => license.clone(),
            None => license::of_card(text(directory, CARD)?.as_deref())?,
        };
        let classes = config.labels.len();
        let description = description.clone().unwrap_or_else(|| {
            format!("ConvNeXt V2 image classifier of {classes} classes, for pictures of {height} by {width} pixels.")
        });
        let manifest = Description {
            name,
            description: &description,
            license: &license,
            height,
            width,
            classes: &config.labels,
            files: &[(CONFIG, &config_text), (PREPROCESSOR, &preprocessor_text)],
        }
        .to_toml();
        Manifest::parse(&manifest)
            .map_err(|error| Failure::usage(format!("no manifest can be written: {error}"), &["see --help"]))?;
        Ok(Prepared { manifest, notes: config.notes })
    }
}

/// The size of the network's pictures.
fn picture_size(preprocessor: &str) -> Result<[usize; 2], Failure> {
    let recipe = Recipe::from_hugging_face(preprocessor).and_then(|recipe| recipe.check().map(|()| recipe));
    let size = recipe.and_then(|recipe| recipe.size()).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        Failure::usage(
            format!("{PREPROCESSOR} cannot be followed: {error}{source}"),
            &["state the steps yourself: begin with --dry-run, and see [preprocessing] in docs/manifest.md"],
        )
    })?;
    Ok([size.height as usize, size.width as usize])
}

fn check_weights_are_there(directory: &Path) -> Result<(), Failure> {
    if directory.join(WEIGHTS).exists() {
        return Ok(());
    }
    let other = OTHER_WEIGHTS.iter().find(|(file, _, _)| directory.join(file).exists());
    Err(match other {
        Some((file, problem, advice)) => {
            Failure::usage(format!("{} {problem}", directory.join(file).display()), &[advice])
        }
        None => missing(directory, WEIGHTS, "it holds the weights; other formats are not read"),
    })
}

fn missing(directory: &Path, file: &str, why: &str) -> Failure {
    Failure::usage(format!("{} has no {file}", directory.display()), &[why])
}

fn required_text(directory: &Path, file: &str, why: &str) -> Result<String, Failure> {
    text(directory, file)?.ok_or_else(|| missing(directory, file, why))
}

/// A text file, if it is there.
fn text(directory: &Path, file: &str) -> Result<Option<String>, Failure> {
    let path = directory.join(file);
    let source = match fs_err::File::open(&path) {
        Ok(source) => source,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::Input(error)),
    };
    let mut text = String::new();
    source.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text).map_err(Failure::Input)?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        return Err(Failure::usage(format!("{} is larger than {} MiB", path.display(), TEXT_BYTES_MAX >> 20), &[]));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests;
