//! The batches that are not durable yet, and what is to be sent next: a pure state machine.
//!
//! Invariants:
//!
//! - Each vehicle's batches are numbered from 1 without holes but those that [`Outbox::skip`] makes.
//! - A batch is kept until the server has said that it is durable, or that it will never take it.
//! - What the server is believed to have is believed on its word about *this* stream: what it said before a break counts
//!   only where it said durable.
//!
//! After a break the server names the next number it expects of each vehicle, and then the holes below it. As holes come
//! in messages of their own, and nothing says that there are none, batches below that number are only *presumed* to be
//! stored. The last of them is sent again as a probe, and the vehicle's others are held back: the acknowledgement of the
//! probe comes after the holes. Then what is missing is sent in order, before what is new.
//!
//! The server takes a stream's batches in the order in which they come, and acknowledges several with one message: an
//! acknowledgement of a batch is one of all that were sent before it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use ev_proto::ev::telemetry::v1::{Batch, VehicleSequence};

use super::Readings;

/// The batches of a gateway that are not durable yet.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    lanes: HashMap<Arc<str>, Lane>,
    /// What is to be sent, in this order; may name what need not be sent any more.
    turns: VecDeque<Key>,
    /// What is to be sent once more when nothing else is; no more than is kept.
    repeats: VecDeque<Batch>,
    /// All that is kept, in the order it came.
    kept: BTreeMap<u64, Key>,
    next_order: u64,
    size_bytes: usize,
    readings: usize,
    in_flight: usize,
    /// Batches sent on this stream.
    sent: u64,
}

/// One vehicle.
#[derive(Debug)]
struct Lane {
    next_sequence: u64,
    entries: BTreeMap<u64, Entry>,
    /// Holes that the server told of on this stream, as first and last.
    gaps: Vec<(u64, u64)>,
    /// A presumed batch was sent again, and nothing else goes before its acknowledgement.
    is_probing: bool,
}

#[derive(Debug)]
struct Entry {
    batch: Batch,
    order: u64,
    size_bytes: usize,
    state: State,
    /// On this stream or an earlier one.
    was_sent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be sent.
    Queued,
    /// Sent on this stream, as this many-th.
    Sent(u64),
    /// The server has it, unless it says otherwise.
    Presumed,
    /// To be sent after the probe's acknowledgement.
    Held,
}

#[derive(Debug, Clone)]
struct Key {
    vehicle: Arc<str>,
    sequence: u64,
}

// === impl Outbox ===

impl Outbox {
    /// Batches that are kept.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// About how much memory they take.
    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// How many readings they have.
    pub(crate) fn readings(&self) -> usize {
        self.readings
    }

    /// Vehicles seen so far.
    pub(crate) fn vehicles(&self) -> usize {
        self.lanes.len()
    }

    pub(crate) fn knows(&self, vehicle: &str) -> bool {
        self.lanes.contains_key(vehicle)
    }

    /// Whether an acknowledgement is waited for.
    pub(crate) fn is_waiting(&self) -> bool {
        self.in_flight > 0
    }

    /// The place in order after all that came so far.
    pub(crate) fn end(&self) -> u64 {
        self.next_order
    }

    /// Whether everything before a place in order is durable.
    pub(crate) fn is_durable_to(&self, end: u64) -> bool {
        self.kept.first_key_value().is_none_or(|(order, _)| *order >= end)
    }

    /// Takes a batch; its number.
    pub(crate) fn push(&mut self, vehicle: &str, readings: Readings) -> u64 {
        let vehicle = self.key(vehicle).unwrap_or_else(|| Arc::from(vehicle));
        let lane = self.lanes.entry(Arc::clone(&vehicle)).or_insert_with(Lane::new);
        let sequence = lane.next_sequence;
        lane.next_sequence += 1;
        let size_bytes = readings.size_bytes();
        let (batch, order) = (readings.into_batch(&vehicle, sequence), self.next_order);
        self.next_order += 1;
        self.size_bytes += size_bytes;
        self.readings += batch.time_deltas_us.len();
        let state = if lane.is_probing { State::Held } else { State::Queued };
        lane.entries.insert(sequence, Entry { batch, order, size_bytes, state, was_sent: false });
        let key = Key { vehicle, sequence };
        self.kept.insert(order, key.clone());
        if state == State::Queued {
            self.turns.push_back(key);
        }
        sequence
    }

    /// Gives up numbers: the server will count them as missing, for good.
    pub(crate) fn skip(&mut self, vehicle: &str, count: u64) {
        let vehicle = self.key(vehicle).unwrap_or_else(|| Arc::from(vehicle));
        let lane = self.lanes.entry(vehicle).or_insert_with(Lane::new);
        lane.next_sequence = lane.next_sequence.saturating_add(count);
    }

    /// Has a batch that is kept sent once more, after what is to be sent now; whether it is kept.
    pub(crate) fn repeat(&mut self, vehicle: &str, sequence: u64) -> bool {
        let entry = self.lanes.get(vehicle).and_then(|lane| lane.entries.get(&sequence));
        let Some(entry) = entry.filter(|_| self.repeats.len() < self.kept.len()) else { return false };
        self.repeats.push_back(Batch { is_resend: true, ..entry.batch.clone() });
        true
    }

    /// Whether there is something to send.
    pub(crate) fn has_next(&mut self) -> bool {
        self.has_turn() || self.has_repeat()
    }

    /// Of a batch that was sent on this stream; others would come before what they repeat.
    fn has_repeat(&mut self) -> bool {
        while let Some(Batch { vehicle_id, sequence, .. }) = self.repeats.front() {
            let entry = self.lanes.get(vehicle_id.as_str()).and_then(|lane| lane.entries.get(sequence));
            if entry.is_none_or(|entry| matches!(entry.state, State::Sent(_))) {
                return true;
            }
            self.repeats.pop_front();
        }
        false
    }

    fn has_turn(&mut self) -> bool {
        while let Some(Key { vehicle, sequence }) = self.turns.front() {
            let entry = self.lanes.get(vehicle).and_then(|lane| lane.entries.get(sequence));
            if entry.is_some_and(|entry| entry.state == State::Queued) {
                return true;
            }
            self.turns.pop_front();
        }
        false
    }

    /// What is to be sent next; it counts as sent.
    pub(crate) fn next(&mut self) -> Option<Batch> {
        if !self.has_turn() {
            return if self.has_repeat() { self.repeats.pop_front() } else { None };
        }
        let Key { vehicle, sequence } = self.turns.pop_front()?;
        let entry = self.lanes.get_mut(&vehicle)?.entries.get_mut(&sequence)?;
        self.sent += 1;
        self.in_flight += 1;
        entry.state = State::Sent(self.sent);
        let is_resend = std::mem::replace(&mut entry.was_sent, true);
        Some(Batch { is_resend, ..entry.batch.clone() })
    }

    /// What the first message of a stream says: the vehicles with batches, and what is durable of each.
    pub(crate) fn last_acked(&self) -> Vec<VehicleSequence> {
        let waiting = self.lanes.iter().filter_map(|(vehicle, lane)| {
            let (first, _) = lane.entries.first_key_value()?;
            Some(VehicleSequence { vehicle_id: vehicle.to_string(), sequence: first - 1 })
        });
        waiting.collect()
    }

    /// A stream was opened, and the server expects these numbers next. What it does not have is to be sent again.
    pub(crate) fn open(&mut self, next_expected: &[VehicleSequence]) {
        (self.in_flight, self.sent) = (0, 0);
        self.repeats.clear();
        for lane in self.lanes.values_mut() {
            lane.gaps.clear();
            lane.is_probing = false;
            lane.entries.values_mut().for_each(|entry| entry.state = State::Queued);
        }
        for VehicleSequence { vehicle_id, sequence } in next_expected {
            if let Some(lane) = self.lanes.get_mut(vehicle_id.as_str()) {
                lane.presume_below(*sequence);
            }
        }
        // In the order they came, and no others: what is held back gets its turn later, before what comes after it.
        let is_queued = |key: &&Key| {
            let entry = self.lanes.get(&key.vehicle).and_then(|lane| lane.entries.get(&key.sequence));
            entry.is_some_and(|entry| entry.state == State::Queued)
        };
        self.turns = self.kept.values().filter(is_queued).cloned().collect();
    }

    /// The server told of holes: those there are now.
    pub(crate) fn gaps(&mut self, vehicle: &str, gaps: Vec<(u64, u64)>) {
        if let Some(lane) = self.lanes.get_mut(vehicle) {
            lane.gaps = gaps;
        }
    }

    /// Everything of a vehicle up to a number is durable, but for the holes.
    pub(crate) fn durable(&mut self, vehicle: &str, sequence: u64) {
        let Some(lane) = self.lanes.get_mut(vehicle) else { return };
        lane.fill(sequence);
        let durable = lane.durable_to(sequence);
        durable.into_iter().for_each(|number| self.forget(vehicle, number));
        self.end_probe(vehicle);
    }

    /// The server will never take this batch.
    pub(crate) fn refused(&mut self, vehicle: &str, sequence: u64) {
        self.forget(vehicle, sequence);
        let Some(key) = self.key(vehicle) else { return };
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let is_sent = |entry: &Entry| matches!(entry.state, State::Sent(_) | State::Queued);
        if !lane.is_probing || lane.entries.values().any(is_sent) {
            return;
        }
        // That was the probe: another one, or there is nothing to be known.
        match lane.probe() {
            Some(sequence) => self.turns.push_back(Key { vehicle: key, sequence }),
            None => self.end_probe(vehicle),
        }
    }

    /// What was held back is to be sent, what is missing first.
    fn end_probe(&mut self, vehicle: &str) {
        let Some(key) = self.key(vehicle) else { return };
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if !std::mem::take(&mut lane.is_probing) {
            return;
        }
        for (sequence, entry) in &mut lane.entries {
            if matches!(entry.state, State::Presumed | State::Held) {
                entry.state = State::Queued;
                self.turns.push_back(Key { vehicle: Arc::clone(&key), sequence: *sequence });
            }
        }
    }

    fn forget(&mut self, vehicle: &str, sequence: u64) {
        let Some(entry) = self.lanes.get_mut(vehicle).and_then(|lane| lane.entries.remove(&sequence)) else { return };
        self.kept.remove(&entry.order);
        self.size_bytes -= entry.size_bytes;
        self.readings -= entry.batch.time_deltas_us.len();
        self.in_flight -= usize::from(matches!(entry.state, State::Sent(_)));
    }

    fn key(&self, vehicle: &str) -> Option<Arc<str>> {
        self.lanes.get_key_value(vehicle).map(|(key, _)| Arc::clone(key))
    }
}

// === impl Lane ===

impl Lane {
    fn new() -> Lane {
        Lane { next_sequence: 1, entries: BTreeMap::new(), gaps: Vec::new(), is_probing: false }
    }

    fn misses(&self, sequence: u64) -> bool {
        self.gaps.iter().any(|(first, last)| (*first..=*last).contains(&sequence))
    }

    /// What was sent below a number is presumed to be there, and one of it is to be sent again, alone.
    fn presume_below(&mut self, next_expected: u64) {
        let below = self.entries.range_mut(..next_expected).map(|(_, entry)| entry);
        below.filter(|entry| entry.was_sent).for_each(|entry| entry.state = State::Presumed);
        if self.probe().is_none() {
            return;
        }
        self.is_probing = true;
        let above = self.entries.range_mut(next_expected..).map(|(_, entry)| entry);
        above.for_each(|entry| entry.state = State::Held);
    }

    /// Has the last presumed batch sent.
    fn probe(&mut self) -> Option<u64> {
        let mut presumed = self.entries.iter_mut().rev().filter(|(_, entry)| entry.state == State::Presumed);
        let (sequence, entry) = presumed.next()?;
        entry.state = State::Queued;
        Some(*sequence)
    }

    /// What an acknowledgement of a number says to be durable.
    fn durable_to(&self, sequence: u64) -> Vec<u64> {
        let sent = match self.entries.get(&sequence).map(|entry| entry.state) {
            Some(State::Sent(sent)) => sent,
            _ => 0,
        };
        let is_durable = |number: u64, entry: &Entry| match entry.state {
            State::Sent(place) if place <= sent => true,
            _ => entry.was_sent && !self.misses(number),
        };
        // Numbers above it were sent before it where it fills a hole: then they were acknowledged before it.
        let below = self.entries.range(..=sequence);
        below.filter(|(number, entry)| is_durable(**number, entry)).map(|(number, _)| *number).collect()
    }

    /// A number that was missing has come.
    fn fill(&mut self, sequence: u64) {
        let Some(place) = self.gaps.iter().position(|(first, last)| (*first..=*last).contains(&sequence)) else {
            return;
        };
        let (first, last) = self.gaps.remove(place);
        if sequence < last {
            self.gaps.insert(place, (sequence + 1, last));
        }
        if first < sequence {
            self.gaps.insert(place, (first, sequence - 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, VecDeque};

    use proptest::prelude::*;

    use super::*;

    /// A server that takes batches in order, makes them durable later, and forgets what is not when it dies.
    #[derive(Default)]
    struct Server {
        stored: BTreeMap<String, BTreeMap<u64, i64>>,
        received: VecDeque<(String, u64, i64)>,
        stored_twice: bool,
    }

    impl Server {
        fn next_expected(&self, vehicle: &str) -> u64 {
            self.stored.get(vehicle).and_then(|stored| stored.last_key_value()).map_or(1, |(last, _)| last + 1)
        }

        fn holes(&self, vehicle: &str) -> Vec<(u64, u64)> {
            let has = |number: &u64| self.stored.get(vehicle).is_some_and(|stored| stored.contains_key(number));
            (1..self.next_expected(vehicle)).filter(|number| !has(number)).map(|number| (number, number)).collect()
        }

        fn receive(&mut self, batch: &Batch) {
            let time = batch.first_time.expect("a time").seconds;
            self.received.push_back((batch.vehicle_id.clone(), batch.sequence, time));
        }

        /// Stores some of what was received, and acknowledges it in as few messages as the contract allows.
        fn commit(&mut self, count: usize) -> Vec<(String, u64)> {
            let mut acks: BTreeMap<String, u64> = BTreeMap::new();
            let mut duplicates = Vec::new();
            let count = count.min(self.received.len());
            for (vehicle, sequence, time) in self.received.drain(..count) {
                let stored = self.stored.entry(vehicle.clone()).or_default();
                match stored.get(&sequence) {
                    Some(before) => {
                        self.stored_twice |= *before != time;
                        duplicates.push((vehicle, sequence));
                    }
                    None => {
                        stored.insert(sequence, time);
                        let highest = acks.entry(vehicle).or_default();
                        *highest = sequence.max(*highest);
                    }
                }
            }
            acks.into_iter().chain(duplicates).collect()
        }

        /// Dies; of what was received, some was stored all the same, in any order: several writers, one crash.
        fn die(&mut self, survivors: &[bool]) {
            let received = std::mem::take(&mut self.received);
            for ((vehicle, sequence, time), survives) in received.into_iter().zip(survivors.iter().cycle()) {
                if *survives {
                    self.stored.entry(vehicle).or_default().entry(sequence).or_insert(time);
                }
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(usize),
        /// The vehicle's last batch once more.
        Repeat(usize),
        Send(usize),
        Commit(usize),
        /// The stream breaks; which of the batches on their way are stored, and how many greetings come before sending.
        Break(Vec<bool>, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0usize..3).prop_map(Step::Push),
            1 => (0usize..3).prop_map(Step::Repeat),
            4 => (0usize..6).prop_map(Step::Send),
            3 => (1usize..6).prop_map(Step::Commit),
            1 => (prop::collection::vec(any::<bool>(), 1..6), any::<bool>())
                .prop_map(|(survivors, late)| Step::Break(survivors, late)),
        ]
    }

    const VEHICLES: [&str; 3] = ["a", "b", "c"];

    fn readings(time: i64) -> Readings {
        let mut readings = Readings::new();
        readings.push_us(time * 1_000_000, []);
        readings
    }

    /// Opens a stream; `late`: something is sent between the opening and the holes.
    fn open(outbox: &mut Outbox, server: &mut Server, late: bool) {
        let named: Vec<String> = outbox.last_acked().into_iter().map(|acked| acked.vehicle_id).collect();
        let expected = named
            .iter()
            .map(|vehicle| VehicleSequence { vehicle_id: vehicle.clone(), sequence: server.next_expected(vehicle) });
        outbox.open(&expected.collect::<Vec<_>>());
        let holes: Vec<_> = named.iter().map(|vehicle| (vehicle, server.holes(vehicle))).collect();
        if late {
            let batches: Vec<Batch> = std::iter::from_fn(|| outbox.next()).take(2).collect();
            batches.iter().for_each(|batch| server.receive(batch));
        }
        for (vehicle, holes) in holes {
            if !holes.is_empty() {
                outbox.gaps(vehicle, holes);
            }
        }
    }

    fn commit(outbox: &mut Outbox, server: &mut Server, count: usize) {
        for (vehicle, sequence) in server.commit(count) {
            outbox.durable(&vehicle, sequence);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn whatever_breaks_everything_is_stored_once(steps in prop::collection::vec(step(), 0..60)) {
            let (mut outbox, mut server) = (Outbox::default(), Server::default());
            let mut pushed: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
            let mut time = 0;
            for step in steps {
                match step {
                    Step::Push(vehicle) => {
                        time += 1;
                        let sequence = outbox.push(VEHICLES[vehicle], readings(time));
                        let times = pushed.entry(VEHICLES[vehicle]).or_default();
                        times.push(time);
                        prop_assert_eq!(sequence, times.len() as u64);
                    }
                    Step::Repeat(vehicle) => {
                        let last = pushed.get(VEHICLES[vehicle]).map_or(0, |times| times.len() as u64);
                        outbox.repeat(VEHICLES[vehicle], last);
                    }
                    Step::Send(count) => {
                        for _ in 0..count {
                            let Some(batch) = outbox.next() else { break };
                            server.receive(&batch);
                        }
                    }
                    Step::Commit(count) => commit(&mut outbox, &mut server, count),
                    Step::Break(survivors, late) => {
                        server.die(&survivors);
                        open(&mut outbox, &mut server, late);
                    }
                }
                // What is not kept any more is stored.
                let kept: BTreeSet<(&str, u64)> = outbox
                    .lanes
                    .iter()
                    .flat_map(|(vehicle, lane)| lane.entries.keys().map(|sequence| (&**vehicle, *sequence)))
                    .collect();
                for (vehicle, times) in &pushed {
                    for (sequence, time) in (1u64..).zip(times) {
                        let stored = server.stored.get(*vehicle).and_then(|stored| stored.get(&sequence));
                        prop_assert!(kept.contains(&(*vehicle, sequence)) || stored == Some(time));
                    }
                }
                prop_assert_eq!(kept.len(), outbox.len());
            }
            // Without a further break, sending and acknowledging empties it.
            for _ in 0..8 {
                while let Some(batch) = outbox.next() {
                    server.receive(&batch);
                }
                commit(&mut outbox, &mut server, usize::MAX);
            }
            prop_assert_eq!(outbox.len(), 0);
            prop_assert!(!outbox.is_waiting());
            prop_assert_eq!((outbox.size_bytes(), outbox.readings()), (0, 0));
            prop_assert!(!server.stored_twice);
            for (vehicle, times) in &pushed {
                let stored: Vec<i64> = server.stored[*vehicle].values().copied().collect();
                prop_assert_eq!(&stored, times);
            }
        }
    }

    #[test]
    fn what_is_sent_again_says_so_and_nothing_else_does() {
        let mut outbox = Outbox::default();
        (1..=4).for_each(|time| assert_eq!(outbox.push("a", readings(time)), time.unsigned_abs()));
        (0..3).for_each(|_| drop(outbox.next()));
        assert_eq!(outbox.last_acked(), [VehicleSequence { vehicle_id: "a".to_owned(), sequence: 0 }]);
        // 1 and 3 were stored: 3 is asked for, then 2 is missing, then 4 is new.
        outbox.open(&[VehicleSequence { vehicle_id: "a".to_owned(), sequence: 4 }]);
        outbox.gaps("a", vec![(2, 2)]);
        let sent = |outbox: &mut Outbox| outbox.next().map(|batch| (batch.sequence, batch.is_resend));
        assert_eq!((sent(&mut outbox), sent(&mut outbox)), (Some((3, true)), None));
        outbox.durable("a", 3);
        assert_eq!(outbox.last_acked(), [VehicleSequence { vehicle_id: "a".to_owned(), sequence: 1 }]);
        assert_eq!((sent(&mut outbox), sent(&mut outbox)), (Some((2, true)), Some((4, false))));
        outbox.durable("a", 4);
        assert_eq!((outbox.len(), outbox.last_acked()), (0, Vec::new()));
    }

    #[test]
    fn numbers_are_given_up_and_batches_come_twice() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push("a", readings(1)), 1);
        outbox.skip("a", 2);
        assert_eq!(outbox.push("a", readings(2)), 4);
        assert!(outbox.repeat("a", 1) && !outbox.repeat("a", 2), "a number that was given up cannot come twice");
        let sent = |outbox: &mut Outbox| outbox.next().map(|batch| (batch.sequence, batch.is_resend));
        assert_eq!([sent(&mut outbox), sent(&mut outbox)], [Some((1, false)), Some((4, false))]);
        assert_eq!([sent(&mut outbox), sent(&mut outbox)], [Some((1, true)), None]);
        outbox.gaps("a", vec![(2, 3)]);
        outbox.durable("a", 4);
        assert_eq!((outbox.len(), outbox.readings(), outbox.is_waiting()), (0, 0, false));
        // After a break it is the first sending that counts.
        outbox.push("a", readings(3));
        assert!(outbox.repeat("a", 5));
        outbox.open(&[]);
        assert_eq!([sent(&mut outbox), sent(&mut outbox)], [Some((5, false)), None]);
    }

    #[test]
    fn what_the_server_will_never_take_is_not_waited_for() {
        let mut outbox = Outbox::default();
        (1..=3).for_each(|time| assert_eq!(outbox.push("a", readings(time)), time.unsigned_abs()));
        (0..2).for_each(|_| drop(outbox.next()));
        outbox.open(&[VehicleSequence { vehicle_id: "a".to_owned(), sequence: 3 }]);
        assert_eq!(outbox.next().map(|batch| batch.sequence), Some(2));
        outbox.refused("a", 2);
        assert_eq!(outbox.next().map(|batch| batch.sequence), Some(1), "another probe");
        outbox.refused("a", 1);
        assert_eq!(outbox.next().map(|batch| batch.sequence), Some(3));
        assert!(!outbox.is_durable_to(3) && outbox.is_durable_to(2));
        outbox.durable("a", 3);
        assert!(outbox.is_durable_to(3));
    }
}
