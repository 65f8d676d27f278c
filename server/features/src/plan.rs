//! Reading: which rows a set of features needs, and what they say at a given time.

use std::time::Duration;

use ev_domain::Value;

use crate::{
    FeatureRow, FeatureValue, UnknownFeature, ViewId, Views,
    derive::{RULES, Rule},
};

/// Whether a feature can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Younger than its view's time to live.
    Fresh,
    /// Not known; the default that its view declares stands in for it, or for what it is derived from.
    Defaulted,
    /// Older than its view's time to live.
    Stale,
    /// Not known.
    Missing,
}

/// One feature, as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureRead {
    /// Its value; none when it is missing.
    pub value: Option<FeatureValue>,
    /// How long before the read the reading was made that it was last computed from; of one that follows from others,
    /// the oldest reading among them. Of what is written from outside alone, since when it holds. None when it is missing
    /// or defaulted.
    pub age: Option<Duration>,
    /// Whether it can be relied on.
    pub status: Status,
}

/// Which features are read, resolved once.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The views to be fetched, each once.
    views: Vec<ViewId>,
    wanted: Vec<Wanted>,
}

/// A feature of a plan.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// The view it is read from.
    pub view: ViewId,
    /// Written from outside: its age says nothing of whether it still holds.
    pub written: bool,
    place: Place,
    rules: Vec<(&'static Rule, Vec<Place>)>,
}

/// A value of a row.
#[derive(Debug, Clone)]
struct Place {
    /// Of the plan's views.
    fetched: usize,
    position: usize,
    ttl: Duration,
    written: bool,
    schema: u32,
    default: Option<FeatureValue>,
}

// === impl Plan ===

impl Plan {
    /// A plan for features by name. One that several views have is read from the first of them in `views_first`, else
    /// from the one declared first.
    ///
    /// # Errors
    ///
    /// [`UnknownFeature`] when no view has one of the names.
    pub fn new(views: &Views, names: &[&str], views_first: &[ViewId]) -> Result<Plan, UnknownFeature> {
        let mut plan = Plan { views: Vec::new(), wanted: Vec::new() };
        for name in names {
            let order = views_first.iter().copied().chain(views.iter().map(|(id, _)| id));
            let found = find(views, order, name).ok_or_else(|| UnknownFeature { feature: (*name).to_owned() })?;
            plan.want(views, found, name);
        }
        Ok(plan)
    }

    /// A plan for all features of these views, in the order the views declare them. What is no view is left out.
    #[must_use]
    pub fn of_views(views: &Views, ids: &[ViewId]) -> Plan {
        let mut plan = Plan { views: Vec::new(), wanted: Vec::new() };
        for id in ids {
            for (position, feature) in views.view(*id).into_iter().flat_map(|view| view.features.iter().enumerate()) {
                plan.want(views, (*id, position), &feature.name);
            }
        }
        plan
    }

    /// The features, in the order they were asked for.
    #[must_use]
    pub fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    /// The views whose rows [`Plan::evaluate`] needs, in its order.
    #[must_use]
    pub fn views(&self) -> &[ViewId] {
        &self.views
    }

    /// What rows say at a time, in microseconds since 1970-01-01 UTC: a feature for each wanted one. The rows are those
    /// of [`Plan::views`]; rows of another schema say nothing.
    #[must_use]
    pub fn evaluate(&self, rows: &[Option<FeatureRow>], now_us: i64) -> Vec<FeatureRead> {
        self.wanted.iter().map(|wanted| wanted.evaluate(rows, now_us)).collect()
    }

    fn want(&mut self, views: &Views, found: (ViewId, usize), name: &str) {
        let place = self.place(views, found);
        let mut rules = Vec::new();
        for rule in RULES.iter().filter(|rule| rule.feature == name) {
            let order = || std::iter::once(found.0).chain(views.iter().map(|(id, _)| id));
            let inputs: Option<Vec<_>> = rule.of.iter().map(|term| find(views, order(), term.feature())).collect();
            if let Some(inputs) = inputs {
                rules.push((rule, inputs.into_iter().map(|input| self.place(views, input)).collect()));
            }
        }
        let written = views.view(found.0).is_some_and(|view| view.written);
        self.wanted.push(Wanted { name: name.to_owned(), view: found.0, written, place, rules });
    }

    fn place(&mut self, views: &Views, (id, position): (ViewId, usize)) -> Place {
        let fetched = self.views.iter().position(|found| *found == id).unwrap_or_else(|| {
            self.views.push(id);
            self.views.len() - 1
        });
        let view = views.view(id);
        Place {
            fetched,
            position,
            ttl: view.map_or(Duration::ZERO, |view| view.ttl),
            written: view.is_some_and(|view| view.written),
            schema: view.map_or(0, |view| view.schema),
            default: view.and_then(|view| view.features.get(position)).and_then(|feature| feature.default.clone()),
        }
    }
}

fn find(views: &Views, mut order: impl Iterator<Item = ViewId>, name: &str) -> Option<(ViewId, usize)> {
    order.find_map(|id| Some((id, views.view(id)?.position(name)?)))
}

// === impl Wanted ===

impl Wanted {
    fn evaluate(&self, rows: &[Option<FeatureRow>], now_us: i64) -> FeatureRead {
        if let Some((value, age, status)) = self.place.stored(rows, now_us) {
            return FeatureRead { value: Some(value.into()), age: Some(age), status };
        }
        if let Some(read) = self.rules.iter().find_map(|(rule, inputs)| derive(rule, inputs, rows, now_us)) {
            return read;
        }
        match &self.place.default {
            Some(default) => FeatureRead { value: Some(default.clone()), age: None, status: Status::Defaulted },
            None => FeatureRead { value: None, age: None, status: Status::Missing },
        }
    }
}

/// As old as the oldest reading, and as reliable as the least reliable of what it is made of. What a battery is was
/// written long ago and still holds: it makes a load that was measured now no older.
fn derive(rule: &Rule, inputs: &[Place], rows: &[Option<FeatureRow>], now_us: i64) -> Option<FeatureRead> {
    let mut values = Vec::with_capacity(inputs.len());
    let (mut read, mut written, mut worst) = (None, None, Status::Fresh);
    for input in inputs {
        let (value, age, status) = input.known(rows, now_us)?;
        values.push(value);
        let oldest = if input.written { &mut written } else { &mut read };
        *oldest = age.max(*oldest);
        worst = worst.max(status);
    }
    let oldest = read.or(written);
    let value = rule.apply(values)?;
    let name = ev_domain::Feature::by_name(rule.feature);
    let plausible = name.is_none_or(|feature| feature.check(Value::Number(value)).is_ok());
    plausible.then_some(FeatureRead { value: Some(FeatureValue::Number(value)), age: oldest, status: worst })
}

// === impl Place ===

impl Place {
    fn stored<'a>(&self, rows: &'a [Option<FeatureRow>], now_us: i64) -> Option<(Value<'a>, Duration, Status)> {
        let row = rows.get(self.fetched)?.as_ref().filter(|row| row.schema() == self.schema)?;
        let cell = row.cell(self.position)?;
        let age = Duration::from_micros(now_us.saturating_sub(cell.time_us).try_into().unwrap_or_default());
        let status = if age > self.ttl { Status::Stale } else { Status::Fresh };
        Some((cell.value, age, status))
    }

    /// A number, or the default for it.
    fn known(&self, rows: &[Option<FeatureRow>], now_us: i64) -> Option<(f32, Option<Duration>, Status)> {
        match (self.stored(rows, now_us), &self.default) {
            (Some((Value::Number(number), age, status)), _) => Some((number, Some(age), status)),
            (None, Some(FeatureValue::Number(number))) => Some((*number, None, Status::Defaulted)),
            _ => None,
        }
    }
}
