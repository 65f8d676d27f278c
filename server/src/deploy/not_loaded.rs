//! Why a version is not loaded.

use ev_registry::RegistryError;

/// A version was not loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotLoaded {
    /// It cannot serve; the reason, with its code first.
    #[error("{0}")]
    Refused(String),
    /// The registry does not answer just now, which says nothing of the version: it is tried again.
    #[error(transparent)]
    Unread(RegistryError),
}

// === impl NotLoaded ===

impl From<RegistryError> for NotLoaded {
    fn from(error: RegistryError) -> NotLoaded {
        let code = match error {
            RegistryError::Unreachable { .. } | RegistryError::ShuttingDown => return NotLoaded::Unread(error),
            RegistryError::StoreRefused { .. } | RegistryError::StoreUnreachable { .. } => {
                return NotLoaded::Unread(error);
            }
            RegistryError::Corrupt { .. }
            | RegistryError::Damaged { .. }
            | RegistryError::Lost { .. }
            | RegistryError::Tampered { .. } => "DATA_LOSS",
            _ => "FAILED_PRECONDITION",
        };
        NotLoaded::Refused(format!("{code}: {}", chain(&error)))
    }
}

/// An error with what caused it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_away_says_nothing_of_a_version() {
        let check = |error: RegistryError, expected: Option<&str>| {
            let refused = match NotLoaded::from(error) {
                NotLoaded::Refused(reason) => Some(reason),
                NotLoaded::Unread(_) => None,
            };
            assert_eq!(refused.as_deref(), expected);
        };
        check(RegistryError::Unreachable { doing: "read a version", source: "refused".into() }, None);
        let (doing, url) = ("read a stored file".to_owned(), "s3://models".to_owned());
        check(RegistryError::StoreUnreachable { doing, url: url.clone(), source: "refused".into() }, None);
        check(RegistryError::StoreRefused { url, problem: "403".to_owned(), source: None }, None);
        let (file, problem) = ("model.ubj".to_owned(), "it has 3 bytes".to_owned());
        check(
            RegistryError::Damaged { file, problem },
            Some("DATA_LOSS: stored file `model.ubj` is corrupt: it has 3 bytes"),
        );
        check(RegistryError::ShuttingDown, None);
        let doing = "read `model.ubj`".to_owned();
        check(
            RegistryError::Storage { doing, source: "permission denied".into() },
            Some("FAILED_PRECONDITION: cannot read `model.ubj`: permission denied"),
        );
        let problem = "its digest is another".to_owned();
        check(
            RegistryError::Tampered { model: "m".to_owned(), version: 1, problem },
            Some("DATA_LOSS: version 1 of model `m` is not what was registered: its digest is another"),
        );
    }
}
