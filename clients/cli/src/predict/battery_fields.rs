//! Options of `evctl predict battery` for every field of the request.

use clap::Args;
use ev_client::proto::ev::battery::v1::{PredictRequest, TargetModel};

use super::battery::TargetName;

/// Fields of the request, under its names.
#[derive(Debug, Args)]
#[group(id = "fields", multiple = true)]
#[command(next_help_heading = "The cell or pack")]
pub(crate) struct BatteryFields {
    /// Vehicle whose readings and written features stand in for what is not given.
    #[arg(long = "vehicle", alias = "vehicle-id", value_name = "ID")]
    vehicle_id: Option<String>,
    /// Cell family, such as nmc_lco_18650_2800mah.
    #[arg(long, value_name = "NAME")]
    cell_family: Option<String>,
    /// Rated capacity of a cell in Ah.
    #[arg(long, value_name = "AH")]
    rated_capacity_ah: Option<f32>,
    /// Charge and discharge cycles so far.
    #[arg(long = "cycles", alias = "cycle-count", value_name = "N")]
    cycle_count: Option<f32>,
    /// Ambient temperature in °C.
    #[arg(long = "ambient-c", alias = "ambient-temperature-celsius", value_name = "C")]
    ambient_temperature_celsius: Option<f32>,
    /// Mean discharge current over rated capacity, positive (C-rate, 1/h).
    #[arg(long, value_name = "X")]
    discharge_c_rate: Option<f32>,
    /// Lowest cell voltage of the discharge in V.
    #[arg(long, value_name = "V")]
    discharge_voltage_min_v: Option<f32>,
    /// Highest cell voltage of the discharge in V.
    #[arg(long, value_name = "V")]
    discharge_voltage_max_v: Option<f32>,
    /// Mean cell voltage of the discharge in V.
    #[arg(long, value_name = "V")]
    discharge_voltage_mean_v: Option<f32>,
    /// Cell voltage when the discharge ended and the load was gone in V.
    #[arg(long, value_name = "V")]
    discharge_voltage_end_v: Option<f32>,
    /// Highest cell temperature of the discharge in °C.
    #[arg(long = "discharge-temperature-max-c", alias = "discharge-temperature-max-celsius", value_name = "C")]
    discharge_temperature_max_celsius: Option<f32>,
    /// Mean cell temperature of the discharge in °C.
    #[arg(long = "discharge-temperature-mean-c", alias = "discharge-temperature-mean-celsius", value_name = "C")]
    discharge_temperature_mean_celsius: Option<f32>,
    /// Duration of the discharge in s.
    #[arg(long, value_name = "S")]
    discharge_duration_s: Option<f32>,
    /// Time a discharging cell took from 3.6 V to 3.4 V in s.
    #[arg(long = "discharge-duration-3v6-to-3v4-s", value_name = "S")]
    discharge_duration_3v6_to_3v4_s: Option<f32>,
    /// Lowest cell voltage of the charge in V.
    #[arg(long, value_name = "V")]
    charge_voltage_min_v: Option<f32>,
    /// Duration of the charge in s.
    #[arg(long, value_name = "S")]
    charge_duration_s: Option<f32>,
    /// Duration of the charge's constant-current part in s.
    #[arg(long, value_name = "S")]
    charge_duration_constant_current_s: Option<f32>,
    /// Time the charge spent at or above 4.15 V in s.
    #[arg(long = "charge-duration-above-4v15-s", value_name = "S")]
    charge_duration_above_4v15_s: Option<f32>,
    /// Duration of the full cycle, rests included in s.
    #[arg(long, value_name = "S")]
    cycle_duration_s: Option<f32>,
    /// Mean cell voltage now in V.
    #[arg(long, value_name = "V")]
    cell_voltage_v: Option<f32>,
    /// Current now over rated capacity, positive when discharging (C-rate, 1/h).
    #[arg(long, value_name = "X")]
    c_rate: Option<f32>,
    /// Time since the discharge began in s.
    #[arg(long, value_name = "S")]
    discharge_elapsed_s: Option<f32>,
    /// Cell temperature when the discharge began in °C.
    #[arg(long = "discharge-temperature-start-c", alias = "discharge-temperature-start-celsius", value_name = "C")]
    discharge_temperature_start_celsius: Option<f32>,
    /// Variance of the difference of the capacity-voltage curves of cycles 100 and 10, log10 of Ah squared.
    #[arg(long = "capacity-difference-log10-variance", value_name = "X")]
    capacity_difference_log10_variance: Option<f32>,
    /// Mean of that difference in Ah.
    #[arg(long, value_name = "AH")]
    capacity_difference_mean_ah: Option<f32>,
    /// Minimum of that difference in Ah.
    #[arg(long, value_name = "AH")]
    capacity_difference_min_ah: Option<f32>,
    /// Skewness of that difference.
    #[arg(long, value_name = "X")]
    capacity_difference_skewness: Option<f32>,
    /// Excess kurtosis of that difference.
    #[arg(long, value_name = "X")]
    capacity_difference_kurtosis: Option<f32>,
    /// Discharge capacity of cycle 2 in Ah.
    #[arg(long = "capacity-cycle-2-ah", value_name = "AH")]
    capacity_cycle_2_ah: Option<f32>,
    /// Discharge capacity of cycle 10 in Ah.
    #[arg(long = "capacity-cycle-10-ah", value_name = "AH")]
    capacity_cycle_10_ah: Option<f32>,
    /// Discharge capacity of cycle 50 in Ah.
    #[arg(long = "capacity-cycle-50-ah", value_name = "AH")]
    capacity_cycle_50_ah: Option<f32>,
    /// Discharge capacity of cycle 100 in Ah.
    #[arg(long = "capacity-cycle-100-ah", value_name = "AH")]
    capacity_cycle_100_ah: Option<f32>,
    /// Highest discharge capacity of the first 100 cycles less that of cycle 2 in Ah.
    #[arg(long = "capacity-max-minus-cycle-2-ah", value_name = "AH")]
    capacity_max_minus_cycle_2_ah: Option<f32>,
    /// Slope of the discharge capacity over cycles 2 to 100 in Ah.
    #[arg(long = "capacity-slope-2-100-ah-per-cycle", value_name = "AH")]
    capacity_slope_2_100_ah_per_cycle: Option<f32>,
    /// Slope of the discharge capacity over cycles 91 to 100 in Ah.
    #[arg(long = "capacity-slope-91-100-ah-per-cycle", value_name = "AH")]
    capacity_slope_91_100_ah_per_cycle: Option<f32>,
    /// State of health in percent of rated capacity, where it was measured.
    #[arg(long, value_name = "PERCENT")]
    state_of_health_percent: Option<f32>,
    /// Duration of the charge's constant-current part over its median in the cell's cycles 6 to 45.
    #[arg(long, value_name = "X")]
    charge_duration_constant_current_ratio: Option<f32>,
}

// === impl BatteryFields ===

impl BatteryFields {
    pub(crate) fn into_request(self, targets: &[TargetName], target_models: Vec<TargetModel>) -> PredictRequest {
        let BatteryFields {
            vehicle_id,
            cell_family,
            rated_capacity_ah,
            cycle_count,
            ambient_temperature_celsius,
            discharge_c_rate,
            discharge_voltage_min_v,
            discharge_voltage_max_v,
            discharge_voltage_mean_v,
            discharge_voltage_end_v,
            discharge_temperature_max_celsius,
            discharge_temperature_mean_celsius,
            discharge_duration_s,
            discharge_duration_3v6_to_3v4_s,
            charge_voltage_min_v,
            charge_duration_s,
            charge_duration_constant_current_s,
            charge_duration_above_4v15_s,
            cycle_duration_s,
            cell_voltage_v,
            c_rate,
            discharge_elapsed_s,
            discharge_temperature_start_celsius,
            capacity_difference_log10_variance,
            capacity_difference_mean_ah,
            capacity_difference_min_ah,
            capacity_difference_skewness,
            capacity_difference_kurtosis,
            capacity_cycle_2_ah,
            capacity_cycle_10_ah,
            capacity_cycle_50_ah,
            capacity_cycle_100_ah,
            capacity_max_minus_cycle_2_ah,
            capacity_slope_2_100_ah_per_cycle,
            capacity_slope_91_100_ah_per_cycle,
            state_of_health_percent,
            charge_duration_constant_current_ratio,
        } = self;
        PredictRequest {
            targets: targets.iter().map(|target| target.target().into()).collect(),
            cell_family,
            rated_capacity_ah,
            cycle_count,
            ambient_temperature_celsius,
            discharge_c_rate,
            discharge_voltage_min_v,
            discharge_voltage_max_v,
            discharge_voltage_mean_v,
            discharge_voltage_end_v,
            discharge_temperature_max_celsius,
            discharge_temperature_mean_celsius,
            discharge_duration_s,
            discharge_duration_3v6_to_3v4_s,
            charge_voltage_min_v,
            charge_duration_s,
            charge_duration_constant_current_s,
            charge_duration_above_4v15_s,
            cycle_duration_s,
            cell_voltage_v,
            c_rate,
            discharge_elapsed_s,
            discharge_temperature_start_celsius,
            capacity_difference_log10_variance,
            capacity_difference_mean_ah,
            capacity_difference_min_ah,
            capacity_difference_skewness,
            capacity_difference_kurtosis,
            capacity_cycle_2_ah,
            capacity_cycle_10_ah,
            capacity_cycle_50_ah,
            capacity_cycle_100_ah,
            capacity_max_minus_cycle_2_ah,
            capacity_slope_2_100_ah_per_cycle,
            capacity_slope_91_100_ah_per_cycle,
            state_of_health_percent,
            charge_duration_constant_current_ratio,
            target_models,
            vehicle_id: vehicle_id.unwrap_or_default(),
        }
    }
}
