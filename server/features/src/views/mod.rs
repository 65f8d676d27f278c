//! Feature views: what is known of a vehicle, under which name, made from which readings.

mod check;
mod file;

use std::{collections::HashMap, sync::Arc, time::Duration};

use ev_domain::{Catalogue, Feature, FeatureKind, Value};

pub(crate) use file::Part;
pub use file::SessionSettings;

use crate::{ViewsError, aggregate::Program};

/// Most views of a server.
pub const VIEWS_MAX: usize = 64;
/// Most features of a view.
pub const FEATURES_MAX: usize = 256;
/// Longest text of a fleet's own feature, in bytes.
pub const OWN_TEXT_MAX_BYTES: usize = 256;

/// A view's place among its [`Views`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ViewId(u8);

/// What is read and written together.
#[derive(Debug, Clone)]
pub struct View {
    /// Its name: lower-case letters, digits and `_`.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// A feature is fresh until its last reading is older than this.
    pub ttl: Duration,
    /// Written from outside, and not computed from readings.
    pub written: bool,
    /// Its features, in the order of a row's values.
    pub features: Vec<ViewFeature>,
    /// Says which features a row holds in which order: rows of another schema are not this view's.
    pub schema: u32,
}

/// One feature of a view.
#[derive(Debug, Clone)]
pub struct ViewFeature {
    /// Its name, unique in the view.
    pub name: String,
    /// What the vocabulary knows of it; none of a fleet's own.
    pub feature: Option<Feature>,
    /// What its values are.
    pub kind: ValueKind,
    /// What stands in for it where it is missing.
    pub default: Option<FeatureValue>,
}

/// What a feature's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// Single precision.
    Number,
    /// UTF-8.
    Text,
    /// True or false.
    Flag,
}

/// A value of its own; [`Value`] borrows.
#[derive(Debug, Clone, PartialEq)]
pub enum FeatureValue {
    /// A number in the feature's unit.
    Number(f32),
    /// A text.
    Text(String),
    /// A flag.
    Flag(bool),
}

/// All views of a server, checked and ready to be computed.
#[derive(Debug, Clone)]
pub struct Views {
    views: Vec<View>,
    by_name: HashMap<String, ViewId>,
    program: Arc<Program>,
}

// === impl ViewId ===

impl ViewId {
    /// Its index among the views.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The view at a place, up to the 256th.
    pub(crate) fn at(index: usize) -> Option<ViewId> {
        u8::try_from(index).ok().map(ViewId)
    }
}

// === impl ViewFeature ===

impl ViewFeature {
    /// Whether a value may be this feature's.
    pub(crate) fn accepts(&self, value: Value<'_>) -> bool {
        match (self.feature, value) {
            (Some(feature), value) => feature.check(value).is_ok(),
            (None, value) => self.refuses(value).is_none(),
        }
    }

    /// What is wrong with a value that is not this feature's.
    pub(crate) fn refuses(&self, value: Value<'_>) -> Option<String> {
        if let Some(feature) = self.feature {
            return feature.check(value).err().map(|error| error.problem.to_string());
        }
        match (value, self.kind) {
            (Value::Number(number), ValueKind::Number) if number.is_finite() => None,
            (Value::Number(number), ValueKind::Number) => Some(format!("is {number}, expected a finite number")),
            (Value::Text(text), ValueKind::Text) if text.len() <= OWN_TEXT_MAX_BYTES => None,
            (Value::Text(text), ValueKind::Text) => {
                Some(format!("has {} bytes, expected at most {OWN_TEXT_MAX_BYTES}", text.len()))
            }
            (Value::Flag(_), ValueKind::Flag) => None,
            (_, ValueKind::Number) => Some("has a value of the wrong kind, expected a number".to_owned()),
            (_, ValueKind::Text) => Some("has a value of the wrong kind, expected a text".to_owned()),
            (_, ValueKind::Flag) => Some("has a value of the wrong kind, expected true or false".to_owned()),
        }
    }
}

// === impl ValueKind ===

impl From<FeatureKind> for ValueKind {
    fn from(kind: FeatureKind) -> ValueKind {
        match kind {
            FeatureKind::Number { .. } => ValueKind::Number,
            FeatureKind::Text { .. } => ValueKind::Text,
            FeatureKind::Flag => ValueKind::Flag,
        }
    }
}

// === impl FeatureValue ===

impl FeatureValue {
    /// The same, borrowed.
    #[must_use]
    pub fn as_value(&self) -> Value<'_> {
        match self {
            FeatureValue::Number(number) => Value::Number(*number),
            FeatureValue::Text(text) => Value::Text(text),
            FeatureValue::Flag(flag) => Value::Flag(*flag),
        }
    }
}

impl From<Value<'_>> for FeatureValue {
    fn from(value: Value<'_>) -> FeatureValue {
        match value {
            Value::Number(number) => FeatureValue::Number(number),
            Value::Text(text) => FeatureValue::Text(text.to_owned()),
            Value::Flag(flag) => FeatureValue::Flag(flag),
        }
    }
}

// === impl View ===

impl View {
    /// A feature's place in the view's rows.
    #[must_use]
    pub fn position(&self, feature: &str) -> Option<usize> {
        self.features.iter().position(|found| found.name == feature)
    }
}

// === impl Views ===

impl Views {
    /// The bundled views, as text with comments.
    pub const DEFAULT_TOML: &str = include_str!("default.toml");

    /// Reads and checks views.
    ///
    /// # Errors
    ///
    /// [`ViewsError`] names the line, the view or the feature that is wrong, and what was expected.
    pub fn parse(toml: &str, catalogue: &Catalogue) -> Result<Views, ViewsError> {
        let file = toml::from_str(toml).map_err(|error| ViewsError::Syntax(Box::new(error)))?;
        let (views, program) = check::check(file, catalogue)?;
        let id = |(index, view): (usize, &View)| ViewId::at(index).map(|id| (view.name.clone(), id));
        let by_name = views.iter().enumerate().filter_map(id).collect();
        Ok(Views { views, by_name, program: Arc::new(program) })
    }

    /// The bundled views.
    ///
    /// # Errors
    ///
    /// When the catalogue lacks a signal that [`Catalogue::standard`] has.
    pub fn bundled(catalogue: &Catalogue) -> Result<Views, ViewsError> {
        Views::parse(Views::DEFAULT_TOML, catalogue)
    }

    /// A view.
    #[must_use]
    pub fn view(&self, id: ViewId) -> Option<&View> {
        self.views.get(id.index())
    }

    /// The view of this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<ViewId> {
        self.by_name.get(name).copied()
    }

    /// All, in the order they were declared in.
    pub fn iter(&self) -> impl Iterator<Item = (ViewId, &View)> {
        (0u8..).map(ViewId).zip(&self.views)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.views.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.views.is_empty()
    }

    pub(crate) fn program(&self) -> &Arc<Program> {
        &self.program
    }
}
