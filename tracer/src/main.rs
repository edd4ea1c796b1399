use std::process::ExitCode;

use tracer::cli::{Cli, Command};
use tracer::exit::{self, Exit};
use tracer::{render, session, status};

fn main() -> ExitCode {
    let (result, verbose) = match Cli::from_arguments() {
        Ok(cli) => {
            let verbose = cli.trace.verbose;
            match cli.command {
                None => (session::trace(&cli.trace), verbose),
                Some(Command::Trace(trace)) => (session::trace(&trace), trace.verbose),
                Some(Command::Status(status)) => (status::status(&status), false),
                Some(Command::Schema) => (render::json::print_schema().map(|()| Exit::Done), false),
            }
        }
        Err(failure) => (Err(failure.into()), false),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => exit::explain(&error, verbose).into(),
    }
}
