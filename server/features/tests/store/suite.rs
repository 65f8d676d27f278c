//! The behaviours.

use std::sync::Arc;

use ev_domain::{Catalogue, Value, VehicleId};
use ev_features::{Cell, Condition, FeatureRow, OnlineStore, Put, RowBuilder, Version, ViewId, Views, Write};

pub(crate) fn vehicle(id: &str) -> VehicleId {
    VehicleId::new(id).unwrap()
}

pub(crate) fn view_ids() -> (ViewId, ViewId) {
    let views = Views::bundled(&Catalogue::standard()).unwrap();
    (views.by_name("pack_now").unwrap(), views.by_name("last_charge").unwrap())
}

pub(crate) fn version(event_time_us: i64, sequence: u64) -> Version {
    Version { event_time_us, sequence }
}

pub(crate) fn row(event_time_us: i64, sequence: u64, value: f32) -> FeatureRow {
    let mut row = RowBuilder::new(1, version(event_time_us, sequence), 0);
    row.push(Some(Cell { value: Value::Number(value), time_us: event_time_us }));
    row.push(Some(Cell { value: Value::Text("text\0"), time_us: event_time_us }));
    row.finish()
}

pub(crate) fn write(view: ViewId, row: FeatureRow) -> Write {
    Write { view, row, condition: Condition::Newer }
}

async fn put(store: &dyn OnlineStore, id: &str, write: Write) -> Put {
    store.put(&vehicle(id), &[write]).await.unwrap()[0]
}

async fn get(store: &dyn OnlineStore, id: &str, view: ViewId) -> Option<FeatureRow> {
    let fetched = store.get(&vehicle(id), &[view]).await.unwrap();
    assert_eq!((fetched.degraded, fetched.damaged, fetched.rows.len()), (false, 0, 1));
    fetched.rows.into_iter().next().flatten()
}

pub(crate) async fn what_was_written_is_read(store: Arc<dyn OnlineStore>) {
    let (now, charge) = view_ids();
    let writes = [write(now, row(10, 1, 1.5)), write(charge, row(-5, u64::MAX, 2.5))];
    assert_eq!(store.put(&vehicle("a"), &writes).await.unwrap(), [Put::Written, Put::Written]);
    let rows = store.get(&vehicle("a"), &[charge, now, charge]).await.unwrap().rows;
    let (now, charge) = (row(10, 1, 1.5), row(-5, u64::MAX, 2.5));
    assert_eq!(rows, [Some(charge.clone()), Some(now), Some(charge)]);
    assert!(store.get(&vehicle("a"), &[]).await.unwrap().rows.is_empty());
    assert!(store.put(&vehicle("a"), &[]).await.unwrap().is_empty());
}

pub(crate) async fn of_an_unknown_vehicle_nothing_is_known(store: Arc<dyn OnlineStore>) {
    let (now, charge) = view_ids();
    assert_eq!(store.get(&vehicle("a"), &[now, charge]).await.unwrap().rows, [None, None]);
}

pub(crate) async fn only_newer_rows_are_written(store: Arc<dyn OnlineStore>) {
    let (now, _) = view_ids();
    for (event, sequence, expected) in [
        (100, 5, Put::Written),
        (100, 5, Put::Refused(Some(version(100, 5)))),
        (100, 4, Put::Refused(Some(version(100, 5)))),
        (99, 9, Put::Refused(Some(version(100, 5)))),
        (-1, 9, Put::Refused(Some(version(100, 5)))),
        (100, 6, Put::Written),
        (101, 0, Put::Written),
        (1 << 60, 0, Put::Written),
        ((1 << 60) - 1, u64::MAX, Put::Refused(Some(version(1 << 60, 0)))),
    ] {
        let found = put(&*store, "a", write(now, row(event, sequence, 0.0))).await;
        assert_eq!(found, expected, "{event} {sequence}");
    }
}

pub(crate) async fn a_row_is_changed_only_from_what_was_expected(store: Arc<dyn OnlineStore>) {
    let (now, _) = view_ids();
    let check = async |expected: Option<Version>, to: (i64, u64), outcome: Put| {
        let write = Write { view: now, row: row(to.0, to.1, 0.0), condition: Condition::Is(expected) };
        assert_eq!(put(&*store, "a", write).await, outcome, "{expected:?} to {to:?}");
    };
    check(Some(version(1, 1)), (2, 2), Put::Refused(None)).await;
    check(None, (1, 1), Put::Written).await;
    check(None, (2, 2), Put::Refused(Some(version(1, 1)))).await;
    check(Some(version(1, 0)), (2, 2), Put::Refused(Some(version(1, 1)))).await;
    check(Some(version(1, 1)), (1, 2), Put::Written).await;
}

pub(crate) async fn of_racing_writers_the_newest_row_stays(store: Arc<dyn OnlineStore>) {
    let (now, _) = view_ids();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..4u16 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for step in 0..50u16 {
                let number = step * 4 + writer;
                put(&*store, "a", write(now, row(i64::from(number / 2), u64::from(number), f32::from(number)))).await;
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(get(&*store, "a", now).await, Some(row(99, 199, 199.0)));
}

pub(crate) async fn of_racing_changes_none_is_lost(store: Arc<dyn OnlineStore>) {
    let (now, _) = view_ids();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let mut done = 0;
            while done < 25 {
                let found = get(&*store, "a", now).await.map(|row| row.version());
                let next = found.map_or(1, |found| found.sequence + 1);
                let write = Write { view: now, row: row(0, next, 0.0), condition: Condition::Is(found) };
                done += i32::from(put(&*store, "a", write).await == Put::Written);
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(get(&*store, "a", now).await.map(|row| row.version().sequence), Some(100));
}

pub(crate) async fn vehicles_and_views_do_not_mix(store: Arc<dyn OnlineStore>) {
    let (now, charge) = view_ids();
    // Ids that a key with separators could take for each other.
    let ids = ["a", "}", "{", "a}", "{a}", "a:pack_now", "%7D", "*", "a\\", "\"a\""];
    for (index, id) in (0u8..).zip(ids) {
        put(&*store, id, write(now, row(1, 1, f32::from(index)))).await;
    }
    for (index, id) in (0u8..).zip(ids) {
        assert_eq!(get(&*store, id, now).await, Some(row(1, 1, f32::from(index))), "{id}");
        assert_eq!(get(&*store, id, charge).await, None, "{id}");
    }
}
