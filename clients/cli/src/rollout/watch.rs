//! `evctl rollout watch`: a rollout as it goes on.

use std::io::{IsTerminal as _, Write as _};

use clap::Args;
use ev_client::{
    Client,
    proto::ev::registry::v1::{Rollout, RolloutState},
};

use super::text;
use crate::{exit::Exit, failure::Failure, json::Json, output::Output};

/// Show a rollout as it goes on, until it is over.
#[derive(Debug, Args)]
#[command(after_help = "\
In a terminal: traffic split, both versions, guards with their limits, requests so far and time left,
drawn anew every second. Elsewhere a line whenever something changes. -o json prints a line for each
message of the API. Exits with 1 when the rollout ends otherwise than promoted.

Examples:
  evctl rollout watch ev-range
  evctl rollout watch ev-range && echo 'it is production'")]
pub(crate) struct WatchCommand {
    /// A rollout's id, or its model's name.
    #[arg(value_name = "ROLLOUT")]
    rollout: String,
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
        let mut replies = client.rollouts().watch(&self.rollout).await?;
        let is_live = !output.is_json() && std::io::stdout().is_terminal();
        let (mut screen, mut told) = (Screen::default(), String::new());
        let mut last = Rollout::default();
        while let Some(reply) = replies.next().await? {
            last = reply.rollout.unwrap_or_default();
            output.json_line(&Json::new(text::MESSAGE, &last))?;
            if is_live {
                screen.draw(&text::page(&last)).map_err(Failure::Output)?;
                continue;
            }
            // Time left and counts change all the time; what matters does not.
            let key = format!("{:?} {} {}", text::state(&last).0, last.percent, last.reason);
            if key != told {
                told = key;
                output.text(|| text::line(&last))?;
            }
        }
        Ok(if last.state() == RolloutState::Promoted { Exit::Ok } else { Exit::Failed })
    }
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
    use super::*;

    #[test]
    fn lines_fit_and_keep_their_colours() {
        let check = |line: &str, width: usize, expected: &str| assert_eq!(fitted(line, width), expected);
        check("abcdef", 4, "abcd");
        check("abc", 4, "abc");
        check("\x1b[1mabcdef\x1b[0mgh", 4, "\x1b[1mabcd\x1b[0m");
    }
}
