//! Live views that outlive their connection.

use std::{ops::ControlFlow, time::Duration};

use ev_client::{Error, Replies};
use tokio::time::{Instant, timeout_at};

use crate::failure::Failure;

/// Between two tries to be connected again: the first, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What is shown of one connection after the other.
pub(crate) trait Live {
    /// What the server sends.
    type Message;

    /// Asks for what comes after that which was taken.
    async fn ask(&self) -> Result<Replies<Self::Message>, Error>;

    /// Shows a message; breaks when no more are wanted.
    fn take(&mut self, message: Self::Message) -> Result<ControlFlow<()>, Failure>;

    /// Says what becomes of the connection.
    fn note(&mut self, text: &str) -> Result<(), Failure>;

    /// Tells what happened while there was no connection, as far as anybody knows; the new one is open already, so that
    /// nothing falls between the two. What [`Live::ask`] asks for by itself needs no telling.
    async fn catch_up(&mut self) -> Result<ControlFlow<()>, Failure> {
        Ok(ControlFlow::Continue(()))
    }

    /// When to draw anew what was taken and not shown at once.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Draws it; nothing is due then.
    fn draw(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// How the connections fared.
struct Link {
    /// How long to wait before the next.
    pause: Duration,
    /// Whether there was one: a server that was never there is no passing matter.
    was_there: bool,
    /// Why there is none now, as it was told; empty while there is one.
    told: String,
}

/// Shows what comes until no more is wanted, over as many connections as that takes. The first has to be made.
pub(crate) async fn follow(live: &mut impl Live) -> Result<(), Failure> {
    let mut link = Link { pause: PAUSE_MIN, was_there: false, told: String::new() };
    loop {
        let (lost, asked) = match connected(live, &mut link).await {
            Ok(ControlFlow::Break(())) => return Ok(()),
            Ok(ControlFlow::Continue(())) => ("the server ended the answer".to_owned(), None),
            Err(Failure::Client(error)) if link.was_there && error.is_passing() => {
                (error.to_string(), error.retry_delay())
            }
            Err(failure) => return Err(failure),
        };
        if link.told != lost {
            live.note(&format!("the connection is lost ({lost}); connecting again"))?;
            link.told = lost;
        }
        tokio::time::sleep(link.next_pause(asked)).await;
    }
}

/// Shows what comes for as long as the connection holds.
async fn connected<L: Live>(live: &mut L, link: &mut Link) -> Result<ControlFlow<()>, Failure> {
    let mut replies = live.ask().await?;
    link.was_there = true;
    if !std::mem::take(&mut link.told).is_empty() {
        live.note("connected again")?;
        if live.catch_up().await?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    while let Some(message) = next(live, &mut replies).await? {
        link.pause = PAUSE_MIN;
        if live.take(message)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The next message; what is due meanwhile is drawn, however quickly messages follow each other.
async fn next<L: Live>(live: &mut L, replies: &mut Replies<L::Message>) -> Result<Option<L::Message>, Failure> {
    while let Some(due) = live.due() {
        if due > Instant::now()
            && let Ok(message) = timeout_at(due, replies.next()).await
        {
            return Ok(message?);
        }
        live.draw()?;
    }
    Ok(replies.next().await?)
}

/// Counts one of those that are wanted; breaks with the last.
pub(crate) fn count(left: &mut Option<u64>) -> ControlFlow<()> {
    *left = left.map(|left| left.saturating_sub(1));
    if *left == Some(0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

// === impl Link ===

impl Link {
    /// Twice as long each time that brings nothing; what the server asks for, as far as somebody would wait for it.
    fn next_pause(&mut self, asked: Option<Duration>) -> Duration {
        let pause = self.pause.max(asked.unwrap_or_default()).min(PAUSE_MAX);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_have_a_bound() {
        let mut link = Link { pause: PAUSE_MIN, was_there: true, told: String::new() };
        let pauses: Vec<u128> = (0..7).map(|_| link.next_pause(None).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 5000, 5000]);
        let mut link = Link { pause: PAUSE_MIN, was_there: true, told: String::new() };
        assert_eq!(link.next_pause(Some(Duration::from_secs(1))), Duration::from_secs(1));
        assert_eq!(link.next_pause(Some(Duration::from_secs(60))), PAUSE_MAX);
    }
}
