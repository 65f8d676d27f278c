//! Inputs that the feature store has of a vehicle: which a model takes, and what it makes of old and missing ones.

mod given;
mod input;
mod row;
#[cfg(test)]
mod tests;

use std::time::Duration;

use ev_domain::Feature;
use ev_features::{FeatureRow, FeatureValue, Plan, Status, ViewId, Views};
use ev_models_core::{
    Manifest,
    manifest::{DefaultValue, Input, Task},
};

pub(crate) use self::{
    given::Given,
    input::StoredInput,
    row::{StoredFeature, StoredRow},
};

/// Which of a model's inputs are read for a vehicle. Made when the model is loaded.
#[derive(Debug)]
pub(crate) struct StoredInputs {
    plan: Plan,
    inputs: Vec<StoredInput>,
}

/// The views that a task's features are looked for in first; none for tasks that are not about a vehicle's pack.
///
/// Several views have features of the same name: the ambient temperature of a moment is not that of a discharge.
fn views_first(task: Task) -> Option<&'static [&'static str]> {
    match task {
        Task::BatterySoh | Task::BatteryFailure => Some(&["last_discharge"]),
        Task::BatteryRul => Some(&["last_discharge", "condition"]),
        Task::BatteryTemperature => Some(&["discharge_now"]),
        Task::BatteryCycleLife => Some(&["cycle_life"]),
        Task::ThermalRisk => Some(&["pack_now"]),
        _ => None,
    }
}

// === impl StoredInputs ===

impl StoredInputs {
    /// Finds the views of a model's inputs; none for models that are not asked by vehicle.
    pub(crate) fn resolve(manifest: &Manifest, views: &Views) -> Option<StoredInputs> {
        let first: Vec<ViewId> =
            views_first(manifest.model.task)?.iter().filter_map(|name| views.by_name(name)).collect();
        let is_known = |name: &str| views.iter().any(|(_, view)| view.position(name).is_some());
        let names: Vec<&str> =
            manifest.inputs.iter().map(|input| input.name.as_str()).filter(|name| is_known(name)).collect();
        // Every name that is left has a view.
        let plan = Plan::new(views, &names, &first).ok()?;
        let input = |input: &Input| {
            let place = plan.wanted().iter().position(|wanted| wanted.name == input.name);
            let wanted = place.and_then(|place| plan.wanted().get(place));
            let view = wanted.and_then(|wanted| views.view(wanted.view));
            Some(StoredInput {
                name: input.name.clone(),
                view: view.map(|view| view.name.clone()).unwrap_or_default(),
                feature: Feature::by_name(&input.name)?,
                place,
                written: view.is_some_and(|view| view.written),
                ttl: view.map_or(Duration::ZERO, |view| view.ttl),
                max_age: input.max_age(),
                if_stale: input.if_stale,
                required: input.required,
                default: input.default.as_ref().map(default),
                range: input.range,
            })
        };
        let inputs = manifest.inputs.iter().filter_map(input).collect();
        Some(StoredInputs { plan, inputs })
    }

    /// The inputs, in the model's order.
    pub(crate) fn inputs(&self) -> &[StoredInput] {
        &self.inputs
    }

    /// Names of inputs that no view has: a request has to give them.
    pub(crate) fn without_view(&self) -> Vec<&str> {
        self.inputs.iter().filter(|input| input.place.is_none()).map(|input| input.name.as_str()).collect()
    }

    /// What the store has of the inputs that were not given. `rows` are those of all views, by their places.
    pub(crate) fn read(&self, rows: &[Option<FeatureRow>], given: Given, now_us: i64) -> StoredRow {
        let rows: Vec<Option<FeatureRow>> =
            self.plan.views().iter().map(|view| rows.get(view.index()).cloned().flatten()).collect();
        let mut reads: Vec<_> = self.plan.evaluate(&rows, now_us).into_iter().map(Some).collect();
        let features = Vec::with_capacity(self.inputs.len());
        let mut row = StoredRow { features, refused: Vec::new(), is_all: given.is_nothing() };
        for (index, input) in self.inputs.iter().enumerate() {
            if given.has(input.feature) {
                continue;
            }
            let read = input.place.and_then(|place| reads.get_mut(place)?.take());
            let (value, age, status) =
                read.map_or((None, None, Status::Missing), |read| (read.value, read.age, read.status));
            match input.judge(value.filter(|value| input.fits(value)), age, status) {
                Ok(feature) => row.features.push(StoredFeature { input: index, ..feature }),
                Err(violation) => row.refused.push(violation),
            }
        }
        row
    }
}

fn default(value: &DefaultValue) -> FeatureValue {
    match value {
        DefaultValue::Flag(flag) => FeatureValue::Flag(*flag),
        DefaultValue::Number(number) => FeatureValue::Number(crate::pipeline::plan::narrow(*number)),
        DefaultValue::Text(text) => FeatureValue::Text(text.clone()),
    }
}
