//! Gateways that keep to nothing, to see that others are served beside them.

use std::{
    str::FromStr,
    time::{Duration, Instant},
};

use ev_client::{
    Client, Config, Replies, RetryPolicy,
    proto::ev::telemetry::v1::{
        Batch, Open, SignalNaming, StreamRequest, StreamResponse, stream_request, stream_response::Message,
    },
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;

use super::batches::{self, Batches};
use crate::LoadError;

/// Readings of a batch that no server takes: 36 bytes each, in a message of 14 MB.
const HUGE_READINGS: usize = 400_000;
/// Readings of the others' batches.
const READINGS: usize = 32;
/// Vehicles of each.
const VEHICLES: usize = 25;
/// How long one that was ended waits before it comes again: it has the same processor as those it is measured beside.
const AGAIN_AFTER: Duration = Duration::from_millis(10);
/// Streams that never read what they are told.
const DEAF: usize = 8;
/// How far ahead the wrong clock is.
const YEAR_SECONDS: i64 = 365 * 86_400;

/// How a gateway misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vice {
    /// Sends and never reads what it is told.
    Deaf,
    /// Sends without credit, and again when it was ended for it.
    Flood,
    /// Sends batches beyond every bound.
    Huge,
    /// Sends as fast as credit allows, of vehicles that nobody knows: ids that cannot be, and new ones without end.
    Forged,
    /// Sends as fast as credit allows, by a clock that is a year ahead.
    Clock,
}

/// Misbehaves until the time is up, in one way or in all at one time.
///
/// # Errors
///
/// [`LoadError`] when the server cannot be reached; what it says later is what it should say.
pub async fn run_hostile(endpoint: &str, vice: Option<Vice>, duration: Duration) -> Result<(), LoadError> {
    let end = Instant::now() + duration;
    let mut tasks = JoinSet::new();
    let vices =
        std::iter::repeat_n(Vice::Deaf, DEAF).chain([Vice::Flood, Vice::Flood, Vice::Huge, Vice::Forged, Vice::Clock]);
    for (index, vice) in vices.enumerate().filter(|(_, each)| vice.is_none_or(|vice| vice == *each)) {
        let config = Config { retry: RetryPolicy::never(), ..Config::default() };
        let client = Client::connect_with(endpoint, config).await.map_err(LoadError::Unreachable)?;
        tasks.spawn(async move { vice.live(&client, index, end).await });
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

// === impl Vice ===

impl FromStr for Vice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Vice, &'static str> {
        match text {
            "deaf" => Ok(Vice::Deaf),
            "flood" => Ok(Vice::Flood),
            "huge" => Ok(Vice::Huge),
            "forged" => Ok(Vice::Forged),
            "clock" => Ok(Vice::Clock),
            _ => Err("expected deaf, flood, huge, forged or clock"),
        }
    }
}

impl Vice {
    async fn live(self, client: &Client, index: usize, end: Instant) {
        let readings = if self == Vice::Huge { HUGE_READINGS } else { READINGS };
        let mut batches = Batches::new(index, VEHICLES, readings);
        for stream in 0.. {
            if Instant::now() >= end {
                return;
            }
            let id = format!("hostile-{index}-{}-{stream}", std::process::id());
            let lives = self.stream(client, &id, &mut batches);
            // What it is told at its end changes nothing.
            let _ = tokio::time::timeout_at(end.into(), lives).await;
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// One stream, until the server ends it.
    async fn stream(self, client: &Client, id: &str, batches: &mut Batches) {
        let (requests, receiver) = mpsc::channel(16);
        let open = Open {
            gateway_id: id.to_owned(),
            boot_id: id.to_owned(),
            signals: batches::signals(),
            signal_naming: SignalNaming::Vss.into(),
            last_acked: Vec::new(),
        };
        let _ = requests.try_send(StreamRequest { message: Some(stream_request::Message::Open(open)) });
        let Ok(mut replies) = client.ingest().stream(ReceiverStream::new(receiver)).await else { return };
        if matches!(self, Vice::Forged | Vice::Clock) {
            return self.lie(&requests, &mut replies, batches).await;
        }
        let sending = async {
            loop {
                let message = Some(stream_request::Message::Batch(batches.next().1));
                if requests.send(StreamRequest { message }).await.is_err() {
                    return;
                }
            }
        };
        if self == Vice::Deaf {
            return sending.await;
        }
        tokio::select! {
            () = sending => {}
            () = async { while let Ok(Some(_)) = replies.next().await {} } => {}
        }
    }

    /// Keeps to the credit, and sends nothing that is true.
    async fn lie(
        self,
        requests: &mpsc::Sender<StreamRequest>,
        replies: &mut Replies<StreamResponse>,
        batches: &mut Batches,
    ) {
        let mut credit = 0;
        loop {
            let Ok(Some(reply)) = replies.next().await else { return };
            match reply.message {
                Some(Message::Opened(opened)) => credit = opened.credit,
                Some(Message::Credit(more)) => credit += more.batches,
                _ => {}
            }
            while credit > 0 {
                credit -= 1;
                let message = Some(stream_request::Message::Batch(self.lying(batches.next().1)));
                if requests.send(StreamRequest { message }).await.is_err() {
                    return;
                }
            }
        }
    }

    fn lying(self, mut batch: Batch) -> Batch {
        if self == Vice::Clock {
            batch.first_time.iter_mut().for_each(|time| time.seconds += YEAR_SECONDS);
            return batch;
        }
        batch.vehicle_id = match batch.sequence % 2 {
            0 => format!("no id at all {}", batch.sequence),
            _ => format!("forged-{}-{}-{}", batch.vehicle_id, std::process::id(), batch.sequence),
        };
        batch.sequence = 1;
        batch
    }
}
