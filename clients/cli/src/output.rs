//! Where answers and errors go, and in which form.

use std::{io::Write as _, process::ExitCode};

use serde::Serialize;

use crate::{cli::Format, failure::Failure, style};

/// Prints answers to standard output and everything else to standard error.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
}

// === impl Output ===

impl Output {
    pub(crate) fn new(format: Format) -> Output {
        Output { format }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints an answer: its JSON, or the text that a person reads.
    pub(crate) fn answer(&self, json: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        let text = match self.format {
            Format::Json => serde_json::to_string_pretty(json).map_err(Failure::Encode)?,
            Format::Table | Format::Csv => text(),
        };
        writeln!(anstream::stdout().lock(), "{}", text.trim_end()).map_err(Failure::Output)
    }

    /// Prints one of many answers as a line of JSON; tables show them together at the end.
    pub(crate) fn json_line(&self, json: &impl Serialize) -> Result<(), Failure> {
        if self.format != Format::Json {
            return Ok(());
        }
        let text = serde_json::to_string(json).map_err(Failure::Encode)?;
        writeln!(anstream::stdout().lock(), "{text}").map_err(Failure::Output)
    }

    /// Prints the text that a person reads; scripts have had their lines.
    pub(crate) fn text(&self, text: impl FnOnce() -> String) -> Result<(), Failure> {
        match self.format {
            Format::Json => Ok(()),
            Format::Table | Format::Csv => {
                writeln!(anstream::stdout().lock(), "{}", text().trim_end()).map_err(Failure::Output)
            }
        }
    }

    /// A handle for what goes on beside the command.
    pub(crate) fn notes(&self) -> Output {
        Output { format: self.format }
    }

    /// Prints advice that is not part of the answer; scripts have it in the answer.
    pub(crate) fn advise(&self, text: &str) {
        if self.format != Format::Json {
            let warn = style::WARN;
            anstream::eprintln!("{warn}note:{warn:#} {text}");
        }
    }

    /// Prints what becomes of a connection, which no answer says: scripts are told beside their answers, too.
    pub(crate) fn note(&self, text: &str) {
        match self.format {
            Format::Json => anstream::eprintln!("{}", serde_json::json!({ "note": text })),
            Format::Table | Format::Csv => self.advise(text),
        }
    }

    /// Prints an error with what to do about it.
    pub(crate) fn failure(&self, failure: &Failure) -> ExitCode {
        if !failure.is_closed_pipe() {
            match self.format {
                Format::Json => {
                    anstream::eprintln!("{}", serde_json::to_string(&failure.report()).unwrap_or_default());
                }
                Format::Table | Format::Csv => anstream::eprint!("{}", failure.report()),
            }
        }
        failure.exit().into()
    }
}
