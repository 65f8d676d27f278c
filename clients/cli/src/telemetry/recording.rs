//! Recorded readings in a CSV file.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use ev_client::proto::ev::telemetry::v1::SignalNaming;
use fs_err::File;

use super::csv;
use crate::failure::Failure;

/// Longest line that is read, in bytes.
const LINE_SIZE_MAX_BYTES: u64 = 1 << 20;
/// Headers that name the time, without their unit.
const TIME_NAMES: [&str; 6] = ["time", "timestamp", "time_s", "time_ms", "time_us", "datetime"];
/// Numbers below this many seconds, in 2001, count from the recording's own beginning.
const EPOCH_SECONDS_MIN: f64 = 1e9;

/// A file of readings, one a line.
#[derive(Debug)]
pub(crate) struct Recording {
    path: PathBuf,
    reader: BufReader<File>,
    line: u64,
    time: TimeColumn,
    /// The place of each signal's column.
    places: Vec<usize>,
    /// Each signal as it is declared: its name, and its unit or nothing.
    pub(crate) signals: Vec<(String, String)>,
    pub(crate) naming: SignalNaming,
    /// Bytes read so far.
    pub(crate) read_bytes: u64,
    /// Bytes of the file.
    pub(crate) total_bytes: u64,
}

#[derive(Debug)]
struct TimeColumn {
    place: usize,
    /// Microseconds of the column's unit.
    unit_us: f64,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recorded {
    pub(crate) time_us: i64,
    /// Whether the time counts from the recording's own beginning.
    pub(crate) is_relative: bool,
    /// One for each signal; none where the field is empty.
    pub(crate) values: Vec<Option<f32>>,
}

/// What a whole file holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Extent {
    pub(crate) readings: u64,
    pub(crate) last_us: i64,
    pub(crate) is_relative: bool,
}

// === impl Recording ===

impl Recording {
    /// Opens a file and reads its header.
    pub(crate) fn open(
        path: &Path,
        time_column: Option<&str>,
        naming: Option<SignalNaming>,
    ) -> Result<Recording, Failure> {
        let file = File::open(path).map_err(Failure::Input)?;
        let total_bytes = file.metadata().map_err(Failure::Input)?.len();
        let mut recording = Recording {
            path: path.to_owned(),
            reader: BufReader::new(file),
            line: 0,
            time: TimeColumn { place: 0, unit_us: 1e6 },
            places: Vec::new(),
            signals: Vec::new(),
            naming: SignalNaming::Short,
            read_bytes: 0,
            total_bytes,
        };
        let header = recording.read()?.ok_or_else(|| {
            Failure::usage(format!("{} is empty", path.display()), &["the first line names the columns"])
        })?;
        recording.take_header(&header, time_column)?;
        let is_vss = recording.signals.iter().any(|(name, _)| name.starts_with("Vehicle."));
        recording.naming = naming.unwrap_or(if is_vss { SignalNaming::Vss } else { SignalNaming::Short });
        Ok(recording)
    }

    fn take_header(&mut self, header: &[String], time_column: Option<&str>) -> Result<(), Failure> {
        let columns: Vec<(String, String)> =
            header.iter().map(|field| name_and_unit(field.trim_start_matches('\u{feff}'))).collect();
        let is_time = |name: &str| match time_column {
            Some(wanted) => name == wanted,
            None => TIME_NAMES.contains(&name.to_ascii_lowercase().as_str()),
        };
        let Some(place) = columns.iter().position(|(name, _)| is_time(name)) else {
            let wanted = time_column.map_or("the time".to_owned(), |name| format!("`{name}`"));
            let names = header.join(", ");
            let message = format!("{}: no column for {wanted}; the header has: {names}", self.path.display());
            return Err(Failure::usage(message, &["name it with --time-column, or call it `time` in the first line"]));
        };
        let (name, unit) = &columns[place];
        self.time = TimeColumn { place, unit_us: self.time_unit(name, unit)? };
        for (place, (name, unit)) in columns.into_iter().enumerate() {
            if place != self.time.place && !name.is_empty() {
                self.places.push(place);
                self.signals.push((name, unit));
            }
        }
        if self.signals.is_empty() {
            let message = format!("{}: no signal beside the time", self.path.display());
            return Err(Failure::usage(message, &["the first line names them, such as: time,soc,battery_current[A]"]));
        }
        Ok(())
    }

    fn time_unit(&self, name: &str, unit: &str) -> Result<f64, Failure> {
        let suffix = name.rsplit_once('_').map_or("", |(_, suffix)| suffix);
        match (unit, suffix) {
            ("s", _) | ("", "s") => Ok(1e6),
            ("ms", _) | ("", "ms") => Ok(1e3),
            ("us" | "µs", _) | ("", "us") => Ok(1.0),
            ("", _) => Ok(1e6),
            _ => {
                let message = format!("{}: the time is in `{unit}`", self.path.display());
                Err(Failure::usage(message, &["expected s, ms or us, or times such as 2026-01-31T12:00:00Z"]))
            }
        }
    }

    /// Reads the rest of the file, so that what is wrong with it is known before anything is sent.
    pub(crate) fn extent(mut self) -> Result<Extent, Failure> {
        let mut extent = Extent { readings: 0, last_us: i64::MIN, is_relative: false };
        while let Some(Recorded { time_us, is_relative, .. }) = self.next()? {
            if extent.readings == 0 {
                extent.is_relative = is_relative;
            }
            extent.readings += 1;
            extent.last_us = extent.last_us.max(time_us);
        }
        if extent.readings == 0 {
            let message = format!("{} has no readings", self.path.display());
            return Err(Failure::usage(message, &["each line after the first is one"]));
        }
        Ok(extent)
    }

    /// The next line that is not empty.
    pub(crate) fn next(&mut self) -> Result<Option<Recorded>, Failure> {
        let Some(fields) = self.read()? else { return Ok(None) };
        let (time_us, is_relative) = self.time_of(fields.get(self.time.place).map_or("", String::as_str))?;
        let mut values = Vec::with_capacity(self.places.len());
        for (place, (name, _)) in self.places.iter().zip(&self.signals) {
            values.push(self.value_of(name, fields.get(*place).map_or("", String::as_str))?);
        }
        Ok(Some(Recorded { time_us, is_relative, values }))
    }

    fn time_of(&self, text: &str) -> Result<(i64, bool), Failure> {
        let wrong = || self.wrong(&format!("`{text}` is not a time"), "expected a number, or 2026-01-31T12:00:00Z");
        if let Ok(number) = text.parse::<f64>() {
            let time_us = (number * self.time.unit_us).round();
            if !time_us.is_finite() || time_us.abs() >= 9e18 {
                return Err(wrong());
            }
            #[expect(clippy::cast_possible_truncation, reason = "a whole number within the type's range")]
            let whole_us = time_us as i64;
            return Ok((whole_us, time_us < EPOCH_SECONDS_MIN * 1e6));
        }
        let time = humantime::parse_rfc3339_weak(text).map_err(|_| wrong())?;
        Ok((super::time::microseconds(&super::time::timestamp(time)), false))
    }

    fn value_of(&self, name: &str, text: &str) -> Result<Option<f32>, Failure> {
        match text.to_ascii_lowercase().as_str() {
            "" | "nan" | "null" | "na" | "n/a" => Ok(None),
            "true" => Ok(Some(1.0)),
            "false" => Ok(Some(0.0)),
            text => match text.parse::<f32>() {
                Ok(value) => Ok(Some(value)),
                Err(_) => {
                    Err(self.wrong(&format!("`{text}` is not a value of `{name}`"), "expected a number or nothing"))
                }
            },
        }
    }

    fn wrong(&self, what: &str, advice: &str) -> Failure {
        Failure::usage(format!("{}, line {}: {what}", self.path.display(), self.line), &[advice])
    }

    /// The fields of the next line that is not empty.
    fn read(&mut self) -> Result<Option<Vec<String>>, Failure> {
        loop {
            let mut bytes = Vec::new();
            let mut limited = (&mut self.reader).take(LINE_SIZE_MAX_BYTES);
            let read = limited.read_until(b'\n', &mut bytes).map_err(Failure::Input)?;
            if read == 0 {
                return Ok(None);
            }
            self.read_bytes += u64::try_from(read).unwrap_or_default();
            self.line += 1;
            if u64::try_from(read).is_ok_and(|read| read == LINE_SIZE_MAX_BYTES) {
                return Err(self.wrong("the line is too long", "expected at most 1 MiB"));
            }
            let line = String::from_utf8(bytes).map_err(|_| self.wrong("it is not text", "expected UTF-8"))?;
            if line.trim().is_empty() {
                continue;
            }
            let fields = csv::split(&line);
            return fields.map(Some).ok_or_else(|| self.wrong("a quoted field does not end", "close it with a quote"));
        }
    }
}

/// `battery_current[A]` is a name with its unit.
fn name_and_unit(field: &str) -> (String, String) {
    let field = field.trim();
    match field.strip_suffix(']').and_then(|field| field.rsplit_once('[')) {
        Some((name, unit)) => (name.trim().to_owned(), unit.trim().to_owned()),
        None => (field.to_owned(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str, time_column: Option<&str>) -> Result<Recording, Failure> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("drive.csv");
        fs_err::write(&path, text).expect("written");
        Recording::open(&path, time_column, None)
    }

    fn rows(text: &str, time_column: Option<&str>) -> Result<Vec<Recorded>, Failure> {
        let mut recording = open(text, time_column)?;
        std::iter::from_fn(|| recording.next().transpose()).collect()
    }

    #[test]
    fn headers_name_signals_units_and_whose_names_they_are() {
        let recording = open("\u{feff}time_ms,soc,battery_current [A],,\"speed[mph]\"\n", None).expect("a header");
        let signal = |name: &str, unit: &str| (name.to_owned(), unit.to_owned());
        assert_eq!(recording.signals, [signal("soc", ""), signal("battery_current", "A"), signal("speed", "mph")]);
        assert_eq!((recording.naming, recording.time.unit_us), (SignalNaming::Short, 1e3));
        let recording = open("Vehicle.Speed[km/h],time\n", None).expect("a header");
        assert_eq!((recording.naming, recording.time.place), (SignalNaming::Vss, 1));
    }

    #[test]
    fn rows_are_read() {
        let check = |text: &str, time_us: i64, is_relative: bool, values: &[Option<f32>]| {
            let rows = rows(text, None).unwrap_or_else(|failure| panic!("{text}: {failure}"));
            assert_eq!(rows, [Recorded { time_us, is_relative, values: values.to_vec() }], "{text}");
        };
        check("time,a,b\n1.5,2,\n", 1_500_000, true, &[Some(2.0), None]);
        check("time,a,b\n\n1.5,NaN\n", 1_500_000, true, &[None, None]);
        check("time[ms],a\n1767225600000,true\n", 1_767_225_600_000_000, false, &[Some(1.0)]);
        check("Timestamp,a\n2026-01-01T00:00:00Z,-1e3", 1_767_225_600_000_000, false, &[Some(-1000.0)]);
        check("time,a\n2026-01-01 00:00:00.25,1", 1_767_225_600_250_000, false, &[Some(1.0)]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, expected: &str| {
            let message = rows(text, None).expect_err(text).to_string();
            assert!(message.contains(expected), "{message}");
        };
        check("", "is empty");
        check("a,b\n", "no column for the time; the header has: a, b");
        check("time\n", "no signal beside the time");
        check("time[h],a\n", "the time is in `h`");
        check("time,a\n1,2\nnoon,2\n", "line 3: `noon` is not a time");
        check("time,a\n1e300,2\n", "line 2: `1e300` is not a time");
        check("time,a\n1,fast\n", "line 2: `fast` is not a value of `a`");
        check("time,a\n1,\"2\n", "line 2: a quoted field does not end");
        let failure = open("t,a\n1,2\n", Some("x")).expect_err("no such column");
        assert!(failure.to_string().contains("no column for `x`"), "{failure}");
        assert!(open("t,a\n1,2\n", Some("t")).is_ok());
    }

    #[test]
    fn an_extent_is_of_the_whole_file() {
        let extent = open("time,a\n3,1\n9,1\n5,1\n", None).and_then(Recording::extent).expect("readings");
        assert_eq!(extent, Extent { readings: 3, last_us: 9_000_000, is_relative: true });
        assert!(open("time,a\n", None).and_then(Recording::extent).is_err());
    }
}
