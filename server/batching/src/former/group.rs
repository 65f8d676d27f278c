//! Waiting rows of one shape, by priority.

use std::{collections::VecDeque, time::Instant};

use super::{Queued, RowId, earlier};
use crate::{Priority, RowShape};

/// Waiting rows of one shape; each lane holds a priority's, oldest first.
#[derive(Debug)]
pub(super) struct Group<T> {
    pub(super) shape: RowShape,
    lanes: [VecDeque<Queued<T>>; Priority::COUNT],
    rows: usize,
}

// === impl Group ===

impl<T> Group<T> {
    pub(super) fn new(shape: RowShape, lane: usize, queued: Queued<T>) -> Group<T> {
        let mut group = Group { shape, lanes: std::array::from_fn(|_| VecDeque::new()), rows: 0 };
        group.push(lane, queued);
        group
    }

    pub(super) fn push(&mut self, lane: usize, queued: Queued<T>) {
        self.lanes[lane].push_back(queued);
        self.rows += 1;
    }

    /// Takes the oldest row of a lane.
    pub(super) fn pop(&mut self, lane: usize) -> Option<Queued<T>> {
        let queued = self.lanes[lane].pop_front()?;
        self.rows -= 1;
        Some(queued)
    }

    /// Puts back what was popped last.
    pub(super) fn put_back(&mut self, lane: usize, queued: Queued<T>) {
        self.lanes[lane].push_front(queued);
        self.rows += 1;
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The oldest row of a lane.
    pub(super) fn oldest(&self, lane: usize) -> Option<&Queued<T>> {
        self.lanes[lane].front()
    }

    /// When the row that has waited longest was admitted.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| lane.front()).map(|queued| queued.entered).min()
    }

    /// Every row, most urgent first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Queued<T>> {
        self.lanes.iter().flatten()
    }

    /// Every row with its lane.
    pub(super) fn with_lanes(&self) -> impl Iterator<Item = (usize, &Queued<T>)> {
        self.lanes.iter().enumerate().flat_map(|(index, lane)| lane.iter().map(move |queued| (index, queued)))
    }

    /// Number and bytes of a lane's rows.
    pub(super) fn sizes(&self, lane: usize) -> impl Iterator<Item = (RowId, usize)> {
        self.lanes[lane].iter().map(|queued| (queued.id, queued.bytes))
    }

    pub(super) fn earliest_deadline(&self) -> Option<Instant> {
        self.iter().fold(None, |earliest, queued| earlier(earliest, queued.deadline))
    }

    /// Takes out the rows that `which` says, in order.
    pub(super) fn take_out(
        &mut self,
        which: &mut impl FnMut(usize, &Queued<T>) -> bool,
        mut taken: impl FnMut(usize, Queued<T>),
    ) {
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if !lane.iter().any(|queued| which(index, queued)) {
                continue;
            }
            for queued in std::mem::take(lane) {
                if which(index, &queued) {
                    self.rows -= 1;
                    taken(index, queued);
                } else {
                    lane.push_back(queued);
                }
            }
        }
    }
}
