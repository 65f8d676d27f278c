//! The schedule is kept while a server stalls, and the server is charged for it.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use ev_client::proto::ev::range::v1::{
    PredictBatchRequest, PredictBatchResponse, PredictRequest, PredictResponse, PredictStreamRequest,
    PredictStreamResponse, predict_stream_response,
    range_prediction_server::{RangePrediction, RangePredictionServer},
};
use ev_loadtests::{Load, Pace, Scenario, Thresholds};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

const STALL: Duration = Duration::from_millis(300);

/// Answers at once, but for one request in whose place the whole server stands still.
struct Stalling {
    stalls_at: u32,
    requests: AtomicU32,
}

impl Stalling {
    fn answer(&self) -> PredictResponse {
        if self.requests.fetch_add(1, Ordering::Relaxed) == self.stalls_at {
            std::thread::sleep(STALL);
        }
        PredictResponse { range_q50_km: 400.0, ..PredictResponse::default() }
    }
}

#[async_trait::async_trait]
impl RangePrediction for Stalling {
    type PredictStreamStream = ReceiverStream<Result<PredictStreamResponse, Status>>;

    async fn predict(&self, _: Request<PredictRequest>) -> Result<Response<PredictResponse>, Status> {
        Ok(Response::new(self.answer()))
    }

    async fn predict_batch(&self, _: Request<PredictBatchRequest>) -> Result<Response<PredictBatchResponse>, Status> {
        Err(Status::unavailable("no batches today"))
    }

    async fn predict_stream(
        &self,
        request: Request<Streaming<PredictStreamRequest>>,
    ) -> Result<Response<Self::PredictStreamStream>, Status> {
        let mut requests = request.into_inner();
        let (sender, receiver) = mpsc::channel(64);
        let answer = self.answer();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let result = Some(predict_stream_response::Result::Response(answer.clone()));
                if sender.send(Ok(PredictStreamResponse { id: request.id, result })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// One thread serves, so that a stall holds up everybody.
fn start(stalls_at: u32) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("not blocking");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).expect("a listener"));
            let service = RangePredictionServer::new(Stalling { stalls_at, requests: AtomicU32::new(0) });
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await
        })
    });
    address
}

fn load(address: SocketAddr, scenario: Scenario) -> Load {
    Load {
        endpoint: address.to_string(),
        scenario,
        pace: Pace::Rate(500.0),
        connections: 2,
        warm_up: Duration::from_millis(100),
        duration: Duration::from_secs(1),
        ..Load::default()
    }
}

#[tokio::test]
async fn a_stall_delays_answers_and_not_the_schedule() {
    // Past the first requests and the warm-up.
    let report = ev_loadtests::run(&load(start(200), Scenario::Unary)).await.expect("it runs");
    assert_eq!((report.sent, report.answered), (500, 500));
    // All that was due during the stall waited, not one request alone: three in ten.
    assert!(report.latency_us.p90 > 100_000.0, "{report}");
    let thresholds = Thresholds { p99_max: Some(Duration::from_millis(100)), ..Thresholds::default() };
    assert_eq!(thresholds.broken(&report).len(), 1, "{report}");
}

#[tokio::test]
async fn of_two_servers_that_take_turns_each_is_charged_for_its_own_stall() {
    let load = load(start(u32::MAX), Scenario::Unary);
    // Past its first turn, which is warm-up, so that turns of both come while it stands still.
    let [steady, stalling] = ev_loadtests::run_beside(&load, &start(75).to_string()).await.expect("it runs");
    for report in [&steady, &stalling] {
        assert_eq!((report.sent, report.answered, report.pace), (250, 250, Pace::Rate(250.0)), "{report}");
    }
    assert!(stalling.latency_us.max >= 0.9 * STALL.as_secs_f64() * 1e6, "{stalling}");
    assert!(steady.latency_us.max < stalling.latency_us.max, "{steady}");

    let closed = Load { pace: Pace::InFlight(1), ..load };
    assert!(ev_loadtests::run_beside(&closed, "127.0.0.1:1").await.is_err());
}

#[tokio::test]
async fn streams_answer_every_request() {
    let report = ev_loadtests::run(&load(start(u32::MAX), Scenario::Stream)).await.expect("it runs");
    assert_eq!((report.sent, report.answered, report.failed), (500, 500, 0), "{report}");
}

#[tokio::test]
async fn errors_fail_the_test_and_are_told() {
    let report = ev_loadtests::run(&load(start(u32::MAX), Scenario::Batch(4))).await.expect("it runs");
    assert_eq!((report.answered, report.failed), (0, 500), "{report}");
    assert!(report.error.as_deref().is_some_and(|error| error.contains("no batches today")), "{report}");
    assert_eq!(Thresholds::default().broken(&report).len(), 1, "{report}");
}
