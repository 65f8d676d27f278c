//! `ev.features.v1.FeatureStore`: what is known of vehicles now, and what is told from outside.

use std::{sync::Arc, time::Duration};

use ev_features::{FeatureRead, FeatureValue, Plan, Status as FeatureStatus, ViewId, Wanted, WriteError};
use ev_proto::ev::features::v1::{
    Feature, FeatureStatus as ProtoStatus, FeatureValue as ProtoNamed, GetFeaturesRequest, GetFeaturesResponse,
    PutFeaturesRequest, PutFeaturesResponse, feature::Value as ProtoValue, feature_store_server::FeatureStore,
    feature_value::Value as ProtoPut,
};
use tonic::{Request, Response, Status};

use super::{
    call::deadline,
    status,
    telemetry::{time_us, vehicle},
};
use crate::features::VehicleFeatures;

/// So many characters of a caller's own words are repeated in a message.
const EXCERPT_CHARS: usize = 64;

/// Reads and writes features.
pub(crate) struct FeatureService {
    features: Arc<VehicleFeatures>,
    /// All features of all views.
    all: Plan,
}

// === impl FeatureService ===

impl FeatureService {
    pub(super) fn new(features: Arc<VehicleFeatures>) -> FeatureService {
        let views: Vec<ViewId> = features.views().iter().map(|(id, _)| id).collect();
        let all = Plan::of_views(features.views(), &views);
        FeatureService { features, all }
    }

    fn view(&self, field: &str, name: &str) -> Result<ViewId, Status> {
        self.features.views().by_name(name).ok_or_else(|| {
            let views = self.features.views();
            let known: Vec<&str> = views.iter().map(|(_, view)| view.name.as_str()).collect();
            let description = format!("is `{}`, expected one of {}", excerpt(name), known.join(", "));
            status::invalid(field, "UNKNOWN_VIEW", description)
        })
    }

    /// A plan for the views of a request; none: for all.
    fn plan(&self, names: &[String]) -> Result<Option<Plan>, Status> {
        let mut ids = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let id = self.view(&format!("views[{index}]"), name)?;
            // There are no more than there are views, however often they are named.
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok((!ids.is_empty()).then(|| Plan::of_views(self.features.views(), &ids)))
    }

    fn encode(&self, wanted: &Wanted, read: FeatureRead) -> Feature {
        let view = self.features.views().view(wanted.view);
        feature(&wanted.name, view.map_or("", |view| &view.name), read)
    }

    /// What is wrong with a write, in the words of its request.
    fn refuse(&self, error: &WriteError, request: &PutFeaturesRequest) -> Status {
        let PutFeaturesRequest { view, values, .. } = request;
        // Where a feature is in the request; names were seen to be there once.
        let place = |feature: &str| {
            let index = values.iter().position(|value| value.name == feature).unwrap_or_default();
            let part = match values.get(index).and_then(|value| value.value.as_ref()) {
                Some(ProtoPut::Number(_)) => ".number",
                Some(ProtoPut::Text(_)) => ".text",
                Some(ProtoPut::Flag(_)) => ".flag",
                None => "",
            };
            (format!("values[{index}].name"), format!("values[{index}]{part}"))
        };
        match error {
            WriteError::UnknownFeature { feature, .. } => {
                let declared = self.features.views().by_name(view).and_then(|id| self.features.views().view(id));
                let known = declared.into_iter().flat_map(|view| &view.features);
                let known: Vec<&str> = known.map(|feature| feature.name.as_str()).collect();
                let (name, feature) = (place(feature).0, excerpt(feature));
                let description = format!("is `{feature}`, expected a feature of view `{view}`: {}", known.join(", "));
                status::invalid(&name, "UNKNOWN_FEATURE", description)
            }
            WriteError::Value(refused) => {
                let description = format!("of `{}` {}", refused.field, refused.problem);
                status::invalid(&place(refused.field).1, status::reason_of(&refused.problem), description)
            }
            WriteError::OwnValue { feature, problem } => {
                status::invalid(&place(feature).1, "IMPLAUSIBLE_VALUE", format!("of `{feature}` {problem}"))
            }
            WriteError::NotWritable { view } => {
                let written = self.features.views().iter().filter(|(_, view)| view.written);
                let written: Vec<&str> = written.map(|(_, view)| view.name.as_str()).collect();
                let written = written.join(", ");
                let description = format!("is `{view}`, which is computed from readings, expected one of {written}");
                status::invalid("view", "NOT_WRITABLE", description)
            }
            WriteError::Future { ahead_s } => {
                let description = format!("is {ahead_s} s ahead of the server's clock, expected a time that has come");
                status::invalid("event_time", "FUTURE_TIME", description)
            }
            error => status::of_write(error),
        }
    }
}

#[tonic::async_trait]
impl FeatureStore for FeatureService {
    async fn get_features(
        &self,
        request: Request<GetFeaturesRequest>,
    ) -> Result<Response<GetFeaturesResponse>, Status> {
        deadline(request.extensions())?;
        let GetFeaturesRequest { vehicle_id, views } = request.into_inner();
        let vehicle = vehicle("vehicle_id", &vehicle_id)?;
        let plan = self.plan(&views)?;
        let plan = plan.as_ref().unwrap_or(&self.all);
        let reads = self.features.read(&vehicle, plan).await.map_err(|error| status::of_feature_store(&error))?;
        let features = plan.wanted().iter().zip(reads.features).map(|(wanted, read)| self.encode(wanted, read));
        Ok(Response::new(GetFeaturesResponse { features: features.collect(), degraded: reads.degraded }))
    }

    async fn put_features(
        &self,
        request: Request<PutFeaturesRequest>,
    ) -> Result<Response<PutFeaturesResponse>, Status> {
        deadline(request.extensions())?;
        let request = request.into_inner();
        let PutFeaturesRequest { vehicle_id, view, values, event_time } = &request;
        let vehicle = vehicle("vehicle_id", vehicle_id)?;
        self.view("view", view)?;
        let values = named(values)?;
        let malformed = |time: &prost_types::Timestamp| {
            status::invalid("event_time", "OUT_OF_RANGE", format!("is {} s, expected a time", time.seconds))
        };
        let event_time_us = event_time.as_ref().map(|time| time_us(time).ok_or_else(|| malformed(time))).transpose()?;
        let put = self.features.put(&vehicle, view, &values, event_time_us).await;
        let written = put.map_err(|error| self.refuse(&error, &request))?;
        Ok(Response::new(PutFeaturesResponse { written }))
    }
}

/// A feature as it was read.
pub(super) fn feature(name: &str, view: &str, read: FeatureRead) -> Feature {
    let FeatureRead { value, age, status } = read;
    let status = match status {
        FeatureStatus::Fresh => ProtoStatus::Fresh,
        FeatureStatus::Stale => ProtoStatus::Stale,
        FeatureStatus::Defaulted => ProtoStatus::Defaulted,
        FeatureStatus::Missing => ProtoStatus::Missing,
    };
    let value = value.map(|value| match value {
        FeatureValue::Number(number) => ProtoValue::Number(number),
        FeatureValue::Text(text) => ProtoValue::Text(text),
        FeatureValue::Flag(flag) => ProtoValue::Flag(flag),
    });
    Feature { name: name.to_owned(), view: view.to_owned(), value, age: age.map(duration), status: status.into() }
}

/// Names and values, each name once.
fn named(values: &[ProtoNamed]) -> Result<Vec<(&str, FeatureValue)>, Status> {
    if values.is_empty() {
        return Err(status::invalid("values", "MISSING_FIELD", "is empty, expected at least one feature"));
    }
    // A view has no more, and names are compared with all before them.
    if values.len() > ev_features::FEATURES_MAX {
        let description = format!("has {} values, expected at most {}", values.len(), ev_features::FEATURES_MAX);
        return Err(status::invalid("values", "TOO_MANY_FEATURES", description));
    }
    let mut named: Vec<(&str, FeatureValue)> = Vec::with_capacity(values.len());
    for (index, ProtoNamed { name, value }) in values.iter().enumerate() {
        if named.iter().any(|(known, _)| known == name) {
            let description = format!("is `{}`, which came before, expected each feature once", excerpt(name));
            return Err(status::invalid(&format!("values[{index}].name"), "DUPLICATE_FEATURE", description));
        }
        let value = match value {
            Some(ProtoPut::Number(number)) => FeatureValue::Number(*number),
            Some(ProtoPut::Text(text)) => FeatureValue::Text(text.clone()),
            Some(ProtoPut::Flag(flag)) => FeatureValue::Flag(*flag),
            None => {
                let description = format!("of `{}` has no value, expected a number, a text or a flag", excerpt(name));
                return Err(status::invalid(&format!("values[{index}]"), "MISSING_FIELD", description));
            }
        };
        named.push((name, value));
    }
    Ok(named)
}

fn duration(age: Duration) -> prost_types::Duration {
    let nanos = i32::try_from(age.subsec_nanos()).unwrap_or_default();
    prost_types::Duration { seconds: i64::try_from(age.as_secs()).unwrap_or(i64::MAX), nanos }
}

fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT_CHARS).collect()
}
