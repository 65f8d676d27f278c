//! `evctl predict range`.

use clap::{Args, ValueEnum};
use ev_client::proto::ev::{
    common::v1::ModelSelector,
    range::v1::{PredictRequest, PredictResponse},
};

use super::{
    FileOption, SelectionOptions,
    info::{show_info, show_interval},
    service::Range,
    stream,
};
use crate::{
    cli::GlobalOptions, exit::Exit, failure::Failure, interval::Interval, json::Json, output::Output, table::Listing,
};

/// How far does this car go?
#[derive(Debug, Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "\
Only --make and --model are required; every further option narrows the interval.

Examples:
  evctl predict range --make Tesla --model 'Model 3' --battery-kwh 60
  evctl predict range --make Kia --model EV6 --battery-kwh 77.4 --drivetrain AWD --cycle epa
  evctl -o json predict range --make Tesla --model 'Model 3' | jq .range_q50_km
  evctl predict range --file cars.jsonl > ranges.jsonl"
)]
pub(crate) struct RangeCommand {
    #[command(flatten)]
    fields: RangeFields,
    #[command(flatten)]
    file: FileOption,
    #[command(flatten)]
    selection: SelectionOptions,
}

/// Fields of the request, under its names.
#[derive(Debug, Args)]
#[group(id = "fields", multiple = true)]
#[command(next_help_heading = "The car")]
struct RangeFields {
    /// Manufacturer, such as Tesla.
    #[arg(long, value_name = "NAME", required_unless_present = "file", default_value = "", hide_default_value = true)]
    make: String,
    /// Model line, with or without its trim, such as 'Model 3 Long Range'.
    #[arg(long, value_name = "NAME", required_unless_present = "file", default_value = "", hide_default_value = true)]
    model: String,
    /// Model year.
    #[arg(long = "year", alias = "model-year", value_name = "YEAR")]
    model_year: Option<u32>,
    /// Usable battery capacity in kWh.
    #[arg(long = "battery-kwh", alias = "battery-capacity-kwh", value_name = "KWH")]
    battery_capacity_kwh: Option<f32>,
    /// Peak motor power in kW.
    #[arg(long = "motor-kw", alias = "motor-power-kw", value_name = "KW")]
    motor_power_kw: Option<f32>,
    /// Peak motor torque in Nm.
    #[arg(long, value_name = "NM")]
    torque_nm: Option<f32>,
    /// Driven axle: FWD, RWD or AWD.
    #[arg(long, value_name = "AXLE")]
    drivetrain: Option<String>,
    /// Market segment, such as 'C - Medium'.
    #[arg(long, value_name = "SEGMENT")]
    segment: Option<String>,
    /// Body type, such as SUV.
    #[arg(long, value_name = "TYPE")]
    body_type: Option<String>,
    /// Number of seats.
    #[arg(long, value_name = "N")]
    seats: Option<u32>,
    /// Overall length in mm.
    #[arg(long, value_name = "MM")]
    length_mm: Option<f32>,
    /// Overall width without mirrors in mm.
    #[arg(long, value_name = "MM")]
    width_mm: Option<f32>,
    /// Overall height in mm.
    #[arg(long, value_name = "MM")]
    height_mm: Option<f32>,
    /// Top speed in km/h.
    #[arg(long, value_name = "KMH")]
    top_speed_kmh: Option<f32>,
    /// Time from standstill to 100 km/h in s.
    #[arg(long = "acceleration-s", alias = "acceleration-0-100-kmh-s", value_name = "S")]
    acceleration_0_100_kmh_s: Option<f32>,
    /// Peak DC charging power in kW.
    #[arg(long = "fast-charging-kw", alias = "fast-charging-power-kw", value_name = "KW")]
    fast_charging_power_kw: Option<f32>,
    /// Braked towing capacity in kg.
    #[arg(long = "towing-kg", alias = "towing-capacity-kg", value_name = "KG")]
    towing_capacity_kg: Option<f32>,
    /// Cargo volume with all seats up in litres.
    #[arg(long = "cargo-l", alias = "cargo-volume-l", value_name = "L")]
    cargo_volume_l: Option<f32>,
    /// Which range is meant: on the road, or the US type-approval label [default: real-world].
    #[arg(long = "cycle", alias = "range-cycle", value_enum, value_name = "CYCLE")]
    range_cycle: Option<Cycle>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Cycle {
    RealWorld,
    Epa,
}

// === impl RangeCommand ===

impl RangeCommand {
    pub(crate) async fn run(self, global: &GlobalOptions, output: &Output) -> Result<Exit, Failure> {
        let RangeCommand { fields, file, selection } = self;
        let selector = selection.selector();
        let client = global.connect().await?;
        if let Some(file) = &file.file {
            let adjust = move |request: &mut PredictRequest| {
                request.model_selector = selector.clone().or_else(|| request.model_selector.take());
            };
            return stream::run::<Range>(&client, file, global.reply_timeout(), adjust).await;
        }
        let response = client.range().predict(fields.into_request(selector)).await?;
        output.answer(&Json::new("ev.range.v1.PredictResponse", &response), || render(&response))?;
        Ok(Exit::Ok)
    }
}

fn render(response: &PredictResponse) -> String {
    let PredictResponse { range_q10_km: q10, range_q50_km: q50, range_q90_km: q90, info } = response;
    let mut listing = Listing::default();
    show_interval(&mut listing, "range", "km", Interval { q10: *q10, q50: *q50, q90: *q90 });
    show_info(&mut listing, info.as_ref());
    listing.render()
}

// === impl RangeFields ===

impl RangeFields {
    fn into_request(self, model_selector: Option<ModelSelector>) -> PredictRequest {
        let RangeFields {
            make,
            model,
            model_year,
            battery_capacity_kwh,
            motor_power_kw,
            torque_nm,
            drivetrain,
            segment,
            body_type,
            seats,
            length_mm,
            width_mm,
            height_mm,
            top_speed_kmh,
            acceleration_0_100_kmh_s,
            fast_charging_power_kw,
            towing_capacity_kg,
            cargo_volume_l,
            range_cycle,
        } = self;
        let range_cycle = range_cycle.map(|cycle| match cycle {
            Cycle::RealWorld => "real_world".to_owned(),
            Cycle::Epa => "epa".to_owned(),
        });
        PredictRequest {
            make,
            model,
            model_year,
            battery_capacity_kwh,
            motor_power_kw,
            torque_nm,
            drivetrain,
            segment,
            body_type,
            seats,
            length_mm,
            width_mm,
            height_mm,
            top_speed_kmh,
            acceleration_0_100_kmh_s,
            fast_charging_power_kw,
            towing_capacity_kg,
            cargo_volume_l,
            range_cycle,
            model_selector,
        }
    }
}
