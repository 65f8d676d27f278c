//! What a gateway sends, and its bounds.

use std::time::Duration;

use ev_proto::ev::telemetry::v1::{SignalDeclaration, SignalNaming};

use super::GatewaySignal;
use crate::{Config, RetryPolicy};

/// What a gateway sends, and its bounds.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// The gateway: 1 to 64 printable ASCII characters without blanks. A second stream of the same id ends the first.
    pub gateway_id: String,
    /// Whose names the signals have. VSS paths.
    pub naming: SignalNaming,
    /// Most batches that are kept because they are not durable yet; a further one waits. 4096.
    pub batches_max: usize,
    /// Most memory that they take, in bytes. 64 MiB.
    pub buffer_size_max_bytes: usize,
    /// Largest batch, in bytes of its values and times: a server takes messages of 4 MiB unless configured otherwise.
    /// 3 MiB.
    pub batch_size_max_bytes: usize,
    /// Most vehicles: of each a number is kept for as long as the gateway lives. 100,000.
    pub vehicles_max: usize,
    /// Longest time that a batch waits for room. 30 s.
    pub send_timeout: Duration,
    /// Longest time without an acknowledgement while some are waited for; then the stream is opened again. 30 s.
    pub ack_timeout: Duration,
    /// Most events that wait to be taken; beyond it the oldest are dropped, and counted. 1024.
    pub events_max: usize,
    /// How long to wait before the stream is opened again: as for calls, but for `attempts_max`, which does not apply.
    /// From 100 ms to 10 s.
    pub reconnect: RetryPolicy,
    /// Bounds of the connection; its `deadline` is for opening a stream.
    pub client: Config,
    signals: Vec<SignalDeclaration>,
}

// === impl GatewayConfig ===

impl GatewayConfig {
    /// A gateway without signals.
    pub fn new(gateway_id: impl Into<String>) -> GatewayConfig {
        GatewayConfig {
            gateway_id: gateway_id.into(),
            naming: SignalNaming::Vss,
            batches_max: 4096,
            buffer_size_max_bytes: 64 << 20,
            batch_size_max_bytes: 3 << 20,
            vehicles_max: 100_000,
            send_timeout: Duration::from_secs(30),
            ack_timeout: Duration::from_secs(30),
            events_max: 1024,
            reconnect: RetryPolicy {
                attempts_max: u32::MAX,
                delay_min: Duration::from_millis(100),
                delay_max: Duration::from_secs(10),
            },
            client: Config::default(),
            signals: Vec::new(),
        }
    }

    /// Declares a signal with the unit its values come in, such as `km/h` or `mi`; an empty one is the catalogue's, or
    /// the one usual with the naming. The 65,537th and further ones are declared in vain: the server counts to 65,535.
    pub fn signal(&mut self, name: impl Into<String>, unit: impl Into<String>) -> GatewaySignal {
        let id = u16::try_from(self.signals.len()).unwrap_or(u16::MAX);
        self.signals.push(SignalDeclaration { id: u32::from(id), name: name.into(), unit: unit.into() });
        GatewaySignal(id)
    }

    pub(crate) fn signals(&self) -> &[SignalDeclaration] {
        &self.signals
    }
}
