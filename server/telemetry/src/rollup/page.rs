//! Aggregates as bytes: a page holds the spans of all signals of a vehicle in a longer span.

use super::{Aggregate, Resolution, Spans, add, floor};
use crate::{
    TelemetryError,
    codec::{
        Packer, bytes::Input, bytes::put_varint, put_f32s, put_f64s, put_u64s, take_f32s, take_f64s, take_u64s, unpack,
    },
};

/// Most aggregates of a page: an hour of minutes of over ten thousand signals.
const AGGREGATES_MAX: usize = 1 << 20;

/// Resolutions with the length of their pages in microseconds: an hour of minutes, a day of hours, 32 days of days.
const PAGES: [(Resolution, i64); 3] = [
    (Resolution::Minute, Resolution::Hour.span_us()),
    (Resolution::Hour, Resolution::Day.span_us()),
    (Resolution::Day, 32 * Resolution::Day.span_us()),
];

/// Which page of a vehicle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PageKey {
    pub(crate) resolution: Resolution,
    pub(crate) start_us: i64,
}

/// The aggregates of a page.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct RollupPage(pub(crate) Spans);

// === impl PageKey ===

impl PageKey {
    /// The page of a span.
    pub(crate) fn of(resolution: Resolution, span_start_us: i64) -> PageKey {
        PageKey { resolution, start_us: floor(span_start_us, resolution.page_us()) }
    }
}

// === impl Resolution ===

impl Resolution {
    /// Length of its pages.
    pub(crate) fn page_us(self) -> i64 {
        let [minute, hour, day] = PAGES;
        match self {
            Resolution::Minute => minute.1,
            Resolution::Hour => hour.1,
            Resolution::Day => day.1,
        }
    }

    /// Its number in stores.
    pub(crate) fn number(self) -> i16 {
        match self {
            Resolution::Minute => 0,
            Resolution::Hour => 1,
            Resolution::Day => 2,
        }
    }
}

// === impl RollupPage ===

impl RollupPage {
    /// Takes in other aggregates.
    pub(crate) fn merge(&mut self, spans: &Spans) {
        for (place, aggregate) in spans {
            add(&mut self.0, *place, aggregate);
        }
    }

    pub(crate) fn to_bytes(&self, packer: &mut Packer, key: PageKey) -> Result<Vec<u8>, TelemetryError> {
        let all = || self.0.values();
        let first = key.start_us;
        let fill = |raw: &mut Vec<u8>| {
            put_varint(raw, self.0.len() as u64);
            let span =
                |start: &i64| start.wrapping_sub(first).cast_unsigned() / key.resolution.span_us().cast_unsigned();
            put_u64s(raw, &self.0.keys().map(|(start, _)| span(start)).collect::<Vec<_>>());
            put_u64s(raw, &self.0.keys().map(|(_, signal)| u64::from(*signal)).collect::<Vec<_>>());
            put_u64s(raw, &all().map(|aggregate| aggregate.count).collect::<Vec<_>>());
            put_f64s(raw, &all().map(|aggregate| aggregate.sum).collect::<Vec<_>>());
            put_f32s(raw, &all().map(|aggregate| aggregate.min).collect::<Vec<_>>());
            put_f32s(raw, &all().map(|aggregate| aggregate.max).collect::<Vec<_>>());
            put_f32s(raw, &all().map(|aggregate| aggregate.last).collect::<Vec<_>>());
            let since = self.0.iter().map(|((start, _), a)| a.last_time_us.wrapping_sub(*start).cast_unsigned());
            put_u64s(raw, &since.collect::<Vec<_>>());
            Ok(())
        };
        packer.pack(fill).map_err(|problem| TelemetryError::malformed("a page of aggregates", problem))
    }

    pub(crate) fn from_bytes(bytes: &[u8], key: PageKey) -> Result<RollupPage, TelemetryError> {
        RollupPage::take(bytes, key).map_err(|problem| TelemetryError::malformed("a page of aggregates", problem))
    }

    fn take(bytes: &[u8], key: PageKey) -> Result<RollupPage, &'static str> {
        let raw = unpack(bytes)?;
        let mut input = Input::new(&raw);
        let count = input.count(AGGREGATES_MAX)?;
        let starts = take_u64s(&mut input, count)?;
        let signals = take_u64s(&mut input, count)?;
        let counts = take_u64s(&mut input, count)?;
        let sums = take_f64s(&mut input, count)?;
        let mins = take_f32s(&mut input, count)?;
        let maxs = take_f32s(&mut input, count)?;
        let lasts = take_f32s(&mut input, count)?;
        let sinces = take_u64s(&mut input, count)?;
        input.end()?;
        let mut spans = Spans::new();
        for index in 0..count {
            let span = i64::try_from(starts[index]).map_err(|_| "a span beyond all times")?;
            let start = span.wrapping_mul(key.resolution.span_us()).wrapping_add(key.start_us);
            let signal = u16::try_from(signals[index]).map_err(|_| "a signal beyond all numbers")?;
            let aggregate = Aggregate {
                count: counts[index],
                sum: sums[index],
                min: mins[index],
                max: maxs[index],
                last: lasts[index],
                last_time_us: start.wrapping_add(sinces[index].cast_signed()),
            };
            spans.insert((start, signal), aggregate);
        }
        Ok(RollupPage(spans))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rollup::add_column;

    proptest! {
        #[test]
        fn pages_come_back(values in prop::collection::vec((0i64..3_600_000_000, any::<f32>()), 1..100), hour in -500_000i64..500_000) {
            let key = PageKey { resolution: Resolution::Minute, start_us: hour * 3_600_000_000 };
            let (times, values): (Vec<_>, Vec<_>) = values.iter().map(|(time, value)| (time + key.start_us, *value)).unzip();
            let mut page = RollupPage::default();
            add_column(&mut page.0, Resolution::Minute, 65_535, &times, &values);
            let mut packer = Packer::new().expect("a context");
            let bytes = page.to_bytes(&mut packer, key).expect("it is small");
            prop_assert_eq!(RollupPage::from_bytes(&bytes, key).expect("it is its own"), page);
        }

        #[test]
        fn hostile_pages_are_refused_or_pages(raw in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut packer = Packer::new().expect("a context");
            let bytes = packer.pack(|out| { out.extend_from_slice(&raw); Ok(()) }).expect("it is small");
            let _ = RollupPage::from_bytes(&bytes, PageKey { resolution: Resolution::Day, start_us: 0 });
        }
    }
}
