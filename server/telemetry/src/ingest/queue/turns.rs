//! Whose batch is next: gateways take turns, as the flows of RFC 8290 (FQ-CoDel) do, section 4.2.
//!
//! A gateway that waits for nothing begins with credit for a quantum, before all that wait already; one that sends more
//! than its share waits for the others' quanta, and its credit is paid back before it is new again. So one that sends now
//! and then never waits behind one that floods, and nobody starves. Pure: no lock, clock or channel.

use std::collections::VecDeque;

/// What a gateway may be ahead of the others, in readings.
pub(super) const QUANTUM: u32 = 256;
/// What a batch costs beyond its readings: about as much as ten of them in a commit of batches of ten.
const BATCH_COST: u32 = 10;

/// Which gateway: its place among the flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlowId(usize);

/// What waits, by gateway.
#[derive(Debug)]
pub(super) struct Turns<T> {
    flows: Vec<Flow<T>>,
    /// Places that nobody has.
    free: Vec<usize>,
    /// Flows that have just begun to wait, and the others, each in its turn.
    new: VecDeque<usize>,
    old: VecDeque<usize>,
    waiting: usize,
}

#[derive(Debug)]
struct Flow<T> {
    /// With what each costs.
    batches: VecDeque<(u32, T)>,
    credit: i64,
    /// It is in one of the lists.
    is_listed: bool,
    /// Nobody joins it any more: its place is free once it is empty.
    has_left: bool,
}

// === impl Turns ===

impl<T> Turns<T> {
    pub(super) fn new() -> Turns<T> {
        Turns { flows: Vec::new(), free: Vec::new(), new: VecDeque::new(), old: VecDeque::new(), waiting: 0 }
    }

    /// A place for a gateway.
    pub(super) fn join(&mut self) -> FlowId {
        let flow = Flow { batches: VecDeque::new(), credit: 0, is_listed: false, has_left: false };
        match self.free.pop() {
            Some(place) => {
                self.flows[place] = flow;
                FlowId(place)
            }
            None => {
                self.flows.push(flow);
                FlowId(self.flows.len() - 1)
            }
        }
    }

    /// Gives the place up. What waits in it has its turns all the same.
    pub(super) fn leave(&mut self, FlowId(place): FlowId) {
        self.flows[place].has_left = true;
        if !self.flows[place].is_listed {
            self.free.push(place);
        }
    }

    /// Appends what costs so many readings.
    pub(super) fn push(&mut self, FlowId(place): FlowId, readings: u32, batch: T) {
        let flow = &mut self.flows[place];
        flow.batches.push_back((readings.saturating_add(BATCH_COST), batch));
        self.waiting += 1;
        if !flow.is_listed {
            (flow.is_listed, flow.credit) = (true, i64::from(QUANTUM));
            self.new.push_back(place);
        }
    }

    /// Takes the next.
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.waiting == 0 {
            self.forget_idle();
            return None;
        }
        loop {
            let is_new = !self.new.is_empty();
            let place = if is_new { self.new.pop_front() } else { self.old.pop_front() }?;
            let flow = &mut self.flows[place];
            if flow.credit <= 0 {
                flow.credit += i64::from(QUANTUM);
                self.old.push_back(place);
            } else if let Some((cost, batch)) = flow.batches.pop_front() {
                flow.credit -= i64::from(cost);
                let list = if is_new { &mut self.new } else { &mut self.old };
                list.push_front(place);
                self.waiting -= 1;
                return Some(batch);
            } else if is_new {
                // Not new again before all others had their turn, however often it comes back.
                self.old.push_back(place);
            } else {
                self.forget(place);
            }
        }
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Where nothing waits, nobody was kept waiting.
    fn forget_idle(&mut self) {
        while let Some(place) = self.new.pop_front().or_else(|| self.old.pop_front()) {
            self.forget(place);
        }
    }

    fn forget(&mut self, place: usize) {
        let flow = &mut self.flows[place];
        flow.is_listed = false;
        if flow.has_left {
            flow.batches = VecDeque::new();
            self.free.push(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Gateways by their number, a batch as gateway and its number there.
    struct Model {
        turns: Turns<(usize, u32)>,
        flows: Vec<FlowId>,
        sent: Vec<u32>,
    }

    impl Model {
        fn new(gateways: usize) -> Model {
            let mut turns = Turns::new();
            let flows = (0..gateways).map(|_| turns.join()).collect();
            Model { turns, flows, sent: vec![0; gateways] }
        }

        fn push(&mut self, gateway: usize, readings: u32) {
            self.turns.push(self.flows[gateway], readings, (gateway, self.sent[gateway]));
            self.sent[gateway] += 1;
        }
    }

    #[test]
    fn one_that_comes_now_and_then_is_next_whoever_floods() {
        let mut model = Model::new(5);
        (0..4).for_each(|flood| (0..1_000).for_each(|_| model.push(flood, 32)));
        // They are not new any more.
        (0..100).for_each(|_| assert!(model.turns.pop().is_some()));
        for number in 0..10 {
            model.push(4, 32);
            assert_eq!(model.turns.pop(), Some((4, number)));
            // The floods have a turn each meanwhile.
            (0..60).for_each(|_| assert!(model.turns.pop().is_some_and(|(gateway, _)| gateway != 4)));
        }
    }

    #[test]
    fn one_that_comes_back_at_once_is_not_new_again() {
        let mut model = Model::new(2);
        (0..1_000).for_each(|_| model.push(0, 64));
        let mut of_both = [0; 2];
        for _ in 0..400 {
            // It never has more than one waiting, and would always be new.
            if model.turns.flows[1].batches.is_empty() {
                model.push(1, 64);
            }
            let (gateway, _) = model.turns.pop().expect("something waits");
            of_both[gateway] += 1;
        }
        assert!((150..=250).contains(&of_both[1]), "{of_both:?}");
    }

    #[test]
    fn a_place_is_given_again_once_it_is_empty() {
        let mut turns = Turns::new();
        let first = turns.join();
        turns.push(first, 1, "a");
        turns.leave(first);
        let second = turns.join();
        assert_ne!(first, second, "its batch waits");
        assert_eq!((turns.pop(), turns.pop()), (Some("a"), None));
        assert_eq!(turns.join(), first);
        turns.leave(second);
        assert_eq!(turns.join(), second);
        assert_eq!(turns.flows.len(), 2);
    }

    proptest! {
        /// Whatever comes when: all of it leaves, in its gateway's order.
        #[test]
        fn nothing_is_lost_and_the_order_of_a_gateway_is_kept(
            steps in prop::collection::vec((0usize..6, 0u32..4_096, 0usize..4), 1..300),
        ) {
            let mut model = Model::new(6);
            let mut left: HashMap<usize, u32> = HashMap::new();
            let mut waiting = 0;
            let mut check = |popped: Option<(usize, u32)>, waiting: usize| -> Result<(), TestCaseError> {
                prop_assert_eq!(popped.is_some(), waiting > 0);
                if let Some((gateway, number)) = popped {
                    let next = left.entry(gateway).or_default();
                    prop_assert_eq!(number, *next);
                    *next += 1;
                }
                Ok(())
            };
            for (gateway, readings, pops) in steps {
                model.push(gateway, readings);
                waiting += 1;
                for _ in 0..pops {
                    check(model.turns.pop(), waiting)?;
                    waiting = waiting.saturating_sub(1);
                }
            }
            while waiting > 0 {
                check(model.turns.pop(), waiting)?;
                waiting -= 1;
            }
            prop_assert!(model.turns.is_empty() && model.turns.pop().is_none());
        }

        /// While all wait, none has had more than another by more than two quanta and a batch of each.
        #[test]
        fn none_that_waits_is_behind_the_others(
            sizes in prop::collection::vec(1u32..4_096, 2..8),
            pops in 1usize..400,
        ) {
            let mut model = Model::new(sizes.len());
            for (gateway, readings) in sizes.iter().enumerate() {
                (0..400).for_each(|_| model.push(gateway, *readings));
            }
            let mut served = vec![0u64; sizes.len()];
            for _ in 0..pops {
                let (gateway, _) = model.turns.pop().expect("something waits");
                served[gateway] += u64::from(sizes[gateway] + BATCH_COST);
            }
            let largest = u64::from(sizes.iter().max().copied().unwrap_or(0) + BATCH_COST);
            let most = served.iter().max().copied().unwrap_or(0);
            let least = served.iter().min().copied().unwrap_or(0);
            prop_assert!(most - least <= 2 * (u64::from(QUANTUM) + largest), "{served:?} of {sizes:?}");
        }

        /// A newcomer waits for no more than what other newcomers before it may send, and the batch that is next.
        #[test]
        fn a_newcomer_waits_for_newcomers_alone(
            floods in 1usize..20, newcomers in 1usize..5, readings in 1u32..4_096, pops in 0usize..200,
        ) {
            let mut model = Model::new(floods + newcomers);
            (0..floods).for_each(|flood| (0..300).for_each(|_| model.push(flood, readings)));
            // All floods had their turn as newcomers, which is when each has used its quantum.
            let quantum = QUANTUM as usize;
            (0..floods * (quantum / (readings + BATCH_COST) as usize + 1) + pops).for_each(|_| {
                model.turns.pop();
            });
            (0..newcomers).for_each(|newcomer| model.push(floods + newcomer, 8));
            for newcomer in 0..newcomers {
                prop_assert_eq!(model.turns.pop(), Some((floods + newcomer, 0)));
            }
        }
    }
}
