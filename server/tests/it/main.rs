//! The server from outside: started for real on ports of the system's choice, called by the real client.
//!
//! The packages the product is built on, and the tests that exercise each through the product:
//!
//! | package | exercised by |
//! |---|---|
//! | tonic | every module here; the wire itself in `wire` |
//! | prost | `typed`, and `wire` for bytes that are no message |
//! | tokio | every module here; runtimes and signals in `drain`, `start` |
//! | tonic-web | `web`, `web_bounds` |
//! | tower (`ReasonLayer`, `DeadlineLayer`, `TraceLayer`) | `wire`, `deadline`, `traces`, and the unit tests of `server/src/grpc/deadline.rs` |
//! | sqlx | `registry`, `registry_events`, `registry_postgres`, `start`, `telemetry_crash`, `telemetry_postgres`, and the suites in `registry/tests` and `server/telemetry/tests` |
//! | opentelemetry | `traces` |
//! | tonic-health | `health`, `start`, `drain` |
//! | tonic-reflection | `health` |
//! | xgboost-rs | `xgboost`, where that feature is built, and the tests of `models/xgboost` |
//! | ort | `ort`, and the tests of `models/ort` |
//! | candle-core | `candle`, the tests of `models/candle`, and both engines together in `models/tests` |
//! | redis | `features_redis`, `by_vehicle_redis`, and its own suites in `server/features/tests` |
//! | object_store | `registry_s3`, and the suite of artifact stores in `registry/tests` |
//! | parquet | `outcomes`, and the tests of `server/outcomes` |
//! | ev-images | `vision`, and its own suites in `server/images/tests` |
//! | ev-batching | `queued`, and its own suites in `server/batching/tests` |
//! | the native forest | `typed`, bit for bit in `models/forest/tests` and `server/src/pipeline/tests.rs` |
//!
//! `architecture.rs` beside this checks who may depend on whom; panics of a backend need a backend that panics,
//! and are tested in `server/src/pipeline/tests.rs`.

#[path = "../support/mod.rs"]
mod support;

mod alerts;
mod alerts_restart;
mod bad_input;
mod by_vehicle;
mod by_vehicle_redis;
mod candle;
mod comparison;
mod deadline;
mod drain;
mod features;
mod features_redis;
mod full_disk;
mod gates;
mod golden_gate;
mod health;
mod metrics;
mod ort;
mod outcomes;
mod queued;
mod registry;
mod registry_events;
mod registry_misuse;
mod registry_postgres;
mod registry_processes;
mod registry_refusals;
mod registry_resume;
mod registry_s3;
mod replicas;
mod rollouts;
mod rollouts_outcomes;
mod selector;
mod signing;
mod start;
mod start_refusals;
mod streams;
mod swaps;
mod telemetry;
mod telemetry_crash;
mod telemetry_ledger;
mod telemetry_postgres;
mod traces;
mod typed;
mod typed_battery;
mod typed_thermal;
mod version_policies;
mod vision;
mod web;
mod web_bounds;
mod wire;
#[cfg(feature = "xgboost")]
mod xgboost;
