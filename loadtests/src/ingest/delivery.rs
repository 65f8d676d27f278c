//! In which order batches come, and which never do.

use std::collections::{BTreeSet, VecDeque};

use ev_client::proto::ev::telemetry::v1::{Batch, Gaps, SequenceRange};

use super::{Connection, batches::Batches};

/// Of a poor connection's batches, by their sequence: each twentieth comes twice, each twentieth late, and of a thousand one
/// never.
const TWICE: (u64, u64) = (20, 7);
const LATE: (u64, u64) = (20, 13);
const LOST: (u64, u64) = (1_000, 501);
/// Batches of the same vehicle that overtake a late one.
const OVERTAKING: u64 = 5;
/// Batches of a vehicle that are lost, at most: a server's gap ledger may end, and what would not fit is refused.
const LOST_MAX: usize = 32;

/// A gateway's batches as they come, and what of them does not.
pub(super) struct Delivery {
    batches: Batches,
    connection: Connection,
    /// Batches that were made.
    made: u64,
    /// What is overtaken, and when it comes.
    held: VecDeque<(u64, Sending)>,
    /// What was sent before and comes again.
    again: Option<Sending>,
    sent: Vec<Sent>,
}

/// A batch that is to be sent now.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sending {
    /// Its vehicle's place.
    pub(super) place: usize,
    pub(super) batch: Batch,
    /// It was sent before.
    pub(super) is_repeated: bool,
}

/// What was sent of a vehicle.
#[derive(Default)]
struct Sent {
    highest: u64,
    /// Not sent: lost, or held until now. Of those lost there are few.
    missing: BTreeSet<u64>,
    lost: usize,
}

// === impl Delivery ===

impl Delivery {
    pub(super) fn new(batches: Batches, vehicles: usize, connection: Connection) -> Delivery {
        let sent = (0..vehicles).map(|_| Sent::default()).collect();
        Delivery { batches, connection, made: 0, held: VecDeque::new(), again: None, sent }
    }

    pub(super) fn place_of(&self, vehicle: &str) -> Option<usize> {
        self.batches.place_of(vehicle)
    }

    /// What is sent next.
    pub(super) fn next(&mut self) -> Sending {
        if self.connection == Connection::Good {
            return self.next_of_all();
        }
        if let Some(again) = self.again.take() {
            return again;
        }
        if self.held.front().is_some_and(|(due, _)| *due <= self.made)
            && let Some((_, late)) = self.held.pop_front()
        {
            self.sent[late.place].missing.remove(&late.batch.sequence);
            return late;
        }
        loop {
            let sending = self.made();
            let (place, sequence) = (sending.place, sending.batch.sequence);
            // Vehicles are not all late at one time.
            let is = |(every, at): (u64, u64)| (sequence + 7 * place as u64) % every == at;
            let sent = &mut self.sent[place];
            if is(LOST) && sent.lost < LOST_MAX {
                sent.lost += 1;
                sent.missing.insert(sequence);
            } else if is(LATE) {
                sent.missing.insert(sequence);
                let vehicles = self.sent.len() as u64;
                self.held.push_back((self.made + OVERTAKING * vehicles, sending));
            } else {
                sent.highest = sequence;
                self.again = is(TWICE).then(|| Sending { is_repeated: true, ..sending.clone() });
                return sending;
            }
        }
    }

    /// The next batch that was measured, whatever the connection.
    pub(super) fn next_of_all(&mut self) -> Sending {
        let sending = self.made();
        self.sent[sending.place].highest = sending.batch.sequence;
        sending
    }

    fn made(&mut self) -> Sending {
        self.made += 1;
        let (place, batch) = self.batches.next();
        Sending { place, batch, is_repeated: false }
    }

    /// Whether a server's gaps of a vehicle are what was not sent of it before the highest that was.
    pub(super) fn is_ledger(&self, place: usize, gaps: &[&Gaps]) -> bool {
        let sent = &self.sent[place];
        let mut missing = sent.missing.range(..sent.highest);
        let count = missing.clone().count();
        let ranges = || gaps.iter().flat_map(|gaps| &gaps.ranges);
        let of_all = |range: &SequenceRange| range.last.saturating_sub(range.first).saturating_add(1);
        let told = ranges().map(of_all).fold(0, u64::saturating_add);
        told == count as u64
            && ranges().flat_map(|range| range.first..=range.last).all(|number| missing.next() == Some(&number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gaps that a server finds in what comes.
    fn gaps(numbers: &[u64]) -> Gaps {
        let highest = numbers.iter().max().copied().unwrap_or_default();
        let missing = (1..=highest).filter(|number| !numbers.contains(number));
        let ranges = missing.map(|number| SequenceRange { first: number, last: number });
        Gaps { vehicle_id: String::new(), ranges: ranges.collect() }
    }

    #[test]
    fn a_poor_connection_repeats_delays_and_loses() {
        let mut delivery = Delivery::new(Batches::new(1, 3, 1), 3, Connection::Poor);
        let mut numbers = [const { Vec::new() }; 3];
        let (mut repeated, mut late) = (0, 0);
        for _ in 0..6_000 {
            let sending = delivery.next();
            let numbers = &mut numbers[sending.place];
            assert_eq!(sending.is_repeated, numbers.contains(&sending.batch.sequence), "{sending:?}");
            repeated += usize::from(sending.is_repeated);
            late += usize::from(!sending.is_repeated && numbers.last() > Some(&sending.batch.sequence));
            numbers.push(sending.batch.sequence);
        }
        assert!((270..=300).contains(&repeated) && (270..=300).contains(&late), "{repeated} and {late}");
        for (place, numbers) in numbers.iter().enumerate() {
            let gaps = gaps(numbers);
            // One of a thousand and those that are held now.
            assert!((1..=4).contains(&gaps.ranges.len()), "{gaps:?}");
            assert!(delivery.is_ledger(place, &[&gaps]), "{gaps:?}");
            let mut one_more = gaps.clone();
            one_more.ranges[0].last += 1;
            assert!(!delivery.is_ledger(place, &[&one_more]), "{one_more:?}");
            let mut another = gaps;
            another.ranges[0] = SequenceRange { first: another.ranges[0].first + 1, last: another.ranges[0].last + 1 };
            assert!(!delivery.is_ledger(place, &[&another]) && !delivery.is_ledger(place, &[]), "{another:?}");
        }
    }

    #[test]
    fn a_good_connection_sends_in_order() {
        let mut delivery = Delivery::new(Batches::new(1, 2, 1), 2, Connection::Good);
        for turn in 0..5_000 {
            let sending = delivery.next();
            assert_eq!((sending.batch.sequence, sending.is_repeated), (turn / 2 + 1, false));
        }
        assert!(delivery.is_ledger(0, &[]));
    }

    #[test]
    fn what_is_lost_stays_below_what_a_ledger_holds() {
        let mut delivery = Delivery::new(Batches::new(1, 1, 1), 1, Connection::Poor);
        for _ in 0..50_000 {
            delivery.next();
        }
        assert_eq!(delivery.sent[0].lost, LOST_MAX);
        assert!(delivery.sent[0].missing.len() <= LOST_MAX + 1);
    }
}
