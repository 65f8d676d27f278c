//! What a gateway is told beside acknowledgements.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use ev_proto::ev::telemetry::v1::{Gaps, Reject};

use crate::Error;

/// What a gateway is told beside acknowledgements. None of it needs an answer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum GatewayEvent {
    /// The stream is open, for the first time or again.
    Opened {
        /// The server's name for it, for logs.
        stream_id: String,
        /// Batches that were kept and are looked after again.
        kept_batches: usize,
    },
    /// The stream broke; it is opened again by itself.
    Lost {
        /// Why.
        error: Arc<Error>,
        /// After how long.
        retry_in: Duration,
    },
    /// A declared signal is not known, or its unit is of another quantity: its values are left out.
    SignalRefused(Reject),
    /// Readings were not taken in. They are not sent again.
    Rejected(Reject),
    /// Batches that never came to the server. Those the gateway still has are on their way.
    Gaps(Gaps),
    /// The server wants the latest value of every signal of a vehicle.
    FullStateRequested {
        /// The vehicle.
        vehicle_id: String,
    },
    /// Events that were dropped before this one, because nobody took them.
    Missed {
        /// How many.
        events: u64,
    },
}

/// Events that wait to be taken.
#[derive(Debug)]
pub(crate) struct Events {
    waiting: VecDeque<GatewayEvent>,
    missed: u64,
    max: usize,
}

// === impl Events ===

impl Events {
    pub(crate) fn new(max: usize) -> Events {
        Events { waiting: VecDeque::new(), missed: 0, max: max.max(1) }
    }

    pub(crate) fn push(&mut self, event: GatewayEvent) {
        if self.waiting.len() == self.max {
            self.waiting.pop_front();
            self.missed += 1;
        }
        self.waiting.push_back(event);
    }

    pub(crate) fn pop(&mut self) -> Option<GatewayEvent> {
        match std::mem::take(&mut self.missed) {
            0 => self.waiting.pop_front(),
            events => Some(GatewayEvent::Missed { events }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_are_counted() {
        let mut events = Events::new(2);
        for vehicle in ["a", "b", "c", "d"] {
            events.push(GatewayEvent::FullStateRequested { vehicle_id: vehicle.to_owned() });
        }
        let seen: Vec<String> = std::iter::from_fn(|| events.pop()).map(|event| format!("{event:?}")).collect();
        let full = |vehicle| format!("FullStateRequested {{ vehicle_id: \"{vehicle}\" }}");
        assert_eq!(seen, ["Missed { events: 2 }".to_owned(), full("c"), full("d")]);
    }
}
