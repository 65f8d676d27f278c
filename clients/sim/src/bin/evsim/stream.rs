//! A source to a server, through gateways.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::{
    cli::{StreamArgs, SummaryArg},
    depot::Depot,
    source::Source,
    status::Status,
    stop::Stop,
    write::TruthFile,
};

/// Longest wait for the last readings to become durable while none does.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the servers' ends of the streams are waited for.
const GOODBYE: Duration = Duration::from_secs(2);

/// Streams until the source ends or somebody stops it, and then until everything is durable.
///
/// # Errors
///
/// When the server cannot be reached or does not want what is sent, and when something did not become durable.
pub(crate) async fn stream(
    to: &str,
    source: Source,
    args: &StreamArgs,
    mut truth: Option<TruthFile>,
) -> anyhow::Result<()> {
    let mut stop = Stop::listen(args.until_input_ends)?;
    let mut depot = Depot::new(to, args);
    let mut status = Status::start();
    let result = send_all(source, &mut depot, &mut stop, &mut status, truth.as_mut()).await;
    if let Some(truth) = &mut truth {
        truth.flush()?;
    }
    // Also after a failure: what was sent before it is to be known.
    let result = result.and(flush(&mut depot, &mut stop, &mut status).await);
    status.finish();
    if depot.gateways() == 0 {
        return result;
    }
    let pending = depot.pending();
    let summary = depot.counts.summary(depot.gateways(), pending, status.took());
    for (reason, (count, message)) in &depot.counts.rejects {
        eprintln!("evsim: {count} readings were refused as {reason}, such as: {message}");
    }
    match args.summary {
        SummaryArg::Json => println!("{}", serde_json::to_string(&summary)?),
        SummaryArg::Text => println!("{}", summary.sentence()),
    }
    // It has nothing left to say; what it was told is known.
    let _ = tokio::time::timeout(GOODBYE, depot.close()).await;
    result
}

async fn send_all(
    mut source: Source,
    depot: &mut Depot,
    stop: &mut Stop,
    status: &mut Status,
    mut truth: Option<&mut TruthFile>,
) -> anyhow::Result<()> {
    for item in source.items {
        let item = item?;
        let wait = source.pace.wait(item.due_us);
        tell(depot, status);
        let send = async {
            tokio::time::sleep(wait).await;
            // A simulation waits for room for as long as it takes; its vehicles' time waits with it.
            while !depot.send(&item.batch).await? {
                tell(depot, status);
            }
            anyhow::Ok(())
        };
        tokio::select! {
            // Somebody who wants it to end is heard also while there is always something to send.
            biased;
            () = stop.requested() => return Ok(()),
            sent = send => sent?,
        }
        if let Some((file, truth)) = truth.as_mut().zip(item.truth) {
            file.write(truth)?;
        }
    }
    Ok(())
}

/// Waits until everything is durable: as long as there is progress, and nobody wants it to end at once.
async fn flush(depot: &mut Depot, stop: &mut Stop, status: &mut Status) -> anyhow::Result<()> {
    let (mut best, mut since) = (depot.pending().0, Instant::now());
    loop {
        let flushed = tokio::select! {
            flushed = tokio::time::timeout(LOOK_EVERY, depot.flush()) => flushed,
            () = stop.requested() => break,
        };
        tell(depot, status);
        if let Ok(flushed) = flushed {
            return flushed.context("the server ended the stream");
        }
        let pending = depot.pending().0;
        if pending < best {
            (best, since) = (pending, Instant::now());
        } else if since.elapsed() > PATIENCE {
            break;
        }
    }
    let (batches, readings) = depot.pending();
    anyhow::bail!("{readings} readings in {batches} batches are not durable: the server does not acknowledge them")
}

fn tell(depot: &mut Depot, status: &mut Status) {
    let news = depot.hear();
    let pending = depot.pending();
    status.tell(news, pending);
    status.show(&depot.counts, pending);
}
