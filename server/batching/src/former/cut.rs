//! When a batch is cut, and which rows are in it.

use std::time::{Duration, Instant};

use super::{Batch, Cut, DropReason, Dropped, Former, Queued, RowId, group::Group};
use crate::{Priority, Urgency};

/// After being passed over by this many batches, a priority's oldest row leads the next one.
const PATIENCE: u32 = 8;

/// When the rows of a group are to be cut.
pub(super) enum Readiness {
    Now(Due),
    At(Instant),
}

/// A batch that is due: why, and how large it is to be.
pub(super) struct Due {
    cut: Cut,
    size: usize,
}

/// Which of several due groups goes first: one with a row that was passed over, else the most urgent, else the oldest.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    in_usual_turn: bool,
    lane: usize,
    oldest: RowId,
}

impl<T> Former<T> {
    /// Whether a group's rows are to be cut now, or when.
    pub(super) fn due(&self, group: &Group<T>, now: Instant) -> Readiness {
        let settings = &self.settings;
        let rows = group.rows();
        if rows >= settings.max_batch_size {
            return Readiness::Now(Due { cut: Cut::Full, size: settings.max_batch_size });
        }
        if let Some(size) = settings.preferred_batch_sizes.iter().rev().find(|size| **size <= rows) {
            return Readiness::Now(Due { cut: Cut::Preferred, size: *size });
        }
        let due = |cut| Readiness::Now(Due { cut, size: rows });
        if self.flushed || settings.max_queue_delay.is_zero() {
            return due(Cut::Idle);
        }
        let ripe = group.waiting_since().map_or(now, |since| since + settings.max_queue_delay);
        if ripe <= now {
            return due(Cut::Delay);
        }
        let latest_start = group.iter().filter_map(|queued| self.latest_start(queued, rows)).min();
        match latest_start {
            Some(latest) if latest <= now => due(Cut::Deadline),
            Some(latest) => Readiness::At(latest.min(ripe)),
            None => Readiness::At(ripe),
        }
    }

    /// When a row must start in a batch of so many to be answered in time; without a measurement, when half of its
    /// time is gone.
    fn latest_start(&self, queued: &Queued<T>, rows: usize) -> Option<Instant> {
        let deadline = queued.deadline?;
        let left = deadline.saturating_duration_since(queued.entered);
        let run = self.run_time.likely(rows).map_or(left / 2, |run| run.min(left));
        Some(deadline - run)
    }

    pub(super) fn rank(&self, group: &Group<T>) -> Rank {
        let passed_over = self.passed_over().find_map(|lane| Some((lane, group.oldest(lane)?.id)));
        let urgent = || (0..Priority::COUNT).find_map(|lane| Some((lane, group.oldest(lane)?.id)));
        let in_usual_turn = passed_over.is_none();
        let (lane, oldest) = passed_over.or_else(urgent).unwrap_or((Priority::COUNT, RowId::MAX));
        Rank { in_usual_turn, lane, oldest }
    }

    /// Lanes that were passed over for too long.
    fn passed_over(&self) -> impl Iterator<Item = usize> {
        (0..Priority::COUNT).filter(|lane| self.passed[*lane] >= PATIENCE)
    }

    /// Cuts a batch that is due.
    pub(super) fn cut(&mut self, index: usize, due: Due, now: Instant) -> Batch<T> {
        let passed_over: Vec<usize> = self.passed_over().collect();
        let Due { mut cut, size } = due;
        let group = &mut self.groups[index];
        let leaders = passed_over.into_iter().filter_map(|lane| Some((lane, group.pop(lane)?)));
        let mut taken: Vec<(usize, Queued<T>)> = leaders.take(size).collect();
        for lane in 0..Priority::COUNT {
            while taken.len() < size
                && let Some(queued) = group.pop(lane)
            {
                taken.push((lane, queued));
            }
        }
        let in_time = self.rows_in_time(&taken, now);
        if in_time < taken.len() {
            cut = Cut::Deadline;
            for (lane, queued) in taken.drain(in_time..).rev() {
                self.groups[index].put_back(lane, queued);
            }
        }
        let shape = self.groups[index].shape.clone();
        if self.groups[index].rows() == 0 {
            self.groups.swap_remove(index);
        }
        let mut served = [false; Priority::COUNT];
        for (lane, queued) in &taken {
            self.rows -= 1;
            self.bytes -= queued.bytes;
            self.lanes[*lane] -= 1;
            served[*lane] = true;
        }
        if self.rows == 0 {
            self.earliest_deadline = None;
        }
        for (lane, passed) in self.passed.iter_mut().enumerate() {
            let waits = self.lanes[lane] > 0 && !served[lane];
            *passed = if waits { *passed + 1 } else { 0 };
        }
        Batch { rows: taken.into_iter().map(|(_, queued)| queued).collect(), shape, cut }
    }

    /// How many of these rows, from the first, may run together without making one of them late that need not be.
    fn rows_in_time(&self, rows: &[(usize, Queued<T>)], now: Instant) -> usize {
        let mut size = rows.len();
        for (index, (_, queued)) in rows.iter().enumerate() {
            if index >= size {
                break;
            }
            let Some(deadline) = queued.deadline else { continue };
            let left = deadline.saturating_duration_since(now);
            let in_time = |rows: &usize| self.run_time.likely(*rows).is_none_or(|run| run <= left);
            // None: a batch that holds this row and those before it is late for it, so that it is no reason to make it smaller.
            if let Some(rows) = (index + 1..=size).rev().find(in_time) {
                size = rows;
            }
        }
        size
    }

    /// Drops rows that were not or cannot be run in time.
    pub(super) fn drop_late(&mut self, now: Instant) {
        self.expire(now);
        let max = self.settings.max_batch_size;
        let Some(full) = self.run_time.surely(max, now) else { return };
        if self.earliest_deadline.is_none_or(|earliest| earliest >= now + full) {
            return;
        }
        let alone = self.run_time.at_least(1, now).unwrap_or_default();
        let crowded: Vec<bool> = self.groups.iter().map(|group| group.rows() >= max).collect();
        let mut late = Vec::new();
        for (group, crowded) in self.groups.iter().zip(crowded) {
            for (lane, queued) in group.with_lanes() {
                // The most urgent rows get a smaller batch instead.
                let run = if crowded && lane != Priority::Critical.lane() { full } else { alone };
                if queued.deadline.is_some_and(|deadline| deadline < now + run) {
                    late.push(queued.id);
                }
            }
        }
        late.sort_unstable();
        let rows = self.take_out(|_, queued| late.binary_search(&queued.id).is_ok());
        self.dropped.extend(rows.into_iter().map(|row| Dropped { row, reason: DropReason::Late }));
    }

    /// Least time until the answer of a row that came now, if that is more than its deadline leaves.
    pub(super) fn misses(&self, urgency: Urgency, now: Instant) -> Option<Duration> {
        let deadline = urgency.deadline?;
        let max = self.settings.max_batch_size;
        let full = self.run_time.at_least(max, now)?;
        let before: usize = self.lanes[..=urgency.priority.lane()].iter().sum();
        // An empty queue admits everybody: somebody has to show what a run takes now.
        if before == 0 {
            return None;
        }
        let alone = self.run_time.at_least(1, now).unwrap_or_default();
        let expected = super::proportion(full, before / max, self.settings.instance_count) + alone;
        (deadline < now + expected).then_some(expected)
    }
}
