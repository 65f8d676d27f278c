//! How fast is the forest, beside XGBoost itself? 500 trees, depth 6, 20 columns, 5 % missing.
//!
//! `benches/run_forest.sh` makes the models and finds XGBoost's library; the table at the end is the answer.
//! Each figure is the median of nine rounds in which all engines take turns, each on one thread.

use std::{
    hint::black_box,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput};
use ev_benches::{Xgboost, median};
use ev_models_core::{Instance, Tensor, Tensors};
use ev_models_forest::{ForestBackend, Kernel};

const COLUMNS: usize = 20;
const ROWS: [usize; 3] = [1, 64, 1_024];
const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(60);
const SPELL: Duration = Duration::from_micros(200);

/// Budgets of the design: microseconds for one row, and how many times XGBoost's speed for 1,024 rows.
const BUDGETS: [(Kernel, f64, f64); 3] =
    [(Kernel::Bytes, 2.0, 5.0), (Kernel::Words, 2.8, 3.5), (Kernel::Portable, 5.5, 1.6)];

/// Something that answers batches.
struct Engine {
    name: String,
    run: Box<dyn FnMut(&Tensors)>,
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

/// The engines for a model: every kernel that runs it here, and XGBoost if its library is given.
fn engines(model: &Path) -> Vec<Engine> {
    let bytes = fs_err::read(model).expect("checked in main");
    let kernel = |kernel| {
        let model = ForestBackend::with_kernel(kernel).load_bytes("model", &bytes).ok()?;
        let mut instance: Box<dyn Instance> = model.instantiate().expect("a forest makes instances");
        let run = move |batch: &Tensors| {
            black_box(instance.run(black_box(batch)).expect("the shape is the model's"));
        };
        Some(Engine { name: kernel.to_string(), run: Box::new(run) })
    };
    let mut engines: Vec<Engine> = BUDGETS.iter().filter_map(|(name, ..)| kernel(*name)).collect();
    if let Ok(library) = std::env::var("XGBOOST_LIB") {
        let mut xgboost = Xgboost::load(&library, &model.to_string_lossy()).expect("XGBOOST_LIB is XGBoost's library");
        let run = move |batch: &Tensors| {
            let rows = batch[0].as_f32().expect("rows are floats");
            black_box(xgboost.predict(black_box(rows), COLUMNS).expect("the rows fit the model"));
        };
        engines.push(Engine { name: "XGBoost".to_owned(), run: Box::new(run) });
    }
    engines
}

/// Batches of some rows each; several, so that no engine learns one by heart.
fn batches(rows: &[f32], count: usize) -> Vec<Tensors> {
    let batch = |rows: &[f32]| Tensors::from(vec![Tensor::f32([count, COLUMNS], rows.to_vec())]);
    rows.chunks_exact(count * COLUMNS).map(batch).collect()
}

/// Seconds a batch takes: the median of many short spells, of which other work on the machine spoils few.
fn time(engine: &mut Engine, batches: &[Tensors]) -> f64 {
    let start = Instant::now();
    // A look at the clock costs a fiftieth of the shortest run.
    let at_once = if batches[0][0].rows() == 1 { 8 } else { 1 };
    let mut batches = batches.iter().cycle();
    let mut spells = Vec::new();
    while start.elapsed() < ROUND {
        let spell = Instant::now();
        let mut runs = 0_u32;
        while runs == 0 || spell.elapsed() < SPELL {
            for batch in batches.by_ref().take(at_once) {
                (engine.run)(batch);
                runs += 1;
            }
        }
        spells.push(spell.elapsed().as_secs_f64() / f64::from(runs));
    }
    median(spells)
}

/// Measures all engines in turns and prints how they compare.
fn compare(model: &Path, rows: &[f32]) {
    println!("\n{}", model.file_name().unwrap_or_default().to_string_lossy());
    println!("{:>6}  {:<20} {:>10} {:>10} {:>12}", "rows", "engine", "us", "us a row", "x XGBoost");
    for count in ROWS {
        let batches = batches(rows, count);
        let mut engines = engines(model);
        let mut times = vec![Vec::new(); engines.len()];
        for _ in 0..ROUNDS {
            for (engine, times) in engines.iter_mut().zip(&mut times) {
                times.push(time(engine, &batches));
            }
        }
        let medians: Vec<f64> = times.into_iter().map(|times| median(times) * 1e6).collect();
        let xgboost = engines.iter().position(|engine| engine.name == "XGBoost").map(|place| medians[place]);
        for (engine, median) in engines.iter().zip(&medians) {
            let ratio = xgboost.map_or(f64::NAN, |xgboost| xgboost / median);
            let budget = BUDGETS.iter().find(|(kernel, ..)| kernel.to_string() == engine.name);
            let verdict = match (budget, count) {
                (Some((_, budget, _)), 1) => format!("budget {budget} us: {}", kept(median <= budget)),
                (Some((.., budget)), 1_024) => format!("budget {budget} x: {}", kept(ratio >= *budget)),
                _ => String::new(),
            };
            #[expect(clippy::cast_precision_loss, reason = "at most 1,024 rows")]
            let a_row = median / count as f64;
            println!("{count:>6}  {:<20} {median:>10.3} {a_row:>10.4} {ratio:>12.2}  {verdict}", engine.name);
        }
    }
}

fn kept(is_kept: bool) -> &'static str {
    if is_kept { "kept" } else { "MISSED" }
}

fn criterion(criterion: &mut Criterion, model: &Path, rows: &[f32]) {
    let name = model.file_stem().unwrap_or_default().to_string_lossy();
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600));
    for count in ROWS {
        let batches = batches(rows, count);
        group.throughput(Throughput::Elements(count as u64));
        for engine in &mut engines(model) {
            let mut turn = batches.iter().cycle();
            group.bench_function(BenchmarkId::new(&engine.name, count), |bencher| {
                bencher.iter(|| (engine.run)(turn.next().expect("the cycle has no end")));
            });
        }
    }
    group.finish();
}

fn main() -> ExitCode {
    let files = ["forest-250.ubj", "forest-256.ubj", "rows.f32"].map(|file| models().join(file));
    if files.iter().any(|file| !file.exists()) {
        println!("skipped: no models; `benches/run_forest.sh` makes them and runs this");
        return ExitCode::SUCCESS;
    }
    let [narrow, default, rows] = files;
    let rows = fs_err::read(rows).expect("checked above");
    let rows: Vec<f32> = rows.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    if std::env::var_os("XGBOOST_LIB").is_none() {
        println!("without XGBoost: XGBOOST_LIB does not name its library, `benches/run_forest.sh` sets it");
    }
    if !std::env::args().any(|argument| argument == "--table") {
        let mut runner = Criterion::default().configure_from_args();
        for model in [&narrow, &default] {
            criterion(&mut runner, model, &rows);
        }
        runner.final_summary();
    }
    for model in [&narrow, &default] {
        compare(model, &rows);
    }
    ExitCode::SUCCESS
}
