//! Uploads that are refused, and leave nothing behind.

use ev_client::Code;
use ev_proto::ev::registry::v1::{ListModelsRequest, RegisterVersionRequest};

use crate::support::{
    refusal::Refusal,
    server::{Endpoint, shared},
    zoo::{Model, Registry, piece, upload},
};

async fn refused(parts: Vec<RegisterVersionRequest>) -> Refusal {
    let endpoint: Endpoint = shared();
    let mut registry = Registry::new(endpoint.channel().await);
    let refused = upload(&registry, parts).await.expect_err("refused");
    let listed = registry.list_models(ListModelsRequest::default()).await.expect("listed").into_inner();
    assert!(listed.models.iter().all(|model| model.name != "refused"), "something was registered");
    refused
}

fn copy() -> Model {
    Model::named_as("charging-utilization", "refused")
}

#[tokio::test]
async fn a_piece_before_the_manifest_is_refused() {
    let mut parts = copy().parts(64 * 1024);
    parts.swap(0, 1);
    let description = "is missing: the first message carries it";
    refused(parts).await.is_field("MISSING_FIELD", "manifest_toml", description);
    refused(Vec::new()).await.is_field("MISSING_FIELD", "manifest_toml", description);
}

#[tokio::test]
async fn a_second_manifest_is_refused() {
    let model = copy();
    let parts = vec![model.first(), model.first()];
    refused(parts).await.is_field("OUT_OF_ORDER", "manifest_toml", "comes once, in the first message");
}

#[tokio::test]
async fn a_message_without_a_part_is_refused() {
    let parts = vec![copy().first(), RegisterVersionRequest { part: None }];
    refused(parts).await.is_field("MISSING_FIELD", "part", "is missing, expected a chunk");
}

#[tokio::test]
async fn a_piece_that_is_too_large_is_refused() {
    let parts = vec![copy().first(), piece("point.ubj", &vec![0; 1024 * 1024 + 1])];
    refused(parts).await.is_field("TOO_LONG", "chunk.data", "has 1048577 bytes, expected at most 1048576");
}

#[tokio::test]
async fn pieces_of_a_file_come_together() {
    let parts =
        vec![copy().first(), piece("point.ubj", b"one"), piece("spread.ubj", b"two"), piece("point.ubj", b"three")];
    let message = "`point.ubj` goes on after it ended; the pieces of a file come in order and together";
    refused(parts).await.is(Code::InvalidArgument, "OUT_OF_ORDER", message);
}

#[tokio::test]
async fn a_file_the_manifest_does_not_name_is_refused() {
    let mut parts = copy().parts(64 * 1024);
    parts.push(piece("notes.txt", b"by the way"));
    let message = "`notes.txt` is not named by the manifest";
    refused(parts).await.is(Code::InvalidArgument, "UNKNOWN_FILE", message);
    let parts = vec![copy().first(), piece("../../../etc/passwd", b"root")];
    let message = "`../../../etc/passwd` is not named by the manifest";
    refused(parts).await.is(Code::InvalidArgument, "UNKNOWN_FILE", message);
}

#[tokio::test]
async fn a_file_that_does_not_come_is_missed() {
    let mut model = copy();
    model.files.remove("spread.ubj");
    let message = "`spread.ubj` is named by the manifest and missing";
    refused(model.parts(64 * 1024)).await.is(Code::InvalidArgument, "MISSING_FILE", message);
}

#[tokio::test]
async fn pickles_are_refused_by_name() {
    for file in ["model.pkl", "model.pickle", "model.joblib"] {
        let mut model = copy();
        model.element("heads", "point").insert("file".into(), file.into());
        refused(model.parts(64 * 1024)).await.says(Code::InvalidArgument, "INVALID_MANIFEST", &[file]);
    }
}

#[tokio::test]
async fn a_manifest_with_a_missing_or_unknown_key_is_refused() {
    let mut model = copy();
    model.table("model").remove("license");
    refused(model.parts(64 * 1024)).await.says(Code::InvalidArgument, "INVALID_MANIFEST", &["license"]);
    let mut model = copy();
    model.set("licence", "Apache-2.0");
    refused(model.parts(64 * 1024)).await.says(Code::InvalidArgument, "INVALID_MANIFEST", &["licence"]);
    let mut first = copy().first();
    first.part = Some(ev_proto::ev::registry::v1::register_version_request::Part::ManifestToml("not = = TOML".into()));
    refused(vec![first]).await.says(Code::InvalidArgument, "INVALID_MANIFEST", &["the manifest is refused: "]);
}

#[tokio::test]
async fn an_input_outside_the_vocabulary_is_refused() {
    let text = copy().manifest_toml().replace("stations_at_site", "parking_lots");
    let mut first = copy().first();
    first.part = Some(ev_proto::ev::registry::v1::register_version_request::Part::ManifestToml(text));
    let words = ["`parking_lots`", "not in the vocabulary of task `utilization`", "use task `generic`"];
    refused(vec![first]).await.says(Code::InvalidArgument, "INVALID_MANIFEST", &words);
}

#[tokio::test]
async fn a_range_wider_than_plausible_is_refused() {
    let mut model = copy();
    let range = toml::Value::Array(vec![toml::Value::Float(1.0), toml::Value::Float(5000.0)]);
    model.element("inputs", "station_power_kw").insert("range".into(), range);
    let words = ["has the range 1 to 5000, expected within 1 to 4000"];
    refused(vec![model.first()]).await.says(Code::InvalidArgument, "INVALID_MANIFEST", &words);
    let mut model = copy();
    model.element("inputs", "station_power_kw").remove("range");
    refused(vec![model.first()]).await.says(Code::InvalidArgument, "INVALID_MANIFEST", &["range"]);
}

#[tokio::test]
async fn a_file_that_is_not_what_the_manifest_lists_is_refused() {
    let mut model = copy();
    let mut listed = toml::Table::new();
    listed.insert("path".into(), "point.ubj".into());
    listed.insert("sha256".into(), format!("sha256:{}", "0".repeat(64)).into());
    let size = i64::try_from(model.files["point.ubj"].len()).expect("small");
    listed.insert("size".into(), size.into());
    model.manifest.insert("files".into(), toml::Value::Array(vec![listed.into()]));
    let refused = refused(model.parts(64 * 1024)).await;
    refused.says(
        Code::DataLoss,
        "DIGEST_MISMATCH",
        &["`point.ubj` has the digest sha256:", "its manifest says sha256:0000"],
    );
}

#[tokio::test]
async fn pickles_and_archives_are_refused_by_their_bytes_whatever_they_are_called() {
    let check = async |content: &[u8], words: &str| {
        let mut model = copy();
        model.files.insert("point.ubj".into(), content.to_vec());
        refused(model.parts(7)).await.says(Code::InvalidArgument, "REFUSED_FILE", &["`point.ubj` is refused", words]);
    };
    check(b"\x80\x04\x95\x1a\0\0\0\0\0\0\0\x8c\x05posix\x94", "it is a pickle").await;
    check(b"cposix\nsystem\n(S'id'\ntR.", "it is a pickle").await;
    check(b"ZF0x1a             ", "joblib").await;
    check(b"PK\x03\x04\x14\0\0\0\x08\0", "it is a ZIP archive").await;
    check(b"\x1f\x8b\x08\0\0\0\0\0\0\xff", "it is gzip").await;
}

#[tokio::test]
async fn claims_and_names_are_refused_before_files_come() {
    let with_listed = |path: &str, size: i64| {
        let mut model = copy();
        let mut listed = toml::Table::new();
        listed.insert("path".into(), path.into());
        listed.insert("sha256".into(), format!("sha256:{}", "0".repeat(64)).into());
        listed.insert("size".into(), size.into());
        model.manifest.insert("files".into(), toml::Value::Array(vec![listed.into()]));
        vec![model.first()]
    };
    let huge = refused(with_listed("point.ubj", 10 << 30)).await;
    huge.says(Code::ResourceExhausted, "TOO_LARGE", &["`point.ubj` has more than 536870912 bytes"]);
    let case = refused(with_listed("Point.ubj", 0)).await;
    case.says(Code::InvalidArgument, "REFUSED_FILE", &["differs from it in case only"]);
    let inside = refused(with_listed("point.ubj/inner", 0)).await;
    inside.says(Code::InvalidArgument, "REFUSED_FILE", &["which is a file"]);
    for path in ["../x", "/x", "a\0b", "", "mod\u{e8}le"] {
        refused(with_listed(path, 0)).await.says(Code::InvalidArgument, "INVALID_MANIFEST", &["files"]);
    }
}
