//! `ev-loadtests`: one load test, as a table or as JSON; fails when a threshold is not kept.

mod swap_command;

use std::{fmt::Display, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ev_loadtests::{
    AlertsLoad, Connection, IngestLoad, IngestPace, IngestThresholds, Load, Pace, Picture, Report, Scenario,
    Thresholds, Vice,
};
use serde::Serialize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Loads a server with predictions or readings on a fixed schedule, and says how long they took.
#[derive(Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  ev-loadtests --rate 20000 --duration 30s --p99-max 5ms
  ev-loadtests --scenario stream --streams 4 --rate 100000
  ev-loadtests --scenario batch --rows 256 --rate 200 -o json
  ev-loadtests --in-flight 64 --connections 1      as fast as it goes
  ev-loadtests --scenario photo --photo car.jpg --rate 20
  ev-loadtests --scenario tensor --model vehicle-classifier --in-flight 4 --connections 1
  ev-loadtests --scenario ingest --gateways 4 --vehicles 25 --batch-readings 32    as fast as credit allows
  ev-loadtests --scenario ingest --rate 50000 --p99-max 50ms                        50,000 readings/s
  ev-loadtests --scenario ingest --poor           some batches come twice, late or never; gap ledgers are checked
  ev-loadtests --scenario alerts --rate 20 --p99-max 50ms      from a reading to the alert it raises
  ev-loadtests --scenario hostile --duration 60s               gateways that keep to nothing
  ev-loadtests swap --swaps 10                                 another version every second, and who notices"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Address of the server [default: 127.0.0.1:50051; of the ingest and hostile scenarios 127.0.0.1:50052].
    #[arg(long)]
    endpoint: Option<String>,
    /// Address of a second server: the two take turns of 50 ms at the rate, and both are told of, so that what slows the
    /// machine down slows both down
    #[arg(long, conflicts_with = "in_flight")]
    beside: Option<String>,
    /// Where the server of the alerts scenario takes readings in.
    #[arg(long, default_value = "127.0.0.1:50052")]
    ingest: String,
    /// What is called.
    #[arg(long, value_enum, default_value_t = Kind::Unary)]
    scenario: Kind,
    /// Rows of one request of the batch scenario.
    #[arg(long, default_value_t = 64)]
    rows: usize,
    /// The picture of the photo scenario: JPEG, PNG or WebP.
    #[arg(long, required_if_eq("scenario", "photo"))]
    photo: Option<PathBuf>,
    /// Model of the photo and tensor scenarios; a photo without it goes to the service's own.
    #[arg(long, required_if_eq("scenario", "tensor"))]
    model: Option<String>,
    /// Rows and columns of the picture of the tensor scenario.
    #[arg(long, default_value_t = 224)]
    side: u16,
    /// What the hostile scenario's gateways do: deaf, flood, huge, forged or clock [default: all].
    #[arg(long)]
    vice: Option<Vice>,
    /// Gateways of the ingest scenario.
    #[arg(long, default_value_t = 4)]
    gateways: usize,
    /// Vehicles of a gateway.
    #[arg(long, default_value_t = 25)]
    vehicles: usize,
    /// Readings of a batch, of eight signals each.
    #[arg(long, default_value_t = 32)]
    batch_readings: usize,
    /// Gateways of the ingest scenario send some batches twice, some late and some never; at the end the server's gap
    /// ledgers are compared with what did not come.
    #[arg(long)]
    poor: bool,
    /// Requests a second, evenly spaced, answered or not [default: 10000]; of the ingest scenario readings a second
    /// [default: as many as there is credit for].
    #[arg(long)]
    rate: Option<f64>,
    /// Instead of a rate: so many requests in flight on each stream, the next one when one is answered.
    #[arg(long, conflicts_with = "rate")]
    in_flight: Option<usize>,
    /// Connections.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Streams a connection.
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// Time that is counted.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Time before that.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    /// Most requests in flight; those due above it are dropped.
    #[arg(long, default_value_t = 20_000)]
    in_flight_max: usize,
    /// Table or JSON.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    thresholds: Limits,
}

#[derive(Subcommand)]
enum Command {
    Swap(Box<swap_command::SwapArgs>),
}

#[derive(Args)]
struct Limits {
    /// Fail when the 99th percentile to the acknowledgement as received is longer, in the ingest scenario. The other
    /// latencies are there to the acknowledgement as durable.
    #[arg(long, value_parser = humantime::parse_duration)]
    received_p99_max: Option<Duration>,
    /// Fail when the median latency is longer.
    #[arg(long, value_parser = humantime::parse_duration)]
    p50_max: Option<Duration>,
    /// Fail when the 99th percentile is longer.
    #[arg(long, value_parser = humantime::parse_duration)]
    p99_max: Option<Duration>,
    /// Fail when the 99.9th percentile is longer.
    #[arg(long, value_parser = humantime::parse_duration)]
    p999_max: Option<Duration>,
    /// Fail when a larger share of requests failed, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    failed_share_max: f64,
    /// Fail when fewer requests a second were answered, or readings a second became durable.
    #[arg(long)]
    per_second_min: Option<f64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Unary,
    Stream,
    Batch,
    Photo,
    Tensor,
    Ingest,
    Alerts,
    Hostile,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ev-loadtests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The signal that asks this program to end.
async fn stopped() -> anyhow::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => Ok("SIGINT"),
        _ = terminate.recv() => Ok("SIGTERM"),
    }
}

fn run(mut cli: Cli) -> anyhow::Result<ExitCode> {
    // One thread: what it can send is known, and its lateness is in the report.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    if let Some(Command::Swap(args)) = cli.command.take() {
        return runtime.block_on(async {
            // What is dropped here ends the server that was started for it.
            tokio::select! {
                ended = swap_command::run(*args) => ended,
                signal = stopped() => anyhow::bail!("stopped by {}", signal?),
            }
        });
    }
    let broken = match cli.scenario()? {
        _ if matches!(cli.scenario, Kind::Hostile) => {
            runtime.block_on(ev_loadtests::run_hostile(&cli.ingest_load().endpoint, cli.vice, cli.duration))?;
            Vec::new()
        }
        _ if matches!(cli.scenario, Kind::Alerts) => {
            let report = runtime.block_on(ev_loadtests::run_alerts(&cli.alerts_load()))?;
            cli.print(&report)?;
            report.broken(cli.thresholds.p99_max)
        }
        Some(scenario) => match &cli.beside {
            Some(other) => {
                let reports = runtime.block_on(ev_loadtests::run_beside(&cli.load(scenario)?, other))?;
                cli.print_both(&reports)?;
                reports.iter().flat_map(|report| cli.thresholds().broken(report)).collect()
            }
            None => {
                let report = runtime.block_on(ev_loadtests::run(&cli.load(scenario)?))?;
                cli.print(&report)?;
                cli.thresholds().broken(&report)
            }
        },
        None => {
            let report = runtime.block_on(ev_loadtests::run_ingest(&cli.ingest_load()))?;
            cli.print(&report)?;
            cli.ingest_thresholds().broken(&report)
        }
    };
    for threshold in &broken {
        eprintln!("FAILED: {threshold}");
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

// === impl Cli ===

impl Cli {
    /// What is called; none when readings are sent.
    fn scenario(&self) -> anyhow::Result<Option<Scenario>> {
        let sends_readings = matches!(self.scenario, Kind::Ingest | Kind::Alerts | Kind::Hostile);
        anyhow::ensure!(
            !(sends_readings && self.beside.is_some()),
            "servers take turns at predictions only: no --beside"
        );
        let scenario = match self.scenario {
            Kind::Unary => Scenario::Unary,
            Kind::Stream => Scenario::Stream,
            Kind::Batch => Scenario::Batch(self.rows),
            Kind::Photo => Scenario::Photo,
            Kind::Tensor => Scenario::Tensor,
            Kind::Ingest => {
                anyhow::ensure!(self.in_flight.is_none(), "what is in flight is the server's credit: no --in-flight");
                return Ok(None);
            }
            Kind::Alerts | Kind::Hostile => return Ok(None),
        };
        Ok(Some(scenario))
    }

    fn print(&self, report: &(impl Display + Serialize)) -> anyhow::Result<()> {
        match self.output {
            Output::Table => print!("{report}"),
            Output::Json => println!("{}", serde_json::to_string_pretty(report)?),
        }
        Ok(())
    }

    fn print_both(&self, [one, other]: &[Report; 2]) -> anyhow::Result<()> {
        match self.output {
            Output::Table => print!("{one}\nBeside it\n\n{other}"),
            Output::Json => println!("{}", serde_json::to_string_pretty(&[one, other])?),
        }
        Ok(())
    }

    fn alerts_load(&self) -> AlertsLoad {
        AlertsLoad {
            ingest: self.ingest.clone(),
            endpoint: self.endpoint.clone().unwrap_or_else(|| Load::default().endpoint),
            rate: self.rate.unwrap_or(20.0),
            duration: self.duration,
        }
    }

    fn ingest_load(&self) -> IngestLoad {
        let usual = IngestLoad::default();
        IngestLoad {
            endpoint: self.endpoint.clone().unwrap_or(usual.endpoint),
            gateways: self.gateways,
            vehicles: self.vehicles,
            batch_readings: self.batch_readings,
            pace: self.rate.map_or(IngestPace::Credit, IngestPace::Rate),
            connection: if self.poor { Connection::Poor } else { Connection::Good },
            warm_up: self.warm_up,
            duration: self.duration,
        }
    }

    fn ingest_thresholds(&self) -> IngestThresholds {
        IngestThresholds {
            received_p99_max: self.thresholds.received_p99_max,
            durable_p50_max: self.thresholds.p50_max,
            durable_p99_max: self.thresholds.p99_max,
            durable_p999_max: self.thresholds.p999_max,
            failed_share_max: self.thresholds.failed_share_max,
            per_second_min: self.thresholds.per_second_min,
        }
    }

    fn load(&self, scenario: Scenario) -> anyhow::Result<Load> {
        let model = self.model.clone().unwrap_or_default();
        let picture = match (self.scenario, &self.photo) {
            (Kind::Photo, Some(photo)) => Picture { photo: fs_err::read(photo)?.into(), model, ..Picture::default() },
            (Kind::Tensor, _) => Picture { tensor: Picture::tensor(&model, self.side), ..Picture::default() },
            _ => Picture::default(),
        };
        Ok(Load {
            endpoint: self.endpoint.clone().unwrap_or_else(|| Load::default().endpoint),
            scenario,
            picture,
            pace: self.in_flight.map_or(Pace::Rate(self.rate.unwrap_or(10_000.0)), Pace::InFlight),
            connections: self.connections,
            streams: self.streams,
            warm_up: self.warm_up,
            duration: self.duration,
            in_flight_max: self.in_flight_max,
        })
    }

    fn thresholds(&self) -> Thresholds {
        Thresholds {
            p50_max: self.thresholds.p50_max,
            p99_max: self.thresholds.p99_max,
            p999_max: self.thresholds.p999_max,
            failed_share_max: self.thresholds.failed_share_max,
            per_second_min: self.thresholds.per_second_min,
        }
    }
}
