//! `evctl models delete`, `pin` and `unpin`.

use clap::Args;
use ev_client::Client;

use crate::{exit::Exit, failure::Failure, json::Json, output::Output, style::BOLD};

/// One version by its number.
#[derive(Debug, Args)]
pub(crate) struct Numbered {
    /// Model name.
    name: String,
    /// Version number.
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    version: u32,
}

pub(crate) async fn delete(client: &Client, output: &Output, which: &Numbered) -> Result<Exit, Failure> {
    let Numbered { name, version } = which;
    let response = client.registry().delete_version(name, *version).await?;
    output.answer(&Json::new("ev.registry.v1.DeleteVersionResponse", &response), || {
        format!("{BOLD}{name} version {version}{BOLD:#} is deleted; its number is not given again")
    })?;
    Ok(Exit::Ok)
}

pub(crate) async fn pin(client: &Client, output: &Output, which: &Numbered, reason: &str) -> Result<Exit, Failure> {
    let Numbered { name, version } = which;
    let response = client.registry().pin_version(name, *version, reason).await?;
    output.answer(&Json::new("ev.registry.v1.PinVersionResponse", &response), || {
        let before = if response.changed { "" } else { ", as before" };
        format!("{BOLD}{name} version {version}{BOLD:#} is pinned{before}: nothing deletes it")
    })?;
    Ok(Exit::Ok)
}

pub(crate) async fn unpin(client: &Client, output: &Output, which: &Numbered) -> Result<Exit, Failure> {
    let Numbered { name, version } = which;
    let response = client.registry().unpin_version(name, *version).await?;
    output.answer(&Json::new("ev.registry.v1.UnpinVersionResponse", &response), || {
        let before = if response.changed { "no longer" } else { "not" };
        format!("{BOLD}{name} version {version}{BOLD:#} is {before} pinned")
    })?;
    Ok(Exit::Ok)
}
