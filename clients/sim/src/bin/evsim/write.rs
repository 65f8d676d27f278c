//! Batches and truth to files.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    thread,
};

use evsim::{
    SimError, Truth,
    output::{BatchWriter, TruthWriter},
};

use crate::{cli::OutArgs, source::Source};

/// Writes the truth, each of it once.
pub(crate) struct TruthFile {
    writer: TruthWriter<BufWriter<File>>,
    last: Option<Truth>,
}

/// Writes a source to the end.
///
/// # Errors
///
/// When it cannot be read or written.
pub(crate) fn write(mut source: Source, out: &OutArgs, mut truth: Option<TruthFile>) -> Result<(), SimError> {
    let to: Box<dyn Write> = if out.output == Path::new("-") {
        Box::new(BufWriter::new(io::stdout().lock()))
    } else {
        Box::new(create(&out.output)?)
    };
    let mut writer = BatchWriter::new(to, out.format.into());
    for item in source.items {
        let item = item?;
        thread::sleep(source.pace.wait(item.due_us));
        writer.write(&item.batch).map_err(unwritten)?;
        // Whoever watches at a speed sees each batch at its time.
        if source.pace.is_paced() {
            writer.flush().map_err(unwritten)?;
        }
        if let Some((file, truth)) = truth.as_mut().zip(item.truth) {
            file.write(truth)?;
        }
    }
    if let Some(truth) = &mut truth {
        truth.flush()?;
    }
    writer.flush().map_err(unwritten)
}

fn create(path: &Path) -> Result<BufWriter<File>, SimError> {
    let file =
        fs_err::File::create(path).map_err(|source| SimError::Io { what: "a file cannot be written", source })?;
    Ok(BufWriter::new(file.into_parts().0))
}

fn unwritten(source: io::Error) -> SimError {
    SimError::Io { what: "the output cannot be written", source }
}

// === impl TruthFile ===

impl TruthFile {
    pub(crate) fn create(path: &Path) -> Result<TruthFile, SimError> {
        Ok(TruthFile { writer: TruthWriter::new(create(path)?), last: None })
    }

    /// A batch that is sent twice is true once.
    pub(crate) fn write(&mut self, truth: Truth) -> Result<(), SimError> {
        if self.last.as_ref() != Some(&truth) {
            self.writer.write(&truth).map_err(unwritten)?;
            self.last = Some(truth);
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> Result<(), SimError> {
        self.writer.flush().map_err(unwritten)
    }
}
