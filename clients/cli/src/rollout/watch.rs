//! `evctl rollout watch`: a rollout as it goes on.

use std::{
    io::{IsTerminal as _, Write as _},
    ops::ControlFlow,
};

use clap::Args;
use ev_client::{
    Client, Error, Replies,
    proto::ev::registry::v1::{Rollout, RolloutEvent, RolloutState, RolloutsWatchResponse},
};

use super::text;
use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    live::{Live, follow},
    output::Output,
    style::WARN,
};

/// Show a rollout as it goes on, until it is over.
#[derive(Debug, Args)]
#[command(after_help = "\
In a terminal: traffic split, both versions, guards with their limits, requests so far and time left,
drawn anew every second. Elsewhere a line whenever something changes. -o json prints a line for each
message of the API. A connection that is lost is made again, and what happened meanwhile is told.
Exits with 1 when the rollout ends otherwise than promoted.

Examples:
  evctl rollout watch ev-range
  evctl rollout watch ev-range && echo 'it is production'")]
pub(crate) struct WatchCommand {
    /// A rollout's id, or its model's name.
    #[arg(value_name = "ROLLOUT")]
    rollout: String,
}

/// What was shown so far.
struct Watch<'a> {
    client: &'a Client,
    output: &'a Output,
    /// What was asked for, and from the first answer on the id: of a model another rollout may be the newest by then.
    rollout: String,
    last: Rollout,
    /// In a terminal.
    screen: Option<Screen>,
}

/// Draws pages over each other.
#[derive(Debug, Default)]
struct Screen {
    /// Lines of the page that is there.
    drawn: usize,
}

// === impl WatchCommand ===

impl WatchCommand {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let is_live = !output.is_json() && std::io::stdout().is_terminal();
        let screen = is_live.then(Screen::default);
        let mut watch = Watch { client, output, rollout: self.rollout, last: Rollout::default(), screen };
        follow(&mut watch).await?;
        Ok(if watch.last.state() == RolloutState::Promoted { Exit::Ok } else { Exit::Failed })
    }
}

// === impl Watch ===

impl Live for Watch<'_> {
    type Message = RolloutsWatchResponse;

    async fn ask(&self) -> Result<Replies<RolloutsWatchResponse>, Error> {
        self.client.rollouts().watch(&self.rollout).await
    }

    fn take(&mut self, message: RolloutsWatchResponse) -> Result<ControlFlow<()>, Failure> {
        let rollout = message.rollout.unwrap_or_default();
        self.output.json_line(&Json::new(text::MESSAGE, &rollout))?;
        match &mut self.screen {
            Some(screen) => screen.draw(&text::page(&rollout)).map_err(Failure::Output)?,
            None => {
                for line in lines(&self.last, &rollout) {
                    self.output.text(|| line)?;
                }
            }
        }
        self.rollout.clone_from(&rollout.id);
        self.last = rollout;
        Ok(if text::is_over(&self.last) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn note(&mut self, note: &str) -> Result<(), Failure> {
        match &mut self.screen {
            // Between two pages it would be drawn over, and they over it.
            Some(screen) => {
                let page = format!("{}{WARN}note:{WARN:#} {note}\n", text::page(&self.last));
                screen.draw(&page).map_err(Failure::Output)?;
            }
            None => self.output.note(note),
        }
        Ok(())
    }
}

/// A line for each event that was not told before. Time left and counts change all the time; what matters does not.
fn lines(before: &Rollout, now: &Rollout) -> Vec<String> {
    if before.id.is_empty() {
        return vec![text::line(now)];
    }
    let known = before.events.last().and_then(|last| now.events.iter().rposition(|event| event == last));
    // Of many events the first is kept for ever, and it was told.
    let untold = now.events.get(known.map_or(1, |known| known + 1)..).unwrap_or_default();
    let Some((_, earlier)) = untold.split_last() else { return Vec::new() };
    let past = |event: &RolloutEvent| text::past_line(now, event);
    earlier.iter().map(past).chain(std::iter::once(text::line(now))).collect()
}

// === impl Screen ===

impl Screen {
    fn draw(&mut self, page: &str) -> std::io::Result<()> {
        let mut out = anstream::stdout().lock();
        let (width, height) = terminal_size::terminal_size()
            .map_or((usize::MAX, usize::MAX), |(width, height)| (usize::from(width.0), usize::from(height.0)));
        // A line that wraps, or a page that scrolls, could not be drawn over.
        let lines: Vec<&str> = page.lines().take(height.saturating_sub(1)).collect();
        if self.drawn > 0 {
            write!(out, "\x1b[{}A", self.drawn)?;
        }
        write!(out, "\x1b[J")?;
        for line in &lines {
            writeln!(out, "{}", fitted(line, width))?;
        }
        self.drawn = lines.len();
        out.flush()
    }
}

/// As much of a line as is seen in so many columns; what changes its colours takes none.
fn fitted(line: &str, width: usize) -> String {
    let (mut fitted, mut columns, mut in_escape) = (String::new(), 0, false);
    for letter in line.chars() {
        let is_seen = !in_escape && letter != '\x1b';
        if letter == '\x1b' {
            in_escape = true;
        } else if in_escape && letter.is_ascii_alphabetic() {
            in_escape = false;
        }
        if is_seen {
            columns += 1;
            if columns > width {
                continue;
            }
        }
        fitted.push(letter);
    }
    fitted
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    #[test]
    fn every_event_is_told_once() {
        let event = |state: RolloutState, step, reason: &str| RolloutEvent {
            state: state.into(),
            step,
            reason: reason.to_owned(),
            ..RolloutEvent::default()
        };
        let first = text::tests::shadowing();
        let check = |before: &Rollout, now: &Rollout, expected: &[&str]| {
            let told: Vec<String> =
                lines(before, now).iter().map(|line| strip_str(line).to_string().trim_end().to_owned()).collect();
            assert_eq!(told, expected);
        };
        let line = "ev-range 3 -> 4  shadowing, 60 of 1000, 1m 30s left  the candidate is loaded";
        check(&Rollout::default(), &first, &[line]);
        check(&first, &first, &[]);
        let mut later = Rollout { had: 61, ..first.clone() };
        check(&first, &later, &[]);
        // While there was no connection.
        later.events.extend([
            event(RolloutState::Shadowing, 0, "loaded"),
            event(RolloutState::Paused, 0, "lunch"),
            event(RolloutState::Canary, 1, "guards pass"),
        ]);
        let now = Rollout {
            state: RolloutState::Canary.into(),
            step: 1,
            percent: 5.0,
            time_left: None,
            needed: 0,
            reason: "guards pass".to_owned(),
            ..later.clone()
        };
        check(
            &first,
            &now,
            &[
                "ev-range 3 -> 4  shadowing  loaded",
                "ev-range 3 -> 4  paused  lunch",
                "ev-range 3 -> 4  canary, step 1 of 0, 5 % of the requests  guards pass",
            ],
        );
        check(&now, &now, &[]);
        // So many that the last one told is not kept any more.
        let mut long = now.clone();
        long.events.splice(1.., [event(RolloutState::Paused, 0, "tea"), event(RolloutState::Canary, 1, "guards pass")]);
        long.events[2].by = "kim".to_owned();
        check(
            &now,
            &long,
            &["ev-range 3 -> 4  paused  tea", "ev-range 3 -> 4  canary, step 1 of 0, 5 % of the requests  guards pass"],
        );
    }

    #[test]
    fn lines_fit_and_keep_their_colours() {
        let check = |line: &str, width: usize, expected: &str| assert_eq!(fitted(line, width), expected);
        check("abcdef", 4, "abcd");
        check("abc", 4, "abc");
        check("\x1b[1mabcdef\x1b[0mgh", 4, "\x1b[1mabcd\x1b[0m");
    }
}
