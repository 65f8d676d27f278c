//! From bytes that nobody vouches for to a [`Forest`].
//!
//! Reading ([`json`], [`ubjson`]) checks syntax and types, building ([`build`]) checks meaning.
//! Both are bounded by [`crate::limits`]: memory stays within a small multiple of the file's size, time is linear in it.

use ev_models_core::LoadError;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use self::schema::Document;
use crate::forest::Forest;

mod base_score;
mod build;
mod json;
mod problem;
mod schema;
mod ubjson;

use self::problem::Problem;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text.
    Json,
    /// Binary, with the same content.
    Ubjson,
}

// === impl Format ===

impl Format {
    /// The format's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Json => "JSON",
            Format::Ubjson => "UBJSON",
        }
    }

    /// The format of some bytes, which does not depend on what the file is called.
    fn of(bytes: &[u8]) -> Result<Format, Problem> {
        let blank = |byte: &u8| byte.is_ascii_whitespace();
        let mut inked = bytes.iter().filter(|byte| !blank(byte));
        match (inked.next(), inked.next()) {
            (Some(b'{'), Some(b'"' | b'}')) => Ok(Format::Json),
            (Some(b'{'), _) => Ok(Format::Ubjson),
            _ if bytes.starts_with(b"binf") => Err(Problem::unsupported(
                "XGBoost's old binary format",
                "save the model as `.json` or `.ubj` with the XGBoost that wrote it",
            )),
            (Some(0x80), _) => {
                Err(Problem::unsupported("a Python pickle", "save the model with `save_model` as `.json` or `.ubj`"))
            }
            (Some(_), _) => Err(Problem::malformed("byte 0", "expected `{`, the start of JSON or UBJSON")),
            (None, _) => Err(Problem::malformed("byte 0", "the file is empty")),
        }
    }
}

/// Reads a model file.
pub(crate) fn load(file: &str, bytes: &[u8]) -> Result<(Format, Forest), LoadError> {
    read(bytes).map_err(|problem| problem.into_error(file))
}

fn read(bytes: &[u8]) -> Result<(Format, Forest), Problem> {
    let format = Format::of(bytes)?;
    Ok((format, build::build(parse::<Document>(format, bytes)?)?))
}

/// Reads the part of a document that `T` asks for.
pub(crate) fn read_part<T: DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T, LoadError> {
    let part = Format::of(bytes).and_then(|format| parse(format, bytes));
    part.map_err(|problem| problem.into_error(file))
}

fn parse<T: DeserializeOwned>(format: Format, bytes: &[u8]) -> Result<T, Problem> {
    match format {
        Format::Json => json::read(bytes),
        Format::Ubjson => ubjson::read(bytes),
    }
}

/// Reads a document and, on failure, once more `again`, to tell the place: keeping track of it takes longer than reading.
fn document<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D, again: D) -> Result<T, Problem> {
    T::deserialize(deserializer).map_err(|error| {
        let mut track = serde_path_to_error::Track::new();
        let _ = T::deserialize(serde_path_to_error::Deserializer::new(again, &mut track));
        let place = track.path().to_string();
        Problem::malformed(if place == "." { "the top".to_owned() } else { place }, error.to_string())
    })
}
