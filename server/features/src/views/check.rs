//! From a file of views to what is computed: everything that can be wrong is found here.

use std::{collections::HashSet, time::Duration};

use ev_domain::{Catalogue, Feature, SignalId, SignalKind};

use super::{
    FEATURES_MAX, FeatureValue, Part, SessionSettings, VIEWS_MAX, ValueKind, View, ViewFeature, ViewId,
    file::{AggregateName, DefaultValue, FeatureFile, KindName, SessionName, ViewFile, ViewsFile},
};
use crate::{
    ViewsError,
    aggregate::{Aggregate, Direction, Program, ProgramBuilder, SessionSpec, Source, micros},
    derive,
};

/// Longest window and time to live: beyond it is an error of units.
const SPAN_MAX: Duration = Duration::from_secs(20 * 365 * 86_400);
/// Shortest window: a tenth of it is the step it moves in.
const WINDOW_MIN: Duration = Duration::from_millis(10);
/// Longest name of a view or feature, in bytes.
const NAME_MAX_BYTES: usize = 64;

/// What is wrong, without the place.
type Problem = String;

pub(super) fn check(file: ViewsFile, catalogue: &Catalogue) -> Result<(Vec<View>, Program), ViewsError> {
    check_sessions(&file.sessions)?;
    let mut program = ProgramBuilder::new(&file.sessions);
    let mut names = HashSet::new();
    let mut views = Vec::new();
    for (index, view) in file.views.into_iter().enumerate() {
        let refuse = |problem: &str| ViewsError::View { view: view.name.clone(), problem: problem.to_owned() };
        let Some(id) = ViewId::at(index).filter(|_| index < VIEWS_MAX) else {
            return Err(refuse("is one too many, expected at most 64 views"));
        };
        if !names.insert(view.name.clone()) {
            return Err(refuse("is declared twice"));
        }
        views.push(check_view(id, view, catalogue, &mut program)?);
    }
    Ok((views, program.finish()))
}

fn check_sessions(settings: &SessionSettings) -> Result<(), ViewsError> {
    let SessionSettings {
        current_min_a,
        duration_min,
        end_after,
        signal_age_max,
        gap_max,
        full_low_percent,
        full_high_percent,
    } = *settings;
    let refuse = |setting, problem: String| Err(ViewsError::Session { setting, problem });
    if !(current_min_a > 0.0 && current_min_a.is_finite()) {
        return refuse("current_min_a", format!("is {current_min_a}, expected more than 0"));
    }
    for (setting, duration) in [
        ("duration_min", duration_min),
        ("end_after", end_after),
        ("signal_age_max", signal_age_max),
        ("gap_max", gap_max),
    ] {
        if duration.is_zero() || duration > SPAN_MAX {
            return refuse(setting, format!("is {duration:?}, expected more than 0 and at most 20 years"));
        }
    }
    if !(0.0 <= full_low_percent && full_low_percent < full_high_percent && full_high_percent <= 100.0) {
        let found = format!("is {full_low_percent}, expected less than `full_high_percent`, both 0 to 100");
        return refuse("full_low_percent", found);
    }
    Ok(())
}

fn check_view(
    id: ViewId,
    file: ViewFile,
    catalogue: &Catalogue,
    program: &mut ProgramBuilder,
) -> Result<View, ViewsError> {
    let ViewFile { name, description, ttl, written, features } = file;
    let refuse = |problem: String| ViewsError::View { view: name.clone(), problem };
    check_name(&name).map_err(refuse)?;
    if ttl.is_zero() || ttl > SPAN_MAX {
        return Err(refuse(format!("has a `ttl` of {ttl:?}, expected more than 0 and at most 20 years")));
    }
    if features.is_empty() || features.len() > FEATURES_MAX {
        return Err(refuse(format!("has {} features, expected 1 to {FEATURES_MAX}", features.len())));
    }
    let mut seen = HashSet::new();
    let mut checked = Vec::new();
    let mut sources = Vec::new();
    for feature in features {
        let place = feature.name.clone();
        let refuse = |problem| ViewsError::Feature { view: name.clone(), feature: place.clone(), problem };
        if !seen.insert(place.clone()) {
            return Err(refuse("is declared twice".to_owned()));
        }
        sources.push(source(&feature, written, catalogue, program).map_err(refuse)?);
        checked.push(declared(feature).map_err(refuse)?);
    }
    if !written {
        program.view(id, sources);
    }
    let schema = schema(&name, &checked);
    Ok(View { name, description, ttl, written, features: checked, schema })
}

fn check_name(name: &str) -> Result<(), Problem> {
    let letters = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if name.is_empty() || name.len() > NAME_MAX_BYTES || !letters {
        return Err(format!("has no usable name, expected 1 to {NAME_MAX_BYTES} of a-z, 0-9 and _"));
    }
    Ok(())
}

fn declared(file: FeatureFile) -> Result<ViewFeature, Problem> {
    check_name(&file.name)?;
    let feature = Feature::by_name(&file.name);
    let own = |kind: KindName| match kind {
        KindName::Number => ValueKind::Number,
        KindName::Text => ValueKind::Text,
        KindName::Flag => ValueKind::Flag,
    };
    let kind = match (feature, file.kind) {
        (Some(feature), None) => ValueKind::from(feature.spec().kind),
        (Some(_), Some(_)) => return Err("is in the vocabulary, which says its kind: remove `kind`".to_owned()),
        (None, kind) => own(kind.unwrap_or(KindName::Number)),
    };
    let default = file.default.map(|default| match default {
        DefaultValue::Flag(flag) => FeatureValue::Flag(flag),
        DefaultValue::Number(number) => FeatureValue::Number(number),
        DefaultValue::Text(text) => FeatureValue::Text(text),
    });
    let declared = ViewFeature { name: file.name, feature, kind, default };
    match declared.default.as_ref().and_then(|default| declared.refuses(default.as_value())) {
        Some(problem) => Err(format!("has a default that {problem}")),
        None => Ok(declared),
    }
}

/// Where the feature's values come from.
fn source(
    file: &FeatureFile,
    written: bool,
    catalogue: &Catalogue,
    program: &mut ProgramBuilder,
) -> Result<Source, Problem> {
    let computed = file.signal.is_some() || file.aggregate.is_some() || file.window.is_some() || file.session.is_some();
    if written || file.derived {
        if computed || options(file).next().is_some() || file.optional || file.over_new || written && file.derived {
            let what = if written { "written from outside" } else { "derived" };
            return Err(format!("is {what} and cannot be made from readings as well"));
        }
        if file.derived && !derive::has_rule(&file.name) {
            return Err("is derived, but there is no rule for it; rules are in derive.rs".to_owned());
        }
        return Ok(Source::None);
    }
    let name = file.signal.as_ref().ok_or("has no `signal`; one without is `derived`, or its view is `written`")?;
    let aggregate = aggregate(file, program.gap_us())?;
    if file.kind == Some(KindName::Text) || Feature::by_name(&file.name).is_some_and(is_text) {
        return Err("is a text, which no signal is".to_owned());
    }
    match catalogue.by_name(name) {
        None if file.optional => Ok(Source::None),
        None => Err(format!("is made of signal `{name}`, which is not in the catalogue")),
        Some(signal) => {
            let is_flag = catalogue.signal(signal).is_some_and(|signal| signal.kind == SignalKind::Flag);
            let counts =
                matches!(aggregate, Aggregate::Last | Aggregate::First | Aggregate::Mean | Aggregate::Held { .. });
            if is_flag && !counts {
                return Err(
                    "is made of a flag, of which there are only `last`, `first`, `mean` and `duration`".to_owned()
                );
            }
            scoped(file, signal, aggregate, program)
        }
    }
}

fn is_text(feature: Feature) -> bool {
    ValueKind::from(feature.spec().kind) == ValueKind::Text
}

/// The options that only some aggregates have, where they are given.
fn options(file: &FeatureFile) -> impl Iterator<Item = &'static str> {
    let given = [
        (file.at_least.is_some(), "at_least"),
        (file.at_most.is_some(), "at_most"),
        (file.steady_percent.is_some(), "steady_percent"),
        (file.from.is_some(), "from"),
        (file.to.is_some(), "to"),
    ];
    given.into_iter().filter_map(|(is_given, name)| is_given.then_some(name))
}

fn aggregate(file: &FeatureFile, gap_us: i64) -> Result<Aggregate, Problem> {
    let name = file.aggregate.ok_or("has no `aggregate`")?;
    let allowed: &[&str] = match name {
        AggregateName::Duration => &["at_least", "at_most", "steady_percent"],
        AggregateName::TimeBetween => &["from", "to"],
        _ => &[],
    };
    if let Some(option) = options(file).find(|option| !allowed.contains(option)) {
        return Err(format!("has `{option}`, which its aggregate does not know"));
    }
    Ok(match name {
        AggregateName::Last => Aggregate::Last,
        AggregateName::First => Aggregate::First,
        AggregateName::Mean => Aggregate::Mean,
        AggregateName::Min => Aggregate::Min,
        AggregateName::Max => Aggregate::Max,
        AggregateName::Delta => Aggregate::Delta,
        AggregateName::Rate => Aggregate::Rate,
        AggregateName::Drop => Aggregate::Drop,
        AggregateName::Std => Aggregate::Std,
        AggregateName::Integral => Aggregate::Integral { gap_us },
        AggregateName::Duration => duration(file, gap_us)?,
        AggregateName::TimeBetween => match (file.from, file.to) {
            (Some(from), Some(to)) if from != to && from.is_finite() && to.is_finite() => {
                Aggregate::Between { from, to }
            }
            _ => return Err("needs `from` and `to`, two different numbers".to_owned()),
        },
    })
}

fn duration(file: &FeatureFile, gap_us: i64) -> Result<Aggregate, Problem> {
    match (file.steady_percent, file.at_least, file.at_most) {
        (None, None, None) => Ok(Aggregate::Duration),
        (Some(percent), None, None) if percent > 0.0 && percent <= 100.0 => {
            Ok(Aggregate::Steady { share: percent / 100.0 })
        }
        (Some(percent), None, None) => Err(format!("has a `steady_percent` of {percent}, expected above 0 to 100")),
        (Some(_), ..) => Err("has `steady_percent` and bounds; it can have one of them".to_owned()),
        (None, at_least, at_most) => {
            let (min, max) = (at_least.unwrap_or(f32::NEG_INFINITY), at_most.unwrap_or(f32::INFINITY));
            if min <= max {
                Ok(Aggregate::Held { min, max, gap_us })
            } else {
                Err(format!("has an `at_least` of {min} above its `at_most` of {max}"))
            }
        }
    }
}

fn scoped(
    file: &FeatureFile,
    signal: SignalId,
    aggregate: Aggregate,
    program: &mut ProgramBuilder,
) -> Result<Source, Problem> {
    let running = matches!(file.session, Some(SessionName::RunningCharge | SessionName::RunningDischarge));
    if file.over_new && (file.session.is_none() || running) {
        return Err("has `over_new`, which only `last_charge` and `last_discharge` have".to_owned());
    }
    if file.during.is_some() && file.session.is_none() {
        return Err("has `during`, which only sessions have".to_owned());
    }
    match (file.window, file.session) {
        (Some(_), Some(_)) => Err("has a `window` and a `session`; it can have one of them".to_owned()),
        (None, None) if aggregate == Aggregate::Last => Ok(program.latest(signal)),
        (None, None) => Err("needs a `window` or a `session`; without, there is only `last`".to_owned()),
        (Some(window), None) if window < WINDOW_MIN || window > SPAN_MAX => {
            Err(format!("has a `window` of {window:?}, expected 10 ms to 20 years"))
        }
        (Some(_), None) if !aggregate.joins() => Err("has an aggregate that only sessions have".to_owned()),
        (Some(window), None) => Ok(program.window(signal, aggregate, micros(window))),
        (None, Some(session)) => {
            let direction = match session {
                SessionName::LastDischarge | SessionName::RunningDischarge => Direction::Discharge,
                SessionName::LastCharge | SessionName::RunningCharge => Direction::Charge,
            };
            let during = file.during.unwrap_or(Part::Load);
            let spec = SessionSpec { slot: program.slot(signal), aggregate, during, over_new: file.over_new };
            Ok(program.session(direction, running, spec))
        }
    }
}

/// Names and kinds in their order, as one number.
fn schema(view: &str, features: &[ViewFeature]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(view.as_bytes());
    for feature in features {
        hasher.update(b"\0");
        hasher.update(feature.name.as_bytes());
        hasher.update(match feature.kind {
            ValueKind::Number => b"\0n",
            ValueKind::Text => b"\0t",
            ValueKind::Flag => b"\0f",
        });
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Views;

    const SESSIONS: &str = r#"
        [sessions]
        current_min_a = 1
        duration_min = "1m"
        end_after = "5m"
        signal_age_max = "2m"
        gap_max = "2m"
        full_low_percent = 20
        full_high_percent = 80
    "#;

    fn parse(toml: &str) -> Result<Views, String> {
        Views::parse(toml, &Catalogue::standard()).map_err(|error| {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            format!("{error}{source}")
        })
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let check = |feature: &str, expected: &str| {
            let speed = format!("signal = \"Vehicle.Speed\", {feature}");
            let feature = if feature.starts_with("signal") || feature.is_empty() { feature } else { &speed };
            let view =
                format!("{SESSIONS}[[views]]\nname = \"v\"\nttl = \"1m\"\nfeatures = [{{ name = \"f\", {feature} }}]");
            match parse(&view) {
                Ok(_) => assert_eq!(expected, "", "{feature}"),
                Err(error) => assert!(
                    !expected.is_empty()
                        && error.contains(expected)
                        && (error.contains("feature `f` of view `v`") || error.contains("line")),
                    "{feature}: {error}"
                ),
            }
        };
        check("aggregate = \"last\"", "");
        check("aggregate = \"mean\", window = \"1h\"", "");
        check("aggregate = \"latest\"", "unknown variant `latest`");
        check("aggregat = \"last\"", "unknown field `aggregat`");
        check("aggregate = \"mean\"", "needs a `window` or a `session`");
        check("aggregate = \"mean\", window = \"1 parsec\"", "parsec");
        check("aggregate = \"mean\", window = \"1ms\"", "expected 10 ms to 20 years");
        check("aggregate = \"mean\", window = \"1m\", session = \"last_charge\"", "one of them");
        check("aggregate = \"mean\", window = \"1m\", during = \"rest\"", "which only sessions have");
        check("aggregate = \"mean\", window = \"1m\", at_least = 3", "`at_least`, which its aggregate does not know");
        check("aggregate = \"time_between\", window = \"1m\", from = 1, to = 2", "only sessions have");
        check("aggregate = \"time_between\", session = \"last_charge\", from = 1", "needs `from` and `to`");
        check("aggregate = \"duration\", session = \"last_charge\", at_least = 3, at_most = 2", "above its `at_most`");
        check("aggregate = \"duration\", session = \"last_charge\", steady_percent = 0", "expected above 0 to 100");
        check("aggregate = \"max\", session = \"running_charge\", over_new = true", "`over_new`");
        check("aggregate = \"last\", kind = \"text\"", "is a text");
        check("aggregate = \"last\", derived = true", "cannot be made from readings as well");
        check("aggregate = \"last\", default = \"x\"", "has a default that");
        check("signal = \"Vehicle.Nothing\", aggregate = \"last\"", "`Vehicle.Nothing`, which is not in the catalogue");
        check("signal = \"Vehicle.Nothing\", optional = true, aggregate = \"last\"", "");
        let flag = ev_domain::signals::IS_CHARGING;
        let flag = &Catalogue::standard().signal(flag).unwrap().name.to_string();
        check(&format!("signal = \"{flag}\", aggregate = \"std\", window = \"1m\""), "made of a flag");
    }

    #[test]
    fn a_view_and_the_sessions_are_checked_too() {
        let check = |change: (&str, &str), expected: &str| {
            let toml = Views::DEFAULT_TOML.replacen(change.0, change.1, 1);
            assert_ne!(toml, Views::DEFAULT_TOML, "{change:?}");
            let error = parse(&toml).expect_err("a mistake");
            assert!(error.contains(expected), "{error}");
        };
        check(("current_min_a = 2.0", "current_min_a = -1"), "`sessions.current_min_a` is -1, expected more than 0");
        check(("end_after = \"5m\"", "end_after = \"0s\""), "`sessions.end_after`");
        check(("full_low_percent = 20.0", "full_low_percent = 90.0"), "`sessions.full_low_percent`");
        check(("gap_max =", "gap_maximum ="), "gap_maximum");
        check(("name = \"pack_now\"", "name = \"battery\""), "view `battery` is declared twice");
        check(("name = \"pack_now\"", "name = \"Pack now\""), "view `Pack now` has no usable name");
        check(("ttl = \"10s\"", "ttl = \"0s\""), "view `pack_now` has a `ttl` of 0ns");
        check(("{ name = \"cell_family\" }", "{ name = \"cell_family\", kind = \"number\" }"), "remove `kind`");
        check(("{ name = \"c_rate\", derived", "{ name = \"no_rule\", derived"), "there is no rule for it");
        check(("{ name = \"rated_capacity_ah\" }", "{ name = \"cell_family\" }"), "is declared twice");
    }
}
