//! What can be asked of the program.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use evsim::{Fault, Signal, Start, output::Format};

use crate::pace::Speed;

/// Simulated vehicles, with faults and ground truth.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:
  evsim run --vehicles 3 --seconds 600 --output fleet.jsonl --truth truth.jsonl
  evsim run --to http://127.0.0.1:50052 --vehicles 100                     in real time, until Ctrl-C
  evsim run --to http://127.0.0.1:50052 --start driving --fault 0:short@600 --history 600
  evsim run --to http://127.0.0.1:50052 --seconds 86400 --speed max        the last day, at once
  evsim replay drive.csv --to http://127.0.0.1:50052 --as-if-now"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Simulates a fleet.
    Run(RunArgs),
    /// Replays a recorded CSV file.
    Replay(ReplayArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// How many vehicles.
    #[arg(long, default_value_t = 10)]
    pub(crate) vehicles: usize,
    /// The same seed gives the same fleet.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Seconds of simulated time [default: 3600; none, and until Ctrl-C, for a stream in real time].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: Option<u32>,
    /// Seconds of a batch.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch_seconds: u32,
    /// What the vehicles are doing at first.
    #[arg(long, value_enum, default_value_t = StartArg::Night)]
    pub(crate) start: StartArg,
    /// When the simulation begins, in seconds since 1970-01-01 UTC [default: 1 January 2026; for a stream, such that it ends or goes on now].
    #[arg(long, value_name = "SECONDS")]
    pub(crate) start_unix_s: Option<i64>,
    /// So many of the first seconds are over already: a stream sends them at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, requires = "to")]
    pub(crate) history: u32,
    /// What goes wrong, such as `0:short@600`; kinds: short, stuck, skew, gap, duplicate, garbage. May be repeated.
    #[arg(long = "fault", value_name = "VEHICLE:KIND@SECOND")]
    pub(crate) faults: Vec<Fault>,
    /// Where the truth is written, as JSON lines.
    #[arg(long, value_name = "FILE")]
    pub(crate) truth: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) out: OutArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The recording; `-` for standard input.
    pub(crate) file: PathBuf,
    /// Column of the time.
    #[arg(long, default_value = "timestamp")]
    pub(crate) time_column: String,
    /// Hours that the recording's clock is ahead of UTC.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) utc_offset_hours: i64,
    /// Column of the vehicle or drive; empty for none.
    #[arg(long, default_value = "trip")]
    pub(crate) vehicle_column: String,
    /// The vehicle where there is no such column.
    #[arg(long, default_value = "replay")]
    pub(crate) vehicle_id: String,
    /// Readings of a batch.
    #[arg(long, default_value_t = 10)]
    pub(crate) batch_readings: usize,
    /// A column and its signal, such as `soc=Vehicle.Powertrain.TractionBattery.StateOfCharge.Current`.
    #[arg(long = "signal", value_name = "COLUMN=SIGNAL", value_parser = mapping)]
    pub(crate) signals: Vec<(String, Signal)>,
    /// Move all times so that the recording ends, or goes on, now. Servers refuse readings older than they keep any.
    #[arg(long)]
    pub(crate) as_if_now: bool,
    #[command(flatten)]
    pub(crate) out: OutArgs,
}

/// Where batches go, and how fast.
#[derive(Debug, Args)]
pub(crate) struct OutArgs {
    /// Stream to a server's ingest address, such as http://127.0.0.1:50052, instead of writing.
    #[arg(long, value_name = "URL", conflicts_with_all = ["format", "output"])]
    pub(crate) to: Option<String>,
    /// Seconds of the vehicles' time in a second, such as 1x or 60x; max for as fast as it goes [default: 1x for a stream, else max].
    #[arg(long, value_name = "FACTOR")]
    pub(crate) speed: Option<Speed>,
    /// How batches are written.
    #[arg(long, value_enum, default_value_t = FormatArg::Jsonl)]
    pub(crate) format: FormatArg,
    /// Where batches are written; `-` for standard output.
    #[arg(long, default_value = "-")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) stream: StreamArgs,
}

/// How a stream is sent.
#[derive(Debug, Args)]
pub(crate) struct StreamArgs {
    /// Name of the gateway; another one of the same name ends this one [default: evsim- and a number].
    #[arg(long, value_name = "ID", requires = "to")]
    pub(crate) gateway: Option<String>,
    /// Most vehicles of one gateway; beyond it there are several, numbered from 0 [default: all on one].
    #[arg(long, value_name = "N", requires = "to", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) vehicles_per_gateway: Option<u32>,
    /// End as with Ctrl-C once standard input is closed: with the program that started this one.
    #[arg(long, requires = "to")]
    pub(crate) until_input_ends: bool,
    /// How a stream is summed up on standard output.
    #[arg(short = 'o', long = "summary", value_enum, default_value_t = SummaryArg::Text)]
    pub(crate) summary: SummaryArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum StartArg {
    /// Parked for hours.
    Night,
    /// On the road.
    Driving,
    /// Charging fast.
    Charging,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum FormatArg {
    /// One JSON object a batch.
    Jsonl,
    /// One line a reading.
    Csv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SummaryArg {
    /// A sentence.
    Text,
    /// One JSON object.
    Json,
}

fn mapping(text: &str) -> Result<(String, Signal), String> {
    let (column, name) = text.split_once('=').ok_or("expected COLUMN=SIGNAL")?;
    let signal = Signal::by_name(name).ok_or_else(|| {
        let known: Vec<&str> = Signal::ALL.into_iter().map(Signal::name).collect();
        format!("`{name}` is no signal, expected one of {}", known.join(", "))
    })?;
    Ok((column.to_owned(), signal))
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
