//! The chores of building `tracer`, one subcommand a file: `cargo xtask --help`.
#![warn(missing_docs)]

mod bench;
mod bpf;
mod cargo;
mod ci;
mod defences;
mod demo;
mod digest;
mod dist;
mod ebpf;
mod elevate;
mod failure;
mod fuzz;
mod lab;
mod load;
mod run;
mod setup;
mod soak;
mod test;
mod vm;

use std::{ffi::OsString, net::SocketAddr, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use crate::{failure::Failure, load::Load};

/// The chores of building tracer
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Build tracer and trace: builds as you, elevates only the binary
    Run {
        /// Passed to `tracer`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Run every test this host allows, and say which it does not and why
    Test {
        /// Passed to `cargo test`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Stage a refused connection in a network namespace of its own and trace it live
    Demo(demo::Options),
    /// Run the demo, the live tests and the oracle on stock Debian kernels, emulated
    Vm {
        /// 5.10, 6.1, 6.12, 7; every one when none is named
        kernels: Vec<String>,
        /// Passed to the tests
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Measure what tracer costs, and write docs/benchmarks.md and target/bench.json
    Bench(bench::Options),
    /// Build tracer as one static binary, target/dist/tracer
    Dist,
    /// Build the kernel side and install it as the checked-in object
    BuildEbpf {
        /// Install nothing; fail unless the checked-in object is what the sources give
        #[arg(long)]
        check: bool,
    },
    /// Install what `build-ebpf`, `vm` and the tests need
    Setup {
        /// Only what the tests need
        #[arg(long)]
        tests: bool,
    },
    /// Fuzz the parsers of what others write, from the checked-in seeds
    Fuzz {
        /// A folder of `fuzz/seeds`; every one without
        target: Option<String>,
        /// How long, for each target
        #[arg(long, default_value_t = 180)]
        seconds: u32,
    },
    /// Run every check of the project, the tests last
    Ci,
    /// Take each defence of tracer away, in a copy, and see its tests fail: takes half an hour
    #[command(hide = true)]
    Defences {
        /// Only those with one of these words in what they are against, or in their tests
        words: Vec<String>,
    },
    /// Let everything go wrong that can, for a time, and see that tracer bears it
    Soak {
        /// How long: 90, 90s, 5m or 1h; at least six rounds, which take some five minutes
        #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
        duration: Duration,
    },
    #[command(hide = true)]
    DemoListen { address: SocketAddr },
    #[command(hide = true)]
    DemoConnect { address: SocketAddr },
    #[command(hide = true)]
    Load {
        #[command(subcommand)]
        load: Load,
    },
}

/// A number with a unit, or of seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err("a duration is like 90, 90s, 5m or 1h".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "a duration begins with a number".to_owned())?;
    Ok(Duration::from_secs(number * seconds))
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Run { args } => run::run(&args),
        Chore::Test { args } => test::run(&args),
        Chore::Demo(options) => demo::run(options),
        Chore::Vm { kernels, args } => {
            vm::run(&kernels, &args).map(|ok| if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Chore::Dist => dist::run(),
        Chore::Bench(options) => bench::run(options),
        Chore::BuildEbpf { check: false } => ebpf::install(),
        Chore::BuildEbpf { check: true } => ebpf::check(),
        Chore::Setup { tests } => setup::run(tests),
        Chore::Fuzz { target, seconds } => fuzz::run(target.as_deref(), seconds),
        Chore::Ci => ci::run(),
        Chore::Defences { words } => defences::run(&words),
        Chore::DemoListen { address } => demo::listen(address),
        Chore::DemoConnect { address } => demo::connect(address),
        Chore::Soak { duration } => soak::run(duration),
        Chore::Load { load } => load::run(&load),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            match error.downcast_ref::<Failure>() {
                Some(failure) => failure.report(),
                None => ExitCode::FAILURE,
            }
        }
    }
}
