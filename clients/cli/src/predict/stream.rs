//! `evctl predict … --file`: lines of JSON in, lines of JSON out, in order.

use std::{
    io::{BufWriter, Write},
    path::Path,
    time::Duration,
};

use ev_client::{CallError, Client, Code, Error, Replies};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    rows::{Row, Rows},
    service::Service,
};
use crate::{exit::Exit, failure::Failure, json::Json};

/// Requests on their way at once.
const WINDOW: usize = 1024;

/// A line that was read, in order: answered by the server, or by its own error.
enum Pending<S: Service> {
    Sent,
    Refused(S::StreamResponse),
    Unreadable(Failure),
}

/// Answers every line of a file; `adjust` completes each request.
pub(crate) async fn run<S: Service + 'static>(
    client: &Client,
    path: &Path,
    timeout: Duration,
    adjust: impl Fn(&mut S::Request) + Send + 'static,
) -> Result<Exit, Failure>
where
    S::StreamResponse: Send,
{
    let mut rows = Rows::open(path).await?;
    let progress = progress_bar(rows.total_bytes);
    let (requests, sent) = mpsc::channel(WINDOW);
    let (pending, mut lines) = mpsc::channel::<Pending<S>>(WINDOW);
    let reading = progress.clone();
    let reader = tokio::spawn(async move {
        loop {
            let line = match rows.next::<S::Request>(S::REQUEST).await {
                Ok(None) => break,
                Err(failure) => Pending::Unreadable(failure),
                Ok(Some(Row { id, request: Err(error) })) => Pending::Refused(S::refused(id, error)),
                Ok(Some(Row { id, request: Ok(mut request) })) => {
                    adjust(&mut request);
                    if requests.send(S::stream_request(id, request)).await.is_err() {
                        break;
                    }
                    Pending::Sent
                }
            };
            reading.set_position(rows.read_bytes);
            if pending.send(line).await.is_err() {
                break;
            }
        }
    });

    let mut replies = S::open(client, ReceiverStream::new(sent)).await?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let (mut answered, mut refused) = (0u64, 0u64);
    while let Some(line) = next_line(&mut lines, &mut out).await? {
        let response = match line {
            Pending::Sent => next_reply(&mut replies, timeout).await?,
            Pending::Refused(response) => response,
            Pending::Unreadable(failure) => return Err(failure),
        };
        answered += 1;
        refused += u64::from(S::is_refused(&response));
        serde_json::to_writer(&mut out, &Json::new(S::STREAM_RESPONSE, &response))
            .map_err(|error| Failure::Output(error.into()))?;
        out.write_all(b"\n").map_err(Failure::Output)?;
        progress.set_message(format!("{answered} rows"));
    }
    out.flush().map_err(Failure::Output)?;
    reader.abort();
    progress.finish_and_clear();
    anstream::eprintln!("{answered} rows answered, {refused} of them with an error");
    Ok(if refused == 0 { Exit::Ok } else { Exit::Failed })
}

/// The next line; what is written so far is shown before waiting for it.
async fn next_line<S: Service>(
    lines: &mut mpsc::Receiver<Pending<S>>,
    out: &mut impl Write,
) -> Result<Option<Pending<S>>, Failure> {
    match lines.try_recv() {
        Ok(line) => Ok(Some(line)),
        Err(mpsc::error::TryRecvError::Disconnected) => Ok(None),
        Err(mpsc::error::TryRecvError::Empty) => {
            out.flush().map_err(Failure::Output)?;
            Ok(lines.recv().await)
        }
    }
}

async fn next_reply<T>(replies: &mut Replies<T>, timeout: Duration) -> Result<T, Failure> {
    match tokio::time::timeout(timeout, replies.next()).await {
        Ok(Ok(Some(reply))) => Ok(reply),
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(None)) => Err(refused(Code::Unknown, "the server ended the stream before its last answer".to_owned())),
        Err(_) => Err(refused(Code::DeadlineExceeded, format!("no answer within {timeout:?}"))),
    }
}

fn refused(code: Code, message: String) -> Failure {
    Failure::Client(Error::Call(Box::new(CallError::new(code, message))))
}

/// On standard error, and only on a terminal.
fn progress_bar(total_bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match total_bytes {
        Some(total) => (ProgressBar::new(total), "{bar:32.cyan/dim} {percent:>3} %  {msg}  {elapsed}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}  {elapsed}"),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("the template is valid").progress_chars("██·"))
}
