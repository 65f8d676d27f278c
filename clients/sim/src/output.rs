//! Batches and truth as text.

use std::io::{self, Write};

use serde::Serialize;

use crate::{Batch, Signal, Truth};

/// How batches are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a batch; a value that is missing or no number is `null`.
    JsonLines,
    /// One line a reading, and a line of names before the first.
    Csv,
}

/// Writes batches.
#[derive(Debug)]
pub struct BatchWriter<W> {
    to: W,
    format: Format,
    begun: bool,
}

/// Writes truth, as JSON lines.
#[derive(Debug)]
pub struct TruthWriter<W>(W);

// === impl BatchWriter ===

impl<W: Write> BatchWriter<W> {
    /// Writes to `to`.
    pub fn new(to: W, format: Format) -> BatchWriter<W> {
        BatchWriter { to, format, begun: false }
    }

    /// Writes one.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&mut self, batch: &Batch) -> io::Result<()> {
        match self.format {
            Format::JsonLines => json_line(&mut self.to, batch),
            Format::Csv => self.write_csv(batch),
        }
    }

    /// Writes out what is held back.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    fn write_csv(&mut self, batch: &Batch) -> io::Result<()> {
        if !self.begun {
            self.begun = true;
            write!(self.to, "vehicle_id,sequence,is_resend,time_us")?;
            for signal in Signal::ALL {
                write!(self.to, ",{}", signal.name())?;
            }
            writeln!(self.to)?;
        }
        for (index, time_us) in batch.times_us.iter().enumerate() {
            write!(self.to, "{},{},{},{time_us}", batch.vehicle_id, batch.sequence, batch.is_resend)?;
            for signal in Signal::ALL {
                match batch.column(signal).and_then(|values| values.get(index)) {
                    Some(value) if value.is_finite() => write!(self.to, ",{value}")?,
                    _ => write!(self.to, ",")?,
                }
            }
            writeln!(self.to)?;
        }
        Ok(())
    }
}

// === impl TruthWriter ===

impl<W: Write> TruthWriter<W> {
    /// Writes to `to`.
    pub fn new(to: W) -> TruthWriter<W> {
        TruthWriter(to)
    }

    /// Writes one.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&mut self, truth: &Truth) -> io::Result<()> {
        json_line(&mut self.0, truth)
    }

    /// Writes out what is held back.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn json_line(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *to, value)?;
    to.write_all(b"\n")
}
