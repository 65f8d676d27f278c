//! Whatever comes in goes out.

use std::num::NonZeroUsize;

use bytes::Bytes;
use ev_models_core::Digest;
use proptest::{collection::vec, prelude::*};

use crate::support::{Fixture, NOW_MS, manifest};

proptest! {
    // Each case is a registry of its own, on disk.
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_in_any_pieces_come_back(noise in vec(any::<u8>(), 0..20_000), piece in 1usize..5000) {
        // Begins as no pickle and no archive does.
        let content = if noise.is_empty() { noise } else { [b"{".to_vec(), noise].concat() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let piece = NonZeroUsize::new(piece).unwrap().get();
            let fixture = Fixture::new().await;
            let text = manifest("adder", "");
            let mut upload = fixture.registry.begin_upload(&text).await.unwrap();
            upload.write("model.ubj", Bytes::new()).await.unwrap();
            for piece in content.chunks(piece) {
                upload.write("model.ubj", Bytes::copy_from_slice(piece)).await.unwrap();
            }
            let version = upload.finish(NOW_MS).await.unwrap().version;
            let stored = fixture.registry.manifest(&version).await.unwrap();
            assert_eq!(stored.files[0].sha256, Digest::of(&content));
            assert_eq!(stored.files[0].size, content.len() as u64);
            let files = fixture.registry.fetch(&version).await.unwrap();
            assert_eq!(fs_err::read(files.path("model.ubj").unwrap()).unwrap(), content);
            let again = fixture.registry.import_files(&text, [("model.ubj", content)], NOW_MS);
            assert!(!again.await.unwrap().created);
        });
    }
}
