//! Rows in Redis: shared by replicas, and still there after a restart.

mod link;
mod put;
mod sentinel;
mod settings;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use ev_domain::VehicleId;
use redis::{Pipeline, Value};
use tokio::runtime::Handle;

pub use settings::RedisSettings;

use super::{Fetched, OnlineStore, Put, Write};
use crate::{FeatureRow, SettingsError, StoreError, ViewId, Views};
use link::Links;

/// Keeps rows in Redis, single, watched by sentinels, or Cluster, 6.0 or newer.
///
/// A vehicle's rows are strings under `prefix{vehicle}:view`: one slot of a cluster. Writes are one script each, which
/// compares, sets and tells other replicas in one round trip.
#[derive(Debug)]
pub struct RedisOnlineStore {
    views: Arc<Views>,
    settings: RedisSettings,
    links: Links,
}

// === impl RedisOnlineStore ===

impl RedisOnlineStore {
    /// A store that connects when it is first used. Its connections live on `runtime`, whoever calls.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] when a setting is out of its range. A server that cannot be reached is none.
    pub fn new(views: Arc<Views>, settings: RedisSettings, runtime: Handle) -> Result<RedisOnlineStore, SettingsError> {
        settings.check()?;
        let links = Links::new(settings.clone(), runtime)?;
        Ok(RedisOnlineStore { views, settings, links })
    }

    /// Whether the server answers.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when it does not, in time.
    pub async fn ping(&self) -> Result<(), StoreError> {
        // Of a cluster, whichever node has the key: it needs no more than to answer.
        let mut pipeline = Pipeline::new();
        pipeline.cmd("EXISTS").arg(format!("{}{{}}ping", self.settings.prefix));
        match self.links.ask(&pipeline).await?.first() {
            Some(Value::Int(_)) => Ok(()),
            answer => Err(unexpected(answer)),
        }
    }

    pub(super) fn views(&self) -> &Views {
        &self.views
    }

    /// How long a question may take.
    pub(super) fn deadline(&self) -> Duration {
        self.settings.deadline
    }

    /// Vehicles of which rows are written by others, as they are. Ends when the connection does.
    pub(super) async fn subscribe(&self) -> Result<link::Changes, StoreError> {
        self.links.subscribe(&self.channel(), &self.settings.replica).await
    }

    fn channel(&self) -> String {
        format!("{}changed", self.settings.prefix)
    }

    fn key(&self, vehicle: &VehicleId, view: ViewId) -> Vec<u8> {
        let view = self.views.view(view).map_or("", |view| &view.name);
        let mut key = format!("{}{{", self.settings.prefix).into_bytes();
        for byte in vehicle.as_str().bytes() {
            // A brace would end or move what the slot is made of.
            match byte {
                b'{' | b'}' | b'%' => key.extend_from_slice(format!("%{byte:02X}").as_bytes()),
                byte => key.push(byte),
            }
        }
        key.extend_from_slice(b"}:");
        key.extend_from_slice(view.as_bytes());
        key
    }

    /// How long a row is kept without being written; none of views that are written from outside.
    fn retention(&self, view: ViewId) -> Option<Duration> {
        let written = self.views.view(view).is_some_and(|view| view.written);
        (!written).then_some(self.settings.retention)
    }
}

#[async_trait]
impl OnlineStore for RedisOnlineStore {
    async fn get(&self, vehicle: &VehicleId, views: &[ViewId]) -> Result<Fetched, StoreError> {
        let mut fetched = Fetched { rows: Vec::with_capacity(views.len()), degraded: false, damaged: 0 };
        if views.is_empty() {
            return Ok(fetched);
        }
        let mut pipeline = Pipeline::with_capacity(views.len());
        for view in views {
            pipeline.cmd("GET").arg(self.key(vehicle, *view));
        }
        for answer in self.links.ask(&pipeline).await? {
            let row = match answer {
                Value::Nil => Some(None),
                Value::BulkString(bytes) => FeatureRow::decode(&bytes).ok().map(Some),
                Value::ServerError(error) if error.code() == "WRONGTYPE" => None,
                answer => return Err(unexpected(Some(&answer))),
            };
            fetched.damaged += u32::from(row.is_none());
            fetched.rows.push(row.flatten());
        }
        if fetched.rows.len() != views.len() {
            return Err(unexpected(None));
        }
        Ok(fetched)
    }

    async fn put(&self, vehicle: &VehicleId, writes: &[Write]) -> Result<Vec<Put>, StoreError> {
        put::put(self, vehicle, writes).await
    }
}

/// An answer that no Redis gives to what was asked, or an error of the server's: loading, read-only, not allowed.
fn unexpected(answer: Option<&Value>) -> StoreError {
    let problem = match answer {
        Some(Value::ServerError(error)) => format!("it answered {}", error.code()),
        _ => "it gave an answer of another kind".to_owned(),
    };
    StoreError::Unavailable { problem }
}
