//! A fleet's own signals and names, from a TOML file.

use serde::Deserialize;

use crate::{Catalogue, SignalKind, signals::Addition};

/// An overlay file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OverlayError {
    /// Not TOML, or a key that is not known.
    #[error("the signal overlay cannot be read: {0}")]
    Syntax(String),
    /// An entry is wrong.
    #[error("`{entry}` in the signal overlay {reason}")]
    Entry {
        /// Name of the entry.
        entry: String,
        /// What is wrong; reads on after the name.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    signal: Vec<SignalEntry>,
    #[serde(default)]
    alias: Vec<AliasEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignalEntry {
    name: String,
    unit: Option<String>,
    kind: Option<Kind>,
    min: Option<f32>,
    max: Option<f32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Number,
    Flag,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AliasEntry {
    name: String,
    signal: String,
    unit: Option<String>,
}

pub(crate) fn apply(catalogue: &mut Catalogue, toml: &str) -> Result<(), OverlayError> {
    let File { signal, alias } = toml::from_str(toml).map_err(|error| OverlayError::Syntax(error.to_string()))?;
    for SignalEntry { name, unit, kind, min, max } in signal {
        let entry = name.clone();
        let kind = kind.map(|kind| match kind {
            Kind::Number => SignalKind::Number,
            Kind::Flag => SignalKind::Flag,
        });
        let added = catalogue.add(Addition { name, unit, kind, min, max });
        added.map_err(|reason| OverlayError::Entry { entry, reason })?;
    }
    for AliasEntry { name, signal, unit } in alias {
        let added = catalogue.alias(name.clone(), &signal, unit);
        added.map_err(|reason| OverlayError::Entry { entry: name, reason })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Naming, signals};

    #[test]
    fn own_signals_and_names_are_known() {
        let overlay = r#"
            [[signal]]
            name = "Vehicle.Private.Doors.Cycles"
            unit = "1"
            min = 0
            max = 1e7
            [[signal]]
            name = "Vehicle.Speed"
            max = 120
            [[alias]]
            name = "doors"
            signal = "Vehicle.Private.Doors.Cycles"
            [[alias]]
            name = "current"
            signal = "Vehicle.Powertrain.TractionBattery.CurrentCurrent"
            unit = "-mA"
        "#;
        let catalogue = Catalogue::standard().with_overlay(overlay).expect("valid");
        let doors = catalogue.bind(Naming::Short, "doors", "").expect("known").signal;
        assert_eq!(catalogue.signal(doors).map(|signal| signal.max), Some(1e7));
        let speed = catalogue.signal(signals::SPEED).expect("built in");
        assert!(speed.accepts(120.0) && !speed.accepts(121.0) && !speed.accepts(f32::NAN));
        let current = catalogue.bind(Naming::Short, "current", "").expect("an own name goes before a built-in one");
        assert_eq!(current.apply(1500.0), -1.5);
        assert!(Catalogue::standard().bind(Naming::Short, "doors", "").is_err());
    }

    #[test]
    fn mistakes_are_named() {
        let check = |overlay: &str, expected: &str| {
            let error = Catalogue::standard().with_overlay(overlay).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("[[signals]]", "unknown field `signals`");
        check(
            "[[signal]]\nname = 'Vehicle.X'",
            "`Vehicle.X` in the signal overlay is a new signal, which needs `unit`",
        );
        check("[[signal]]\nname = 'Vehicle.Speed'\nunit = 'mph'", "only its `min` and `max` may be changed");
        check("[[signal]]\nname = 'Vehicle.Speed'\nmin = 600", "range 600 to 500");
        check("[[signal]]\nname = 'Doors'\nunit = '1'\nmin = 0\nmax = 1", "is not a VSS path");
        check("[[signal]]\nname = 'Vehicle.A'\nunit = '1'\nmin = 0\nmax = inf", "two finite numbers");
        check(
            "[[alias]]\nname = 'a'\nsignal = 'Vehicle.A'",
            "`a` in the signal overlay names `Vehicle.A`, which is no",
        );
        check("[[alias]]\nname = 'a'\nsignal = 'Vehicle.Speed'\nunit = 'V'", "expected one of m/s, km/h, mph");
    }
}
