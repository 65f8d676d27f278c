//! The journal's file: appended to, synced, and written anew when it is long.

use std::{
    io::{self, BufRead, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
};

use fs_err::{File, OpenOptions};

use super::record::{FORMAT, Kept, Record};

/// Longest line: an alert takes about a kilobyte.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// Longest file that is read; one that is longer was not written here.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// It is written anew when it is this much longer than it was then,
const GROWTH_BYTES: u64 = 1 << 20;
/// and this many times as long.
const GROWTH_TIMES: u64 = 4;

/// A file that records are added to. What was added before an error stays as it was.
#[derive(Debug)]
pub(super) struct JournalFile {
    path: PathBuf,
    file: Option<File>,
    len_bytes: u64,
    /// When it was last written anew.
    base_bytes: u64,
}

/// What reading a file came to.
#[derive(Debug)]
pub(super) enum Found {
    /// There was none.
    Nothing,
    /// Records; perhaps not all of them.
    Records(Kept),
    /// Something else, which was set aside.
    Strange,
}

// === impl JournalFile ===

impl JournalFile {
    pub(super) fn new(path: PathBuf) -> JournalFile {
        JournalFile { path, file: None, len_bytes: 0, base_bytes: 0 }
    }

    /// Where a file is put that is not, or not as a whole, what was written.
    pub(super) fn aside(&self) -> PathBuf {
        self.path.with_extension("damaged")
    }

    /// Reads what an earlier process left.
    ///
    /// A last line without an end is what a crash leaves, and no damage. Of a file with damaged lines the others count, and
    /// a copy is set aside; a file that does not begin as a journal does is set aside itself.
    pub(super) fn read(&self, debts_max: usize) -> io::Result<Found> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        let is_short = file.metadata()?.len() <= FILE_BYTES_MAX;
        let mut lines = BufReader::new(file);
        let first = if is_short { next_line(&mut lines)?.as_deref().and_then(Record::read) } else { None };
        if !matches!(first, Some(Record::Format(FORMAT))) {
            fs_err::rename(&self.path, self.aside())?;
            return Ok(Found::Strange);
        }
        let mut kept = Kept::new(debts_max);
        while let Some(line) = next_line(&mut lines)? {
            match Record::read(&line) {
                Some(record) => kept.take(record),
                None if line.ends_with(b"\n") || line.len() as u64 == LINE_BYTES_MAX => kept.damaged_lines += 1,
                None => {}
            }
        }
        if kept.damaged_lines > 0 {
            fs_err::copy(&self.path, self.aside())?;
        }
        Ok(Found::Records(kept))
    }

    /// Adds records, safely: once this returns, they survive a power cut.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        if let Err(error) = file.write_all(bytes).and_then(|()| file.sync_data()) {
            // A part of it would be taken for damage later.
            let _ = file.set_len(self.len_bytes);
            return Err(error);
        }
        self.len_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Replaces everything; after an error everything is as it was.
    pub(super) fn rewrite(&mut self, bytes: &[u8]) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let written = write_new(&new, bytes).and_then(|file| {
            fs_err::rename(&new, &self.path)?;
            Ok(file)
        });
        match written {
            Ok(file) => {
                (self.file, self.len_bytes) = (Some(file), bytes.len() as u64);
                self.base_bytes = self.len_bytes;
                // Without it the old name might come back after a power cut, with what it said.
                self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
            }
            Err(error) => {
                let _ = fs_err::remove_file(&new);
                Err(error)
            }
        }
    }

    /// Whether it says much that does not matter any more.
    pub(super) fn is_long(&self) -> bool {
        self.len_bytes > self.base_bytes.saturating_mul(GROWTH_TIMES).max(self.base_bytes + GROWTH_BYTES)
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// The next line with its end, or as much of it as a line may have.
fn next_line(lines: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    lines.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    Ok((!line.is_empty()).then_some(line))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ev_alerts::{Alert, AlertEvent, Alerts, AlertsConfig, Assessment, Cause, Filter, Notice, Page, Report};
    use ev_domain::{RiskClass, VehicleId};
    use proptest::prelude::*;

    use super::*;
    use crate::journal::record::Line;

    fn events(count: u32) -> Vec<AlertEvent> {
        let alerts = Alerts::new(AlertsConfig::default().life, 1);
        let mut hearing = alerts.subscribe();
        for number in 0..count {
            let vehicle = VehicleId::new(&format!("bus-{number}")).expect("an id");
            let assessment = Assessment {
                class: RiskClass::Alarm,
                cause: Cause::Onset,
                value: f32::NAN,
                limit: 129.0,
                time_us: i64::from(number),
            };
            alerts.report(&Report::of_rule(&vehicle, &assessment), i64::from(number));
        }
        let listed = alerts.list(&Filter::default(), &Page::default()).expect("a page").alerts;
        let id = listed[0].id;
        alerts.acknowledge(id, "me", "on it", 1_000).expect("acknowledged");
        let heard = std::iter::from_fn(|| hearing.try_next());
        heard
            .filter_map(|notice| if let Notice::Event(event) = notice { Some((*event).clone()) } else { None })
            .collect()
    }

    fn lines(events: &[AlertEvent]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Line::Format(FORMAT).write_to(&mut bytes);
        for event in events {
            Line::Alert(&event.alert).write_to(&mut bytes);
            Line::Owed { webhook: "hook", event }.write_to(&mut bytes);
        }
        bytes
    }

    fn journal(folder: &tempfile::TempDir) -> JournalFile {
        JournalFile::new(folder.path().join("alerts.journal"))
    }

    fn records(journal: &JournalFile) -> Kept {
        match journal.read(100).expect("readable") {
            Found::Records(kept) => kept,
            found => panic!("{found:?}"),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = journal(&folder);
        assert!(matches!(file.read(100), Ok(Found::Nothing)));
        let events = events(3);
        assert_eq!(events.len(), 4);
        file.rewrite(&lines(&events[..2])).expect("written");
        // As much of the rest as there is, in any order; and what is settled is owed no longer.
        let mut rest = Vec::new();
        for event in events[2..].iter().rev() {
            Line::Alert(&event.alert).write_to(&mut rest);
        }
        let (webhook, alert) = ("hook", events[0].alert.id.to_string());
        Line::Settled { webhook, alert: &alert, revision: 1 }.write_to(&mut rest);
        file.append(&rest).expect("written");
        let kept = records(&journal(&folder));
        assert_eq!((kept.alerts.len(), kept.debts.len(), kept.damaged_lines), (3, 1, 0));
        assert_eq!(kept.debts.iter().next().map(|(id, _)| id.alert), Some(events[1].alert.id));
        let acknowledged = kept.alerts.values().filter(|alert| alert.acknowledgement.is_some());
        let acknowledged: Vec<&Alert> = acknowledged.collect();
        assert_eq!((acknowledged.len(), acknowledged[0].revision), (1, 2));
    }

    #[test]
    fn what_is_no_journal_is_set_aside() {
        let of_another_version = |bytes: &mut Vec<u8>| {
            bytes.clear();
            Line::Format(FORMAT + 1).write_to(bytes);
        };
        let check = |change: &dyn Fn(&mut Vec<u8>)| {
            let folder = tempfile::tempdir().expect("a folder");
            let file = journal(&folder);
            let mut bytes = lines(&events(1));
            change(&mut bytes);
            fs_err::write(&file.path, &bytes).expect("written");
            assert!(matches!(file.read(100), Ok(Found::Strange)));
            assert_eq!(fs_err::read(file.aside()).expect("set aside"), bytes);
            assert!(!file.path.exists());
        };
        check(&|bytes| bytes.clear());
        check(&|bytes| bytes[0] ^= 1);
        check(&of_another_version);
        check(&|bytes| *bytes = vec![b'x'; 200_000]);
    }

    #[test]
    fn it_is_long_when_most_of_it_does_not_matter() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = journal(&folder);
        file.rewrite(&lines(&events(2))).expect("written");
        let more = vec![b'\n'; 1 << 19];
        file.append(&more).expect("written");
        assert!(!file.is_long());
        file.append(&more).expect("written");
        file.append(&more).expect("written");
        assert!(file.is_long());
        file.rewrite(&lines(&events(2))).expect("written");
        assert!(!file.is_long());
    }

    #[test]
    fn debts_are_bounded() {
        let mut kept = Kept::new(2);
        let webhook: Arc<str> = "hook".into();
        let owed: Vec<bool> = events(3).into_iter().map(|event| kept.debts.owe(&webhook, &Arc::new(event))).collect();
        assert_eq!(owed, [true, true, false, false]);
        kept.debts.keep_only(&["another".into()]);
        assert_eq!(kept.debts.len(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// A crash leaves a beginning: what is whole in it counts, and nothing is called damage.
        #[test]
        fn a_file_that_ends_anywhere_is_read_as_far_as_it_goes(cut in 0usize..4_000) {
            let folder = tempfile::tempdir().expect("a folder");
            let file = journal(&folder);
            let bytes = lines(&events(3));
            let first = bytes.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
            let cut = first + cut.min(bytes.len() - first);
            fs_err::write(&file.path, &bytes[..cut]).expect("written");
            let kept = records(&file);
            let whole = bytes[first..cut].iter().filter(|byte| **byte == b'\n').count();
            prop_assert_eq!(kept.damaged_lines, 0);
            prop_assert_eq!(kept.debts.len(), whole / 2);
        }

        /// A bit that flipped costs its line and no other, and is told.
        #[test]
        fn a_bit_that_flips_costs_a_line(at in 0usize..1_000_000, bit in 0u32..8) {
            let folder = tempfile::tempdir().expect("a folder");
            let file = journal(&folder);
            let mut bytes = lines(&events(3));
            let first = bytes.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
            let at = first + at % (bytes.len() - first - 1);
            bytes[at] ^= 1 << bit;
            fs_err::write(&file.path, &bytes).expect("written");
            let kept = records(&file);
            prop_assert!((1..=2).contains(&kept.damaged_lines));
            prop_assert!(kept.alerts.len() >= 2 && kept.debts.len() >= 3);
            prop_assert_eq!(fs_err::read(file.aside()).expect("a copy"), bytes);
        }
    }
}
