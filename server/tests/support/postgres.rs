//! A PostgreSQL server of a test's own, to be stopped and started at will.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Output, Stdio},
};

use tempfile::TempDir;
use tokio::process::Command;

use super::process::free_port;

/// A server with an empty database; it ends when it is dropped.
pub(crate) struct Postgres {
    programs: PathBuf,
    directory: TempDir,
    as_other: bool,
    port: u16,
    /// Further settings of the server.
    settings: String,
}

/// The newest one that is installed, where Debian puts them.
fn programs() -> Option<PathBuf> {
    let versions = fs_err::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|entry| entry.path().join("bin"));
    versions.filter(|programs| programs.join("initdb").exists()).max()
}

fn is_root() -> bool {
    let id = std::process::Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout == b"0\n")
}

// === impl Postgres ===

impl Postgres {
    /// Starts one; says so and gives none where PostgreSQL is not installed.
    pub(crate) async fn start() -> Option<Postgres> {
        let Some(programs) = programs() else {
            // Said past the test's own output, which nobody sees of a test that passes.
            let _ = writeln!(std::io::stderr(), "skipped, PostgreSQL is not installed in /usr/lib/postgresql");
            return None;
        };
        let directory = tempfile::tempdir().expect("a temporary directory");
        // PostgreSQL refuses to run as root.
        let as_other = is_root();
        if as_other {
            let chown = Command::new("chown").arg("postgres").arg(directory.path()).status().await;
            assert!(chown.is_ok_and(|status| status.success()), "the user `postgres` gets its folder");
        }
        let postgres = Postgres { programs, directory, as_other, port: free_port(), settings: String::new() };
        let options = ["--auth", "trust", "--username", "evserve", "--no-sync"];
        postgres.run("initdb", &options).await;
        postgres.start_again().await;
        Some(postgres)
    }

    /// Has it take connections over TLS only, with this certificate and key in PEM.
    pub(crate) async fn with_tls(mut self, certificate: &str, key: &str) -> Postgres {
        self.stop("fast").await;
        let data = self.directory.path().join("data");
        for (name, content) in [
            ("server.crt", certificate),
            ("server.key", key),
            ("pg_hba.conf", "local all all trust\nhostssl all all 127.0.0.1/32 trust\n"),
        ] {
            let path = data.join(name);
            fs_err::write(&path, content).expect("written");
            let owned = if self.as_other { "chown postgres \"$0\" && chmod 600 \"$0\"" } else { "chmod 600 \"$0\"" };
            let status = Command::new("sh").args(["-c", owned]).arg(&path).status().await;
            assert!(status.is_ok_and(|status| status.success()), "{name} is the server's own");
        }
        self.settings = " -c ssl=on".to_owned();
        self.start_again().await;
        self
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://evserve:secret@127.0.0.1:{}/postgres", self.port)
    }

    /// Takes connections again when this returns.
    pub(crate) async fn start_again(&self) {
        let (port, scratch) = (self.port, self.directory.path().display());
        let settings = &self.settings;
        let options = format!("-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={scratch}{settings}");
        let log = self.directory.path().join("log").display().to_string();
        self.run("pg_ctl", &["--log", &log, "--wait", "--silent", "--options", &options, "start"]).await;
    }

    /// `fast`: transactions are rolled back and it ends in order; `immediate`: as in a crash.
    pub(crate) async fn stop(&self, mode: &str) {
        self.run("pg_ctl", &["--mode", mode, "--wait", "--silent", "stop"]).await;
    }

    /// SIGKILL to all of its processes at once, in the middle of whatever they do.
    pub(crate) async fn kill(&self) {
        let file = self.directory.path().join("data/postmaster.pid");
        let pid = fs_err::read_to_string(&file).expect("it runs");
        let parent = pid.lines().next().expect("its number").to_owned();
        // While they are counted the parent makes no more of them, and when they die it does not start anew.
        let stopped = Command::new("kill").args(["-STOP", &parent]).status().await;
        assert!(stopped.is_ok_and(|status| status.success()));
        let mut processes = vec![parent.clone()];
        for entry in fs_err::read_dir("/proc").expect("Linux").flatten() {
            let status = fs_err::read_to_string(entry.path().join("status")).unwrap_or_default();
            let of = status.lines().find_map(|line| line.strip_prefix("PPid:"));
            if of.is_some_and(|of| of.trim() == parent) {
                processes.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        let killed = Command::new("kill").arg("-KILL").args(&processes).stderr(Stdio::null()).status().await;
        killed.expect("kill");
        let is_there = |process: &String| PathBuf::from("/proc").join(process).join("exe").exists();
        super::assert_eventually!(!processes.iter().any(is_there), "PostgreSQL does not die");
        // Until somebody has waited for the parent, its number looks taken to the one that is started next.
        let socket = self.directory.path().join(format!(".s.PGSQL.{}.lock", self.port));
        for file in [file, socket] {
            fs_err::remove_file(file).expect("removed");
        }
    }

    /// Asks the database something, past every evserve.
    pub(crate) async fn ask(&self, sql: &str) -> String {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", sql]).arg(self.url());
        let Output { status, stdout, stderr } = command.output().await.expect("psql runs");
        assert!(status.success(), "{sql}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8_lossy(&stdout).trim().to_owned()
    }

    async fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::from(self.command(program));
        // What it starts keeps them open.
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let Output { status, .. } = command.output().await.expect("PostgreSQL's programs run");
        let log = fs_err::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        assert!(status.success(), "{program} {arguments:?}: {status}: {log}");
    }

    fn command(&self, program: &str) -> std::process::Command {
        let program = self.programs.join(program);
        let mut command = if self.as_other {
            let mut command = std::process::Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            std::process::Command::new(program)
        };
        command.current_dir("/").arg("--pgdata").arg(self.directory.path().join("data"));
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.command("pg_ctl").args(["--mode", "immediate", "--silent", "stop"]).output();
    }
}
