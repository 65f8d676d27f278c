//! Listings of alerts.

use std::{collections::BTreeMap, ops::Bound};

use ev_domain::{Severity, VehicleId};
use uuid::Uuid;

use crate::{Alert, AlertError, State, Topic};

/// Which alerts; what is not set does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Of this vehicle.
    pub vehicle: Option<VehicleId>,
    /// About this.
    pub topic: Option<Topic>,
    /// Open or ended.
    pub state: Option<State>,
    /// At least this severe.
    pub severity_min: Option<Severity>,
    /// Acknowledged or not.
    pub acknowledged: Option<bool>,
    /// Raised at this time or later, in microseconds since 1970-01-01 UTC.
    pub raised_from_us: Option<i64>,
    /// Raised before this time, in microseconds since 1970-01-01 UTC.
    pub raised_before_us: Option<i64>,
}

/// Which page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Most entries, 1 to [`Page::SIZE_MAX`]; 0 means [`Page::SIZE_DEFAULT`].
    pub size: usize,
    /// [`Listing::next`] of the page before; none for the first page.
    pub token: Option<String>,
}

/// One page, newest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Listing {
    /// The alerts.
    pub alerts: Vec<Alert>,
    /// Token of the page after; none on the last page.
    pub next: Option<String>,
}

// === impl Filter ===

impl Filter {
    /// Whether an alert is one of these.
    #[must_use]
    pub fn matches(&self, alert: &Alert) -> bool {
        self.vehicle.as_ref().is_none_or(|vehicle| alert.vehicle == *vehicle)
            && self.topic.is_none_or(|topic| alert.topic == topic)
            && self.state.is_none_or(|state| alert.state == state)
            && self.severity_min.is_none_or(|severity| alert.severity >= severity)
            && self.acknowledged.is_none_or(|acknowledged| alert.acknowledgement.is_some() == acknowledged)
            && self.raised_from_us.is_none_or(|from| alert.raised_us >= from)
            && self.raised_before_us.is_none_or(|before| alert.raised_us < before)
    }
}

// === impl Page ===

impl Page {
    /// Entries of a page when the caller does not say.
    pub const SIZE_DEFAULT: usize = 100;
    /// Most entries of a page.
    pub const SIZE_MAX: usize = 1000;

    fn limit(&self) -> Result<usize, AlertError> {
        match self.size {
            0 => Ok(Self::SIZE_DEFAULT),
            size if size <= Self::SIZE_MAX => Ok(size),
            _ => Err(AlertError::InvalidPage { problem: "its size is larger than 1000" }),
        }
    }

    fn before(&self) -> Result<Bound<Uuid>, AlertError> {
        match self.token.as_deref().filter(|token| !token.is_empty()) {
            None => Ok(Bound::Unbounded),
            Some(token) => Uuid::try_parse(token)
                .map(Bound::Excluded)
                .map_err(|_| AlertError::InvalidPage { problem: "its token is not one this listing gave" }),
        }
    }
}

pub(super) fn list(alerts: &BTreeMap<Uuid, Alert>, filter: &Filter, page: &Page) -> Result<Listing, AlertError> {
    let (limit, before) = (page.limit()?, page.before()?);
    // Ids rise with time.
    let mut matching = alerts.range((Bound::Unbounded, before)).rev().filter(|(_, alert)| filter.matches(alert));
    let alerts: Vec<Alert> = matching.by_ref().take(limit).map(|(_, alert)| alert.clone()).collect();
    let next = matching.next().and(alerts.last()).map(|last| last.id.to_string());
    Ok(Listing { alerts, next })
}
