//! How long does an image take on candle, against ONNX Runtime, on one thread?
//!
//! The same seeded weights of ConvNeXt V2 Atto in both, as the graph PyTorch exports of Hugging Face's model and as that
//! of timm's, whichever is faster. Runs alternate; medians and ratios of pairs are printed.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use ev_models_candle::{CandleBackend, Kernel};
use ev_models_core::{InputColumns, Instance, LoadOptions, Tensor, Tensors};
use ev_models_ort::{LIBRARY, OrtBackend};

#[path = "../../../models/candle/tests/support/checkpoint.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod checkpoint;
#[path = "../../../models/tests/support/export.rs"]
mod export;
#[path = "../../../models/ort/tests/support/onnx.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod onnx;

use checkpoint::{ATTO, Checkpoint, pixels};
use export::{Layout, export};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Pairs of measurements; the median of them is printed.
const PAIRS: usize = 9;
/// Each measurement takes about so long.
const MEASURED: Duration = Duration::from_millis(500);

fn main() -> anyhow::Result<()> {
    let library = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.onnxruntime")).join(LIBRARY);
    let checkpoint = Checkpoint::random(1, ATTO);
    let options = LoadOptions {
        inputs: vec![InputColumns { name: "pixel_values".into(), shape: vec![3, ATTO.image, ATTO.image] }],
        output: "logits".into(),
        ..LoadOptions::new("model", 3 * ATTO.image * ATTO.image)
    };
    let ort = |layout| -> anyhow::Result<Box<dyn Instance>> {
        let bytes = export(&checkpoint, ATTO, layout);
        Ok(OrtBackend::new([library.clone()]).load_bytes(bytes, &options)?.instantiate()?)
    };
    let candle = |kernel| -> anyhow::Result<Box<dyn Instance>> {
        let backend = CandleBackend::with_kernel(kernel);
        Ok(backend.load_bytes(&checkpoint.config(), &checkpoint.weights(), &options)?.instantiate()?)
    };
    let mut references = [("products", ort(Layout::Products)?), ("convolutions", ort(Layout::Convolutions)?)];

    println!("ConvNeXt V2 Atto, 224 by 224, one thread, ms an image: medians of {PAIRS} interleaved measurements\n");
    println!("| kernel | images a run | candle | ONNX Runtime, products | convolutions | candle / the faster |");
    println!("|---|---|---|---|---|---|");
    for kernel in Kernel::all() {
        let mut candle = candle(kernel)?;
        for images in [1, 8] {
            let shape = [images, 3, ATTO.image, ATTO.image];
            let batch = Tensors::from(vec![Tensor::f32(shape, pixels(2, shape.iter().product()))]);
            let mut times: [Vec<f64>; 3] = Default::default();
            for _ in 0..PAIRS {
                times[0].push(measure(&mut *candle, &batch, images)?);
                for ((_, instance), times) in references.iter_mut().zip(&mut times[1..]) {
                    times.push(measure(&mut **instance, &batch, images)?);
                }
            }
            let mut ratios: Vec<f64> =
                (0..PAIRS).map(|pair| times[0][pair] / times[1][pair].min(times[2][pair])).collect();
            let [candle, products, convolutions] = times.each_mut().map(median);
            let (name, ratio) = (kernel.name(), median(&mut ratios));
            println!("| {name} | {images} | {candle:.2} | {products:.2} | {convolutions:.2} | {ratio:.2} |");
        }
    }
    Ok(())
}

/// Milliseconds an image, once warm.
fn measure(instance: &mut dyn Instance, batch: &Tensors, images: usize) -> anyhow::Result<f64> {
    instance.run(batch).context("the first run")?;
    let started = Instant::now();
    let mut runs = 0_u32;
    while started.elapsed() < MEASURED {
        instance.run(batch)?;
        runs += 1;
    }
    Ok(started.elapsed().as_secs_f64() * 1e3 / f64::from(runs) / images as f64)
}

fn median(values: &mut Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
