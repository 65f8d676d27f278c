//! The values of one input: from typed contents, or little-endian bytes read in place.

use bytes::Bytes;
use ev_models_core::DataType;
use ev_proto::inference::InferTensorContents;

use crate::pipeline::{InputValue, PlannedInput, RowBuilder, Violation};

/// Values of all rows of one input, as they lie in the request. There are as many as the rows need.
#[derive(Debug)]
pub(super) enum Values<'r> {
    Numbers(&'r [f32]),
    RawNumbers(&'r [[u8; 4]]),
    /// All rows' values, and how many a row has.
    Vectors(&'r [f32], usize),
    /// All rows' bytes, and how many a row has.
    RawVectors(&'r [u8], usize),
    Flags(&'r [bool]),
    /// 0 or 1.
    RawFlags(&'r [u8]),
    Text(&'r str),
    Texts(Vec<&'r str>),
}

// === impl Values ===

impl<'r> Values<'r> {
    /// Values in the field of their type.
    pub(super) fn typed(
        input: &PlannedInput,
        contents: &'r InferTensorContents,
        rows: usize,
    ) -> Result<Values<'r>, Violation> {
        check_field(input, (input.dtype, input.width), contents, rows)?;
        Ok(match input.dtype {
            DataType::Bytes => texts(input, &contents.bytes_contents)?,
            DataType::Bool => Values::Flags(&contents.bool_contents),
            _ if input.is_vector => Values::Vectors(&contents.fp32_contents, input.width),
            _ => Values::Numbers(&contents.fp32_contents),
        })
    }

    /// Values as bytes, `entry` of `raw_input_contents`.
    pub(super) fn raw(
        input: &PlannedInput,
        bytes: &'r [u8],
        rows: usize,
        entry: usize,
    ) -> Result<Values<'r>, Violation> {
        let Some(size) = input.dtype.size() else { return raw_texts(input, bytes, rows, entry) };
        let expected = rows * input.width * size;
        if bytes.len() != expected {
            return Err(Violation {
                field: format!("raw_input_contents[{entry}]"),
                reason: "WRONG_LENGTH",
                description: format!(
                    "has {} bytes, expected {expected}: input `{}` has {rows} rows of {} {} values of {size} bytes",
                    bytes.len(),
                    input.name,
                    input.width,
                    input.dtype.name(),
                ),
            });
        }
        if input.dtype == DataType::Bool {
            if let Some(row) = bytes.iter().position(|byte| *byte > 1) {
                let description = format!("is the byte {}, expected 0 or 1", bytes[row]);
                return Err(refused_row(input, row, "WRONG_KIND", description));
            }
            return Ok(Values::RawFlags(bytes));
        }
        Ok(if input.is_vector {
            Values::RawVectors(bytes, input.width * size)
        } else {
            Values::RawNumbers(bytes.as_chunks::<4>().0)
        })
    }

    /// Tells a row's value; a text without characters is none.
    #[inline]
    pub(super) fn fill(&self, input: usize, row: usize, builder: &mut RowBuilder<'_>) {
        let value = match self {
            Values::Numbers(numbers) => InputValue::Number(numbers[row]),
            Values::RawNumbers(numbers) => InputValue::Number(f32::from_le_bytes(numbers[row])),
            Values::Vectors(numbers, width) => InputValue::Vector(&numbers[row * width..(row + 1) * width]),
            Values::RawVectors(bytes, size) => InputValue::RawVector(&bytes[row * size..(row + 1) * size]),
            Values::Flags(flags) => InputValue::Flag(flags[row]),
            Values::RawFlags(flags) => InputValue::Flag(flags[row] == 1),
            Values::Text(text) => InputValue::Text(text),
            Values::Texts(texts) => InputValue::Text(texts[row]),
        };
        builder.input(input, value);
    }
}

/// Files of pictures in `bytes_contents`, one a row.
pub(super) fn files<'r>(
    input: &PlannedInput,
    contents: &'r InferTensorContents,
    rows: usize,
) -> Result<&'r [Bytes], Violation> {
    check_field(input, (DataType::Bytes, 1), contents, rows)?;
    Ok(&contents.bytes_contents)
}

/// Whether there are as many values as `rows` rows of `width` need, in the field of their type and in no other.
#[inline]
fn check_field(
    input: &PlannedInput,
    (dtype, width): (DataType, usize),
    contents: &InferTensorContents,
    rows: usize,
) -> Result<(), Violation> {
    let field = field(dtype);
    if let Some((other, _)) = given(contents).find(|(name, count)| *count > 0 && *name != field) {
        let description = format!("holds {other}, expected {field} for {}", dtype.name());
        return Err(refused(input, "WRONG_KIND", description));
    }
    let count = given(contents).find(|(name, _)| *name == field).map_or(0, |(_, count)| count);
    let expected = rows * width;
    if count != expected {
        let description =
            format!("has {count} values in {field}, expected {expected}: {rows} rows of {width} as its shape says");
        return Err(refused(input, "WRONG_LENGTH", description));
    }
    Ok(())
}

fn refused(input: &PlannedInput, reason: &'static str, description: String) -> Violation {
    Violation { field: format!("inputs.{}", input.name), reason, description }
}

fn refused_row(input: &PlannedInput, row: usize, reason: &'static str, description: String) -> Violation {
    Violation { field: format!("inputs.{}[{row}]", input.name), reason, description }
}

/// The field of typed contents that a type's values belong in.
fn field(dtype: DataType) -> &'static str {
    match dtype {
        DataType::Bool => "bool_contents",
        DataType::Uint8 => "uint_contents",
        DataType::Int32 => "int_contents",
        DataType::Int64 => "int64_contents",
        DataType::Fp32 => "fp32_contents",
        DataType::Fp64 => "fp64_contents",
        DataType::Bytes => "bytes_contents",
    }
}

/// How many values each field of typed contents holds.
pub(super) fn given(contents: &InferTensorContents) -> impl Iterator<Item = (&'static str, usize)> {
    let InferTensorContents {
        bool_contents,
        int_contents,
        int64_contents,
        uint_contents,
        uint64_contents,
        fp32_contents,
        fp64_contents,
        bytes_contents,
    } = contents;
    [
        ("bool_contents", bool_contents.len()),
        ("int_contents", int_contents.len()),
        ("int64_contents", int64_contents.len()),
        ("uint_contents", uint_contents.len()),
        ("uint64_contents", uint64_contents.len()),
        ("fp32_contents", fp32_contents.len()),
        ("fp64_contents", fp64_contents.len()),
        ("bytes_contents", bytes_contents.len()),
    ]
    .into_iter()
}

fn texts<'r>(input: &PlannedInput, contents: &'r [Bytes]) -> Result<Values<'r>, Violation> {
    if let [one] = contents {
        return text(input, 0, one).map(Values::Text);
    }
    let texts = contents.iter().enumerate().map(|(row, bytes)| text(input, row, bytes));
    texts.collect::<Result<_, _>>().map(Values::Texts)
}

/// Values of any bytes, each preceded by its length in four little-endian bytes.
pub(super) fn raw_values<'r>(
    input: &PlannedInput,
    bytes: &'r [u8],
    rows: usize,
    entry: usize,
) -> Result<Vec<&'r [u8]>, Violation> {
    let mut rest = bytes;
    let mut values = Vec::with_capacity(rows.min(bytes.len() / 4));
    for row in 0..rows {
        values.push(next_value(input, &mut rest, row, entry)?);
    }
    ended(rest, rows, entry).map(|()| values)
}

/// Texts each preceded by its length in four little-endian bytes.
fn raw_texts<'r>(input: &PlannedInput, bytes: &'r [u8], rows: usize, entry: usize) -> Result<Values<'r>, Violation> {
    let mut rest = bytes;
    if rows == 1 {
        let one = next_text(input, &mut rest, 0, entry)?;
        return ended(rest, rows, entry).map(|()| Values::Text(one));
    }
    // Each text takes four bytes at least, so that a short request cannot claim many rows at our cost.
    let mut texts = Vec::with_capacity(rows.min(bytes.len() / 4));
    for row in 0..rows {
        texts.push(next_text(input, &mut rest, row, entry)?);
    }
    ended(rest, rows, entry).map(|()| Values::Texts(texts))
}

fn next_text<'r>(input: &PlannedInput, rest: &mut &'r [u8], row: usize, entry: usize) -> Result<&'r str, Violation> {
    text(input, row, next_value(input, rest, row, entry)?)
}

fn next_value<'r>(input: &PlannedInput, rest: &mut &'r [u8], row: usize, entry: usize) -> Result<&'r [u8], Violation> {
    let truncated =
        |description| Violation { field: format!("raw_input_contents[{entry}]"), reason: "TRUNCATED", description };
    let Some((length, after)) = rest.split_first_chunk::<4>() else {
        return Err(truncated(format!(
            "ends with {} bytes where value {row} of input `{}` should begin, \
             expected each value as a little-endian length of 4 bytes and that many bytes",
            rest.len(),
            input.name,
        )));
    };
    let length = u32::from_le_bytes(*length) as usize;
    let Some((value, after)) = after.split_at_checked(length) else {
        return Err(truncated(format!(
            "says that value {row} of input `{}` has {length} bytes, but only {} follow",
            input.name,
            after.len(),
        )));
    };
    *rest = after;
    Ok(value)
}

fn ended(rest: &[u8], rows: usize, entry: usize) -> Result<(), Violation> {
    if rest.is_empty() {
        return Ok(());
    }
    Err(Violation {
        field: format!("raw_input_contents[{entry}]"),
        reason: "WRONG_LENGTH",
        description: format!("has {} bytes after the last of {rows} values, expected none", rest.len()),
    })
}

fn text<'r>(input: &PlannedInput, row: usize, bytes: &'r [u8]) -> Result<&'r str, Violation> {
    std::str::from_utf8(bytes).map_err(|error| {
        let description = format!("is not UTF-8 from byte {} on, expected text", error.valid_up_to());
        refused_row(input, row, "NOT_UTF8", description)
    })
}
