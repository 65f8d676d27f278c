//! Protobuf messages and services of evserve, generated from the `.proto` sources beside this crate.
//!
//! The module tree is the package tree: `ev.range.v1` is [`ev::range::v1`], the Open Inference Protocol is [`inference`].
//! Every field is documented in its `.proto`, with unit and range.
//!
//! Invariants: knows no other crate of the workspace; a field number, once shipped, is for ever.
//!
//! ```
//! use ev_proto::ev::range::v1::PredictRequest;
//!
//! let request = PredictRequest { make: "Tesla".into(), model: "Model 3".into(), ..Default::default() };
//! assert!(request.battery_capacity_kwh.is_none());
//! ```

#![allow(
    missing_docs,
    reason = "generated code carries the comments of the .proto files, which miss a few derived items"
)]
#![allow(clippy::all, clippy::cast_possible_truncation, unreachable_pub, reason = "generated code")]

/// Packages `ev.*`.
pub mod ev {
    /// `ev.common`.
    pub mod common {
        /// `ev.common.v1`.
        pub mod v1 {
            tonic::include_proto!("ev.common.v1");
        }
    }
    /// `ev.range`.
    pub mod range {
        /// `ev.range.v1`.
        pub mod v1 {
            tonic::include_proto!("ev.range.v1");
        }
    }
    /// `ev.charging`.
    pub mod charging {
        /// `ev.charging.v1`.
        pub mod v1 {
            tonic::include_proto!("ev.charging.v1");
        }
    }
    /// `ev.battery`.
    pub mod battery {
        /// `ev.battery.v1`.
        pub mod v1 {
            tonic::include_proto!("ev.battery.v1");
        }
    }
    /// `ev.thermal`.
    pub mod thermal {
        /// `ev.thermal.v1`.
        pub mod v1 {
            tonic::include_proto!("ev.thermal.v1");
        }
    }
    /// `ev.registry`.
    pub mod registry {
        /// `ev.registry.v1`.
        pub mod v1 {
            tonic::include_proto!("ev.registry.v1");
        }
    }
    /// `ev.telemetry`.
    pub mod telemetry {
        /// `ev.telemetry.v1`.
        pub mod v1 {
            tonic::include_proto!("ev.telemetry.v1");
        }
    }
    /// `ev.features`.
    pub mod features {
        /// `ev.features.v1`.
        pub mod v1 {
            tonic::include_proto!("ev.features.v1");
        }
    }
    /// `ev.outcomes`.
    pub mod outcomes {
        /// `ev.outcomes.v1`.
        pub mod v1 {
            tonic::include_proto!("ev.outcomes.v1");
        }
    }
    /// `ev.vision`.
    pub mod vision {
        /// `ev.vision.v1`.
        pub mod v1 {
            tonic::include_proto!("ev.vision.v1");
        }
    }
}

/// The Open Inference Protocol v2, package `inference`.
pub mod inference {
    tonic::include_proto!("inference");
}

/// The encoded `FileDescriptorSet` of everything above, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
