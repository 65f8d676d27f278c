//! Who runs this program, as far as the system says.

/// `user@host`, or as much of it as is known.
pub(crate) fn whoever_runs_this() -> String {
    let variable = |name: &&str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let user = ["USER", "LOGNAME", "USERNAME"].iter().find_map(variable);
    let host = ["HOSTNAME", "COMPUTERNAME"].iter().find_map(variable).or_else(|| {
        // Shells keep the variable to themselves.
        fs_err::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs_err::read_to_string("/etc/hostname")).ok()
    });
    named(user.as_deref(), host.as_deref())
}

fn named(user: Option<&str>, host: Option<&str>) -> String {
    let of = |name: Option<&str>| name.map(str::trim).unwrap_or_default().to_owned();
    match (of(user), of(host)) {
        (user, host) if host.is_empty() => user,
        (user, host) => format!("{}@{host}", if user.is_empty() { "unknown" } else { &user }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_it_is_has_a_name() {
        let check = |user, host, expected: &str| assert_eq!(named(user, host), expected);
        check(Some("kim"), Some("depot\n"), "kim@depot");
        check(Some("kim"), None, "kim");
        check(None, Some("depot"), "unknown@depot");
        check(None, None, "");
    }
}
