//! Pages.

use ev_models_core::Digest;
use ev_registry::{
    AliasChange, Bundle, ExpectedVersion, MetadataStore as _, NewVersion, Page, RegistryError, SqliteMetadataStore,
};

use crate::support::{Fixture, NOW_MS, manifest};

fn version(index: u32) -> NewVersion {
    NewVersion {
        model: "adder".to_owned(),
        digest: Digest::of(&index.to_le_bytes()),
        created_at_ms: NOW_MS,
        task: "generic".to_owned(),
        backend: "forest".to_owned(),
        license: "Apache-2.0".to_owned(),
        description: String::new(),
        size_bytes: 0,
    }
}

#[tokio::test]
async fn a_thousand_versions_come_in_pages_newest_first() {
    let fixture = Fixture::new().await;
    // Their files do not matter here, and would take longer than all other tests.
    let metadata = SqliteMetadataStore::open(&fixture.dir.path().join("registry.db")).await.unwrap();
    let versions: Vec<NewVersion> = (0u32..1000).map(version).collect();
    metadata.register(&versions, &(), "tester").await.unwrap();

    let (mut page, mut numbers, mut pages) = (Page { size: 300, token: None }, Vec::new(), 0);
    loop {
        let listing = fixture.registry.list_versions("adder", &page).await.unwrap();
        numbers.extend(listing.items.iter().map(|version| version.version));
        pages += 1;
        if listing.next.is_none() {
            break;
        }
        page.token = listing.next;
    }
    assert_eq!(pages, 4);
    assert!(numbers.into_iter().eq((1..=1000).rev()));

    let default = fixture.registry.list_versions("adder", &Page::default()).await.unwrap();
    assert_eq!((default.items.len(), default.next.as_deref()), (100, Some("901")));
    let whole = fixture.registry.list_versions("adder", &Page { size: 1000, token: None }).await.unwrap();
    assert_eq!((whole.items.len(), whole.next), (1000, None), "a full last page is the last");
}

#[tokio::test]
async fn models_come_in_pages_by_name() {
    let fixture = Fixture::new().await;
    let bundles = ["c", "a", "b"].map(|name| Bundle::new(manifest(name, ""), [("model.ubj", "trees")]));
    fixture.registry.import_bundles(bundles.to_vec(), NOW_MS).await.unwrap();
    fixture
        .registry
        .move_alias(&AliasChange::set("b", "production", 1, ExpectedVersion::Absent), NOW_MS)
        .await
        .unwrap();
    let first = fixture.registry.list_models(&Page { size: 2, token: None }).await.unwrap();
    let names: Vec<_> = first.items.iter().map(|model| (model.name.as_str(), model.production.is_some())).collect();
    assert_eq!(names, [("a", false), ("b", true)]);
    let second = fixture.registry.list_models(&Page { size: 2, token: first.next }).await.unwrap();
    assert_eq!((second.items.len(), second.items[0].name.as_str(), second.next), (1, "c", None));
}

#[tokio::test]
async fn pages_that_cannot_be_are_refused() {
    let fixture = Fixture::new().await;
    let page = |size, token: &str| Page { size, token: Some(token.to_owned()) };
    for bad in [page(1001, ""), page(u32::MAX, "")] {
        assert!(matches!(fixture.registry.list_models(&bad).await, Err(RegistryError::InvalidPage { .. })));
    }
    for token in ["x", "-1", "99999999999", "1 OR 1"] {
        let listed = fixture.registry.list_versions("adder", &page(10, token)).await;
        assert!(matches!(listed, Err(RegistryError::InvalidPage { .. })), "{token}");
    }
    assert!(fixture.registry.list_models(&page(10, &"x".repeat(64))).await.is_err());
    assert!(matches!(
        fixture.registry.list_versions("adder", &Page::default()).await,
        Err(RegistryError::NotFound { .. })
    ));
}
