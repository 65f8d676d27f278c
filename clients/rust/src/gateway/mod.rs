//! A gateway's stream of readings, which outlives its connections.

mod config;
mod driver;
mod error;
mod event;
mod outbox;
mod readings;

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use crate::{Client, Error};
use event::Events;
use outbox::Outbox;

pub use config::GatewayConfig;
pub use error::GatewayError;
pub use event::GatewayEvent;
pub use readings::{GatewaySignal, Readings};

/// Most characters of an id.
const ID_MAX_LENGTH: usize = 64;

/// A gateway's stream of readings to a server.
///
/// Batches are numbered for each vehicle and kept until the server says that they are durable. When the stream breaks
/// it is opened again, and what the server does not have is sent again: nothing is lost and nothing is stored twice,
/// however the server ends. What is kept is in memory: it goes with this process.
///
/// ```no_run
/// use std::time::SystemTime;
///
/// use ev_client::{Gateway, GatewayConfig, Readings};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = GatewayConfig::new("depot-1");
/// let speed = config.signal("Vehicle.Speed", "km/h");
/// let soc = config.signal("Vehicle.Powertrain.TractionBattery.StateOfCharge.Current", "percent");
///
/// let gateway = Gateway::connect("http://127.0.0.1:50052", config).await?;
/// let mut readings = Readings::new();
/// readings.push(SystemTime::now(), [(speed, 50.0), (soc, 80.5)]);
/// gateway.send("vehicle-1", readings).await?;
///
/// gateway.flush().await?;             // everything is on the server's disk
/// while let Some(event) = gateway.try_event() {
///     println!("{event:?}");          // such as values that were refused
/// }
/// gateway.close().await?;
/// # Ok(())
/// # }
/// ```
pub struct Gateway {
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
}

/// What the callers and the task that holds the stream share.
struct Shared {
    config: GatewayConfig,
    client: Client,
    boot_id: String,
    state: Mutex<State>,
    /// The driver has something to do.
    work: Notify,
    /// Something became durable, the stream was opened, or the gateway has ended.
    progress: Notify,
    /// There is an event, or the gateway has ended.
    event: Notify,
}

struct State {
    outbox: Outbox,
    events: Events,
    /// Most readings of a batch; none before the stream was open for the first time.
    batch_readings_max: Option<usize>,
    /// The last attempt to open a stream failed; none since it succeeded.
    lost: Option<Arc<Error>>,
    ended: Option<GatewayError>,
    closing: bool,
}

// === impl Gateway ===

impl Gateway {
    /// Opens a stream to a server's ingest address. The scheme may be left out: `127.0.0.1:50052`.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Ended`] when the server cannot be reached or does not want the gateway,
    /// [`GatewayError::Invalid`] for a gateway id that cannot be.
    pub async fn connect(endpoint: impl AsRef<str>, config: GatewayConfig) -> Result<Gateway, GatewayError> {
        let gateway = Gateway::lazy(endpoint, config)?;
        let shared = &gateway.shared;
        loop {
            let progress = shared.progress.notified();
            {
                let state = shared.state();
                if let Some(ended) = &state.ended {
                    return Err(ended.clone());
                }
                if let Some(error) = &state.lost {
                    return Err(GatewayError::Ended(Arc::clone(error)));
                }
                if state.batch_readings_max.is_some() {
                    break;
                }
            }
            progress.await;
        }
        Ok(gateway)
    }

    /// As [`Gateway::connect`], without waiting: batches are taken and kept, also while there is no server. Needs a
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Ended`] with [`Error::InvalidEndpoint`], [`GatewayError::Invalid`] for a gateway id that cannot
    /// be.
    pub fn lazy(endpoint: impl AsRef<str>, config: GatewayConfig) -> Result<Gateway, GatewayError> {
        check_id("gateway id", &config.gateway_id)?;
        let client = Client::lazy(endpoint, config.client.clone());
        let client = client.map_err(|error| GatewayError::Ended(Arc::new(error)))?;
        let state = State {
            outbox: Outbox::default(),
            events: Events::new(config.events_max),
            batch_readings_max: None,
            lost: None,
            ended: None,
            closing: false,
        };
        let shared = Arc::new(Shared {
            config,
            client,
            boot_id: boot_id(),
            state: Mutex::new(state),
            work: Notify::new(),
            progress: Notify::new(),
            event: Notify::new(),
        });
        let driver = tokio::spawn(driver::run(Arc::clone(&shared)));
        Ok(Gateway { shared, driver })
    }

    /// Takes a batch of a vehicle's readings, and numbers it; the number. Returns as soon as there is room: the batch
    /// is on its way, and not durable yet.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Full`] when there was no room within the timeout, [`GatewayError::Invalid`] for a vehicle id
    /// that cannot be, no readings or too many, [`GatewayError::Ended`], [`GatewayError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the batch was not taken in.
    pub async fn send(&self, vehicle: &str, readings: Readings) -> Result<u64, GatewayError> {
        let shared = &self.shared;
        check_id("vehicle id", vehicle)?;
        if readings.is_empty() {
            return Err(GatewayError::Invalid("a batch without readings".to_owned()));
        }
        let begin = Instant::now();
        let end = begin + shared.config.send_timeout;
        loop {
            let progress = shared.progress.notified();
            {
                let mut state = shared.state();
                state.check(vehicle, &readings, &shared.config)?;
                if state.has_room(&readings, &shared.config) {
                    let sequence = state.outbox.push(vehicle, readings);
                    drop(state);
                    shared.work.notify_one();
                    return Ok(sequence);
                }
            }
            if timeout_at(end, progress).await.is_err() {
                let batches = shared.state().outbox.len();
                return Err(GatewayError::Full { waited: begin.elapsed(), batches });
            }
        }
    }

    /// Waits until everything that was taken so far is durable, or was refused for good: for as long as it takes.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Ended`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn flush(&self) -> Result<(), GatewayError> {
        let end = self.shared.state().outbox.end();
        loop {
            let progress = self.shared.progress.notified();
            {
                let state = self.shared.state();
                if state.outbox.is_durable_to(end) {
                    return Ok(());
                }
                if let Some(ended) = &state.ended {
                    return Err(ended.clone());
                }
            }
            progress.await;
        }
    }

    /// Batches that are not durable yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.shared.state().outbox.len()
    }

    /// Readings that are not durable yet.
    #[must_use]
    pub fn pending_readings(&self) -> usize {
        self.shared.state().outbox.readings()
    }

    /// Gives up the next numbers of a vehicle's batches: for those that were lost before they could be sent. The server
    /// counts them as missing.
    ///
    /// # Errors
    ///
    /// As [`Gateway::send`], but for [`GatewayError::Full`].
    pub fn skip(&self, vehicle: &str, batches: u64) -> Result<(), GatewayError> {
        check_id("vehicle id", vehicle)?;
        let mut state = self.shared.state();
        state.check(vehicle, &Readings::new(), &self.shared.config)?;
        state.outbox.skip(vehicle, batches);
        Ok(())
    }

    /// Sends a batch once more, as a network that repeats messages would: to see that a server stores it once. Whether
    /// it still could: it is not durable yet.
    pub fn repeat(&self, vehicle: &str, sequence: u64) -> bool {
        let repeats = self.shared.state().outbox.repeat(vehicle, sequence);
        self.shared.work.notify_one();
        repeats
    }

    /// Most readings of a batch, once the server has said it.
    #[must_use]
    pub fn batch_readings_max(&self) -> Option<usize> {
        self.shared.state().batch_readings_max
    }

    /// This start of the gateway, as the server knows it: sequences begin at 1 with each.
    #[must_use]
    pub fn boot_id(&self) -> &str {
        &self.shared.boot_id
    }

    /// The next event; `None` when the gateway has ended and all were taken.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    pub async fn event(&self) -> Option<GatewayEvent> {
        loop {
            let event = self.shared.event.notified();
            {
                let mut state = self.shared.state();
                if let Some(event) = state.events.pop() {
                    return Some(event);
                }
                if state.ended.is_some() {
                    return None;
                }
            }
            event.await;
        }
    }

    /// The next event, if there is one.
    #[must_use]
    pub fn try_event(&self) -> Option<GatewayEvent> {
        self.shared.state().events.pop()
    }

    /// Waits until everything is durable, and ends the stream. Bound it with a timeout where there may be no server:
    /// dropping the future drops the gateway, and what is not durable is lost.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Ended`].
    pub async fn close(mut self) -> Result<(), GatewayError> {
        self.flush().await?;
        self.shared.state().closing = true;
        self.shared.work.notify_one();
        // A driver that panicked has nothing left to end.
        let _ = (&mut self.driver).await;
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("gateway_id", &self.shared.config.gateway_id)
            .field("endpoint", &self.shared.client.endpoint())
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: GatewayEvent) {
        self.state().events.push(event);
        self.event.notify_waiters();
    }

    /// Nothing is sent any more.
    fn end(&self, error: GatewayError) {
        self.state().ended = Some(error);
        self.progress.notify_waiters();
        self.event.notify_waiters();
    }
}

// === impl State ===

impl State {
    fn check(&self, vehicle: &str, readings: &Readings, config: &GatewayConfig) -> Result<(), GatewayError> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        if let Some(max) = self.batch_readings_max.filter(|max| readings.len() > *max) {
            let found = readings.len();
            return Err(GatewayError::Invalid(format!("a batch of {found} readings, expected at most {max}")));
        }
        let (found, max) = (readings.size_bytes(), config.batch_size_max_bytes);
        if found > max {
            // The server would end the stream, and again each time the batch is sent again.
            return Err(GatewayError::Invalid(format!("a batch of {found} bytes, expected at most {max}")));
        }
        let vehicles_max = config.vehicles_max;
        if !self.outbox.knows(vehicle) && self.outbox.vehicles() >= vehicles_max {
            let message = format!("vehicle `{vehicle}` is one more than the {vehicles_max} this gateway may have");
            return Err(GatewayError::Invalid(message));
        }
        Ok(())
    }

    /// A batch that is larger than the whole buffer goes alone.
    fn has_room(&self, readings: &Readings, config: &GatewayConfig) -> bool {
        let batches = self.outbox.len();
        let size_bytes = self.outbox.size_bytes().saturating_add(readings.size_bytes());
        batches == 0 || batches < config.batches_max && size_bytes <= config.buffer_size_max_bytes
    }
}

/// As the server checks ids.
fn check_id(what: &str, id: &str) -> Result<(), GatewayError> {
    if !id.is_empty() && id.len() <= ID_MAX_LENGTH && id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let id: String = id.chars().take(ID_MAX_LENGTH).collect();
    let expected = format!("expected 1 to {ID_MAX_LENGTH} printable ASCII characters without blanks");
    Err(GatewayError::Invalid(format!("`{id}` is not a {what}; {expected}")))
}

/// Different at every start: the time, and the random keys every hash map gets.
fn boot_id() -> String {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
    format!("{time:x}-{:016x}", RandomState::new().hash_one(time))
}
