//! `evctl telemetry query`: readings of a vehicle, row by row.

use std::{
    io::{BufWriter, Write},
    time::{Duration, SystemTime},
};

use clap::Args;
use ev_client::{
    Client,
    proto::ev::telemetry::v1::{QueryRequest, QueryResponse},
};
use indicatif::ProgressBar;

use super::{cells, csv, time};
use crate::{
    cli::Format,
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    table::{Cell, Table},
};

/// Rows of a table unless more are asked for.
const TABLE_ROWS: u64 = 100;
/// Readings of a page of an export.
pub(super) const PAGE_READINGS: u32 = 10_000;

/// How far ahead of this machine's clock readings are looked for.
const DAY: Duration = Duration::from_secs(86_400);

/// Which readings.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Selection {
    /// The vehicle, as `evctl telemetry vehicles` lists it.
    #[arg(value_name = "VEHICLE")]
    pub(crate) vehicle: String,
    /// Only this signal, by its VSS path; may be given several times.
    #[arg(long = "signal", value_name = "PATH")]
    pub(crate) signals: Vec<String>,
    /// From this time: a span before now such as 1h or 7d, or a time such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time::parse)]
    pub(crate) since: SystemTime,
    /// To this time, exclusive [default: a day ahead, for vehicles whose clocks are].
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    pub(crate) until: Option<SystemTime>,
}

/// Show readings of a vehicle in order of their time.
#[derive(Debug, Args)]
#[command(after_help = "\
-o csv prints a file that `evctl telemetry send` can play back; -o json prints a line for each page
of the API.

Examples:
  evctl telemetry query car-1 --since 10m
  evctl telemetry query car-1 --signal Vehicle.Speed --since 2026-01-31T12:00:00Z --until 2026-01-31T13:00:00Z
  evctl -o csv telemetry query car-1 --since 24h > car-1.csv")]
pub(crate) struct QueryCommand {
    #[command(flatten)]
    selection: Selection,
    /// Most readings [default: 100 in a table, all otherwise].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

/// A signal of the answer, with its unit.
pub(super) type Columns = Vec<(String, String)>;

// === impl Selection ===

impl Selection {
    pub(crate) fn request(&self, page_size: u32) -> QueryRequest {
        QueryRequest {
            vehicle_id: self.vehicle.clone(),
            signals: self.signals.clone(),
            start_time: Some(time::timestamp(self.since)),
            end_time: Some(time::timestamp(self.end())),
            page_size,
            page_token: String::new(),
        }
    }

    pub(crate) fn end(&self) -> SystemTime {
        self.until.unwrap_or_else(|| SystemTime::now() + DAY)
    }

    /// The signals of all pages: those that were asked for, or all that the vehicle ever sent.
    pub(super) async fn columns(&self, client: &Client) -> Result<Columns, Failure> {
        let latest = client.telemetry().latest(&self.vehicle, &self.signals).await?;
        Ok(latest.values.into_iter().map(|value| (value.signal, value.unit)).collect())
    }
}

// === impl QueryCommand ===

impl QueryCommand {
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let QueryCommand { selection, limit } = self;
        match output.format() {
            Format::Csv => {
                let limit = limit.unwrap_or(u64::MAX);
                write_csv(client, &selection, std::io::stdout().lock(), limit, &ProgressBar::hidden()).await?;
            }
            Format::Json => json(client, &selection, output, limit.unwrap_or(u64::MAX)).await?,
            Format::Table => table(client, &selection, output, limit.unwrap_or(TABLE_ROWS)).await?,
        }
        Ok(Exit::Ok)
    }
}

async fn json(client: &Client, selection: &Selection, output: &Output, limit: u64) -> Result<(), Failure> {
    let mut left = limit;
    let mut pages = client.telemetry().query(selection.request(page_size(limit)));
    while left > 0
        && let Some(mut page) = pages.next().await?
    {
        let kept = usize::try_from(left).unwrap_or(usize::MAX);
        page.times_us.truncate(kept);
        page.columns.iter_mut().for_each(|column| column.values.truncate(kept));
        left -= u64::try_from(page.times_us.len()).unwrap_or(left).min(left);
        output.json_line(&Json::new("ev.telemetry.v1.QueryResponse", &page))?;
    }
    Ok(())
}

async fn table(client: &Client, selection: &Selection, output: &Output, limit: u64) -> Result<(), Failure> {
    let columns = selection.columns(client).await?;
    let mut names = vec!["time"];
    names.extend(columns.iter().map(|(signal, _)| cells::short_name(signal)));
    let mut table = Table::with_header(&names);
    let (mut rows, mut has_more) = (0u64, false);
    let mut pages = client.telemetry().query(selection.request(page_size(limit)));
    'pages: while let Some(page) = pages.next().await? {
        for row in rows_of(&page, &columns) {
            if rows == limit {
                has_more = true;
                break 'pages;
            }
            rows += 1;
            let values = row.values.iter().zip(&columns).map(|(value, (_, unit))| cells::value(*value, unit));
            let time = Cell::from(time::text(row.time_us));
            table.push(std::iter::once(time).chain(values.map(Cell::from)).collect());
        }
    }
    if rows == 0 {
        return output.text(|| "No readings in this time. Look further back with: --since 7d".to_owned());
    }
    output.text(|| table.render())?;
    if has_more {
        output.advise(&format!("there are more than {rows} readings; see more with --limit, all with -o csv"));
    }
    Ok(())
}

fn page_size(limit: u64) -> u32 {
    // One more than is shown, to know whether there are more.
    u32::try_from(limit.saturating_add(1)).unwrap_or(PAGE_READINGS).min(PAGE_READINGS)
}

/// One reading.
struct Row {
    time_us: i64,
    /// One for each column; NaN for none.
    values: Vec<f32>,
}

fn rows_of<'a>(page: &'a QueryResponse, columns: &'a Columns) -> impl Iterator<Item = Row> + 'a {
    let place = |(signal, _): &(String, String)| page.columns.iter().find(|column| column.signal == *signal);
    let places: Vec<_> = columns.iter().map(place).collect();
    page.times_us.iter().enumerate().map(move |(index, time_us)| {
        let value = |column: &Option<&ev_client::proto::ev::telemetry::v1::SignalColumn>| {
            column.and_then(|column| column.values.get(index).copied()).unwrap_or(f32::NAN)
        };
        Row { time_us: *time_us, values: places.iter().map(value).collect() }
    })
}

/// Writes readings, and how many.
pub(super) async fn write_csv(
    client: &Client,
    selection: &Selection,
    out: impl Write,
    limit: u64,
    progress: &ProgressBar,
) -> Result<u64, Failure> {
    let columns = selection.columns(client).await?;
    let mut out = BufWriter::new(out);
    let header = columns.iter().map(|(signal, unit)| format!("{signal}[{unit}]"));
    let header = csv::line(std::iter::once("time".to_owned()).chain(header));
    out.write_all(header.as_bytes()).map_err(Failure::Output)?;
    let mut rows = 0;
    let mut pages = client.telemetry().query(selection.request(page_size(limit)));
    while rows < limit
        && let Some(page) = pages.next().await?
    {
        let left = usize::try_from(limit - rows).unwrap_or(usize::MAX);
        for Row { time_us, values } in rows_of(&page, &columns).take(left) {
            let values = values.iter().map(|value| if value.is_nan() { String::new() } else { value.to_string() });
            let line = csv::line(std::iter::once(time::text(time_us)).chain(values));
            out.write_all(line.as_bytes()).map_err(Failure::Output)?;
            rows += 1;
            progress.set_position(seconds_since(selection.since, time_us));
        }
        progress.set_message(format!("{rows} readings"));
    }
    out.flush().map_err(Failure::Output)?;
    Ok(rows)
}

pub(super) fn seconds_since(begin: SystemTime, time_us: i64) -> u64 {
    let begin_us = time::microseconds(&time::timestamp(begin));
    u64::try_from(time_us.saturating_sub(begin_us) / 1_000_000).unwrap_or_default()
}
