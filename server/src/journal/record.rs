//! What the journal says: one record a line, with its checksum before it.

use std::{
    collections::{BTreeMap, HashMap},
    io::Write as _,
    sync::Arc,
};

use ev_alerts::{Alert, AlertEvent};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Version of the lines; a journal of another one is set aside.
pub(super) const FORMAT: u32 = 1;
/// Hexadecimal digits of the checksum, and a blank.
const PREFIX_BYTES: usize = 9;

/// A record that is written.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line<'a> {
    /// The first line.
    Format(u32),
    /// An alert as it is now.
    Alert(&'a Alert),
    /// A webhook is to be told.
    Owed { webhook: &'a str, event: &'a AlertEvent },
    /// It was told, or will not be.
    Settled { webhook: &'a str, alert: &'a str, revision: u32 },
}

/// A record that was read.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    Format(u32),
    Alert(Box<Alert>),
    Owed { webhook: String, event: Box<AlertEvent> },
    Settled { webhook: String, alert: String, revision: u32 },
}

/// Names something owed: the webhook's key, the alert, and its revision.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct DebtId {
    pub(super) webhook: Arc<str>,
    pub(super) alert: Uuid,
    pub(super) revision: u32,
}

/// What webhooks owe, in the order it came.
#[derive(Debug)]
pub(super) struct Debts {
    in_order: BTreeMap<u64, (DebtId, Arc<AlertEvent>)>,
    orders: HashMap<DebtId, u64>,
    next: u64,
    max: usize,
}

/// What a journal says in the end.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) alerts: HashMap<Uuid, Alert>,
    pub(super) debts: Debts,
    /// Lines that are not what was written, but for the last.
    pub(super) damaged_lines: usize,
}

// === impl Line ===

impl Line<'_> {
    /// Adds it to what is to be written.
    pub(super) fn write_to(&self, bytes: &mut Vec<u8>) {
        // Names, numbers and texts: nothing that JSON does not have.
        let Ok(json) = serde_json::to_vec(self) else { return };
        let _ = write!(bytes, "{:08x} ", crc32fast::hash(&json));
        bytes.extend_from_slice(&json);
        bytes.push(b'\n');
    }
}

// === impl Record ===

impl Record {
    /// Reads a line with its end; none of one that is not as it was written.
    pub(super) fn read(line: &[u8]) -> Option<Record> {
        let (checksum, json) = line.strip_suffix(b"\n")?.split_at_checked(PREFIX_BYTES)?;
        if checksum != format!("{:08x} ", crc32fast::hash(json)).as_bytes() {
            return None;
        }
        serde_json::from_slice(json).ok()
    }
}

// === impl Debts ===

impl Debts {
    /// None yet; at most `max`.
    pub(super) fn new(max: usize) -> Debts {
        Debts { in_order: BTreeMap::new(), orders: HashMap::new(), next: 0, max }
    }

    /// Notes one; not one that is known, or too many.
    pub(super) fn owe(&mut self, webhook: &Arc<str>, event: &Arc<AlertEvent>) -> bool {
        let id = DebtId { webhook: Arc::clone(webhook), alert: event.alert.id, revision: event.alert.revision };
        if self.orders.contains_key(&id) || self.orders.len() >= self.max {
            return false;
        }
        self.orders.insert(id.clone(), self.next);
        self.in_order.insert(self.next, (id, Arc::clone(event)));
        self.next += 1;
        true
    }

    /// Forgets one; whether it was known.
    pub(super) fn settle(&mut self, id: &DebtId) -> bool {
        self.orders.remove(id).and_then(|order| self.in_order.remove(&order)).is_some()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&DebtId, &Arc<AlertEvent>)> {
        self.in_order.values().map(|(id, event)| (id, event))
    }

    pub(super) fn len(&self) -> usize {
        self.in_order.len()
    }

    /// Forgets what is owed to webhooks that there are no more.
    pub(super) fn keep_only(&mut self, webhooks: &[Arc<str>]) {
        self.in_order.retain(|_, (id, _)| webhooks.contains(&id.webhook));
        self.orders.retain(|id, _| webhooks.contains(&id.webhook));
    }
}

// === impl Kept ===

impl Kept {
    pub(super) fn new(debts_max: usize) -> Kept {
        Kept { alerts: HashMap::new(), debts: Debts::new(debts_max), damaged_lines: 0 }
    }

    /// Takes a record in; the order of an alert's revisions does not matter.
    pub(super) fn take(&mut self, record: Record) {
        match record {
            Record::Format(_) => {}
            Record::Alert(alert) => {
                let known = self.alerts.get(&alert.id);
                if known.is_none_or(|known| known.revision <= alert.revision) {
                    self.alerts.insert(alert.id, *alert);
                }
            }
            Record::Owed { webhook, event } => {
                self.debts.owe(&Arc::from(webhook), &Arc::new(*event));
            }
            Record::Settled { webhook, alert, revision } => {
                if let Ok(alert) = Uuid::try_parse(&alert) {
                    self.debts.settle(&DebtId { webhook: Arc::from(webhook), alert, revision });
                }
            }
        }
    }
}
