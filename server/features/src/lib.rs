//! Feature views, the aggregator that computes them from readings, and the online store they are read from.
//!
//! Invariants:
//!
//! - What readings give does not depend on the order in which they come, nor on how often, as long as none is later than
//!   [`AggregatorSettings::lateness`] allows; what is later is in no feature and is counted.
//! - A row is replaced by a newer one only. A feature that is older than its view's time to live is never [`Status::Fresh`].
//! - Memory is bounded: by vehicle, by number of vehicles, and of a store by bytes.
//! - Bytes from a store are checked before they mean anything; what is damaged is missing, and told.
//!
//! Not here: the wire, the clock and the choice of a model's features (times come in as arguments, [`Plan`]s are the
//! server's), what a stale or missing feature means for a prediction (the manifest says it), keeping readings.
//!
//! ```
//! use std::sync::Arc;
//!
//! use ev_domain::{Catalogue, Column, ReadingBatch, Readings, VehicleId, signals};
//! use ev_features::{Features, FeatureValue, MemoryOnlineStore, Plan, Status, Views};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let views = Arc::new(Views::bundled(&Catalogue::standard())?);
//! let store = Arc::new(MemoryOnlineStore::new(Default::default())?);
//! let features = Features::new(Arc::clone(&views), Default::default(), store)?;
//!
//! let vehicle = VehicleId::new("VIN-1")?;
//! let celsius = Column { signal: signals::CELL_TEMPERATURE_MAX, values: vec![31.0, 33.0].into() };
//! let readings = Readings { times_us: vec![1_000_000, 5_000_000], columns: vec![celsius] };
//! features.ingest(&ReadingBatch { vehicle: vehicle.clone(), sequence: 1, readings }, 5_000_000).await.store?;
//!
//! let plan = Plan::new(&views, &["cell_temperature_max_celsius", "cell_temperature_rate_celsius_per_s"], &[])?;
//! let read = features.read(&vehicle, &plan, 6_000_000).await?;
//! assert_eq!(read.features[0].value, Some(FeatureValue::Number(33.0)));
//! assert_eq!(read.features[1].value, Some(FeatureValue::Number(0.5)));
//! assert_eq!(read.features[1].status, Status::Fresh);
//! let later = features.read(&vehicle, &plan, 60_000_000).await?;
//! assert_eq!(later.features[0].status, Status::Stale);
//! # Ok(())
//! # }
//! ```

mod aggregate;
mod derive;
mod error;
mod features;
mod lru;
mod plan;
mod row;
mod store;
mod views;

pub use aggregate::{Aggregator, AggregatorSettings, Applied, Counts};
pub use error::{RowError, SettingsError, StoreError, UnknownFeature, ViewsError, WriteError};
pub use features::{FeatureReads, Features, Ingested};
pub use plan::{FeatureRead, Plan, Status, Wanted};
pub use row::{Cell, FeatureRow, RowBuilder, Version};
pub use store::{
    Condition, Fetched, MemoryOnlineStore, MemorySettings, MemoryUsage, OnlineStore, Put, RedisOnlineStore,
    RedisSettings, TieredOnlineStore, TieredStats, Write,
};
pub use views::{
    FEATURES_MAX, FeatureValue, OWN_TEXT_MAX_BYTES, SessionSettings, VIEWS_MAX, ValueKind, View, ViewFeature, ViewId,
    Views,
};
