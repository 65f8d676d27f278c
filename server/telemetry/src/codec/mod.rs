//! Readings as bytes: columns of differences, split by byte place, compressed with zstd at level 1.
//!
//! Times are differences of differences, values are xored with the one before; of both, first come all lowest bytes,
//! then the next. What changes slowly becomes runs of zeros. On fleet-like data of eight signals that is 6 bytes a
//! reading, where plain values are 40. Values come back bit for bit, NaN included.
//!
//! Nothing here trusts bytes: every length is checked before memory is taken for it, and zstd's checksum tells bytes
//! that a disk has changed.

pub(crate) mod bytes;
mod columns;
mod compress;
mod dictionary;
mod journal;

pub(crate) use columns::{StoredReadings, put_readings, take_readings};
pub(crate) use columns::{put_f32s, put_f64s, put_u64s, take_f32s, take_f64s, take_u64s};
pub(crate) use compress::{Packer, unpack};
pub(crate) use dictionary::Dictionary;
pub(crate) use journal::{Entry, Payload, put_entry, take_entries};

use ev_domain::Readings;

use crate::TelemetryError;

/// Most readings of a chunk.
pub(crate) const CHUNK_READINGS_MAX: usize = 65_536;
/// Most columns of a chunk: as many as there are signal ids.
pub(crate) const COLUMNS_MAX: usize = 65_536;

/// Packs readings into a chunk.
pub(crate) fn encode_chunk(
    packer: &mut Packer,
    readings: &Readings,
    dictionary: &Dictionary,
) -> Result<Vec<u8>, TelemetryError> {
    packer.pack(|raw| put_readings(raw, readings, dictionary)).map_err(TelemetryError::invalid_batch)
}

/// The readings of a chunk.
pub(crate) fn decode_chunk(chunk: &[u8]) -> Result<StoredReadings, TelemetryError> {
    let decode = || -> Result<StoredReadings, &'static str> {
        let raw = unpack(chunk)?;
        let mut input = bytes::Input::new(&raw);
        let readings = take_readings(&mut input)?;
        input.end()?;
        Ok(readings)
    };
    decode().map_err(|problem| TelemetryError::malformed("a chunk of readings", problem))
}

#[cfg(test)]
mod tests {
    use ev_domain::{Catalogue, Column};
    use proptest::prelude::*;

    use super::*;

    fn readings() -> impl Strategy<Value = Readings> {
        let time = prop_oneof![any::<i64>(), 0i64..1_000_000, Just(1_767_225_600_000_000)];
        let value = prop_oneof![any::<f32>(), Just(f32::NAN), any::<u32>().prop_map(f32::from_bits), 0f32..100.0];
        (0usize..80, prop::sample::subsequence((0usize..15).collect::<Vec<_>>(), 0..15)).prop_flat_map(
            move |(count, signals)| {
                let columns = prop::collection::vec(prop::collection::vec(value.clone(), count), signals.len());
                (prop::collection::vec(time.clone(), count), columns).prop_map(move |(times_us, columns)| {
                    let ids: Vec<_> = Catalogue::standard().iter().map(|(id, _)| id).collect();
                    let column =
                        |(index, values): (&usize, Vec<f32>)| Column { signal: ids[*index], values: values.into() };
                    Readings { times_us, columns: signals.iter().zip(columns).map(column).collect() }
                })
            },
        )
    }

    fn bits(readings: &Readings) -> (Vec<i64>, Vec<(usize, Vec<u32>)>) {
        let column = |column: &Column| (column.signal.index(), column.values.iter().map(|v| v.to_bits()).collect());
        (readings.times_us.clone(), readings.columns.iter().map(column).collect())
    }

    proptest! {
        #[test]
        fn readings_come_back_bit_for_bit(readings in readings()) {
            let dictionary = Dictionary::of(&Catalogue::standard());
            let mut packer = Packer::new().expect("a context");
            let chunk = encode_chunk(&mut packer, &readings, &dictionary).expect("it is well formed");
            let back = decode_chunk(&chunk).expect("it is its own").known(&dictionary);
            prop_assert_eq!(bits(&back), bits(&readings));
        }

        #[test]
        fn hostile_chunks_are_refused_or_readings(
            readings in readings(),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            length in any::<prop::sample::Index>(),
        ) {
            let dictionary = Dictionary::of(&Catalogue::standard());
            let mut packer = Packer::new().expect("a context");
            let mut chunk = encode_chunk(&mut packer, &readings, &dictionary).expect("it is well formed");
            for (index, byte) in flips {
                let index = index.index(chunk.len());
                chunk[index] = byte;
            }
            chunk.truncate(length.index(chunk.len() + 1));
            let _ = decode_chunk(&chunk);
        }

        #[test]
        fn hostile_columns_are_refused_or_readings(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(readings) = take_readings(&mut bytes::Input::new(&bytes)) {
                prop_assert!(readings.times_us.len() <= CHUNK_READINGS_MAX);
            }
        }
    }

    #[test]
    fn columns_of_another_length_are_refused() {
        let catalogue = Catalogue::standard();
        let dictionary = Dictionary::of(&catalogue);
        let column = Column { signal: ev_domain::signals::SPEED, values: vec![1.0].into() };
        let readings = Readings { times_us: vec![1, 2], columns: vec![column] };
        let mut packer = Packer::new().expect("a context");
        assert!(encode_chunk(&mut packer, &readings, &dictionary).is_err());
    }

    #[test]
    fn a_changed_chunk_is_told_by_its_checksum() {
        let catalogue = Catalogue::standard();
        let dictionary = Dictionary::of(&catalogue);
        let values = (0u8..200).map(f32::from).collect();
        let column = Column { signal: ev_domain::signals::SPEED, values };
        let readings = Readings { times_us: (0..200).collect(), columns: vec![column] };
        let mut packer = Packer::new().expect("a context");
        let chunk = encode_chunk(&mut packer, &readings, &dictionary).expect("it is well formed");
        for index in 0..chunk.len() {
            let mut changed = chunk.clone();
            changed[index] ^= 0x10;
            let back = decode_chunk(&changed).map(|back| back.known(&dictionary));
            assert!(back.is_err() || back.is_ok_and(|back| back == readings), "byte {index}");
        }
    }
}
