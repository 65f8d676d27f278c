//! `evctl telemetry tail`: readings as they come in.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Write as _},
    ops::ControlFlow,
    time::Duration,
};

use clap::Args;
use ev_client::{
    Client, Error, Replies,
    proto::ev::telemetry::v1::{WatchRequest, WatchResponse},
};
use tokio::time::Instant;

use super::{cells, time};
use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    live::{Live, count, follow},
    output::Output,
    style::{ACCENT, BOLD, DIM, WARN},
    table::{Cell, Table},
};

/// How often a live table is drawn.
const FRAME: Duration = Duration::from_millis(250);
/// Rows of a live table where the terminal does not say its height.
const ROWS: u16 = 24;
/// Values that a live table remembers.
const VALUES_MAX: usize = 10_000;

/// Show readings as they come in, until interrupted.
#[derive(Debug, Args)]
#[command(after_help = "\
On a terminal the latest values are shown in a table that keeps itself current; elsewhere a line
for each reading. -o json prints a line for each batch, as the API sends it. Who reads too slowly
misses batches, and is told how many. A connection that is lost is made again; readings that came
meanwhile may be missing.

Examples:
  evctl telemetry tail
  evctl telemetry tail car-1 car-2 --signal Vehicle.Speed
  evctl telemetry tail --every 10s | tee readings.log
  evctl -o json telemetry tail car-1 | jq .columns")]
pub(crate) struct TailCommand {
    /// Only these vehicles.
    #[arg(value_name = "VEHICLE")]
    vehicles: Vec<String>,
    /// Only this signal, by its VSS path; may be given several times.
    #[arg(long = "signal", value_name = "PATH")]
    signals: Vec<String>,
    /// Of each vehicle no more than one reading in this time, such as 1s.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    every: Option<Duration>,
    /// End after so many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// The latest values, by vehicle and signal.
#[derive(Debug, Default)]
struct Board {
    values: BTreeMap<(String, String), (String, i64)>,
    missed: u64,
    /// What becomes of the connection.
    note: String,
    /// Lines drawn before.
    drawn: usize,
    /// When it is drawn next, if there is something new.
    due: Option<Instant>,
}

/// How far it has come.
struct Tail<'a> {
    client: &'a Client,
    output: &'a Output,
    request: WatchRequest,
    left: Option<u64>,
    /// On a terminal.
    board: Option<Board>,
}

// === impl TailCommand ===

impl TailCommand {
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let interval_min = match self.every.map(prost_types::Duration::try_from) {
            Some(Err(_)) => return Err(Failure::usage("--every is too long", &["give a shorter time"])),
            Some(Ok(every)) => Some(every),
            None => None,
        };
        let request = WatchRequest { vehicle_ids: self.vehicles, signals: self.signals, interval_min };
        let is_live = !output.is_json() && std::io::stdout().is_terminal();
        // At first it says that it waits.
        let board = is_live.then(|| Board { due: Some(Instant::now()), ..Board::default() });
        let mut tail = Tail { client, output, request, left: self.count, board };
        follow(&mut tail).await?;
        tail.draw()?;
        Ok(Exit::Ok)
    }
}

// === impl Tail ===

impl Live for Tail<'_> {
    type Message = WatchResponse;

    async fn ask(&self) -> Result<Replies<WatchResponse>, Error> {
        self.client.telemetry().watch(self.request.clone()).await
    }

    fn take(&mut self, reply: WatchResponse) -> Result<ControlFlow<()>, Failure> {
        self.output.json_line(&Json::new("ev.telemetry.v1.WatchResponse", &reply))?;
        match &mut self.board {
            Some(board) => board.take(&reply),
            None => {
                self.output.text(|| text(&reply))?;
                if reply.missed_batches > 0 {
                    let missed = reply.missed_batches;
                    self.output.advise(&format!("{missed} batches were missed: this reads too slowly"));
                }
            }
        }
        Ok(count(&mut self.left))
    }

    fn note(&mut self, text: &str) -> Result<(), Failure> {
        match &mut self.board {
            // Between two tables it would be drawn over, and they over it.
            Some(board) => {
                text.clone_into(&mut board.note);
                board.draw()
            }
            None => {
                self.output.note(text);
                Ok(())
            }
        }
    }

    async fn catch_up(&mut self) -> Result<ControlFlow<()>, Failure> {
        self.note("readings that came meanwhile may be missing: see them with evctl telemetry query")?;
        Ok(ControlFlow::Continue(()))
    }

    fn due(&self) -> Option<Instant> {
        self.board.as_ref().and_then(|board| board.due)
    }

    fn draw(&mut self) -> Result<(), Failure> {
        self.board.as_mut().map_or(Ok(()), Board::draw)
    }
}

/// A line for each reading.
fn text(reply: &WatchResponse) -> String {
    let line = |(index, time_us): (usize, &i64)| {
        let value = |column: &ev_client::proto::ev::telemetry::v1::SignalColumn| {
            let value = column.values.get(index).copied().filter(|value| !value.is_nan())?;
            Some(format!("{} {BOLD}{}{BOLD:#}", cells::short_name(&column.signal), cells::value(value, &column.unit)))
        };
        let values: Vec<String> = reply.columns.iter().filter_map(value).collect();
        let (time, vehicle) = (time::text(*time_us), &reply.vehicle_id);
        format!("{DIM}{time}{DIM:#}  {ACCENT}{vehicle}{ACCENT:#}  {}", values.join("  "))
    };
    reply.times_us.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

// === impl Board ===

impl Board {
    fn take(&mut self, reply: &WatchResponse) {
        self.due = self.due.or_else(|| Some(Instant::now() + FRAME));
        self.missed += reply.missed_batches;
        for column in &reply.columns {
            let values = column.values.iter().zip(&reply.times_us).filter(|(value, _)| !value.is_nan());
            let Some((value, time_us)) = values.max_by_key(|(_, time_us)| **time_us) else { continue };
            let key = (reply.vehicle_id.clone(), column.signal.clone());
            if self.values.len() < VALUES_MAX || self.values.contains_key(&key) {
                self.values.insert(key, (cells::value(*value, &column.unit), *time_us));
            }
        }
    }

    /// The table, no higher than the terminal.
    fn render(&self, rows: usize) -> String {
        let note = if self.note.is_empty() { String::new() } else { format!("{WARN}note:{WARN:#} {}\n", self.note) };
        if self.values.is_empty() {
            return format!("waiting for readings\n{note}");
        }
        let mut table = Table::new(["vehicle", "signal", "value", "time"]);
        let shown = rows.saturating_sub(3 + note.lines().count()).max(1);
        for ((vehicle, signal), (value, time_us)) in self.values.iter().take(shown) {
            table.row([
                Cell::styled(vehicle, ACCENT),
                cells::short_name(signal).into(),
                Cell::styled(value, BOLD),
                Cell::styled(time::text(*time_us), DIM),
            ]);
        }
        let mut text = table.render();
        let hidden = self.values.len().saturating_sub(shown);
        if hidden > 0 || self.missed > 0 {
            let missed = self.missed;
            text.push_str(&format!("{DIM}{hidden} more values, {missed} batches missed{DIM:#}\n"));
        }
        text + &note
    }

    fn draw(&mut self) -> Result<(), Failure> {
        self.due = None;
        let rows = terminal_size::terminal_size().map_or(ROWS, |(_, height)| height.0);
        let text = self.render(usize::from(rows));
        let up = if self.drawn == 0 { String::new() } else { format!("\x1b[{}A", self.drawn) };
        self.drawn = text.lines().count();
        // Each line to its end, and what is below: the table may have become smaller.
        let text = text.replace('\n', "\x1b[K\n");
        write!(anstream::stdout().lock(), "{up}{text}\x1b[J").map_err(Failure::Output)
    }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use ev_client::proto::ev::telemetry::v1::SignalColumn;

    use super::*;

    fn reply() -> WatchResponse {
        let column = |signal: &str, unit: &str, values: &[f32]| SignalColumn {
            signal: signal.to_owned(),
            unit: unit.to_owned(),
            values: values.to_vec(),
        };
        WatchResponse {
            vehicle_id: "car-1".to_owned(),
            times_us: vec![1_767_225_600_000_000, 1_767_225_601_000_000],
            columns: vec![
                column("Vehicle.Speed", "km/h", &[50.0, f32::NAN]),
                column("Vehicle.Powertrain.TractionBattery.StateOfCharge.Current", "percent", &[80.0, 79.5]),
            ],
            missed_batches: 3,
        }
    }

    #[test]
    fn readings_are_lines() {
        assert_eq!(
            strip_str(&text(&reply())).to_string(),
            "2026-01-01T00:00:00Z  car-1  Vehicle.Speed 50 km/h  StateOfCharge.Current 80 %\n\
             2026-01-01T00:00:01Z  car-1  StateOfCharge.Current 79.5 %"
        );
    }

    #[test]
    fn a_board_shows_the_latest_values_that_fit() {
        let mut board = Board::default();
        assert_eq!(board.render(24), "waiting for readings\n");
        board.take(&reply());
        assert_eq!(
            strip_str(&board.render(4)).to_string(),
            "VEHICLE   SIGNAL                  VALUE    TIME\n\
             car-1     StateOfCharge.Current   79.5 %   2026-01-01T00:00:01Z\n\
             1 more values, 3 batches missed\n"
        );
    }
}
