//! `evctl predict utilization`.

use clap::Args;
use ev_client::proto::ev::{
    charging::v1::{PredictRequest, PredictResponse},
    common::v1::ModelSelector,
};

use super::{
    FileOption, SelectionOptions,
    info::{show_info, show_interval},
    service::Utilization,
    stream,
};
use crate::{
    cli::GlobalOptions, exit::Exit, failure::Failure, interval::Interval, json::Json, output::Output, table::Listing,
};

/// How many charging sessions a day will this station see?
#[derive(Debug, Args)]
#[command(
    allow_negative_numbers = true,
    arg_required_else_help = true,
    after_help = "\
The model that serves says what it needs, usually --region, --city-type and --charger-type; every further option narrows the interval.

Examples:
  evctl predict utilization --region Dundee --city-type urban --charger-type DC --power-kw 150 --connectors 4
  evctl predict utilization --region Dundee --city-type urban --charger-type AC --power-kw 22 --sessions-per-day 3.5
  evctl predict utilization --file stations.jsonl > utilization.jsonl"
)]
pub(crate) struct UtilizationCommand {
    #[command(flatten)]
    fields: UtilizationFields,
    #[command(flatten)]
    file: FileOption,
    #[command(flatten)]
    selection: SelectionOptions,
}

/// Fields of the request, under its names.
#[derive(Debug, Args)]
#[group(id = "fields", multiple = true)]
#[command(next_help_heading = "The station")]
struct UtilizationFields {
    /// City or area, such as Dundee.
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// urban, suburban or rural.
    #[arg(long, value_name = "TYPE")]
    city_type: Option<String>,
    /// AC or DC.
    #[arg(long, value_name = "TYPE")]
    charger_type: Option<String>,
    /// Power of the strongest connector in kW.
    #[arg(long = "power-kw", alias = "station-power-kw", value_name = "KW")]
    station_power_kw: Option<f32>,
    /// Connectors of the station.
    #[arg(long = "connectors", alias = "connector-count", value_name = "N")]
    connector_count: Option<u32>,
    /// Stations at the same site, this one included.
    #[arg(long, value_name = "N")]
    stations_at_site: Option<u32>,
    /// Mean sessions a day over the last 28 days, where the station is already running.
    #[arg(long = "sessions-per-day", alias = "recent-sessions-per-day", value_name = "N")]
    recent_sessions_per_day: Option<f32>,
}

// === impl UtilizationCommand ===

impl UtilizationCommand {
    pub(crate) async fn run(self, global: &GlobalOptions, output: &Output) -> Result<Exit, Failure> {
        let UtilizationCommand { fields, file, selection } = self;
        let selector = selection.selector();
        let client = global.connect().await?;
        if let Some(file) = &file.file {
            let adjust = move |request: &mut PredictRequest| {
                request.model_selector = selector.clone().or_else(|| request.model_selector.take());
            };
            return stream::run::<Utilization>(&client, file, global.reply_timeout(), adjust).await;
        }
        let response = client.utilization().predict(fields.into_request(selector)).await?;
        output.answer(&Json::new("ev.charging.v1.PredictResponse", &response), || render(&response))?;
        Ok(Exit::Ok)
    }
}

fn render(response: &PredictResponse) -> String {
    let PredictResponse {
        utilization_q10_sessions_per_day: q10,
        utilization_q50_sessions_per_day: q50,
        utilization_q90_sessions_per_day: q90,
        info,
    } = response;
    let mut listing = Listing::default();
    show_interval(&mut listing, "utilization", "sessions a day", Interval { q10: *q10, q50: *q50, q90: *q90 });
    show_info(&mut listing, info.as_ref());
    listing.render()
}

// === impl UtilizationFields ===

impl UtilizationFields {
    fn into_request(self, model_selector: Option<ModelSelector>) -> PredictRequest {
        let UtilizationFields {
            region,
            city_type,
            charger_type,
            station_power_kw,
            connector_count,
            stations_at_site,
            recent_sessions_per_day,
        } = self;
        PredictRequest {
            region,
            city_type,
            charger_type,
            station_power_kw,
            connector_count,
            stations_at_site,
            recent_sessions_per_day,
            model_selector,
        }
    }
}
