//! Predictions by vehicle id of replicas that share a Redis: what reaches one changes the answers of the other, and what
//! becomes of them without it.

use std::time::{Duration, Instant};

use ev_client::Client;
use ev_proto::ev::{
    features::v1::FeatureStatus,
    thermal::v1::{AssessResponse, RiskClass},
};

use crate::{
    by_vehicle::{CALM, Gateway, Reading, assess, found, number, of_pack},
    features_redis::{folder, start},
    support::{assert_eventually, redis::Server as Redis},
};

const PACK: &str = "pack-1";
const TEMPERATURE: &str = "cell_temperature_max_celsius";

/// A pack at rest whose hottest cell has so many degrees.
fn pack(celsius: f32) -> [(u64, Reading); 1] {
    let mut reading = CALM;
    reading[0] = celsius;
    [(0, reading)]
}

async fn answer(client: &Client) -> AssessResponse {
    assess(client, of_pack(PACK)).await.expect("answered")
}

/// The temperature that an answer was made of.
async fn temperature(client: &Client) -> f32 {
    number(&answer(client).await.info.expect("info"), TEMPERATURE)
}

#[tokio::test]
async fn a_reading_at_one_replica_changes_the_predictions_of_another() {
    let Some(redis) = Redis::start(&[]) else { return };
    let folders = [folder(), folder(), folder()];
    let (a, b) = (start(&folders[0], &redis, &[]).await, start(&folders[1], &redis, &[]).await);
    let (mut gateway, reader) = (Gateway::open(a.endpoint()).await, b.endpoint().client().await);
    let mut taken = Vec::new();
    for round in 0..20u8 {
        // The last one is hot.
        let celsius = if round == 19 { 400.0 } else { 25.0 + f32::from(round) / 16.0 };
        // Returns when it is applied at A.
        gateway.send(PACK, &pack(celsius)).await;
        let start = Instant::now();
        // Of the first round B knows nothing, and says so.
        while assess(&reader, of_pack(PACK)).await.map(|answer| answer.info).ok().flatten().is_none_or(|info| {
            info.features.iter().all(|feature| feature.name != TEMPERATURE) || number(&info, TEMPERATURE) != celsius
        }) {
            assert!(start.elapsed() < Duration::from_secs(20), "{celsius} degrees did not reach the other replica");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        taken.push(start.elapsed());
        let answer = answer(&reader).await;
        if round == 0 || round == 19 {
            let expected = if round == 0 { RiskClass::Normal } else { RiskClass::Runaway };
            assert_eq!(answer.risk_class(), expected, "{celsius} degrees");
        }
        let info = answer.info.expect("info");
        assert!(!info.degraded);
        assert_eq!(found(&info, TEMPERATURE).status(), FeatureStatus::Fresh);
    }
    taken.sort_unstable();
    eprintln!(
        "from applied at one replica to the prediction of another: median {:?}, longest {:?}",
        taken[10], taken[19]
    );

    // Nothing of A but what is in Redis: its folder is another one.
    a.kill().await;
    let a = start(&folders[2], &redis, &[]).await;
    let answer = answer(&a.endpoint().client().await).await;
    assert_eq!(answer.risk_class(), RiskClass::Runaway);
    assert!(!answer.info.expect("info").degraded);
}

#[tokio::test]
async fn predictions_go_on_from_memory_while_redis_is_gone() {
    let check = async |what: &str, fail: &dyn Fn(&mut Redis), heal: &dyn Fn(&mut Redis)| {
        let Some(mut redis) = Redis::start(&[]) else { return };
        let folder = folder();
        let evserve = start(&folder, &redis, &[]).await;
        let (mut gateway, client) = (Gateway::open(evserve.endpoint()).await, evserve.endpoint().client().await);
        gateway.send(PACK, &pack(25.0)).await;
        assert_eventually!(evserve.endpoint().metric("ev_features_redis_behind").await == 0.0, "{what}: not written");
        assert!(!answer(&client).await.info.expect("info").degraded, "{what}");

        fail(&mut redis);
        assert_eventually!(answer(&client).await.info.expect("info").degraded, "{what}: does not say so");
        assert_eq!(temperature(&client).await, 25.0, "{what}");
        gateway.send(PACK, &pack(400.0)).await;
        let hot = answer(&client).await;
        assert_eq!(hot.risk_class(), RiskClass::Runaway, "{what}: what comes meanwhile is answered from memory");
        assert!(hot.info.expect("info").degraded, "{what}");
        // Whether there is a vehicle that only Redis could know is not said.
        let unknown = assess(&client, of_pack("pack-2")).await.expect_err("refused");
        assert_eq!(unknown.reason, "STORE_UNREACHABLE", "{what}: {unknown:?}");

        heal(&mut redis);
        assert_eventually!(!answer(&client).await.info.expect("info").degraded, "{what}: not found again");
        assert_eq!(answer(&client).await.risk_class(), RiskClass::Runaway, "{what}");
    };
    check("killed", &Redis::kill, &Redis::restart).await;
    check("paused", &|redis| redis.pause(), &|redis| redis.resume()).await;
}
