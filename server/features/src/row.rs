//! The binary value of one view of one vehicle.
//!
//! Layout, big-endian so that the first 16 bytes order rows as [`Version`] does:
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | event time, microseconds since 1970, with the sign bit flipped |
//! | 8..16 | sequence |
//! | 16..24 | ingest time |
//! | 24..28 | schema id |
//! | 28 | format, 1 |
//! | 29 | zero |
//! | 30..32 | number of values, n |
//! | n | kind of each: 0 missing, 1 number, 2 flag, 3 text |
//! | 8 n | bits of each (of a text, where it begins and how long it is), and its age at the event time |
//! | | texts |
//! | 4 | CRC-32 of everything before |

use std::sync::Arc;

use ev_domain::Value;

use crate::RowError;

const FORMAT: u8 = 1;
const HEADER: usize = 32;
const CHECKSUM: usize = 4;
/// Bytes of a value: kind, bits, age.
const VALUE: usize = 9;
const NUMBER: u8 = 1;
const FLAG: u8 = 2;
const TEXT: u8 = 3;

/// Ages below this are in milliseconds, those above, less it, in seconds: 24 days exactly, 68 years roughly.
const AGE_SECONDS: u32 = 1 << 31;

/// Which of two rows of the same view and vehicle is newer: the later event, and of the same event the higher sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Time of the newest reading that was known, microseconds since 1970-01-01 UTC.
    pub event_time_us: i64,
    /// Counted up by whoever computes the row.
    pub sequence: u64,
}

/// What is known of one view of one vehicle. Cheap to clone; the bytes were checked.
#[derive(Clone, PartialEq, Eq)]
pub struct FeatureRow(Arc<[u8]>);

/// A value of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell<'a> {
    /// The value.
    pub value: Value<'a>,
    /// When the reading was made that it was last computed from, or since when it holds. Never later than it was:
    /// rounded down to a millisecond before the event time, and to a second where it is more than 24 days before.
    pub time_us: i64,
}

/// Puts a row together, value by value.
#[derive(Debug)]
pub struct RowBuilder {
    version: Version,
    ingest_time_us: i64,
    schema: u32,
    kinds: Vec<u8>,
    values: Vec<u8>,
    texts: Vec<u8>,
}

// === impl FeatureRow ===

impl std::fmt::Debug for FeatureRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cells: Vec<_> = (0..self.len()).map(|index| self.cell(index)).collect();
        f.debug_struct("FeatureRow")
            .field("version", &self.version())
            .field("ingest_time_us", &self.ingest_time_us())
            .field("schema", &self.schema())
            .field("cells", &cells)
            .finish()
    }
}

impl FeatureRow {
    /// Checks bytes that came from elsewhere.
    ///
    /// # Errors
    ///
    /// [`RowError`] for anything that [`RowBuilder`] does not make.
    pub fn decode(bytes: &[u8]) -> Result<FeatureRow, RowError> {
        let length = |expected: usize| RowError::Length { found: bytes.len(), expected };
        if bytes.len() < HEADER + CHECKSUM {
            return Err(length(HEADER + CHECKSUM));
        }
        let (content, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
        let (found, expected) = (u32_at(checksum, 0), crc32fast::hash(content));
        if found != expected {
            return Err(RowError::Checksum { found, expected });
        }
        if content[28] != FORMAT {
            return Err(RowError::Format { found: content[28], expected: FORMAT });
        }
        let row = FeatureRow(bytes.into());
        let texts = HEADER + row.len() * VALUE;
        if content.len() < texts {
            return Err(length(texts + CHECKSUM));
        }
        match (0..row.len()).find(|index| !row.is_well_formed(*index)) {
            Some(index) => Err(RowError::Value { index }),
            None => Ok(row),
        }
    }

    /// The row's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What orders it among rows of the same view and vehicle.
    #[must_use]
    pub fn version(&self) -> Version {
        let event_time_us = (u64_at(&self.0, 0) ^ (1 << 63)).cast_signed();
        Version { event_time_us, sequence: u64_at(&self.0, 8) }
    }

    /// When it was computed, microseconds since 1970-01-01 UTC by the server's clock.
    #[must_use]
    pub fn ingest_time_us(&self) -> i64 {
        u64_at(&self.0, 16).cast_signed()
    }

    /// Which features it holds in which order: [`crate::View::schema`].
    #[must_use]
    pub fn schema(&self) -> u32 {
        u32_at(&self.0, 24)
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(u16::from_be_bytes([self.0[30], self.0[31]]))
    }

    /// Whether it has no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A value; none where it is missing, or beyond the end.
    #[must_use]
    pub fn cell(&self, index: usize) -> Option<Cell<'_>> {
        let (kind, bits, age) = self.raw(index)?;
        let value = match kind {
            NUMBER => Value::Number(f32::from_bits(bits)),
            FLAG => Value::Flag(bits != 0),
            TEXT => Value::Text(self.text(bits)?),
            _ => return None,
        };
        let age_us = if age < AGE_SECONDS { i64::from(age) * 1000 } else { i64::from(age - AGE_SECONDS) * 1_000_000 };
        Some(Cell { value, time_us: self.version().event_time_us.saturating_sub(age_us) })
    }

    fn raw(&self, index: usize) -> Option<(u8, u32, u32)> {
        let count = self.len();
        if index >= count {
            return None;
        }
        let at = HEADER + count + index * 8;
        Some((self.0[HEADER + index], u32_at(&self.0, at), u32_at(&self.0, at + 4)))
    }

    /// The text of which `bits` say where it begins among the texts, and how long it is.
    fn text(&self, bits: u32) -> Option<&str> {
        let [a, b, c, d] = bits.to_be_bytes();
        let (start, length) = (usize::from(u16::from_be_bytes([a, b])), usize::from(u16::from_be_bytes([c, d])));
        let texts = self.0.get(HEADER + self.len() * VALUE..self.0.len() - CHECKSUM)?;
        str::from_utf8(texts.get(start..start + length)?).ok()
    }

    fn is_well_formed(&self, index: usize) -> bool {
        match self.raw(index) {
            Some((0, 0, 0)) => true,
            Some((NUMBER, bits, _)) => f32::from_bits(bits).is_finite(),
            Some((FLAG, bits, _)) => bits <= 1,
            Some((TEXT, bits, _)) => self.text(bits).is_some(),
            _ => false,
        }
    }
}

// === impl RowBuilder ===

impl RowBuilder {
    /// A row without values.
    #[must_use]
    pub fn new(schema: u32, version: Version, ingest_time_us: i64) -> RowBuilder {
        RowBuilder { version, ingest_time_us, schema, kinds: Vec::new(), values: Vec::new(), texts: Vec::new() }
    }

    /// The next value. Numbers that are not finite, and texts beyond 64 KiB together, are missing.
    pub fn push(&mut self, cell: Option<Cell<'_>>) {
        let stored = cell.and_then(|cell| {
            let (kind, bits) = match cell.value {
                Value::Number(number) => (NUMBER, number.is_finite().then(|| number.to_bits())?),
                Value::Flag(flag) => (FLAG, u32::from(flag)),
                Value::Text(text) => (TEXT, self.push_text(text)?),
            };
            Some((kind, bits, age(self.version.event_time_us.saturating_sub(cell.time_us))))
        });
        let (kind, bits, age) = stored.unwrap_or((0, 0, 0));
        self.kinds.push(kind);
        self.values.extend_from_slice(&bits.to_be_bytes());
        self.values.extend_from_slice(&age.to_be_bytes());
    }

    /// The row. Values beyond the 65,535th are left out.
    #[must_use]
    pub fn finish(self) -> FeatureRow {
        let count = u16::try_from(self.kinds.len()).unwrap_or(u16::MAX);
        let kept = usize::from(count);
        let mut bytes = Vec::with_capacity(HEADER + kept * VALUE + self.texts.len() + CHECKSUM);
        bytes.extend_from_slice(&self.version.order_bytes());
        bytes.extend_from_slice(&self.ingest_time_us.to_be_bytes());
        bytes.extend_from_slice(&self.schema.to_be_bytes());
        bytes.extend_from_slice(&[FORMAT, 0]);
        bytes.extend_from_slice(&count.to_be_bytes());
        bytes.extend_from_slice(&self.kinds[..kept]);
        bytes.extend_from_slice(&self.values[..kept * 8]);
        bytes.extend_from_slice(&self.texts);
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_be_bytes());
        FeatureRow(bytes.into())
    }

    fn push_text(&mut self, text: &str) -> Option<u32> {
        let start = u16::try_from(self.texts.len()).ok()?;
        let length = u16::try_from(text.len()).ok()?;
        start.checked_add(length)?;
        self.texts.extend_from_slice(text.as_bytes());
        Some(u32::from(start) << 16 | u32::from(length))
    }
}

// === impl Version ===

impl Version {
    /// Bytes that compare as versions do.
    #[must_use]
    pub fn order_bytes(self) -> [u8; 16] {
        let event = u128::from(self.event_time_us.cast_unsigned() ^ (1 << 63));
        (event << 64 | u128::from(self.sequence)).to_be_bytes()
    }
}

/// Rounded up, so that nothing looks younger than it is.
fn age(age_us: i64) -> u32 {
    let age_us = age_us.max(0).cast_unsigned();
    match u32::try_from(age_us.div_ceil(1000)) {
        Ok(milliseconds) if milliseconds < AGE_SECONDS => milliseconds,
        _ => {
            let seconds = u32::try_from(age_us.div_ceil(1_000_000)).unwrap_or(u32::MAX);
            AGE_SECONDS + seconds.min(AGE_SECONDS - 1)
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> FeatureRow {
        let mut builder = RowBuilder::new(7, Version { event_time_us: 5_000_000, sequence: 3 }, 6_000_000);
        builder.push(Some(Cell { value: Value::Number(3.5), time_us: 4_000_000 }));
        builder.push(None);
        builder.push(Some(Cell { value: Value::Text("nmc"), time_us: 5_000_000 }));
        builder.push(Some(Cell { value: Value::Flag(true), time_us: 5_000_000 }));
        builder.push(Some(Cell { value: Value::Number(f32::NAN), time_us: 5_000_000 }));
        builder.push(Some(Cell { value: Value::Text("é"), time_us: 1 }));
        builder.finish()
    }

    #[test]
    fn a_row_comes_back_as_it_was() {
        let row = FeatureRow::decode(sample().as_bytes()).unwrap();
        assert_eq!(row, sample());
        assert_eq!(row.version(), Version { event_time_us: 5_000_000, sequence: 3 });
        assert_eq!((row.ingest_time_us(), row.schema(), row.len()), (6_000_000, 7, 6));
        let values: Vec<_> = (0..7).map(|index| row.cell(index).map(|cell| cell.value)).collect();
        assert_eq!(
            values,
            [
                Some(Value::Number(3.5)),
                None,
                Some(Value::Text("nmc")),
                Some(Value::Flag(true)),
                None,
                Some(Value::Text("é")),
                None
            ]
        );
        assert_eq!(row.cell(0).map(|cell| cell.time_us), Some(4_000_000));
        assert_eq!(row.cell(5).map(|cell| cell.time_us), Some(0), "rounded to the older side");
    }

    #[test]
    fn every_flipped_bit_and_every_other_length_is_an_error() {
        let bytes = sample().as_bytes().to_vec();
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            FeatureRow::decode(&flipped).unwrap_err();
        }
        for length in 0..bytes.len() {
            FeatureRow::decode(&bytes[..length]).unwrap_err();
        }
        FeatureRow::decode(&[&bytes[..], &[0]].concat()).unwrap_err();
    }

    proptest! {
        #[test]
        fn hostile_bytes_with_a_right_checksum_do_no_harm(content: Vec<u8>, format: bool) {
            let mut content = content;
            if format && content.len() > 28 {
                content[28] = FORMAT;
            }
            content.extend_from_slice(&crc32fast::hash(&content).to_be_bytes());
            if let Ok(row) = FeatureRow::decode(&content) {
                (0..=row.len()).for_each(|index| drop(row.cell(index).map(|cell| format!("{cell:?}"))));
            }
        }

        #[test]
        fn ages_are_never_understated(event in -(1i64 << 60)..(1 << 60), before in 0i64..(1 << 60)) {
            let mut builder = RowBuilder::new(0, Version { event_time_us: event, sequence: 0 }, 0);
            builder.push(Some(Cell { value: Value::Flag(false), time_us: event.saturating_sub(before) }));
            let time_us = builder.finish().cell(0).unwrap().time_us;
            let years = 60 * 365 * 86_400_000_000i64;
            if before < years {
                prop_assert!(time_us <= event.saturating_sub(before));
                prop_assert!(time_us >= event.saturating_sub(before) - 1_000_000);
            } else {
                prop_assert!(time_us <= event - years);
            }
        }

        #[test]
        fn bytes_order_as_versions_do(a: (i64, u64), b: (i64, u64)) {
            let version = |(event_time_us, sequence)| Version { event_time_us, sequence };
            let (a, b) = (version(a), version(b));
            prop_assert_eq!(a.cmp(&b), a.order_bytes().cmp(&b.order_bytes()));
        }
    }
}
