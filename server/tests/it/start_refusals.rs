//! Starts that are refused, with what to do about it.

use ev_server::Config;

use crate::support::{
    process::run,
    server::{TestServer, start_in},
};

/// Runs `evserve` to its end: exit code 1 and one line that says these words.
async fn refused(arguments: &[&str], words: &[&str]) {
    let output = run(arguments).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    let line = told.lines().find(|line| line.starts_with("evserve: ")).unwrap_or_else(|| panic!("no line in {told}"));
    for word in words {
        assert!(line.contains(word), "`{word}` in {line}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().join("data").display().to_string();
    let listeners = [("--grpc-address", "gRPC"), ("--telemetry-address", "telemetry"), ("--http-address", "HTTP")];
    for (taken, purpose) in listeners {
        let told = format!("cannot listen on {address} for {purpose}: the port is taken");
        let mut arguments = vec!["serve", "--data-directory", &data];
        for (flag, _) in listeners {
            arguments.extend([flag, if flag == taken { &address } else { "127.0.0.1:0" }]);
        }
        refused(&arguments, &[&told, "choose another port"]).await;
    }
    assert!(!directory.path().join("data").exists(), "nothing was written before the ports were bound");
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("file");
    fs_err::write(&file, b"not a directory").expect("written");
    let data = file.join("data");
    let error = start_in(&data, &[]).await.err().expect("refused");
    assert_eq!(error.to_string(), format!("cannot open the model registry in `{}`", data.display()));
    let data = data.display().to_string();
    let arguments = [
        "serve",
        "--data-directory",
        &data,
        "--grpc-address",
        "127.0.0.1:0",
        "--telemetry-address",
        "127.0.0.1:0",
        "--http-address",
        "127.0.0.1:0",
    ];
    refused(&arguments, &[&data, "choose a directory this process may write to"]).await;
}

#[tokio::test]
async fn a_data_directory_in_use_is_named() {
    let server = TestServer::start(&[]).await;
    let error = start_in(server.data(), &[]).await.err().expect("refused").to_string();
    assert!(error.contains("predictions.lock is in use: stop the other evserve"), "{error}");
    // It is free again as soon as the other has ended.
    let directory = server.stop().await;
    TestServer::start_on(directory, &[]).await.stop().await;
}

#[tokio::test]
async fn a_telemetry_database_that_is_none_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("telemetry/telemetry.db");
    fs_err::create_dir_all(file.parent().expect("a folder")).expect("made");
    fs_err::write(&file, b"a shopping list, and nothing that SQLite knows").expect("written");
    let error = start_in(directory.path(), &[]).await.err().expect("refused").to_string();
    assert_eq!(error, format!("cannot open the telemetry store {}", file.display()));
}

#[tokio::test]
async fn an_unknown_key_is_named() {
    refused(&["serve", "--set", "grpc.adress=127.0.0.1:0"], &["unknown field `adress`"]).await;
    refused(&["check-config", "--set", "grpc.batch_rows_max=0"], &["grpc.batch_rows_max is 0, expected 1"]).await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("evserve.toml");
    fs_err::write(&file, "[shutdwn]\ngrace = \"1s\"\n").expect("written");
    refused(&["serve", "--config", &file.display().to_string()], &["unknown field `shutdwn`"]).await;
    let missing = directory.path().join("nonesuch.toml").display().to_string();
    refused(&["serve", "--config", &missing], &["cannot read the configuration file", &missing]).await;
}

#[tokio::test]
async fn listening_beyond_loopback_needs_to_be_said() {
    for key in ["grpc.address", "telemetry.address", "http.address"] {
        let beyond = format!("{key}=0.0.0.0:0");
        let words = [key, "security.allow_insecure_listen = true"];
        refused(&["serve", "--set", &beyond], &words).await;
        let pairs = [(key, "0.0.0.0:0"), ("security.allow_insecure_listen", "true")];
        let allowed = Config::load(None, [], pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
        allowed.expect("allowed");
    }
}

#[tokio::test]
async fn the_configuration_that_is_printed_is_the_one_that_is_read() {
    let output = run(&["check-config", "--set", "grpc.batch_rows_max=77"]).await;
    assert!(output.status.success());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("evserve.toml");
    fs_err::write(&file, &output.stdout).expect("written");
    let config = Config::load(Some(&file), [], []).expect("valid");
    assert_eq!(config.grpc.batch_rows_max, 77);
}

#[tokio::test]
async fn a_log_filter_that_is_none_is_named() {
    refused(&["serve", "--set", "observability.log=no=such=level"], &["observability.log"]).await;
}

#[tokio::test]
async fn certificates_for_webhooks_that_cannot_be_read_are_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (data, file) = (directory.path().join("data"), directory.path().join("evserve.toml"));
    let (data, pem) = (data.display().to_string(), directory.path().join("authorities.pem"));
    let text = format!(
        "[[alerts.webhooks]]\nurl = \"https://a.example/\"\nsecret = \"sixteen bytes or more\"\nca_certificates = \"{}\"\n",
        pem.display()
    );
    fs_err::write(&file, text).expect("written");
    let file = file.display().to_string();
    let mut arguments = vec!["serve", "--config", &file, "--data-directory", &data];
    for flag in ["--grpc-address", "--telemetry-address", "--http-address"] {
        arguments.extend([flag, "127.0.0.1:0"]);
    }
    refused(&arguments, &["`alerts.webhooks.ca_certificates`", &pem.display().to_string(), "No such file"]).await;
    fs_err::write(&pem, "nothing of the kind").expect("written");
    refused(&arguments, &["`webhooks.ca_certificates` is `a file without any`, expected certificates in PEM"]).await;
}
