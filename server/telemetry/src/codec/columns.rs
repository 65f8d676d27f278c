//! Times and values as differences, split by byte place.

use ev_domain::{Column, Readings};

use super::{
    CHUNK_READINGS_MAX, COLUMNS_MAX, Dictionary,
    bytes::{Input, put_signed, put_varint, unzigzag, zigzag},
};

/// Most zeros that no byte stands for: more than a page of aggregates has.
const ZEROS_MAX: usize = 1 << 20;

/// Readings whose signals go by the numbers of a store's dictionary.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct StoredReadings {
    pub(crate) times_us: Vec<i64>,
    pub(crate) columns: Vec<(u16, Vec<f32>)>,
}

pub(crate) fn put_readings(
    out: &mut Vec<u8>,
    readings: &Readings,
    dictionary: &Dictionary,
) -> Result<(), &'static str> {
    let count = readings.len();
    if count > CHUNK_READINGS_MAX {
        return Err("more readings than a chunk may have");
    }
    put_varint(out, count as u64);
    put_varint(out, readings.columns.len() as u64);
    put_times(out, &readings.times_us);
    for column in &readings.columns {
        if column.values.len() != count {
            return Err("a column that is not as long as the times");
        }
        let stored = dictionary.stored(column.signal).ok_or("a signal of another catalogue")?;
        out.extend_from_slice(&stored.to_le_bytes());
        put_f32s(out, &column.values);
    }
    Ok(())
}

pub(crate) fn take_readings(input: &mut Input<'_>) -> Result<StoredReadings, &'static str> {
    let count = input.count(CHUNK_READINGS_MAX)?;
    let columns = input.count(COLUMNS_MAX)?;
    let times_us = take_times(input, count)?;
    // A column is at least its id, so that as many as are announced must still be there.
    if input.left() < columns.saturating_mul(2 + 4 * count) {
        return Err("it ends early");
    }
    let column = |_| {
        let stored = u16::from_le_bytes(input.array()?);
        Ok((stored, take_f32s(input, count)?))
    };
    let columns = (0..columns).map(column).collect::<Result<_, &'static str>>()?;
    Ok(StoredReadings { times_us, columns })
}

fn put_times(out: &mut Vec<u8>, times: &[i64]) {
    let Some((first, rest)) = times.split_first() else { return };
    put_signed(out, *first);
    let (mut time, mut step) = (*first, 0i64);
    let differences = rest.iter().map(|next| {
        let next_step = next.wrapping_sub(time);
        let difference = zigzag(next_step.wrapping_sub(step));
        (time, step) = (*next, next_step);
        difference
    });
    put_u64s(out, &differences.collect::<Vec<_>>());
}

fn take_times(input: &mut Input<'_>, count: usize) -> Result<Vec<i64>, &'static str> {
    let Some(rest) = count.checked_sub(1) else { return Ok(Vec::new()) };
    let first = input.signed()?;
    let differences = take_u64s(input, rest)?;
    let mut times = Vec::with_capacity(count);
    times.push(first);
    let (mut time, mut step) = (first, 0i64);
    for difference in differences {
        step = step.wrapping_add(unzigzag(difference));
        time = time.wrapping_add(step);
        times.push(time);
    }
    Ok(times)
}

/// Numbers in as few bytes each as the greatest needs, split by byte place.
pub(crate) fn put_u64s(out: &mut Vec<u8>, numbers: &[u64]) {
    let used = numbers.iter().fold(0, |bits, number| bits | number);
    let width = 8 - used.leading_zeros() as usize / 8;
    out.push(width.to_le_bytes()[0]);
    for place in 0..width {
        out.extend(numbers.iter().map(|number| number.to_le_bytes()[place]));
    }
}

pub(crate) fn take_u64s(input: &mut Input<'_>, count: usize) -> Result<Vec<u64>, &'static str> {
    let width = usize::from(input.byte()?);
    if width > 8 {
        return Err("numbers that are too wide");
    }
    let planes = input.take(width.saturating_mul(count))?;
    let mut numbers = vec![0u64; if width == 0 { bounded(count)? } else { count }];
    for (place, plane) in planes.chunks_exact(count.max(1)).enumerate() {
        for (number, byte) in numbers.iter_mut().zip(plane) {
            *number |= u64::from(*byte) << (8 * place);
        }
    }
    Ok(numbers)
}

/// A count that no bytes stand behind, because all its numbers are zero.
fn bounded(count: usize) -> Result<usize, &'static str> {
    if count > ZEROS_MAX { Err("a count that is too large") } else { Ok(count) }
}

/// Values, each xored with the one before, split by byte place.
pub(crate) fn put_f32s(out: &mut Vec<u8>, values: &[f32]) {
    let start = out.len();
    let count = values.len();
    out.resize(start + 4 * count, 0);
    let (low, high) = out[start..].split_at_mut(2 * count);
    let ((one, two), (three, four)) = (low.split_at_mut(count), high.split_at_mut(count));
    let mut before = 0;
    let planes = one.iter_mut().zip(two).zip(three).zip(four);
    for ((((one, two), three), four), value) in planes.zip(values) {
        let bits = value.to_bits();
        [*one, *two, *three, *four] = (bits ^ before).to_le_bytes();
        before = bits;
    }
}

pub(crate) fn take_f32s(input: &mut Input<'_>, count: usize) -> Result<Vec<f32>, &'static str> {
    let bytes = input.take(count.checked_mul(4).ok_or("a count that is too large")?)?;
    let (low, high) = bytes.split_at(2 * count);
    let ((one, two), (three, four)) = (low.split_at(count), high.split_at(count));
    let mut before = 0;
    let planes = one.iter().zip(two).zip(three).zip(four);
    let value = |(((one, two), three), four): (((&u8, &u8), &u8), &u8)| {
        before ^= u32::from_le_bytes([*one, *two, *three, *four]);
        f32::from_bits(before)
    };
    Ok(planes.map(value).collect())
}

/// Values, each xored with the one before, split by byte place.
pub(crate) fn put_f64s(out: &mut Vec<u8>, values: &[f64]) {
    let mut before = 0;
    let xored = values.iter().map(|value| {
        let bits = value.to_bits();
        let difference = bits ^ before;
        before = bits;
        difference
    });
    put_u64s(out, &xored.collect::<Vec<_>>());
}

pub(crate) fn take_f64s(input: &mut Input<'_>, count: usize) -> Result<Vec<f64>, &'static str> {
    let mut before = 0;
    let value = |difference| {
        before ^= difference;
        f64::from_bits(before)
    };
    Ok(take_u64s(input, count)?.into_iter().map(value).collect())
}

// === impl StoredReadings ===

impl StoredReadings {
    /// Whether the catalogue names all of its signals.
    pub(crate) fn is_known(&self, dictionary: &Dictionary) -> bool {
        self.columns.iter().all(|(stored, _)| dictionary.known(*stored).is_some())
    }

    /// The readings, without what the catalogue no longer names.
    pub(crate) fn known(self, dictionary: &Dictionary) -> Readings {
        let column = |(stored, values): (u16, Vec<f32>)| {
            dictionary.known(stored).map(|signal| Column { signal, values: values.into() })
        };
        Readings { times_us: self.times_us, columns: self.columns.into_iter().filter_map(column).collect() }
    }
}
