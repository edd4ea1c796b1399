//! The chores of building `tracer`, one subcommand a file: `cargo xtask --help`.
#![warn(missing_docs)]

mod bare;
mod bench;
mod cargo;
mod ci;
mod clone;
mod demo;
mod digest;
mod dist;
mod ebpf;
mod elevate;
mod failure;
#[cfg(test)]
mod faults;
mod fuzz;
mod mutants;
mod patches;
mod run;
mod servers;
mod setup;
mod soak;
mod supply;
mod test;
mod testbed;
mod vm;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::failure::Failure;

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
    /// Run every test this host allows, and name those that it does not, and why
    Test {
        /// Passed to `cargo test`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Run `run`, `demo` and `test` in a bare environment: no tracefs, no terminal, an empty environment
    Bare,
    /// Stage a refused connection in a network namespace of its own and trace it live
    Demo(demo::Options),
    /// Run the demo, the live tests and the oracle on stock Debian kernels, and the tests with units on systemd, emulated
    Vm {
        /// 5.10, 6.1, 6.12, 7, systemd; every one when none is named
        guests: Vec<String>,
        /// Passed to the tests
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Measure what tracer costs, and write docs/benchmarks.md and target/bench.json
    #[command(disable_help_flag = true)]
    Bench {
        /// Passed to the benchmark: `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Build tracer as one static binary, target/dist/tracer, with a list of what it consists of and an archive
    Dist {
        /// Build in another directory too, and fail unless the files are the same, bit for bit
        #[arg(long)]
        check: bool,
    },
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
    /// Check the licences, advisories, duplicate versions and origin of all crates against deny.toml
    Supply {
        /// Renew the snapshot of the advisories first, from this git repository of RustSec's advisory-db
        #[arg(long, value_name = "DIRECTORY")]
        advisories: Option<PathBuf>,
    },
    /// Run every check of the project, the tests last
    Ci,
    /// Change the pure modules in small ways, and list the changes that no test notices: takes hours
    Mutants {
        /// Passed to `cargo mutants`, like `--file tracer/src/clock.rs`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Bring faults of the kernel side and of privilege back, and check that tests fail: as root
    Patches {
        /// Files of tests/patches, without `.patch`; every one when none is named
        names: Vec<String>,
    },
    /// Run tracer through all faults for a time, and check what it reports and holds: `--for 1h`
    #[command(disable_help_flag = true)]
    Soak {
        /// Passed to the soak: `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    #[command(hide = true)]
    DemoListen { address: SocketAddr },
    #[command(hide = true)]
    DemoConnect { address: SocketAddr },
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Run { args } => run::run(&args),
        Chore::Test { args } => test::run(&args),
        Chore::Bare => bare::run(),
        Chore::Demo(options) => demo::run(options),
        Chore::Vm { guests, args } => {
            let code = |troubles: Vec<String>| {
                if troubles.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            };
            vm::run(&guests, &args).map(code)
        }
        Chore::Dist { check } => dist::run(check),
        Chore::Bench { args } => bench::run(&args),
        Chore::BuildEbpf { check: false } => ebpf::install(),
        Chore::BuildEbpf { check: true } => ebpf::check(),
        Chore::Setup { tests } => setup::run(tests),
        Chore::Fuzz { target, seconds } => fuzz::run(target.as_deref(), seconds),
        Chore::Supply { advisories } => supply::run(advisories.as_deref()),
        Chore::Ci => ci::run(),
        Chore::Mutants { args } => mutants::run(&args),
        Chore::Patches { names } => patches::run(&names),
        Chore::DemoListen { address } => demo::listen(address),
        Chore::DemoConnect { address } => demo::connect(address),
        Chore::Soak { args } => soak::run(&args),
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
