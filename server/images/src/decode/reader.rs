//! Readers of bytes in memory that ask now and then whether to stop, and then pretend that the file ends.

use std::{
    cell::Cell,
    io::{self, BufRead, Read, Seek, SeekFrom},
};

use zune_jpeg::zune_core::bytestream::{ZByteIoError, ZByteReaderTrait, ZSeekFrom};

use crate::limits::Stop;

/// Bytes between two questions. The densest deflate makes 4 MB of them, the densest JPEG about a million pixels, either
/// a few milliseconds of work.
const STRIDE: usize = 4096;

/// Zeros behind the end of a JPEG: the decoder reads up to 8 bytes before it needs them, and would take that for the end
/// of a file that is whole.
const READ_AHEAD: usize = 16;

/// The question, and whether it was ever answered with yes.
pub(super) struct Guard<'a> {
    stop: Stop<'a>,
    stopped: Cell<bool>,
}

/// For decoders that read through [`std::io`].
pub(super) struct GuardedReader<'a> {
    bytes: &'a [u8],
    position: usize,
    guard: &'a Guard<'a>,
}

/// For the JPEG decoder, which reads a few bytes at a time and is a third slower through [`std::io`].
pub(super) struct GuardedCursor<'a> {
    /// Shortened to nothing when stopped.
    bytes: &'a [u8],
    position: usize,
    next_question: usize,
    guard: &'a Guard<'a>,
}

// === impl Guard ===

impl<'a> Guard<'a> {
    pub(super) fn new(stop: Stop<'a>) -> Self {
        Self { stop, stopped: Cell::new(false) }
    }

    pub(super) fn stopped(&self) -> bool {
        self.stopped.get()
    }

    fn ask(&self) -> bool {
        if !self.stopped.get() && (self.stop)() {
            self.stopped.set(true);
        }
        self.stopped.get()
    }
}

// === impl GuardedReader ===

impl<'a> GuardedReader<'a> {
    pub(super) fn new(bytes: &'a [u8], guard: &'a Guard<'a>) -> Self {
        Self { bytes, position: 0, guard }
    }
}

impl Read for GuardedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for GuardedReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        // At every multiple of the stride a piece ends, so that many small reads ask no more often than large ones.
        if self.position.is_multiple_of(STRIDE) && self.guard.ask() {
            return Ok(&[]);
        }
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        Ok(&rest[..rest.len().min(STRIDE - self.position % STRIDE)])
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount;
    }
}

impl Seek for GuardedReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, offset) = match to {
            SeekFrom::Start(position) => (0, i64::try_from(position).map_err(io::Error::other)?),
            SeekFrom::End(offset) => (self.bytes.len(), offset),
            SeekFrom::Current(offset) => (self.position, offset),
        };
        let position = seek(base, offset).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.position = position;
        Ok(position as u64)
    }
}

/// A position that can still be counted onward from, though the file may have ended before it.
fn seek(base: usize, offset: i64) -> Option<usize> {
    base.checked_add_signed(isize::try_from(offset).ok()?).filter(|position| *position <= isize::MAX as usize)
}

// === impl GuardedCursor ===

impl<'a> GuardedCursor<'a> {
    pub(super) fn new(bytes: &'a [u8], guard: &'a Guard<'a>) -> Self {
        Self { bytes, position: 0, next_question: STRIDE, guard }
    }

    #[inline]
    fn rest(&mut self) -> &'a [u8] {
        if self.position >= self.next_question {
            self.question();
        }
        self.bytes.get(self.position..).unwrap_or_default()
    }

    #[cold]
    fn question(&mut self) {
        self.next_question = self.position.saturating_add(STRIDE);
        if self.guard.ask() {
            self.bytes = &[];
        }
    }

    fn peek(&mut self, buffer: &mut [u8]) -> usize {
        let rest = self.rest();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        count
    }
}

impl ZByteReaderTrait for GuardedCursor<'_> {
    #[inline]
    fn read_byte_no_error(&mut self) -> u8 {
        let byte = self.rest().first().copied().unwrap_or(0);
        self.position += 1;
        byte
    }

    #[inline]
    fn read_exact_bytes(&mut self, buffer: &mut [u8]) -> Result<(), ZByteIoError> {
        self.peek_exact_bytes(buffer)?;
        self.position += buffer.len();
        Ok(())
    }

    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, ZByteIoError> {
        let count = self.peek(buffer);
        self.position += count;
        Ok(count)
    }

    fn peek_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, ZByteIoError> {
        Ok(self.peek(buffer))
    }

    #[inline]
    fn peek_exact_bytes(&mut self, buffer: &mut [u8]) -> Result<(), ZByteIoError> {
        let rest = self.rest();
        match rest.get(..buffer.len()) {
            Some(bytes) => buffer.copy_from_slice(bytes),
            None => return Err(ZByteIoError::NotEnoughBytes(rest.len(), buffer.len())),
        }
        Ok(())
    }

    fn z_seek(&mut self, from: ZSeekFrom) -> Result<u64, ZByteIoError> {
        let position = match from {
            ZSeekFrom::Start(position) => usize::try_from(position).ok(),
            ZSeekFrom::End(offset) => seek(self.bytes.len(), offset),
            ZSeekFrom::Current(offset) => seek(self.position, offset),
        };
        self.position = position.ok_or(ZByteIoError::SeekError("a seek out of the file"))?;
        Ok(self.position as u64)
    }

    #[inline]
    fn is_eof(&mut self) -> Result<bool, ZByteIoError> {
        Ok(self.position >= self.bytes.len() + READ_AHEAD)
    }

    fn z_position(&mut self) -> Result<u64, ZByteIoError> {
        Ok(self.position as u64)
    }

    fn read_remaining(&mut self, sink: &mut Vec<u8>) -> Result<usize, ZByteIoError> {
        let rest = self.rest();
        sink.extend_from_slice(rest);
        self.position += rest.len();
        Ok(rest.len())
    }
}
