//! Colours; they reach terminals only.

use anstyle::{AnsiColor, Style};
use ev_client::proto::ev::thermal::v1::Severity;

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const ACCENT: Style = AnsiColor::Cyan.on_default();
pub(crate) const PLAIN: Style = Style::new();

/// Help in the same colours.
pub(crate) const HELP: clap::builder::Styles = clap::builder::Styles::styled()
    .header(BOLD.underline())
    .usage(BOLD.underline())
    .literal(ACCENT)
    .placeholder(DIM)
    .valid(GOOD)
    .invalid(WARN)
    .error(BAD);

/// How urgent something is, at a glance.
pub(crate) fn of_severity(severity: Severity) -> Style {
    match severity {
        Severity::Unspecified => PLAIN,
        Severity::None => GOOD,
        Severity::Low | Severity::Medium => WARN,
        Severity::High | Severity::Critical => BAD,
    }
}

pub(crate) fn severity_name(severity: Severity) -> &'static str {
    severity.as_str_name().trim_start_matches("SEVERITY_")
}

/// What somebody else wrote, unable to move the cursor or change colours.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
