//! What a logged prediction costs: `cargo run --profile dist -p ev-outcomes --example cost [ROWS A SECOND] [SECONDS]`.
//!
//! Rows of twelve inputs come at a steady pace, a hundred times a second; shown is the processor time of the whole
//! process for each of them, making the rows included, beside that of making them alone.

use std::{
    error::Error,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use ev_outcomes::{Dropped, Input, InputKind, Output, Prediction, PredictionLog, Settings, Status, Value, Version};
use uuid::Uuid;

const INPUTS: u16 = 12;
const TURN: Duration = Duration::from_millis(10);

fn version() -> Arc<Version> {
    let inputs = (0..INPUTS).map(|number| Input { name: format!("input_{number}"), kind: InputKind::Number });
    Arc::new(Version {
        model: "ev-range".to_owned(),
        version: 1,
        digest: "sha256:0".to_owned(),
        inputs: inputs.collect(),
        output: Output::Quantiles,
    })
}

fn prediction(version: &Arc<Version>) -> Prediction {
    Prediction {
        id: Uuid::now_v7(),
        time_us: 1_700_000_000_000_000,
        version: Arc::clone(version),
        cohort: "AWD".to_owned(),
        key: None,
        inputs: (0..INPUTS).map(|number| Some(Value::Number(f32::from(number)))).collect(),
        status: Status::Ok,
        answer: vec![380.0, 400.0, 430.0],
        coverage: 1.0,
        total: Duration::from_micros(20),
    }
}

/// Of the whole process. The clock counts hundredths of a second.
fn used() -> Result<f64, Box<dyn Error>> {
    let stat = fs_err::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').ok_or("no name in /proc/self/stat")?.1;
    let times = after_name.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(times.sum::<Result<f64, _>>()? / 100.0)
}

/// Offers rows at a steady pace; says how many, and what they took.
fn offer(
    rows_per_second: u32,
    length: Duration,
    mut take: impl FnMut(Prediction),
) -> Result<(u32, f64), Box<dyn Error>> {
    let version = version();
    let (started, before) = (Instant::now(), used()?);
    let mut rows = 0;
    while started.elapsed() < length {
        for _ in 0..rows_per_second / 100 {
            take(prediction(&version));
            rows += 1;
        }
        sleep((started + TURN * (rows * 100 / rows_per_second)).saturating_duration_since(Instant::now()));
    }
    Ok((rows, used()? - before))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rows_per_second: u32 = arguments.next().map_or(Ok(1_000), |rows| rows.parse())?;
    let length = Duration::from_secs(arguments.next().map_or(Ok(5), |seconds| seconds.parse())?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let (rows, alone) = offer(rows_per_second, length, drop)?;
    println!("made alone  {rows_per_second:7} rows/s  {:6.1} us a row", alone * 1e6 / f64::from(rows));
    let directory = tempfile::tempdir()?;
    let clock = Arc::new(|| 1_700_000_000_000_000);
    let (log, _) = PredictionLog::start(directory.path(), Settings::default(), clock, || {})?;
    let (rows, taken) = offer(rows_per_second, length, |prediction| log.offer(prediction))?;
    let dropped: u64 = Dropped::ALL.iter().map(|why| log.counts().dropped(*why)).sum();
    println!(
        "logged      {rows_per_second:7} rows/s  {:6.1} us a row, {dropped} of {rows} dropped",
        taken * 1e6 / f64::from(rows)
    );
    log.stop();
    Ok(())
}
