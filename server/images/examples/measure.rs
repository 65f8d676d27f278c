//! From a file to a tensor, on one thread: `cargo run --release --package ev-images --example measure -- picture.jpg`.
//!
//! Prints the shortest of many runs for each step, in milliseconds, and of the whole. `measure.py` beside it makes
//! pictures and prints Pillow's times for the same steps.

use std::{
    env,
    error::Error,
    time::{Duration, Instant},
};

use ev_images::{Limits, Preprocessor, Recipe, Scratch};

const RUNS: usize = 50;
/// ConvNeXt V2 at 224 pixels.
const CONFIG: &str = r#"{"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224},
    "crop_pct": 0.875, "resample": 3, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let preprocessor = Preprocessor::new(Recipe::from_hugging_face(CONFIG)?, Limits::default())?;
    let mut scratch = Scratch::default();
    let mut tensor = vec![0.0; preprocessor.values()];
    println!("{:<24} {:>8} {:>8} {:>9} {:>8}", "ms", "decode", "resize", "normalize", "all");
    for path in env::args().skip(1) {
        let file = fs_err::read(&path)?;
        let mut best = [Duration::MAX; 4];
        for _ in 0..RUNS {
            let started = Instant::now();
            let mut steps = preprocessor.decode(&mut scratch, &file, &|| false)?;
            let decoded = Instant::now();
            steps.resize(&|| false)?;
            let resized = Instant::now();
            steps.normalize(&mut tensor);
            let normalized = Instant::now();
            preprocessor.run(&mut scratch, &file, &|| false, &mut tensor)?;
            let times = [decoded - started, resized - decoded, normalized - resized, normalized.elapsed()];
            best = std::array::from_fn(|step| best[step].min(times[step]));
        }
        let [decode, resize, normalize, all] = best.map(|time| time.as_secs_f64() * 1e3);
        let name = path.rsplit('/').next().unwrap_or_default();
        println!("{name:<24} {decode:>8.2} {resize:>8.2} {normalize:>9.2} {all:>8.2}");
    }
    Ok(())
}
