//! `evctl predict image`.

mod photo;
mod render;

use std::{
    io::{IsTerminal as _, stdout},
    path::PathBuf,
};

use clap::{Args, value_parser};
use ev_client::{
    Client, Code, Error, VersionRef,
    proto::ev::{
        common::v1::ModelSelector,
        vision::v1::{ClassifyRequest, ClassifyResponse},
    },
};
use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use self::{photo::Photo, render::Gallery};
use super::SelectionOptions;
use crate::{
    cli::GlobalOptions,
    exit::Exit,
    failure::{Failure, Report},
    json::Json,
    output::Output,
};

/// Photos on their way at once: enough to keep a server busy while the next ones are read, few enough to hold in memory.
const WINDOW: usize = 4;

/// Which vehicle is on this photo?
#[derive(Debug, Args)]
#[command(after_help = "\
A photo is a JPEG, PNG or WebP file of at most 16 MiB; its EXIF orientation is followed.

Several photos are answered in order, and one that is refused fails alone; the exit code then is 1.
Tables show the likeliest candidate of each unless --top-k says more; -o json prints a line for each:
{\"photo\": \"a.jpg\", \"response\": {…}} or {\"photo\": \"a.jpg\", \"error\": {…}}

Examples:
  evctl predict image car.jpg
  evctl predict image --top-k 3 photos/*.jpg
  curl -s https://example.com/car.jpg | evctl predict image -
  evctl predict image car.jpg --model vehicle-classifier@canary
  evctl -o json predict image car.jpg | jq -r '.candidates[0].label'")]
pub(crate) struct ImageCommand {
    /// Files with photos; `-` for standard input.
    #[arg(value_name = "PHOTO", required = true)]
    photos: Vec<PathBuf>,
    /// Candidates in an answer, from 1 to 1000 [default: 5].
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1000))]
    top_k: Option<u32>,
    /// Registered model that shall answer, and its version or alias: the three options below in one.
    #[arg(
        long,
        value_name = "NAME[@VERSION|@ALIAS]",
        conflicts_with_all = ["model_name", "model_version", "alias"],
        help_heading = "Model"
    )]
    model: Option<VersionRef>,
    #[command(flatten)]
    selection: SelectionOptions,
}

/// What is asked of every photo.
#[derive(Debug, Clone)]
struct Question {
    top_k: Option<u32>,
    model_selector: Option<ModelSelector>,
}

/// One of many photos, answered.
#[derive(Debug, Serialize)]
struct Answered<'a> {
    photo: &'a str,
    response: Json,
}

/// One of many photos, refused.
#[derive(Debug, Serialize)]
struct Refused<'a> {
    photo: &'a str,
    #[serde(flatten)]
    report: Report,
}

// === impl ImageCommand ===

impl ImageCommand {
    pub(crate) async fn run(self, global: &GlobalOptions, output: &Output) -> Result<Exit, Failure> {
        let ImageCommand { photos, top_k, model, selection } = self;
        let model_selector = model.map(ModelSelector::from).or_else(|| selection.selector());
        let question = Question { top_k, model_selector };
        let size_max_bytes = global.config().message_size_max_bytes;
        photo::check_standard_input(&photos)?;
        match photos.as_slice() {
            [path] => {
                let photo = Photo::read(path, size_max_bytes).await?;
                let response = question.ask(&global.connect().await?, &photo).await?;
                let json = Json::new(RESPONSE, &response);
                output.answer(&json, || render::single(&photo, &response, terminal_columns()))?;
                Ok(Exit::Ok)
            }
            paths => question.ask_all(&global.connect().await?, output, paths, size_max_bytes).await,
        }
    }
}

const RESPONSE: &str = "ev.vision.v1.ClassifyResponse";

// === impl Question ===

impl Question {
    async fn ask(&self, client: &Client, photo: &Photo) -> Result<ClassifyResponse, Failure> {
        let Question { top_k, model_selector } = self.clone();
        let request = ClassifyRequest { image: photo.bytes.clone(), top_k, model_selector };
        Ok(client.vision().classify(request).await?)
    }

    /// Each photo in a call of its own, so that each has its deadline and its repetitions and fails alone.
    async fn ask_all(
        &self,
        client: &Client,
        output: &Output,
        paths: &[PathBuf],
        size_max_bytes: usize,
    ) -> Result<Exit, Failure> {
        let shown = self.top_k.unwrap_or(1) as usize;
        let progress = progress_bar(paths.len());
        let mut gallery = Gallery::default();
        let answer = async |path: &PathBuf| {
            let photo = Photo::read(path, size_max_bytes).await?;
            self.ask(client, &photo).await
        };
        let mut answers =
            stream::iter(paths).map(|path| async { (photo::name(path), answer(path).await) }).buffered(WINDOW);
        let mut refused = 0u64;
        while let Some((photo, answer)) = answers.next().await {
            match answer {
                Ok(response) => {
                    let json = Json::new(RESPONSE, &response);
                    progress.suspend(|| output.json_line(&Answered { photo: &photo, response: json }))?;
                    gallery.add(photo, response, shown);
                }
                Err(Failure::Client(error)) if concerns_all(&error) => return Err(error.into()),
                Err(failure) => {
                    refused += 1;
                    let report = failure.report();
                    progress.suspend(|| match output.is_json() {
                        true => output.json_line(&Refused { photo: &photo, report }),
                        false => {
                            anstream::eprint!("{}", report.about(&photo));
                            Ok(())
                        }
                    })?;
                }
            }
            progress.inc(1);
        }
        progress.finish_and_clear();
        if !gallery.is_empty() {
            output.text(|| gallery.render(terminal_columns()))?;
        }
        anstream::eprintln!("{} photos, {refused} of them refused", paths.len());
        Ok(if refused == 0 { Exit::Ok } else { Exit::Failed })
    }
}

/// Whether it is not about the photo: the others would fail as well, each after its repetitions.
fn concerns_all(error: &Error) -> bool {
    let codes =
        [Code::NotFound, Code::FailedPrecondition, Code::PermissionDenied, Code::Unauthenticated, Code::Unimplemented];
    matches!(error, Error::Unreachable { .. }) || error.code().is_some_and(|code| codes.contains(&code))
}

/// Columns of the terminal that answers go to; none where they go elsewhere.
fn terminal_columns() -> Option<usize> {
    if !stdout().is_terminal() {
        return None;
    }
    let (terminal_size::Width(columns), _) = terminal_size::terminal_size_of(stdout())?;
    Some(usize::from(columns))
}

/// On standard error, and only on a terminal.
fn progress_bar(photos: usize) -> ProgressBar {
    let template = "{bar:32.cyan/dim} {pos} of {len} photos  {elapsed}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    ProgressBar::new(photos as u64).with_style(style.progress_chars("██·"))
}
