//! `tracer completions SHELL`: the completions of a shell, made from the command line's own definition.

use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::Exit;
use crate::stdio::print;

/// Prints a shell's completions.
///
/// # Errors
/// When stdout does not take them.
pub fn completions(shell: Shell) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tracer", &mut script);
    print(&script)?;
    Ok(Exit::Done)
}
