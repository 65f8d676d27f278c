//! The first start: eight bundled models.

use std::time::{Duration, Instant};

use ev_registry::Bundle;

use crate::support::{Fixture, GOLDEN, NOW_MS, manifest};

/// Far above what was measured, so that only a change of kind fails: a sync a file in turn, or a transaction a version.
const BOUND: Duration = Duration::from_secs(3);

fn bundles() -> Vec<Bundle> {
    (0u8..8)
        .map(|index| {
            let files = [("model.ubj", vec![index; 300_000]), ("golden/cases.json", vec![index + 100; 30_000])];
            Bundle::new(manifest(&format!("model-{index}"), GOLDEN), files)
        })
        .collect()
}

#[tokio::test]
async fn eight_models_are_registered_quickly_and_found_again_more_quickly() {
    let fixture = Fixture::new().await;
    let start = Instant::now();
    fixture.registry.import_bundles(bundles(), NOW_MS).await.unwrap();
    let first = start.elapsed();

    let start = Instant::now();
    let again = fixture.open_again().await.import_bundles(bundles(), NOW_MS).await.unwrap();
    let second = start.elapsed();
    assert!(again.iter().all(|imported| !imported.created));

    let other = Fixture::new().await;
    let start = Instant::now();
    for Bundle { manifest_toml, files } in bundles() {
        other.registry.import_files(&manifest_toml, files, NOW_MS).await.unwrap();
    }
    let singly = start.elapsed();

    println!("first start {first:?}, second {second:?} with opening, one call a model {singly:?}");
    assert!(first < BOUND && second < BOUND && singly < BOUND);
}
