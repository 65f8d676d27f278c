//! What the server tells about itself and its models.

use ev_proto::inference::{
    DataType, ModelConfigRequest, ModelMetadataRequest, ModelReadyRequest, RepositoryIndexRequest, ServerLiveRequest,
    ServerMetadataRequest, ServerReadyRequest,
    model_instance_group::Kind,
    model_version_policy::{PolicyChoice, Specific},
};
use tonic::Code;

use super::support::{MODELS, TestServer, bundled};

#[tokio::test(flavor = "multi_thread")]
async fn the_server_tells_what_it_is() {
    let server = TestServer::start().await;
    let mut client = server.client();
    assert!(client.server_live(ServerLiveRequest {}).await.expect("answered").into_inner().live);
    assert!(client.server_ready(ServerReadyRequest {}).await.expect("answered").into_inner().ready);
    let metadata = client.server_metadata(ServerMetadataRequest {}).await.expect("answered").into_inner();
    assert_eq!((metadata.name.as_str(), metadata.version.as_str()), ("evserve", env!("CARGO_PKG_VERSION")));
    assert_eq!(metadata.extensions, ["binary_tensor_data", "model_configuration", "model_repository", "statistics"]);
    for ready in [false, true] {
        let request = RepositoryIndexRequest { ready, ..Default::default() };
        let index = client.repository_index(request).await.expect("answered").into_inner().models;
        let names: Vec<&str> = index.iter().map(|model| model.name.as_str()).collect();
        assert_eq!(names, bundled());
        assert!(index.iter().all(|model| model.version == "1" && model.state == "READY" && model.reason.is_empty()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_ready_by_name_and_version_or_alias() {
    let server = TestServer::start().await;
    let mut client = server.client();
    for (name, version, expected) in [
        ("ev-range", "", true),
        ("ev-range", "1", true),
        ("ev-range", "production", true),
        ("ev-range", "2", false),
        ("ev-range", "canary", false),
        ("ev-rnage", "", false),
    ] {
        let request = ModelReadyRequest { name: name.into(), version: version.into() };
        let ready = client.model_ready(request).await.expect("answered").into_inner().ready;
        assert_eq!(ready, expected, "{name} {version}");
    }
    let unknown = ModelMetadataRequest { name: "ev-rnage".into(), version: String::new() };
    let error = client.model_metadata(unknown).await.expect_err("unknown");
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().contains("`ev-rnage`") && error.message().contains("thermal-risk"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_and_configuration_agree() {
    let server = TestServer::start().await;
    let mut client = server.client();
    for name in MODELS {
        let request = ModelMetadataRequest { name: name.into(), version: String::new() };
        let metadata = client.model_metadata(request).await.expect(name).into_inner();
        let request = ModelConfigRequest { name: name.into(), version: "production".into() };
        let config = client.model_config(request).await.expect(name).into_inner().config.expect("a configuration");
        assert_eq!((metadata.name.as_str(), config.name.as_str()), (name, name));
        assert_eq!(metadata.versions, ["1"]);
        assert_eq!((metadata.platform.as_str(), config.platform.as_str()), ("evserve_forest", "evserve_forest"));
        assert_eq!((config.backend.as_str(), config.max_batch_size), ("forest", 8192));
        let versions = PolicyChoice::Specific(Specific { versions: vec![1] });
        assert_eq!(config.version_policy.and_then(|policy| policy.policy_choice), Some(versions));
        assert_eq!((config.instance_group[0].kind(), config.instance_group[0].count), (Kind::Cpu, 2));
        assert!(config.default_model_filename.ends_with("point.ubj"));
        assert_eq!(config.parameters["execution"].string_value, "inline");
        assert!(config.parameters["digest"].string_value.starts_with("sha256:"));
        assert!(config.parameters["row_cost_ns"].string_value.parse::<u64>().is_ok_and(|cost| cost > 0));
        assert!(
            !config.parameters["runtime"].string_value.is_empty() && !config.parameters["task"].string_value.is_empty()
        );

        assert_eq!(metadata.inputs.len(), config.input.len());
        for (tensor, input) in metadata.inputs.iter().zip(&config.input) {
            assert_eq!(
                (&tensor.name, tensor.shape.as_slice(), input.dims.as_slice()),
                (&input.name, &[-1, 1][..], &[1][..])
            );
            let expected = match input.data_type() {
                DataType::TypeFp32 => "FP32",
                DataType::TypeString => "BYTES",
                DataType::TypeBool => "BOOL",
                other => panic!("{other:?}"),
            };
            assert_eq!(tensor.datatype, expected);
        }
        assert!(config.input.iter().any(|input| !input.optional), "{name} requires something");
        let outputs: Vec<_> = metadata.outputs.iter().map(|output| (&output.name, output.shape[1])).collect();
        assert_eq!(outputs, config.output.iter().map(|output| (&output.name, output.dims[0])).collect::<Vec<_>>());
    }
    let request = ModelMetadataRequest { name: "thermal-risk".into(), version: "1".into() };
    let outputs = client.model_metadata(request).await.expect("answered").into_inner().outputs;
    let outputs: Vec<_> = outputs.iter().map(|o| (o.name.as_str(), o.datatype.as_str(), o.shape.as_slice())).collect();
    let expected: [(&str, &str, &[i64]); 4] = [
        ("risk", "BYTES", &[-1, 1]),
        ("risk_probabilities", "FP32", &[-1, 5]),
        ("raw", "FP32", &[-1, 4]),
        ("out_of_distribution", "BOOL", &[-1, 1]),
    ];
    assert_eq!(outputs, expected);
}
