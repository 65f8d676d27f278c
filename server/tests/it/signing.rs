//! Signed model versions: who is trusted, looked at whenever a version is loaded.

use std::path::Path;

use ev_client::Code;
use ev_models_core::Digest;
use ev_proto::ev::registry::v1::{
    GetVersionRequest, GetVersionResponse, SetAliasRequest, SignVersionRequest, SignatureState, Version, VersionState,
    get_version_request::VersionChoice,
};
use ev_signing::SigningKey;

use crate::support::{
    refusal::Refusal,
    server::TestServer,
    zoo::{Model, Registry},
};

const MODEL: &str = "battery-soh";

async fn registry(server: &TestServer) -> Registry {
    Registry::new(server.endpoint().channel().await)
}

/// A server that requires signatures of this key.
async fn requiring(key: &SigningKey) -> TestServer {
    TestServer::start(&overrides(&key.public_key().to_string(), "require")).await
}

fn overrides<'a>(key: &'a str, policy: &'a str) -> [(&'a str, &'a str); 2] {
    [("registry.signatures", policy), ("registry.trusted_keys", key)]
}

async fn upload(registry: &Registry) -> Version {
    Model::of(MODEL).upload(registry).await.expect("registered").version.expect("a version")
}

async fn sign(registry: &Registry, version: &Version, key: &SigningKey) -> Result<SignatureState, Refusal> {
    let digest: Digest = version.digest.parse().expect("a digest");
    let request = SignVersionRequest {
        model: version.model.clone(),
        version: version.version,
        public_key: key.public_key().as_bytes().to_vec(),
        signature: key.sign(&version.model, &digest).as_bytes().to_vec(),
    };
    let signed = registry.clone().sign_version(request).await.map_err(Refusal::from)?.into_inner();
    Ok(signed.signature.expect("the signature").state())
}

async fn to_production(registry: &Registry, version: u32) -> Result<(), Refusal> {
    let alias = "production".to_owned();
    let request = SetAliasRequest { model: MODEL.to_owned(), alias, version, expected_version: None };
    registry.clone().set_alias(request).await.map(drop).map_err(Refusal::from)
}

async fn get(registry: &Registry, version: u32) -> GetVersionResponse {
    let version_choice = Some(VersionChoice::Version(version));
    let request = GetVersionRequest { model: MODEL.to_owned(), version_choice };
    registry.clone().get_version(request).await.expect("found").into_inner()
}

fn key() -> SigningKey {
    SigningKey::generate().expect("a key")
}

#[tokio::test]
async fn only_what_a_trusted_key_has_signed_is_loaded() {
    let (trusted, other) = (key(), key());
    let server = requiring(&trusted).await;
    let registry = registry(&server).await;
    // The models inside the program need no signature.
    assert_eq!(get(&registry, 1).await.version.expect("a version").state(), VersionState::Ready);

    let version = upload(&registry).await;
    let refused = to_production(&registry, 2).await.expect_err("refused");
    refused.says(Code::FailedPrecondition, "NOT_SERVABLE", &["UNSIGNED", "evctl models sign"]);
    assert_eq!(sign(&registry, &version, &other).await.expect("kept"), SignatureState::UnknownKey);
    let refused = to_production(&registry, 2).await.expect_err("refused");
    let id = other.public_key().id().to_string();
    refused.says(Code::FailedPrecondition, "NOT_SERVABLE", &["UNKNOWN_KEY", &id, "registry.trusted_keys"]);
    assert_eq!(sign(&registry, &version, &trusted).await.expect("kept"), SignatureState::Trusted);
    to_production(&registry, 2).await.expect("it serves");

    let signatures = get(&registry, 2).await.signatures;
    let states: Vec<SignatureState> = signatures.iter().map(|signature| signature.state()).collect();
    assert_eq!(states, [SignatureState::Trusted, SignatureState::UnknownKey], "the newest first");
    assert!(signatures[0].signed_by.ends_with("127.0.0.1") && signatures[0].signed_at.is_some(), "{signatures:?}");

    // Over a restart as well.
    let directory = server.stop().await;
    let server = TestServer::start_on(directory, &overrides(&trusted.public_key().to_string(), "require")).await;
    let registry = self::registry(&server).await;
    assert_eq!(get(&registry, 2).await.version.expect("a version").state(), VersionState::Ready);
    server.stop().await;
}

/// Changes every place in a file where some bytes stand, as somebody with an editor would.
fn replace(path: &Path, from: &[u8], to: &[u8]) -> usize {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs_err::read(path).expect("read");
    let places: Vec<usize> =
        bytes.windows(from.len()).enumerate().filter(|(_, window)| *window == from).map(|(place, _)| place).collect();
    for &place in &places {
        bytes[place..place + to.len()].copy_from_slice(to);
    }
    fs_err::write(path, bytes).expect("written");
    places.len()
}

#[tokio::test]
async fn a_signature_that_was_changed_is_found_and_named_and_its_version_not_served() {
    let trusted = key();
    let server = requiring(&trusted).await;
    let registry = registry(&server).await;
    let version = upload(&registry).await;
    sign(&registry, &version, &trusted).await.expect("kept");
    to_production(&registry, 2).await.expect("it serves");
    let signature = get(&registry, 2).await.signatures.remove(0).signature;
    let directory = server.stop().await;

    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let before = STANDARD.encode(&signature);
    let mut changed = signature;
    changed[10] ^= 1;
    let after = STANDARD.encode(&changed);
    let database = directory.path().join("registry/registry.db");
    assert!(replace(&database, before.as_bytes(), after.as_bytes()) > 0, "the signature is in the database");
    // Whoever only warns of what is unsigned does not serve what was changed.
    let mut directory = Some(directory);
    for policy in ["require", "warn"] {
        let overrides =
            overrides(&trusted.public_key().to_string(), policy).map(|(key, value)| (key.to_owned(), value.to_owned()));
        let overrides: Vec<(&str, &str)> =
            overrides.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let server = TestServer::start_on(directory.take().expect("a directory"), &overrides).await;
        let client = server.client().await;
        let versions = client.registry().list_versions(MODEL).await.expect("listed");
        let version = versions.iter().find(|version| version.version == 2).expect("version 2");
        assert_eq!(version.state(), VersionState::Failed, "{policy}: {version:?}");
        for word in ["DATA_LOSS", "BAD_SIGNATURE", "says `sign` of it, was altered"] {
            assert!(version.state_reason.contains(word), "{policy}: {}", version.state_reason);
        }
        directory = Some(server.stop().await);
    }
}

#[tokio::test]
async fn a_warning_is_no_refusal_and_a_key_that_is_none_is_told_at_the_start() {
    let server = TestServer::start(&overrides("", "warn")).await;
    let registry = registry(&server).await;
    upload(&registry).await;
    to_production(&registry, 2).await.expect("it serves");
    server.stop().await;

    let directory = tempfile::tempdir().expect("a directory");
    let refused = crate::support::server::start_in(directory.path(), &overrides("/nonexistent.pem", "require")).await;
    let error = refused.err().expect("refused").to_string();
    assert_eq!(error, "cannot read `/nonexistent.pem` of `registry.trusted_keys`");
}

#[tokio::test]
async fn a_signature_that_does_not_hold_is_not_kept() {
    let server = TestServer::start(&[]).await;
    let registry = registry(&server).await;
    let version = get(&registry, 1).await.version.expect("a version");
    let (key, digest) = (key(), version.digest.parse::<Digest>().expect("a digest"));
    let good = SignVersionRequest {
        model: MODEL.to_owned(),
        version: 1,
        public_key: key.public_key().as_bytes().to_vec(),
        signature: key.sign(MODEL, &digest).as_bytes().to_vec(),
    };
    let check = async |request: SignVersionRequest, field: &str, words: &str| {
        let refused = registry.clone().sign_version(request).await.map_err(Refusal::from).expect_err("refused");
        assert_eq!((refused.code, refused.fields[0].0.as_str()), (Code::InvalidArgument, field), "{refused:?}");
        assert!(refused.message.contains(words), "{refused:?}");
    };
    let other = key.sign("ev-range", &digest).as_bytes().to_vec();
    check(SignVersionRequest { signature: other, ..good.clone() }, "signature", "is not one that ed25519:").await;
    check(SignVersionRequest { signature: vec![0; 63], ..good.clone() }, "signature", "has 63 bytes, expected 64")
        .await;
    check(SignVersionRequest { public_key: vec![0; 31], ..good.clone() }, "public_key", "has 31 bytes, expected 32")
        .await;
    assert!(get(&registry, 1).await.signatures.is_empty());
    registry.clone().sign_version(good).await.expect("kept");
    server.stop().await;
}
