//! `evctl predict thermal`.

use clap::Args;
use ev_client::proto::ev::{
    common::v1::ModelSelector,
    thermal::v1::{AssessRequest, AssessResponse, RecommendedAction, RiskClass},
};

use super::{
    FileOption, SelectionOptions,
    info::{show_features, show_info},
    service::Thermal,
    stream,
    watch::{self, WatchOption},
};
use crate::{
    cli::GlobalOptions,
    exit::Exit,
    failure::Failure,
    interval::share_bar,
    json::Json,
    output::Output,
    style::{self, BOLD, DIM},
    table::Listing,
};

/// Is this battery pack heading for thermal runaway, and what must be done now?
#[derive(Debug, Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "\
Only --temperature-c is required; whatever is missing lowers the feature coverage.
With --vehicle, what is not given is read from what the vehicle sent last.

Examples:
  evctl predict thermal --temperature-c 41 --voltage-v 396 --current-a 80 --humidity 55
  evctl predict thermal --temperature-c 92 --temperature-rate-c-per-s 1.4 --cell-voltage-drop-percent 30
  evctl predict thermal --vehicle bus-7
  evctl predict thermal --watch
  evctl predict thermal --file packs.jsonl > risks.jsonl"
)]
pub(crate) struct ThermalCommand {
    #[command(flatten)]
    fields: ThermalFields,
    #[command(flatten)]
    file: FileOption,
    #[command(flatten)]
    watch: WatchOption,
    #[command(flatten)]
    selection: SelectionOptions,
}

/// Fields of the request, under its names.
#[derive(Debug, Args)]
#[group(id = "fields", multiple = true)]
#[command(next_help_heading = "The pack, now")]
struct ThermalFields {
    /// Vehicle whose latest readings stand in for what is not given.
    #[arg(long = "vehicle", alias = "vehicle-id", value_name = "ID")]
    vehicle_id: Option<String>,
    /// Highest cell temperature in °C.
    #[arg(
        long = "temperature-c",
        alias = "cell-temperature-max-celsius",
        value_name = "C",
        required_unless_present_any = ["file", "vehicle_id", "watch"]
    )]
    cell_temperature_max_celsius: Option<f32>,
    /// Lowest cell temperature in °C.
    #[arg(long = "temperature-min-c", alias = "cell-temperature-min-celsius", value_name = "C")]
    cell_temperature_min_celsius: Option<f32>,
    /// Mean cell temperature in °C.
    #[arg(long = "temperature-mean-c", alias = "cell-temperature-mean-celsius", value_name = "C")]
    cell_temperature_mean_celsius: Option<f32>,
    /// Rate of the highest cell temperature over the last 10 s, in °C a second.
    #[arg(long = "temperature-rate-c-per-s", alias = "cell-temperature-rate-celsius-per-s", value_name = "C_PER_S")]
    cell_temperature_rate_celsius_per_s: Option<f32>,
    /// Ambient temperature in °C.
    #[arg(long = "ambient-c", alias = "ambient-temperature-celsius", value_name = "C")]
    ambient_temperature_celsius: Option<f32>,
    /// Pack voltage in V.
    #[arg(long = "voltage-v", alias = "pack-voltage-v", value_name = "V")]
    pack_voltage_v: Option<f32>,
    /// Pack current in A, positive when charging.
    #[arg(long = "current-a", alias = "pack-current-a", value_name = "A")]
    pack_current_a: Option<f32>,
    /// Lowest cell voltage in V.
    #[arg(long, value_name = "V")]
    cell_voltage_min_v: Option<f32>,
    /// Drop of the lowest cell voltage over the last 10 s, in percent of its value before.
    #[arg(long, value_name = "PERCENT")]
    cell_voltage_drop_percent: Option<f32>,
    /// Cells in series.
    #[arg(long, value_name = "N")]
    cells_in_series: Option<u32>,
    /// State of charge in percent.
    #[arg(long = "soc-percent", alias = "state-of-charge-percent", value_name = "PERCENT")]
    state_of_charge_percent: Option<f32>,
    /// State of health in percent.
    #[arg(long = "soh-percent", alias = "state-of-health-percent", value_name = "PERCENT")]
    state_of_health_percent: Option<f32>,
    /// Internal resistance of a cell in milliohm.
    #[arg(long = "resistance-mohm", alias = "internal-resistance-mohm", value_name = "MOHM")]
    internal_resistance_mohm: Option<f32>,
    /// Relative humidity in the pack in percent.
    #[arg(long = "humidity", alias = "humidity-percent", value_name = "PERCENT")]
    humidity_percent: Option<f32>,
    /// Whether a moisture sensor has tripped; left out: not known.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    moisture_detected: Option<bool>,
    /// Vibration in milli-g, root mean square.
    #[arg(long, value_name = "MG")]
    vibration_mg: Option<f32>,
    /// Absolute pressure in the pack in kPa.
    #[arg(long, value_name = "KPA")]
    pressure_kpa: Option<f32>,
}

// === impl ThermalCommand ===

impl ThermalCommand {
    pub(crate) async fn run(self, global: &GlobalOptions, output: &Output) -> Result<Exit, Failure> {
        let ThermalCommand { fields, file, watch, selection } = self;
        let selector = selection.selector();
        let client = global.connect().await?;
        if let Some(file) = &file.file {
            let adjust = move |request: &mut AssessRequest| {
                request.model_selector = selector.clone().or_else(|| request.model_selector.take());
            };
            return stream::run::<Thermal>(&client, file, global.reply_timeout(), adjust).await;
        }
        let request = fields.into_request(selector);
        if watch.watch {
            let vehicle = request.vehicle_id.clone();
            if request != (AssessRequest { vehicle_id: vehicle.clone(), ..AssessRequest::default() }) {
                return Err(watch::refused());
            }
            return watch.packs(&client, &vehicle, output).await;
        }
        let response = client.thermal().assess(request).await?;
        output.answer(&Json::new("ev.thermal.v1.AssessResponse", &response), || render(&response))?;
        Ok(Exit::Ok)
    }
}

fn render(response: &AssessResponse) -> String {
    let mut listing = Listing::default();
    let style = style::of_severity(response.severity());
    listing.line("thermal risk", format!("{style}{}{style:#}", class_name(response.risk_class())));
    listing.line("severity", format!("{style}{}{style:#}", style::severity_name(response.severity())));
    if let Some(RecommendedAction { id, text, policy_version }) = &response.action {
        listing.line("what to do", format!("{BOLD}{text}{BOLD:#} {DIM}({id}, policy {policy_version}){DIM:#}"));
    }
    for class in &response.probabilities {
        let percent = class.probability * 100.0;
        let name = format!("  {}", class_name(class.risk_class()));
        listing.line(name, format!("{percent:5.1} %  {}", share_bar(class.probability)));
    }
    show_info(&mut listing, response.info.as_ref());
    listing.render() + &show_features(response.info.as_ref())
}

fn class_name(class: RiskClass) -> &'static str {
    class.as_str_name().trim_start_matches("RISK_CLASS_")
}

// === impl ThermalFields ===

impl ThermalFields {
    fn into_request(self, model_selector: Option<ModelSelector>) -> AssessRequest {
        let ThermalFields {
            vehicle_id,
            cell_temperature_max_celsius,
            cell_temperature_min_celsius,
            cell_temperature_mean_celsius,
            cell_temperature_rate_celsius_per_s,
            ambient_temperature_celsius,
            pack_voltage_v,
            pack_current_a,
            cell_voltage_min_v,
            cell_voltage_drop_percent,
            cells_in_series,
            state_of_charge_percent,
            state_of_health_percent,
            internal_resistance_mohm,
            humidity_percent,
            moisture_detected,
            vibration_mg,
            pressure_kpa,
        } = self;
        AssessRequest {
            cell_temperature_max_celsius,
            cell_temperature_min_celsius,
            cell_temperature_mean_celsius,
            cell_temperature_rate_celsius_per_s,
            ambient_temperature_celsius,
            pack_voltage_v,
            pack_current_a,
            cell_voltage_min_v,
            cell_voltage_drop_percent,
            cells_in_series,
            state_of_charge_percent,
            state_of_health_percent,
            internal_resistance_mohm,
            humidity_percent,
            moisture_detected,
            vibration_mg,
            pressure_kpa,
            model_selector,
            vehicle_id: vehicle_id.unwrap_or_default(),
        }
    }
}
