//! Cutting readings apart and putting them together.

use std::collections::BTreeMap;

use ev_domain::{Column, Readings};

use crate::Resolution;

/// Readings of a chunk that is made of small batches: one compresses nearly as well as a longer one, and a query reads
/// little that it does not want.
const CHUNK_READINGS: usize = 1024;

/// A chunk's readings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Piece {
    pub(crate) first_us: i64,
    pub(crate) last_us: i64,
    /// Days since 1970-01-01 UTC.
    pub(crate) day: i64,
    pub(crate) readings: Readings,
}

/// Times of the first and the last reading.
pub(crate) fn span_us(times_us: &[i64]) -> Option<(i64, i64)> {
    let span = |span: Option<(i64, i64)>, time: &i64| {
        let (first, last) = span.unwrap_or((*time, *time));
        Some((first.min(*time), last.max(*time)))
    };
    times_us.iter().fold(None, span)
}

/// The day of a time.
pub(crate) fn day(time_us: i64) -> i64 {
    time_us.div_euclid(Resolution::Day.span_us())
}

/// The whole, or one piece for each day.
pub(crate) fn by_day(readings: &Readings) -> Vec<Piece> {
    let Some((first_us, last_us)) = span_us(&readings.times_us) else { return Vec::new() };
    if day(first_us) == day(last_us) {
        return vec![Piece { first_us, last_us, day: day(first_us), readings: readings.clone() }];
    }
    let mut days: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (index, time) in readings.times_us.iter().enumerate() {
        days.entry(day(*time)).or_default().push(index);
    }
    days.into_values().flat_map(|indices| piece(readings, &indices)).collect()
}

/// Many small batches in order of time, in pieces of a day and of a chunk's usual size.
pub(crate) fn merge(batches: &[&Readings]) -> Vec<Piece> {
    let merged = concatenate(batches);
    let mut order: Vec<usize> = (0..merged.len()).collect();
    order.sort_by_key(|index| merged.times_us[*index]);
    let days = order.chunk_by(|one, other| day(merged.times_us[*one]) == day(merged.times_us[*other]));
    days.flat_map(|indices| indices.chunks(CHUNK_READINGS)).filter_map(|indices| piece(&merged, indices)).collect()
}

fn piece(readings: &Readings, indices: &[usize]) -> Option<Piece> {
    let readings = select(readings, indices);
    let (first_us, last_us) = span_us(&readings.times_us)?;
    Some(Piece { first_us, last_us, day: day(first_us), readings })
}

/// The readings at these places, in this order.
pub(crate) fn select(readings: &Readings, indices: &[usize]) -> Readings {
    let values = |values: &[f32]| indices.iter().map(|index| values.get(*index).copied().unwrap_or(f32::NAN)).collect();
    let column = |column: &Column| Column { signal: column.signal, values: values(&column.values) };
    Readings {
        times_us: indices.iter().filter_map(|index| readings.times_us.get(*index).copied()).collect(),
        columns: readings.columns.iter().map(column).collect(),
    }
}

/// All, one after the other, with every column that any of them has.
pub(crate) fn concatenate(batches: &[&Readings]) -> Readings {
    let count = batches.iter().map(|batch| batch.len()).sum();
    let mut times_us = Vec::with_capacity(count);
    let mut columns = BTreeMap::new();
    for batch in batches {
        for column in &batch.columns {
            let values: &mut Vec<f32> = columns.entry(column.signal).or_insert_with(|| Vec::with_capacity(count));
            values.resize(times_us.len(), f32::NAN);
            values.extend_from_slice(&column.values);
        }
        times_us.extend_from_slice(&batch.times_us);
    }
    let column = |(signal, mut values): (_, Vec<f32>)| {
        values.resize(times_us.len(), f32::NAN);
        Column { signal, values: values.into() }
    };
    let columns = columns.into_iter().map(column).collect();
    Readings { times_us, columns }
}

#[cfg(test)]
mod tests {
    use ev_domain::signals::{SPEED, STATE_OF_CHARGE};

    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn batch(signal: ev_domain::SignalId, readings: &[(i64, f32)]) -> Readings {
        let (times_us, values) = readings.iter().copied().unzip();
        Readings { times_us, columns: vec![Column { signal, values }] }
    }

    fn shown(pieces: &[Piece]) -> Vec<(i64, i64, i64, usize)> {
        pieces.iter().map(|piece| (piece.day, piece.first_us, piece.last_us, piece.readings.len())).collect()
    }

    #[test]
    fn a_piece_is_of_one_day() {
        let batch = batch(SPEED, &[(DAY - 1, 1.0), (5, 2.0), (DAY, 3.0), (-1, 4.0)]);
        let pieces = by_day(&batch);
        assert_eq!(shown(&pieces), [(-1, -1, -1, 1), (0, 5, DAY - 1, 2), (1, DAY, DAY, 1)]);
        assert_eq!(pieces[1].readings.column(SPEED), Some(&[1.0, 2.0][..]));
        assert_eq!(by_day(&Readings::default()), []);
    }

    #[test]
    fn merged_batches_are_in_order_with_all_columns() {
        let (one, two) = (batch(SPEED, &[(3, 30.0), (1, 10.0)]), batch(STATE_OF_CHARGE, &[(2, 50.0), (DAY, 49.0)]));
        let pieces = merge(&[&one, &two]);
        assert_eq!(shown(&pieces), [(0, 1, 3, 3), (1, DAY, DAY, 1)]);
        let first = &pieces[0].readings;
        assert_eq!(first.times_us, [1, 2, 3]);
        let speeds = first.column(SPEED).expect("it has speeds");
        assert!(speeds[0] == 10.0 && speeds[1].is_nan() && speeds[2] == 30.0);
        let charges = first.column(STATE_OF_CHARGE).expect("it has charges");
        assert!(charges[0].is_nan() && charges[1] == 50.0 && charges[2].is_nan());
    }
}
