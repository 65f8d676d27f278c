//! `evctl models import` of what takes a while, over connections, servers and programs that die.

use std::{net::SocketAddr, path::Path};

use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::support::{
    evctl,
    model::{MODEL, version},
    proxy::{Fate, Proxy},
    real::{RealServer, free},
    watching::Watching,
};

const MIB: u64 = 1 << 20;
/// Bytes of the model card that makes a version large.
const CARD_BYTES: u64 = 32 * MIB;
/// More than what buffers, framing and the model's other files take.
const SLACK_BYTES: u64 = 6 * MIB;

/// A version's directory, with a card that takes a while to send.
fn large(description: &str) -> TempDir {
    let directory = version(description);
    // Incompressible, and nothing twice: as weights are.
    let mut state = 7_u64;
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32).to_le_bytes()
    };
    let words = (0..CARD_BYTES / 8).flat_map(|_| word());
    let card: Vec<u8> = b"# A card\n".iter().copied().chain(words).collect();
    fs_err::write(directory.path().join("README.md"), card).expect("written");
    directory
}

fn start(data: &Path, grpc: SocketAddr) -> Option<RealServer> {
    RealServer::start_on(data, grpc, free(), &[("EVSERVE_DATA__BUNDLED_MODELS", "false")])
}

/// Every byte of the version is what was sent.
fn is_whole(server: &RealServer) {
    let run = evctl(&server.url, &["models", "verify", &format!("{MODEL}:1")]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
}

#[test]
fn an_import_goes_on_by_itself_over_a_cut_connection_and_a_killed_server() {
    let (home, grpc, runtime) = (tempfile::tempdir().expect("a directory"), free(), Runtime::new().expect("a runtime"));
    let Some(server) = start(home.path(), grpc) else { return };
    let fates = vec![Fate::Cut(6 * MIB), Fate::Stall(12 * MIB)];
    let mut proxy = runtime.block_on(Proxy::start(grpc, fates));
    let directory = large("Large.");
    let path = directory.path().display().to_string();
    let url = format!("http://{}", proxy.address);
    let importing = Watching::start(&url, &["models", "import", &path, "--alias", "production"]);
    runtime.block_on(proxy.met(2));
    server.kill();
    let server = start(home.path(), grpc).expect("it was there before");
    let answer = importing.lines_to("aliases");
    assert!(answer[0].contains(&format!("{MODEL} version 1 registered")), "{answer:?}");
    let notes = importing.notes_left();
    for words in ["the upload was interrupted (", "going on after "] {
        let times = notes.iter().filter(|note| note.contains(words)).count();
        assert!(times >= 2, "{words}: {notes:?}");
    }
    let sent = proxy.passed();
    assert!((CARD_BYTES..CARD_BYTES + SLACK_BYTES).contains(&sent), "{sent} bytes went for {CARD_BYTES}; {notes:?}");
    is_whole(&server);
    server.kill();
}

#[test]
fn an_import_that_is_started_again_sends_what_is_missing() {
    let (home, grpc, runtime) = (tempfile::tempdir().expect("a directory"), free(), Runtime::new().expect("a runtime"));
    let Some(server) = start(home.path(), grpc) else { return };
    let first = 20 * MIB;
    let mut proxy = runtime.block_on(Proxy::start(grpc, vec![Fate::Stall(first)]));
    let directory = large("Large.");
    let path = directory.path().display().to_string();
    let url = format!("http://{}", proxy.address);
    let importing = Watching::start(&url, &["models", "import", &path]);
    runtime.block_on(proxy.met(1));
    importing.kill();
    // What came is there over a death of the server as well.
    server.kill();
    let server = start(home.path(), grpc).expect("it was there before");
    let before = proxy.passed();
    let again = evctl(&url, &["models", "import", &path]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(again.stdout.contains("version 1 registered"), "{}", again.stdout);
    assert!(again.stderr.contains("going on after ") && again.stderr.contains(" MiB, which the server has already"));
    let sent = proxy.passed() - before;
    let missing = CARD_BYTES - first;
    assert!((missing..missing + SLACK_BYTES).contains(&sent), "{sent} bytes went for {missing}; {}", again.stderr);
    is_whole(&server);

    // Once more: nothing is missing.
    let before = proxy.passed();
    let whole = evctl(&url, &["models", "import", &path]);
    assert!(whole.code == 0 && whole.stdout.contains("registered before"), "{}{}", whole.stdout, whole.stderr);
    assert!(whole.stderr.contains("the server has every byte of it already"), "{}", whole.stderr);
    let sent = proxy.passed() - before;
    assert!(sent < MIB, "{sent} bytes went for nothing");
    server.kill();
}
