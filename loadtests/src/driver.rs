//! Sending on schedule, and waiting for what was sent.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ev_client::{
    Client, Config, OpenInference, RangePrediction, RetryPolicy, VehicleVision,
    proto::ev::{
        common::v1::ModelSelector,
        range::v1::{
            PredictRequest, PredictStreamRequest, PredictStreamResponse, predict_batch_result, predict_stream_response,
        },
        vision::v1::ClassifyRequest,
    },
    proto::inference::ModelInferRequest,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    Load, Pace, Picture, Report, Scenario, cars,
    recorder::{Answered, Recorder, Sample, answered},
};

/// Answers still waited for after the last request was sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// Closer than this to a request's time the sender spins: the timer is no finer than a millisecond.
const SPIN: Duration = Duration::from_millis(2);
/// How long it is a server's turn, where two take turns.
const TURN: Duration = Duration::from_millis(50);
/// Requests sent without a pause when the sender is late, before answers get a turn.
const BURST: u64 = 8;
/// Messages that wait for their turn on one stream.
const STREAM_QUEUE: usize = 4096;

/// The test could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The server cannot be reached, or does not answer the first request.
    #[error("the server does not answer")]
    Unreachable(#[source] ev_client::Error),
    /// A number that makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
}

/// A server that is asked.
struct Side {
    targets: Vec<Target>,
    recorder: Arc<Recorder>,
}

/// Where requests of a test go, one a connection or stream.
enum Target {
    Calls(Box<Caller>),
    Stream(mpsc::Sender<PredictStreamRequest>),
}

/// One connection's single calls.
#[derive(Clone)]
struct Caller {
    service: Service,
    picture: Picture,
}

#[derive(Clone)]
enum Service {
    Range(RangePrediction),
    Ranges(RangePrediction, usize),
    Vision(VehicleVision),
    Tensors(OpenInference),
}

/// Runs a load test.
///
/// # Errors
///
/// [`LoadError`] when it could not begin; what goes wrong later is part of the report.
pub async fn run(load: &Load) -> Result<Report, LoadError> {
    let recorder = run_on(load, Recorder::new).await?;
    Ok(recorder.report(load))
}

/// The same, with every answer in the order they came.
///
/// # Errors
///
/// As [`run`].
pub(crate) async fn run_keeping(load: &Load) -> Result<(Report, Vec<Sample>), LoadError> {
    let recorder = run_on(load, |load| Recorder::new(load).keeping()).await?;
    Ok((recorder.report(load), recorder.samples()))
}

/// Runs a load test on two servers in turns of 50 ms: what comes over the machine comes over both, and slow seconds of it
/// are not one server's. Each has all of the rate in its turns, and half of the time.
///
/// # Errors
///
/// As [`run`]; and when there is no rate.
pub async fn run_beside(load: &Load, other: &str) -> Result<[Report; 2], LoadError> {
    check(load)?;
    let Pace::Rate(rate) = load.pace else {
        return Err(LoadError::Invalid("servers that take turns are asked on a schedule: expected a rate"));
    };
    // What each is sent on the whole, and told of in its report.
    let half = Load { pace: Pace::Rate(rate / 2.0), ..load.clone() };
    let loads = [half.clone(), Load { endpoint: other.to_owned(), ..half }];
    let clients = [connect_all(&loads[0]).await?, connect_all(&loads[1]).await?];
    let origin = Instant::now();
    let mut tasks = JoinSet::new();
    let mut sides = Vec::with_capacity(loads.len());
    for (load, clients) in loads.iter().zip(&clients) {
        let recorder = Arc::new(Recorder::since(origin, load));
        let targets = open(load, clients, &recorder, &mut tasks).await?;
        sides.push(Side { targets, recorder });
    }
    send_on_schedule(load, rate, &sides).await;
    await_answers(&[&sides[0].recorder, &sides[1].recorder]).await;
    tasks.shutdown().await;
    Ok([0, 1].map(|side| sides[side].recorder.report(&loads[side])))
}

async fn run_on(load: &Load, recorder: impl FnOnce(&Load) -> Recorder) -> Result<Arc<Recorder>, LoadError> {
    check(load)?;
    let clients = connect_all(load).await?;
    let recorder = Arc::new(recorder(load));
    let mut tasks = JoinSet::new();
    match load.pace {
        Pace::Rate(rate) => {
            let targets = open(load, &clients, &recorder, &mut tasks).await?;
            let side = Side { targets, recorder: Arc::clone(&recorder) };
            send_on_schedule(load, rate, std::slice::from_ref(&side)).await;
        }
        Pace::InFlight(count) => send_on_answer(load, count, &clients, &recorder, &mut tasks).await?,
    }
    await_answers(&[&recorder]).await;
    tasks.shutdown().await;
    Ok(recorder)
}

/// Waits for what was sent, but not for ever.
async fn await_answers(recorders: &[&Arc<Recorder>]) {
    let patience = Instant::now() + PATIENCE;
    while recorders.iter().any(|recorder| recorder.in_flight() > 0) && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn check(load: &Load) -> Result<(), LoadError> {
    let positive = match load.pace {
        Pace::Rate(rate) => rate.is_finite() && rate > 0.0,
        Pace::InFlight(count) => count > 0,
    };
    if !positive || load.connections == 0 || load.streams == 0 || load.scenario.rows() == 0 {
        return Err(LoadError::Invalid("rate, connections, streams and rows must be above 0"));
    }
    Ok(())
}

async fn connect_all(load: &Load) -> Result<Vec<Client>, LoadError> {
    let mut clients = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        clients.push(connect(load).await?);
    }
    Ok(clients)
}

async fn connect(load: &Load) -> Result<Client, LoadError> {
    let config = Config { retry: RetryPolicy::never(), ..Config::default() };
    let client = Client::connect_with(&load.endpoint, config).await.map_err(LoadError::Unreachable)?;
    match load.scenario {
        // No picture: it may be refused where all is well, when the queue is full.
        Scenario::Photo | Scenario::Tensor => client.ping().await.map(|_| ()),
        Scenario::Unary | Scenario::Stream | Scenario::Batch(_) => {
            let first = cars().into_iter().next().unwrap_or_default();
            client.range().predict(first).await.map(|_| ())
        }
    }
    .map_err(LoadError::Unreachable)?;
    Ok(client)
}

async fn open(
    load: &Load,
    clients: &[Client],
    recorder: &Arc<Recorder>,
    tasks: &mut JoinSet<()>,
) -> Result<Vec<Target>, LoadError> {
    let mut targets = Vec::new();
    for client in clients {
        if load.scenario != Scenario::Stream {
            targets.push(Target::Calls(Box::new(Caller::new(load, client))));
            continue;
        }
        for _ in 0..load.streams {
            targets.push(Target::Stream(open_stream(client, recorder, tasks, |_| None).await?));
        }
    }
    Ok(targets)
}

/// Opens a stream whose answers are counted; `next` may send another request for each.
async fn open_stream(
    client: &Client,
    recorder: &Arc<Recorder>,
    tasks: &mut JoinSet<()>,
    next: impl Fn(u64) -> Option<PredictStreamRequest> + Send + 'static,
) -> Result<mpsc::Sender<PredictStreamRequest>, LoadError> {
    let (sender, receiver) = mpsc::channel(STREAM_QUEUE);
    let replies = client.range().predict_stream(ReceiverStream::new(receiver)).await;
    let mut replies = replies.map_err(LoadError::Unreachable)?;
    let (recorder, again) = (Arc::clone(recorder), sender.downgrade());
    tasks.spawn(async move {
        let mut answered = 0;
        loop {
            let reply = match replies.next().await {
                Ok(Some(reply)) => reply,
                Ok(None) => return,
                // What was in flight on it stays unanswered, and is reported as such.
                Err(error) => return eprintln!("a stream ended: {error}"),
            };
            recorder.answer(recorder.origin + Duration::from_nanos(reply.id), stream_result(&reply));
            answered += 1;
            if let (Some(request), Some(sender)) = (next(answered), again.upgrade())
                && sender.send(request).await.is_err()
            {
                return;
            }
        }
    });
    Ok(sender)
}

fn stream_result(reply: &PredictStreamResponse) -> Result<Answered, String> {
    match &reply.result {
        Some(predict_stream_response::Result::Response(response)) => answered(response),
        Some(predict_stream_response::Result::Error(error)) => Err(error.message.clone()),
        None => Err("an answer without a result".to_owned()),
    }
}

/// Sends each request when it is due, answered or not, to the server whose turn it is.
async fn send_on_schedule(load: &Load, rate: f64, sides: &[Side]) {
    let cars = cars();
    let end = load.warm_up + load.duration;
    for (count, car) in (0u64..).zip(cars.iter().cycle()) {
        let offset = Duration::from_secs_f64(crate::report::Share(count).of(rate));
        if offset >= end {
            return;
        }
        let of = |all: usize, turn: u128| usize::try_from(turn % all.max(1) as u128).unwrap_or(0);
        let Side { targets, recorder } = &sides[of(sides.len(), offset.as_nanos() / TURN.as_nanos())];
        let target = &targets[of(targets.len(), count.into())];
        let due = recorder.origin + offset;
        wait_until(due).await;
        if count % BURST == 0 {
            tokio::task::yield_now().await;
        }
        if recorder.send(due, load.in_flight_max) {
            send(target, car, due, recorder);
        }
    }
}

/// Waits until an instant, more finely than the timer does.
pub(crate) async fn wait_until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if left > SPIN {
            tokio::time::sleep(left - SPIN).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}

fn send(target: &Target, car: &PredictRequest, due: Instant, recorder: &Arc<Recorder>) {
    match target {
        Target::Calls(caller) => {
            let (caller, car, recorder) = (caller.clone(), car.clone(), Arc::clone(recorder));
            tokio::spawn(async move {
                let result = caller.call(car).await;
                recorder.answer(due, result);
            });
        }
        Target::Stream(sender) => {
            if sender.try_send(message(recorder, due, car.clone())).is_err() {
                recorder.answer(due, Err("the stream is full or has ended".to_owned()));
            }
        }
    }
}

fn message(recorder: &Recorder, due: Instant, car: PredictRequest) -> PredictStreamRequest {
    let id = u64::try_from((due - recorder.origin).as_nanos()).unwrap_or(u64::MAX);
    PredictStreamRequest { id, request: Some(car) }
}

/// Keeps `count` requests in flight on each stream until the time is up.
async fn send_on_answer(
    load: &Load,
    count: usize,
    clients: &[Client],
    recorder: &Arc<Recorder>,
    tasks: &mut JoinSet<()>,
) -> Result<(), LoadError> {
    let end = recorder.origin + load.warm_up + load.duration;
    let mut senders = Vec::new();
    for client in clients {
        for _ in 0..load.streams {
            if load.scenario == Scenario::Stream {
                senders.push(keep_streaming(client, count, end, recorder, tasks).await?);
            } else {
                (0..count).for_each(|first| keep_calling(load, client, first, end, recorder, tasks));
            }
        }
    }
    tokio::time::sleep_until(end.into()).await;
    Ok(())
}

async fn keep_streaming(
    client: &Client,
    count: usize,
    end: Instant,
    recorder: &Arc<Recorder>,
    tasks: &mut JoinSet<()>,
) -> Result<mpsc::Sender<PredictStreamRequest>, LoadError> {
    let (counting, cars) = (Arc::clone(recorder), cars());
    let request = move |turn: u64| {
        let due = Instant::now();
        let car = usize::try_from(turn).ok().and_then(|turn| cars.get(turn % cars.len()))?.clone();
        (due < end && counting.send(due, usize::MAX)).then(|| message(&counting, due, car))
    };
    let first: Vec<_> = (0u64..).take(count.min(STREAM_QUEUE)).filter_map(&request).collect();
    let sender = open_stream(client, recorder, tasks, request).await?;
    for message in first {
        // The queue holds them all.
        let _ = sender.try_send(message);
    }
    Ok(sender)
}

fn keep_calling(
    load: &Load,
    client: &Client,
    first: usize,
    end: Instant,
    recorder: &Arc<Recorder>,
    tasks: &mut JoinSet<()>,
) {
    let (caller, recorder) = (Caller::new(load, client), Arc::clone(recorder));
    tasks.spawn(async move {
        let cars = cars();
        for car in cars.iter().cycle().skip(first) {
            let due = Instant::now();
            if due >= end || !recorder.send(due, usize::MAX) {
                return;
            }
            let result = caller.call(car.clone()).await;
            recorder.answer(due, result);
        }
    });
}

// === impl Caller ===

impl Caller {
    fn new(load: &Load, client: &Client) -> Caller {
        let service = match load.scenario {
            Scenario::Unary | Scenario::Stream => Service::Range(client.range()),
            Scenario::Batch(rows) => Service::Ranges(client.range(), rows),
            Scenario::Photo => Service::Vision(client.vision()),
            Scenario::Tensor => Service::Tensors(client.open_inference()),
        };
        Caller { service, picture: load.picture.clone() }
    }

    /// Makes a call, and gives what the answer says of itself or what is wrong with it. Who asks for pictures ignores the
    /// car.
    async fn call(&self, car: PredictRequest) -> Result<Answered, String> {
        let text = |error: ev_client::Error| error.to_string();
        match &self.service {
            Service::Range(range) => answered(&range.predict(car).await.map_err(text)?),
            Service::Ranges(range, rows) => {
                let response = range.predict_batch(vec![car; *rows]).await.map_err(text)?;
                let found = response.results.iter().map(|row| match &row.result {
                    Some(predict_batch_result::Result::Response(response)) => answered(response),
                    _ => Err("a row of the batch has no answer".to_owned()),
                });
                // Where the time of a batch went is no row's to say.
                let last = found.collect::<Result<Vec<_>, _>>()?.pop().unwrap_or_default();
                match response.results.len() == *rows {
                    true => Ok(Answered { timings: None, ..last }),
                    false => Err("a row of the batch has no answer".to_owned()),
                }
            }
            Service::Vision(vision) => {
                let Picture { photo, model, .. } = &self.picture;
                let selector = ModelSelector { name: model.clone(), version_choice: None };
                let image = photo.clone();
                let request = ClassifyRequest { image, top_k: None, model_selector: Some(selector) };
                let response = vision.classify(request).await.map_err(text)?;
                if response.candidates.is_empty() {
                    return Err("the answer has no candidate".to_owned());
                }
                Ok(response.info.as_ref().map(Answered::of_row).unwrap_or_default())
            }
            Service::Tensors(inference) => {
                let response =
                    inference.model_infer(ModelInferRequest::clone(&self.picture.tensor)).await.map_err(text)?;
                match response.outputs.is_empty() {
                    true => Err("the answer has no output".to_owned()),
                    false => Ok(Answered { timings: None, version: response.model_version.parse().unwrap_or(0) }),
                }
            }
        }
    }
}
