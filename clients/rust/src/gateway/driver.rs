//! The task that holds the stream, and opens it again.

use std::{sync::Arc, time::Duration};

use ev_proto::ev::telemetry::v1::{
    Ack, Durability, Gaps, Open, Opened, Reject, RejectReason, StreamRequest, StreamResponse, stream_request,
    stream_response::Message,
};
use futures_util::stream;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tonic::Code;

use super::{GatewayError, GatewayEvent, Shared};
use crate::{CallError, Error, Replies};

/// Messages that wait for the connection: HTTP/2's own window is behind them.
const WAITING_MAX: usize = 16;
/// How long a server may take to end a stream that this side has ended.
const GOODBYE: Duration = Duration::from_secs(5);

/// Why a stream is over.
enum Over {
    /// All is said.
    Closed,
    Broken(Error),
}

/// A stream that is open.
struct Session<'a> {
    shared: &'a Shared,
    requests: mpsc::Sender<StreamRequest>,
    replies: Replies<StreamResponse>,
    /// Batches that may be sent.
    credit: u64,
    /// The last acknowledgement, or when there was nothing to acknowledge.
    heard: Instant,
    /// Something was acknowledged.
    is_useful: bool,
}

/// Holds streams, one after the other, until the gateway is closed or has ended.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut attempt: u32 = 0;
    loop {
        let error = match hold(&shared, &mut attempt).await {
            Over::Closed => return shared.end(GatewayError::Closed),
            Over::Broken(error) => Arc::new(error),
        };
        if is_final(&error) {
            return shared.end(GatewayError::Ended(error));
        }
        attempt = attempt.saturating_add(1);
        let delay = shared.config.reconnect.endless_delay(attempt, &error);
        shared.state().lost = Some(Arc::clone(&error));
        shared.tell(GatewayEvent::Lost { error, retry_in: delay });
        shared.progress.notify_waiters();
        tokio::select! {
            () = sleep(delay) => {}
            () = closing(&shared) => return shared.end(GatewayError::Closed),
        }
    }
}

/// Whether another stream would end in the same way.
fn is_final(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } => false,
        Error::Call(call) => match call.code {
            // Another gateway took this one's place: taking it back would be a game without end.
            Code::Aborted => call.reason == "SUPERSEDED",
            Code::ResourceExhausted => call.reason == "MESSAGE_TOO_LARGE",
            Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::Unimplemented
            | Code::OutOfRange => true,
            _ => false,
        },
        Error::InvalidEndpoint { .. } | Error::Upload(_) => true,
    }
}

/// Returns when the gateway is being closed.
async fn closing(shared: &Shared) {
    while !shared.state().closing {
        shared.work.notified().await;
    }
}

/// One stream, from its opening to its end.
async fn hold(shared: &Shared, attempt: &mut u32) -> Over {
    let opening = timeout(shared.config.client.deadline, Session::open(shared)).await;
    let mut session = match opening {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => return Over::Broken(error),
        Err(_) => return Over::Broken(Error::deadline(shared.config.client.deadline)),
    };
    let over = session.run().await;
    if session.is_useful {
        *attempt = 0;
    }
    over
}

fn request(message: stream_request::Message) -> StreamRequest {
    StreamRequest { message: Some(message) }
}

fn broken(message: &str) -> Error {
    Error::Call(Box::new(CallError::new(Code::Unavailable, message)))
}

// === impl Session ===

impl<'a> Session<'a> {
    async fn open(shared: &'a Shared) -> Result<Session<'a>, Error> {
        let (requests, mut receiver) = mpsc::channel(WAITING_MAX);
        let open = Open {
            gateway_id: shared.config.gateway_id.clone(),
            boot_id: shared.boot_id.clone(),
            signals: shared.config.signals().to_vec(),
            signal_naming: shared.config.naming.into(),
            last_acked: shared.state().outbox.last_acked(),
        };
        // There is room for the first message.
        let _ = requests.try_send(request(stream_request::Message::Open(open)));
        let sent = stream::poll_fn(move |context| receiver.poll_recv(context));
        let mut replies = shared.client.ingest().stream(sent).await?;
        let reply = replies.next().await?.ok_or_else(|| broken("the server ended the stream before opening it"))?;
        let Some(Message::Opened(opened)) = reply.message else {
            return Err(broken("the server's first message was not `opened`"));
        };
        let mut session = Session { shared, requests, replies, credit: 0, heard: Instant::now(), is_useful: false };
        session.opened(opened);
        Ok(session)
    }

    fn opened(&mut self, opened: Opened) {
        let Opened { next_expected, stream_id, credit, batch_readings_max } = opened;
        self.credit = u64::from(credit);
        let mut state = self.shared.state();
        state.outbox.open(&next_expected);
        state.batch_readings_max = Some(usize::try_from(batch_readings_max).unwrap_or(usize::MAX).max(1));
        state.lost = None;
        let kept_batches = state.outbox.len();
        drop(state);
        self.shared.tell(GatewayEvent::Opened { stream_id, kept_batches });
        self.shared.progress.notify_waiters();
    }

    async fn run(&mut self) -> Over {
        let requests = self.requests.clone();
        loop {
            let (has_next, is_waiting, is_closing) = {
                let mut state = self.shared.state();
                let has_next = state.outbox.has_next();
                (has_next, state.outbox.is_waiting(), state.closing && state.outbox.len() == 0 && !has_next)
            };
            if is_closing {
                return self.say_goodbye(requests).await;
            }
            if !is_waiting {
                self.heard = Instant::now();
            }
            let silent = tokio::time::sleep_until(self.heard + self.shared.config.ack_timeout);
            tokio::select! {
                // Acknowledgements first: they make room.
                biased;
                reply = self.replies.next() => match reply {
                    Ok(Some(reply)) => self.take(reply),
                    Ok(None) => return Over::Broken(broken("the server ended the stream")),
                    Err(error) => return Over::Broken(error),
                },
                permit = requests.reserve(), if has_next && self.credit > 0 => match permit {
                    Ok(permit) => self.send(permit),
                    // The connection is gone; the replies say why.
                    Err(_) => match self.replies.next().await {
                        Err(error) => return Over::Broken(error),
                        Ok(_) => return Over::Broken(broken("the server takes no more messages")),
                    },
                },
                () = self.shared.work.notified(), if !(has_next && self.credit > 0) => {}
                () = silent, if is_waiting => return Over::Broken(broken("no acknowledgement for too long")),
            }
        }
    }

    /// Ends this side, and waits for the other, so that the server sees an end and not a break.
    async fn say_goodbye(&mut self, requests: mpsc::Sender<StreamRequest>) -> Over {
        drop(requests);
        self.requests = mpsc::channel(1).0;
        let end = async { while let Ok(Some(_)) = self.replies.next().await {} };
        // It has everything: how it ends changes nothing.
        let _ = timeout(GOODBYE, end).await;
        Over::Closed
    }

    fn send(&mut self, permit: mpsc::Permit<'_, StreamRequest>) {
        if let Some(batch) = self.shared.state().outbox.next() {
            self.credit -= 1;
            permit.send(request(stream_request::Message::Batch(batch)));
        }
    }

    fn take(&mut self, reply: StreamResponse) {
        match reply.message {
            Some(Message::Ack(ack)) => self.acknowledged(&ack),
            Some(Message::Credit(credit)) => self.credit = self.credit.saturating_add(u64::from(credit.batches)),
            Some(Message::Reject(reject)) => self.rejected(reject),
            Some(Message::Gaps(gaps)) => {
                let Gaps { vehicle_id, ranges } = &gaps;
                let ranges = ranges.iter().map(|range| (range.first, range.last)).collect();
                self.shared.state().outbox.gaps(vehicle_id, ranges);
                self.shared.tell(GatewayEvent::Gaps(gaps));
            }
            Some(Message::RequestFullState(wanted)) => {
                self.shared.tell(GatewayEvent::FullStateRequested { vehicle_id: wanted.vehicle_id });
            }
            // A second `opened`, or something newer than this client.
            Some(Message::Opened(_)) | None => {}
        }
    }

    fn acknowledged(&mut self, ack: &Ack) {
        self.heard = Instant::now();
        self.is_useful = true;
        if matches!(ack.durability(), Durability::Durable | Durability::Applied) {
            self.shared.state().outbox.durable(&ack.vehicle_id, ack.sequence);
            self.shared.progress.notify_waiters();
        }
    }

    fn rejected(&mut self, reject: Reject) {
        if reject.sequence == 0 && reject.vehicle_id.is_empty() {
            return self.shared.tell(GatewayEvent::SignalRefused(reject));
        }
        // Of these the server does not count the number; everything else is acknowledged.
        let is_final = matches!(reject.reason(), RejectReason::ImplausibleSequence | RejectReason::VehicleNotAllowed);
        if is_final && reject.reading.is_none() {
            self.heard = Instant::now();
            self.shared.state().outbox.refused(&reject.vehicle_id, reject.sequence);
            self.shared.progress.notify_waiters();
        }
        self.shared.tell(GatewayEvent::Rejected(reject));
    }
}
