//! How right predictions were, of pairs of an answer and what happened.

use crate::prediction::Output;

/// Bins of probability that calibration is judged in, each a tenth wide.
const BINS: usize = 10;
/// A probability from which on an event is expected.
const HALF: f64 = 0.5;

/// How right the predictions of one version were.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Score {
    /// Of numbers.
    Numbers(NumberScore),
    /// Of probabilities.
    Classes(ClassScore),
}

/// Of predicted numbers; all in the output's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NumberScore {
    /// Mean of the absolute errors of the median.
    pub mean_absolute_error: f64,
    /// Standard deviation of the absolute errors: with the count, how well the mean is known.
    pub absolute_error_deviation: f64,
    /// Root of the mean of the squared errors.
    pub root_mean_squared_error: f64,
    /// Mean of predicted less actual.
    pub bias: f64,
    /// Share of what happened that lies within q10 and q90, 0 to 1; none of answers without an interval.
    pub interval_coverage: Option<f64>,
    /// Mean width of the interval.
    pub interval_width: Option<f64>,
}

/// Of predicted probabilities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassScore {
    /// Share of likeliest classes that happened, 0 to 1; of an event, a probability of a half says that it happens.
    pub accuracy: f64,
    /// Mean of the squared errors of the probabilities, summed over classes: 0 to 2; of an event 0 to 1.
    pub brier_score: f64,
    /// Expected calibration error over ten bins: how far confidence is from accuracy, 0 to 1. Of an event, how far its
    /// probability is from how often it happened.
    pub calibration_error: f64,
}

/// Sums of how far off predictions were. Those of parts add up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Errors {
    /// Pairs of an answer and what happened.
    pub count: u64,
    /// Absolute errors of the median, in the output's unit; of probabilities their Brier scores.
    pub sum: f64,
    /// Their squares.
    pub squares: f64,
    /// Pairs whose answer has an interval.
    pub intervals: u64,
    /// Those in which what happened lies within q10 and q90.
    pub covered: u64,
}

/// Sums over pairs, from which a score comes. Tallies of parts add up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    absolute: f64,
    squared: f64,
    signed: f64,
    intervals: u64,
    covered: u64,
    width: f64,
    hits: u64,
    brier: f64,
    brier_squares: f64,
    bins: [Bin; BINS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    count: u64,
    confidence: f64,
    hits: u64,
}

// === impl Tally ===

impl Tally {
    /// Adds an answer and what happened. Says no to a pair that does not belong together.
    pub(crate) fn add(&mut self, output: &Output, answer: &[f32], actual: f64) -> bool {
        if answer.len() != output.width() || !actual.is_finite() {
            return false;
        }
        match (output, answer) {
            (Output::Quantiles, [low, median, high]) => {
                self.number(f64::from(*median), actual);
                self.intervals += 1;
                self.covered += u64::from(f64::from(*low) <= actual && actual <= f64::from(*high));
                self.width += f64::from(*high) - f64::from(*low);
            }
            (Output::Numbers(1), [number]) => self.number(f64::from(*number), actual),
            (Output::Probability, [probability]) => {
                let (probability, happened) = (f64::from(*probability), actual >= HALF);
                let error = probability - f64::from(u8::from(happened));
                self.brier(error * error);
                self.hits += u64::from((probability >= HALF) == happened);
                self.bin(probability, happened);
                self.count += 1;
            }
            (Output::Classes(_), probabilities) => {
                let Some(happened) = place(actual, probabilities.len()) else { return false };
                let likeliest = likeliest(probabilities);
                let error = |(class, probability): (usize, &f32)| {
                    let error = f64::from(*probability) - f64::from(u8::from(class == happened));
                    error * error
                };
                self.brier(probabilities.iter().enumerate().map(error).sum());
                self.hits += u64::from(likeliest == happened);
                self.bin(f64::from(probabilities[likeliest]), likeliest == happened);
                self.count += 1;
            }
            _ => return false,
        }
        true
    }

    fn number(&mut self, predicted: f64, actual: f64) {
        let error = predicted - actual;
        self.count += 1;
        self.absolute += error.abs();
        self.squared += error * error;
        self.signed += error;
    }

    fn brier(&mut self, score: f64) {
        self.brier += score;
        self.brier_squares += score * score;
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 10, as it is clamped")]
    fn bin(&mut self, confidence: f64, hit: bool) {
        let place = (confidence.clamp(0.0, 1.0) * BINS as f64) as usize;
        let bin = &mut self.bins[place.min(BINS - 1)];
        bin.count += 1;
        bin.confidence += confidence;
        bin.hits += u64::from(hit);
    }

    /// How far off the answers were.
    pub(crate) fn errors(&self, output: &Output) -> Errors {
        let (sum, squares) = match output {
            Output::Quantiles | Output::Numbers(_) => (self.absolute, self.squared),
            Output::Probability | Output::Classes(_) => (self.brier, self.brier_squares),
        };
        Errors { count: self.count, sum, squares, intervals: self.intervals, covered: self.covered }
    }

    /// The score; none of no pairs.
    pub(crate) fn score(&self, output: &Output) -> Option<Score> {
        if self.count == 0 {
            return None;
        }
        let mean = |sum: f64| sum / real(self.count);
        Some(match output {
            Output::Quantiles | Output::Numbers(_) => {
                let (absolute, squared) = (mean(self.absolute), mean(self.squared));
                let of_intervals = |sum: f64| (self.intervals > 0).then(|| sum / real(self.intervals));
                Score::Numbers(NumberScore {
                    mean_absolute_error: absolute,
                    absolute_error_deviation: (squared - absolute * absolute).max(0.0).sqrt(),
                    root_mean_squared_error: squared.sqrt(),
                    bias: mean(self.signed),
                    interval_coverage: of_intervals(real(self.covered)),
                    interval_width: of_intervals(self.width),
                })
            }
            Output::Probability | Output::Classes(_) => {
                let off = |bin: &Bin| (bin.confidence - real(bin.hits)).abs();
                Score::Classes(ClassScore {
                    accuracy: mean(real(self.hits)),
                    brier_score: mean(self.brier),
                    calibration_error: mean(self.bins.iter().map(off).sum()),
                })
            }
        })
    }
}

/// The class a number is the place of.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number below a count")]
pub(crate) fn place(actual: f64, classes: usize) -> Option<usize> {
    (actual >= 0.0 && actual.fract() == 0.0 && actual < real(classes as u64)).then_some(actual as usize)
}

/// The first of the likeliest.
fn likeliest(probabilities: &[f32]) -> usize {
    let better = |best: usize, class: usize| if probabilities[class] > probabilities[best] { class } else { best };
    (0..probabilities.len()).fold(0, better)
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn real(count: impl TryInto<u64>) -> f64 {
    count.try_into().unwrap_or(u64::MAX) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(output: &Output, pairs: &[(&[f32], f64)]) -> Option<Score> {
        let mut tally = Tally::default();
        pairs.iter().for_each(|(answer, actual)| assert!(tally.add(output, answer, *actual), "{answer:?} {actual}"));
        tally.score(output)
    }

    #[test]
    fn numbers_are_scored_by_their_errors_and_intervals() {
        let found = score(
            &Output::Quantiles,
            &[(&[90.0, 100.0, 110.0], 104.0), (&[80.0, 100.0, 110.0], 70.0), (&[0.0, 10.0, 20.0], 20.0)],
        );
        let Some(Score::Numbers(found)) = found else { panic!("{found:?}") };
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        close(found.mean_absolute_error, 44.0 / 3.0);
        close(found.root_mean_squared_error, (1016.0f64 / 3.0).sqrt());
        close(found.absolute_error_deviation, (1016.0 / 3.0 - (44.0f64 / 3.0).powi(2)).sqrt());
        close(found.bias, (-4.0 + 30.0 - 10.0) / 3.0);
        close(found.interval_coverage.expect("intervals"), 2.0 / 3.0);
        close(found.interval_width.expect("intervals"), 70.0 / 3.0);
    }

    #[test]
    fn probabilities_are_scored_by_brier_and_calibration() {
        let check = |output: &Output, pairs: &[(&[f32], f64)], expected: [f64; 3]| {
            let Some(Score::Classes(found)) = score(output, pairs) else { panic!("no score") };
            let found = [found.accuracy, found.brier_score, found.calibration_error];
            assert!(found.iter().zip(expected).all(|(found, it)| (found - it).abs() < 1e-6), "{found:?} {expected:?}");
        };
        check(&Output::Probability, &[(&[0.75], 1.0), (&[0.25], 1.0)], [0.5, 0.3125, 0.5]);
        check(&Output::Probability, &[(&[1.0], 1.0), (&[0.0], 0.0)], [1.0, 0.0, 0.0]);
        let classes = Output::Classes(["a", "b", "c"].map(str::to_owned).into());
        check(&classes, &[(&[0.5, 0.25, 0.25], 0.0), (&[0.5, 0.25, 0.25], 2.0)], [0.5, 0.625, 0.0]);
    }

    #[test]
    fn pairs_that_do_not_belong_together_are_not_counted() {
        let mut tally = Tally::default();
        let classes = Output::Classes(["a", "b"].map(str::to_owned).into());
        assert!(!tally.add(&Output::Quantiles, &[1.0], 1.0));
        assert!(!tally.add(&Output::Quantiles, &[1.0, 2.0, 3.0], f64::NAN));
        assert!(!tally.add(&classes, &[0.5, 0.5], 2.0));
        assert!(!tally.add(&classes, &[0.5, 0.5], 0.5));
        assert!(!tally.add(&Output::Numbers(2), &[0.5, 0.5], 0.5), "which of them?");
        assert!(tally.score(&classes).is_none());
    }
}
