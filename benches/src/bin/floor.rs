//! The floor: `floor ADDRESS CORES` serves answers made of nothing, with the allocator and runtimes of `evserve`; `floor
//! ADDRESS CORES receiving` takes readings in as `evserve` does, and forgets them.

use anyhow::Context as _;
use ev_server::{
    Config,
    bench::{Floor, Receiving},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "expected ADDRESS and CORES, and perhaps `receiving`";
    let (address, cores) = (arguments.next().context(usage)?, arguments.next().context(usage)?);
    let is_receiving = arguments.next().is_some_and(|what| what == "receiving");
    let overrides = [("grpc.address".to_owned(), address), ("grpc.serving_cores".to_owned(), cores)];
    let config = Config::load(None, [], overrides)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        if is_receiving {
            let receiving = Receiving::start(&config).await?;
            tokio::signal::ctrl_c().await?;
            receiving.stop().await;
            return Ok(());
        }
        let floor = Floor::start(&config).await?;
        tokio::signal::ctrl_c().await?;
        floor.stop().await;
        Ok(())
    })
}
