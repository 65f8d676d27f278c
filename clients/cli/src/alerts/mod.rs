//! `evctl alerts`: which vehicles need somebody.

mod acknowledge;
mod list;
mod text;
mod watch;

use clap::{Args, Subcommand, ValueEnum};
use ev_client::proto::ev::thermal::v1::{AlertFilter, AlertTopic, Severity};

use crate::{cli::GlobalOptions, exit::Exit, failure::Failure, output::Output};

/// See which vehicles need somebody, and say that somebody knows.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
The server judges every reading it takes in, and raises an alert where a pack heats up by itself or
a value passes its limit. An alert is open until that is over; a vehicle has at most one of a topic.

Examples:
  evctl alerts list --open                      what needs somebody now?
  evctl alerts list --vehicle car-1             what was wrong with this vehicle?
  evctl alerts watch --severity-min high        tell me as it happens
  evctl alerts ack 01994d6e-5c1f-7cc0-98b5-3c2f5d0e7a11 --by 'night shift'")]
pub(crate) enum AlertsCommand {
    List(list::ListCommand),
    Watch(watch::WatchCommand),
    Ack(acknowledge::AcknowledgeCommand),
}

/// Which alerts.
#[derive(Debug, Args)]
#[group(skip)]
struct Selection {
    /// Only of this vehicle.
    #[arg(long, value_name = "ID")]
    vehicle: Option<String>,
    /// Only about this.
    #[arg(long, value_enum)]
    topic: Option<Topic>,
    /// Only those at least this severe; a watch follows them to their end, however much they fall.
    #[arg(long, value_enum, value_name = "SEVERITY")]
    severity_min: Option<Least>,
}

/// What an alert is about.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Topic {
    /// Heading for, or in, thermal runaway.
    Thermal,
    /// Nearly empty.
    StateOfCharge,
    /// Likely to fail.
    FailureProbability,
    /// Near the end of its life.
    RemainingLife,
    /// Little of its capacity left.
    StateOfHealth,
}

/// Severities that an alert can have.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Least {
    /// Keep monitoring.
    Low,
    /// Inspect.
    Medium,
    /// Act soon: check cooling, reduce the charge rate.
    High,
    /// Act now: stop charging, isolate, evacuate.
    Critical,
}

// === impl AlertsCommand ===

impl AlertsCommand {
    pub(crate) async fn run(self, global: &GlobalOptions, output: &Output) -> Result<Exit, Failure> {
        let client = global.connect().await?;
        match self {
            AlertsCommand::List(command) => command.run(&client, output).await,
            AlertsCommand::Watch(command) => command.run(&client, output).await,
            AlertsCommand::Ack(command) => command.run(&client, output).await,
        }
    }
}

// === impl Selection ===

impl Selection {
    fn into_filter(self) -> AlertFilter {
        let Selection { vehicle, topic, severity_min } = self;
        AlertFilter {
            vehicle_id: vehicle.unwrap_or_default(),
            topic: topic.map_or(AlertTopic::Unspecified, AlertTopic::from).into(),
            severity_min: severity_min.map_or(Severity::Unspecified, Severity::from).into(),
            ..AlertFilter::default()
        }
    }
}

// === impl Topic ===

impl From<Topic> for AlertTopic {
    fn from(topic: Topic) -> AlertTopic {
        match topic {
            Topic::Thermal => AlertTopic::Thermal,
            Topic::StateOfCharge => AlertTopic::StateOfCharge,
            Topic::FailureProbability => AlertTopic::FailureProbability,
            Topic::RemainingLife => AlertTopic::RemainingLife,
            Topic::StateOfHealth => AlertTopic::StateOfHealth,
        }
    }
}

// === impl Least ===

impl From<Least> for Severity {
    fn from(least: Least) -> Severity {
        match least {
            Least::Low => Severity::Low,
            Least::Medium => Severity::Medium,
            Least::High => Severity::High,
            Least::Critical => Severity::Critical,
        }
    }
}
