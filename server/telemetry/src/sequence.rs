//! Which batches of a vehicle a source has delivered: a pure state machine, exact to the batch.
//!
//! A source numbers the batches of each vehicle from 1. Everything up to the highest number that came is there, but for
//! the ranges in the gap ledger. The ledger has a bound; what would not fit is refused and told, never dropped.

use crate::codec::bytes::{Input, put_varint};

/// Numbers that follow each other, both ends inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceRange {
    /// First.
    pub first: u64,
    /// Last.
    pub last: u64,
}

/// How far a sequence may be from complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceLimits {
    /// Most ranges of the ledger, at least 1.
    pub gaps_max: usize,
    /// Most batches that may be missing between the highest number and the next, at least 1.
    pub jump_max: u64,
}

/// What has come of one vehicle from one source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sequence {
    /// The highest number that came; 0: none.
    highest: u64,
    /// What is missing below it: in order, apart from each other.
    gaps: Vec<SequenceRange>,
}

/// What a number is to a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Higher than all before; what it skipped is in the ledger now.
    New,
    /// It was missing.
    FillsGap,
    /// It came before: nothing has changed.
    Duplicate,
}

/// A number cannot be taken; nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SequenceError {
    /// Numbers begin at 1.
    #[error("sequence 0, expected numbers from 1")]
    Zero,
    /// The hole before it would be too long.
    #[error("sequence {found} leaves a hole after {highest}, expected at most {max} missing batches")]
    TooFarAhead {
        /// The number.
        found: u64,
        /// The highest so far.
        highest: u64,
        /// The limit.
        max: u64,
    },
    /// The ledger is full, and this number would add a range.
    #[error("sequence {found} would make more than {max} holes; resend what is missing in order, from the first hole")]
    TooManyGaps {
        /// The number.
        found: u64,
        /// The limit.
        max: usize,
    },
}

// === impl SequenceRange ===

impl SequenceRange {
    /// How many numbers it has.
    #[must_use]
    pub fn count(self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }
}

// === impl SequenceLimits ===

impl Default for SequenceLimits {
    /// 64 holes of up to a million batches in all: eleven days of a batch a second.
    fn default() -> SequenceLimits {
        SequenceLimits { gaps_max: 64, jump_max: 1_000_000 }
    }
}

// === impl Sequence ===

impl Sequence {
    /// The highest number that came; 0 when none did.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// What the source should send next.
    #[must_use]
    pub fn next_expected(&self) -> u64 {
        self.highest.saturating_add(1)
    }

    /// What is missing below the highest number, in order.
    #[must_use]
    pub fn gaps(&self) -> &[SequenceRange] {
        &self.gaps
    }

    /// How many batches are missing.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.gaps.iter().map(|gap| gap.count()).sum()
    }

    /// Whether a number came.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        number != 0 && number <= self.highest && self.gap_of(number).is_err()
    }

    /// Takes a number.
    ///
    /// # Errors
    ///
    /// When the ledger cannot hold what is missing then, or the number is 0. The sequence is as before.
    pub fn admit(&mut self, number: u64, limits: &SequenceLimits) -> Result<Admission, SequenceError> {
        if number == 0 {
            return Err(SequenceError::Zero);
        }
        if number > self.highest {
            return self.advance(number, limits);
        }
        let Ok(index) = self.gap_of(number) else { return Ok(Admission::Duplicate) };
        let gap = self.gaps[index];
        match (gap.first == number, gap.last == number) {
            (true, true) => drop(self.gaps.remove(index)),
            (true, false) => self.gaps[index].first = number + 1,
            (false, true) => self.gaps[index].last = number - 1,
            (false, false) => {
                self.check_room(number, limits)?;
                self.gaps[index].last = number - 1;
                self.gaps.insert(index + 1, SequenceRange { first: number + 1, last: gap.last });
            }
        }
        Ok(Admission::FillsGap)
    }

    fn advance(&mut self, number: u64, limits: &SequenceLimits) -> Result<Admission, SequenceError> {
        let skipped = number - self.highest - 1;
        if skipped > limits.jump_max || i64::try_from(number).is_err() {
            return Err(SequenceError::TooFarAhead { found: number, highest: self.highest, max: limits.jump_max });
        }
        if skipped > 0 {
            self.check_room(number, limits)?;
            self.gaps.push(SequenceRange { first: self.highest + 1, last: number - 1 });
        }
        self.highest = number;
        Ok(Admission::New)
    }

    fn check_room(&self, number: u64, limits: &SequenceLimits) -> Result<(), SequenceError> {
        if self.gaps.len() < limits.gaps_max {
            return Ok(());
        }
        Err(SequenceError::TooManyGaps { found: number, max: limits.gaps_max })
    }

    /// The place of the gap with this number, or where it would be.
    fn gap_of(&self, number: u64) -> Result<usize, usize> {
        self.gaps.binary_search_by(|gap| {
            if gap.last < number {
                std::cmp::Ordering::Less
            } else if gap.first > number {
                std::cmp::Ordering::Greater
            } else {
                std::cmp::Ordering::Equal
            }
        })
    }

    /// As bytes: what stores keep beside the readings.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        put_varint(&mut bytes, self.highest);
        put_varint(&mut bytes, self.gaps.len() as u64);
        let mut after = 0;
        for gap in &self.gaps {
            put_varint(&mut bytes, gap.first - after);
            put_varint(&mut bytes, gap.last - gap.first);
            after = gap.last;
        }
        bytes
    }

    /// From bytes.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Sequence, &'static str> {
        let mut input = Input::new(bytes);
        if input.byte()? != FORMAT {
            return Err("a sequence of an unknown format");
        }
        let highest = input.varint()?;
        let count = input.count(input.left() / 2)?;
        let mut gaps: Vec<SequenceRange> = Vec::with_capacity(count);
        for _ in 0..count {
            // Apart from each other: at least one number between two gaps, and none before 1.
            let (after, least) = gaps.last().map_or((0, 1), |gap| (gap.last, 2));
            let distance = input.varint()?;
            let first = after.checked_add(distance).ok_or("a gap beyond all numbers")?;
            let last = first.checked_add(input.varint()?).ok_or("a gap beyond all numbers")?;
            if distance < least || last >= highest {
                return Err("gaps that overlap or reach beyond the sequence");
            }
            gaps.push(SequenceRange { first, last });
        }
        input.end()?;
        Ok(Sequence { highest, gaps })
    }
}

/// First byte of a sequence's bytes.
const FORMAT: u8 = 1;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn range(first: u64, last: u64) -> SequenceRange {
        SequenceRange { first, last }
    }

    #[test]
    fn numbers_are_new_fill_a_gap_or_came_before() {
        fn check(before: &[u64], number: u64, expected: Result<Admission, SequenceError>, gaps: &[SequenceRange]) {
            let limits = SequenceLimits { gaps_max: 2, jump_max: 10 };
            let mut sequence = Sequence::default();
            for number in before {
                sequence.admit(*number, &limits).expect("within the limits");
            }
            assert_eq!(sequence.admit(number, &limits), expected, "{number} after {before:?}");
            assert_eq!(sequence.gaps(), gaps, "{number} after {before:?}");
        }
        check(&[], 1, Ok(Admission::New), &[]);
        check(&[], 0, Err(SequenceError::Zero), &[]);
        check(&[1], 1, Ok(Admission::Duplicate), &[]);
        check(&[1], 3, Ok(Admission::New), &[range(2, 2)]);
        check(&[1, 5], 2, Ok(Admission::FillsGap), &[range(3, 4)]);
        check(&[1, 5], 4, Ok(Admission::FillsGap), &[range(2, 3)]);
        check(&[1, 5], 3, Ok(Admission::FillsGap), &[range(2, 2), range(4, 4)]);
        check(&[1, 3], 2, Ok(Admission::FillsGap), &[]);
        check(&[], 11, Ok(Admission::New), &[range(1, 10)]);
        check(&[], 12, Err(SequenceError::TooFarAhead { found: 12, highest: 0, max: 10 }), &[]);
        check(&[1], u64::MAX, Err(SequenceError::TooFarAhead { found: u64::MAX, highest: 1, max: 10 }), &[]);
        let full = &[range(1, 1), range(3, 5)];
        check(&[2, 6], 8, Err(SequenceError::TooManyGaps { found: 8, max: 2 }), full);
        check(&[2, 6], 4, Err(SequenceError::TooManyGaps { found: 4, max: 2 }), full);
        check(&[2, 6], 7, Ok(Admission::New), full);
        check(&[2, 6], 3, Ok(Admission::FillsGap), &[range(1, 1), range(4, 5)]);
    }

    proptest! {
        #[test]
        fn it_is_the_set_of_what_came(numbers in prop::collection::vec(0u64..200, 0..200), gaps_max in 1usize..20, jump_max in 1u64..60) {
            let limits = SequenceLimits { gaps_max, jump_max };
            let mut sequence = Sequence::default();
            let mut came = BTreeSet::new();
            for number in numbers {
                let before = sequence.clone();
                let highest = came.last().copied().unwrap_or(0);
                match sequence.admit(number, &limits) {
                    Ok(Admission::New) => {
                        prop_assert!(number > highest);
                        came.insert(number);
                    }
                    Ok(Admission::FillsGap) => {
                        prop_assert!(number < highest);
                        prop_assert!(came.insert(number));
                    }
                    Ok(Admission::Duplicate) => prop_assert!(came.contains(&number)),
                    Err(_) => {
                        prop_assert_eq!(&sequence, &before);
                        prop_assert!(!came.contains(&number));
                    }
                }
                for number in 0..220 {
                    prop_assert_eq!(sequence.contains(number), came.contains(&number));
                }
                prop_assert!(sequence.gaps().len() <= gaps_max);
                prop_assert!(sequence.gaps().windows(2).all(|pair| pair[0].last + 1 < pair[1].first));
                prop_assert_eq!(sequence.highest() - sequence.missing(), came.len() as u64);
                prop_assert_eq!(Sequence::from_bytes(&sequence.to_bytes()), Ok(sequence.clone()));
            }
        }

        #[test]
        fn hostile_bytes_are_refused_or_whole(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(sequence) = Sequence::from_bytes(&bytes) {
                prop_assert_eq!(Sequence::from_bytes(&sequence.to_bytes()), Ok(sequence));
            }
        }
    }
}
