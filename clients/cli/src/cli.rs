//! The command line.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ev_client::{Client, Config};

use crate::{
    actor,
    alerts::AlertsCommand,
    completions, doctor,
    exit::{EXIT_CODES, Exit},
    failure::Failure,
    features::FeaturesCommand,
    import::ImportCommand,
    models::ModelsCommand,
    outcomes::OutcomesCommand,
    output::Output,
    predict::PredictCommand,
    rollout::RolloutCommand,
    style,
    telemetry::TelemetryCommand,
};

const EXAMPLES: &str = "\
Examples:
  evctl doctor                                        is the server well?
  evctl predict range --make Tesla --model 'Model 3'  how far does this car go?
  evctl predict image car.jpg                         which vehicle is this?
  evctl models list                                   which models does it serve?
  evctl rollout watch ev-range                        how does the new version do?
  evctl telemetry tail                                what do vehicles' sensors say?
  evctl features get car-1                            what is known of this vehicle?
  evctl alerts watch                                  which vehicles need somebody?
  evctl outcomes compare ev-range                     how right were the predictions?
  evctl predict range --file cars.jsonl > ranges.jsonl
  evctl -o json models show ev-range | jq .version.digest

No server yet? Start one with: make demo";

/// Asks an evserve server for predictions about electric vehicles, manages its models, shows and sends telemetry, tells alerts, and says what is wrong with it.
#[derive(Debug, Parser)]
#[command(
    name = "evctl",
    version,
    styles = style::HELP,
    arg_required_else_help = true,
    after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct GlobalOptions {
    /// Where the server listens for gRPC.
    #[arg(
        long,
        global = true,
        env = "EVCTL_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:50051",
        help_heading = "Global options"
    )]
    pub(crate) server: String,
    /// Tables for people, or JSON with stable names for scripts.
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        help_heading = "Global options"
    )]
    pub(crate) output: Format,
    /// Longest time to wait for an answer, such as 500ms or 2m [default: 10s; uploads: 10m].
    #[arg(long, global = true, value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "Global options")]
    pub(crate) timeout: Option<Duration>,
    /// Who you are, for the server's audit log [default: user@host].
    #[arg(long, global = true, env = "EVCTL_ACTOR", value_name = "NAME", help_heading = "Global options")]
    pub(crate) actor: Option<String>,
}

/// What answers look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For scripts.
    Json,
    /// For spreadsheets: telemetry query and aggregate.
    Csv,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask for a prediction: range, utilization, battery, thermal, or the vehicle on a photo.
    #[command(subcommand)]
    Predict(Box<PredictCommand>),
    /// List, show, import and verify models, and choose which version serves.
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Bring a new version to production step by step, watch it, and take it back.
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Register a model as another tool left it, such as a Hugging Face directory.
    #[command(subcommand)]
    Import(ImportCommand),
    /// See what vehicles' sensors say: list, query, watch, export, or play a recording back.
    #[command(subcommand)]
    Telemetry(Box<TelemetryCommand>),
    /// See what is known of a vehicle now, and tell what its readings do not say.
    #[command(subcommand)]
    Features(FeaturesCommand),
    /// See which vehicles need somebody, as it happens too, and say that somebody knows.
    #[command(subcommand)]
    Alerts(AlertsCommand),
    /// Report what came of predictions, and see how right the models were.
    #[command(subcommand)]
    Outcomes(OutcomesCommand),
    /// Check the server and everything it serves, and say what to do.
    #[command(after_help = "\
Checks the connection, clock, version, every service and every model.
Exits with 1 when a check fails; warnings alone exit with 0.

Example:
  evctl doctor --server http://evserve.internal:50051")]
    Doctor,
    /// Print a script that completes evctl's commands in your shell.
    #[command(after_help = "\
Examples:
  bash        evctl completions bash > ~/.local/share/bash-completion/completions/evctl
  zsh         evctl completions zsh > ~/.zfunc/_evctl
  fish        evctl completions fish > ~/.config/fish/completions/evctl.fish
  PowerShell  evctl completions powershell >> $PROFILE")]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

// === impl Cli ===

impl Cli {
    pub(crate) async fn run(self, output: &Output) -> Result<Exit, Failure> {
        let Cli { global, command } = self;
        if !command.has_format(global.output) {
            return Err(Failure::usage("this command has no CSV", &["use -o table or -o json"]));
        }
        match command {
            Command::Predict(command) => command.run(&global, output).await,
            Command::Models(command) => command.run(&global, output).await,
            Command::Rollout(command) => command.run(&global, output).await,
            Command::Import(command) => command.run(&global, output).await,
            Command::Telemetry(command) => command.run(&global, output).await,
            Command::Features(command) => command.run(&global, output).await,
            Command::Alerts(command) => command.run(&global, output).await,
            Command::Outcomes(command) => command.run(&global, output).await,
            Command::Doctor => doctor::run(&global, output).await,
            Command::Completions { shell } => completions::run(shell),
        }
    }
}

// === impl Command ===

impl Command {
    /// Whether its answer has this form.
    fn has_format(&self, format: Format) -> bool {
        match self {
            Command::Telemetry(command) => command.has_format(format),
            _ => format != Format::Csv,
        }
    }
}

// === impl GlobalOptions ===

impl GlobalOptions {
    /// Bounds of the client.
    pub(crate) fn config(&self) -> Config {
        let user_agent = format!("evctl/{}", env!("CARGO_PKG_VERSION"));
        let actor = self.actor.clone().unwrap_or_else(actor::whoever_runs_this);
        let mut config = Config { user_agent, actor, ..Config::default() };
        if let Some(timeout) = self.timeout {
            config.connect_timeout = timeout.min(config.connect_timeout);
            config.deadline = timeout;
            config.upload_deadline = timeout;
        }
        config
    }

    /// Longest time between two answers of a stream.
    pub(crate) fn reply_timeout(&self) -> Duration {
        self.config().deadline
    }

    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        Ok(Client::connect_with(&self.server, self.config()).await?)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(arguments: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(arguments.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_anywhere() {
        let cli = parse("evctl models list -o json --timeout 250ms --server http://x:1").expect("parsed");
        assert_eq!(cli.global.output, Format::Json);
        assert_eq!(cli.global.timeout, Some(Duration::from_millis(250)));
        assert_eq!(cli.global.server, "http://x:1");
        assert_eq!(cli.global.config().deadline, Duration::from_millis(250));
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        for wrong in [
            "evctl predict range --model X",
            "evctl predict range --make A --model B --seats many",
            "evctl predict range --file x.jsonl --make Tesla",
            "evctl predict range --make A --model B --model-version 1 --alias canary",
            "evctl predict thermal",
            "evctl predict thermal --watch --file x.jsonl",
            "evctl predict battery --vehicle a --count 3",
            "evctl models show a:b",
            "evctl models alias ev-range production 0",
            "evctl predict image",
            "evctl predict image a.jpg --top-k 1001",
            "evctl import hf atto",
            "evctl telemetry send drive.csv",
            "evctl telemetry send drive.csv --vehicle a --speed fast",
            "evctl telemetry query",
            "evctl telemetry query a --since tomorrow",
            "evctl telemetry aggregate a --by week",
            "evctl alerts list --topic weather",
            "evctl alerts list --severity-min none",
            "evctl alerts list --limit 0",
            "evctl alerts watch --open",
            "evctl alerts ack 01994d6e-0000-7000-8000-000000000000",
            "evctl alerts ack --by me",
            "evctl --timeout 5 models list",
            "evctl frobnicate",
        ] {
            assert_eq!(parse(wrong).expect_err(wrong).exit_code(), 2, "{wrong}");
        }
    }
}
