//! ONNX Runtime in process: so many callers, each with an instance of its own, on the processors the server gets.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::Args;
use ev_benches::median;
use ev_images::{Limits, Preprocessor, Scratch};
use ev_models_core::{
    InputColumns, LoadOptions, Manifest, Model, Tensor, Tensors,
    manifest::{HeadName, Preprocessing},
    recipe::Recipe,
};
use ev_models_ort::{LIBRARY, OrtBackend};
use serde::{Deserialize, Serialize};

use crate::question::Kind;

#[derive(Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    model: PathBuf,
    /// Decoded and resized for every picture; without it the tensor is there already.
    #[arg(long)]
    photo: Option<PathBuf>,
    #[arg(long)]
    callers: usize,
    #[arg(long)]
    seconds: f64,
}

/// What the peer reached.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Reached {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Starts the peer on these processors and waits for what it reached.
pub(crate) fn measure(
    processors: &str,
    model: &Path,
    photo: Option<&Path>,
    callers: usize,
    seconds: f64,
) -> anyhow::Result<Reached> {
    let mut command = Command::new("taskset");
    command.args(["-c", processors]).arg(std::env::current_exe()?).arg("peer");
    command.args(["--callers", &callers.to_string(), "--seconds", &seconds.to_string(), "--model"]).arg(model);
    if let Some(photo) = photo {
        command.arg("--photo").arg(photo);
    }
    let output = command.output().context("cannot run the peer")?;
    if !output.status.success() {
        bail!("the peer failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("the peer said no JSON")
}

/// The peer.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { model, photo, callers, seconds } = arguments;
    let (manifest, recipe) = manifest(model)?;
    let graph = load(model, &manifest)?;
    let photo = photo.as_ref().map(fs_err::read).transpose()?;
    let preprocessor = Preprocessor::new(recipe, Limits::default())?;
    let started = Instant::now();
    let duration = Duration::from_secs_f64(*seconds);
    let times = std::thread::scope(|scope| {
        let caller = || caller(&*graph, &preprocessor, photo.as_deref(), started + duration);
        let callers: Vec<_> = (0..*callers).map(|_| scope.spawn(caller)).collect();
        let times = callers.into_iter().map(|caller| caller.join().unwrap_or_else(|_| bail!("a caller panicked")));
        times.collect::<anyhow::Result<Vec<Vec<f64>>>>()
    })?;
    let elapsed = started.elapsed().as_secs_f64();
    let mut times = times.concat();
    times.sort_by(f64::total_cmp);
    let p99_ms = times.get(times.len() * 99 / 100).copied().unwrap_or(f64::NAN);
    let reached = Reached { per_second: times.len() as f64 / elapsed, p50_ms: median(times), p99_ms };
    println!("{}", serde_json::to_string(&reached)?);
    Ok(())
}

/// Milliseconds of each picture until the time is up.
fn caller(
    graph: &dyn Model,
    preprocessor: &Preprocessor,
    photo: Option<&[u8]>,
    end: Instant,
) -> anyhow::Result<Vec<f64>> {
    let mut instance = graph.instantiate()?;
    let shape = preprocessor.shape();
    let mut batch =
        Tensors::from(vec![Tensor::f32([1, shape[0], shape[1], shape[2]], vec![0.5; preprocessor.values()])]);
    let mut scratch = Scratch::default();
    instance.run(&batch)?;
    let mut times = Vec::new();
    while Instant::now() < end {
        let started = Instant::now();
        if let Some(photo) = photo {
            let values = batch[0].reset_f32(1, preprocessor.values());
            values.resize(preprocessor.values(), 0.0);
            preprocessor.run(&mut scratch, photo, &|| false, values)?;
        }
        instance.run(&batch)?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

fn load(model: &Path, manifest: &Manifest) -> anyhow::Result<std::sync::Arc<dyn Model>> {
    let library = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.onnxruntime")).join(LIBRARY);
    let file = manifest.body.as_ref().and_then(|body| body.head(HeadName::Point)).context("no point head")?;
    let input = manifest.inputs.first().context("no input")?;
    let options = LoadOptions {
        inputs: vec![InputColumns { name: input.name.clone(), shape: input.shape.clone() }],
        output: manifest.outputs[0].name.clone(),
        ..LoadOptions::new(file, input.width())
    };
    Ok(OrtBackend::new([library]).load_bytes(fs_err::read(model.join(file))?, &options)?)
}

/// A model's manifest, and how its pictures become tensors.
pub(crate) fn manifest(model: &Path) -> anyhow::Result<(Manifest, Recipe)> {
    let manifest = Manifest::parse(&fs_err::read_to_string(model.join("manifest.toml"))?)?;
    let recipe = match manifest.preprocessing.as_ref().context("the model takes no pictures")? {
        Preprocessing::Recipe(recipe) => recipe.clone(),
        Preprocessing::HuggingFace(file) => Recipe::from_hugging_face(&fs_err::read_to_string(model.join(file))?)?,
    };
    Ok((manifest, recipe))
}

/// A JPEG of 1280 by 960 pixels with as much detail as a photo: about 250 KB.
pub(crate) fn make_photo(path: &Path) -> anyhow::Result<PathBuf> {
    // Slopes of several lengths, and grain: what makes a file as large as a photo's.
    let slope = |x: u32, length: u32| (x % (2 * length)).abs_diff(length) * 100 / length;
    let picture = image::RgbImage::from_fn(1280, 960, |x, y| {
        let base = y / 9 + (x * 7919 + y * 104_729 + x * y) % 23;
        image::Rgb([140, 61, 27].map(|length| u8::try_from(base + slope(x, length)).unwrap_or(u8::MAX)))
    });
    picture.save_with_format(path, image::ImageFormat::Jpeg)?;
    Ok(path.to_owned())
}

// === impl Kind ===

impl Kind {
    /// The photo the peer decodes, if it does.
    pub(crate) fn photo(self, photo: &Path) -> Option<&Path> {
        (self == Kind::Photo).then_some(photo)
    }
}
