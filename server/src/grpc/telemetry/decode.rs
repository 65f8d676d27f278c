//! From what a gateway sends to readings of the catalogue.

use std::{borrow::Cow, collections::HashMap, convert::Infallible};

use ev_domain::{Binding, Catalogue, Column, Naming, Readings, Signal, Values, VehicleId};
use ev_proto::ev::telemetry::v1::{Batch, RowBatch, SignalDeclaration, SignalNaming};
use ev_telemetry::{Reject, RejectReason};
use prost_types::Timestamp;
use tonic::Status;

use super::wire::{BatchView, Unusual};
use crate::grpc::status;

/// Most signals of a stream, and of a batch.
const SIGNALS_MAX: usize = 4096;
/// Largest id of a declared signal.
const SIGNAL_ID_MAX: u32 = 65_535;
/// Seconds since 1970 of the years 1 to 9999, which are those a timestamp may have.
pub(super) const SECONDS: std::ops::Range<i64> = -62_135_596_800..253_402_300_800;
/// So many characters of a gateway's own words are repeated in a message.
const EXCERPT_CHARS: usize = 64;

/// The signals a stream has declared.
#[derive(Debug, Default)]
pub(super) struct Declared {
    /// By id, rising.
    signals: Vec<(u32, Result<Binding, UnknownSignal>)>,
}

/// A signal that cannot be taken.
#[derive(Debug, Clone)]
struct UnknownSignal {
    /// What the gateway calls it.
    name: String,
    /// Why.
    message: String,
}

/// A batch as telemetry takes it: readings, and what was left out of them.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) readings: Readings,
    pub(super) rejects: Vec<Reject>,
}

/// A whole-batch reject.
pub(super) fn whole(reason: RejectReason, readings: usize, message: impl Into<String>) -> Reject {
    Reject::new(reason, readings, message)
}

/// A vehicle's id, or why it is none.
pub(super) fn vehicle(id: &str) -> Result<VehicleId, Reject> {
    VehicleId::new(id).map_err(|error| whole(RejectReason::MalformedBatch, 0, error.to_string()))
}

/// Whose names a gateway uses.
pub(super) fn naming(naming: i32) -> Result<Naming, Status> {
    match SignalNaming::try_from(naming) {
        Ok(SignalNaming::Unspecified | SignalNaming::Vss) => Ok(Naming::Vss),
        Ok(SignalNaming::TeslaFleetTelemetry) => Ok(Naming::TeslaFleetTelemetry),
        Ok(SignalNaming::Short) => Ok(Naming::Short),
        Err(_) => Err(status::invalid("signal_naming", "UNKNOWN_VALUE", format!("is {naming}, expected 0 to 3"))),
    }
}

/// Microseconds since 1970, where a timestamp has a plausible form.
pub(in crate::grpc) fn time_us(time: &Timestamp) -> Option<i64> {
    if !(0..1_000_000_000).contains(&time.nanos) || !SECONDS.contains(&time.seconds) {
        return None;
    }
    Some(time.seconds * 1_000_000 + i64::from(time.nanos / 1_000))
}

// === impl Declared ===

impl Declared {
    /// Looks the signals up. One that cannot be taken is remembered as such: its columns are left out of every batch.
    ///
    /// # Errors
    ///
    /// When there are too many, or an id is too large or declared twice.
    pub(super) fn new(
        catalogue: &Catalogue,
        naming: Naming,
        signals: &[SignalDeclaration],
    ) -> Result<Declared, Status> {
        if signals.len() > SIGNALS_MAX {
            let description = format!("has {} signals, expected at most {SIGNALS_MAX}", signals.len());
            return Err(status::invalid("signals", "TOO_MANY_SIGNALS", description));
        }
        let mut declared = Declared { signals: Vec::with_capacity(signals.len()) };
        let mut fields = HashMap::with_capacity(signals.len());
        for (index, SignalDeclaration { id, name, unit }) in signals.iter().enumerate() {
            let field = || format!("signals[{index}].id");
            if *id > SIGNAL_ID_MAX {
                let description = format!("is {id}, expected 0 to {SIGNAL_ID_MAX}");
                return Err(status::invalid(&field(), "OUT_OF_RANGE", description));
            }
            let binding = catalogue.bind(naming, name, unit);
            let binding = binding.map_err(|error| UnknownSignal { name: excerpt(name), message: error.to_string() });
            if fields.insert(*id, index).is_some() {
                return Err(status::invalid(&field(), "DUPLICATE", format!("is {id}, which is declared before")));
            }
            declared.signals.push((*id, binding));
        }
        declared.signals.sort_unstable_by_key(|(id, _)| *id);
        Ok(declared)
    }

    /// What was declared and cannot be taken, to be told at once.
    pub(super) fn refused(&self) -> impl Iterator<Item = Reject> {
        let refused = self.signals.iter().filter_map(|(_, binding)| binding.as_ref().err());
        refused.map(|unknown| unknown.reject(None, 0))
    }

    /// Readings of a columnar batch.
    pub(super) fn decode(&self, catalogue: &Catalogue, batch: Batch) -> Decoded {
        let Batch { first_time, time_deltas_us, columns, .. } = batch;
        let columns = columns.into_iter().map(|column| Ok((column.signal_id, Values::from(column.values))));
        let Ok(decoded) = self.readings::<Infallible>(catalogue, first_time, time_deltas_us.into_iter(), columns);
        decoded
    }

    /// The same of one that was not taken apart.
    ///
    /// # Errors
    ///
    /// When it is to be taken apart after all.
    pub(super) fn decode_view(&self, catalogue: &Catalogue, batch: &BatchView<'_>) -> Result<Decoded, Unusual> {
        let columns = batch.columns.map(|column| column.map(|(id, values)| (id, numbers(values))));
        self.readings(catalogue, batch.first_time, batch.time_deltas_us, columns)
    }

    /// What was declared with an id. Batches have their columns in the order of their declaration, as a rule: `next` is the
    /// place after the one that was found before.
    fn get(&self, id: u32, next: &mut usize) -> Option<&Result<Binding, UnknownSignal>> {
        let is_next = self.signals.get(*next).is_some_and(|(declared, _)| *declared == id);
        if !is_next {
            *next = self.signals.binary_search_by_key(&id, |(declared, _)| *declared).ok()?;
        }
        let (_, binding) = self.signals.get(*next)?;
        *next += 1;
        Some(binding)
    }

    fn readings<E>(
        &self,
        catalogue: &Catalogue,
        first_time: Option<Timestamp>,
        time_deltas_us: impl ExactSizeIterator<Item = i64>,
        columns: impl ExactSizeIterator<Item = Result<(u32, Values), E>>,
    ) -> Result<Decoded, E> {
        let count = time_deltas_us.len();
        let refuse = |reason: RejectReason, message: String| {
            Ok(Decoded { readings: Readings::default(), rejects: vec![whole(reason, count, message)] })
        };
        if columns.len() > SIGNALS_MAX {
            return refuse(
                RejectReason::TooLarge,
                format!("{} columns, expected at most {SIGNALS_MAX}", columns.len()),
            );
        }
        let Some(first) = first_time.as_ref().and_then(time_us) else {
            let found = first_time.map_or_else(|| "missing".to_owned(), |time| format!("{} s", time.seconds));
            return refuse(RejectReason::ImplausibleTime, format!("first_time is {found}, expected a time"));
        };
        let mut time = first;
        let mut times_us = Vec::with_capacity(count);
        for delta in time_deltas_us {
            let Some(next) = time.checked_add(delta) else {
                return refuse(RejectReason::ImplausibleTime, format!("time_deltas_us has {delta}, beyond all time"));
            };
            time = next;
            times_us.push(time);
        }
        if count == 0 && columns.len() > 0 {
            return refuse(RejectReason::MalformedBatch, "columns without time_deltas_us".to_owned());
        }
        let readings = Readings { times_us, columns: Vec::with_capacity(columns.len()) };
        let mut decoded = Decoded { readings, rejects: Vec::new() };
        let mut next = 0;
        for column in columns {
            let (signal_id, values) = column?;
            match self.get(signal_id, &mut next) {
                Some(Ok(binding)) => decoded.column(catalogue, *binding, values),
                Some(Err(unknown)) => decoded.unknown(unknown, &values),
                None => {
                    let (name, message) = (signal_id.to_string(), format!("signal id {signal_id} was not declared"));
                    decoded.unknown(&UnknownSignal { name, message }, &values);
                }
            }
        }
        Ok(decoded)
    }
}

/// Little-endian numbers.
fn numbers(bytes: &[[u8; 4]]) -> Values {
    let number = f32::from_le_bytes;
    match *bytes {
        // What is stored piece by piece and then moved as a whole is waited for; this is the usual case of small batches.
        [only] => Values::from_buf_and_len([number(only), 0.0, 0.0, 0.0], 1),
        // A vector is filled many at a time.
        _ if bytes.len() > Values::new().inline_size() => {
            bytes.iter().copied().map(number).collect::<Vec<f32>>().into()
        }
        _ => bytes.iter().copied().map(number).collect(),
    }
}

/// Readings of a batch in rows.
pub(super) fn rows(catalogue: &Catalogue, naming: Naming, batch: &RowBatch) -> Decoded {
    let count = batch.readings.len();
    let mut decoded = Decoded::default();
    let mut places: HashMap<&str, Option<(Binding, usize)>> = HashMap::new();
    let mut columns: Vec<(Binding, Vec<f32>)> = Vec::new();
    let mut unknown: HashMap<&str, (usize, usize)> = HashMap::new();
    for (index, reading) in batch.readings.iter().enumerate() {
        let Some(time) = reading.time.as_ref().and_then(time_us) else {
            let message = format!("the time of reading {index} is missing, expected a time");
            return Decoded {
                readings: Readings::default(),
                rejects: vec![whole(RejectReason::ImplausibleTime, count, message)],
            };
        };
        decoded.readings.times_us.push(time);
        for (name, value) in &reading.values {
            let known = places.len();
            let place = places.entry(name).or_insert_with(|| {
                let binding = if known < SIGNALS_MAX { catalogue.bind(naming, name, "").ok() } else { None }?;
                columns.push((binding, vec![f32::NAN; count]));
                Some((binding, columns.len() - 1))
            });
            match place {
                Some((_, column)) => columns[*column].1[index] = *value,
                None => unknown.entry(name).or_insert((index, 0)).1 += 1,
            }
        }
    }
    for (binding, values) in columns {
        decoded.column(catalogue, binding, values.into());
    }
    let mut unknown: Vec<_> = unknown.into_iter().collect();
    unknown.sort_unstable();
    for (name, (reading, readings)) in unknown {
        let message = catalogue
            .bind(naming, name, "")
            .err()
            .map_or_else(|| format!("signal `{}` is one too many", excerpt(name)), |error| error.to_string());
        let unknown = UnknownSignal { name: excerpt(name), message };
        decoded.rejects.push(unknown.reject(Some(reading), readings));
    }
    decoded
}

/// So much of a gateway's own word as is repeated.
fn excerpt(name: &str) -> String {
    name.chars().take(EXCERPT_CHARS).collect()
}

// === impl UnknownSignal ===

impl UnknownSignal {
    fn reject(&self, reading: Option<usize>, readings: usize) -> Reject {
        let reject = Reject::new(RejectReason::UnknownSignal, readings, self.message.clone());
        Reject { signal: Some(self.name.clone()), reading, ..reject }
    }
}

/// Takes out what is implausible, of which there is something, and says so.
#[cold]
fn leave_out(signal: &Signal, values: &mut Values) -> Reject {
    let is_bad = |value: &f32| *value < signal.min || *value > signal.max;
    let first = values.iter().position(is_bad);
    let found = first.map_or(f32::NAN, |first| values[first]);
    let readings = values.iter().filter(|value| is_bad(value)).count();
    let unit: Cow<'_, str> = if signal.unit == "1" { "".into() } else { format!(" {}", signal.unit).into() };
    let message = format!("{} is {found}, expected {} to {}{unit}", signal.name, signal.min, signal.max);
    values.iter_mut().filter(|value| is_bad(value)).for_each(|value| *value = f32::NAN);
    let reject = Reject::new(RejectReason::ImplausibleValue, readings, message);
    Reject { signal: Some(signal.name.to_string()), value: Some(found), reading: first, ..reject }
}

// === impl Decoded ===

impl Decoded {
    /// Takes in a column, without what is implausible. Of another length or there twice, it is found by telemetry, which
    /// refuses the batch.
    fn column(&mut self, catalogue: &Catalogue, binding: Binding, values: Values) {
        let Some(signal) = catalogue.signal(binding.signal) else { return };
        // Where it stays: a column is not moved once more.
        self.readings.columns.push(Column { signal: binding.signal, values });
        let Some(Column { values, .. }) = self.readings.columns.last_mut() else { return };
        if !binding.is_identity() {
            values.iter_mut().for_each(|value| *value = binding.apply(*value));
        }
        // Not a number is what a reading without a value has. Without an early end, it is many values at a time.
        let is_bad = |value: &f32| *value < signal.min || *value > signal.max;
        if values.iter().fold(false, |any, value| any | is_bad(value)) {
            self.rejects.push(leave_out(signal, values));
        }
    }

    fn unknown(&mut self, unknown: &UnknownSignal, values: &[f32]) {
        let first = values.iter().position(|value| !value.is_nan());
        let readings = values.iter().filter(|value| !value.is_nan()).count();
        self.rejects.push(unknown.reject(first, readings));
    }
}

#[cfg(test)]
mod tests {
    use ev_proto::ev::telemetry::v1::{Column, StreamRequest, stream_request::Message};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    /// Declared with 7, 2 and 5, the last of which nobody knows.
    fn declared(catalogue: &Catalogue) -> Declared {
        let declaration = |(id, name, unit): (u32, &str, &str)| SignalDeclaration {
            id,
            name: name.to_owned(),
            unit: unit.to_owned(),
        };
        let signals = [(7, "Vehicle.Speed", "m/s"), (2, "Vehicle.CurrentLocation.Altitude", "m"), (5, "Oddity", "")];
        Declared::new(catalogue, Naming::Vss, &signals.map(declaration)).expect("a declaration")
    }

    proptest! {
        #[test]
        fn what_is_read_where_it_lies_is_what_is_read_of_parts(
            ids in prop::collection::vec(prop::sample::select(vec![2u32, 5, 7, 9]), 0..5),
            values in prop::collection::vec(-2_000.0f32..9_000.0, 6),
            count in 0usize..6,
        ) {
            let catalogue = Catalogue::standard();
            let declared = declared(&catalogue);
            let column = |signal_id: &u32| Column { signal_id: *signal_id, values: values[..count].to_vec() };
            let batch = Batch {
                vehicle_id: "car-1".to_owned(),
                sequence: 1,
                first_time: Some(Timestamp { seconds: 1_767_225_600, nanos: 0 }),
                time_deltas_us: vec![1_000; count],
                columns: ids.iter().map(column).collect(),
                ..Batch::default()
            };
            let message = StreamRequest { message: Some(Message::Batch(batch.clone())) }.encode_to_vec();
            let view = BatchView::of(&message).expect("the usual encoding");
            let found = declared.decode_view(&catalogue, &view).expect("usual columns");
            let expected = declared.decode(&catalogue, batch);
            // A value that was left out is not a number, and equals nothing.
            prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"));
            let known = ids.iter().filter(|id| [2, 7].contains(*id)).count();
            prop_assert_eq!(found.readings.columns.len(), if count == 0 { 0 } else { known });
        }
    }
}
