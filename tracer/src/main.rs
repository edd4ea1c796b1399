//! The program: runs the command that the command line names, and ends with its exit code.

use std::process::ExitCode;

use tracer::cli::{Cli, Command};
use tracer::cmd::{completions, doctor, explain, man, record, replay, schema, show, status, trace};
use tracer::exit;

fn main() -> ExitCode {
    let (result, verbose) = match Cli::from_arguments() {
        Ok(cli) => {
            let verbose = cli.trace.verbose;
            match cli.command {
                None => (trace::trace(&cli.trace, None), verbose),
                Some(Command::Trace(trace)) => (trace::trace(&trace, None), trace.verbose),
                Some(Command::Record(record)) => (record::record(&record), record.trace.verbose),
                Some(Command::Replay(replay)) => (replay::replay(&replay), false),
                Some(Command::Status(status)) => (status::status(&status), false),
                Some(Command::Show(options)) => (show::show(&options), false),
                Some(Command::Doctor) => (doctor::doctor(), false),
                Some(Command::Schema) => (schema::schema(), false),
                Some(Command::Explain { cause }) => (explain::explain(cause), false),
                Some(Command::Man) => (man::man(), false),
                Some(Command::Completions { shell }) => (completions::completions(shell), false),
            }
        }
        Err(failure) => (Err(failure.into()), false),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => exit::explain(&error, verbose).into(),
    }
}
