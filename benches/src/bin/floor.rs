//! The floor: `floor ADDRESS CORES` serves answers made of nothing, with the allocator and runtimes of `evserve`.

use anyhow::Context as _;
use ev_server::{Config, bench::Floor};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "expected ADDRESS and CORES";
    let (address, cores) = (arguments.next().context(usage)?, arguments.next().context(usage)?);
    let overrides = [("grpc.address".to_owned(), address), ("grpc.serving_cores".to_owned(), cores)];
    let config = Config::load(None, [], overrides)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let floor = Floor::start(&config).await?;
        tokio::signal::ctrl_c().await?;
        floor.stop().await;
        Ok(())
    })
}
