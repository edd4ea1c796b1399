//! `tracer man`: the manual page, made from the command line's own definition.

use std::io::Write as _;

use anyhow::Result;
use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::exit::Exit;
use crate::stdio::print;

/// Prints the manual page, with a section for each command.
///
/// # Errors
/// When stdout does not take it.
pub fn man() -> Result<Exit> {
    let mut page = Vec::new();
    let command = Cli::command();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        let manual = clap_mangen::Man::new(command.clone());
        writeln!(page, ".SH \"COMMAND {}\"", command.get_name().to_uppercase())?;
        manual.render_description_section(&mut page)?;
        manual.render_options_section(&mut page)?;
    }
    print(&page)?;
    Ok(Exit::Done)
}
