//! What a commit brought: which batches, and the readings of the small ones.

use ev_domain::Readings;

use super::{
    Dictionary, StoredReadings,
    bytes::{Input, put_signed, put_varint},
    columns::{put_readings, take_readings},
};

/// Most entries of a commit.
const ENTRIES_MAX: usize = 1 << 20;

const INLINE: u8 = 0;
const CHUNKS: u8 = 1;

/// A batch of a commit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry<R> {
    /// The store's numbers for the vehicle and the source.
    pub(crate) vehicle: i64,
    pub(crate) source: i64,
    pub(crate) sequence: u64,
    pub(crate) payload: Payload<R>,
}

/// Where its readings are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Payload<R> {
    /// Here.
    Inline(R),
    /// In chunks of their own, with these ids.
    Chunks { ids: Vec<i64>, readings: u64, first_us: i64, last_us: i64 },
}

pub(crate) fn put_entry(
    out: &mut Vec<u8>,
    entry: &Entry<&Readings>,
    dictionary: &Dictionary,
) -> Result<(), &'static str> {
    put_signed(out, entry.vehicle);
    put_signed(out, entry.source);
    put_varint(out, entry.sequence);
    match &entry.payload {
        Payload::Inline(readings) => {
            out.push(INLINE);
            put_readings(out, readings, dictionary)
        }
        Payload::Chunks { ids, readings, first_us, last_us } => {
            out.push(CHUNKS);
            put_varint(out, *readings);
            put_signed(out, *first_us);
            put_signed(out, *last_us);
            put_varint(out, ids.len() as u64);
            ids.iter().for_each(|id| put_signed(out, *id));
            Ok(())
        }
    }
}

/// All entries of a commit.
pub(crate) fn take_entries(raw: &[u8]) -> Result<Vec<Entry<StoredReadings>>, &'static str> {
    let mut input = Input::new(raw);
    let mut entries = Vec::new();
    while input.left() > 0 {
        if entries.len() == ENTRIES_MAX {
            return Err("more entries than a commit has");
        }
        entries.push(take_entry(&mut input)?);
    }
    Ok(entries)
}

fn take_entry(input: &mut Input<'_>) -> Result<Entry<StoredReadings>, &'static str> {
    let (vehicle, source, sequence) = (input.signed()?, input.signed()?, input.varint()?);
    let payload = match input.byte()? {
        INLINE => Payload::Inline(take_readings(input)?),
        CHUNKS => {
            let (readings, first_us, last_us) = (input.varint()?, input.signed()?, input.signed()?);
            let count = input.count(input.left())?;
            let ids = (0..count).map(|_| input.signed()).collect::<Result<_, _>>()?;
            Payload::Chunks { ids, readings, first_us, last_us }
        }
        _ => return Err("an entry of an unknown kind"),
    };
    Ok(Entry { vehicle, source, sequence, payload })
}
