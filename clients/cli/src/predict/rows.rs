//! Requests from a file, one JSON object a line.

use std::path::Path;

use ev_client::{Code, proto::ev::common::v1::RowError};
use fs_err::tokio::File;
use prost::Message;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader, stdin};

use crate::{failure::Failure, json};

/// Longest line that is read, in bytes.
const LINE_SIZE_MAX_BYTES: usize = 1 << 20;

/// One line: its number from 1, and its request or what is wrong with it.
#[derive(Debug)]
pub(crate) struct Row<R> {
    pub(crate) id: u64,
    pub(crate) request: Result<R, RowError>,
}

/// Reads rows from a file or from standard input.
pub(crate) struct Rows {
    reader: Box<dyn AsyncBufRead + Send + Unpin>,
    line: Vec<u8>,
    number: u64,
    /// Bytes read so far.
    pub(crate) read_bytes: u64,
    /// Bytes of the file, unless it is standard input.
    pub(crate) total_bytes: Option<u64>,
}

// === impl Rows ===

impl Rows {
    pub(crate) async fn open(path: &Path) -> Result<Rows, Failure> {
        if path == Path::new("-") {
            return Ok(Rows::new(Box::new(BufReader::new(stdin())), None));
        }
        let file = File::open(path).await.map_err(Failure::Input)?;
        let size = file.metadata().await.map_err(Failure::Input)?;
        let total_bytes = size.is_file().then_some(size.len());
        Ok(Rows::new(Box::new(BufReader::with_capacity(64 << 10, file)), total_bytes))
    }

    fn new(reader: Box<dyn AsyncBufRead + Send + Unpin>, total_bytes: Option<u64>) -> Rows {
        Rows { reader, line: Vec::new(), number: 0, read_bytes: 0, total_bytes }
    }

    /// The next line that is not empty.
    ///
    /// # Errors
    ///
    /// The file cannot be read. A line that is not a request is a row with an error.
    pub(crate) async fn next<R: Message + Default>(&mut self, name: &str) -> Result<Option<Row<R>>, Failure> {
        loop {
            self.line.clear();
            if !self.read_line().await? {
                return Ok(None);
            }
            self.number += 1;
            let text = self.line.trim_ascii();
            if !text.is_empty() {
                return Ok(Some(Row { id: self.number, request: parse(name, self.number, text) }));
            }
        }
    }

    /// The next line that is not empty, as it is, or what is wrong with it.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub(crate) async fn next_line(&mut self) -> Result<Option<(u64, Result<String, RowError>)>, Failure> {
        loop {
            self.line.clear();
            if !self.read_line().await? {
                return Ok(None);
            }
            self.number += 1;
            let text = self.line.trim_ascii();
            if !text.is_empty() {
                return Ok(Some((self.number, checked(self.number, text).map(str::to_owned))));
            }
        }
    }

    /// Reads a line, its end included; of a line that is too long only the beginning is kept.
    async fn read_line(&mut self) -> Result<bool, Failure> {
        let before = self.read_bytes;
        loop {
            let buffer = self.reader.fill_buf().await.map_err(Failure::Input)?;
            if buffer.is_empty() {
                return Ok(self.read_bytes > before);
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(buffer.len(), |end| end + 1);
            let kept = taken.min((LINE_SIZE_MAX_BYTES + 1).saturating_sub(self.line.len()));
            self.line.extend_from_slice(&buffer[..kept]);
            self.reader.consume(taken);
            self.read_bytes += taken as u64;
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}

fn parse<R: Message + Default>(name: &str, number: u64, line: &[u8]) -> Result<R, RowError> {
    let text = checked(number, line)?;
    json::parse(name, text).map_err(|error| refused(number, &without_line(&error.to_string())))
}

/// A line as text, where it is one of a bounded length.
fn checked(number: u64, line: &[u8]) -> Result<&str, RowError> {
    if line.len() > LINE_SIZE_MAX_BYTES {
        let message = format!("longer than {} KiB; expected one JSON request a line", LINE_SIZE_MAX_BYTES >> 10);
        return Err(refused(number, &message));
    }
    std::str::from_utf8(line).map_err(|error| refused(number, &format!("not UTF-8: {error}")))
}

fn refused(number: u64, message: &str) -> RowError {
    RowError {
        code: Code::InvalidArgument.into(),
        message: format!("line {number}: {message}"),
        reason: "BAD_LINE".to_owned(),
        field_violations: Vec::new(),
    }
}

/// serde counts lines within the text, which is always one.
fn without_line(message: &str) -> String {
    message.replace(" at line 1 column ", " at column ")
}

#[cfg(test)]
mod tests {
    use ev_client::proto::ev::range::v1::PredictRequest;

    use super::*;

    async fn read(text: &'static [u8]) -> Vec<Row<PredictRequest>> {
        let mut rows = Rows::new(Box::new(text), None);
        let mut all = Vec::new();
        while let Some(row) = rows.next("ev.range.v1.PredictRequest").await.expect("read") {
            all.push(row);
        }
        assert_eq!(rows.read_bytes, text.len() as u64);
        all
    }

    #[tokio::test]
    async fn a_bad_line_is_named_by_its_number_and_the_rest_is_read() {
        let rows = read(b"{\"make\":\"Tesla\"}\n\n{\"mak\":1}\r\nnonsense\n{\"seats\":5}").await;
        assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), [1, 3, 4, 5]);
        assert_eq!(rows[0].request.as_ref().expect("a request").make, "Tesla");
        let error = rows[1].request.as_ref().expect_err("unknown field");
        assert_eq!(error.reason, "BAD_LINE");
        assert!(error.message.starts_with("line 3: unrecognized field name 'mak'"), "{}", error.message);
        let error = rows[2].request.as_ref().expect_err("not JSON");
        assert_eq!(error.message, "line 4: expected ident at column 2");
        assert_eq!(rows[3].request.as_ref().expect("a request").seats, Some(5));
    }

    #[tokio::test]
    async fn odd_files_are_read() {
        assert!(read(b"").await.is_empty());
        assert!(read(b"\n \n").await.is_empty());
        assert!(read(b"\xff\xfe\n").await[0].request.is_err());
    }

    #[tokio::test]
    async fn a_line_without_end_is_bounded() {
        let long: &'static [u8] = Box::leak(vec![b'x'; 3 * LINE_SIZE_MAX_BYTES].into_boxed_slice());
        let error = read(long).await.remove(0).request.expect_err("too long");
        assert_eq!(error.message, "line 1: longer than 1024 KiB; expected one JSON request a line");
    }
}
