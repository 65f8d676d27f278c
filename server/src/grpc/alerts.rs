//! Alerts, as `ev.thermal.v1.ThermalRisk` tells them.

use std::{pin::Pin, sync::Arc};

use ev_alerts::{Alert, AlertError, Alerts, Filter, Happening, Notice, Origin, Page, State, Topic};
use ev_domain::RiskClass;
use ev_domain::Severity;
use ev_proto::ev::thermal::v1::{
    AcknowledgeAlertRequest, AcknowledgeAlertResponse, Alert as ProtoAlert, AlertAcknowledgement, AlertFilter,
    AlertHappening, AlertOrigin, AlertState, AlertTopic, ListAlertsRequest, ListAlertsResponse, RecommendedAction,
    RiskClass as ProtoClass, Severity as ProtoSeverity, WatchAlertsRequest, WatchAlertsResponse,
};
use futures_core::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use super::{status, telemetry::timestamp, telemetry::vehicle, thermal};
use crate::telemetry::now_us;

/// Events that wait for a watcher to read them, beyond those in the book's own queue.
const WAITING_MAX: usize = 64;
/// Alerts of one page of those that are open when a watch begins.
const OPEN_PAGE: usize = 1_000;

/// Answers of a watch.
pub(super) type Watching = Pin<Box<dyn Stream<Item = Result<WatchAlertsResponse, Status>> + Send>>;

pub(super) fn list(alerts: &Alerts, request: ListAlertsRequest) -> Result<ListAlertsResponse, Status> {
    let ListAlertsRequest { filter, page_size, page_token } = request;
    let page = Page {
        size: usize::try_from(page_size).unwrap_or(usize::MAX),
        token: if page_token.is_empty() { None } else { Some(page_token) },
    };
    let listing = alerts.list(&filter_of(filter)?, &page).map_err(|error| of_alert(&error))?;
    let alerts = listing.alerts.iter().map(encode).collect();
    Ok(ListAlertsResponse { alerts, next_page_token: listing.next.unwrap_or_default() })
}

pub(super) fn acknowledge(
    alerts: &Alerts,
    request: &AcknowledgeAlertRequest,
) -> Result<AcknowledgeAlertResponse, Status> {
    let AcknowledgeAlertRequest { id, by, note } = request;
    let id: Uuid = id.parse().map_err(|_| {
        let id: String = id.chars().take(64).collect();
        status::invalid("id", "INVALID_ID", format!("is `{id}`, expected the UUID of an alert"))
    })?;
    if by.is_empty() {
        return Err(status::invalid("by", "MISSING_FIELD", "is missing, expected who acknowledges"));
    }
    let alert = alerts.acknowledge(id, by, note, now_us()).map_err(|error| of_alert(&error))?;
    Ok(AcknowledgeAlertResponse { alert: Some(encode(&alert)) })
}

/// Tells what is open, then what happens.
pub(super) fn watch(
    alerts: &Arc<Alerts>,
    request: WatchAlertsRequest,
    draining: CancellationToken,
) -> Result<Watching, Status> {
    let mut filter = filter_of(request.filter)?;
    (filter.state, filter.acknowledged) = (Some(State::Open), None);
    // First, so that nothing that happens while the open ones are listed is missed.
    let mut subscription = alerts.subscribe();
    let alerts = Arc::clone(alerts);
    let (sender, responses) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        let mut told = std::collections::HashMap::new();
        let mut page = Page { size: OPEN_PAGE, token: None };
        while let Ok(listing) = alerts.list(&filter, &page) {
            for alert in &listing.alerts {
                told.insert(alert.id, alert.revision);
                let response = WatchAlertsResponse {
                    happening: AlertHappening::Unspecified.into(),
                    alert: Some(encode(alert)),
                    missed_events: 0,
                };
                if sender.send(Ok(response)).await.is_err() {
                    return;
                }
            }
            let Some(next) = listing.next else { break };
            page.token = Some(next);
        }
        // The watcher holds no book: it would keep it from ending.
        drop(alerts);
        let mut missed_events = 0;
        loop {
            let notice = tokio::select! {
                notice = subscription.next() => notice,
                () = draining.cancelled() => None,
                () = sender.closed() => return,
            };
            match notice {
                Some(Notice::Missed(count)) => missed_events += count,
                Some(Notice::Event(event)) => {
                    let alert = &event.alert;
                    if !wanted(&filter, alert) || told.get(&alert.id).is_some_and(|told| *told >= alert.revision) {
                        continue;
                    }
                    told.remove(&alert.id);
                    let response = WatchAlertsResponse {
                        happening: happening(event.happening).into(),
                        alert: Some(encode(alert)),
                        missed_events: std::mem::take(&mut missed_events),
                    };
                    if sender.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
                None => {
                    let _ = sender.send(Err(status::draining())).await;
                    return;
                }
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(responses)))
}

fn wanted(filter: &Filter, alert: &Alert) -> bool {
    filter.vehicle.as_ref().is_none_or(|vehicle| *vehicle == alert.vehicle)
        && filter.topic.is_none_or(|topic| topic == alert.topic)
        && filter.severity_min.is_none_or(|least| alert.peak >= least)
}

fn filter_of(filter: Option<AlertFilter>) -> Result<Filter, Status> {
    let AlertFilter { vehicle_id, topic, state, severity_min, acknowledged } = filter.unwrap_or_default();
    let unknown = |field: &str, value: i32| {
        status::invalid(&format!("filter.{field}"), "UNKNOWN_VALUE", format!("is {value}, which has no meaning"))
    };
    let topic = match AlertTopic::try_from(topic).map_err(|_| unknown("topic", topic))? {
        AlertTopic::Unspecified => None,
        AlertTopic::Thermal => Some(Topic::Thermal),
        AlertTopic::StateOfCharge => Some(Topic::StateOfCharge),
        AlertTopic::FailureProbability => Some(Topic::FailureProbability),
        AlertTopic::RemainingLife => Some(Topic::RemainingLife),
        AlertTopic::StateOfHealth => Some(Topic::StateOfHealth),
    };
    let state = match AlertState::try_from(state).map_err(|_| unknown("state", state))? {
        AlertState::Unspecified => None,
        AlertState::Open => Some(State::Open),
        AlertState::Ended => Some(State::Ended),
    };
    let severity_min = match ProtoSeverity::try_from(severity_min).map_err(|_| unknown("severity_min", severity_min))? {
        ProtoSeverity::Unspecified => None,
        ProtoSeverity::None => Some(Severity::None),
        ProtoSeverity::Low => Some(Severity::Low),
        ProtoSeverity::Medium => Some(Severity::Medium),
        ProtoSeverity::High => Some(Severity::High),
        ProtoSeverity::Critical => Some(Severity::Critical),
    };
    let vehicle = if vehicle_id.is_empty() { None } else { Some(vehicle("filter.vehicle_id", &vehicle_id)?) };
    Ok(Filter { vehicle, topic, state, severity_min, acknowledged, ..Filter::default() })
}

fn of_alert(error: &AlertError) -> Status {
    match error {
        AlertError::NotFound { .. } => status::not_found("UNKNOWN_ALERT", error.to_string()),
        AlertError::InvalidPage { problem } => status::invalid("page_token", "INVALID_PAGE", *problem),
        AlertError::TooLong { field, bytes, max_bytes } => {
            status::invalid(field, "TOO_LONG", format!("has {bytes} bytes, expected at most {max_bytes}"))
        }
        // Whatever else can be wrong is in what was asked.
        error => status::invalid("request", "REFUSED", error.to_string()),
    }
}

fn happening(happening: Happening) -> AlertHappening {
    match happening {
        Happening::Raised => AlertHappening::Raised,
        Happening::Reopened => AlertHappening::Reopened,
        Happening::Rose => AlertHappening::Rose,
        Happening::Fell => AlertHappening::Fell,
        Happening::Escalated => AlertHappening::Escalated,
        Happening::Acknowledged => AlertHappening::Acknowledged,
        Happening::Ended => AlertHappening::Ended,
        Happening::Displaced => AlertHappening::Displaced,
    }
}

fn encode(alert: &Alert) -> ProtoAlert {
    let topic = match alert.topic {
        Topic::Thermal => AlertTopic::Thermal,
        Topic::StateOfCharge => AlertTopic::StateOfCharge,
        Topic::FailureProbability => AlertTopic::FailureProbability,
        Topic::RemainingLife => AlertTopic::RemainingLife,
        Topic::StateOfHealth => AlertTopic::StateOfHealth,
    };
    let state = match alert.state {
        State::Open => AlertState::Open,
        State::Ended => AlertState::Ended,
    };
    let origin = match alert.origin {
        Origin::Rule => AlertOrigin::Rule,
        Origin::Fleet => AlertOrigin::Fleet,
        Origin::Model => AlertOrigin::Model,
    };
    let acknowledgement = alert.acknowledgement.as_ref().map(|known| AlertAcknowledgement {
        by: known.by.clone(),
        note: known.note.clone(),
        at: Some(timestamp(known.at_us)),
    });
    ProtoAlert {
        id: alert.id.to_string(),
        revision: alert.revision,
        vehicle_id: alert.vehicle.as_str().to_owned(),
        topic: topic.into(),
        state: state.into(),
        severity: thermal::severity(alert.severity).into(),
        peak_severity: thermal::severity(alert.peak).into(),
        risk_class: alert.class.map_or(ProtoClass::Unspecified, thermal::class).into(),
        origin: origin.into(),
        sign: alert.finding.sign.to_owned(),
        value: alert.finding.value,
        limit: alert.finding.limit,
        unit: alert.finding.unit.to_owned(),
        action: Some(RecommendedAction {
            id: alert.action_id.clone(),
            text: alert.action_text.clone(),
            policy_version: RiskClass::POLICY_VERSION.to_owned(),
        }),
        event_time: Some(timestamp(alert.event_time_us)),
        raised_time: Some(timestamp(alert.raised_us)),
        changed_time: Some(timestamp(alert.changed_us)),
        confirmed_time: Some(timestamp(alert.confirmed_us)),
        escalations: alert.escalations,
        acknowledgement,
        ended_time: alert.ended_us.map(timestamp),
    }
}
