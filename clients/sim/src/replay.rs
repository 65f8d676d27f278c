//! A recorded CSV file as batches.
//!
//! The first line names the columns. Fields are separated by commas and not quoted, as telemetry is written.

use std::io::{BufRead, Read as _};

use crate::{Batch, Column, Signal, SimError};

/// Longest line in bytes: more is no telemetry.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// How a recording is to be read.
#[derive(Debug, Clone)]
pub struct ReplayConfig {
    /// Column of the time: `2021-03-29 11:13:45`, with `T` and `Z` or fractions if need be, or seconds since 1970.
    pub time_column: String,
    /// Seconds that the recording's clock is ahead of UTC.
    pub utc_offset_s: i64,
    /// Column of the vehicle, or of the drive, each of which then is a vehicle.
    pub vehicle_column: Option<String>,
    /// The vehicle where there is no such column.
    pub vehicle_id: String,
    /// Readings in a batch, at most.
    pub batch_readings: usize,
    /// Which columns are which signals; others are left out. A column named as its signal need not be named here.
    pub signals: Vec<(String, Signal)>,
}

/// Batches of a recording, in its order.
#[derive(Debug)]
pub struct Replay<R> {
    lines: R,
    line: usize,
    config: ReplayConfig,
    fields: usize,
    time: usize,
    vehicle: Option<usize>,
    signals: Vec<(usize, Signal)>,
    sequences: std::collections::HashMap<String, u64>,
    /// The first reading of the next batch.
    held: Option<Row>,
    ended: bool,
}

#[derive(Debug)]
struct Row {
    vehicle_id: String,
    time_us: i64,
    values: Vec<f32>,
}

// === impl ReplayConfig ===

impl Default for ReplayConfig {
    /// As the drives of a Renault Twizy at 1 Hz (RSK Twizy EV Dataset) are recorded.
    fn default() -> ReplayConfig {
        let signals = [
            ("soc_pct", Signal::StateOfCharge),
            ("speed_kmh", Signal::Speed),
            ("ambient_temp_C", Signal::AirTemperature),
        ];
        ReplayConfig {
            time_column: "timestamp".to_owned(),
            utc_offset_s: 0,
            vehicle_column: Some("trip".to_owned()),
            vehicle_id: "replay".to_owned(),
            batch_readings: 10,
            signals: signals.map(|(column, signal)| (column.to_owned(), signal)).to_vec(),
        }
    }
}

// === impl Replay ===

impl<R: BufRead> Replay<R> {
    /// Reads the names of the columns.
    ///
    /// # Errors
    ///
    /// When a column that is needed is missing, or nothing of it is a signal.
    pub fn new(mut lines: R, config: ReplayConfig) -> Result<Replay<R>, SimError> {
        let header = next_line(&mut lines, 1)?
            .ok_or_else(|| SimError::Recording { line: 1, problem: "there are no columns".to_owned() })?;
        let names: Vec<&str> = header.split(',').map(str::trim).collect();
        let place = |name: &str| {
            names
                .iter()
                .position(|known| *known == name)
                .ok_or_else(|| SimError::Recording { line: 1, problem: format!("there is no column `{name}`") })
        };
        let time = place(&config.time_column)?;
        let vehicle = config.vehicle_column.as_deref().map(place).transpose()?;
        let named = |name: &str| {
            let mapped = config.signals.iter().find(|(column, _)| column == name).map(|(_, signal)| *signal);
            mapped.or_else(|| Signal::by_name(name))
        };
        let signals: Vec<(usize, Signal)> =
            names.iter().enumerate().filter_map(|(at, name)| Some((at, named(name)?))).collect();
        if signals.is_empty() {
            return Err(SimError::Recording { line: 1, problem: "no column is a signal".to_owned() });
        }
        let fields = names.len();
        Ok(Replay {
            lines,
            line: 1,
            fields,
            time,
            vehicle,
            signals,
            sequences: std::collections::HashMap::new(),
            held: None,
            ended: false,
            config,
        })
    }

    fn row(&mut self) -> Result<Option<Row>, SimError> {
        self.line += 1;
        let Some(text) = next_line(&mut self.lines, self.line)? else { return Ok(None) };
        let refused = |problem: String| SimError::Recording { line: self.line, problem };
        let fields: Vec<&str> = text.split(',').map(str::trim).collect();
        if fields.len() != self.fields {
            return Err(refused(format!("it has {} fields, expected {}", fields.len(), self.fields)));
        }
        let time = fields[self.time];
        let time_us = parse_time(time)
            .and_then(|time_us| time_us.checked_sub(self.config.utc_offset_s.checked_mul(1_000_000)?))
            .ok_or_else(|| refused(format!("`{}` is no time", time.chars().take(40).collect::<String>())))?;
        let vehicle_id = self.vehicle.map_or(&*self.config.vehicle_id, |at| fields[at]).to_owned();
        let values = self.signals.iter().map(|(at, _)| fields[*at].parse().unwrap_or(f32::NAN)).collect();
        Ok(Some(Row { vehicle_id, time_us, values }))
    }

    fn batch(&mut self) -> Result<Option<Batch>, SimError> {
        let first = match self.held.take() {
            Some(row) => row,
            None => match self.row()? {
                Some(row) => row,
                None => return Ok(None),
            },
        };
        let mut rows = vec![first];
        while rows.len() < self.config.batch_readings.max(1) {
            match self.row()? {
                Some(row) if row.vehicle_id == rows[0].vehicle_id => rows.push(row),
                other => {
                    self.held = other;
                    break;
                }
            }
        }
        let sequence = self.sequences.entry(rows[0].vehicle_id.clone()).or_default();
        *sequence += 1;
        let column = |(at, (_, signal)): (usize, &(usize, Signal))| Column {
            signal: *signal,
            values: rows.iter().map(|row| row.values[at]).collect(),
        };
        Ok(Some(Batch {
            boot_id: "replay".to_owned(),
            sequence: *sequence,
            is_resend: false,
            times_us: rows.iter().map(|row| row.time_us).collect(),
            columns: self.signals.iter().enumerate().map(column).collect(),
            vehicle_id: rows[0].vehicle_id.clone(),
        }))
    }
}

impl<R: BufRead> Iterator for Replay<R> {
    type Item = Result<Batch, SimError>;

    /// The next batch; nothing more after an error.
    fn next(&mut self) -> Option<Result<Batch, SimError>> {
        if self.ended {
            return None;
        }
        let batch = self.batch().transpose();
        self.ended = !matches!(batch, Some(Ok(_)));
        batch
    }
}

/// The next line that is not empty.
fn next_line(lines: &mut impl BufRead, line: usize) -> Result<Option<String>, SimError> {
    loop {
        let mut text = String::new();
        let read = lines.take(LINE_BYTES_MAX).read_line(&mut text);
        let read = read.map_err(|source| SimError::Io { what: "the recording could not be read", source })?;
        if read == 0 {
            return Ok(None);
        }
        if !text.ends_with('\n') && read as u64 == LINE_BYTES_MAX {
            return Err(SimError::Recording { line, problem: format!("it is longer than {LINE_BYTES_MAX} bytes") });
        }
        if !text.trim().is_empty() {
            return Ok(Some(text));
        }
    }
}

/// Microseconds since 1970.
fn parse_time(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        #[expect(clippy::cast_possible_truncation, reason = "checked to be within i64")]
        return (seconds.abs() < 9e12).then_some((seconds * 1e6).round() as i64);
    }
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once([' ', 'T'])?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut time = time.splitn(3, ':');
    let (hour, minute) = (time.next()?.parse::<i64>().ok()?, time.next()?.parse::<i64>().ok()?);
    let second = time.next()?.parse::<f64>().ok()?;
    let plausible = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0.0..61.0).contains(&second);
    #[expect(clippy::cast_possible_truncation, reason = "less than a minute")]
    let within = (second * 1e6).round() as i64;
    plausible.then(|| ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60_000_000 + within)
}

/// Of the Gregorian calendar, counting years from March so that the leap day is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        let check = |text: &str, expected: Option<i64>| assert_eq!(parse_time(text), expected, "{text}");
        check("1970-01-01 00:00:00", Some(0));
        check("2021-03-29 11:13:45", Some(1_617_016_425_000_000));
        check("2024-02-29T23:59:59.5Z", Some(1_709_251_199_500_000));
        check("1617016425.25", Some(1_617_016_425_250_000));
        check("2021-13-29 11:13:45", None);
        check("yesterday", None);
        check("", None);
    }

    #[test]
    fn a_recording_becomes_batches() {
        let text = "trip,timestamp,soc_pct,lat,speed_kmh\n\
            a,2021-03-29 11:13:45,87.5,33.9,0\na,2021-03-29 11:13:46,,33.9,1.5\n\nb,2021-03-29 12:00:00,50,33.9,2\n";
        let batches: Result<Vec<Batch>, _> =
            Replay::new(text.as_bytes(), ReplayConfig::default()).expect("columns").collect();
        let batches = batches.expect("batches");
        assert_eq!(
            batches.iter().map(|batch| (&*batch.vehicle_id, batch.len())).collect::<Vec<_>>(),
            [("a", 2), ("b", 1)]
        );
        assert_eq!(batches[0].column(Signal::Speed), Some(&[0.0, 1.5][..]));
        assert!(batches[0].column(Signal::StateOfCharge).is_some_and(|values| values[1].is_nan()));
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        let check = |text: &str, expected: &str| {
            let found: Result<Vec<Batch>, SimError> =
                Replay::new(text.as_bytes(), ReplayConfig::default()).and_then(|replay| replay.collect());
            assert_eq!(found.expect_err(expected).to_string(), expected);
        };
        check("", "line 1: there are no columns");
        check("a,b\n", "line 1: there is no column `timestamp`");
        check("trip,timestamp,x\n", "line 1: no column is a signal");
        check("trip,timestamp,soc_pct\na,now,5\n", "line 2: `now` is no time");
        check("trip,timestamp,soc_pct\na,5\n", "line 2: it has 2 fields, expected 3");
    }
}
