//! Models that run on worker threads: the same answers, bounded queues, deadlines, ends, and what is told about them.

use std::time::Duration;

use ev_client::{CallError, Code};
use ev_proto::{
    ev::{
        battery::v1::{self as battery, battery_health_client::BatteryHealthClient},
        common::v1::{BatchCut, PredictionInfo},
        range::v1::{
            PredictBatchRequest, PredictRequest, PredictResponse, PredictStreamRequest,
            predict_batch_result::Result as Row, predict_stream_response,
            range_prediction_client::RangePredictionClient,
        },
        registry::v1::SetAliasRequest,
    },
    inference::{
        ModelConfig, ModelConfigRequest, ModelInferRequest, ModelInferResponse, ModelStatisticsRequest,
        grpc_inference_service_client::GrpcInferenceServiceClient, infer_parameter::ParameterChoice,
        model_config::SchedulingChoice, model_infer_request::InferInputTensor,
    },
};
use prost::Message as _;
use tokio::task::JoinSet;
use tonic::{Status, transport::Channel};

use crate::{
    ort::{
        floats, library, model,
        onnx::{ANY, FLOAT, Graph},
        put_into_production,
    },
    support::{
        assert_eventually,
        raw::Bare,
        refusal::Refusal,
        server::{Endpoint, TestServer, shared},
        zoo::{Model, Registry},
    },
};

type Inference = GrpcInferenceServiceClient<Channel>;

/// Side of the matrix that the slow graph multiplies by itself, over and over.
const SIDE: usize = 64;
/// Products of the slow graph: tens of milliseconds, far above what runs inline.
const PRODUCTS: usize = 1_500;

/// One worker and one row a run, so that queues fill.
const NARROW: [(&str, &str); 3] =
    [("batching.worker_threads", "1"), ("batching.instance_count", "1"), ("batching.max_batch_size", "1")];

/// A graph that takes its time, and gives the mean of a matrix that is its own square.
fn slow() -> Model {
    let mut graph = Graph::new();
    let side = i64::try_from(SIDE).expect("small");
    let pixels = graph.input("pixels", FLOAT, &[ANY, 1, side, side]);
    let mut product = pixels.clone();
    for _ in 0..PRODUCTS {
        product = graph.node("MatMul", &[&product, &pixels], vec![]);
    }
    let mean = graph.node("GlobalAveragePool", &[&product], vec![]);
    let flat = graph.node("Flatten", &[&mean], vec![]);
    graph.output("mean", &flat, FLOAT, &[ANY, 1]);
    model(graph, "pixels", &[1, SIDE, SIDE], "mean", 1)
}

/// Rows for the slow graph, each of which has this mean.
const MEAN: f32 = 1.0 / 64.0;

fn request(rows: usize) -> ModelInferRequest {
    let side = i64::try_from(SIDE).expect("small");
    let input = InferInputTensor {
        name: "pixels".into(),
        datatype: "FP32".into(),
        shape: vec![i64::try_from(rows).expect("few"), 1, side, side],
        ..Default::default()
    };
    let bytes = MEAN.to_le_bytes().repeat(rows * SIDE * SIDE);
    ModelInferRequest {
        model_name: "graph".into(),
        id: "mine".into(),
        inputs: vec![input],
        raw_input_contents: vec![bytes.into()],
        ..Default::default()
    }
}

async fn start_slow(overrides: &[(&str, &str)]) -> TestServer {
    let library = library();
    let all: Vec<_> = [("backends.onnxruntime", library.as_str())].iter().chain(overrides).copied().collect();
    let server = TestServer::start(&all).await;
    put_into_production(&server, &slow()).await.expect("it serves");
    server
}

async fn inference(endpoint: Endpoint) -> Inference {
    GrpcInferenceServiceClient::new(endpoint.channel().await)
}

async fn infer(mut client: Inference, rows: usize) -> Result<ModelInferResponse, Status> {
    client.model_infer(request(rows)).await.map(tonic::Response::into_inner)
}

async fn config(endpoint: Endpoint, name: &str) -> ModelConfig {
    let request = ModelConfigRequest { name: name.into(), version: String::new() };
    let answer = inference(endpoint).await.model_config(request).await.expect("answered");
    answer.into_inner().config.expect("a configuration")
}

/// A metric of the graph's queue.
async fn metric(endpoint: Endpoint, name: &str, reason: Option<&str>) -> f64 {
    let reason = reason.map(|reason| format!(",reason=\"{reason}\"")).unwrap_or_default();
    endpoint.metric(&format!("{name}{{model=\"graph\",version=\"1\",backend=\"ort\"{reason}}}")).await
}

fn tesla() -> PredictRequest {
    PredictRequest { make: "Tesla".into(), model: "Model 3".into(), ..Default::default() }
}

/// An answer's envelope without what differs from call to call; what it says of the batch beside it.
fn settled(info: Option<PredictionInfo>) -> (PredictionInfo, Option<(u32, BatchCut)>) {
    let info = info.expect("an envelope");
    let batch = info.batch.as_ref().map(|batch| (batch.rows, batch.cut()));
    (PredictionInfo { prediction_id: String::new(), timings: None, batch: None, ..info }, batch)
}

// === the same answers ===

fn rows() -> Vec<PredictRequest> {
    let known = ["Tesla", "Kia", "BMW", "Nissan", "Audi"];
    let row = |index: usize| PredictRequest {
        make: known.get(index % 6).copied().unwrap_or("Nobody").into(),
        model: "Any".into(),
        battery_capacity_kwh: [None, Some(-1.0), Some(90.0)][index % 3],
        ..Default::default()
    };
    (0..40).map(row).collect()
}

fn result(answer: Result<PredictResponse, Refusal>) -> Result<PredictResponse, Refusal> {
    answer.map(|response| PredictResponse { info: Some(settled(response.info).0), ..response })
}

#[tokio::test]
async fn typed_answers_are_those_of_inline_models() {
    let server = TestServer::start(&[("batching.execution", "queued"), ("batching.max_batch_size", "8")]).await;
    let mut queued = RangePredictionClient::new(server.endpoint().channel().await);
    let mut inline = RangePredictionClient::new(shared().channel().await);
    let mut expected = Vec::new();
    for row in rows() {
        let alone = queued.predict(row.clone()).await.map(tonic::Response::into_inner).map_err(Refusal::from);
        if let Ok(response) = &alone {
            let timings = response.info.as_ref().and_then(|info| info.timings).expect("timings");
            assert!(timings.inference_ns > 0 && timings.queue_ns > 0, "{timings:?}");
            assert!(timings.queue_ns + timings.features_ns + timings.inference_ns <= timings.total_ns, "{timings:?}");
            assert_eq!(settled(response.info.clone()).1, Some((1, BatchCut::Idle)));
        }
        let same = inline.predict(row).await.map(tonic::Response::into_inner).map_err(Refusal::from);
        let same = result(same);
        assert_eq!(result(alone), same);
        expected.push(same);
    }
    assert!(expected.iter().any(Result::is_err) && expected.iter().any(Result::is_ok));

    let batch = queued.predict_batch(PredictBatchRequest { rows: rows() }).await.expect("answered").into_inner();
    let found = batch.results.into_iter().map(|row| match row.result.expect("a result") {
        Row::Response(response) => result(Ok(response)),
        Row::Error(error) => Err(Refusal::from(error)),
    });
    assert_eq!(found.collect::<Vec<_>>(), expected, "in a batch");

    let requests = (0u64..).zip(rows()).map(|(id, row)| PredictStreamRequest { id, request: Some(row) });
    let requests: Vec<_> = requests.collect();
    let mut answers = queued.predict_stream(tokio_stream::iter(requests)).await.expect("begun").into_inner();
    for (id, expected) in (0u64..).zip(expected) {
        let answer = answers.message().await.expect("answered").expect("an answer for each");
        assert_eq!(answer.id, id, "in order");
        let found = match answer.result.expect("a result") {
            predict_stream_response::Result::Response(response) => result(Ok(response)),
            predict_stream_response::Result::Error(error) => Err(Refusal::from(error)),
        };
        assert_eq!(found, expected);
    }
    assert!(answers.message().await.expect("a clean end").is_none());
    server.stop().await;
}

#[tokio::test]
async fn several_queued_models_answer_one_battery_request() {
    let server = TestServer::start(&[("batching.execution", "queued")]).await;
    let request = battery::PredictRequest {
        cell_family: Some("nmc_lco_18650_2800mah".into()),
        cycle_count: Some(100.0),
        discharge_c_rate: Some(1.0),
        discharge_duration_s: Some(3_000.0),
        discharge_voltage_mean_v: Some(3.6),
        ambient_temperature_celsius: Some(24.0),
        ..Default::default()
    };
    let mut answers = Vec::new();
    for endpoint in [server.endpoint(), shared()] {
        let mut client = BatteryHealthClient::new(endpoint.channel().await);
        let answer = client.predict(request.clone()).await.map(tonic::Response::into_inner);
        let many = battery::PredictBatchRequest { rows: vec![request.clone(); 20] };
        let many = client.predict_batch(many).await.expect("answered").into_inner();
        let mut answer = answer.expect("answered");
        assert_eq!(many.results.len(), 20);
        let infos = [
            answer.state_of_health.as_mut().map(|target| &mut target.info),
            answer.remaining_useful_life.as_mut().map(|target| &mut target.info),
            answer.temperature.as_mut().map(|target| &mut target.info),
            answer.failure.as_mut().map(|target| &mut target.info),
            answer.cycle_life.as_mut().map(|target| &mut target.info),
        ];
        for info in infos.into_iter().flatten() {
            *info = Some(settled(info.take()).0);
        }
        answers.push(answer);
    }
    assert_eq!(answers[0], answers[1]);
    server.stop().await;
}

#[tokio::test]
async fn the_v2_protocol_answers_alike_inline_and_queued() {
    let mut answers = Vec::new();
    for execution in ["inline", "queued"] {
        let server = start_slow(&[("batching.execution", execution)]).await;
        let mut client = inference(server.endpoint()).await;
        let one = infer(client.clone(), 1).await.expect("answered");
        assert_eq!(one.id, "mine");
        let told = |name: &str| one.parameters.get(name).and_then(|value| value.parameter_choice.clone());
        if execution == "queued" {
            assert_eq!(told("batch_rows"), Some(ParameterChoice::Int64Param(1)));
            assert_eq!(told("batch_cut"), Some(ParameterChoice::StringParam("idle".into())));
            assert!(matches!(told("queue_ns"), Some(ParameterChoice::Int64Param(1..))), "{:?}", one.parameters);
        } else {
            assert_eq!((told("batch_rows"), told("queue_ns")), (None, None));
        }
        let five = infer(client.clone(), 5).await.expect("answered");
        let requests: Vec<_> = [1, 2, 1, 1, 3, 1].into_iter().map(request).collect();
        let mut stream = client.model_stream_infer(tokio_stream::iter(requests)).await.expect("begun").into_inner();
        let mut found = vec![floats(&one, "mean"), floats(&five, "mean")];
        while let Some(answer) = stream.message().await.expect("answered") {
            found.push(floats(&answer.infer_response.expect("a response"), "mean"));
        }
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [1, 5, 1, 2, 1, 1, 3, 1], "{execution}");
        answers.push(found);
        let unfit = ModelInferRequest { raw_input_contents: vec![vec![0; 4].into()], ..request(1) };
        assert_eq!(client.model_infer(unfit).await.expect_err("refused").code(), Code::InvalidArgument);
        let mut not_finite = vec![0; 2 * SIDE * SIDE * 4];
        not_finite[SIDE * SIDE * 4..][..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
        let one_bad = ModelInferRequest { raw_input_contents: vec![not_finite.into()], ..request(2) };
        let refused = Refusal::from(client.model_infer(one_bad).await.expect_err("one bad row, no answer"));
        refused.is_field("NOT_FINITE", "inputs.pixels[1]", "holds inf at position 0, expected a finite number");
        server.stop().await;
    }
    for (inline, queued) in answers[0].iter().flatten().zip(answers[1].iter().flatten()) {
        assert!((inline - queued).abs() <= 1e-6 && (inline - MEAN).abs() < 1e-3, "{inline} and {queued}");
    }
}

// === bounds ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_at_once_and_says_when_to_come_back() {
    let overrides: Vec<_> = NARROW.into_iter().chain([("batching.max_queue_size", "2")]).collect();
    let server = start_slow(&overrides).await;
    let client = inference(server.endpoint()).await;
    let mut callers = JoinSet::new();
    for _ in 0..16 {
        let client = client.clone();
        callers.spawn(async move {
            let mut refusals = 0u32;
            loop {
                match infer(client.clone(), 1).await {
                    Ok(answer) => return (floats(&answer, "mean").len(), refusals),
                    Err(status) => {
                        let error = CallError::from(status);
                        let delay = error.retry_delay.expect("says when to come back");
                        Refusal::from(error).says(
                            Code::ResourceExhausted,
                            "QUEUE_FULL",
                            &["the model's queue is full"],
                        );
                        refusals += 1;
                        tokio::time::sleep(delay).await;
                    }
                }
            }
        });
    }
    let outcomes = callers.join_all().await;
    assert!(outcomes.iter().all(|(values, _)| *values == 1), "all are answered in the end");
    let refusals: u32 = outcomes.iter().map(|(_, refusals)| refusals).sum();
    assert!(refusals > 0, "sixteen callers do not fit into a queue of two");
    let counted = metric(server.endpoint(), "ev_batching_rows_refused_total", Some("queue_full")).await;
    assert_eq!(counted, f64::from(refusals));
    // A request of more rows than the queue holds goes through it in parts.
    let many = infer(client, 9).await.expect("answered");
    assert_eq!(floats(&many, "mean").len(), 9);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_passes_in_the_queue_is_told_and_nothing_is_run() {
    let server = start_slow(&NARROW).await;
    let endpoint = server.endpoint();
    let client = inference(endpoint).await;
    let mut callers = JoinSet::new();
    for _ in 0..32 {
        callers.spawn(infer(client.clone(), 1));
    }
    assert_eventually!(metric(endpoint, "ev_batching_queue_rows", None).await > 0.0, "nothing was queued");
    let connection = Bare::connect(endpoint.grpc).await;
    let message = request(1).encode_to_vec();
    let path = "/inference.GRPCInferenceService/ModelInfer";
    let refused = connection.call(path, message, &[("grpc-timeout", "20m")]).await.map_err(Refusal::from);
    let refused = refused.expect_err("too late");
    assert_eq!(refused.code, Code::DeadlineExceeded, "{refused:?}");
    assert!(["DEADLINE_EXCEEDED", "WOULD_MISS_DEADLINE"].contains(&refused.reason.as_str()), "{refused:?}");
    for answer in callers.join_all().await {
        answer.expect("the others have time");
    }
    assert_eq!(metric(endpoint, "ev_pipeline_executions_total", None).await, 32.0, "nothing was run for it");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_have_gone_give_up_their_places() {
    let server = start_slow(&NARROW).await;
    let endpoint = server.endpoint();
    let client = inference(endpoint).await;
    let cancelled = async || metric(endpoint, "ev_batching_rows_dropped_total", Some("cancelled")).await;
    assert_eventually!(
        {
            let mut callers = JoinSet::new();
            for _ in 0..16 {
                callers.spawn(infer(client.clone(), 1));
            }
            assert_eventually!(metric(endpoint, "ev_batching_queue_rows", None).await > 0.0, "nothing was queued");
            callers.shutdown().await;
            cancelled().await > 0.0
        },
        "their rows were run for nobody"
    );
    assert_eventually!(metric(endpoint, "ev_batching_queue_rows", None).await == 0.0, "their places are not free");
    infer(client, 1).await.expect("the next one is answered");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tabular_requests_are_answered_while_the_workers_are_busy() {
    let server = start_slow(&NARROW).await;
    let endpoint = server.endpoint();
    let client = inference(endpoint).await;
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let client = client.clone();
        callers.spawn(async move {
            loop {
                infer(client.clone(), 1).await.expect("there is room for eight");
            }
        });
    }
    assert_eventually!(metric(endpoint, "ev_batching_queue_rows", None).await > 0.0, "nothing was queued");
    let mut range = RangePredictionClient::new(endpoint.channel().await);
    for _ in 0..50 {
        let answer = range.predict(tesla()).await.expect("answered").into_inner();
        assert_eq!(settled(answer.info).1, None, "inline");
    }
    assert!(metric(endpoint, "ev_batching_queue_rows", None).await > 0.0, "the workers were busy all the time");
    assert!(metric(endpoint, "ev_batching_saturation", None).await > 0.0);
    callers.shutdown().await;
    server.stop().await;
}

// === ends ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_queued_when_the_server_ends_is_answered() {
    let server = start_slow(&NARROW).await;
    let endpoint = server.endpoint();
    let client = inference(endpoint).await;
    let mut callers = JoinSet::new();
    for _ in 0..24 {
        callers.spawn(infer(client.clone(), 1));
    }
    let entered = async || metric(endpoint, "ev_batching_rows_entered_total", None).await;
    assert_eventually!(entered().await == 24.0, "they never came");
    server.stop().await;
    for answer in callers.join_all().await {
        assert_eq!(floats(&answer.expect("answered"), "mean").len(), 1);
    }
}

/// Worker threads of a model in this process.
fn workers(model: &str) -> usize {
    let tasks = fs_err::read_dir("/proc/self/task").expect("Linux");
    let name = |task: std::io::Result<fs_err::DirEntry>| fs_err::read_to_string(task.ok()?.path().join("comm")).ok();
    tasks.filter_map(name).filter(|name| name.starts_with("run") && name.trim_end().ends_with(model)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(target_os = "linux")]
async fn replaced_models_leave_no_threads_behind() {
    let overrides = [("batching.execution", "queued"), ("batching.instance_count", "2")];
    let server = TestServer::start(&overrides).await;
    let registry = Registry::new(server.endpoint().channel().await);
    let mut range = RangePredictionClient::new(server.endpoint().channel().await);
    for version in ["one", "two"] {
        let mut copy = Model::named_as("ev-range", "moving");
        copy.set("description", version);
        copy.upload(&registry).await.expect("registered");
    }
    let mut asked = tesla();
    asked.model_selector =
        Some(ev_proto::ev::common::v1::ModelSelector { name: "moving".into(), version_choice: None });
    for index in 0..50 {
        let request = SetAliasRequest {
            model: "moving".into(),
            alias: "production".into(),
            version: 1 + index % 2,
            expected_version: None,
        };
        registry.clone().set_alias(request).await.expect("moved");
        let answer = range.predict(asked.clone()).await.expect("answered").into_inner();
        let version = answer.info.and_then(|info| info.model).expect("a version").version;
        assert_eq!(version, 1 + index % 2);
    }
    assert_eventually!(workers("moving") == 2, "{} threads", workers("moving"));
    server.stop().await;
    assert_eventually!(workers("moving") == 0, "{} threads", workers("moving"));
}

// === what is told ===

#[tokio::test]
async fn configuration_says_where_each_model_runs() {
    let overrides = [
        ("batching.instance_count", "3"),
        ("batching.max_batch_size", "4"),
        ("batching.preferred_batch_sizes", "2,4"),
        ("batching.max_queue_delay", "5ms"),
        ("batching.max_queue_size", "77"),
    ];
    let server = start_slow(&overrides).await;
    let graph = config(server.endpoint(), "graph").await;
    assert_eq!(graph.parameters["execution"].string_value, "queued", "{:?}", graph.parameters);
    assert_eq!(graph.parameters["rows_of_a_run_max"].string_value, "4");
    assert_eq!(graph.instance_group[0].count, 3);
    assert_eq!(graph.max_batch_size, 8192, "of a request, whose rows are run four at a time");
    let Some(SchedulingChoice::DynamicBatching(batching)) = graph.scheduling_choice else {
        panic!("{:?}", graph.scheduling_choice)
    };
    assert_eq!((batching.preferred_batch_size, batching.max_queue_delay_microseconds), (vec![2, 4], 5_000));
    let policy = batching.default_queue_policy.expect("a policy");
    assert_eq!((policy.max_queue_size, policy.allow_timeout_override), (77, true));
    let range = config(server.endpoint(), "ev-range").await;
    assert_eq!(range.parameters["execution"].string_value, "inline", "{:?}", range.parameters);
    assert_eq!((range.instance_group[0].count, range.scheduling_choice), (1, None));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_count_the_runs_of_workers() {
    let server = start_slow(&[("batching.max_batch_size", "4")]).await;
    let endpoint = server.endpoint();
    let client = inference(endpoint).await;
    let mut callers = JoinSet::new();
    for rows in [1, 1, 1, 1, 1, 1, 10] {
        callers.spawn(infer(client.clone(), rows));
    }
    for answer in callers.join_all().await {
        answer.expect("answered");
    }
    let request = ModelStatisticsRequest { name: "graph".into(), version: String::new() };
    let statistics = inference(endpoint).await.model_statistics(request).await.expect("answered").into_inner();
    let [stats] = &statistics.model_stats[..] else { panic!("one version") };
    assert_eq!(stats.inference_count, 16);
    let times = stats.inference_stats.as_ref().expect("times");
    let count = |total: Option<ev_proto::inference::StatisticDuration>| total.expect("a time").count;
    assert_eq!([count(times.success), count(times.queue), count(times.compute_infer), count(times.fail)], [7, 7, 7, 0]);
    assert!(times.queue.is_some_and(|queue| queue.ns > 0), "some had to wait");
    let sizes = stats.batch_stats.iter().map(|batch| (batch.batch_size, count(batch.compute_infer)));
    let sizes: Vec<(u64, u64)> = sizes.collect();
    assert!(sizes.iter().all(|(size, _)| (1..=4).contains(size)), "{sizes:?}");
    assert_eq!(sizes.iter().map(|(size, runs)| size * runs).sum::<u64>(), 16, "{sizes:?}");
    assert_eq!(sizes.iter().map(|(_, runs)| runs).sum::<u64>(), stats.execution_count, "{sizes:?}");
    assert!(stats.execution_count < 16, "ten rows of one request share runs: {sizes:?}");
    let graph = async |name| metric(endpoint, name, None).await;
    assert_eq!(graph("ev_batching_batch_rows_sum").await, 16.0);
    assert_eq!(
        (graph("ev_batching_rows_entered_total").await, graph("ev_batching_rows_left_total").await),
        (16.0, 16.0)
    );
    assert!(graph("ev_batching_queue_duration_seconds_total").await > 0.0);
    assert!(graph("ev_batching_inference_duration_seconds_total").await > 0.0);
    tokio::time::timeout(Duration::from_secs(60), server.stop()).await.expect("it ends");
}
