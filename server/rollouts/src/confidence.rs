//! What can be said for certain of counts and sums that are looked at again and again.

use crate::Moments;

/// How likely a guard fails by noise alone, over all its looks.
const ALPHA: f64 = 0.001;

/// How many standard errors what was seen may be off, at all times at once.
///
/// A bound for one look (3.1 at 0.001) is passed sooner or later by somebody who looks every second. This one grows with
/// the iterated logarithm and holds for all looks together: Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform,
/// nonparametric, nonasymptotic confidence sequences", 2021, equation 2. At 100 it is 4.9, at a million 5.2.
pub(crate) fn errors(count: u64) -> f64 {
    let count = real(count.max(2));
    1.7 * ((2.0 * count).ln().ln() + 0.72 * (10.4 / ALPHA).ln()).sqrt()
}

/// The least and the most a share may be of which `hits` of `count` were seen: Wilson's score interval, 1927.
pub(crate) fn share(hits: u64, count: u64) -> (f64, f64) {
    if count == 0 {
        return (0.0, 1.0);
    }
    let (n, z) = (real(count), errors(count));
    let p = real(hits.min(count)) / n;
    let center = p + z * z / (2.0 * n);
    let spread = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    (((center - spread) / scale).max(0.0), ((center + spread) / scale).min(1.0))
}

/// The least that one share may exceed another by, each `(hits, count)`: Newcombe's hybrid score interval, 1998, method 10.
pub(crate) fn excess(first: (u64, u64), second: (u64, u64)) -> f64 {
    let (p, q) = (ratio(first.0, first.1), ratio(second.0, second.1));
    let (low, _) = share(first.0, first.1);
    let (_, high) = share(second.0, second.1);
    (p - q) - ((p - low).powi(2) + (high - q).powi(2)).sqrt()
}

/// The least and the most a mean may be, by its standard error.
pub(crate) fn mean(moments: &Moments) -> (f64, f64) {
    let Some(mean) = moments.mean() else { return (f64::NEG_INFINITY, f64::INFINITY) };
    let spread = errors(moments.count) * moments.standard_error();
    (mean - spread, mean + spread)
}

/// How far the index of population stability may be from 0 though nothing has shifted: over `bins` bins it is distributed
/// as chi-squared of one degree less, times the sum of the counts' inverses (Yurdakul and Naranjo, "Statistical properties
/// of the population stability index", 2020). Its quantile by Wilson and Hilferty, 1931.
pub(crate) fn shift_noise(bins: usize, first: u64, second: u64) -> f64 {
    if bins < 2 || first == 0 || second == 0 {
        return f64::INFINITY;
    }
    let (degrees, z) = (real(u64::try_from(bins - 1).unwrap_or(u64::MAX)), errors(first.min(second)));
    let part = 2.0 / (9.0 * degrees);
    degrees * (1.0 - part + z * part.sqrt()).powi(3) * (1.0 / real(first) + 1.0 / real(second))
}

pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { real(part) / real(whole) }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_what_was_seen() {
        let check = |hits: u64, count: u64| {
            let (low, high) = share(hits, count);
            let seen = ratio(hits, count);
            assert!(low <= seen && seen <= high && low >= 0.0 && high <= 1.0, "{hits} of {count}: {low} to {high}");
        };
        for (hits, count) in [(0, 1), (1, 1), (0, 100), (3, 100), (100, 100), (5, 1_000_000)] {
            check(hits, count);
        }
        assert_eq!(share(0, 0), (0.0, 1.0));
    }

    #[test]
    fn more_is_known_of_more() {
        let width = |count: u64| {
            let (low, high) = share(count / 10, count);
            high - low
        };
        assert!(width(100) > width(1_000) && width(1_000) > width(100_000));
        assert!((errors(100) - 4.9).abs() < 0.2, "{}", errors(100));
    }

    #[test]
    fn an_excess_is_certain_only_with_counts() {
        assert!(excess((10, 100), (0, 100)) < 0.0, "ten of a hundred may be luck at these odds");
        assert!(excess((1_000, 10_000), (0, 10_000)) > 0.07);
    }
}
