//! A Redis server of a test's own.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Where the program is, if it is not found by its name.
const PROGRAM: &str = "EVSERVE_REDIS_SERVER";

/// Ends with its owner.
pub(crate) struct Server {
    pub(crate) port: u16,
    options: Vec<String>,
    directory: tempfile::TempDir,
    child: Child,
}

impl Server {
    /// Starts one, or says why there is none.
    pub(crate) fn start(options: &[&str]) -> Option<Server> {
        let program = program();
        if let Err(error) = Command::new(&program).arg("--version").stdout(Stdio::null()).status() {
            eprintln!(
                "skipped: {program} cannot be run ({error}); install redis-server, or say where it is by {PROGRAM}"
            );
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let port = free_port();
        let child = spawn(port, &options, directory.path());
        let mut server = Server { port, options, directory, child };
        // Between finding a free port and listening on it, somebody else may have taken it.
        for _ in 0..5 {
            if server.answers() {
                return Some(server);
            }
            server.kill();
            server.port = free_port();
            server.child = spawn(server.port, &server.options, server.directory.path());
        }
        panic!("redis-server does not start");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, at the same port and without its data.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port, &self.options, self.directory.path());
        assert!(self.answers(), "redis-server does not start again");
    }

    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    /// Asks on a connection of its own, and gives the answer as it is on the wire.
    pub(crate) fn ask(&self, words: &[&[u8]]) -> String {
        ask(self.port, words).unwrap()
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Whether it, and not another one at the same port, answers before long.
    fn answers(&mut self) -> bool {
        let start = Instant::now();
        let directory = self.directory.path().to_string_lossy().into_owned();
        while start.elapsed() < Duration::from_secs(10) && self.child.try_wait().unwrap().is_none() {
            if ask(self.port, &[b"CONFIG", b"GET", b"dir"]).is_ok_and(|answer| answer.contains(&directory)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks on a connection of its own, and gives the answer as it is on the wire.
pub(crate) fn ask(port: u16, words: &[&[u8]]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut question = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        question.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        question.extend_from_slice(word);
        question.extend_from_slice(b"\r\n");
    }
    stream.write_all(&question)?;
    let mut answer = vec![0; 1 << 16];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn program() -> String {
    std::env::var(PROGRAM).unwrap_or_else(|_| "redis-server".to_owned())
}

fn spawn(port: u16, options: &[String], directory: &std::path::Path) -> Child {
    Command::new(program())
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--dir", &directory.to_string_lossy()])
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
