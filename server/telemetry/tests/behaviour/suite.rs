//! The suite.

use ev_domain::{
    Readings,
    signals::{PACK_VOLTAGE, SPEED, STATE_OF_CHARGE},
};
use ev_telemetry::{
    Admission, AggregateQuery, Append, Cursor, Horizon, QuarantineQuery, Quarantined, Query, RefusedBatch, Reject,
    RejectReason, Resolution, SequenceRange, TelemetryError,
};

use crate::{
    Database, REJECTS_MAX, VEHICLES_MAX,
    fleet::{DAY, SECOND, START, batch, column, id, source, speeds},
    model::{Model, values},
};

fn query(vehicle: &str) -> Query {
    Query { vehicle: id(vehicle), signals: Vec::new(), time_us: i64::MIN..i64::MAX, after: None, limit: 1000 }
}

pub(crate) async fn a_batch_is_stored_once(database: &impl Database) {
    let store = database.open().await;
    for (sequence, count, first) in [(1, 3, START), (2, 200, START + 300 * SECOND)] {
        let append = speeds("car", sequence, first, count);
        let twice = [append.clone(), append.clone()];
        assert_eq!(store.append(&twice).await.unwrap(), [Ok(Admission::New), Ok(Admission::Duplicate)]);
        assert_eq!(store.append(std::slice::from_ref(&append)).await.unwrap(), [Ok(Admission::Duplicate)]);
    }
    assert_eq!(values(&*store, &id("car"), 1000).await.len(), 203);
    drop(store);
    let store = database.open().await;
    let again = [speeds("car", 1, START, 3), speeds("car", 2, START, 200)];
    assert_eq!(store.append(&again).await.unwrap(), [Ok(Admission::Duplicate), Ok(Admission::Duplicate)]);
    store.flush().await.unwrap();
    drop(store);
    let store = database.open().await;
    assert_eq!(store.append(&again).await.unwrap(), [Ok(Admission::Duplicate), Ok(Admission::Duplicate)]);
    assert_eq!(values(&*store, &id("car"), 1000).await.len(), 203);
    assert_eq!(store.vehicle(&id("car")).await.unwrap().readings, 203);
}

pub(crate) async fn a_batch_without_readings_is_counted(database: &impl Database) {
    let store = database.open().await;
    let empty = batch("car", 1, Readings::default());
    assert_eq!(store.append(std::slice::from_ref(&empty)).await.unwrap(), [Ok(Admission::New)]);
    drop(store);
    let store = database.open().await;
    assert_eq!(store.append(&[empty]).await.unwrap(), [Ok(Admission::Duplicate)]);
    let summary = store.vehicle(&id("car")).await.unwrap();
    assert_eq!((summary.readings, summary.span_us, summary.batches_received), (0, None, 1));
    assert!(store.query(&query("car")).await.unwrap().readings.is_empty());
}

pub(crate) async fn racing_resends_are_stored_once(database: &impl Database) {
    let store = database.open().await;
    let group: Vec<Append> = (1..=20).map(|sequence| speeds("car", sequence, START, 10)).collect();
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let (store, group) = (std::sync::Arc::clone(&store), group.clone());
        tasks.push(tokio::spawn(async move {
            let mut new = 0;
            for append in &group {
                let outcomes = store.append(std::slice::from_ref(append)).await.unwrap();
                new += outcomes.iter().filter(|outcome| **outcome != Ok(Admission::Duplicate)).count();
            }
            new
        }));
    }
    let mut new = 0;
    for task in tasks {
        new += task.await.unwrap();
    }
    assert_eq!(new, 20);
    assert_eq!(store.vehicle(&id("car")).await.unwrap().readings, 200);
    assert_eq!(values(&*store, &id("car"), 1000).await.len(), 200);
}

pub(crate) async fn numbers_are_counted_for_each_source_and_vehicle(database: &impl Database) {
    let store = database.open().await;
    let other_boot = Append { source: source("boot-2"), ..speeds("car", 1, START, 3) };
    let group = [speeds("car", 1, START, 3), speeds("truck", 1, START, 3), other_boot];
    assert!(store.append(&group).await.unwrap().iter().all(|outcome| *outcome == Ok(Admission::New)));
    assert!(store.append(&group).await.unwrap().iter().all(|outcome| *outcome == Ok(Admission::Duplicate)));
    let vehicles = [id("truck"), id("nobody"), id("car")];
    let sequences = store.sequences(&source("boot"), &vehicles).await.unwrap();
    assert_eq!(sequences.iter().map(|sequence| sequence.highest()).collect::<Vec<_>>(), [1, 0, 1]);
    let sequences = store.sequences(&source("never"), &vehicles).await.unwrap();
    assert!(sequences.iter().all(|sequence| sequence.highest() == 0));
    assert_eq!(store.vehicle(&id("car")).await.unwrap().readings, 6);
}

pub(crate) async fn an_implausible_number_is_refused_and_nothing_of_it_stored(database: &impl Database) {
    let store = database.open().await;
    let group = [speeds("car", 1, START, 3), speeds("car", 103, START, 3), speeds("car", 0, START, 3)];
    let outcomes = store.append(&group).await.unwrap();
    assert_eq!(outcomes[0], Ok(Admission::New));
    assert!(outcomes[1..].iter().all(|outcome| matches!(outcome, Err(RefusedBatch::Sequence(_)))), "{outcomes:?}");
    let refused = store.append(&[speeds("ghost", 500, START, 3)]).await.unwrap();
    assert!(matches!(refused[0], Err(RefusedBatch::Sequence(_))));
    assert!(matches!(store.vehicle(&id("ghost")).await, Err(TelemetryError::UnknownVehicle { .. })));
    assert_eq!(store.vehicle(&id("car")).await.unwrap().readings, 3);
    // The largest hole that the ledger takes.
    assert_eq!(store.append(&[speeds("car", 102, START, 3)]).await.unwrap(), [Ok(Admission::New)]);
}

pub(crate) async fn no_more_vehicles_are_taken_than_may_be(database: &impl Database) {
    let store = database.open().await;
    let group: Vec<Append> = (0..VEHICLES_MAX + 2).map(|car| speeds(&format!("car-{car}"), 1, START, 2)).collect();
    let outcomes = store.append(&group).await.unwrap();
    let refused =
        outcomes.iter().filter(|outcome| **outcome == Err(RefusedBatch::TooManyVehicles { max: VEHICLES_MAX }));
    assert_eq!(refused.count(), 2);
    drop(store);
    let store = database.open().await;
    let outcomes = store.append(&[speeds("one-more", 1, START, 2), speeds("car-3", 2, START, 2)]).await.unwrap();
    assert_eq!(outcomes, [Err(RefusedBatch::TooManyVehicles { max: VEHICLES_MAX }), Ok(Admission::New)]);
}

pub(crate) async fn pages_are_in_order_of_time(database: &impl Database) {
    let store = database.open().await;
    // Chunks and small batches that overlap, and one over midnight.
    let group = [
        speeds("car", 1, START + 50 * SECOND, 30),
        speeds("car", 2, START, 100),
        speeds("car", 3, START + 20 * SECOND, 3),
        speeds("car", 4, START + DAY - 10 * SECOND, 20),
    ];
    store.append(&group).await.unwrap();
    let mut expected: Vec<i64> = group.iter().flat_map(|append| append.batch.readings.times_us.clone()).collect();
    expected.sort_unstable();
    for _ in 0..2 {
        let found: Vec<i64> = values(&*store, &id("car"), 7).await.iter().map(|(time, ..)| *time).collect();
        assert_eq!(found, expected);
        let span = START + 25 * SECOND..START + 60 * SECOND;
        let page = store.query(&Query { time_us: span.clone(), ..query("car") }).await.unwrap();
        let within: Vec<i64> = expected.iter().copied().filter(|time| span.contains(time)).collect();
        assert_eq!((page.readings.times_us, page.next), (within, None));
        store.flush().await.unwrap();
    }
    let after = Some(Cursor { time_us: START + DAY, skip: 1 });
    let page = store.query(&Query { after, limit: 5, ..query("car") }).await.unwrap();
    assert_eq!(page.readings.times_us[0], START + DAY + SECOND);
    assert_eq!(page.next, Some(Cursor { time_us: START + DAY + 5 * SECOND, skip: 1 }));
}

pub(crate) async fn signals_are_chosen_and_empty_readings_left_out(database: &impl Database) {
    let store = database.open().await;
    let readings = Readings {
        times_us: vec![START, START + 1, START + 2],
        columns: vec![column(SPEED, &[1.0, f32::NAN, 3.0]), column(STATE_OF_CHARGE, &[f32::NAN, 80.0, f32::NAN])],
    };
    store.append(&[batch("car", 1, readings)]).await.unwrap();
    for _ in 0..2 {
        let chosen = Query { signals: vec![PACK_VOLTAGE, SPEED], ..query("car") };
        let page = store.query(&chosen).await.unwrap();
        assert_eq!(page.readings.times_us, [START, START + 2]);
        assert_eq!(page.readings.columns[0].signal, PACK_VOLTAGE);
        assert!(page.readings.columns[0].values.iter().all(|value| value.is_nan()));
        assert_eq!(page.readings.column(SPEED), Some(&[1.0, 3.0][..]));
        store.flush().await.unwrap();
    }
}

pub(crate) async fn vehicles_are_listed_in_pages(database: &impl Database) {
    let store = database.open().await;
    let group: Vec<Append> = (0..9).map(|car| speeds(&format!("car-{car}"), 1, START, 2)).collect();
    store.append(&group).await.unwrap();
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let page = store.vehicles(after.as_ref(), 4).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.vehicle.clone());
        assert!(page.iter().all(|vehicle| vehicle.readings == 2 && vehicle.completeness() == 1.0));
        names.extend(page.into_iter().map(|vehicle| vehicle.vehicle.to_string()));
    }
    assert_eq!(names, (0..9).map(|car| format!("car-{car}")).collect::<Vec<_>>());
}

pub(crate) async fn gaps_and_completeness_are_exact(database: &impl Database) {
    let mut store = database.open().await;
    let group: Vec<Append> = [1, 2, 5, 9, 7].into_iter().map(|sequence| speeds("car", sequence, START, 2)).collect();
    store.append(&group).await.unwrap();
    for round in 0..3 {
        let sequences = store.sequences(&source("boot"), &[id("car")]).await.unwrap();
        assert_eq!((sequences[0].highest(), sequences[0].missing()), (9, 4), "round {round}");
        let gaps = store.gaps(&id("car"), None, 10).await.unwrap();
        assert_eq!(gaps.len(), 1);
        assert_eq!(gaps[0].source, source("boot"));
        let range = |first, last| SequenceRange { first, last };
        assert_eq!(gaps[0].sequence.gaps(), [range(3, 4), range(6, 6), range(8, 8)]);
        let summary = store.vehicle(&id("car")).await.unwrap();
        assert_eq!((summary.batches_received, summary.batches_expected), (5, 9));
        if round == 0 {
            drop(store);
            store = database.open().await;
        } else {
            store.flush().await.unwrap();
        }
    }
    let rest: Vec<Append> = [3, 4, 6, 8].into_iter().map(|sequence| speeds("car", sequence, START, 2)).collect();
    assert!(store.append(&rest).await.unwrap().iter().all(|outcome| *outcome == Ok(Admission::FillsGap)));
    assert_eq!(store.gaps(&id("car"), None, 10).await.unwrap(), []);
    assert_eq!(store.vehicle(&id("car")).await.unwrap().completeness(), 1.0);
}

pub(crate) async fn gaps_are_listed_in_pages(database: &impl Database) {
    let store = database.open().await;
    let from =
        |boot: u64, sequence| Append { source: source(&format!("boot-{boot}")), ..speeds("car", sequence, START, 1) };
    // Every other one has a hole.
    let group: Vec<Append> = (0..9).flat_map(|boot| [from(boot, 1), from(boot, 2 + boot % 2)]).collect();
    store.append(&group).await.unwrap();
    for limit in [1, 3, 4, 100] {
        let (mut boots, mut after) = (Vec::new(), None);
        loop {
            let page = store.gaps(&id("car"), after.as_ref(), limit).await.unwrap();
            assert!(page.len() <= limit as usize);
            let Some(last) = page.last() else { break };
            after = Some(last.source.clone());
            boots.extend(page.into_iter().map(|of| (of.source.boot.to_string(), of.sequence.missing())));
        }
        assert_eq!(boots, [1, 3, 5, 7].map(|boot| (format!("boot-{boot}"), 1)), "{limit}");
    }
}

pub(crate) async fn the_latest_value_is_by_the_vehicles_clock(database: &impl Database) {
    let store = database.open().await;
    let of = |time: i64, values: &[(ev_domain::SignalId, f32)]| Readings {
        times_us: vec![time],
        columns: values.iter().map(|(signal, value)| column(*signal, &[*value])).collect(),
    };
    let late = of(START - DAY, &[(SPEED, 1.0), (STATE_OF_CHARGE, 60.0)]);
    store.append(&[batch("car", 1, of(START, &[(SPEED, 2.0), (PACK_VOLTAGE, f32::NAN)]))]).await.unwrap();
    store.flush().await.unwrap();
    store.append(&[batch("car", 2, late)]).await.unwrap();
    for _ in 0..2 {
        let latest = store.latest(&id("car")).await.unwrap();
        let shown: Vec<_> = latest.iter().map(|latest| (latest.signal, latest.value, latest.time_us)).collect();
        assert_eq!(shown, [(STATE_OF_CHARGE, 60.0, START - DAY), (SPEED, 2.0, START)]);
        store.flush().await.unwrap();
    }
}

pub(crate) async fn aggregates_are_paged_by_time_and_name(database: &impl Database) {
    let store = database.open().await;
    let times_us: Vec<i64> = (0..10).map(|index| START + index * 30 * SECOND).collect();
    let columns = vec![column(SPEED, &[5.0; 10]), column(STATE_OF_CHARGE, &[50.0; 10])];
    store.append(&[batch("car", 1, Readings { times_us, columns })]).await.unwrap();
    for _ in 0..2 {
        let mut query = AggregateQuery {
            vehicle: id("car"),
            signals: Vec::new(),
            resolution: Resolution::Minute,
            // Rounded outwards: the second to the fourth minute.
            time_us: START + 61 * SECOND..START + 181 * SECOND,
            after: None,
            limit: 4,
        };
        let page = store.aggregate(&query).await.unwrap();
        let minute = |index: i64| START + index * 60 * SECOND;
        let shown: Vec<_> = page.iter().map(|span| (span.start_us, span.signal, span.aggregate.count)).collect();
        let expected = [(1, STATE_OF_CHARGE), (1, SPEED), (2, STATE_OF_CHARGE), (2, SPEED)];
        assert_eq!(shown, expected.map(|(index, signal)| (minute(index), signal, 2)));
        query.after = Some((minute(2), STATE_OF_CHARGE));
        let page = store.aggregate(&query).await.unwrap();
        let shown: Vec<_> = page.iter().map(|span| (span.start_us, span.signal)).collect();
        assert_eq!(shown, [(minute(2), SPEED), (minute(3), STATE_OF_CHARGE), (minute(3), SPEED)]);
        query.signals = vec![SPEED];
        let page = store.aggregate(&query).await.unwrap();
        let shown: Vec<_> = page.iter().map(|span| (span.start_us, span.signal)).collect();
        assert_eq!(shown, [(minute(2), SPEED), (minute(3), SPEED)]);
        store.flush().await.unwrap();
    }
}

pub(crate) async fn questions_that_make_no_sense_are_refused(database: &impl Database) {
    let store = database.open().await;
    store.append(&[speeds("car", 1, START, 2)]).await.unwrap();
    assert!(matches!(store.query(&query("nobody")).await, Err(TelemetryError::UnknownVehicle { .. })));
    assert!(matches!(store.latest(&id("nobody")).await, Err(TelemetryError::UnknownVehicle { .. })));
    assert!(matches!(store.gaps(&id("nobody"), None, 10).await, Err(TelemetryError::UnknownVehicle { .. })));
    for limit in [0, Query::LIMIT_MAX + 1] {
        let refused = store.query(&Query { limit, ..query("car") }).await;
        assert!(matches!(refused, Err(TelemetryError::InvalidQuery { .. })));
    }
    #[expect(clippy::reversed_empty_ranges, reason = "that is the question")]
    let refused = store.query(&Query { time_us: 2..1, ..query("car") }).await;
    assert!(matches!(refused, Err(TelemetryError::InvalidQuery { .. })));
    assert!(store.query(&Query { time_us: 5..5, ..query("car") }).await.unwrap().readings.is_empty());
}

pub(crate) async fn late_repeated_and_unordered_batches_give_what_ordered_ones_do(database: &impl Database) {
    for seed in 0..6 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut model = Model::default();
        let mut store = database.open().await;
        let prefix = format!("seed-{seed}-car");
        let mut sent: Vec<Append> = Vec::new();
        let mut next = [1u64; 3];
        for _ in 0..random.usize(5..25) {
            let mut group = Vec::new();
            for _ in 0..random.usize(1..12) {
                if random.u8(..5) == 0 && !sent.is_empty() {
                    group.push(sent[random.usize(..sent.len())].clone());
                    continue;
                }
                let car = random.usize(..3);
                let append = random_batch(&mut random, &format!("{prefix}-{car}"), next[car]);
                next[car] += 1;
                sent.push(append.clone());
                group.push(append);
            }
            random.shuffle(&mut group);
            // What the ledger has no room for comes again when there is.
            while !group.is_empty() {
                let outcomes = store.append(&group).await.unwrap();
                let mut refused = Vec::new();
                for (append, outcome) in group.into_iter().zip(outcomes) {
                    if outcome.is_ok() { model.add(&append) } else { refused.push(append) }
                }
                refused.sort_by_key(|append| append.batch.sequence);
                group = refused;
            }
            match random.u8(..8) {
                0 => {
                    drop(store);
                    store = database.open().await;
                }
                1 => store.flush().await.unwrap(),
                2 | 3 => while store.maintain().await.unwrap() {},
                4 => model.check(&*store).await,
                _ => {}
            }
        }
        model.check(&*store).await;
        store.flush().await.unwrap();
        model.check(&*store).await;
        drop(store);
        model.check(&*database.open().await).await;
    }
}

/// Readings of a few signals around two days, mostly in order; values whose sums are exact.
fn random_batch(random: &mut fastrand::Rng, vehicle: &str, sequence: u64) -> Append {
    let count = if random.bool() { random.usize(..6) } else { random.usize(6..60) };
    let mut time = START + random.i64(0..2 * DAY);
    let mut times_us = Vec::new();
    for _ in 0..count {
        time += if random.u8(..10) == 0 { -random.i64(0..1000 * SECOND) } else { random.i64(0..40 * SECOND) };
        times_us.push(time);
    }
    let mut columns = Vec::new();
    for signal in [SPEED, STATE_OF_CHARGE, PACK_VOLTAGE] {
        if random.u8(..3) > 0 {
            let mut value = || if random.u8(..5) == 0 { f32::NAN } else { f32::from(random.i8(..)) / 4.0 };
            let values: Vec<f32> = (0..count).map(|_| value()).collect();
            columns.push(column(signal, &values));
        }
    }
    batch(vehicle, sequence, Readings { times_us, columns })
}

const ALL: QuarantineQuery = QuarantineQuery { vehicle: None, gateway: None, before: None, limit: 1_000 };

fn rejected(vehicle: &str, sequence: u64, reject: Reject) -> Quarantined {
    let vehicle = (!vehicle.is_empty()).then(|| id(vehicle));
    Quarantined { source: source("boot"), vehicle, sequence, received_us: START + SECOND, reject }
}

pub(crate) async fn rejects_are_kept_once_and_listed_in_pages(database: &impl Database) {
    let store = database.open().await;
    let mut far = Reject::new(RejectReason::ImplausibleValue, 2, "Vehicle.Speed is NaN, expected -250 to 500 km/h");
    far.signal = Some("Vehicle.Speed".to_owned());
    let of = |value, reading| Reject { value, reading, ..far.clone() };
    let mut all = vec![
        rejected("car", 1, of(Some(f32::INFINITY), Some(0))),
        rejected("car", 1, of(Some(-1e-42), Some(3))),
        rejected("bus", u64::MAX, Reject::new(RejectReason::ImplausibleSequence, 0, "it's \"far\"; \u{fffd}")),
        rejected("", 7, Reject::new(RejectReason::MalformedBatch, usize::try_from(i64::MAX).unwrap(), "")),
    ];
    all[2].source.gateway = id("other");
    assert_eq!(store.commit(&[speeds("car", 1, START, 3)], &all[..2]).await.unwrap(), [Ok(Admission::New)]);
    assert_eq!(store.commit(&[], &all).await.unwrap(), []);
    assert_eq!(store.commit(&[speeds("car", 1, START, 3)], &all).await.unwrap(), [Ok(Admission::Duplicate)]);
    all.reverse();
    assert_eq!(store.quarantined(&ALL).await.unwrap().rejects, all);
    drop(store);
    let store = database.open().await;
    assert_eq!(store.quarantined(&ALL).await.unwrap().rejects, all, "after a crash");
    let of_car = QuarantineQuery { vehicle: Some(id("car")), ..ALL };
    assert_eq!(store.quarantined(&of_car).await.unwrap().rejects, all[2..]);
    let of_other = QuarantineQuery { gateway: Some(id("other")), ..ALL };
    assert_eq!(store.quarantined(&of_other).await.unwrap().rejects, all[1..2]);
    let of_both = QuarantineQuery { vehicle: Some(id("car")), ..of_other };
    assert_eq!(store.quarantined(&of_both).await.unwrap().rejects, []);
    let mut found = Vec::new();
    let mut before = None;
    loop {
        let page = store.quarantined(&QuarantineQuery { before, limit: 3, ..ALL }).await.unwrap();
        found.extend(page.rejects);
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(found, all);
    // A NaN is told from no value, and equals nothing.
    store.commit(&[], &[rejected("car", 2, of(Some(f32::NAN), None))]).await.unwrap();
    assert!(store.quarantined(&ALL).await.unwrap().rejects[0].reject.value.unwrap().is_nan());
    let old = Horizon { readings_us: START + 2 * SECOND, minutes_us: 0, hours_us: 0, sources_us: 0 };
    assert_eq!(store.expire(&old).await.unwrap().rejects, 5);
    assert_eq!(store.quarantined(&ALL).await.unwrap().rejects, []);
}

pub(crate) async fn the_latest_rejects_are_kept(database: &impl Database) {
    let store = database.open().await;
    let last = 3 * REJECTS_MAX as u64;
    for first in (1..last).step_by(40) {
        let rejects: Vec<Quarantined> = (first..first + 40)
            .map(|sequence| rejected("car", sequence, Reject::new(RejectReason::TooLarge, 1, "too large")))
            .collect();
        store.commit(&[], &rejects).await.unwrap();
        store.maintain().await.unwrap();
    }
    let kept: Vec<u64> = store.quarantined(&ALL).await.unwrap().rejects.iter().map(|one| one.sequence).collect();
    assert_eq!(kept, (last - REJECTS_MAX as u64 + 1..=last).rev().collect::<Vec<_>>());
}

pub(crate) async fn what_is_old_is_deleted_and_its_aggregates_stay(database: &impl Database) {
    let store = database.open().await;
    let group: Vec<Append> = (0..6u64)
        .map(|day| speeds("car", day + 1, START + i64::try_from(day).unwrap() * DAY, if day % 2 == 0 { 4 } else { 40 }))
        .collect();
    store.append(&group).await.unwrap();
    let horizon = Horizon {
        readings_us: START + 4 * DAY + 5,
        minutes_us: START + 3 * DAY,
        hours_us: START + 2 * DAY,
        sources_us: 0,
    };
    let expired = store.expire(&horizon).await.unwrap();
    assert!(expired.chunks > 0 && expired.pages > 0 && expired.sources == 0, "{expired:?}");
    let days = |found: Vec<i64>| {
        let mut days: Vec<i64> = found.into_iter().map(|time| (time - START).div_euclid(DAY)).collect();
        days.dedup();
        days
    };
    let readings = values(&*store, &id("car"), 1000).await;
    assert_eq!(days(readings.into_iter().map(|(time, ..)| time).collect()), [4, 5]);
    for (resolution, expected) in [
        (Resolution::Minute, vec![3, 4, 5]),
        (Resolution::Hour, vec![2, 3, 4, 5]),
        (Resolution::Day, vec![0, 1, 2, 3, 4, 5]),
    ] {
        let found = crate::model::aggregates(&*store, &id("car"), resolution, 1000).await;
        assert_eq!(days(found.into_iter().map(|span| span.start_us).collect()), expected, "{resolution:?}");
    }
    let again = store.expire(&horizon).await.unwrap();
    assert_eq!((again.chunks, again.pages), (0, 0));
    assert_eq!(store.append(&[group[0].clone()]).await.unwrap(), [Ok(Admission::Duplicate)]);
}

pub(crate) async fn a_source_that_is_forgotten_is_new_again(database: &impl Database) {
    let store = database.open().await;
    let append = speeds("car", 1, START, 3);
    let newer = Append { source: source("boot-2"), received_us: START + 5, ..append.clone() };
    store.append(&[append.clone(), newer.clone()]).await.unwrap();
    let horizon = Horizon { readings_us: 0, minutes_us: 0, hours_us: 0, sources_us: START + 1 };
    assert_eq!(store.expire(&horizon).await.unwrap().sources, 1);
    assert_eq!(store.append(&[append, newer]).await.unwrap(), [Ok(Admission::New), Ok(Admission::Duplicate)]);
    assert_eq!(store.vehicle(&id("car")).await.unwrap().readings, 9);
}

pub(crate) async fn a_closed_store_fails_and_does_not_panic(database: &impl Database) {
    let store = database.open().await;
    store.append(&[speeds("car", 1, START, 3)]).await.unwrap();
    store.close().await;
    assert!(matches!(store.append(&[speeds("car", 2, START, 3)]).await, Err(TelemetryError::ShuttingDown)));
    assert!(store.query(&query("car")).await.is_err());
    assert!(store.maintain().await.is_err() || store.flush().await.is_err());
    drop(store);
    assert_eq!(values(&*database.open().await, &id("car"), 10).await.len(), 3);
}
