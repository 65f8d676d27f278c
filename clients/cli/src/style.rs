//! Colours; they reach terminals only.

use anstyle::{AnsiColor, Style};

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
