//! Compiles the .proto sources without a `protoc` on the machine.

use std::{env, error::Error, fs, path::Path};

use prost::Message as _;

const SOURCES: &[&str] = &[
    "ev/common/v1/common.proto",
    "ev/range/v1/range.proto",
    "ev/charging/v1/charging.proto",
    "ev/battery/v1/battery.proto",
    "ev/thermal/v1/thermal.proto",
    "ev/registry/v1/comparison.proto",
    "ev/registry/v1/gates.proto",
    "ev/registry/v1/registry.proto",
    "ev/registry/v1/rollouts.proto",
    "ev/vision/v1/vision.proto",
    "ev/telemetry/v1/telemetry.proto",
    "ev/features/v1/features.proto",
    "ev/outcomes/v1/outcomes.proto",
    "inference/model_config.proto",
    "inference/grpc_service.proto",
];

#[expect(clippy::disallowed_methods, reason = "a build script has no fs_err")]
fn main() -> Result<(), Box<dyn Error>> {
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
    }
    let descriptors = protox::compile(SOURCES, ["."])?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".inference").bytes(".ev.vision").compile_fds(descriptors)?;
    Ok(())
}
