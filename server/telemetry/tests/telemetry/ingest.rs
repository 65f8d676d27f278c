//! Sessions: credit, acknowledgements, rejects, subscribers, failures.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use ev_telemetry::{
    Admission, AppliedBatch, Apply, Event, IngestConfig, Ingestor, Observed, QuarantineQuery, RejectReason, Session,
    SubmitError, TelemetryError, TelemetryStore,
};
use tokio::{runtime::Handle, sync::Semaphore, time::timeout};

use crate::support::{NOW, Slow, batch, eventually, id, open, source};

fn config() -> IngestConfig {
    IngestConfig { credit: NonZeroU32::new(4).unwrap(), vehicles_per_gateway_max: 3, ..IngestConfig::default() }
}

fn start(store: Arc<dyn TelemetryStore>, config: IngestConfig) -> Ingestor {
    Ingestor::start(store, config, Vec::new(), &Handle::current())
}

/// An event, short: what, and of which batch.
fn shown(event: &Event) -> (&'static str, u64) {
    match event {
        Event::Durable { sequence, is_duplicate: false, .. } => ("durable", *sequence),
        Event::Durable { sequence, .. } => ("duplicate", *sequence),
        Event::Applied { sequence, .. } => ("applied", *sequence),
        Event::Refused { sequence, .. } => ("refused", *sequence),
        Event::Failed { sequence, .. } => ("failed", *sequence),
        _ => ("unknown", 0),
    }
}

async fn events(session: &mut Session) -> Vec<(&'static str, u64)> {
    let mut events = Vec::new();
    while let Some(event) = session.next().await {
        events.push(shown(&event));
    }
    events.sort_unstable();
    events
}

#[tokio::test]
async fn a_batch_is_received_then_durable_then_applied() {
    let directory = tempfile::tempdir().unwrap();
    let slow = Slow::new(directory.path()).await;
    let ingestor = start(slow.clone(), config());
    let mut session = ingestor.open(source("one"), &[]).await.unwrap();
    let received = session.submit(batch("car", 1, 10), NOW).await.unwrap();
    assert_eq!((received.admission, received.rejects), (Admission::New, Vec::new()));
    assert_eq!(session.credit(), 3);
    assert!(timeout(Duration::from_millis(50), session.next()).await.is_err(), "nothing is stored yet");
    assert!(slow.store.vehicle(&id("car")).await.is_err());
    slow.permits.add_permits(1);
    assert_eq!(shown(&session.next().await.unwrap()), ("durable", 1));
    assert_eq!(slow.store.vehicle(&id("car")).await.unwrap().readings, 10);
    assert_eq!(shown(&session.next().await.unwrap()), ("applied", 1));
    assert_eq!(session.credit(), 4);
    assert!(session.next().await.is_none());
    let stats = ingestor.stats();
    assert_eq!((stats.batches_received, stats.batches_stored, stats.readings_stored, stats.commits), (1, 1, 10, 1));
}

#[tokio::test]
async fn a_new_session_earns_its_credit() {
    let directory = tempfile::tempdir().unwrap();
    let credit = NonZeroU32::new(24).unwrap();
    let ingestor = start(Arc::new(open(directory.path()).await), IngestConfig { credit, ..config() });
    let mut session = ingestor.open(source("one"), &[]).await.unwrap();
    assert_eq!(session.credit(), 16);
    for sequence in 1..=16 {
        session.submit(batch("car", sequence, 2), NOW).await.unwrap();
    }
    let refused = session.submit(batch("car", 17, 2), NOW).await;
    assert!(matches!(refused, Err(SubmitError::OutOfCredit { credit: 16 })), "{refused:?}");
    while session.is_busy() {
        session.next().await.unwrap();
    }
    // One for each, and no more than is configured.
    assert_eq!((session.credit(), session.window()), (24, 24));
    let another = ingestor.open(source("two"), &[]).await.unwrap();
    assert_eq!(another.credit(), 16);
}

#[tokio::test]
async fn a_gateway_that_takes_no_acknowledgements_runs_out_of_credit() {
    let directory = tempfile::tempdir().unwrap();
    let ingestor = start(Arc::new(open(directory.path()).await), config());
    let mut session = ingestor.open(source("one"), &[]).await.unwrap();
    for sequence in 1..=4 {
        session.submit(batch("car", sequence, 2), NOW).await.unwrap();
    }
    session.announce();
    eventually("the last commit", async || ingestor.stats().batches_stored == 4).await;
    let refused = session.submit(batch("car", 5, 2), NOW).await;
    assert!(matches!(refused, Err(SubmitError::OutOfCredit { credit: 4 })), "{refused:?}");
    // It is not counted, and comes later.
    assert_eq!(session.sequence(&id("car")).unwrap().highest(), 4);
    assert_eq!(events(&mut session).await.len(), 8);
    session.submit(batch("car", 5, 2), NOW).await.unwrap();
    assert_eq!(events(&mut session).await, [("applied", 5), ("durable", 5)]);
}

#[tokio::test]
async fn what_was_submitted_is_stored_once_it_is_announced_waited_for_or_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let ingestor = start(Arc::new(open(directory.path()).await), config());
    let stored = async |count: u64| eventually("a commit", async || ingestor.stats().batches_stored >= count).await;
    let mut session = ingestor.open(source("one"), &[]).await.unwrap();
    session.submit(batch("car", 1, 2), NOW).await.unwrap();
    session.announce();
    stored(1).await;
    // The store is asked what it has of a vehicle that is new.
    session.submit(batch("car", 2, 2), NOW).await.unwrap();
    session.submit(batch("another", 1, 2), NOW).await.unwrap();
    stored(2).await;
    drop(session);
    stored(3).await;
}

#[tokio::test]
async fn a_full_queue_holds_gateways_up_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let slow = Slow::new(directory.path()).await;
    let ingestor = start(slow.clone(), IngestConfig { queue_readings_max: 25, ..config() });
    let mut one = ingestor.open(source("one"), &[]).await.unwrap();
    let mut two = ingestor.open(source("two"), &[]).await.unwrap();
    one.submit(batch("car", 1, 10), NOW).await.unwrap();
    two.submit(batch("car", 1, 10), NOW).await.unwrap();
    assert!(ingestor.saturation() > 0.79);
    assert!(timeout(Duration::from_millis(50), two.submit(batch("car", 2, 10), NOW)).await.is_err());
    assert_eq!(two.sequence(&id("car")).unwrap().highest(), 1, "it was not taken in");
    slow.permits.add_permits(10);
    two.submit(batch("car", 2, 10), NOW).await.unwrap();
    assert_eq!(events(&mut one).await, [("applied", 1), ("durable", 1)]);
    assert_eq!(events(&mut two).await, [("applied", 1), ("applied", 2), ("durable", 1), ("durable", 2)]);
    assert_eq!(slow.store.vehicle(&id("car")).await.unwrap().readings, 30);
}

#[tokio::test]
async fn resends_are_duplicates_whether_stored_or_on_their_way() {
    let directory = tempfile::tempdir().unwrap();
    let slow = Slow::new(directory.path()).await;
    let ingestor = start(slow.clone(), config());
    let mut session = ingestor.open(source("one"), &[]).await.unwrap();
    assert_eq!(session.submit(batch("car", 2, 5), NOW).await.unwrap().admission, Admission::New);
    assert_eq!(session.submit(batch("car", 2, 5), NOW).await.unwrap().admission, Admission::Duplicate);
    assert_eq!(session.submit(batch("car", 1, 5), NOW).await.unwrap().admission, Admission::FillsGap);
    slow.permits.add_permits(10);
    let expected = [("applied", 1), ("applied", 2), ("applied", 2), ("duplicate", 2), ("durable", 1), ("durable", 2)];
    assert_eq!(events(&mut session).await, expected);
    drop(session);
    let mut session = ingestor.open(source("one"), &[id("car")]).await.unwrap();
    assert_eq!(session.sequence(&id("car")).unwrap().next_expected(), 3);
    assert_eq!(session.submit(batch("car", 1, 5), NOW).await.unwrap().admission, Admission::Duplicate);
    assert_eq!(events(&mut session).await, [("applied", 1), ("duplicate", 1)]);
    assert_eq!(slow.store.vehicle(&id("car")).await.unwrap().readings, 10);
}

#[tokio::test]
async fn two_sessions_of_one_source_store_each_batch_once() {
    let directory = tempfile::tempdir().unwrap();
    let ingestor = start(Arc::new(open(directory.path()).await), config());
    let mut sessions =
        [ingestor.open(source("one"), &[]).await.unwrap(), ingestor.open(source("one"), &[]).await.unwrap()];
    for session in &mut sessions {
        for sequence in 1..=4 {
            session.submit(batch("car", sequence, 5), NOW).await.unwrap();
        }
    }
    let [one, two] = &mut sessions;
    let all = [events(one).await, events(two).await].concat();
    assert_eq!(all.iter().filter(|(what, _)| *what == "durable").count(), 4);
    assert_eq!(all.iter().filter(|(what, _)| *what == "duplicate").count(), 4);
    assert_eq!(ingestor.store().vehicle(&id("car")).await.unwrap().readings, 20);
}

#[tokio::test]
async fn what_may_not_be_is_rejected_counted_and_kept_to_be_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let ingestor = start(Arc::new(open(directory.path()).await), config());
    let mut session = ingestor.open(source("one"), &[]).await.unwrap();

    let mut far = batch("car", 1, 3);
    far.readings.times_us[1] = NOW + 365 * 86_400_000_000;
    let received = session.submit(far, NOW).await.unwrap();
    assert_eq!(received.rejects[0].reason, RejectReason::ImplausibleTime);
    assert_eq!((received.rejects[0].reading, received.rejects[0].readings), (Some(1), 1));

    let received = session.submit(batch("car", 2, 5_000), NOW).await.unwrap();
    assert_eq!(received.rejects[0].reason, RejectReason::TooLarge);

    for sequence in [0, 2_000_000, u64::MAX] {
        let refused = session.submit(batch("car", sequence, 1), NOW).await;
        let Err(SubmitError::Rejected(reject)) = refused else { panic!("{refused:?}") };
        assert_eq!(reject.reason, RejectReason::ImplausibleSequence);
    }
    assert_eq!(session.submit(batch("b", 1, 1), NOW).await.unwrap().rejects, []);
    assert_eq!(session.submit(batch("c", 1, 1), NOW).await.unwrap().rejects, []);
    events(&mut session).await;
    let refused = session.submit(batch("d", 1, 1), NOW).await;
    let Err(SubmitError::Rejected(reject)) = refused else { panic!("{refused:?}") };
    assert_eq!(reject.reason, RejectReason::VehicleNotAllowed);

    let summary = ingestor.store().vehicle(&id("car")).await.unwrap();
    assert_eq!((summary.readings, summary.batches_received, summary.batches_expected), (2, 2, 2));
    assert_eq!(ingestor.stats().rejected, [0, 0, 1, 0, 5_000, 1, 3]);
    let all = QuarantineQuery { vehicle: None, gateway: None, before: None, limit: 100 };
    let kept = ingestor.quarantined(&all).await.unwrap().rejects;
    assert_eq!(kept.len(), 6);
    assert_eq!((kept[5].vehicle.as_ref(), kept[5].sequence), (Some(&id("car")), 1));
    assert_eq!(kept[5].received_us, NOW);
}

/// What was left out of a batch is stored before the batch is called durable, and a commit that fails loses none of it.
#[tokio::test]
async fn rejects_are_stored_with_their_batch() {
    let directory = tempfile::tempdir().unwrap();
    let slow = Slow::new(directory.path()).await;
    // Rejects go with the batches alone.
    let config = IngestConfig { maintain_every: Duration::from_secs(3_600), ..config() };
    let ingestor = start(slow.clone(), config);
    let mut session = ingestor.open(source("one"), &[]).await.unwrap();
    let all = QuarantineQuery { vehicle: None, gateway: None, before: None, limit: 100 };
    let stored = async || slow.store.quarantined(&all).await.unwrap().rejects.len();

    let late = |sequence| {
        let mut late = batch("car", sequence, 3);
        late.readings.times_us[1] = NOW + 365 * 86_400_000_000;
        late
    };
    session.submit(late(1), NOW).await.unwrap();
    slow.fails.store(true, std::sync::atomic::Ordering::SeqCst);
    slow.permits.add_permits(1);
    assert!(matches!(session.next().await, Some(Event::Failed { .. })));
    assert_eq!(stored().await, 0);

    slow.fails.store(false, std::sync::atomic::Ordering::SeqCst);
    let mut session = ingestor.open(source("one"), &[]).await.unwrap();
    session.submit(late(1), NOW).await.unwrap();
    session.submit(late(2), NOW).await.unwrap();
    slow.permits.add_permits(100);
    loop {
        match session.next().await.unwrap() {
            Event::Durable { sequence: 2, .. } => break,
            Event::Failed { error, .. } => panic!("{error}"),
            _ => {}
        }
    }
    // That of the first batch was found twice, and is there once.
    assert_eq!(stored().await, 2);
    assert_eq!(ingestor.stats().rejected[RejectReason::ImplausibleTime as usize], 3);
    assert_eq!(ingestor.stats().rejects_not_kept, 0);
}

#[tokio::test]
async fn a_failed_commit_ends_its_sessions_and_what_is_resent_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let slow = Slow::new(directory.path()).await;
    slow.fails.store(true, std::sync::atomic::Ordering::SeqCst);
    let ingestor = start(slow.clone(), config());
    let mut session = ingestor.open(source("one"), &[]).await.unwrap();
    session.submit(batch("car", 1, 5), NOW).await.unwrap();
    slow.permits.add_permits(1);
    assert_eq!(events(&mut session).await, [("failed", 1)]);
    let refused = session.submit(batch("car", 2, 5), NOW).await;
    assert!(matches!(refused, Err(SubmitError::Closed(TelemetryError::Storage { .. }))), "{refused:?}");
    assert_eq!(ingestor.stats().commits_failed, 1);

    slow.fails.store(false, std::sync::atomic::Ordering::SeqCst);
    slow.permits.add_permits(10);
    let mut session = ingestor.open(source("one"), &[id("car")]).await.unwrap();
    assert_eq!(session.sequence(&id("car")).unwrap().next_expected(), 1);
    session.submit(batch("car", 1, 5), NOW).await.unwrap();
    assert_eq!(events(&mut session).await, [("applied", 1), ("durable", 1)]);
}

/// Notes what it is shown, when it may.
#[derive(Default)]
struct Notes {
    seen: Mutex<Vec<(String, u64)>>,
    gate: Option<Semaphore>,
}

#[async_trait]
impl Apply for Notes {
    async fn apply(&self, batches: &[Arc<AppliedBatch>]) {
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        let notes = batches.iter().map(|applied| (applied.batch.vehicle.to_string(), applied.batch.sequence));
        self.seen.lock().unwrap().extend(notes);
    }
}

#[tokio::test]
async fn what_is_applied_has_been_seen_once_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let notes = Arc::new(Notes { gate: Some(Semaphore::new(0)), ..Notes::default() });
    let store = Arc::new(open(directory.path()).await);
    let ingestor = Ingestor::start(store, config(), vec![notes.clone()], &Handle::current());
    let mut session = ingestor.open(source("one"), &[]).await.unwrap();
    for sequence in [1, 2, 2, 3] {
        session.submit(batch("car", sequence, 2), NOW).await.unwrap();
    }
    for _ in 0..4 {
        let event = session.next().await.unwrap();
        assert!(matches!(event, Event::Durable { .. }), "{event:?} came before it was seen");
    }
    notes.gate.as_ref().unwrap().add_permits(10);
    assert_eq!(events(&mut session).await.len(), 4);
    assert_eq!(*notes.seen.lock().unwrap(), [1, 2, 3].map(|sequence| ("car".to_owned(), sequence)));
}

#[tokio::test]
async fn what_sees_a_batch_first_waits_for_nothing_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let (first, held_up) =
        (Arc::new(Notes::default()), Arc::new(Notes { gate: Some(Semaphore::new(0)), ..Notes::default() }));
    let store = Arc::new(open(directory.path()).await);
    let apply: Vec<Arc<dyn Apply>> = vec![first.clone(), held_up.clone()];
    let ingestor = Ingestor::start(store, config(), apply, &Handle::current());
    let mut session = ingestor.open(source("one"), &[]).await.unwrap();
    for sequence in 1..=4 {
        session.submit(batch("car", sequence, 2), NOW).await.unwrap();
        let event = session.next().await.unwrap();
        assert!(matches!(event, Event::Durable { .. }), "{event:?} came before it was seen");
    }
    eventually("the first", async || first.seen.lock().unwrap().len() == 4).await;
    assert!(held_up.seen.lock().unwrap().is_empty());
    held_up.gate.as_ref().unwrap().add_permits(10);
    assert_eq!(events(&mut session).await.len(), 4);
    assert_eq!(*held_up.seen.lock().unwrap(), *first.seen.lock().unwrap());
}

#[tokio::test]
async fn a_gateway_beside_one_that_floods_is_in_the_next_group() {
    let directory = tempfile::tempdir().unwrap();
    let slow = Slow::new(directory.path()).await;
    let credit = NonZeroU32::new(256).unwrap();
    let config = IngestConfig { credit, group_readings_max: 300, ..config() };
    let ingestor = start(slow.clone(), config);
    let mut flood = ingestor.open(source("flood"), &[]).await.unwrap();
    let mut other = ingestor.open(source("other"), &[]).await.unwrap();
    for sequence in 1..=16 {
        flood.submit(batch("truck", sequence, 50), NOW).await.unwrap();
    }
    flood.announce();
    eventually("the first commit", async || slow.waits.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
    other.submit(batch("car", 1, 5), NOW).await.unwrap();
    // The group that was put together before it came, and its own.
    slow.permits.add_permits(2);
    assert_eq!(shown(&other.next().await.unwrap()), ("durable", 1));
    assert!(slow.store.vehicle(&id("truck")).await.unwrap().batches_received < 16);
    slow.permits.add_permits(20);
    assert_eq!(events(&mut flood).await.len(), 32);
}

#[tokio::test]
async fn a_slow_subscriber_is_told_how_many_it_missed() {
    let directory = tempfile::tempdir().unwrap();
    let config = IngestConfig { subscriber_batches_max: 4, ..config() };
    let ingestor = start(Arc::new(open(directory.path()).await), config);
    let (mut quick, mut slow) = (ingestor.subscribe(), ingestor.subscribe());
    let mut session = ingestor.open(source("one"), &[]).await.unwrap();
    for sequence in 1..=10 {
        session.submit(batch("car", sequence, 2), NOW).await.unwrap();
        events(&mut session).await;
        let Some(Observed::Batch(batch)) = quick.next().await else { panic!("it was quick") };
        assert_eq!(batch.batch.sequence, sequence);
    }
    assert_eq!(slow.next().await, Some(Observed::Missed(6)));
    let Some(Observed::Batch(batch)) = slow.next().await else { panic!("the rest is there") };
    assert_eq!(batch.batch.sequence, 7);
}

#[tokio::test]
async fn draining_stores_what_was_received_and_takes_nothing_more() {
    let directory = tempfile::tempdir().unwrap();
    let slow = Slow::new(directory.path()).await;
    let ingestor = start(slow.clone(), config());
    let mut session = ingestor.open(source("one"), &[]).await.unwrap();
    session.submit(batch("car", 1, 5), NOW).await.unwrap();
    slow.permits.add_permits(10);
    ingestor.drain().await;
    assert_eq!(events(&mut session).await, [("applied", 1), ("durable", 1)]);
    let refused = session.submit(batch("car", 2, 5), NOW).await;
    assert!(matches!(refused, Err(SubmitError::Closed(TelemetryError::ShuttingDown))));
    assert!(matches!(ingestor.open(source("two"), &[]).await, Err(TelemetryError::ShuttingDown)));
    assert_eq!(slow.store.vehicle(&id("car")).await.unwrap().readings, 5);
}
