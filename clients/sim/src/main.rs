//! `evsim`: writes what a simulated fleet sends, or a recording, at any speed.
//!
//! Nothing but batches goes to standard output. Where they go is one [`Sink`]; a stream to a server is another one.

use std::{
    error::Error,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use evsim::{
    Batch, Fault, Fleet, FleetConfig, Signal, SimError, Start, Truth,
    output::{BatchWriter, Format, TruthWriter},
    replay::{Replay, ReplayConfig},
};

/// Simulated vehicles, with faults and ground truth.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Simulates a fleet.
    Run(RunArgs),
    /// Replays a recorded CSV file.
    Replay(ReplayArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// How many vehicles.
    #[arg(long, default_value_t = 10)]
    vehicles: usize,
    /// The same seed gives the same fleet.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds of simulated time.
    #[arg(long, default_value_t = 3600)]
    seconds: u32,
    /// Seconds of a batch.
    #[arg(long, default_value_t = 10)]
    batch_seconds: u32,
    /// What the vehicles are doing at first.
    #[arg(long, value_enum, default_value_t = StartArg::Night)]
    start: StartArg,
    /// When the simulation begins, in seconds since 1970-01-01 UTC; 1 January 2026 by default.
    #[arg(long, default_value_t = 1_767_225_600)]
    start_unix_s: i64,
    /// What goes wrong, such as `0:short@600`; kinds: short, stuck, skew, gap, duplicate, garbage.
    #[arg(long = "fault", value_name = "VEHICLE:KIND@SECOND")]
    faults: Vec<Fault>,
    /// Where the truth is written, as JSON lines.
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    #[command(flatten)]
    out: OutArgs,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// The recording; `-` for standard input.
    file: PathBuf,
    /// Column of the time.
    #[arg(long, default_value = "timestamp")]
    time_column: String,
    /// Hours that the recording's clock is ahead of UTC.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    utc_offset_hours: i64,
    /// Column of the vehicle or drive; empty for none.
    #[arg(long, default_value = "trip")]
    vehicle_column: String,
    /// The vehicle where there is no such column.
    #[arg(long, default_value = "replay")]
    vehicle_id: String,
    /// Readings of a batch.
    #[arg(long, default_value_t = 10)]
    batch_readings: usize,
    /// A column and its signal, such as `soc=Vehicle.Powertrain.TractionBattery.StateOfCharge.Current`.
    #[arg(long = "signal", value_name = "COLUMN=SIGNAL", value_parser = mapping)]
    signals: Vec<(String, Signal)>,
    #[command(flatten)]
    out: OutArgs,
}

#[derive(Debug, Args)]
struct OutArgs {
    /// How batches are written.
    #[arg(long, value_enum, default_value_t = FormatArg::Jsonl)]
    format: FormatArg,
    /// Where batches are written; `-` for standard output.
    #[arg(long, default_value = "-")]
    output: PathBuf,
    /// Seconds of the vehicles' time in a second; 0: as fast as it goes.
    #[arg(long, default_value_t = 0.0)]
    speed: f64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StartArg {
    Night,
    Driving,
    Charging,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatArg {
    Jsonl,
    Csv,
}

/// Where batches go.
trait Sink {
    fn send(&mut self, batch: &Batch) -> Result<(), SimError>;
    fn finish(&mut self) -> Result<(), SimError>;
}

/// Lets the vehicles' time pass at a speed.
struct Pace {
    speed: f64,
    began: Option<(Instant, i64)>,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run(args),
        Command::Replay(args) => replay(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read it has seen enough.
        Err(SimError::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let mut causes = error.source();
            eprint!("error: {error}");
            while let Some(cause) = causes {
                eprint!(": {cause}");
                causes = cause.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn run(args: RunArgs) -> Result<(), SimError> {
    let mut sink = args.out.sink()?;
    let mut truth = args.truth.as_deref().map(|path| create(path).map(TruthWriter::new)).transpose()?;
    let mut pace = Pace::new(args.out.speed);
    let until_us = args.start_unix_s.saturating_add(i64::from(args.seconds)).saturating_mul(1_000_000);
    let fleet = Fleet::new(FleetConfig {
        vehicles: args.vehicles,
        seed: args.seed,
        start: args.start.into(),
        batch_s: args.batch_seconds,
        start_unix_s: args.start_unix_s,
        faults: args.faults,
        ..FleetConfig::default()
    });
    let mut last: Option<Truth> = None;
    for emission in fleet.take_while(|emission| emission.truth.time_us <= until_us) {
        pace.wait(emission.truth.time_us);
        sink.send(&emission.batch)?;
        pace.show(&mut *sink)?;
        // A batch that is sent twice is true once.
        if let Some(writer) = truth.as_mut().filter(|_| last.as_ref() != Some(&emission.truth)) {
            writer.write(&emission.truth).map_err(unwritten)?;
        }
        last = Some(emission.truth);
    }
    if let Some(writer) = &mut truth {
        writer.flush().map_err(unwritten)?;
    }
    sink.finish()
}

fn replay(args: ReplayArgs) -> Result<(), SimError> {
    let recording: Box<dyn BufRead> = if args.file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let file = fs_err::File::open(&args.file);
        Box::new(BufReader::new(
            file.map_err(|source| SimError::Io { what: "the recording cannot be opened", source })?,
        ))
    };
    let defaults = ReplayConfig::default();
    let config = ReplayConfig {
        time_column: args.time_column,
        utc_offset_s: args.utc_offset_hours.saturating_mul(3600),
        vehicle_column: Some(args.vehicle_column).filter(|column| !column.is_empty()),
        vehicle_id: args.vehicle_id,
        batch_readings: args.batch_readings,
        signals: args.signals.into_iter().chain(defaults.signals).collect(),
    };
    let mut sink = args.out.sink()?;
    let mut pace = Pace::new(args.out.speed);
    for batch in Replay::new(recording, config)? {
        let batch = batch?;
        pace.wait(batch.times_us.last().copied().unwrap_or_default());
        sink.send(&batch)?;
        pace.show(&mut *sink)?;
    }
    sink.finish()
}

fn mapping(text: &str) -> Result<(String, Signal), String> {
    let (column, name) = text.split_once('=').ok_or("expected COLUMN=SIGNAL")?;
    let signal = Signal::by_name(name).ok_or_else(|| {
        let known: Vec<&str> = Signal::ALL.into_iter().map(Signal::name).collect();
        format!("`{name}` is no signal, expected one of {}", known.join(", "))
    })?;
    Ok((column.to_owned(), signal))
}

fn create(path: &Path) -> Result<BufWriter<File>, SimError> {
    let file =
        fs_err::File::create(path).map_err(|source| SimError::Io { what: "a file cannot be written", source })?;
    Ok(BufWriter::new(file.into_parts().0))
}

fn unwritten(source: io::Error) -> SimError {
    SimError::Io { what: "the output cannot be written", source }
}

// === impl OutArgs ===

impl OutArgs {
    fn sink(&self) -> Result<Box<dyn Sink>, SimError> {
        let to: Box<dyn Write> = if self.output == Path::new("-") {
            Box::new(BufWriter::new(io::stdout().lock()))
        } else {
            Box::new(create(&self.output)?)
        };
        Ok(Box::new(BatchWriter::new(to, self.format.into())))
    }
}

impl Sink for BatchWriter<Box<dyn Write>> {
    fn send(&mut self, batch: &Batch) -> Result<(), SimError> {
        self.write(batch).map_err(unwritten)
    }

    fn finish(&mut self) -> Result<(), SimError> {
        self.flush().map_err(unwritten)
    }
}

// === impl Pace ===

impl Pace {
    fn new(speed: f64) -> Pace {
        Pace { speed, began: None }
    }

    /// Whoever watches at a speed sees each batch at its time.
    fn show(&self, sink: &mut dyn Sink) -> Result<(), SimError> {
        if self.began.is_some() { sink.finish() } else { Ok(()) }
    }

    /// Until this time of the vehicles has come; one that goes back does not wait.
    fn wait(&mut self, time_us: i64) {
        if !(self.speed > 0.0 && self.speed.is_finite()) {
            return;
        }
        let (began, first_us) = *self.began.get_or_insert((Instant::now(), time_us));
        let simulated_s = time_us.saturating_sub(first_us).max(0) as f64 / 1e6;
        if let Ok(due) = Duration::try_from_secs_f64(simulated_s / self.speed) {
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
}

// === impl StartArg, FormatArg ===

impl From<StartArg> for Start {
    fn from(start: StartArg) -> Start {
        match start {
            StartArg::Night => Start::Night,
            StartArg::Driving => Start::Driving,
            StartArg::Charging => Start::Charging,
        }
    }
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Format {
        match format {
            FormatArg::Jsonl => Format::JsonLines,
            FormatArg::Csv => Format::Csv,
        }
    }
}
