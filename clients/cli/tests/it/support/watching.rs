//! A run of `evctl` that goes on beside the test.

use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::Duration,
};

/// How long a line may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// `evctl`, with what it prints as it prints it.
pub(crate) struct Watching {
    child: Child,
    lines: Receiver<String>,
    notes: Receiver<String>,
}

// === impl Watching ===

impl Watching {
    pub(crate) fn start(server: &str, arguments: &[&str]) -> Watching {
        let mut child = Command::new(env!("CARGO_BIN_EXE_evctl"))
            .args(arguments)
            .env("EVCTL_SERVER", server)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("evctl starts");
        let lines = lines_of(child.stdout.take().expect("piped"));
        let notes = lines_of(child.stderr.take().expect("piped"));
        Watching { child, lines, notes }
    }

    /// The next line of its answer.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("nothing more came; notes: {:?}", self.noted()))
    }

    /// The next line of its answer, if it comes within this time.
    pub(crate) fn line_within(&self, time: Duration) -> Option<String> {
        self.lines.recv_timeout(time).ok()
    }

    /// Lines of its answer up to one that has these words.
    pub(crate) fn lines_to(&self, words: &str) -> Vec<String> {
        let mut lines = vec![self.line()];
        while !lines.last().is_some_and(|line| line.contains(words)) {
            lines.push(self.line());
        }
        lines
    }

    /// Waits for a line of its notes that has these words.
    pub(crate) fn note(&self, words: &str) {
        let found = || self.notes.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no note of `{words}`"));
        while !found().contains(words) {}
    }

    /// The next line of its notes.
    pub(crate) fn next_note(&self) -> String {
        self.notes.recv_timeout(PATIENCE).expect("a note")
    }

    /// As `kill -9` does it.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// What is left of its notes when it has ended.
    pub(crate) fn notes_left(&self) -> Vec<String> {
        self.notes.iter().collect()
    }

    /// What is left of its answer when it has ended by itself, and with which code.
    pub(crate) fn end(mut self) -> (i32, Vec<String>) {
        let mut lines = Vec::new();
        // Its end of the pipe closes with it.
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            lines.push(line);
        }
        let ended = self.child.try_wait().expect("asked");
        let ended = ended.or_else(|| self.child.wait().ok()).expect("it ends");
        (ended.code().expect("evctl exits"), lines)
    }

    fn noted(&self) -> Vec<String> {
        self.notes.try_iter().collect()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
