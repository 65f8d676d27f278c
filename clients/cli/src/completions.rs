//! `evctl completions`.

use std::io::Write as _;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{cli::Cli, exit::Exit, failure::Failure};

pub(crate) fn run(shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "evctl", &mut script);
    std::io::stdout().write_all(&script).map_err(Failure::Output)?;
    Ok(Exit::Ok)
}
