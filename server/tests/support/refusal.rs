//! What a caller reads when a call is refused.

use ev_client::{CallError, Code, Error};
use ev_proto::ev::common::v1::RowError;
use tonic::Status;

/// Code, reason, message and fields of a refusal, however it came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Refusal {
        Refusal::from(CallError::from(status))
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Refusal {
        if !error.reason.is_empty() {
            assert_eq!(error.domain, "evserve", "{error}");
        }
        if error.code == Code::Unavailable {
            assert!(error.retry_delay.is_some(), "says when to come back: {error}");
        }
        let fields = error.field_violations.into_iter().map(|field| (field.field, field.description)).collect();
        Refusal { code: error.code, reason: error.reason, message: error.message, fields }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        match error {
            Error::Call(call) => Refusal::from(*call),
            other => panic!("expected a refusal, found {other:?}"),
        }
    }
}

impl From<RowError> for Refusal {
    fn from(error: RowError) -> Refusal {
        let fields = error.field_violations.into_iter().map(|field| (field.field, field.description)).collect();
        Refusal { code: Code::from(error.code), reason: error.reason, message: error.message, fields }
    }
}

impl Refusal {
    /// Refused for one field.
    #[track_caller]
    pub(crate) fn is_field(&self, reason: &str, field: &str, description: &str) {
        assert_eq!((self.code, self.reason.as_str()), (Code::InvalidArgument, reason), "{self:?}");
        assert_eq!(self.message, format!("`{field}` {description}"));
        assert_eq!(self.fields, [(field.to_owned(), description.to_owned())]);
    }

    /// Refused as a whole.
    #[track_caller]
    pub(crate) fn is(&self, code: Code, reason: &str, message: &str) {
        assert_eq!((self.code, self.reason.as_str(), self.message.as_str()), (code, reason, message), "{self:?}");
    }

    /// Refused as a whole, with these words among others.
    #[track_caller]
    pub(crate) fn says(&self, code: Code, reason: &str, words: &[&str]) {
        assert_eq!((self.code, self.reason.as_str()), (code, reason), "{self:?}");
        for word in words {
            assert!(self.message.contains(word), "`{word}` in {}", self.message);
        }
    }
}
