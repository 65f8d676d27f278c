//! Severities in configuration.

use ev_domain::Severity;
use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

pub(crate) fn serialize<S: Serializer>(severity: &Severity, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(severity.name())
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Severity, D::Error> {
    let name = String::deserialize(deserializer)?;
    Severity::by_name(&name).ok_or_else(|| {
        let known = Severity::ALL.map(Severity::name).join(", ");
        D::Error::custom(format!("`{}` is no severity, expected one of {known}", shortened(&name)))
    })
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}
