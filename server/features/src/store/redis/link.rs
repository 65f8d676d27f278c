//! Connections: made when they are needed, dropped when they fail.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ev_domain::VehicleId;
use futures_util::StreamExt;
use redis::{
    AsyncConnectionConfig, Client, Pipeline, RedisError, RedisResult, TlsCertificates, Value,
    aio::{ConnectionLike, MultiplexedConnection, PubSubSink, PubSubStream},
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
};
use tokio::{runtime::Handle, time::timeout};

use super::{RedisSettings, sentinel::Sentinels};
use crate::{SettingsError, StoreError};

/// How often a subscription is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_millis(250);

/// The way to one server or cluster.
pub(super) struct Links {
    settings: RedisSettings,
    /// One for each URL; subscriptions and single servers use them.
    clients: Vec<Client>,
    cluster: Option<ClusterClient>,
    /// Who know which server is the master; the URLs are theirs then.
    sentinels: Option<Sentinels>,
    /// Where connections live: the runtime of a caller may be one that serves requests.
    runtime: Handle,
    current: Mutex<Current>,
    /// Held by whoever connects.
    connecting: tokio::sync::Mutex<()>,
    /// Which URL the next subscription goes to.
    turn: AtomicUsize,
}

#[derive(Default)]
struct Current {
    link: Option<Link>,
    /// Counts connections, so that whoever saw an old one fail does not drop its successor.
    number: u64,
}

#[derive(Clone)]
enum Link {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Vehicles that others write.
pub(in crate::store) struct Changes {
    sink: PubSubSink,
    stream: PubSubStream,
    replica: String,
    deadline: Duration,
}

// === impl Links ===

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

impl Links {
    pub(super) fn new(settings: RedisSettings, runtime: Handle) -> Result<Links, SettingsError> {
        let refuse = |error: RedisError| SettingsError { setting: "urls", problem: format!("cannot be used: {error}") };
        if settings.urls.iter().any(|url| url.starts_with("rediss:") || url.starts_with("valkeys:")) {
            // The process may have chosen another one before: that is fine too.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let certificates = || {
            let root_cert = settings.tls_root_certificates.clone();
            TlsCertificates { client_tls: None, root_cert }
        };
        let client = |url: &String| match settings.tls_root_certificates {
            Some(_) => Client::build_with_tls(url.as_str(), certificates()),
            None => Client::open(url.as_str()),
        };
        let clients = settings.urls.iter().map(client).collect::<RedisResult<Vec<_>>>().map_err(refuse)?;
        let cluster = if settings.cluster {
            let mut builder = ClusterClientBuilder::new(settings.urls.iter().map(String::as_str))
                .connection_timeout(settings.connect_deadline)
                .response_timeout(settings.deadline)
                .retries(1);
            if settings.tls_root_certificates.is_some() {
                builder = builder.certs(certificates());
            }
            Some(builder.build().map_err(refuse)?)
        } else {
            None
        };
        let sentinels = settings.sentinel.as_ref().map(|master| Sentinels::new(master, &settings, certificates));
        let sentinels = sentinels.transpose().map_err(refuse)?;
        Ok(Links {
            clients,
            cluster,
            sentinels,
            settings,
            runtime,
            current: Mutex::default(),
            turn: AtomicUsize::new(0),
            connecting: tokio::sync::Mutex::default(),
        })
    }

    /// Asks, and gives the answers, errors of single commands among them. Whatever goes wrong with the connection drops
    /// it, and the next question makes another.
    pub(super) async fn ask(&self, pipeline: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let (mut link, number) = self.link().await?;
        let problem = match timeout(self.settings.deadline, link.ask(pipeline)).await {
            Ok(Ok(answers)) if !answers.iter().any(is_read_only) => return Ok(answers),
            Ok(Ok(_)) => "it is read-only, another one may be the master now".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer in {:?}", self.settings.deadline),
        };
        let mut current = self.current();
        if current.number == number {
            current.link = None;
        }
        drop(current);
        Err(StoreError::Unavailable { problem })
    }

    /// Listens to a channel, at one node of a cluster: what is published at any of them is heard at all.
    pub(super) async fn subscribe(&self, channel: &str, replica: &str) -> Result<Changes, StoreError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let client = self.clients[turn % self.clients.len()].clone();
        let (channel, sentinels) = (channel.to_owned(), self.sentinels.clone());
        let connect = async move {
            let client = match sentinels {
                Some(sentinels) => sentinels.master().await?,
                None => client,
            };
            let (mut sink, stream) = client.get_async_pubsub().await?.split();
            sink.subscribe(channel).await?;
            Ok((sink, stream))
        };
        let (sink, stream) = self.on_runtime(connect).await?;
        Ok(Changes { sink, stream, replica: replica.to_owned(), deadline: self.settings.deadline })
    }

    async fn link(&self) -> Result<(Link, u64), StoreError> {
        if let Some(found) = self.current().found() {
            return Ok(found);
        }
        // Behind one that takes long to connect, others do not queue up to do the same one after the other.
        let Ok(_connecting) = timeout(self.settings.deadline, self.connecting.lock()).await else {
            return Err(StoreError::Unavailable { problem: "it is being connected to".to_owned() });
        };
        if let Some(found) = self.current().found() {
            return Ok(found);
        }
        let link = self.connect().await?;
        let mut current = self.current();
        current.link = Some(link.clone());
        current.number += 1;
        Ok((link, current.number))
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<Link, StoreError> {
        if let Some(cluster) = self.cluster.clone() {
            return self.on_runtime(async move { Ok(Link::Cluster(cluster.get_async_connection().await?)) }).await;
        }
        let (client, sentinels) = (self.clients[0].clone(), self.sentinels.clone());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.settings.connect_deadline))
            .set_response_timeout(Some(self.settings.deadline));
        let connect = async move {
            let client = match sentinels {
                Some(sentinels) => sentinels.master().await?,
                None => client,
            };
            Ok(Link::Single(client.get_multiplexed_async_connection_with_config(&config).await?))
        };
        self.on_runtime(connect).await
    }

    async fn on_runtime<T: Send + 'static>(
        &self,
        connect: impl Future<Output = RedisResult<T>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let deadline = self.settings.connect_deadline;
        let problem = match self.runtime.spawn(timeout(deadline, connect)).await {
            Ok(Ok(Ok(made))) => return Ok(made),
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(_)) => format!("no connection in {deadline:?}"),
            Err(_) => return Err(StoreError::ShuttingDown),
        };
        Err(StoreError::Unavailable { problem })
    }
}

/// The answer of a server that was the master when it was connected to.
fn is_read_only(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "READONLY")
}

// === impl Current ===

impl Current {
    fn found(&self) -> Option<(Link, u64)> {
        self.link.clone().map(|link| (link, self.number))
    }
}

// === impl Link ===

impl Link {
    async fn ask(&mut self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        match self {
            Link::Single(link) => link.req_packed_commands(pipeline, 0, pipeline.len()).await,
            Link::Cluster(link) => link.req_packed_commands(pipeline, 0, pipeline.len()).await,
        }
    }
}

// === impl Changes ===

impl Changes {
    /// The next vehicle that another replica wrote; none when the connection has ended, or stopped answering.
    pub(in crate::store) async fn next(&mut self) -> Option<VehicleId> {
        loop {
            let Ok(message) = timeout(PING_INTERVAL, self.stream.next()).await else {
                match timeout(self.deadline, self.sink.ping::<Value>()).await {
                    Ok(Ok(_)) => continue,
                    _ => return None,
                }
            };
            let payload = message?.get_payload_bytes().to_vec();
            let text = String::from_utf8(payload).unwrap_or_default();
            // Of other words on the channel, and of our own, nothing follows.
            if let Some((replica, vehicle)) = text.split_once(' ')
                && replica != self.replica
                && let Ok(vehicle) = VehicleId::new(vehicle)
            {
                return Some(vehicle);
            }
        }
    }
}
