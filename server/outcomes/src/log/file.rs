//! Predictions as a Parquet file: a row for each, a column for each input and each number of the answer.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use parquet::{
    basic::{Compression, LogicalType, Repetition, TimeUnit, Type as PhysicalType},
    data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, FloatType, Int32Type, Int64Type},
    errors::ParquetError,
    file::{
        properties::{WriterProperties, WriterPropertiesPtr},
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::types::{ColumnPath, Type, TypePtr},
};

use super::retention::{PARTIAL, WHOLE};
use crate::{
    error::{OutcomesError, io},
    prediction::{InputKind, Output, Prediction, Value, Version},
};

/// A file that is being written, under a name that says so.
pub(super) struct ParquetFile {
    writer: SerializedFileWriter<fs_err::File>,
    version: Arc<Version>,
    partial: Partial,
    whole: PathBuf,
}

/// A file that goes when it does not come to its name.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // Where it has its name, there is none.
        let _ = fs_err::remove_file(&self.0);
    }
}

/// Longest part of a file's name that comes from a model's.
const NAME_BYTES_MAX: usize = 100;
const DOING: &str = "write a file of predictions";

// === impl ParquetFile ===

impl ParquetFile {
    /// Begins a file, whose name comes from the version and its first prediction.
    pub(super) fn create(
        directory: &Path,
        version: &Arc<Version>,
        since_us: i64,
        number: i64,
    ) -> Result<ParquetFile, OutcomesError> {
        let directory = directory.join(directory_name(&version.model));
        fs_err::create_dir_all(&directory).map_err(io(DOING))?;
        let name = format!("v{}-since-{}-{number}", version.version, since_us.div_euclid(1_000_000));
        let partial = Partial(directory.join(format!("{name}.{PARTIAL}")));
        let file = fs_err::File::create(&partial.0).map_err(io(DOING))?;
        let begun = schema(version).and_then(|schema| SerializedFileWriter::new(file, schema, properties()));
        let writer = begun.map_err(failed)?;
        let whole = directory.join(format!("{name}.{WHOLE}"));
        Ok(ParquetFile { writer, version: Arc::clone(version), partial, whole })
    }

    /// Adds rows, as a group of their own.
    pub(super) fn write(&mut self, rows: &[Prediction]) -> Result<(), OutcomesError> {
        if rows.is_empty() {
            return Ok(());
        }
        let ParquetFile { writer, version, .. } = self;
        group(writer, version, rows).map_err(failed)
    }

    /// Ends it, and gives it its name when it is safe. Says its size.
    pub(super) fn finish(self) -> Result<(PathBuf, u64), OutcomesError> {
        let ParquetFile { writer, partial, whole, .. } = self;
        let file = writer.into_inner().map_err(failed)?;
        file.sync_all().map_err(io(DOING))?;
        let bytes = file.metadata().map_err(io(DOING))?.len();
        drop(file);
        fs_err::rename(&partial.0, &whole).map_err(io(DOING))?;
        if let Some(directory) = whole.parent() {
            fs_err::File::open(directory).and_then(|directory| directory.sync_all()).map_err(io(DOING))?;
        }
        Ok((whole, bytes))
    }
}

/// A model's name as a directory's. Names that differ only in what is replaced share one; their files say which.
fn directory_name(model: &str) -> String {
    let safe = |it: char| if it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.') { it } else { '_' };
    let name: String = model.chars().map(safe).take(NAME_BYTES_MAX).collect();
    if name.chars().all(|it| it == '.') { format!("_{name}") } else { name }
}

fn schema(version: &Version) -> Result<TypePtr, ParquetError> {
    let text = |name: &str, repetition| {
        Type::primitive_type_builder(name, PhysicalType::BYTE_ARRAY)
            .with_repetition(repetition)
            .with_logical_type(Some(LogicalType::String))
            .build()
    };
    let plain =
        |name: &str, kind, repetition| Type::primitive_type_builder(name, kind).with_repetition(repetition).build();
    let (required, optional) = (Repetition::REQUIRED, Repetition::OPTIONAL);
    let time = Type::primitive_type_builder("time", PhysicalType::INT64)
        .with_repetition(required)
        .with_logical_type(Some(LogicalType::timestamp(true, TimeUnit::MICROS)))
        .build()?;
    let mut fields = vec![
        text("prediction_id", required)?,
        time,
        text("model", required)?,
        plain("version", PhysicalType::INT32, required)?,
        text("digest", required)?,
        text("cohort", required)?,
        text("key", optional)?,
        text("status", required)?,
        plain("feature_coverage", PhysicalType::FLOAT, required)?,
        plain("total_s", PhysicalType::DOUBLE, required)?,
    ];
    for input in &version.inputs {
        let name = format!("input_{}", input.name);
        fields.push(match input.kind {
            InputKind::Number => plain(&name, PhysicalType::FLOAT, optional)?,
            InputKind::Vector => plain(&name, PhysicalType::FLOAT, Repetition::REPEATED)?,
            InputKind::Text => text(&name, optional)?,
            InputKind::Flag => plain(&name, PhysicalType::BOOLEAN, optional)?,
        });
    }
    for name in answer_names(&version.output) {
        fields.push(plain(&name, PhysicalType::FLOAT, optional)?);
    }
    Type::group_type_builder("predictions")
        .with_fields(fields.into_iter().map(Arc::new).collect())
        .build()
        .map(Arc::new)
}

fn answer_names(output: &Output) -> Vec<String> {
    match output {
        Output::Quantiles => ["q10", "q50", "q90"].map(|name| format!("answer_{name}")).into(),
        Output::Probability => vec!["answer_probability".to_owned()],
        Output::Classes(classes) => classes.iter().map(|class| format!("answer_probability_{class}")).collect(),
        Output::Numbers(1) => vec!["answer".to_owned()],
        Output::Numbers(width) => (0..*width).map(|index| format!("answer_{index}")).collect(),
    }
}

fn properties() -> WriterPropertiesPtr {
    let properties = WriterProperties::builder()
        .set_created_by(format!("evserve version {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::SNAPPY)
        // Ids are all different.
        .set_column_dictionary_enabled(ColumnPath::from("prediction_id"), false);
    Arc::new(properties.build())
}

/// Writes a group of rows, column by column, in the order of the schema.
fn group(
    writer: &mut SerializedFileWriter<fs_err::File>,
    version: &Version,
    rows: &[Prediction],
) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    let mut next = |write: &mut dyn FnMut(&mut SerializedColumnWriter<'_>) -> Result<usize, ParquetError>| {
        let Some(mut column) = group.next_column()? else { return Ok(()) };
        write(&mut column)?;
        column.close()
    };
    let texts = |of: fn(&Prediction) -> &str| -> Vec<ByteArray> { rows.iter().map(|row| bytes(of(row))).collect() };
    let (models, digests) = (texts(|row| &row.version.model), texts(|row| &row.version.digest));
    let (cohorts, statuses) = (texts(|row| &row.cohort), texts(|row| row.status.name()));
    let ids: Vec<String> = rows.iter().map(|row| row.id.to_string()).collect();
    let ids: Vec<ByteArray> = ids.iter().map(|id| bytes(id)).collect();
    let times: Vec<i64> = rows.iter().map(|row| row.time_us).collect();
    let number = i32::try_from(version.version).unwrap_or(i32::MAX);
    let totals: Vec<f64> = rows.iter().map(|row| row.total.as_secs_f64()).collect();
    let coverage: Vec<f32> = rows.iter().map(|row| row.coverage).collect();
    let keys = optional(rows, |row| row.key.as_deref().map(bytes));
    next(&mut |column| column.typed::<ByteArrayType>().write_batch(&ids, None, None))?;
    next(&mut |column| column.typed::<Int64Type>().write_batch(&times, None, None))?;
    next(&mut |column| column.typed::<ByteArrayType>().write_batch(&models, None, None))?;
    next(&mut |column| column.typed::<Int32Type>().write_batch(&vec![number; rows.len()], None, None))?;
    next(&mut |column| column.typed::<ByteArrayType>().write_batch(&digests, None, None))?;
    next(&mut |column| column.typed::<ByteArrayType>().write_batch(&cohorts, None, None))?;
    next(&mut |column| column.typed::<ByteArrayType>().write_batch(&keys.0, Some(&keys.1), None))?;
    next(&mut |column| column.typed::<ByteArrayType>().write_batch(&statuses, None, None))?;
    next(&mut |column| column.typed::<FloatType>().write_batch(&coverage, None, None))?;
    next(&mut |column| column.typed::<DoubleType>().write_batch(&totals, None, None))?;
    for (index, input) in version.inputs.iter().enumerate() {
        let value = |row: &Prediction| row.inputs.get(index).cloned().flatten();
        match input.kind {
            InputKind::Number => {
                let (values, levels) = optional(rows, |row| match value(row) {
                    Some(Value::Number(number)) => Some(number),
                    _ => None,
                });
                next(&mut |column| column.typed::<FloatType>().write_batch(&values, Some(&levels), None))?;
            }
            InputKind::Text => {
                let (values, levels) = optional(rows, |row| match value(row) {
                    Some(Value::Text(text)) => Some(bytes(&text)),
                    _ => None,
                });
                next(&mut |column| column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None))?;
            }
            InputKind::Flag => {
                let (values, levels) = optional(rows, |row| match value(row) {
                    Some(Value::Flag(flag)) => Some(flag),
                    _ => None,
                });
                next(&mut |column| column.typed::<BoolType>().write_batch(&values, Some(&levels), None))?;
            }
            InputKind::Vector => {
                let (values, defined, repeated) = repeated(rows, |row| match value(row) {
                    Some(Value::Vector(values)) => values,
                    _ => Vec::new(),
                });
                next(&mut |column| column.typed::<FloatType>().write_batch(&values, Some(&defined), Some(&repeated)))?;
            }
        }
    }
    for place in 0..version.output.width() {
        let (values, levels) = optional(rows, |row| row.answer.get(place).copied());
        next(&mut |column| column.typed::<FloatType>().write_batch(&values, Some(&levels), None))?;
    }
    group.close().map(drop)
}

fn bytes(text: &str) -> ByteArray {
    ByteArray::from(text)
}

/// The values there are, and of each row whether there is one.
fn optional<T>(rows: &[Prediction], value: impl Fn(&Prediction) -> Option<T>) -> (Vec<T>, Vec<i16>) {
    let mut values = Vec::with_capacity(rows.len());
    let levels = rows.iter().map(|row| {
        let value = value(row);
        let level = i16::from(value.is_some());
        values.extend(value);
        level
    });
    let levels = levels.collect();
    (values, levels)
}

/// The values of lists, and where each list begins.
fn repeated(rows: &[Prediction], list: impl Fn(&Prediction) -> Vec<f32>) -> (Vec<f32>, Vec<i16>, Vec<i16>) {
    let (mut values, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let list = list(row);
        for place in 0..list.len().max(1) {
            defined.push(i16::from(!list.is_empty()));
            repeated.push(i16::from(place > 0));
        }
        values.extend(list);
    }
    (values, defined, repeated)
}

fn failed(error: ParquetError) -> OutcomesError {
    match error {
        ParquetError::External(error) => match error.downcast::<std::io::Error>() {
            Ok(error) => io(DOING)(*error),
            Err(source) => OutcomesError::Storage { doing: DOING, source },
        },
        error => OutcomesError::Storage { doing: DOING, source: error.into() },
    }
}
