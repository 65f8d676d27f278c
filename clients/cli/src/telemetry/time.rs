//! Points in time, as people write and read them.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

/// The last second that RFC 3339 can write: the end of the year 9999.
const SECONDS_MAX: u64 = 253_402_300_799;

/// Reads `now`, a time span before now such as `1h` or `7d`, or a time in RFC 3339 (UTC where it names no zone).
pub(crate) fn parse(text: &str) -> Result<SystemTime, String> {
    if text == "now" {
        return Ok(SystemTime::now());
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        return SystemTime::now().checked_sub(ago).ok_or_else(|| "is longer ago than there is time".to_owned());
    }
    let midnight = (text.len() == "2026-01-01".len()).then(|| format!("{text}T00:00:00Z"));
    humantime::parse_rfc3339_weak(midnight.as_deref().unwrap_or(text)).map_err(|_| {
        "expected a time span before now, such as 90s, 1h or 7d, a time such as 2026-01-31T12:00:00Z, or now".to_owned()
    })
}

/// For a request.
pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::from(time)
}

/// Microseconds since 1970.
pub(crate) fn microseconds(time: &Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos) / 1_000)
}

/// In RFC 3339 with as many digits as it needs; what that cannot write stays a number.
pub(crate) fn text(time_us: i64) -> String {
    let since = u64::try_from(time_us).ok().map(Duration::from_micros);
    let Some(since) = since.filter(|since| since.as_secs() <= SECONDS_MAX) else { return format!("{time_us} us") };
    let time = SystemTime::UNIX_EPOCH + since;
    match since.subsec_micros() {
        0 => humantime::format_rfc3339_seconds(time).to_string(),
        micros if micros % 1_000 == 0 => humantime::format_rfc3339_millis(time).to_string(),
        _ => humantime::format_rfc3339_micros(time).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        let check = |input: &str, expected: &str| {
            let time = parse(input).expect(input);
            assert_eq!(text(microseconds(&timestamp(time))), expected, "{input}");
        };
        check("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z");
        check("2026-01-31 12:00:00.5", "2026-01-31T12:00:00.500Z");
        check("2026-01-31", "2026-01-31T00:00:00Z");
        let hour = parse("1h").expect("a span");
        let ago = SystemTime::now().duration_since(hour).expect("before now");
        assert!(ago >= Duration::from_secs(3600) && ago < Duration::from_secs(3660));
        for wrong in ["", "yesterday", "1 fortnight", "2026-13-01", "99999999999999y"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn odd_times_do_not_break_the_text() {
        for (time_us, expected) in [
            (i64::MIN, "-9223372036854775808 us"),
            (i64::MAX, "9223372036854775807 us"),
            (1, "1970-01-01T00:00:00.000001Z"),
        ] {
            assert_eq!(text(time_us), expected);
        }
    }
}
