//! `evserve`: the server program.

mod demo;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use ev_batching::take_place;
use ev_server::{Config, Server};
use tokio::signal::unix::{Signal, SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Model serving for electric-vehicle fleets: typed predictions over gRPC from a versioned model registry.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  evserve demo                                  a server with the bundled models and a simulated fleet
  evserve serve --data-directory /var/lib/evserve
  evserve check-config --config evserve.toml    the effective configuration

Every key of the configuration can be set in the environment: EVSERVE_GRPC__ADDRESS=127.0.0.1:6000"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or Ctrl-C.
    Serve(Options),
    /// Serve the bundled models from a temporary data directory, with a simulated fleet streaming telemetry into it.
    Demo(DemoOptions),
    /// Print the effective configuration, or say what is wrong with it.
    CheckConfig(Options),
}

#[derive(Args)]
struct DemoOptions {
    /// Vehicles of the fleet; the pack of the first heads for thermal runaway. 0: none.
    #[arg(long, value_name = "N", default_value_t = demo::VEHICLES, value_parser = clap::value_parser!(u32).range(..=1000))]
    vehicles: u32,
    #[command(flatten)]
    options: Options,
}

#[derive(Args)]
struct Options {
    /// Configuration file in TOML.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the gRPC listener [default: 127.0.0.1:50051].
    #[arg(long, value_name = "ADDRESS")]
    grpc_address: Option<String>,
    /// Address that gateways stream telemetry to [default: 127.0.0.1:50052].
    #[arg(long, value_name = "ADDRESS")]
    telemetry_address: Option<String>,
    /// Address of /livez, /readyz, /startupz and /metrics [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    http_address: Option<String>,
    /// Folder of the registry and of telemetry [default: ./data].
    #[arg(long, value_name = "FOLDER")]
    data_directory: Option<String>,
    /// Any other key, such as --set grpc.serving_cores=2; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

fn main() -> ExitCode {
    keep_to_ourselves();
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("evserve: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Has ONNX Runtime keep what it sees to itself.
///
/// The official builds send events to their maker and write an identifier and a database under the user's home, from the
/// moment their environment is made; the switch in their interface comes after the first event. This variable comes before
/// (<https://github.com/microsoft/onnxruntime/pull/27379>).
fn keep_to_ourselves() {
    #[expect(unsafe_code, clippy::disallowed_methods, reason = "that library looks nowhere else early enough")]
    // SAFETY: no other thread runs yet.
    unsafe {
        std::env::set_var("ORT_DISABLE_TELEMETRY", "1");
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve(options) => serve(options.load(None)?, 0),
        Command::Demo(DemoOptions { vehicles, options }) => {
            let directory = tempfile::tempdir().context("cannot create a temporary data directory")?;
            let config = options.load(Some(directory.path().display().to_string()))?;
            serve(config, vehicles)
        }
        Command::CheckConfig(options) => {
            print!("{}", options.load(None)?.to_toml());
            Ok(())
        }
    }
}

/// Serves until it is told to stop, with a fleet of so many vehicles.
fn serve(config: Config, vehicles: u32) -> anyhow::Result<()> {
    ev_server::start_logs(&config.observability).map_err(|error| anyhow::anyhow!("observability.log: {error}"))?;
    // The control runtime: registry, deployments, exporters. Requests run on threads of their own, and come first.
    let place = config.batching.control_priority();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // Files are read and models loaded there, mostly by one after the other: each thread costs half a megabyte.
        .max_blocking_threads(8)
        .thread_name("control")
        .on_thread_start(move || take_place(place))
        .enable_all()
        .build()
        .context("cannot start the control runtime")?;
    runtime.block_on(async {
        // Listened for before anything else: from "ready" on, at the latest, a signal must mean an end in good order.
        let mut signals = Signals::listen()?;
        let server = tokio::select! {
            server = Server::start(config) => server?,
            // Nothing was promised to anybody yet, and what the registry has begun it can find whole or not at all.
            () = signals.stop() => return Ok(()),
        };
        let fleet = (vehicles > 0).then(|| demo::Fleet::start(vehicles, server.telemetry_address())).flatten();
        signals.stop().await;
        if let Some(fleet) = fleet {
            fleet.stop().await;
        }
        server.stop().await;
        Ok(())
    })
}

/// What ends the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

// === impl Signals ===

impl Signals {
    fn listen() -> anyhow::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?,
        })
    }

    /// Waits for SIGTERM or Ctrl-C; one that came earlier counts.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

// === impl Options ===

impl Options {
    /// Defaults, file, environment, flags.
    fn load(self, demo_directory: Option<String>) -> anyhow::Result<Config> {
        let mut overrides = Vec::new();
        for (key, value) in [
            ("data.directory", self.data_directory.or(demo_directory)),
            ("grpc.address", self.grpc_address),
            ("telemetry.address", self.telemetry_address),
            ("http.address", self.http_address),
        ] {
            if let Some(value) = value {
                overrides.push((key.to_owned(), value));
            }
        }
        for text in &self.overrides {
            let (key, value) = text.split_once('=').with_context(|| format!("--set {text}: expected KEY=VALUE"))?;
            overrides.push((key.to_owned(), value.to_owned()));
        }
        Ok(Config::load(self.config.as_deref(), std::env::vars(), overrides)?)
    }
}
