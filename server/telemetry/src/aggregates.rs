//! A page of aggregates, from what is stored and what is not in it yet.

use std::collections::BTreeMap;

use crate::{
    AggregateQuery, Latest, SpanAggregate,
    codec::Dictionary,
    rollup::{PageKey, RollupPage, Spans, add, coarser},
};

/// Gathers the aggregates of a page. Stored pages come in order.
pub(crate) struct SpanCollector<'q> {
    query: &'q AggregateQuery,
    dictionary: &'q Dictionary,
    spans: Spans,
}

/// The latest values among aggregates.
#[derive(Default)]
pub(crate) struct LatestCollector(BTreeMap<u16, (i64, f32)>);

// === impl SpanCollector ===

impl<'q> SpanCollector<'q> {
    /// Begins with what is not stored yet, by minute.
    pub(crate) fn new(query: &'q AggregateQuery, dictionary: &'q Dictionary, minutes: &Spans) -> SpanCollector<'q> {
        let mut collector = SpanCollector { query, dictionary, spans: Spans::new() };
        collector.add(&coarser(minutes, query.resolution));
        collector
    }

    /// Starts of the first page and of the one after the last that may hold something.
    pub(crate) fn pages_us(query: &AggregateQuery) -> (i64, i64) {
        let (start, end) = bounds(query);
        (PageKey::of(query.resolution, start).start_us, end)
    }

    pub(crate) fn add_page(&mut self, page: &RollupPage) {
        self.add(&page.0);
    }

    fn add(&mut self, spans: &Spans) {
        let (start, end) = bounds(self.query);
        let range = spans.range((start, 0)..).take_while(|((span, _), _)| *span < end);
        for (place, aggregate) in range {
            let Some(signal) = self.dictionary.known(place.1) else { continue };
            if self.query.signals.is_empty() || self.query.signals.contains(&signal) {
                add(&mut self.spans, *place, aggregate);
            }
        }
    }

    /// Whether the page is full, when all that is still to come is not before this time.
    pub(crate) fn is_full(&self, rest_from_us: i64) -> bool {
        // The first span may lie before the cursor in part.
        let before = self.spans.range(..(rest_from_us, 0)).count();
        let first = self.query.after.map_or(0, |(start, _)| self.spans.range((start, 0)..=(start, u16::MAX)).count());
        before.saturating_sub(first) >= self.query.limit
    }

    pub(crate) fn finish(self) -> Vec<SpanAggregate> {
        let after = self.query.after.map(|(start, signal)| (start, self.dictionary.rank(signal)));
        let known = |((start_us, stored), aggregate)| {
            let signal = self.dictionary.known(stored)?;
            Some((start_us, self.dictionary.rank(signal), SpanAggregate { start_us, signal, aggregate }))
        };
        let mut found: Vec<_> = self.spans.into_iter().filter_map(known).collect();
        found.retain(|(start, rank, _)| after.is_none_or(|after| (*start, *rank) > after));
        found.sort_unstable_by_key(|(start, rank, _)| (*start, *rank));
        found.into_iter().take(self.query.limit).map(|(.., aggregate)| aggregate).collect()
    }
}

/// The first span's start, and where the last ends.
fn bounds(query: &AggregateQuery) -> (i64, i64) {
    let resolution = query.resolution;
    let start = query.after.map_or(query.time_us.start, |(start, _)| start.max(query.time_us.start));
    let last = resolution.start_us(query.time_us.end.saturating_sub(1));
    (resolution.start_us(start), last.saturating_add(resolution.span_us()))
}

// === impl LatestCollector ===

impl LatestCollector {
    pub(crate) fn add(&mut self, spans: &Spans) {
        for ((_, signal), aggregate) in spans {
            let found = (aggregate.last_time_us, aggregate.last);
            let latest = self.0.entry(*signal).or_insert(found);
            if found.0.cmp(&latest.0).then(found.1.total_cmp(&latest.1)).is_gt() {
                *latest = found;
            }
        }
    }

    pub(crate) fn finish(self, dictionary: &Dictionary) -> Vec<Latest> {
        let known = |(stored, (time_us, value))| Some(Latest { signal: dictionary.known(stored)?, value, time_us });
        let mut latest: Vec<Latest> = self.0.into_iter().filter_map(known).collect();
        latest.sort_unstable_by_key(|latest| dictionary.rank(latest.signal));
        latest
    }
}
