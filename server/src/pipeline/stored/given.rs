//! What a request gives by itself.

use ev_domain::{Feature, Value};

use crate::pipeline::run::Features;

/// Features that a request gives.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Given(u128);

const _: () = assert!(Feature::COUNT <= 128, "a word has a bit for each feature");

// === impl Given ===

impl Given {
    /// Those of a request. A blank text is none.
    pub(crate) fn of(request: &impl Features) -> Given {
        let mut given = Given::default();
        request.visit(|feature, value| {
            let is_blank = matches!(value, Value::Text(text) if text.trim().is_empty());
            given.0 |= u128::from(!is_blank) << (feature as u8);
        });
        given
    }

    /// Whether it gives nothing at all.
    pub(super) fn is_nothing(self) -> bool {
        self.0 == 0
    }

    pub(super) fn has(self, feature: Feature) -> bool {
        self.0 >> (feature as u8) & 1 == 1
    }
}
