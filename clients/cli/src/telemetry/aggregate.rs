//! `evctl telemetry aggregate`.

use std::io::Write as _;

use clap::{Args, ValueEnum};
use ev_client::{
    Client,
    proto::ev::telemetry::v1::{AggregateRequest, Resolution, SignalAggregate},
};

use super::{cells, csv, query::Selection, time};
use crate::{
    cli::Format,
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    style::BOLD,
    table::{Cell, Table},
};

/// Show count, mean, least, greatest and last value by minute, hour or day.
#[derive(Debug, Args)]
#[command(after_help = "\
Aggregates are kept longer than readings, and are right for readings that came late.

Examples:
  evctl telemetry aggregate car-1 --by hour --since 24h
  evctl telemetry aggregate car-1 --by day --since 90d --signal Vehicle.TraveledDistance
  evctl -o csv telemetry aggregate car-1 --by minute --since 1h > car-1-minutes.csv")]
pub(crate) struct AggregateCommand {
    #[command(flatten)]
    selection: Selection,
    /// Length of the spans; days are in UTC.
    #[arg(long, value_enum, value_name = "SPAN", default_value_t = Span::Minute)]
    by: Span,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Span {
    Minute,
    Hour,
    Day,
}

// === impl AggregateCommand ===

impl AggregateCommand {
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let end = self.selection.end();
        let Selection { vehicle, signals, since, until: _ } = self.selection;
        let resolution = match self.by {
            Span::Minute => Resolution::Minute,
            Span::Hour => Resolution::Hour,
            Span::Day => Resolution::Day,
        };
        let mut pages = client.telemetry().aggregate(AggregateRequest {
            vehicle_id: vehicle,
            signals,
            start_time: Some(time::timestamp(since)),
            end_time: Some(time::timestamp(end)),
            resolution: resolution.into(),
            ..AggregateRequest::default()
        });
        let mut table = Table::new(["from", "signal", "mean", "least", "greatest", "last", "values"]);
        let mut spans = 0u64;
        if output.format() == Format::Csv {
            print(&csv::line(["time", "signal", "unit", "count", "mean", "min", "max", "last"].map(str::to_owned)))?;
        }
        while let Some(page) = pages.next().await? {
            for aggregate in &page.aggregates {
                spans += 1;
                match output.format() {
                    Format::Json => output.json_line(&Json::new("ev.telemetry.v1.SignalAggregate", aggregate))?,
                    Format::Csv => print(&line(aggregate))?,
                    Format::Table => table.row(row(aggregate)),
                }
            }
        }
        if output.format() == Format::Table {
            output.text(|| match spans {
                0 => "No values in this time. Look further back with: --since 7d".to_owned(),
                _ => table.render(),
            })?;
        }
        Ok(Exit::Ok)
    }
}

fn start(aggregate: &SignalAggregate) -> String {
    aggregate.start_time.as_ref().map(|start| time::text(time::microseconds(start))).unwrap_or_default()
}

fn row(aggregate: &SignalAggregate) -> [Cell; 7] {
    let SignalAggregate { signal, unit, start_time: _, count, mean, min, max, last } = aggregate;
    let value = |value: &f32| Cell::from(cells::value(*value, unit));
    #[expect(clippy::cast_possible_truncation, reason = "shown with the digits of the values it is the mean of")]
    let mean = *mean as f32;
    [
        start(aggregate).into(),
        Cell::styled(cells::short_name(signal), BOLD),
        value(&mean),
        value(min),
        value(max),
        value(last),
        count.to_string().into(),
    ]
}

fn line(aggregate: &SignalAggregate) -> String {
    let SignalAggregate { signal, unit, start_time: _, count, mean, min, max, last } = aggregate;
    let numbers = [count.to_string(), mean.to_string(), min.to_string(), max.to_string(), last.to_string()];
    csv::line([start(aggregate), signal.clone(), unit.clone()].into_iter().chain(numbers))
}

fn print(text: &str) -> Result<(), Failure> {
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(Failure::Output)
}
