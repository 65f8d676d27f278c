//! How many serving cores there are: what the cgroup allows, not what the host has.

use std::path::Path;

/// Serving cores for a configured number; 0 asks the cgroup, and the scheduler where there is no quota.
pub(crate) fn serving_cores(configured: usize) -> usize {
    if configured > 0 {
        return configured;
    }
    let allowed = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    quota(Path::new("/sys/fs/cgroup")).map_or(allowed, |quota| quota.min(allowed)).max(1)
}

/// Whole cores of the CPU quota under a cgroup folder, rounded up; none without a quota.
fn quota(root: &Path) -> Option<usize> {
    if let Ok(text) = fs_err::read_to_string(root.join("cpu.max")) {
        let mut fields = text.split_whitespace();
        return cores(fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    }
    let number = |file: &str| fs_err::read_to_string(root.join("cpu").join(file)).ok()?.trim().parse().ok();
    cores(number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)
}

fn cores(quota_us: i64, period_us: i64) -> Option<usize> {
    if quota_us <= 0 || period_us <= 0 {
        return None;
    }
    usize::try_from((quota_us + period_us - 1) / period_us).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_rounded_up_to_whole_cores() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let check = |text: &str, expected: Option<usize>| {
            fs_err::write(directory.path().join("cpu.max"), text).expect("written");
            assert_eq!(quota(directory.path()), expected, "{text}");
        };
        check("max 100000\n", None);
        check("200000 100000\n", Some(2));
        check("150000 100000\n", Some(2));
        check("50000 100000\n", Some(1));
        check("", None);
        check("-1 100000", None);
    }

    #[test]
    fn what_is_configured_wins() {
        assert_eq!(serving_cores(3), 3);
        assert!(serving_cores(0) >= 1);
    }
}
