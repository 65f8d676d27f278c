//! A gateway's messages as they come: batches in the usual encoding are read where they lie, everything else by prost.
//!
//! A message of one reading is made of a dozen parts. To build each, only to take the readings out of them and to let go
//! of the rest, costs more than all else that is done to receive it.

use bytes::Bytes;
use ev_proto::ev::telemetry::v1::StreamRequest;
use prost_types::Timestamp;
use tonic::Status;

/// A `StreamRequest` with a `Batch`, each field of which is there once at most, in the order of its number.
///
/// What is in it was looked through, but for what is in its columns: it is what prost finds in the same bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BatchView<'a> {
    pub(super) vehicle_id: &'a str,
    pub(super) sequence: u64,
    pub(super) first_time: Option<Timestamp>,
    pub(super) time_deltas_us: Deltas<'a>,
    pub(super) columns: Columns<'a>,
}

/// Packed `sint64`s that can all be read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Deltas<'a> {
    left: &'a [u8],
    count: usize,
}

/// Columns, all of them to the end. What is in each is looked through when it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Columns<'a> {
    left: &'a [u8],
    count: usize,
}

/// A column that is to be read by prost, and with it all of its message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Unusual;

/// Length-delimited and varint fields by their keys.
mod key {
    const fn varint(field: u8) -> u8 {
        field << 3
    }
    const fn delimited(field: u8) -> u8 {
        field << 3 | 2
    }
    pub(super) const REQUEST_BATCH: u8 = delimited(2);
    pub(super) const VEHICLE_ID: u8 = delimited(1);
    pub(super) const SEQUENCE: u8 = varint(2);
    pub(super) const IS_RESEND: u8 = varint(3);
    pub(super) const FIRST_TIME: u8 = delimited(4);
    pub(super) const TIME_DELTAS: u8 = delimited(5);
    pub(super) const COLUMNS: u8 = delimited(6);
    pub(super) const SIGNAL_ID: u8 = varint(1);
    pub(super) const VALUES: u8 = delimited(2);
    pub(super) const SECONDS: u8 = varint(1);
    pub(super) const NANOS: u8 = varint(2);
}

/// A message as prost reads it, and what is wrong with one that cannot be.
pub(super) fn decoded(message: Bytes) -> Result<StreamRequest, Status> {
    // As tonic says it.
    prost::Message::decode(message).map_err(|error: prost::DecodeError| Status::internal(error.to_string()))
}

// === impl BatchView ===

impl<'a> BatchView<'a> {
    /// What is in a message; none where it is to be read by prost, which also says what is wrong with it.
    pub(super) fn of(message: &'a [u8]) -> Option<BatchView<'a>> {
        let mut message = message;
        let mut batch = field(&mut message, key::REQUEST_BATCH).flatten()?;
        if !message.is_empty() {
            return None;
        }
        let vehicle_id = std::str::from_utf8(field(&mut batch, key::VEHICLE_ID)?.unwrap_or_default()).ok()?;
        let sequence = number(&mut batch, key::SEQUENCE)?.unwrap_or_default();
        number(&mut batch, key::IS_RESEND)?;
        let first_time = match field(&mut batch, key::FIRST_TIME)? {
            Some(time) => Some(timestamp(time)?),
            None => None,
        };
        let time_deltas_us = Deltas::of(field(&mut batch, key::TIME_DELTAS)?.unwrap_or_default())?;
        let columns = Columns::of(batch)?;
        Some(BatchView { vehicle_id, sequence, first_time, time_deltas_us, columns })
    }
}

// === impl Deltas ===

impl<'a> Deltas<'a> {
    fn of(packed: &'a [u8]) -> Option<Deltas<'a>> {
        Some(Deltas { left: packed, count: count(packed, varint)? })
    }
}

impl Iterator for Deltas<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        let value = varint(&mut self.left)?;
        self.count -= 1;
        // Zigzag.
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Deltas<'_> {}

// === impl Columns ===

impl<'a> Columns<'a> {
    fn of(batch: &'a [u8]) -> Option<Columns<'a>> {
        Some(Columns { left: batch, count: count(batch, |left| field(left, key::COLUMNS).flatten())? })
    }
}

impl<'a> Iterator for Columns<'a> {
    /// The signal's id, and its values in four bytes each.
    type Item = Result<(u32, &'a [[u8; 4]]), Unusual>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = field(&mut self.left, key::COLUMNS).flatten()?;
        self.count -= 1;
        Some(column(next).ok_or(Unusual))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Columns<'_> {}

// --- parts; each takes what it reads off the front, and is none where prost is to say what it is

/// How many there are to the end.
fn count<'a, T>(mut left: &'a [u8], part: impl Fn(&mut &'a [u8]) -> Option<T>) -> Option<usize> {
    let mut count = 0;
    while !left.is_empty() {
        part(&mut left)?;
        count += 1;
    }
    Some(count)
}

fn column(mut column: &[u8]) -> Option<(u32, &[[u8; 4]])> {
    let signal_id = u32::try_from(number(&mut column, key::SIGNAL_ID)?.unwrap_or_default()).ok()?;
    let (values, rest) = field(&mut column, key::VALUES)?.unwrap_or_default().as_chunks::<4>();
    (column.is_empty() && rest.is_empty()).then_some((signal_id, values))
}

fn timestamp(mut time: &[u8]) -> Option<Timestamp> {
    let seconds = number(&mut time, key::SECONDS)?.unwrap_or_default().cast_signed();
    let nanos = i32::try_from(number(&mut time, key::NANOS)?.unwrap_or_default()).ok()?;
    time.is_empty().then_some(Timestamp { seconds, nanos })
}

/// A length-delimited field, where it is the next.
fn field<'a>(left: &mut &'a [u8], key: u8) -> Option<Option<&'a [u8]>> {
    if left.first() != Some(&key) {
        return Some(None);
    }
    let mut rest = &left[1..];
    let length = usize::try_from(varint(&mut rest)?).ok()?;
    let (field, rest) = rest.split_at_checked(length)?;
    *left = rest;
    Some(Some(field))
}

/// A varint field, where it is the next.
fn number(left: &mut &[u8], key: u8) -> Option<Option<u64>> {
    if left.first() != Some(&key) {
        return Some(None);
    }
    *left = &left[1..];
    varint(left).map(Some)
}

fn varint(left: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    // A tenth byte may be wrong in ways that are prost's to judge, and is in no plausible batch but for times before 1970.
    for (place, byte) in left.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            *left = &left[place + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use ev_proto::ev::telemetry::v1::{Batch, Column, stream_request::Message};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn batch() -> impl Strategy<Value = Batch> {
        let column = (0u32..70_000, prop::collection::vec(any::<f32>(), 0..6));
        let column = column.prop_map(|(signal_id, values)| Column { signal_id, values });
        let time = (-1i64..4_000_000_000, any::<i32>()).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos });
        (
            "[a-z0-9é]{0,12}",
            any::<u64>(),
            any::<bool>(),
            prop::option::of(time),
            prop::collection::vec(any::<i64>(), 0..6),
            prop::collection::vec(column, 0..5),
        )
            .prop_map(|(vehicle_id, sequence, is_resend, first_time, time_deltas_us, columns)| Batch {
                vehicle_id,
                sequence,
                is_resend,
                first_time,
                time_deltas_us,
                columns,
            })
    }

    fn encoded(batch: Batch) -> Vec<u8> {
        StreamRequest { message: Some(Message::Batch(batch)) }.encode_to_vec()
    }

    fn agree(message: &[u8]) -> Result<bool, TestCaseError> {
        let Some(view) = BatchView::of(message) else { return Ok(false) };
        let request = StreamRequest::decode(message);
        let Ok(StreamRequest { message: Some(Message::Batch(batch)) }) = request else {
            return Err(TestCaseError::fail(format!("prost finds no batch: {request:?}")));
        };
        prop_assert_eq!((view.vehicle_id, view.sequence), (&*batch.vehicle_id, batch.sequence));
        prop_assert_eq!(view.first_time, batch.first_time);
        prop_assert_eq!(view.time_deltas_us.len(), batch.time_deltas_us.len());
        prop_assert_eq!(view.time_deltas_us.collect::<Vec<_>>(), batch.time_deltas_us);
        prop_assert_eq!(view.columns.len(), batch.columns.len());
        for (found, column) in view.columns.zip(batch.columns) {
            let Ok((id, values)) = found else { return Ok(false) };
            // Bits, since a NaN equals nothing.
            let expected: Vec<_> = column.values.into_iter().map(f32::to_le_bytes).collect();
            prop_assert_eq!((id, values), (column.signal_id, &*expected));
        }
        Ok(true)
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_prost_reads(batch in batch()) {
            agree(&encoded(batch))?;
        }

        #[test]
        fn a_plausible_batch_is_read_without_prost(mut batch in batch()) {
            batch.sequence >>= 1;
            batch.time_deltas_us.iter_mut().for_each(|delta| *delta >>= 2);
            batch.first_time.iter_mut().for_each(|time| (time.seconds, time.nanos) = (time.seconds.abs(), 7));
            prop_assert!(agree(&encoded(batch))?);
        }

        #[test]
        fn whatever_comes_it_agrees_with_prost(batch in batch(), place: prop::sample::Index, bytes: Vec<u8>, cut in 0usize..4) {
            let mut message = encoded(batch);
            let at = place.index(message.len() + 1);
            let end = (at + cut).min(message.len());
            message.splice(at..end, bytes);
            agree(&message)?;
        }
    }

    #[test]
    fn what_is_not_usual_is_left_to_prost() {
        let check = |message: &[u8]| assert_eq!(BatchView::of(message), None, "{message:?}");
        check(&[]);
        // An opening, a batch cut short, one with something behind it, fields twice, in another order, and not packed.
        check(&[0x0a, 0]);
        check(&[0x12, 2, 0x0a]);
        check(&[0x12, 0, 0x12, 0]);
        check(&[0x12, 4, 0x10, 1, 0x10, 2]);
        check(&[0x12, 5, 0x10, 1, 0x0a, 1, b'a']);
        check(&[0x12, 2, 0x28, 2]);
        assert!(BatchView::of(&[0x12, 0]).is_some(), "an empty batch");
        // A column with a field that nobody knows, and one whose values are not packed.
        for column in [&[0x18, 1][..], &[0x15, 0, 0, 0x80, 0x3f]] {
            let length = u8::try_from(column.len()).expect("a short column");
            let message = [&[0x12, length + 2, 0x32, length], column].concat();
            let batch = BatchView::of(&message).expect("a batch");
            assert_eq!(batch.columns.collect::<Vec<_>>(), [Err(Unusual)], "{message:?}");
        }
    }
}
