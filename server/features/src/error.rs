//! Errors of this room.

use ev_domain::FeatureError;

/// Views are refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewsError {
    /// Not TOML, an unknown key, or a value of the wrong kind; the source says in which line.
    #[error("the feature views cannot be read")]
    Syntax(#[source] Box<toml::de::Error>),
    /// A setting of `[sessions]`.
    #[error("`sessions.{setting}` {problem}")]
    Session {
        /// Its name.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A view.
    #[error("view `{view}` {problem}")]
    View {
        /// Its name.
        view: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A feature of a view.
    #[error("feature `{feature}` of view `{view}` {problem}")]
    Feature {
        /// The view's name.
        view: String,
        /// The feature's name.
        feature: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// A feature that no view has was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no feature view has `{feature}`")]
pub struct UnknownFeature {
    /// Its name.
    pub feature: String,
}

/// Bytes are no feature row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// Shorter than a row can be, or than this one says it is, or longer.
    #[error("the row has {found} bytes, expected {expected}")]
    Length {
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// Written by another version of this program.
    #[error("the row has format {found}, expected {expected}")]
    Format {
        /// What it says.
        found: u8,
        /// What is known here.
        expected: u8,
    },
    /// Damaged.
    #[error("the row is damaged: its checksum is {found:08x}, expected {expected:08x}")]
    Checksum {
        /// What it says.
        found: u32,
        /// What its bytes have.
        expected: u32,
    },
    /// A value that contradicts itself, in spite of a right checksum.
    #[error("value {index} of the row is malformed")]
    Value {
        /// Which, from 0.
        index: usize,
    },
}

/// An online store did not answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Not reached in time, or refused: come back later.
    #[error("the online store cannot be reached: {problem}")]
    Unavailable {
        /// What happened, without secrets.
        problem: String,
    },
    /// It takes no more work.
    #[error("the online store is shutting down")]
    ShuttingDown,
}

/// The configuration of an online store is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{setting}` {problem}")]
pub struct SettingsError {
    /// Which setting.
    pub setting: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

/// Features were not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// There is no such view.
    #[error("there is no feature view `{view}`")]
    UnknownView {
        /// What was given.
        view: String,
    },
    /// It is computed from readings.
    #[error("feature view `{view}` is computed from readings and cannot be written")]
    NotWritable {
        /// The view.
        view: String,
    },
    /// The view has no such feature.
    #[error("feature view `{view}` has no feature `{feature}`")]
    UnknownFeature {
        /// The view.
        view: String,
        /// What was given.
        feature: String,
    },
    /// A value outside its range, or of the wrong kind.
    #[error("the value is refused")]
    Value(#[source] FeatureError),
    /// A value of a fleet's own feature that it cannot have.
    #[error("`{feature}` {problem}")]
    OwnValue {
        /// The feature.
        feature: String,
        /// What is wrong.
        problem: String,
    },
    /// A time that has not come yet.
    #[error("the event time is {ahead_s} s ahead of the clock")]
    Future {
        /// How far.
        ahead_s: u64,
    },
    /// Others kept writing the same row.
    #[error("the row was changed by others again and again")]
    Contended,
    /// The store did not answer.
    #[error("the features could not be stored")]
    Store(#[source] StoreError),
}
