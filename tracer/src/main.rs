//! The program: runs the command that the command line names, and ends with its exit code.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory as _;
use tracer::cli::{Cli, Command};
use tracer::cmd::explain::Page;
use tracer::cmd::{doctor, replay, show, status, trace};
use tracer::exit::{self, print};
use tracer::output::json;
use tracer::output::schema::Cause;

fn main() -> ExitCode {
    let (result, verbose) = match Cli::from_arguments() {
        Ok(cli) => {
            let verbose = cli.trace.verbose;
            match cli.command {
                None => (trace::trace(&cli.trace, None), verbose),
                Some(Command::Trace(trace)) => (trace::trace(&trace, None), trace.verbose),
                Some(Command::Record(record)) => {
                    (trace::trace(&record.trace, Some(&record.file)), record.trace.verbose)
                }
                Some(Command::Replay(replay)) => (replay::replay(&replay), false),
                Some(Command::Status(status)) => (status::status(&status), false),
                Some(Command::Show(options)) => (show::show(&options), false),
                Some(Command::Doctor) => (doctor::doctor(), false),
                Some(Command::Schema) => (json::schema_text().and_then(|text| print(&text)), false),
                Some(Command::Explain { cause }) => {
                    let causes = cause.map_or_else(|| Cause::ALL.to_vec(), |cause| vec![cause]);
                    let pages: Vec<String> =
                        causes.into_iter().map(|cause| Page(cause).to_string()).collect();
                    (print(pages.join("\n").as_bytes()), false)
                }
                Some(Command::Man) => (manual().and_then(|page| print(&page)), false),
                Some(Command::Completions { shell }) => {
                    let mut script = Vec::new();
                    clap_complete::generate(shell, &mut Cli::command(), "tracer", &mut script);
                    (print(&script), false)
                }
            }
        }
        Err(failure) => (Err(failure.into()), false),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => exit::explain(&error, verbose).into(),
    }
}

/// The manual page, with each command's own behind it.
fn manual() -> Result<Vec<u8>> {
    let mut page = Vec::new();
    let command = Cli::command();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        let manual = clap_mangen::Man::new(command.clone());
        writeln!(page, ".SH \"COMMAND {}\"", command.get_name().to_uppercase())?;
        manual.render_description_section(&mut page)?;
        manual.render_options_section(&mut page)?;
    }
    Ok(page)
}
