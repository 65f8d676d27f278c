//! Copies of bundled models under other names, to register and to break.

use std::collections::BTreeMap;

use bytes::Bytes;
use ev_proto::ev::registry::v1::{
    FileChunk, RegisterVersionRequest, RegisterVersionResponse, model_registry_client::ModelRegistryClient,
    register_version_request::Part,
};
use tonic::transport::Channel;

use super::{golden, refusal::Refusal};

/// A model version on its way into a registry.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) manifest: toml::Table,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

/// Names of the models inside the program, in order.
pub(crate) fn bundled() -> Vec<String> {
    let zoo = golden::folder("");
    let folders = fs_err::read_dir(zoo).expect("models/zoo").map(|entry| entry.expect("an entry").path());
    let models = folders.filter(|folder| folder.join("manifest.toml").is_file());
    let mut names: Vec<String> = models.filter_map(|folder| Some(folder.file_name()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

/// The client that uploads.
pub(crate) type Registry = ModelRegistryClient<Channel>;

// === impl Model ===

impl Model {
    /// A bundled model under its own name; what its manifest says is changed, so that it is a version of its own.
    pub(crate) fn of(model: &str) -> Model {
        let folder = golden::folder(model);
        let text = fs_err::read_to_string(folder.join("manifest.toml")).expect("manifest.toml");
        let mut copy = Model { manifest: text.parse().expect("TOML"), files: BTreeMap::new() };
        for file in copy.named() {
            let bytes = fs_err::read(folder.join(&file)).expect("a model file");
            copy.files.insert(file, bytes);
        }
        copy.set("description", "A copy for tests.");
        copy
    }

    /// The same under another name.
    pub(crate) fn named_as(model: &str, name: &str) -> Model {
        let mut copy = Model::of(model);
        copy.set("name", name);
        copy
    }

    /// Sets a key of `[model]`.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.table("model").insert(key.to_owned(), value.into());
    }

    /// A table of the manifest.
    pub(crate) fn table(&mut self, name: &str) -> &mut toml::Table {
        self.manifest.get_mut(name).and_then(toml::Value::as_table_mut).expect("a table")
    }

    /// An element of an array of tables, such as an input.
    pub(crate) fn element(&mut self, array: &str, name: &str) -> &mut toml::Table {
        let array = self.manifest.get_mut(array).and_then(toml::Value::as_array_mut).expect("an array");
        let found = array.iter_mut().find(|element| element.get("name").and_then(toml::Value::as_str) == Some(name));
        found.and_then(toml::Value::as_table_mut).expect("an element of this name")
    }

    /// Changes what a golden request expects.
    pub(crate) fn edit_golden(&mut self, edit: impl FnOnce(&mut serde_json::Value)) {
        let bytes = self.files.get_mut("golden.json").expect("golden.json");
        let mut golden = serde_json::from_slice(bytes).expect("JSON");
        edit(&mut golden);
        *bytes = golden.to_string().into_bytes();
    }

    /// The first message of an upload.
    pub(crate) fn first(&self) -> RegisterVersionRequest {
        RegisterVersionRequest { part: Some(Part::ManifestToml(self.manifest_toml())) }
    }

    /// A whole upload, in pieces of `chunk` bytes.
    pub(crate) fn parts(&self, chunk: usize) -> Vec<RegisterVersionRequest> {
        let chunks = self.files.iter().flat_map(|(path, bytes)| bytes.chunks(chunk).map(move |data| piece(path, data)));
        std::iter::once(self.first()).chain(chunks).collect()
    }

    /// Uploads the version.
    pub(crate) async fn upload(&self, registry: &Registry) -> Result<RegisterVersionResponse, Refusal> {
        upload(registry, self.parts(64 * 1024)).await
    }

    pub(crate) fn manifest_toml(&self) -> String {
        toml::to_string(&self.manifest).expect("TOML")
    }

    /// The version in memory, for a registry that no server watches over.
    pub(crate) fn bundle(&self) -> ev_registry::Bundle {
        let files = self.files.iter().map(|(path, bytes)| (path.clone(), Bytes::from(bytes.clone())));
        ev_registry::Bundle::new(self.manifest_toml(), files)
    }

    fn named(&self) -> Vec<String> {
        let heads = |table: &toml::Table| {
            let heads = table.get("heads").and_then(toml::Value::as_array).cloned().unwrap_or_default();
            heads.into_iter().filter_map(|head| head.get("file")?.as_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        let mut files = heads(&self.manifest);
        for variant in self.manifest.get("variants").and_then(toml::Value::as_array).into_iter().flatten() {
            files.extend(variant.as_table().map(heads).unwrap_or_default());
        }
        files.push("golden.json".to_owned());
        files
    }
}

/// One piece of a file.
pub(crate) fn piece(path: &str, data: &[u8]) -> RegisterVersionRequest {
    RegisterVersionRequest {
        part: Some(Part::Chunk(FileChunk { path: path.to_owned(), data: data.to_vec(), offset_bytes: 0 })),
    }
}

/// Sends the parts of an upload.
pub(crate) async fn upload(
    registry: &Registry,
    parts: Vec<RegisterVersionRequest>,
) -> Result<RegisterVersionResponse, Refusal> {
    let uploaded = registry.clone().register_version(tokio_stream::iter(parts)).await;
    uploaded.map(tonic::Response::into_inner).map_err(Refusal::from)
}
