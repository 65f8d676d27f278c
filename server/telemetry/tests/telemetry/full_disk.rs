//! A disk that is full: a limit of the file stands for it.

use ev_domain::Catalogue;
use ev_telemetry::{Admission, Append, SqliteOptions, SqliteTelemetryStore, TelemetryError, TelemetryStore};

use crate::support::{NOW, batch, id, source};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_whole_groups_and_the_store_goes_on_when_there_is_space() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("telemetry.db");
    let options = SqliteOptions { file_bytes_max: Some(320 << 10), ..SqliteOptions::new(&path) };
    let store = SqliteTelemetryStore::open(options, &Catalogue::standard()).await.unwrap();
    let append = |sequence| Append { source: source("one"), batch: batch("car", sequence, 2_000), received_us: NOW };
    let mut stored = 0;
    let error = loop {
        match store.append(&[append(stored + 1)]).await {
            Ok(outcomes) => assert_eq!(outcomes, [Ok(Admission::New)]),
            Err(error) => break error,
        }
        stored += 1;
        assert!(stored < 1_000, "the disk is never full");
    };
    assert!(matches!(error, TelemetryError::DiskFull { .. }), "{error:?}");
    assert!(stored > 0);
    // Reading goes on, and nothing of the refused group is there.
    assert_eq!(store.vehicle(&id("car")).await.unwrap().batches_received, stored);
    assert!(store.append(&[append(stored + 1)]).await.is_err());
    drop(store);
    let store = SqliteTelemetryStore::open(SqliteOptions::new(&path), &Catalogue::standard()).await.unwrap();
    let group = [append(stored), append(stored + 1)];
    assert_eq!(store.append(&group).await.unwrap(), [Ok(Admission::Duplicate), Ok(Admission::New)]);
    assert_eq!(store.vehicle(&id("car")).await.unwrap().readings, (stored + 1) * 2_000);
}
