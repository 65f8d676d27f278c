//! Rows and columns as the database keeps them: little-endian, texts and lists after their lengths.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use crate::prediction::{Input, InputKind, Output, Prediction, Status, Value, Version};

/// Says which form a row has.
const ROW_FORMAT: u8 = 1;
/// The same of a version's columns.
const COLUMNS_FORMAT: u8 = 1;

/// Bytes that are being written.
#[derive(Default)]
struct Writer(Vec<u8>);

/// Bytes that are being read. Nothing is there beyond their end.
struct Reader<'a>(&'a [u8]);

/// Numbers of an answer.
pub(crate) fn numbers(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The numbers of an answer; none of bytes that are not such.
pub(crate) fn take_numbers(bytes: &[u8]) -> Option<Vec<f32>> {
    let (values, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| values.iter().map(|value| f32::from_le_bytes(*value)).collect())
}

/// What the columns of a version are.
pub(crate) fn columns(version: &Version) -> Vec<u8> {
    let mut out = Writer::default();
    out.byte(COLUMNS_FORMAT);
    out.length(version.inputs.len());
    for Input { name, kind } in &version.inputs {
        out.text(name);
        out.byte(match kind {
            InputKind::Number => 0,
            InputKind::Vector => 1,
            InputKind::Text => 2,
            InputKind::Flag => 3,
        });
    }
    match &version.output {
        Output::Quantiles => out.byte(0),
        Output::Probability => out.byte(1),
        Output::Classes(classes) => {
            out.byte(2);
            out.length(classes.len());
            classes.iter().for_each(|class| out.text(class));
        }
        Output::Numbers(width) => {
            out.byte(3);
            out.length(*width);
        }
    }
    out.0
}

/// The same, read; none of bytes that are not such.
pub(crate) fn take_columns(bytes: &[u8]) -> Option<(Vec<Input>, Output)> {
    let mut from = Reader(bytes);
    if from.byte()? != COLUMNS_FORMAT {
        return None;
    }
    let inputs = from.list(|from| {
        let name = from.text()?;
        let kind = match from.byte()? {
            0 => InputKind::Number,
            1 => InputKind::Vector,
            2 => InputKind::Text,
            3 => InputKind::Flag,
            _ => return None,
        };
        Some(Input { name, kind })
    })?;
    let output = match from.byte()? {
        0 => Output::Quantiles,
        1 => Output::Probability,
        2 => Output::Classes(from.list(Reader::text)?),
        3 => Output::Numbers(from.length()?),
        _ => return None,
    };
    from.0.is_empty().then_some((inputs, output))
}

/// A row, but for its version.
pub(crate) fn row(prediction: &Prediction) -> Vec<u8> {
    let Prediction { id, time_us, version: _, cohort, key, inputs, status, answer, coverage, total } = prediction;
    let mut out = Writer::default();
    out.byte(ROW_FORMAT);
    out.0.extend_from_slice(id.as_bytes());
    out.0.extend_from_slice(&time_us.to_le_bytes());
    out.text(cohort);
    out.byte(u8::from(key.is_some()));
    out.text(key.as_deref().unwrap_or_default());
    out.byte(status.code());
    out.numbers(answer);
    out.0.extend_from_slice(&coverage.to_le_bytes());
    out.0.extend_from_slice(&u64::try_from(total.as_nanos()).unwrap_or(u64::MAX).to_le_bytes());
    out.length(inputs.len());
    for input in inputs {
        match input {
            None => out.byte(0),
            Some(Value::Number(number)) => {
                out.byte(1);
                out.0.extend_from_slice(&number.to_le_bytes());
            }
            Some(Value::Vector(values)) => {
                out.byte(2);
                out.numbers(values);
            }
            Some(Value::Text(text)) => {
                out.byte(3);
                out.text(text);
            }
            Some(Value::Flag(flag)) => out.byte(if *flag { 5 } else { 4 }),
        }
    }
    out.0
}

/// The same, read; none of bytes that are not such.
pub(crate) fn take_row(bytes: &[u8], version: &Arc<Version>) -> Option<Prediction> {
    let mut from = Reader(bytes);
    if from.byte()? != ROW_FORMAT {
        return None;
    }
    let id = Uuid::from_bytes(from.array()?);
    let time_us = i64::from_le_bytes(from.array()?);
    let cohort = from.text()?;
    let (has_key, key) = (from.byte()? == 1, from.text()?);
    let status = Status::of_code(from.byte()?.into())?;
    let answer = from.numbers()?;
    let coverage = f32::from_le_bytes(from.array()?);
    let total = Duration::from_nanos(u64::from_le_bytes(from.array()?));
    let inputs = from.list(|from| {
        Some(match from.byte()? {
            0 => None,
            1 => Some(Value::Number(f32::from_le_bytes(from.array()?))),
            2 => Some(Value::Vector(from.numbers()?)),
            3 => Some(Value::Text(from.text()?)),
            4 => Some(Value::Flag(false)),
            5 => Some(Value::Flag(true)),
            _ => return None,
        })
    })?;
    let key = has_key.then_some(key);
    let version = Arc::clone(version);
    let whole = from.0.is_empty();
    whole.then_some(Prediction { id, time_us, version, cohort, key, inputs, status, answer, coverage, total })
}

// === impl Writer ===

impl Writer {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn length(&mut self, length: usize) {
        self.0.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn numbers(&mut self, values: &[f32]) {
        self.length(values.len());
        values.iter().for_each(|value| self.0.extend_from_slice(&value.to_le_bytes()));
    }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).ok()
    }

    fn text(&mut self) -> Option<String> {
        let length = self.length()?;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }

    fn numbers(&mut self) -> Option<Vec<f32>> {
        let length = self.length()?.checked_mul(4)?;
        take_numbers(self.take(length)?)
    }

    /// A list. Every element takes a byte at least, so that no length makes more room than there are bytes.
    fn list<T>(&mut self, mut element: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length = self.length()?;
        if length > self.0.len() {
            return None;
        }
        (0..length).map(|_| element(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Option<Value>> {
        let number = any::<u32>().prop_map(f32::from_bits).prop_filter("NaN is not equal to itself", |it| !it.is_nan());
        prop_oneof![
            Just(None),
            number.prop_map(|number| Some(Value::Number(number))),
            proptest::collection::vec(-1e9f32..1e9, 0..4).prop_map(|values| Some(Value::Vector(values))),
            ".{0,12}".prop_map(|text| Some(Value::Text(text))),
            any::<bool>().prop_map(|flag| Some(Value::Flag(flag))),
        ]
    }

    fn version() -> impl Strategy<Value = Version> {
        let kinds =
            proptest::sample::select(vec![InputKind::Number, InputKind::Vector, InputKind::Text, InputKind::Flag]);
        let input = ("[a-z_]{1,8}", kinds).prop_map(|(name, kind)| Input { name, kind });
        let output = prop_oneof![
            Just(Output::Quantiles),
            Just(Output::Probability),
            proptest::collection::vec(".{0,6}", 0..4).prop_map(Output::Classes),
            (0usize..9).prop_map(Output::Numbers),
        ];
        (proptest::collection::vec(input, 0..5), output).prop_map(|(inputs, output)| Version {
            model: "m".to_owned(),
            version: 1,
            digest: "sha256:0".to_owned(),
            inputs,
            output,
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            version in version(), inputs in proptest::collection::vec(value(), 0..6), (id, time_us) in any::<(u128, i64)>(),
            (cohort, key) in (".{0,8}", proptest::option::of(".{0,8}")), code in 0i64..3,
            answer in proptest::collection::vec(-1e9f32..1e9, 0..4), (coverage, ns) in (0f32..1.0, any::<u64>()),
        ) {
            prop_assert_eq!(take_columns(&columns(&version)), Some((version.inputs.clone(), version.output.clone())));
            let version = Arc::new(version);
            let (id, status) = (Uuid::from_u128(id), Status::of_code(code).expect("one of three"));
            let total = Duration::from_nanos(ns);
            let prediction = Prediction {
                id, time_us, version: Arc::clone(&version), cohort, key, inputs, status, answer, coverage, total,
            };
            prop_assert_eq!(take_row(&row(&prediction), &version), Some(prediction));
        }

        #[test]
        fn bytes_of_others_are_no_row_and_no_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), version in version(), cut in 0usize..200,
        ) {
            let version = Arc::new(version);
            let mut forged = bytes.clone();
            forged.insert(0, ROW_FORMAT);
            let _ = (take_row(&bytes, &version), take_row(&forged, &version), take_columns(&forged));
            let whole = columns(&version);
            if cut < whole.len() {
                prop_assert_eq!(take_columns(&whole[..cut]), None);
            }
        }
    }
}
