//! A page of readings in order of time, from chunks that may overlap.

use std::collections::BTreeMap;

use ev_domain::{Column, Readings};

use crate::{Cursor, Page, Query, TelemetryError};

/// Most readings that a query holds while it sorts: some 100 MB. Only data of which much overlaps in time needs more
/// than a page and a chunk.
const READINGS_MAX: usize = 2_000_000;

/// Gathers the readings of a page. Parts come in order of their first reading.
pub(crate) struct Collector<'q> {
    query: &'q Query,
    parts: Vec<Readings>,
    /// Time, part, place in the part.
    found: Vec<(i64, usize, usize)>,
    held: usize,
}

// === impl Collector ===

impl<'q> Collector<'q> {
    pub(crate) fn new(query: &'q Query) -> Collector<'q> {
        Collector { query, parts: Vec::new(), found: Vec::new(), held: 0 }
    }

    /// From this time on there may be something to find.
    pub(crate) fn start_us(query: &Query) -> i64 {
        query.after.map_or(query.time_us.start, |cursor| cursor.time_us.max(query.time_us.start))
    }

    pub(crate) fn add(&mut self, part: Readings) -> Result<(), TelemetryError> {
        self.held += part.len();
        if self.held > READINGS_MAX {
            return Err(TelemetryError::Overloaded {
                what: "the memory of a query over readings that overlap in time",
            });
        }
        let wanted = Collector::start_us(self.query)..self.query.time_us.end;
        let chosen: Vec<&Column> = self
            .query
            .signals
            .iter()
            .filter_map(|id| part.columns.iter().find(|column| column.signal == *id))
            .collect();
        let has_any = |index: usize| chosen.iter().any(|column| column.values.get(index).is_some_and(|v| !v.is_nan()));
        let places = part
            .times_us
            .iter()
            .enumerate()
            .filter(|(index, time)| wanted.contains(*time) && (self.query.signals.is_empty() || has_any(*index)));
        let number = self.parts.len();
        self.found.extend(places.map(|(index, time)| (*time, number, index)));
        self.parts.push(part);
        Ok(())
    }

    /// Whether the page is full, when all that is still to come is not before this time.
    pub(crate) fn is_full(&self, rest_from_us: i64) -> bool {
        let skipped = self.query.after.map_or(0, |cursor| usize::try_from(cursor.skip).unwrap_or(usize::MAX));
        let wanted = self.query.limit.saturating_add(skipped);
        self.found.len() > wanted && self.found.iter().filter(|(time, ..)| *time < rest_from_us).count() > wanted
    }

    /// The page; of what was found, nothing at or after `rest_from_us`, if there is a rest.
    pub(crate) fn finish(mut self, rest_from_us: Option<i64>) -> Page {
        self.found.sort_unstable();
        if let Some(rest) = rest_from_us {
            self.found.truncate(self.found.partition_point(|(time, ..)| *time < rest));
        }
        let after = self.query.after.unwrap_or(Cursor { time_us: i64::MIN, skip: 0 });
        let same = self.found.partition_point(|(time, ..)| *time <= after.time_us);
        let skip = usize::try_from(after.skip).unwrap_or(usize::MAX).min(same);
        let page = &self.found[skip..];
        let taken = &page[..page.len().min(self.query.limit)];
        let next = taken.last().filter(|_| taken.len() < page.len()).map(|(time_us, ..)| {
            let here = taken.len() - taken.partition_point(|(time, ..)| time < time_us);
            let before = if *time_us == after.time_us { after.skip } else { 0 };
            Cursor { time_us: *time_us, skip: before.saturating_add(here as u64) }
        });
        Page { readings: self.gather(taken), next }
    }

    fn gather(&self, taken: &[(i64, usize, usize)]) -> Readings {
        let times_us = taken.iter().map(|(time, ..)| *time).collect();
        let signals: Vec<_> = if self.query.signals.is_empty() {
            let all = self.parts.iter().flat_map(|part| &part.columns).map(|column| (column.signal, ()));
            all.collect::<BTreeMap<_, _>>().into_keys().collect()
        } else {
            self.query.signals.clone()
        };
        let column = |signal| {
            let parts: Vec<_> = self.parts.iter().map(|part| part.column(signal).unwrap_or_default()).collect();
            let value = |(_, part, index): &(i64, usize, usize)| parts[*part].get(*index).copied().unwrap_or(f32::NAN);
            Column { signal, values: taken.iter().map(value).collect() }
        };
        Readings { times_us, columns: signals.into_iter().map(column).collect() }
    }
}

#[cfg(test)]
mod tests {
    use ev_domain::{VehicleId, signals::SPEED};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pages_together_are_everything_in_order(
            parts in prop::collection::vec(prop::collection::vec(0i64..30, 1..10), 0..8),
            limit in 1usize..10,
            start in 0i64..20, length in 0i64..30,
        ) {
            let mut parts = parts;
            parts.sort_by_key(|times| times.iter().min().copied());
            let mut expected: Vec<i64> = parts.iter().flatten().copied().filter(|t| (start..start + length).contains(t)).collect();
            expected.sort_unstable();
            let mut query = Query {
                vehicle: VehicleId::new("v").expect("an id"),
                signals: Vec::new(),
                time_us: start..start + length,
                after: None,
                limit,
            };
            let mut found = Vec::new();
            loop {
                let mut collector = Collector::new(&query);
                let mut rest = None;
                for times in &parts {
                    let first = times.iter().min().copied().unwrap_or(0);
                    if collector.is_full(first) {
                        rest = Some(first);
                        break;
                    }
                    let column = Column { signal: SPEED, values: vec![1.0; times.len()].into() };
                    collector.add(Readings { times_us: times.clone(), columns: vec![column] }).expect("it is small");
                }
                let page = collector.finish(rest);
                prop_assert!(page.readings.len() <= limit);
                found.extend(page.readings.times_us);
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
