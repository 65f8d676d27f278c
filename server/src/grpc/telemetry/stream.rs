//! One gateway's stream: batches in, acknowledgements, rejects and credit out.

use std::{collections::BTreeMap, pin::pin, task::Poll, time::Duration};

use bytes::Bytes;
use ev_domain::{Naming, ReadingBatch, VehicleId};
use ev_proto::ev::telemetry::v1::{
    Credit, Durability, Opened as ProtoOpened, VehicleSequence, stream_request, stream_response::Message,
};
use ev_telemetry::{Admission, Event, Sequence, SequenceRange, Session, SubmitError};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{
    acks::Acks,
    answers::{Answers, Gone},
    conduct::Conduct,
    decode::{self, Declared, Decoded},
    encode,
    gateways::Place,
    ingest::{Inner, Opened, quarantine, unreadable},
    messages::Messages,
    wire::{self, BatchView},
};
use crate::{grpc::status, telemetry::now_us};

/// Messages that are read in one go, and values of them: then acknowledgements leave and other streams get a turn. So many
/// messages of one reading take some 120 us, and so many values 20.
const BURST: u32 = 128;
const BURST_VALUES: usize = 8_192;
/// Times that something was taken in, or became durable or applied, before it is told, where more comes without a pause: a
/// message of its own for each costs more than what it tells.
const UNTOLD_MAX: u32 = 8;
/// Batches in a row of which nothing can be taken, before each further one makes the stream pause: who sends nothing else
/// is told what is wrong a hundred times a second, and costs the others no more than that.
const SPOILED_MAX: u32 = 8;
const SPOILED_PAUSE: Duration = Duration::from_millis(10);

/// A gateway's stream after its opening.
pub(super) struct GatewayStream<'a> {
    inner: &'a Inner,
    conduct: &'a Conduct,
    session: Session,
    declared: Declared,
    naming: Naming,
    place: Place,
    messages: Messages,
    answers: &'a mut Answers,
    /// What it is told first.
    greeting: Vec<Message>,
    acks: Acks,
    /// Batches the gateway may still send, as it counts them.
    granted: u32,
    /// Whether more is read.
    reading: bool,
    /// Times that something happened which the gateway was not told of.
    untold: u32,
    /// Values that were read in this turn, and when it began.
    turn_values: usize,
    turn_us: i64,
    /// Batches in a row of which nothing could be taken.
    spoiled: u32,
    /// Nothing is read before.
    paused_until: Option<Instant>,
}

/// Why a stream ends before its gateway ends it.
type Ended = Result<(), Status>;

// === impl GatewayStream ===

impl<'a> GatewayStream<'a> {
    pub(super) fn new(
        inner: &'a Inner,
        conduct: &'a Conduct,
        opened: Opened,
        messages: Messages,
        answers: &'a mut Answers,
    ) -> GatewayStream<'a> {
        let Opened { session, declared, naming, last_acked, place } = opened;
        let granted = session.credit();
        let mut stream = GatewayStream {
            inner,
            conduct,
            session,
            declared,
            naming,
            place,
            messages,
            answers,
            greeting: Vec::new(),
            acks: Acks::default(),
            granted,
            reading: true,
            untold: 0,
            turn_values: 0,
            turn_us: 0,
            spoiled: 0,
            paused_until: None,
        };
        stream.greeting = stream.greeting_of(&last_acked);
        stream
    }

    /// Runs until the gateway has ended and everything is acknowledged, or something ends it before.
    pub(super) async fn run(mut self) -> Ended {
        for message in std::mem::take(&mut self.greeting) {
            self.send(message).await?;
        }
        self.deliver().await?;
        let (draining, superseded) = (self.inner.draining.clone(), self.place.superseded.clone());
        // Made once: to begin to wait for each anew is dearer than to take a batch in.
        let (mut draining, mut superseded) = (pin!(draining.cancelled()), pin!(superseded.cancelled()));
        let mut gone = pin!(self.answers.closed());
        let mut drained = false;
        loop {
            let (busy, mut is_turn_over) = (self.session.is_busy(), false);
            if !self.reading && !busy {
                self.flush().await?;
                return if drained { Err(status::draining()) } else { Ok(()) };
            }
            tokio::select! {
                biased;
                () = &mut superseded => return Err(status::superseded(self.session.source().gateway.as_str())),
                () = &mut draining, if !drained => {
                    (drained, self.reading) = (true, false);
                }
                event = self.session.next(), if busy => {
                    if let Some(event) = event {
                        self.note(event).await?;
                    }
                    while let Some(event) = self.session.try_next() {
                        self.note(event).await?;
                    }
                    self.untold += 1;
                }
                () = until(self.paused_until), if self.paused_until.is_some() => self.paused_until = None,
                message = self.messages.next(), if self.reading && self.paused_until.is_none() => {
                    is_turn_over = self.read(message).await?;
                    self.untold += 1;
                }
                () = &mut gone => return Ok(()),
                // Whoever is ready had a turn, and nothing more has come.
                () = tokio::task::yield_now(), if self.untold > 0 => self.untold = UNTOLD_MAX,
            }
            if is_turn_over || self.untold >= UNTOLD_MAX {
                self.untold = 0;
                self.flush().await?;
            }
            if is_turn_over {
                tokio::task::yield_now().await;
            }
        }
    }

    // --- the beginning

    /// What is known of the gateway's vehicles, and which of its signals cannot be taken.
    fn greeting_of(&self, last_acked: &BTreeMap<VehicleId, u64>) -> Vec<Message> {
        let source = self.session.source();
        let next_expected = last_acked.keys().map(|vehicle| VehicleSequence {
            vehicle_id: vehicle.as_str().to_owned(),
            sequence: self.session.sequence(vehicle).map_or(1, Sequence::next_expected),
        });
        let stream_id = format!("{}/{}/{:08x}", source.gateway, source.boot, fastrand::u32(..));
        tracing::debug!(stream_id, vehicles = last_acked.len(), "a gateway opened its stream");
        let mut first = vec![Message::Opened(ProtoOpened {
            next_expected: next_expected.collect(),
            stream_id,
            credit: self.granted,
            batch_readings_max: self.inner.batch_readings_max,
        })];
        for (vehicle, believed) in last_acked {
            let Some(sequence) = self.session.sequence(vehicle) else { continue };
            first.extend(encode::gaps(vehicle, sequence).map(Message::Gaps));
            // What the gateway takes for acknowledged it does not have any more.
            let is_lost = |gap: &SequenceRange| gap.first <= *believed;
            if sequence.highest() < *believed || sequence.gaps().iter().any(is_lost) {
                first.push(encode::full_state(vehicle));
            }
        }
        first.extend(self.declared.refused().map(|reject| Message::Reject(encode::reject("", 0, &reject))));
        first
    }

    // --- in

    /// Takes in a message, and those that are there already; whether there may be more, for which it is not its turn.
    async fn read(&mut self, first: Result<Option<Bytes>, Status>) -> Result<bool, Status> {
        let mut message = first;
        (self.turn_values, self.turn_us) = (0, now_us());
        for count in 1..=BURST {
            match message.map_err(|error| self.unreadable(error))? {
                Some(message) => self.take(message).await?,
                None => {
                    self.reading = false;
                    return Ok(false);
                }
            }
            if count == BURST || self.turn_values >= BURST_VALUES || self.paused_until.is_some() {
                break;
            }
            let ready = std::future::poll_fn(|cx| match self.messages.poll_next(cx) {
                Poll::Ready(message) => Poll::Ready(Some(message)),
                Poll::Pending => Poll::Ready(None),
            });
            match ready.await {
                Some(next) => message = next,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    async fn take(&mut self, message: Bytes) -> Ended {
        if let Some(batch) = BatchView::of(&message)
            && let Ok(decoded) = self.declared.decode_view(&self.inner.catalogue, &batch)
        {
            return self.submit(batch.vehicle_id, batch.sequence, decoded).await;
        }
        match wire::decoded(message).map_err(|error| self.unreadable(error))?.message {
            Some(stream_request::Message::Batch(mut batch)) => {
                let (vehicle_id, sequence) = (std::mem::take(&mut batch.vehicle_id), batch.sequence);
                let decoded = self.declared.decode(&self.inner.catalogue, batch);
                self.submit(&vehicle_id, sequence, decoded).await
            }
            Some(stream_request::Message::RowBatch(batch)) => {
                let decoded = decode::rows(&self.inner.catalogue, self.naming, &batch);
                self.submit(&batch.vehicle_id, batch.sequence, decoded).await
            }
            Some(stream_request::Message::Open(_)) => {
                Err(status::invalid("open", "OUT_OF_ORDER", "comes once, as the first message"))
            }
            None => Err(status::invalid("message", "MISSING_FIELD", "is missing, expected a batch")),
        }
    }

    async fn submit(&mut self, vehicle_id: &str, sequence: u64, decoded: Decoded) -> Ended {
        self.granted = self.granted.saturating_sub(1);
        let Decoded { readings, rejects } = decoded;
        let values: usize = readings.columns.iter().map(|column| column.values.len()).sum();
        self.turn_values += values + readings.len();
        let known = self.session.known(vehicle_id);
        let vehicle = match known.map_or_else(|| decode::vehicle(vehicle_id), Ok) {
            Ok(vehicle) => vehicle,
            Err(reject) => {
                self.judge(true);
                quarantine(self.inner, self.session.source(), None, sequence, std::slice::from_ref(&reject));
                return self.send(Message::Reject(encode::reject(vehicle_id, sequence, &reject))).await;
            }
        };
        quarantine(self.inner, self.session.source(), Some(&vehicle), sequence, &rejects);
        let batch = ReadingBatch { vehicle: vehicle.clone(), sequence, readings };
        // What has ended meanwhile is only seen by asking: it makes room for what is about to come.
        while let Some(event) = self.session.try_next() {
            self.note(event).await?;
        }
        let received = match self.session.submit(batch, self.turn_us).await {
            Ok(received) => received,
            Err(SubmitError::Rejected(reject)) => {
                self.judge(true);
                return self.send(Message::Reject(encode::reject(vehicle_id, sequence, &reject))).await;
            }
            Err(error @ SubmitError::OutOfCredit { .. }) => {
                return Err(status::out_of_credit(&error, self.conduct.offend(Instant::now().into_std())));
            }
            Err(error) => return Err(status::of_submit(&error)),
        };
        let is_rejected = !rejects.is_empty() || !received.rejects.is_empty();
        self.judge(is_rejected && (values == 0 || received.readings == 0));
        for reject in rejects.iter().chain(&received.rejects) {
            self.send(Message::Reject(encode::reject(vehicle_id, sequence, reject))).await?;
        }
        match received.admission {
            Admission::Duplicate => {}
            Admission::New | Admission::FillsGap => self.acks.add(&vehicle, sequence, Durability::Received),
        }
        let known = if received.skipped { self.session.sequence(&vehicle) } else { None };
        if let Some(gaps) = known.and_then(|known| encode::gaps(&vehicle, known)) {
            self.send(Message::Gaps(gaps)).await?;
            // A gateway sends in order: what it has skipped it does not have.
            self.send(encode::full_state(&vehicle)).await?;
        }
        Ok(())
    }

    /// A message that is too large or none at all; a break is nobody's fault.
    #[cold]
    fn unreadable(&self, error: Status) -> Status {
        if matches!(error.code(), Code::OutOfRange | Code::ResourceExhausted | Code::Internal) {
            self.conduct.offend(Instant::now().into_std());
        }
        unreadable(error)
    }

    /// Takes note of a batch, and whether nothing of it could be taken.
    fn judge(&mut self, is_spoiled: bool) {
        self.spoiled = if is_spoiled { self.spoiled.saturating_add(1) } else { 0 };
        if self.spoiled > SPOILED_MAX {
            self.paused_until = Some(Instant::now() + SPOILED_PAUSE);
        }
    }

    // --- out

    async fn note(&mut self, event: Event) -> Ended {
        match event {
            Event::Durable { vehicle, sequence, is_duplicate: true } => self.acks.add_duplicate(vehicle, sequence),
            Event::Durable { vehicle, sequence, is_duplicate: false } => {
                self.acks.add(&vehicle, sequence, Durability::Durable);
            }
            Event::Applied { vehicle, sequence } => self.acks.add(&vehicle, sequence, Durability::Applied),
            Event::Refused { vehicle, sequence, reject } => {
                self.send(Message::Reject(encode::reject(vehicle.as_str(), sequence, &reject))).await?;
            }
            Event::Failed { error, .. } => return Err(status::of_telemetry(&error)),
            _ => {}
        }
        Ok(())
    }

    /// Sends what is to be acknowledged, and credit that has come back.
    async fn flush(&mut self) -> Ended {
        self.acks.tell(self.answers);
        let back = self.session.credit().saturating_sub(self.granted);
        let all = self.session.window();
        // Not for every batch: a quarter of it, or all of it where nothing is on its way.
        if self.reading && back > 0 && (back >= all.div_ceil(4) || !self.session.is_busy()) {
            self.granted += back;
            self.answers.write(Message::Credit(Credit { batches: back }));
        }
        self.deliver().await
    }

    /// Writes a message; it leaves with the next that are told, or when there are many.
    async fn send(&mut self, message: Message) -> Ended {
        self.answers.write(message);
        if self.answers.is_full() { self.deliver().await } else { Ok(()) }
    }

    /// Sends what was written. Waits while the gateway does not read: it gets no credit meanwhile.
    async fn deliver(&mut self) -> Ended {
        self.session.announce();
        tokio::select! {
            biased;
            sent = self.answers.send() => sent.map_err(|Gone| Status::cancelled("the gateway is gone")),
            () = self.place.superseded.cancelled() => {
                Err(status::superseded(self.session.source().gateway.as_str()))
            }
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
