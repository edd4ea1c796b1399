//! `tracer replay FILE`: the lines of a recorded run, once more.

use std::fs::File;
use std::io::{self, BufReader, Read};

use anyhow::Result;

use crate::cli::Replay;
use crate::exit::{Exit, Failure};
use crate::output::sink::Sink;
use crate::record::{Error, Recording};
use crate::run::{Input, Run};

/// Prints the lines of a recording.
///
/// # Errors
/// When it cannot be read, or stdout does not take the lines.
pub fn replay(options: &Replay) -> Result<Exit> {
    let name = options.file.display();
    let failure = |error: &Error| {
        Failure::usage(
            format!("cannot replay `{name}`: {error}"),
            "a recording is what `tracer record` writes",
        )
    };
    let input: Box<dyn Read> = if options.file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(&options.file).map_err(|error| failure(&Error::Io(error)))?)
    };
    let (mut recording, setup) = Recording::open(BufReader::new(input)).map_err(|error| failure(&error))?;
    let (mut run, first) = Run::new(setup);
    let mut sink = Sink::stdout(options.output, options.color);
    let written = (|| -> io::Result<Option<Error>> {
        sink.write(first)?;
        loop {
            let input = match recording.next_input() {
                Ok(Some(input)) => input,
                Ok(None) => break,
                Err(error) => return Ok(Some(error)),
            };
            if let Input::Advance { complete_until, .. } = input {
                sink.release(complete_until)?;
            }
            for line in run.take(input) {
                sink.write(line)?;
            }
            // What it requests was done when it was recorded.
            run.take_requests();
        }
        sink.release_all()?;
        sink.flush()?;
        Ok(None)
    })();
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        Err(error) => Err(error.into()),
        Ok(Some(error)) => Err(failure(&error).into()),
        Ok(None) => Ok(Exit::Done),
    }
}
