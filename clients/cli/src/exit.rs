//! Exit codes.

use std::process::ExitCode;

/// How the program ends; the codes are documented in its help and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Refused, or something that was checked is not well.
    Failed = 1,
    /// The command line or an input file is wrong.
    Usage = 2,
    /// No server answers.
    Unreachable = 3,
    /// No answer in time.
    Timeout = 4,
}

/// For `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused by the server, or a check or a row failed
  2  wrong command line or unreadable input
  3  no server answers
  4  no answer within --timeout";

// === impl Exit ===

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
