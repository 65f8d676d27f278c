//! `base_score`, whose text XGBoost did not always read the way it is written.

use super::Problem;

const PLACE: &str = "learner.learner_model_param.base_score";

/// The version from which numbers in text are rounded correctly; 1.1.1 does not, 1.2.1 does (tried).
const ROUNDS_CORRECTLY_SINCE: [u32; 3] = [1, 2, 0];

/// One score for each group, from `5E-1` or, since XGBoost 3.1, `[5E-1,2.5E-1]`.
pub(super) fn read(text: &str, groups: usize, version: [u32; 3]) -> Result<Vec<f32>, Problem> {
    let text = text.trim();
    let scores = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(list) => list.split(',').take(groups + 1).map(number).collect::<Option<Vec<f32>>>(),
        None if version < ROUNDS_CORRECTLY_SINCE => dmlc_number(text).map(|score| vec![score]),
        None => number(text).map(|score| vec![score]),
    };
    match scores.as_deref() {
        Some([score]) => Ok(vec![*score; groups]),
        Some(scores) if scores.len() == groups => Ok(scores.to_vec()),
        Some(scores) => {
            let problem = format!("found {} or more scores, expected 1 or {groups}", scores.len());
            Err(Problem::malformed(PLACE, problem))
        }
        None => {
            let text: String = text.chars().take(40).collect();
            Err(Problem::malformed(PLACE, format!("`{text}` is neither a number nor a list of numbers")))
        }
    }
}

fn number(text: &str) -> Option<f32> {
    text.trim().parse().ok().filter(|number: &f32| number.is_finite())
}

/// The number as XGBoost 1.0 and 1.1 read it (`dmlc::stof`): digits before and after the point and the power of ten
/// are put together in float32, each step rounded, so that one text in nine comes out a neighbour of the right number.
fn dmlc_number(text: &str) -> Option<f32> {
    number(text)?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = &fraction[..fraction.len().min(DMLC_FRACTION_DIGITS)];
    let exponent: i32 = exponent.parse().ok().filter(|exponent: &i32| exponent.abs() < DMLC_EXPONENT_END)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "the library rounds here")]
    let mut value = {
        let fraction_value: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
        let power = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        whole as f32 + (fraction_value as f64 / power as f64) as f32
    };
    let mut scale = 1.0_f32;
    for _ in 0..exponent.abs() / 8 {
        scale *= 1e8;
    }
    for _ in 0..exponent.abs() % 8 {
        scale *= 10.0;
    }
    if exponent < 0 {
        value /= scale;
    } else {
        value *= scale;
    }
    Some(if negative { -value } else { value })
}

/// Digits after the point that `dmlc::stof` reads; it skips the rest.
const DMLC_FRACTION_DIGITS: usize = 19;

/// Exponents from here on have rules of their own in `dmlc::stof`; no base score is that large or small.
const DMLC_EXPONENT_END: i32 = 38;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_scores() {
        let check = |text, groups, expected: Option<&[f32]>| {
            assert_eq!(read(text, groups, [3, 2, 0]).ok().as_deref(), expected, "{text}");
        };
        check("5E-1", 1, Some(&[0.5]));
        check("5E-1", 3, Some(&[0.5; 3]));
        check("[5E-1]", 2, Some(&[0.5; 2]));
        check("[1,-2.5E0]", 2, Some(&[1.0, -2.5]));
        for text in ["", "[]", "[1,2]", "[1,2,3,4]", "nan", "[inf]", "1e99", "[[1]]", "0x1p3", "-", "[1"] {
            check(text, 3, None);
        }
    }

    #[test]
    fn early_versions_round_at_each_step() {
        // Found by loading such models into XGBoost 1.0.2 and asking for the margin.
        assert_eq!(dmlc_number("5.28E-1"), Some(0.528));
        let differing = (0..1000_u16).map(|n| format!("{n}.2345678E-2"));
        assert!(differing.filter(|text| dmlc_number(text) != number(text)).count() > 50);
        for text in ["", "-", "1e40", "1e-40", "nan", "inf", "1e", "é"] {
            assert_eq!(dmlc_number(text), None, "{text}");
        }
        assert_eq!(dmlc_number("0.12345678901234567890123"), Some(0.123_456_79));
        assert_eq!(dmlc_number("-.5"), Some(-0.5));
    }
}
