//! Runs the program, and servers for it to talk to.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

pub(crate) mod fake;
mod fake_vision;
pub(crate) mod model;
#[path = "../../../../../server/tests/support/proxy.rs"]
#[expect(dead_code, reason = "the server's tests lead it elsewhere, too")]
pub(crate) mod proxy;
pub(crate) mod real;
pub(crate) mod watching;

/// What a run of `evctl` left.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `evctl` with arguments, against a server.
pub(crate) fn evctl(server: &str, arguments: &[&str]) -> Run {
    evctl_with_input(server, arguments, "")
}

/// As [`evctl`], in a directory.
pub(crate) fn evctl_in(directory: &Path, server: &str, arguments: &[&str]) -> Run {
    run(Some(directory), server, arguments, "")
}

/// As [`evctl`], with standard input.
pub(crate) fn evctl_with_input(server: &str, arguments: &[&str], input: &str) -> Run {
    run(None, server, arguments, input)
}

fn run(directory: Option<&Path>, server: &str, arguments: &[&str], input: &str) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_evctl"))
        .args(arguments)
        .current_dir(directory.unwrap_or(Path::new(".")))
        .env("EVCTL_SERVER", server)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("evctl starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    // Beside reading the output, or both pipes fill; a program that does not read its input is fine.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let Output { status, stdout, stderr } = child.wait_with_output().expect("evctl ends");
    writer.join().expect("the writer ends");
    Run {
        code: status.code().expect("evctl exits"),
        stdout: String::from_utf8(stdout).expect("UTF-8"),
        stderr: String::from_utf8(stderr).expect("UTF-8"),
    }
}
