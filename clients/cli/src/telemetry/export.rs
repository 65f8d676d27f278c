//! `evctl telemetry export`: readings of a vehicle in a file.

use std::{
    fs::TryLockError,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use clap::{Args, ValueEnum};
use ev_client::Client;
use fs_err::File;
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    parquet::ParquetFile,
    query::{PAGE_READINGS, Selection, seconds_since, write_csv},
};
use crate::{exit::Exit, failure::Failure, output::Output};

/// Write readings of a vehicle to a CSV or Parquet file.
#[derive(Debug, Args)]
#[command(after_help = "\
CSV: the first column is the time, the others are signals with their unit: Vehicle.Speed[km/h].
`evctl telemetry send` plays such a file back.

Parquet: `time` in microseconds UTC, and a nullable float column for each signal, named by its path;
its unit is in the field's metadata, as pyarrow, pandas, polars and DuckDB read it.

The file has its name only when it is whole; until then it is FILE.partial.

Examples:
  evctl telemetry export car-1 --since 24h --file car-1.csv
  evctl telemetry export car-1 --since 30d --file car-1.parquet
  evctl telemetry export car-1 --since 30d --signal Vehicle.Speed --file - | gzip > car-1.csv.gz")]
pub(crate) struct ExportCommand {
    #[command(flatten)]
    selection: Selection,
    /// The file to write; it must not exist yet. `-` for standard output.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// What kind of file [default: by the end of its name, .parquet or anything else].
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<FileFormat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FileFormat {
    /// Text, for spreadsheets and `evctl telemetry send`.
    Csv,
    /// Compressed columns, for data frames.
    Parquet,
}

/// A file that gets its name when it is whole, and is removed when it does not become so.
struct Partial {
    file: File,
    path: PathBuf,
    target: PathBuf,
    is_whole: bool,
}

// === impl ExportCommand ===

impl ExportCommand {
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let ExportCommand { selection, file, format } = self;
        let is_parquet = file.extension().is_some_and(|end| end.eq_ignore_ascii_case("parquet"));
        let format = format.unwrap_or(if is_parquet { FileFormat::Parquet } else { FileFormat::Csv });
        // Time passes from one end of the span to the other: what is left can be told.
        let end = selection.until.unwrap_or_else(SystemTime::now);
        let span = end.duration_since(selection.since).unwrap_or_default();
        let progress = progress_bar(span.as_secs());
        let rows = if file.as_os_str() == "-" {
            write(client, &selection, format, std::io::stdout(), &progress).await?
        } else {
            // Before the first question: a file that cannot be written is better known now.
            let partial = Partial::create(&file)?;
            let out = partial.file.try_clone().map_err(Failure::Output)?;
            let rows = write(client, &selection, format, out, &progress).await?;
            partial.finish()?;
            rows
        };
        progress.finish_and_clear();
        output.advise(&format!("{rows} readings of {} were written to {}", selection.vehicle, file.display()));
        Ok(Exit::Ok)
    }
}

/// Writes readings, and how many.
async fn write(
    client: &Client,
    selection: &Selection,
    format: FileFormat,
    out: impl Write + Send,
    progress: &ProgressBar,
) -> Result<u64, Failure> {
    match format {
        FileFormat::Csv => write_csv(client, selection, out, u64::MAX, progress).await,
        FileFormat::Parquet => write_parquet(client, selection, out, progress).await,
    }
}

async fn write_parquet(
    client: &Client,
    selection: &Selection,
    out: impl Write + Send,
    progress: &ProgressBar,
) -> Result<u64, Failure> {
    let columns = selection.columns(client).await?;
    let mut file = ParquetFile::new(BufWriter::new(out), &selection.vehicle, columns)?;
    let mut rows = 0;
    let mut pages = client.telemetry().query(selection.request(PAGE_READINGS));
    while let Some(page) = pages.next().await? {
        file.push(&page)?;
        rows += u64::try_from(page.times_us.len()).unwrap_or_default();
        if let Some(last) = page.times_us.last() {
            progress.set_position(seconds_since(selection.since, *last));
        }
        progress.set_message(format!("{rows} readings"));
    }
    file.finish()?.flush().map_err(Failure::Output)?;
    Ok(rows)
}

// === impl Partial ===

impl Partial {
    fn create(target: &Path) -> Result<Partial, Failure> {
        check_free(target)?;
        let mut name = target.as_os_str().to_owned();
        name.push(".partial");
        let path = PathBuf::from(name);
        let failed = |error: std::io::Error| {
            Failure::usage(format!("cannot write {}: {error}", path.display()), &["name another file with --file"])
        };
        // One that is left of an export that was killed is written anew.
        let file = fs_err::OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.file().try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("{} is being written by another export", path.display());
                return Err(Failure::usage(message, &["name another file with --file, or wait for it"]));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_len(0).map_err(failed)?;
        Ok(Partial { file, path, target: target.to_owned(), is_whole: false })
    }

    /// Gives it its name, once it is on the disk.
    fn finish(mut self) -> Result<(), Failure> {
        self.file.sync_all().map_err(Failure::Output)?;
        check_free(&self.target)?;
        fs_err::rename(&self.path, &self.target).map_err(Failure::Output)?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = fs_err::remove_file(&self.path);
        }
    }
}

fn check_free(target: &Path) -> Result<(), Failure> {
    if target.symlink_metadata().is_err() {
        return Ok(());
    }
    let message = format!("{} exists already", target.display());
    Err(Failure::usage(message, &["name another file with --file, or remove this one"]))
}

/// On standard error, and only on a terminal.
fn progress_bar(seconds: u64) -> ProgressBar {
    let template = "{bar:32.cyan/dim} {percent:>3} %  {msg}  {elapsed}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is valid").progress_chars("██·");
    ProgressBar::new(seconds.max(1)).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let target = directory.path().join("car.parquet");
        let left = directory.path().join("car.parquet.partial");
        let write = |partial: &mut Partial, text: &str| partial.file.write_all(text.as_bytes()).expect("written");
        fs_err::write(&left, "left of an export that was killed").expect("written");
        let mut partial = Partial::create(&target).expect("created");
        write(&mut partial, "half");
        let busy = Partial::create(&target).err().expect("refused").to_string();
        assert!(busy.contains("car.parquet.partial is being written by another export"), "{busy}");
        drop(partial);
        assert!(!left.exists() && !target.exists());

        let mut partial = Partial::create(&target).expect("created");
        write(&mut partial, "whole");
        assert!(!target.exists());
        partial.finish().expect("finished");
        assert_eq!(fs_err::read_to_string(&target).expect("there"), "whole");
        assert!(!left.exists());
        let taken = Partial::create(&target).err().expect("refused").to_string();
        assert!(taken.contains("car.parquet exists already"), "{taken}");
    }
}
