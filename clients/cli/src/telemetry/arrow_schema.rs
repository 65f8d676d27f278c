//! The Arrow schema of an export, as it is kept in the footer of a Parquet file.
//!
//! Parquet's own schema has no place for a unit. Readers that know Arrow (pyarrow, pandas, polars, DuckDB) look for the
//! key `ARROW:schema`, and find there what each field is called, of which type it is, and its metadata: a flatbuffer as
//! of Arrow's `Message.fbs` and `Schema.fbs`. It is written by hand, because the crates that do it are far larger than
//! all else that an export needs.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flatbuffers::{FlatBufferBuilder, TableFinishedWIPOffset, VOffsetT, WIPOffset};

/// Under which readers look for it.
pub(super) const KEY: &str = "ARROW:schema";
/// The key of a unit in a field's metadata.
const UNIT: &str = "unit";

/// `MetadataVersion.V5`.
const VERSION: i16 = 4;
/// `MessageHeader.Schema`.
const HEADER_SCHEMA: u8 = 1;
/// `Type.FloatingPoint`, `Precision.SINGLE`.
const TYPE_FLOATING_POINT: u8 = 3;
const SINGLE: i16 = 1;
/// `Type.Timestamp`, `TimeUnit.MICROSECOND`.
const TYPE_TIMESTAMP: u8 = 10;
const MICROSECOND: i16 = 2;
/// Before the length of an encapsulated message.
const CONTINUATION: [u8; 4] = [0xFF; 4];

/// The place of a table's field, counted from 0 in the order of its schema.
const fn slot(field: VOffsetT) -> VOffsetT {
    4 + 2 * field
}

type Table = WIPOffset<TableFinishedWIPOffset>;

/// A `time` of microseconds in UTC, and nullable floats with their units, as the value of [`KEY`].
pub(super) fn encode(columns: &[(String, String)]) -> String {
    let mut builder = FlatBufferBuilder::new();
    let mut fields = vec![time(&mut builder)];
    fields.extend(columns.iter().map(|(name, unit)| float(&mut builder, name, unit)));
    let fields = builder.create_vector(&fields);

    let table = builder.start_table();
    builder.push_slot_always(slot(1), fields);
    let schema = builder.end_table(table);

    let table = builder.start_table();
    builder.push_slot_always(slot(0), VERSION);
    builder.push_slot_always(slot(1), HEADER_SCHEMA);
    builder.push_slot_always(slot(2), schema);
    let message = builder.end_table(table);
    builder.finish_minimal(message);

    let data = builder.finished_data();
    // The message fills whole eights, with what is before it.
    let padded = data.len().next_multiple_of(8);
    let length = i32::try_from(padded).unwrap_or(i32::MAX);
    let mut bytes = [&CONTINUATION[..], &length.to_le_bytes(), data].concat();
    bytes.resize(CONTINUATION.len() + 4 + padded, 0);
    BASE64_STANDARD.encode(bytes)
}

fn time(builder: &mut FlatBufferBuilder<'_>) -> Table {
    let zone = builder.create_string("UTC");
    let table = builder.start_table();
    builder.push_slot_always(slot(0), MICROSECOND);
    builder.push_slot_always(slot(1), zone);
    let timestamp = builder.end_table(table);
    let field = Field { name: "time", nullable: false, kind: TYPE_TIMESTAMP, unit: "" };
    field.table(builder, timestamp)
}

fn float(builder: &mut FlatBufferBuilder<'_>, name: &str, unit: &str) -> Table {
    let table = builder.start_table();
    builder.push_slot_always(slot(0), SINGLE);
    let floating_point = builder.end_table(table);
    Field { name, nullable: true, kind: TYPE_FLOATING_POINT, unit }.table(builder, floating_point)
}

/// A column.
struct Field<'a> {
    name: &'a str,
    nullable: bool,
    kind: u8,
    /// Empty for none.
    unit: &'a str,
}

// === impl Field ===

impl Field<'_> {
    fn table(&self, builder: &mut FlatBufferBuilder<'_>, kind: Table) -> Table {
        let name = builder.create_string(self.name);
        // Readers insist on the list of a field's fields, even where there are none.
        let children = builder.create_vector::<Table>(&[]);
        let metadata = (!self.unit.is_empty()).then(|| {
            let (key, value) = (builder.create_string(UNIT), builder.create_string(self.unit));
            let table = builder.start_table();
            builder.push_slot_always(slot(0), key);
            builder.push_slot_always(slot(1), value);
            let unit = builder.end_table(table);
            builder.create_vector(&[unit])
        });
        let table = builder.start_table();
        builder.push_slot_always(slot(0), name);
        builder.push_slot_always(slot(1), self.nullable);
        builder.push_slot_always(slot(2), self.kind);
        builder.push_slot_always(slot(3), kind);
        builder.push_slot_always(slot(5), children);
        if let Some(metadata) = metadata {
            builder.push_slot_always(slot(6), metadata);
        }
        builder.end_table(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_the_one_that_pyarrow_has_read() {
        // pyarrow 26 shows of it: `time: timestamp[us, tz=UTC] not null`, and `Vehicle.Speed: float` with the
        // metadata `unit: km/h`.
        let expected = "\
             /////xABAAAQAAAAAAAKAAwACgAJAAQACgAAABAAAAAAAQQACAAIAAAABAAIAAAABAAAAAIAAACcAAAAGAAAAAAAEgAYABQA\
             EwASAAwAAAAIAAQAEgAAABQAAABEAAAAXAAAAAAAAwE8AAAAAQAAAAwAAAAIAAwACAAEAAgAAAAIAAAAEAAAAAQAAABrbS9o\
             AAAAAAQAAAB1bml0AAAAAAAAAAANAAAAVmVoaWNsZS5TcGVlZAAGAAgABgAGAAAAAAABABAAFAAQAA8ADgAIAAAABAAQAAAA\
             EAAAACQAAAAAAAoACAAAAAAAAAAEAAAAdGltZQAAAAAIAAwACgAEAAgAAAAIAAAAAAACAAMAAABVVEMAAAAAAA==";
        assert_eq!(encode(&[("Vehicle.Speed".to_owned(), "km/h".to_owned())]), expected);
    }
}
