//! What reads and writes of Redis cost: `cargo run --release -p ev-features --example redis -- redis://127.0.0.1:6379`.
//!
//! The floor is the same question as one bare command on the same kind of connection. It writes keys of its own prefix.

use std::{sync::Arc, time::Instant};

use ev_domain::{Catalogue, Value, VehicleId};
use ev_features::{
    Cell, Condition, MemorySettings, OnlineStore, RedisOnlineStore, RedisSettings, RowBuilder, TieredOnlineStore,
    Version, ViewId, Views, Write,
};
use tokio::runtime::Handle;

type Failure = Box<dyn std::error::Error>;

const ROUNDS: u32 = 20_000;
const VEHICLES: u32 = 1000;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).ok_or("give the URL of a server")?;
    let views = Arc::new(Views::bundled(&Catalogue::standard())?);
    let ids: Vec<ViewId> = views.iter().map(|(id, _)| id).collect();
    let settings = RedisSettings { prefix: "evserve:measure:".to_owned(), ..RedisSettings::single(url, "measure") };
    let redis = RedisOnlineStore::new(Arc::clone(&views), settings.clone(), Handle::current())?;
    println!("{} views; microseconds", ids.len());
    println!("| what | p50 | p99 |\n|---|---:|---:|");

    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        redis.ping().await?;
        took.push(start.elapsed());
    }
    tell("floor: one bare command", took);
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let writes: Vec<Write> = ids.iter().map(|id| write(&views, *id, round)).collect();
        let start = Instant::now();
        redis.put(&vehicle(round)?, &writes).await?;
        took.push(start.elapsed());
    }
    tell("write all views of a vehicle", took);
    tell("read all views of a vehicle", reads(&redis, &ids).await?);

    let tiered = TieredOnlineStore::start(MemorySettings::default(), redis, &Handle::current())?;
    while !tiered.stats().is_listening {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    tell("tiered, not in memory", reads(&tiered, &ids).await?.into_iter().take(VEHICLES as usize).collect());
    tell("tiered, in memory", reads(&tiered, &ids).await?);
    Ok(())
}

async fn reads(store: &dyn OnlineStore, ids: &[ViewId]) -> Result<Vec<std::time::Duration>, Failure> {
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let vehicle = vehicle(round)?;
        let start = Instant::now();
        let fetched = store.get(&vehicle, ids).await?;
        took.push(start.elapsed());
        if fetched.degraded || fetched.rows.iter().any(Option::is_none) {
            return Err("a row is missing".into());
        }
    }
    Ok(took)
}

fn vehicle(round: u32) -> Result<VehicleId, Failure> {
    Ok(VehicleId::new(&format!("VIN-{:014}", round % VEHICLES))?)
}

fn write(views: &Views, id: ViewId, round: u32) -> Write {
    let version = Version { event_time_us: 1_700_000_000_000_000 + i64::from(round), sequence: 1 };
    let schema = views.view(id).map_or(0, |view| view.schema);
    let mut row = RowBuilder::new(schema, version, version.event_time_us);
    for _ in views.view(id).into_iter().flat_map(|view| &view.features) {
        row.push(Some(Cell { value: Value::Number(1.5), time_us: version.event_time_us }));
    }
    Write { view: id, row: row.finish(), condition: Condition::Newer }
}

fn tell(what: &str, mut took: Vec<std::time::Duration>) {
    took.sort_unstable();
    let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)].as_nanos() as f64 / 1000.0;
    println!("| {what} | {:.1} | {:.1} |", at(50), at(99));
}
