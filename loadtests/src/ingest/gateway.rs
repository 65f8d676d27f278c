//! One gateway: sends within its credit, times the acknowledgements, and asks for the gap ledgers at the end.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use ev_client::{
    Client, Replies,
    proto::ev::telemetry::v1::{
        Ack, Durability, Gaps, Open, PublishRequest, SignalNaming, StreamRequest, StreamResponse, stream_request,
        stream_response::Message,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Connection, IngestLoad, IngestPace,
    batches::{self, Batches},
    delivery::Delivery,
    report::Counts,
};
use crate::{LoadError, driver::wait_until, report::Share};

/// Batches still waited for after the last one was sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages that wait for the connection; credit is a bound as well.
const WAITING_MAX: usize = 256;
/// Vehicles whose gap ledgers are asked for at once, each with a batch.
const ASKED_MAX: usize = 16;

/// When batches are due, and which count.
pub(super) struct Schedule {
    begin: Instant,
    counted_from: Instant,
    end: Instant,
    /// Of each gateway; none in a closed loop.
    batches_per_second: Option<f64>,
    connection: Connection,
}

/// A gateway whose stream is open.
pub(super) struct Gateway {
    client: Client,
    id: String,
    requests: mpsc::Sender<StreamRequest>,
    replies: Replies<StreamResponse>,
    delivery: Delivery,
    /// Of each vehicle, what is not received and what is not durable yet.
    waiting: Vec<Waiting>,
    in_flight: usize,
    credit: u64,
    counts: Counts,
}

/// What was sent of a vehicle, in that order.
#[derive(Default)]
struct Waiting {
    received: VecDeque<Waits>,
    durable: VecDeque<Waits>,
}

#[derive(Clone, Copy)]
struct Waits {
    sequence: u64,
    due: Instant,
    is_repeated: bool,
}

// === impl Schedule ===

impl Schedule {
    pub(super) fn new(load: &IngestLoad, begin: Instant) -> Schedule {
        let counted_from = begin + load.warm_up;
        let per_batch = Share((load.gateways * load.batch_readings) as u64).of(1.0);
        let batches_per_second = match load.pace {
            IngestPace::Rate(rate) => Some(rate / per_batch),
            IngestPace::Credit => None,
        };
        Schedule {
            begin,
            counted_from,
            end: counted_from + load.duration,
            batches_per_second,
            connection: load.connection,
        }
    }

    /// When a batch is due; in a closed loop that is when it can be sent.
    fn due(&self, batch: u64) -> Instant {
        match self.batches_per_second {
            Some(rate) => self.begin + Duration::from_secs_f64(Share(batch).of(rate)),
            None => Instant::now(),
        }
    }

    fn counts(&self, now: Instant) -> bool {
        now >= self.counted_from && now < self.end
    }
}

// === impl Gateway ===

impl Gateway {
    pub(super) async fn open(client: &Client, id: &str, index: usize, load: &IngestLoad) -> Result<Gateway, LoadError> {
        let (requests, receiver) = mpsc::channel(WAITING_MAX);
        let open = Open {
            gateway_id: id.to_owned(),
            boot_id: id.to_owned(),
            signals: batches::signals(),
            signal_naming: SignalNaming::Vss.into(),
            last_acked: Vec::new(),
        };
        // There is room for the first message.
        let _ = requests.try_send(StreamRequest { message: Some(stream_request::Message::Open(open)) });
        let replies = client.ingest().stream(ReceiverStream::new(receiver)).await;
        let mut replies = replies.map_err(LoadError::Unreachable)?;
        let first = replies.next().await.map_err(LoadError::Unreachable)?.and_then(|reply| reply.message);
        let Some(Message::Opened(opened)) = first else {
            return Err(LoadError::Invalid("the server's first message was not `opened`"));
        };
        if usize::try_from(opened.batch_readings_max).is_ok_and(|max| load.batch_readings > max) {
            return Err(LoadError::Invalid("a batch has more readings than the server takes"));
        }
        let batches = Batches::new(index, load.vehicles, load.batch_readings);
        Ok(Gateway {
            client: client.clone(),
            id: id.to_owned(),
            requests,
            replies,
            delivery: Delivery::new(batches, load.vehicles, load.connection),
            waiting: (0..load.vehicles).map(|_| Waiting::default()).collect(),
            in_flight: 0,
            credit: u64::from(opened.credit),
            counts: Counts::new(),
        })
    }

    /// Sends until the time is up, and waits for what was sent.
    pub(super) async fn run(mut self, schedule: Arc<Schedule>) -> Counts {
        let ended = match self.send_and_time(&schedule).await {
            Ok(()) if schedule.connection == Connection::Poor => self.check_ledgers().await,
            ended => ended,
        };
        if let Err(error) = ended {
            self.counts.error = Some(error);
        }
        self.counts
    }

    /// Asks with a batch of each vehicle which of those before it have not come.
    async fn check_ledgers(&mut self) -> Result<(), String> {
        let mut left = self.waiting.len();
        while left > 0 {
            let asked: Vec<_> = (0..left.min(ASKED_MAX)).map(|_| self.delivery.next_of_all()).collect();
            left -= asked.len();
            let request = PublishRequest {
                gateway_id: self.id.clone(),
                boot_id: self.id.clone(),
                signals: batches::signals(),
                signal_naming: SignalNaming::Vss.into(),
                batches: asked.iter().map(|sending| sending.batch.clone()).collect(),
                row_batches: Vec::new(),
            };
            let told = self.client.ingest().publish(request).await.map_err(|error| error.to_string())?;
            for sending in asked {
                let is_of = |gaps: &&Gaps| gaps.vehicle_id == sending.batch.vehicle_id;
                let gaps: Vec<&Gaps> = told.gaps.iter().filter(is_of).collect();
                self.counts.ledgers += 1;
                self.counts.wrong_ledgers += u64::from(!self.delivery.is_ledger(sending.place, &gaps));
            }
        }
        Ok(())
    }

    async fn send_and_time(&mut self, schedule: &Schedule) -> Result<(), String> {
        let requests = self.requests.clone();
        tokio::time::sleep_until(schedule.begin.into()).await;
        let patience = schedule.end + PATIENCE;
        let mut count = 0;
        loop {
            let due = schedule.due(count);
            let is_over = due >= schedule.end || Instant::now() >= patience;
            if is_over && self.in_flight == 0 {
                return Ok(());
            }
            tokio::select! {
                biased;
                reply = self.replies.next() => match reply {
                    Ok(Some(reply)) => self.take(reply, schedule),
                    Ok(None) => return Err("the server ended the stream".to_owned()),
                    Err(error) => return Err(error.to_string()),
                },
                permit = requests.reserve(), if !is_over && self.credit > 0 && due <= Instant::now() => {
                    let Ok(permit) = permit else { return Err("the server takes no more messages".to_owned()) };
                    permit.send(self.batch(due, schedule));
                    count += 1;
                }
                // Without credit only an acknowledgement helps, or the end of patience.
                () = tokio::time::sleep_until(patience.into()), if is_over || self.credit == 0 => {
                    if Instant::now() >= patience {
                        self.give_up(count, schedule);
                        return Ok(());
                    }
                }
                () = wait_until(due), if !is_over && self.credit > 0 && due > Instant::now() => {}
            }
        }
    }

    /// What was due and never sent is charged to the server, which gave no credit for it.
    fn give_up(&mut self, next: u64, schedule: &Schedule) {
        if schedule.batches_per_second.is_some() {
            let unsent = (next..).map(|batch| schedule.due(batch)).take_while(|due| *due < schedule.end);
            self.counts.sent += unsent.map(|due| u64::from(schedule.counts(due))).sum::<u64>();
        }
    }

    fn batch(&mut self, due: Instant, schedule: &Schedule) -> StreamRequest {
        let sending = self.delivery.next();
        let waits = Waits { sequence: sending.batch.sequence, due, is_repeated: sending.is_repeated };
        let waiting = &mut self.waiting[sending.place];
        waiting.received.push_back(waits);
        waiting.durable.push_back(waits);
        self.in_flight += 1;
        self.credit -= 1;
        if schedule.counts(due) {
            self.counts.sent += 1;
            self.counts.sent_in_time += u64::from(Instant::now() < schedule.end);
            self.counts.lag.saturating_record(ns(due.elapsed()));
        }
        StreamRequest { message: Some(stream_request::Message::Batch(sending.batch)) }
    }

    fn take(&mut self, reply: StreamResponse, schedule: &Schedule) {
        match reply.message {
            Some(Message::Ack(ack)) => self.acknowledged(&ack, schedule),
            Some(Message::Credit(credit)) => self.credit += u64::from(credit.batches),
            Some(Message::Reject(reject)) => {
                self.counts.rejected_readings += u64::from(reject.readings.max(1));
                let error = &mut self.counts.error;
                error.get_or_insert_with(|| format!("refused: {}", reject.message));
            }
            _ => {}
        }
    }

    fn acknowledged(&mut self, ack: &Ack, schedule: &Schedule) {
        let Some(waiting) = self.delivery.place_of(&ack.vehicle_id).and_then(|place| self.waiting.get_mut(place))
        else {
            return;
        };
        let now = Instant::now();
        let came = |waits: &Waits| u64::from(schedule.counts(now) && !waits.is_repeated);
        for waits in acknowledged(&mut waiting.received, ack.sequence) {
            self.counts.came_received += came(&waits);
            if schedule.counts(waits.due) {
                self.counts.received += 1;
                self.counts.received_latency.saturating_record(ns(now - waits.due));
            }
        }
        if !matches!(ack.durability(), Durability::Durable | Durability::Applied) {
            return;
        }
        for waits in acknowledged(&mut waiting.durable, ack.sequence) {
            self.in_flight -= 1;
            self.counts.came_durable += came(&waits);
            if schedule.counts(waits.due) {
                self.counts.durable += 1;
                self.counts.durable_latency.saturating_record(ns(now - waits.due));
            }
        }
    }
}

/// What an acknowledgement covers: the batch with its number and what was sent before it. A late one's covers no more than
/// that, and a higher one from before it was sent does not cover it.
fn acknowledged(waiting: &mut VecDeque<Waits>, sequence: u64) -> impl Iterator<Item = Waits> {
    let covered = waiting.iter().position(|waits| waits.sequence == sequence).map_or(0, |place| place + 1);
    waiting.drain(..covered)
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
