//! Readings as a Parquet file: a row for each, a column for each signal.

use std::{io::Write, sync::Arc};

use ev_client::proto::ev::telemetry::v1::QueryResponse;
use parquet::{
    basic::{Compression, Encoding, LogicalType, Repetition, TimeUnit, Type as PhysicalType},
    data_type::{FloatType, Int64Type},
    errors::ParquetError,
    file::{
        metadata::KeyValue,
        properties::{WriterProperties, WriterPropertiesPtr},
        writer::SerializedFileWriter,
    },
    schema::types::{ColumnPath, Type, TypePtr},
};

use super::{arrow_schema, query::Columns};
use crate::failure::Failure;

/// Most values that wait to be written, with their places: 24 MiB.
const VALUES_MAX: usize = 4 << 20;
/// Most rows of a group.
const ROWS_MAX: usize = 1 << 20;
/// The column of times.
const TIME: &str = "time";

/// A Parquet file that is being written, group by group: what waits is bounded.
pub(super) struct ParquetFile<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    columns: Columns,
    times_us: Vec<i64>,
    /// Of each column, the values there are, and of each row whether there is one.
    values: Vec<(Vec<f32>, Vec<i16>)>,
    rows_max: usize,
}

// === impl ParquetFile ===

impl<W: Write + Send> ParquetFile<W> {
    pub(super) fn new(out: W, vehicle: &str, columns: Columns) -> Result<ParquetFile<W>, Failure> {
        let writer = SerializedFileWriter::new(out, schema(&columns).map_err(failed)?, properties(vehicle, &columns));
        Ok(ParquetFile {
            writer: writer.map_err(failed)?,
            times_us: Vec::new(),
            values: vec![(Vec::new(), Vec::new()); columns.len()],
            rows_max: (VALUES_MAX / (columns.len() + 1)).clamp(1, ROWS_MAX),
            columns,
        })
    }

    /// Adds the readings of a page.
    pub(super) fn push(&mut self, page: &QueryResponse) -> Result<(), Failure> {
        for ((signal, _), (values, levels)) in self.columns.iter().zip(&mut self.values) {
            let column = page.columns.iter().find(|column| column.signal == *signal);
            let found = column.map_or(&[][..], |column| &column.values);
            for row in 0..page.times_us.len() {
                let value = found.get(row).filter(|value| !value.is_nan());
                levels.push(i16::from(value.is_some()));
                values.extend(value);
            }
        }
        self.times_us.extend_from_slice(&page.times_us);
        if self.times_us.len() >= self.rows_max { self.write_group() } else { Ok(()) }
    }

    fn write_group(&mut self) -> Result<(), Failure> {
        if self.times_us.is_empty() {
            return Ok(());
        }
        let ParquetFile { writer, times_us, values, .. } = self;
        let mut write = || -> Result<(), ParquetError> {
            let mut group = writer.next_row_group()?;
            if let Some(mut column) = group.next_column()? {
                column.typed::<Int64Type>().write_batch(times_us, None, None)?;
                column.close()?;
            }
            for (values, levels) in values.iter() {
                let Some(mut column) = group.next_column()? else { break };
                column.typed::<FloatType>().write_batch(values, Some(levels), None)?;
                column.close()?;
            }
            group.close().map(drop)
        };
        write().map_err(failed)?;
        times_us.clear();
        values.iter_mut().for_each(|(values, levels)| {
            values.clear();
            levels.clear();
        });
        Ok(())
    }

    /// Writes what waits, and the footer: before that it is no Parquet file.
    pub(super) fn finish(mut self) -> Result<W, Failure> {
        self.write_group()?;
        self.writer.into_inner().map_err(failed)
    }
}

fn schema(columns: &Columns) -> Result<TypePtr, ParquetError> {
    let time = Type::primitive_type_builder(TIME, PhysicalType::INT64)
        .with_repetition(Repetition::REQUIRED)
        .with_logical_type(Some(LogicalType::timestamp(true, TimeUnit::MICROS)))
        .build()?;
    let mut fields = vec![Arc::new(time)];
    for (signal, _) in columns {
        let field = Type::primitive_type_builder(signal, PhysicalType::FLOAT).with_repetition(Repetition::OPTIONAL);
        fields.push(Arc::new(field.build()?));
    }
    Type::group_type_builder("readings").with_fields(fields).build().map(Arc::new)
}

fn properties(vehicle: &str, columns: &Columns) -> WriterPropertiesPtr {
    let time = || ColumnPath::from(TIME);
    let facts = vec![
        KeyValue::new(arrow_schema::KEY.to_owned(), arrow_schema::encode(columns)),
        KeyValue::new("vehicle_id".to_owned(), vehicle.to_owned()),
    ];
    let properties = WriterProperties::builder()
        .set_created_by(format!("evctl version {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::SNAPPY)
        // Times are all different, and mostly as far apart.
        .set_column_dictionary_enabled(time(), false)
        .set_column_encoding(time(), Encoding::DELTA_BINARY_PACKED)
        .set_key_value_metadata(Some(facts));
    Arc::new(properties.build())
}

fn failed(error: ParquetError) -> Failure {
    Failure::Output(match error {
        ParquetError::External(error) => match error.downcast::<std::io::Error>() {
            Ok(error) => *error,
            Err(error) => std::io::Error::other(error),
        },
        error => std::io::Error::other(error),
    })
}

#[cfg(test)]
mod tests {
    use ev_client::proto::ev::telemetry::v1::SignalColumn;
    use parquet::{
        file::reader::{FileReader as _, SerializedFileReader},
        record::Field,
    };

    use super::*;

    fn page(times_us: &[i64], columns: &[(&str, &[f32])]) -> QueryResponse {
        let column = |(signal, values): &(&str, &[f32])| SignalColumn {
            signal: (*signal).to_owned(),
            unit: String::new(),
            values: values.to_vec(),
        };
        let columns = columns.iter().map(column).collect();
        QueryResponse { times_us: times_us.to_vec(), columns, next_page_token: String::new() }
    }

    #[test]
    fn what_is_written_is_read_in_groups_of_bounded_size() {
        let columns = [("Vehicle.Speed", "km/h"), ("Vehicle.Doors.IsOpen", "")];
        let columns: Columns = columns.map(|(name, unit)| (name.to_owned(), unit.to_owned())).into();
        let mut file = ParquetFile::new(Vec::new(), "car-1", columns).expect("begun");
        file.rows_max = 3;
        // The second page does not have the second signal; the third has it alone.
        let pages = [
            page(&[1, 2], &[("Vehicle.Speed", &[1.5, f32::NAN]), ("Vehicle.Doors.IsOpen", &[f32::NAN, 1.0])]),
            page(&[3, 4], &[("Vehicle.Speed", &[3.5, -4.5])]),
            page(&[4], &[("Vehicle.Doors.IsOpen", &[0.0])]),
        ];
        for page in &pages {
            file.push(page).expect("taken");
            assert!(file.times_us.len() < 3);
        }
        let reader = SerializedFileReader::new(bytes::Bytes::from(file.finish().expect("whole"))).expect("Parquet");
        let metadata = reader.metadata();
        assert_eq!(metadata.row_groups().iter().map(|group| group.num_rows()).collect::<Vec<_>>(), [4, 1]);
        let facts = metadata.file_metadata().key_value_metadata().expect("facts");
        assert!(facts.iter().any(|fact| fact.key == "vehicle_id" && fact.value.as_deref() == Some("car-1")));
        let rows = reader.get_row_iter(None).expect("rows").map(|row| {
            let row = row.expect("a row");
            row.get_column_iter().map(|(_, field)| field.clone()).collect::<Vec<_>>()
        });
        let (time, value) = (Field::TimestampMicros, Field::Float);
        assert_eq!(
            rows.collect::<Vec<_>>(),
            [
                vec![time(1), value(1.5), Field::Null],
                vec![time(2), Field::Null, value(1.0)],
                vec![time(3), value(3.5), Field::Null],
                vec![time(4), value(-4.5), Field::Null],
                vec![time(4), Field::Null, value(0.0)],
            ]
        );
    }

    #[test]
    fn a_file_without_rows_is_one() {
        let file = ParquetFile::new(Vec::new(), "car-1", Vec::new()).expect("begun").finish().expect("whole");
        let reader = SerializedFileReader::new(bytes::Bytes::from(file)).expect("Parquet");
        assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
    }
}
