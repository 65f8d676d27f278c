//! What every artifact store does, run against each of them, and what the one that is elsewhere does beside that.
//!
//! The S3 server is the one that `EVSERVE_TEST_S3` names: `scripts/with-s3.sh cargo test -p ev-registry --test artifacts`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod cache;
mod interrupted;
mod outage;
mod places;
mod proxy;
mod refused;
mod suite;

use places::{Directory, Place, S3};

macro_rules! behaviour {
    ($($test:ident),+ $(,)?) => {
        behaviour! { @ directory, Directory: $($test),+ }
        behaviour! { @ s3, S3: $($test),+ }
    };
    (@ $module:ident, $place:ty: $($test:ident),+) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let Some(place) = <$place>::empty() else { return };
                    suite::$test(&place).await;
                }
            )+
        }
    };
}

behaviour! {
    bytes_are_found_once_they_are_committed,
    what_was_staged_and_dropped_leaves_nothing,
    files_of_every_size_come_back_as_they_were,
    committed_bytes_replace_what_is_there,
    what_is_gone_or_another_is_named,
    only_what_is_as_it_was_listed_is_removed,
    a_version_is_published_fetched_and_deleted,
    an_upload_that_was_cut_off_goes_on,
    the_same_content_again_repairs_what_was_lost_or_damaged,
    a_damaged_version_is_named_and_not_served,
    garbage_is_collected_and_what_is_named_stays,
    nothing_is_deleted_while_it_is_not_known_what_a_version_names,
    retention_keeps_the_newest_and_whatever_is_referred_to,
    a_registered_version_keeps_its_files_whatever_is_collected_beside_it,
}
