//! Whose requests the candidate gets.

use serde::{Deserialize, Serialize};

use crate::RolloutError;

/// Buckets that keys fall into: a share is so many of them.
const BUCKETS: u32 = 100_000;

/// A share of the keys, in thousandths of a percent, 0 to 100 000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(u32);

/// What keeps a caller on one side, as a number: a vehicle's id, or whatever the caller chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u64);

/// Puts keys into buckets, differently for each rollout: who was in the last canary is not first again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    seed: u64,
}

// === impl Share ===

impl Share {
    /// Nobody.
    pub const NONE: Share = Share(0);
    /// Everybody.
    pub const ALL: Share = Share(BUCKETS);

    /// So many percent, rounded to a thousandth.
    ///
    /// # Errors
    ///
    /// [`RolloutError::InvalidPlan`] for less than 0, more than 100, or no number.
    pub fn percent(percent: f64) -> Result<Share, RolloutError> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(RolloutError::InvalidPlan {
                field: "percent".to_owned(),
                found: percent.to_string(),
                expected: "0 to 100",
            });
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 100 000, as was just checked"
        )]
        let thousandths = (percent * 1_000.0).round() as u32;
        Ok(Share(thousandths))
    }

    /// In percent, 0 to 100.
    #[must_use]
    pub fn as_percent(self) -> f64 {
        f64::from(self.0) / 1_000.0
    }
}

// === impl Key ===

impl Key {
    /// Of a text or any other bytes.
    #[must_use]
    #[inline]
    pub fn of(bytes: &[u8]) -> Key {
        Key(hash(bytes))
    }
}

// === impl Split ===

impl Split {
    /// Of a salt: the rollout's id.
    #[must_use]
    pub fn new(salt: &str) -> Split {
        Split { seed: hash(salt.as_bytes()) }
    }

    /// The bucket of a key, 0 to 99 999: the same in every process, build and architecture.
    #[must_use]
    #[inline]
    pub fn bucket(self, key: Key) -> u32 {
        // Lemire's multiplication in place of a remainder: "Fast random integer generation in an interval", 2019.
        let bucket = (u128::from(mixed(self.seed ^ key.0)) * u128::from(BUCKETS)) >> 64;
        u32::try_from(bucket).unwrap_or(0)
    }

    /// Whether a key's requests go to the candidate.
    #[must_use]
    #[inline]
    pub fn takes(self, key: Key, share: Share) -> bool {
        self.bucket(key) < share.0
    }

    /// The same for a request without a key, of which `random` is a fresh random number.
    #[must_use]
    #[inline]
    pub fn takes_random(self, random: u64, share: Share) -> bool {
        (u128::from(random) * u128::from(BUCKETS)) >> 64 < u128::from(share.0)
    }
}

/// FNV-1a, 64 bits: keys are short, and nobody gains by choosing one that collides.
#[inline]
fn hash(bytes: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325;
    mixed(bytes.iter().fold(start, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// The finaliser of MurmurHash3: FNV's high bits alone are too regular for keys that differ in their last digits.
#[inline]
fn mixed(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_for_ever() {
        let check = |salt: &str, key: &str, expected: u32| {
            assert_eq!(Split::new(salt).bucket(Key::of(key.as_bytes())), expected, "{salt} {key}");
        };
        // Two replicas of different releases must agree: changing these moves vehicles of running rollouts.
        check("r-1", "car-1", 78_269);
        check("r-1", "car-2", 91_175);
        check("r-2", "car-1", 70_374);
        check("r-1", "", 93_604);
    }

    #[test]
    fn shares_are_percent() {
        let check = |percent: f64, expected: Option<u32>| {
            assert_eq!(Share::percent(percent).ok().map(|share| share.0), expected, "{percent}");
        };
        check(0.0, Some(0));
        check(0.5, Some(500));
        check(5.0, Some(5_000));
        check(100.0, Some(100_000));
        check(-0.1, None);
        check(100.1, None);
        check(f64::NAN, None);
    }
}
