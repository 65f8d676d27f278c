//! `evctl predict battery|thermal --watch`: predictions as the server renews them.

use std::{marker::PhantomData, ops::ControlFlow};

use clap::Args;
use ev_client::{
    Client, Error, Replies,
    proto::ev::{
        battery::v1::{PredictResponse, WatchResponse},
        common::v1::{PredictionInfo, PredictionStatus},
        thermal::v1::{AssessResponse, WatchAssessmentsResponse},
    },
};
use prost::Message;
use prost_types::Timestamp;

use crate::{
    exit::Exit,
    failure::Failure,
    interval::number,
    json::Json,
    live::{Live, count, follow},
    output::Output,
    style::{self, ACCENT, BOLD, DIM, WARN},
    telemetry::time,
};

/// Whether predictions are watched.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct WatchOption {
    /// Show predictions as the server renews them, of --vehicle or of all that send, until interrupted. A connection that is
    /// lost is made again.
    #[arg(long, conflicts_with = "file", help_heading = "Watching")]
    pub(crate) watch: bool,
    /// End after so many.
    #[arg(long, value_name = "N", requires = "watch", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Watching")]
    count: Option<u64>,
}

/// What the server sends of a vehicle whose prediction it has renewed.
trait Renewed: Message {
    /// Of the message.
    const NAME: &str;

    async fn ask(client: &Client, vehicles: Vec<String>) -> Result<Replies<Self>, Error>
    where
        Self: Sized;

    /// Those before it that came too quickly.
    fn missed(&self) -> u64;

    fn line(&self) -> String;
}

/// How far it has come.
struct Watch<'a, R> {
    client: &'a Client,
    output: &'a Output,
    vehicles: Vec<String>,
    left: Option<u64>,
    of: PhantomData<R>,
}

/// What is wrong with other options beside `--watch`.
pub(crate) fn refused() -> Failure {
    Failure::usage(
        "--watch goes with --vehicle and --count alone",
        &["the server predicts from what vehicles send: leave the other options out"],
    )
}

// === impl WatchOption ===

impl WatchOption {
    pub(crate) async fn batteries(self, client: &Client, vehicle: &str, output: &Output) -> Result<Exit, Failure> {
        self.follow::<WatchResponse>(client, vehicle, output).await
    }

    pub(crate) async fn packs(self, client: &Client, vehicle: &str, output: &Output) -> Result<Exit, Failure> {
        self.follow::<WatchAssessmentsResponse>(client, vehicle, output).await
    }

    async fn follow<R: Renewed>(self, client: &Client, vehicle: &str, output: &Output) -> Result<Exit, Failure> {
        let vehicles = if vehicle.is_empty() { Vec::new() } else { vec![vehicle.to_owned()] };
        follow(&mut Watch::<R> { client, output, vehicles, left: self.count, of: PhantomData }).await?;
        Ok(Exit::Ok)
    }
}

// === impl Watch ===

impl<R: Renewed> Live for Watch<'_, R> {
    type Message = R;

    async fn ask(&self) -> Result<Replies<R>, Error> {
        R::ask(self.client, self.vehicles.clone()).await
    }

    fn take(&mut self, reply: R) -> Result<ControlFlow<()>, Failure> {
        let missed = reply.missed();
        if missed > 0 {
            self.output.advise(&format!("{missed} predictions were missed: this reads too slowly"));
        }
        self.output.json_line(&Json::new(R::NAME, &reply))?;
        self.output.text(|| reply.line())?;
        Ok(count(&mut self.left))
    }

    fn note(&mut self, text: &str) -> Result<(), Failure> {
        self.output.note(text);
        Ok(())
    }

    async fn catch_up(&mut self) -> Result<ControlFlow<()>, Failure> {
        self.output.note("predictions that were renewed meanwhile are not shown");
        Ok(ControlFlow::Continue(()))
    }
}

// === impl Renewed ===

impl Renewed for WatchResponse {
    const NAME: &str = "ev.battery.v1.WatchResponse";

    async fn ask(client: &Client, vehicles: Vec<String>) -> Result<Replies<WatchResponse>, Error> {
        client.battery().watch(vehicles).await
    }

    fn missed(&self) -> u64 {
        self.missed_predictions
    }

    fn line(&self) -> String {
        battery_line(self)
    }
}

impl Renewed for WatchAssessmentsResponse {
    const NAME: &str = "ev.thermal.v1.WatchAssessmentsResponse";

    async fn ask(client: &Client, vehicles: Vec<String>) -> Result<Replies<WatchAssessmentsResponse>, Error> {
        client.thermal().watch_assessments(vehicles).await
    }

    fn missed(&self) -> u64 {
        self.missed_assessments
    }

    fn line(&self) -> String {
        pack_line(self)
    }
}

fn battery_line(reply: &WatchResponse) -> String {
    let WatchResponse { vehicle_id, prediction, predicted_time, missed_predictions: _ } = reply;
    let mut line = beginning(predicted_time.as_ref(), vehicle_id);
    let Some(prediction) = prediction else { return line };
    let PredictResponse { state_of_health, remaining_useful_life, temperature, failure, cycle_life, unanswered: _ } =
        prediction;
    let life = remaining_useful_life.as_ref();
    let values = [
        state_of_health.as_ref().map(|it| (format!("SoH {} %", number(it.soh_q50_percent)), it.info.as_ref())),
        life.and_then(|it| {
            let estimate = it.estimate.as_ref()?;
            Some((format!("RUL {} cycles", number(estimate.rul_q50_cycles)), it.info.as_ref()))
        }),
        temperature.as_ref().map(|it| (format!("cell {} °C", number(it.temperature_q50_celsius)), it.info.as_ref())),
        failure.as_ref().map(|it| (format!("failure {:.1} %", it.failure_probability * 100.0), it.info.as_ref())),
        cycle_life
            .as_ref()
            .map(|it| (format!("cycle life {} cycles", number(it.cycle_life_q50_cycles)), it.info.as_ref())),
    ];
    for (value, info) in values.into_iter().flatten() {
        line.push_str(&format!("  {BOLD}{value}{BOLD:#}{}", doubt(info)));
    }
    line
}

fn pack_line(reply: &WatchAssessmentsResponse) -> String {
    let WatchAssessmentsResponse { vehicle_id, assessment, assessed_time, missed_assessments: _ } = reply;
    let line = beginning(assessed_time.as_ref(), vehicle_id);
    let Some(assessment) = assessment else { return line };
    let AssessResponse { probabilities, info, .. } = assessment;
    let class = assessment.risk_class();
    let probability = probabilities.iter().find(|of| of.risk_class() == class).map_or(0.0, |of| of.probability);
    let coverage = info.as_ref().map_or(0.0, |info| info.feature_coverage);
    let style = style::of_severity(assessment.severity());
    let name = class.as_str_name().trim_start_matches("RISK_CLASS_");
    let doubt = doubt(info.as_ref());
    format!(
        "{line}  {style}{name}{style:#} {:.1} %  {DIM}coverage {:.0} %{DIM:#}{doubt}",
        probability * 100.0,
        coverage * 100.0
    )
}

fn beginning(time: Option<&Timestamp>, vehicle: &str) -> String {
    let time = time.map(|time| time::text(time::microseconds(time))).unwrap_or_default();
    format!("{DIM}{time}{DIM:#}  {ACCENT}{vehicle}{ACCENT:#}")
}

/// Marks what the model was not trained on.
fn doubt(info: Option<&PredictionInfo>) -> String {
    let outside = info.is_some_and(|info| info.status() == PredictionStatus::OutOfDistribution);
    if outside { format!("{WARN}?{WARN:#}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use ev_client::proto::ev::{
        battery::v1::{RemainingUsefulLife, StateOfHealth},
        thermal::v1::{ClassProbability, RiskClass, Severity},
    };

    use super::*;

    const TIME: Option<Timestamp> = Some(Timestamp { seconds: 1_767_225_600, nanos: 0 });

    #[test]
    fn predictions_are_lines() {
        let outside =
            PredictionInfo { status: PredictionStatus::OutOfDistribution.into(), ..PredictionInfo::default() };
        let reply = WatchResponse {
            vehicle_id: "car-1".to_owned(),
            prediction: Some(PredictResponse {
                state_of_health: Some(StateOfHealth {
                    soh_q50_percent: 91.2,
                    info: Some(outside),
                    ..Default::default()
                }),
                remaining_useful_life: Some(RemainingUsefulLife::default()),
                ..PredictResponse::default()
            }),
            predicted_time: TIME,
            missed_predictions: 0,
        };
        assert_eq!(strip_str(&battery_line(&reply)).to_string(), "2026-01-01T00:00:00Z  car-1  SoH 91.2 %?");
        let alarm = RiskClass::Alarm.into();
        let reply = WatchAssessmentsResponse {
            vehicle_id: "car-1".to_owned(),
            assessment: Some(AssessResponse {
                risk_class: alarm,
                probabilities: vec![ClassProbability { risk_class: alarm, probability: 0.875 }],
                severity: Severity::High.into(),
                info: Some(PredictionInfo { feature_coverage: 0.5, ..PredictionInfo::default() }),
                action: None,
            }),
            assessed_time: TIME,
            missed_assessments: 0,
        };
        let expected = "2026-01-01T00:00:00Z  car-1  ALARM 87.5 %  coverage 50 %";
        assert_eq!(strip_str(&pack_line(&reply)).to_string(), expected);
    }
}
