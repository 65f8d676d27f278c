//! Where a database is.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// `postgres://user:password@host:port/database`. What may be its password is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

// === impl DatabaseUrl ===

impl DatabaseUrl {
    /// Whether none is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Any URL without its password.
    pub(super) fn masked(url: &str) -> String {
        masked(url)
    }

    /// Whether it names a PostgreSQL database. The rest of it is read by whoever connects.
    pub(super) fn is_postgres(&self) -> bool {
        self.0.starts_with("postgres://") || self.0.starts_with("postgresql://")
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.0))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The URL without its password. Of one that is not well formed rather too little is shown than too much.
fn masked(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    // A password may hold any character that is not written as it should be: the last `@` ends it.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => {
            let (name, password) = user.split_once(':').map_or((user, ""), |(name, password)| (name, password));
            (format!("{name}{}@", if password.is_empty() { "" } else { ":***" }), rest)
        }
        None => (String::new(), rest),
    };
    let (place, parameters) = rest.split_once('?').map_or((rest, ""), |(place, parameters)| (place, parameters));
    let parameter = |parameter: &str| match parameter.split_once('=') {
        Some((name, _)) if name.contains("password") => format!("{name}=***"),
        _ => parameter.to_owned(),
    };
    let parameters: Vec<String> = parameters.split('&').map(parameter).filter(|text| !text.is_empty()).collect();
    let parameters = if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) };
    let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    format!("{scheme}{user}{place}{parameters}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let check = |url: &str, expected: &str| {
            let url = DatabaseUrl(url.to_owned());
            let printed = serde_json::to_string(&url).expect("printed");
            assert_eq!((url.to_string().as_str(), printed), (expected, format!("\"{expected}\"")));
            assert_eq!(format!("{url:?}"), expected);
        };
        check("", "");
        check("postgres://host/ev", "postgres://host/ev");
        check("postgres://ev@host:5432/ev?sslmode=require", "postgres://ev@host:5432/ev?sslmode=require");
        check("postgres://ev:secret@host/ev", "postgres://ev:***@host/ev");
        check("postgres://ev:se@c/r?e:t@host/ev", "postgres://ev:***@host/ev");
        check("postgres://host/ev?user=ev&password=secret", "postgres://host/ev?user=ev&password=***");
        check("ev:secret@host", "ev:***@host");
        check("sqlite.db", "sqlite.db");
    }
}
