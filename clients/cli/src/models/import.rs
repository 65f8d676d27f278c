//! `evctl models import`.

use std::path::Path;

use ev_client::{
    Client, Error, UploadEvent,
    proto::ev::registry::v1::{RegisterVersionResponse, Version},
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{show::to_json, size_text, state_of};
use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    style::{ACCENT, BOLD, GOOD},
    table::Listing,
};

#[derive(Debug, Serialize)]
struct Imported {
    version: Json,
    created: bool,
    /// Promotion gates that keep it from production.
    failed_gates: Vec<String>,
}

/// Told what happens to an upload.
pub(crate) type OnProgress = Box<dyn FnMut(UploadEvent<'_>) + Send>;

pub(crate) async fn run(
    client: &Client,
    output: &Output,
    directory: &Path,
    alias: Option<&str>,
) -> Result<Exit, Failure> {
    if !directory.join("manifest.toml").is_file() {
        return Err(no_manifest(directory));
    }
    let registry = client.registry();
    register(client, output, alias, async |progress| registry.register_directory(directory, progress).await).await
}

fn no_manifest(directory: &Path) -> Failure {
    let message = format!("{} has no manifest.toml", directory.display());
    if directory.join("config.json").is_file() {
        let import = format!("evctl import hf {} --name NAME", directory.display());
        return Failure::usage(message, &[&format!("a directory from Hugging Face is registered with: {import}")]);
    }
    Failure::usage(message, &["write one for an XGBoost or ONNX model with: evctl models init FILE"])
}

/// Registers a version and points an alias at it, showing how far the upload is and what came of it.
pub(crate) async fn register(
    client: &Client,
    output: &Output,
    alias: Option<&str>,
    upload: impl AsyncFnOnce(OnProgress) -> Result<RegisterVersionResponse, Error>,
) -> Result<Exit, Failure> {
    let progress = progress_bar();
    let (bar, notes) = (progress.clone(), output.notes());
    let result = upload(Box::new(move |event| {
        show(&bar, &event);
        if let Some(note) = note(&event) {
            bar.suspend(|| notes.advise(&note));
        }
    }))
    .await;
    progress.finish_and_clear();
    let RegisterVersionResponse { version, created, gates } = result?;
    let mut version = version.unwrap_or_default();
    if let Some(alias) = alias {
        let moved = client.registry().set_alias(&version.model, alias, version.version, None).await?;
        version = moved.version.unwrap_or(version);
    }
    let failed_gates: Vec<String> = super::gates::failed(&gates).map(str::to_owned).collect();
    let stopped = stopped(&version, &failed_gates);
    output.answer(&Imported { version: to_json(&version), created, failed_gates }, || render(&version, created))?;
    if let Some(stopped) = stopped {
        output.advise(&stopped);
        return Ok(Exit::Ok);
    }
    if version.aliases.is_empty() {
        output.advise(&not_serving(&version));
    }
    Ok(Exit::Ok)
}

fn show(bar: &ProgressBar, event: &UploadEvent<'_>) {
    match event {
        UploadEvent::Sent(step) => {
            bar.set_length(step.total_bytes);
            bar.set_position(step.sent_bytes);
            let done = step.sent_bytes == step.total_bytes;
            bar.set_message(if done { "checking".to_owned() } else { step.file.to_owned() });
        }
        UploadEvent::Resumed { received_bytes, total_bytes } => {
            bar.set_length(*total_bytes);
            bar.set_position(*received_bytes);
            // Speed and time left are those of what is sent now.
            bar.reset_eta();
        }
        UploadEvent::Interrupted { .. } => bar.set_message("interrupted"),
        _ => {}
    }
}

/// What a person is told of an upload that does not run from its first byte to its last.
fn note(event: &UploadEvent<'_>) -> Option<String> {
    match event {
        UploadEvent::Resumed { received_bytes, total_bytes } if received_bytes == total_bytes => {
            Some("the server has every byte of it already".to_owned())
        }
        UploadEvent::Resumed { received_bytes, total_bytes } => {
            let (received, total) = (size_text(*received_bytes), size_text(*total_bytes));
            Some(format!("going on after {received} of {total}, which the server has already"))
        }
        UploadEvent::Interrupted { error, delay } => {
            let seconds = delay.as_secs_f64();
            Some(format!("the upload was interrupted ({error}); going on with it in {seconds:.1} s"))
        }
        _ => None,
    }
}

fn render(version: &Version, created: bool) -> String {
    let mut listing = Listing::default();
    let done = if created { "registered" } else { "registered before" };
    listing.line("model", format!("{BOLD}{} version {}{BOLD:#} {GOOD}{done}{GOOD:#}", version.model, version.version));
    listing.line("digest", &version.digest);
    listing.line("size", size_text(version.size_bytes));
    let (state, style) = state_of(version.state());
    listing.line("state", format!("{style}{state}{style:#}"));
    if !version.aliases.is_empty() {
        listing.line("aliases", format!("{ACCENT}{}{ACCENT:#}", version.aliases.join(", ")));
    }
    listing.render()
}

/// What keeps a version from production.
fn stopped(version: &Version, failed_gates: &[String]) -> Option<String> {
    let serves = version.aliases.iter().any(|alias| alias == "production");
    (!serves && !failed_gates.is_empty()).then(|| {
        format!(
            "production does not move to it, since gates failed: {}; see why with: {BOLD}evctl models gates {}:{}{BOLD:#}",
            failed_gates.join(", "),
            version.model,
            version.version
        )
    })
}

fn not_serving(version: &Version) -> String {
    format!(
        "no alias points at it yet, so it does not serve; let it serve with: {BOLD}evctl models alias {} production {}{BOLD:#}",
        version.model, version.version
    )
}

/// On standard error, and only on a terminal.
fn progress_bar() -> ProgressBar {
    let template =
        "{bar:32.cyan/dim} {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left  {msg}";
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    ProgressBar::new(0).with_style(style.progress_chars("██·"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anstream::adapter::strip_str;
    use ev_client::{CallError, Code, Progress};

    use super::*;

    #[test]
    fn an_upload_that_is_cut_off_says_so() {
        let check = |event: UploadEvent<'_>, expected: Option<&str>| assert_eq!(note(&event).as_deref(), expected);
        let error = Error::Call(Box::new(CallError::new(Code::Unavailable, "gone")));
        check(
            UploadEvent::Interrupted { error: &error, delay: Duration::from_millis(250) },
            Some("the upload was interrupted (UNAVAILABLE: gone); going on with it in 0.2 s"),
        );
        check(
            UploadEvent::Resumed { received_bytes: 3 << 20, total_bytes: 4 << 20 },
            Some("going on after 3.00 MiB of 4.00 MiB, which the server has already"),
        );
        check(
            UploadEvent::Resumed { received_bytes: 4, total_bytes: 4 },
            Some("the server has every byte of it already"),
        );
        check(UploadEvent::Sent(Progress { file: "a", sent_bytes: 1, total_bytes: 2 }), None);
    }

    #[test]
    fn what_does_not_serve_says_how_it_would() {
        let version = Version { model: "mine".to_owned(), version: 3, ..Version::default() };
        assert_eq!(
            strip_str(&not_serving(&version)).to_string(),
            "no alias points at it yet, so it does not serve; let it serve with: evctl models alias mine production 3"
        );
        assert!(
            strip_str(&render(&version, false)).to_string().starts_with("model    mine version 3 registered before\n")
        );
    }
}
