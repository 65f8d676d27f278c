//! The journal of alerts: what is open, what ended lately, who acknowledged it and what webhooks owe survive the process.
//!
//! It hears of alerts as any subscriber does, and nobody waits for it. What cannot be written costs alerts nothing but
//! that: it is told, and tried again until everything is on the disk.

mod file;
mod record;

use std::{
    fs::TryLockError,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ev_alerts::{
    Alert, AlertEvent, Alerts, Filter, Notice, Page, State, Subscription,
    webhook::{Settled, WebhookConfig},
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use file::{Found, JournalFile};
use record::{DebtId, Debts, FORMAT, Kept, Line};

/// Most events that are written at one time.
const GROUP_MAX: usize = 4096;
/// What webhooks have settled and was not written yet. What goes beyond it is sent once more after a restart.
const SETTLED_WAITING_MAX: usize = 4096;
/// What is owed beyond what webhooks hold: between an event and its being queued or dropped.
const DEBTS_SLACK: usize = 1024;
/// How often writing is tried while it fails.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// Longest wait for the last events to be written.
const STOP_WAIT_MAX: Duration = Duration::from_secs(5);

/// The journal cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AlertJournalError {
    /// Another process writes it.
    #[error("{path} is in use: stop the other evserve, or give this one a data directory of its own")]
    InUse {
        /// The file that is locked.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot open the journal of alerts {path}")]
    Unreadable {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A journal that was read, and is not written yet.
pub(crate) struct AlertJournal {
    file: JournalFile,
    /// Locked as long as it is open.
    lock: fs_err::File,
    alerts: Vec<Alert>,
    debts: Debts,
    webhooks: Vec<(Arc<str>, WebhookConfig)>,
    sender: mpsc::Sender<DebtId>,
    settled: mpsc::Receiver<DebtId>,
}

/// A journal that is written.
pub(crate) struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// The task that writes.
struct Writer {
    /// None while it is written to.
    file: Option<JournalFile>,
    _lock: fs_err::File,
    alerts: Arc<Alerts>,
    hearing: Subscription,
    webhooks: Vec<(Arc<str>, WebhookConfig)>,
    settled: mpsc::Receiver<DebtId>,
    debts: Debts,
    /// Settled, and to be noted once the events before are.
    settling: Vec<DebtId>,
    /// The file does not say everything, and is to be written anew at this time.
    stale: Option<Instant>,
    is_failing: bool,
}

// === impl AlertJournal ===

impl AlertJournal {
    /// Reads what an earlier process left in `directory`, for these webhooks.
    ///
    /// # Errors
    ///
    /// [`AlertJournalError`]. A file that is damaged is none: it is told, set aside, and what is whole of it counts.
    pub(crate) fn open(directory: &Path, webhooks: &[WebhookConfig]) -> Result<AlertJournal, AlertJournalError> {
        let path = directory.join("alerts.journal");
        let failed = |source| AlertJournalError::Unreadable { path: path.clone(), source };
        fs_err::create_dir_all(directory).map_err(failed)?;
        let lock = lock(&directory.join("alerts.lock"))?;
        let file = JournalFile::new(path.clone());
        let debts_max = webhooks.iter().map(|webhook| webhook.queue_max + webhook.concurrency).sum::<usize>();
        let debts_max = debts_max + DEBTS_SLACK;
        let mut kept = match file.read(debts_max).map_err(failed)? {
            Found::Nothing => Kept::new(debts_max),
            Found::Records(kept) => kept,
            Found::Strange => {
                tracing::error!(aside = %file.aside().display(), "the journal of alerts is not one; it was set aside, and alerts begin anew");
                Kept::new(debts_max)
            }
        };
        if kept.damaged_lines > 0 {
            tracing::error!(lines = kept.damaged_lines, copy = %file.aside().display(), "lines of the journal of alerts are damaged; the others count");
        }
        let webhooks: Vec<(Arc<str>, WebhookConfig)> =
            webhooks.iter().map(|webhook| (Arc::from(webhook.key()), webhook.clone())).collect();
        let keys: Vec<Arc<str>> = webhooks.iter().map(|(key, _)| Arc::clone(key)).collect();
        kept.debts.keep_only(&keys);
        let (sender, settled) = mpsc::channel(SETTLED_WAITING_MAX);
        let Kept { alerts, debts, .. } = kept;
        Ok(AlertJournal { file, lock, alerts: alerts.into_values().collect(), debts, webhooks, sender, settled })
    }

    /// What a webhook owes from before.
    pub(crate) fn owed(&self, webhook: &WebhookConfig) -> Vec<AlertEvent> {
        let key = webhook.key();
        self.debts.iter().filter(|(id, _)| *id.webhook == key).map(|(_, event)| (**event).clone()).collect()
    }

    /// What a webhook tells what it owes no longer.
    pub(crate) fn settler(&self, webhook: &WebhookConfig) -> Settled {
        let (key, sender): (Arc<str>, _) = (Arc::from(webhook.key()), self.sender.clone());
        Arc::new(move |event| {
            let id = DebtId { webhook: Arc::clone(&key), alert: event.alert.id, revision: event.alert.revision };
            // One that finds no place is sent once more after a restart, under the same id.
            let _ = sender.try_send(id);
        })
    }

    /// Puts the alerts there were into the book, and writes what happens to it from now on. Needs a tokio runtime.
    pub(crate) fn start(self, alerts: &Arc<Alerts>, now_us: i64) -> Running {
        let AlertJournal { file, lock, alerts: before, debts, webhooks, settled, .. } = self;
        let open = before.iter().filter(|alert| alert.state == State::Open).count();
        if !before.is_empty() || debts.len() > 0 {
            tracing::info!(open, ended = before.len() - open, owed = debts.len(), "alerts go on from before");
        }
        // Restored before anybody hears: nothing of it happens now.
        alerts.restore(before, now_us);
        let writer = Writer {
            file: Some(file),
            _lock: lock,
            hearing: alerts.subscribe(),
            alerts: Arc::clone(alerts),
            webhooks,
            settled,
            debts,
            settling: Vec::new(),
            stale: Some(Instant::now()),
            is_failing: false,
        };
        let stop = CancellationToken::new();
        Running { task: tokio::spawn(writer.run(stop.clone())), stop }
    }
}

fn lock(path: &Path) -> Result<fs_err::File, AlertJournalError> {
    let failed = |source| AlertJournalError::Unreadable { path: path.to_owned(), source };
    let file = fs_err::File::create(path).map_err(failed)?;
    match file.file().try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AlertJournalError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

// === impl Running ===

impl Running {
    /// Writes what has happened, and ends.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if timeout(STOP_WAIT_MAX, self.task).await.is_err() {
            tracing::error!("the last alerts were not written in time");
        }
    }
}

// === impl Writer ===

impl Writer {
    async fn run(mut self, stop: CancellationToken) {
        let mut is_over = false;
        while !is_over {
            let mut first = None;
            let retry = self.stale.unwrap_or_else(Instant::now);
            tokio::select! {
                notice = self.hearing.next() => match notice {
                    Some(notice) => first = Some(notice),
                    None => is_over = true,
                },
                Some(id) = self.settled.recv() => self.settling.push(id),
                () = sleep_until(retry), if self.stale.is_some() => {}
                () = stop.cancelled() => is_over = true,
            }
            let bytes = self.gather(first, if is_over { usize::MAX } else { GROUP_MAX });
            let written = match self.stale {
                Some(at) if at <= Instant::now() || is_over => self.rewrite().await,
                // Everything of it will be in what is written anew.
                Some(_) => Some(()),
                None if bytes.is_empty() => Some(()),
                None => self.append(bytes).await,
            };
            if written.is_none() {
                // A bug: what writes it is gone, and the file with it.
                return tracing::error!("the journal of alerts is not written any more");
            }
        }
    }

    /// What happened meanwhile, as lines: at most of so many events.
    fn gather(&mut self, first: Option<Notice>, max: usize) -> Vec<u8> {
        let (mut bytes, mut count) = (Vec::new(), 0);
        let mut next = first.or_else(|| self.hearing.try_next());
        while let Some(notice) = next {
            match notice {
                Notice::Event(event) => self.note(&event, &mut bytes),
                Notice::Missed(events) => {
                    tracing::warn!(events, "alerts came faster than they were written; all are written anew");
                    self.stale = Some(Instant::now());
                }
            }
            count += 1;
            if count >= max {
                return bytes;
            }
            next = self.hearing.try_next();
        }
        // Events were heard of before a webhook could settle them: whatever is settled was noted above.
        while let Ok(id) = self.settled.try_recv() {
            self.settling.push(id);
        }
        for id in std::mem::take(&mut self.settling) {
            if self.debts.settle(&id) {
                let (webhook, alert) = (&*id.webhook, id.alert.to_string());
                Line::Settled { webhook, alert: &alert, revision: id.revision }.write_to(&mut bytes);
            }
        }
        bytes
    }

    fn note(&mut self, event: &Arc<AlertEvent>, bytes: &mut Vec<u8>) {
        Line::Alert(&event.alert).write_to(bytes);
        for (key, webhook) in &self.webhooks {
            if webhook.wants(event) && self.debts.owe(key, event) {
                Line::Owed { webhook: key, event }.write_to(bytes);
            }
        }
    }

    async fn append(&mut self, bytes: Vec<u8>) -> Option<()> {
        let result = self.write(move |file| file.append(&bytes)).await?;
        self.conclude(result);
        Some(())
    }

    /// Everything as it is now. What happens meanwhile is heard of, and comes after it.
    async fn rewrite(&mut self) -> Option<()> {
        let mut bytes = Vec::new();
        Line::Format(FORMAT).write_to(&mut bytes);
        let mut page = Page { size: Page::SIZE_MAX, token: None };
        // Page by page: the lane never waits for long.
        while let Ok(listing) = self.alerts.list(&Filter::default(), &page) {
            listing.alerts.iter().for_each(|alert| Line::Alert(alert).write_to(&mut bytes));
            page.token = listing.next;
            if page.token.is_none() {
                break;
            }
        }
        for (id, event) in self.debts.iter() {
            Line::Owed { webhook: &id.webhook, event }.write_to(&mut bytes);
        }
        let result = self.write(move |file| file.rewrite(&bytes)).await?;
        self.stale = None;
        self.conclude(result);
        Some(())
    }

    /// Where waiting for a disk holds up nobody else. None: the writing panicked.
    async fn write(
        &mut self,
        work: impl FnOnce(&mut JournalFile) -> io::Result<()> + Send + 'static,
    ) -> Option<io::Result<()>> {
        let mut file = self.file.take()?;
        let written = tokio::task::spawn_blocking(move || {
            let result = work(&mut file);
            (file, result)
        });
        let (file, result) = written.await.ok()?;
        self.file = Some(file);
        Some(result)
    }

    fn conclude(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("alerts are kept on the disk again");
                }
                if self.file.as_ref().is_some_and(JournalFile::is_long) {
                    self.stale = Some(Instant::now());
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "alerts cannot be kept on the disk: they are told as before, and would not survive a restart"
                    );
                }
                self.stale = Some(Instant::now() + RETRY_EVERY);
            }
        }
    }
}
