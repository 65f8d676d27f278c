//! `evctl predict battery`.

use clap::{Args, ValueEnum};
use ev_client::proto::ev::{
    battery::v1::{
        CycleLife, Failure as FailureAnswer, PredictRequest, PredictResponse, RemainingUsefulLife,
        RemainingUsefulLifeEstimate, StateOfHealth, Target, TargetModel, Temperature, Unanswered,
    },
    common::v1::{ModelSelector, PredictionInfo},
};

use super::{
    FileOption, SelectionOptions,
    battery_fields::BatteryFields,
    info::{show_features, show_info, show_interval},
    service::Battery,
    stream,
    watch::{self, WatchOption},
};
use crate::{
    cli::GlobalOptions,
    exit::Exit,
    failure::{Failure, option_of},
    interval::{Interval, share_bar},
    json::Json,
    output::Output,
    style::{BOLD, WARN},
    table::Listing,
};

/// How healthy is this battery, and how long does it last?
#[derive(Debug, Args)]
#[command(
    allow_negative_numbers = true,
    arg_required_else_help = true,
    after_help = "\
Everything the given options suffice for is answered; for the rest, the missing options are named.
With --vehicle, what is not given is read from what is known of the vehicle.

Examples:
  evctl predict battery --cycles 120 --ambient-c 24 --discharge-voltage-end-v 3.2
  evctl predict battery --target rul --cell-family nmc_lco_18650_2800mah --cycles 400
  evctl predict battery --target temperature --ambient-c 24 --c-rate 1
  evctl predict battery --vehicle bus-7
  evctl predict battery --watch
  evctl predict battery --file cells.jsonl > health.jsonl"
)]
pub(crate) struct BatteryCommand {
    /// Ask for this alone, and be told what is missing; may be repeated.
    #[arg(long = "target", value_enum, value_name = "TARGET", value_delimiter = ',', help_heading = "What to predict")]
    targets: Vec<TargetName>,
    #[command(flatten)]
    fields: BatteryFields,
    #[command(flatten)]
    file: FileOption,
    #[command(flatten)]
    watch: WatchOption,
    #[command(flatten)]
    selection: SelectionOptions,
}

/// What can be predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TargetName {
    /// State of health in percent.
    #[value(alias = "state-of-health")]
    Soh,
    /// Remaining useful life in cycles.
    #[value(alias = "remaining-useful-life")]
    Rul,
    /// Cell temperature in °C.
    Temperature,
    /// Probability of failure within the model's horizon.
    Failure,
    /// Cycle life from the first hundred cycles.
    CycleLife,
}

// === impl TargetName ===

impl TargetName {
    pub(crate) fn target(self) -> Target {
        match self {
            TargetName::Soh => Target::StateOfHealth,
            TargetName::Rul => Target::RemainingUsefulLife,
            TargetName::Temperature => Target::Temperature,
            TargetName::Failure => Target::Failure,
            TargetName::CycleLife => Target::CycleLife,
        }
    }
}

// === impl BatteryCommand ===

impl BatteryCommand {
    pub(crate) async fn run(self, global: &GlobalOptions, output: &Output) -> Result<Exit, Failure> {
        let BatteryCommand { targets, fields, file, watch, selection } = self;
        let models = target_models(&targets, selection.selector())?;
        let client = global.connect().await?;
        if let Some(file) = &file.file {
            let adjust = move |request: &mut PredictRequest| {
                if !targets.is_empty() {
                    request.targets = targets.iter().map(|target| target.target().into()).collect();
                }
                if !models.is_empty() {
                    request.target_models.clone_from(&models);
                }
            };
            return stream::run::<Battery>(&client, file, global.reply_timeout(), adjust).await;
        }
        let request = fields.into_request(&targets, models);
        if watch.watch {
            let vehicle = request.vehicle_id.clone();
            if request != (PredictRequest { vehicle_id: vehicle.clone(), ..PredictRequest::default() }) {
                return Err(watch::refused());
            }
            return watch.batteries(&client, &vehicle, output).await;
        }
        let response = client.battery().predict(request).await?;
        output.answer(&Json::new("ev.battery.v1.PredictResponse", &response), || render(&response))?;
        Ok(Exit::Ok)
    }
}

/// The chosen model version for each target; each target has a model of its own, so a choice needs a target.
fn target_models(targets: &[TargetName], selector: Option<ModelSelector>) -> Result<Vec<TargetModel>, Failure> {
    let Some(selector) = selector else { return Ok(Vec::new()) };
    if targets.is_empty() {
        return Err(Failure::usage(
            "--model-name, --model-version and --alias need a --target",
            &["each target has a model of its own: name it, such as --target soh"],
        ));
    }
    let model =
        |target: &TargetName| TargetModel { target: target.target().into(), model_selector: Some(selector.clone()) };
    Ok(targets.iter().map(model).collect())
}

fn render(response: &PredictResponse) -> String {
    let PredictResponse { state_of_health, remaining_useful_life, temperature, failure, cycle_life, unanswered } =
        response;
    let mut blocks = Vec::new();
    if let Some(StateOfHealth { soh_q10_percent: q10, soh_q50_percent: q50, soh_q90_percent: q90, info }) =
        state_of_health
    {
        blocks.push(interval_block("state of health", "%", [*q10, *q50, *q90], info.as_ref()));
    }
    if let Some(RemainingUsefulLife { estimate, info }) = remaining_useful_life {
        blocks.push(match estimate {
            Some(RemainingUsefulLifeEstimate { rul_q10_cycles, rul_q50_cycles, rul_q90_cycles }) => {
                let quantiles = [*rul_q10_cycles, *rul_q50_cycles, *rul_q90_cycles];
                interval_block("remaining useful life", "cycles", quantiles, info.as_ref())
            }
            None => block("remaining useful life", &format!("{WARN}no estimate{WARN:#}"), info.as_ref()),
        });
    }
    if let Some(Temperature {
        temperature_q10_celsius: q10,
        temperature_q50_celsius: q50,
        temperature_q90_celsius: q90,
        info,
    }) = temperature
    {
        blocks.push(interval_block("cell temperature", "°C", [*q10, *q50, *q90], info.as_ref()));
    }
    if let Some(FailureAnswer { failure_probability, info }) = failure {
        let value = format!("{BOLD}{:.1} %{BOLD:#}  {}", failure_probability * 100.0, share_bar(*failure_probability));
        blocks.push(block("failure probability", &value, info.as_ref()));
    }
    if let Some(CycleLife { cycle_life_q10_cycles, cycle_life_q50_cycles, cycle_life_q90_cycles, info }) = cycle_life {
        let quantiles = [*cycle_life_q10_cycles, *cycle_life_q50_cycles, *cycle_life_q90_cycles];
        blocks.push(interval_block("cycle life", "cycles", quantiles, info.as_ref()));
    }
    if !unanswered.is_empty() {
        blocks.push(unanswered_block(unanswered));
    }
    blocks.join("\n")
}

fn interval_block(name: &str, unit: &str, quantiles: [f32; 3], info: Option<&PredictionInfo>) -> String {
    let [q10, q50, q90] = quantiles;
    let mut listing = Listing::default();
    show_interval(&mut listing, name, unit, Interval { q10, q50, q90 });
    show_info(&mut listing, info);
    listing.render() + &show_features(info)
}

fn block(name: &str, value: &str, info: Option<&PredictionInfo>) -> String {
    let mut listing = Listing::default();
    listing.line(name, value);
    show_info(&mut listing, info);
    listing.render() + &show_features(info)
}

fn unanswered_block(unanswered: &[Unanswered]) -> String {
    let mut listing = Listing::default();
    for answer in unanswered {
        let name = answer.target().as_str_name().trim_start_matches("TARGET_").to_lowercase().replace('_', " ");
        if !answer.field_violations.is_empty() {
            let whys: Vec<String> =
                answer.field_violations.iter().map(|why| format!("{} {}", why.field, why.description)).collect();
            listing.line(name, format!("not answered; {}", whys.join("; ")));
            continue;
        }
        let missing: Vec<String> =
            answer.missing_fields.iter().map(|field| option_of(field).unwrap_or_else(|| field.clone())).collect();
        listing.line(name, format!("not answered; add {}", missing.join(" ")));
    }
    listing.render()
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use ev_client::proto::ev::common::v1::FieldViolation;

    use super::*;

    #[test]
    fn a_choice_of_model_needs_a_target() {
        let selector = ModelSelector { name: "x".to_owned(), version_choice: None };
        assert!(target_models(&[], Some(selector.clone())).is_err());
        assert!(target_models(&[], None).expect("no choice").is_empty());
        assert_eq!(target_models(&[TargetName::Soh, TargetName::Rul], Some(selector)).expect("chosen").len(), 2);
    }

    #[test]
    fn what_was_not_answered_names_the_missing_options() {
        let response = PredictResponse {
            failure: Some(FailureAnswer { failure_probability: 0.25, info: None }),
            remaining_useful_life: Some(RemainingUsefulLife { estimate: None, info: None }),
            unanswered: vec![
                Unanswered {
                    target: Target::CycleLife.into(),
                    missing_fields: vec!["cycle_count".to_owned(), "capacity_cycle_2_ah".to_owned()],
                    ..Unanswered::default()
                },
                Unanswered {
                    target: Target::Temperature.into(),
                    missing_fields: vec!["c_rate".to_owned()],
                    field_violations: vec![FieldViolation {
                        field: "c_rate".to_owned(),
                        description: "is 1h old, expected at most 1m".to_owned(),
                    }],
                },
            ],
            ..PredictResponse::default()
        };
        assert_eq!(
            strip_str(&render(&response)).to_string(),
            "remaining useful life   no estimate\n\n\
             failure probability   25.0 %  ████████························\n\n\
             cycle life    not answered; add --cycles --capacity-cycle-2-ah\n\
             temperature   not answered; c_rate is 1h old, expected at most 1m\n"
        );
    }
}
