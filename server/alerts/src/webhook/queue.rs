//! What waits to be sent.

use std::{cmp::Reverse, collections::VecDeque, sync::Arc};

use crate::AlertEvent;

/// Events that wait, the most severe first, of equal ones the oldest.
#[derive(Debug)]
pub(super) struct Queue {
    events: VecDeque<Arc<AlertEvent>>,
    max: usize,
}

// === impl Queue ===

impl Queue {
    pub(super) fn new(max: usize) -> Queue {
        Queue { events: VecDeque::new(), max }
    }

    /// What was dropped for it: the oldest of the least severe, which may be itself.
    pub(super) fn push(&mut self, event: Arc<AlertEvent>) -> Option<Arc<AlertEvent>> {
        self.events.push_back(event);
        if self.events.len() <= self.max {
            return None;
        }
        let least = self.events.iter().enumerate().min_by_key(|(_, event)| event.alert.severity);
        let at = least.map(|(at, _)| at)?;
        self.events.remove(at)
    }

    pub(super) fn pop(&mut self) -> Option<Arc<AlertEvent>> {
        let urgent = self.events.iter().enumerate().max_by_key(|(at, event)| (event.alert.severity, Reverse(*at)));
        let at = urgent.map(|(at, _)| at)?;
        self.events.remove(at)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}
