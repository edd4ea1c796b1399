//! The command line, parsed into final types.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};
use tracer_ebpf::PORTS_MAX;

use crate::bpf::loader::BindHook;
use crate::exit::Failure;
use crate::output::causes;
use crate::output::schema::Cause;
use crate::output::sink::{Color, Form};
use crate::products::default_port;
use crate::products::recognise::Pattern;

/// Reports live why a connect to localhost is refused: who was refused, who should have answered, and why it
/// could not.
#[derive(Debug, Parser)]
#[command(name = "tracer", version, args_conflicts_with_subcommands = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub trace: Trace,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch, and explain each refused connect (the default; needs root)
    Trace(Trace),
    /// One shot: who listens, and is each address answered (exit code 1: one is not)
    Status(Status),
    /// Trace, and write everything that was received to a file
    Record(Record),
    /// The lines of a recorded run, once more
    Replay(Replay),
    /// Show a log of `-o json` as text
    Show(Show),
    /// Explain a verdict: what it means, how it is known, and what to do
    Explain {
        /// A cause; every one when none is named
        #[arg(value_parser = parse_cause)]
        cause: Option<Cause>,
    },
    /// Report whether this host can run it, and what would be missing (exit code 3: it cannot)
    Doctor,
    /// Print the JSON Schema of `-o json`
    Schema,
    /// Print the manual page: `tracer man | man -l -`
    Man,
    /// Print a shell's completions
    Completions { shell: clap_complete::Shell },
}

#[derive(Clone, Debug, Args)]
pub struct Record {
    /// The recording that is written
    pub file: PathBuf,
    #[command(flatten)]
    pub trace: Trace,
}

#[derive(Clone, Debug, Args)]
pub struct Replay {
    /// The recording; `-`: standard input
    pub file: PathBuf,
    /// Form of the log on stdout
    #[arg(short, long, value_enum, default_value_t = Form::Text, value_name = "FORM")]
    pub output: Form,
    /// When to colour text
    #[arg(long, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
}

#[derive(Clone, Debug, Args)]
pub struct Show {
    /// The log; `-`: standard input
    pub file: PathBuf,
    /// When to colour text
    #[arg(long, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
}

fn parse_cause(text: &str) -> Result<Cause, String> {
    let names = || causes::in_order().map(Cause::name).collect::<Vec<_>>().join(", ");
    causes::in_order()
        .find(|cause| cause.name() == text)
        .ok_or_else(|| format!("a cause is one of {}", names()))
}

#[derive(Clone, Debug, Args)]
pub struct Trace {
    #[command(flatten)]
    pub ports: Ports,
    /// Form of the log on stdout
    #[arg(short, long, value_enum, default_value_t = Form::Text, value_name = "FORM")]
    pub output: Form,
    /// Stop after this time: 90, 90s, 5m, 1h 30m (a bare number is seconds)
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Stop after this many refusals
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Only refusals of clients in this network namespace: a name (ip netns), a path, or a process id
    #[arg(short, long, value_name = "NAME|/PATH|PID")]
    pub netns: Option<String>,
    /// Also connects that failed otherwise than by a refusal
    #[arg(short, long)]
    pub all: bool,
    /// Report every so often that tracer is running
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub heartbeat: Option<Duration>,
    /// Text in the name of the server's process, program or script, where tracer does not know its product; with PORT= of
    /// that port alone; repeatable
    #[arg(long, value_name = "[PORT=]PATTERN")]
    pub server: Vec<Pattern>,
    /// When to colour text
    #[arg(long, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
    /// How binds are followed, to compare the cost of each way
    #[arg(long, value_enum, default_value_t = BindHook::Best, hide = true)]
    pub bind_hook: BindHook,
    /// How long a refusal waits for answers of the host: 100ms, and longer on emulated machines
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, hide = true)]
    pub patience: Option<Duration>,
    /// Also print the messages of the kernel programs and the verifier
    #[arg(short, long)]
    pub verbose: bool,
}

#[derive(Clone, Debug, Args)]
pub struct Status {
    /// What to ask about: ADDR, HOST:PORT or a URL; `localhost` is 127.0.0.1 and ::1
    #[arg(value_name = "TARGET", default_value = "127.0.0.1", value_parser = parse_target)]
    pub targets: Vec<Target>,
    /// Connect to each, close the connection immediately, and report the outcome
    #[arg(long)]
    pub probe: bool,
    #[command(flatten)]
    pub ports: Ports,
    /// Form of the answer on stdout
    #[arg(short, long, value_enum, default_value_t = Form::Text, value_name = "FORM")]
    pub output: Form,
    /// When to colour text
    #[arg(long, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
}

#[derive(Clone, Debug, Args)]
pub struct Ports {
    /// Port to watch; up to 16, separated by commas
    #[arg(short = 'p', long = "port", value_name = "PORT", value_delimiter = ',',
          default_values_t = [NonZeroU16::new(default_port()).unwrap_or(NonZeroU16::MIN)],
          value_parser = parse_port)]
    ports: Vec<NonZeroU16>,
}

impl Ports {
    /// The ports, each once, in the order given.
    ///
    /// # Errors
    /// When there are more than the kernel programs compare.
    pub fn list(&self) -> Result<Vec<u16>, Failure> {
        let mut ports = Vec::new();
        for port in &self.ports {
            if !ports.contains(&port.get()) {
                ports.push(port.get());
            }
        }
        if ports.len() > PORTS_MAX {
            return Err(Failure::usage(
                format!("{} ports are too many: {PORTS_MAX} can be watched at a time", ports.len()),
                "run a second tracer for the rest: they do not disturb each other",
            ));
        }
        Ok(ports)
    }
}

fn parse_port(text: &str) -> Result<NonZeroU16, String> {
    text.parse().map_err(|_| "a port is a number from 1 to 65535".to_owned())
}

/// What one argument asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub host: Host,
    /// `None`: each of `-p`.
    pub port: Option<NonZeroU16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Addresses(Vec<IpAddr>),
    /// A name of this host.
    Name(String),
}

/// The port of a URL that names none.
fn port_of(scheme: &str) -> Option<NonZeroU16> {
    match scheme {
        "http" | "ws" => NonZeroU16::new(80),
        "https" | "wss" => NonZeroU16::new(443),
        _ => None,
    }
}

fn parse_target(text: &str) -> Result<Target, String> {
    let form = || "it is like 127.0.0.1, [::1]:8080, localhost:8080 or http://localhost:8080/".to_owned();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let authority = scheme.map_or(rest, |_| rest.split(['/', '?', '#']).next().unwrap_or_default());
    // The user and password of a URL do not matter.
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match authority.rsplit_once(':') {
        // An IPv6 address without brackets has no port.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, Some(port.parse().map_err(|_| format!("`{port}` is not a port: {}", form()))?))
        }
        _ => (authority, None),
    };
    let port = match scheme {
        Some(scheme) => Some(port.or_else(|| port_of(scheme)).ok_or_else(form)?),
        None => port,
    };
    let is_name = |host: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        host.bytes().all(is_allowed) && host.bytes().any(|byte| byte.is_ascii_alphabetic())
    };
    let host = match host {
        "localhost" => Host::Addresses(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]),
        name if is_name(name) => Host::Name(name.to_owned()),
        addr => Host::Addresses(vec![parse_address(addr).map_err(|_| form())?]),
    };
    Ok(Target { host, port })
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let addr: IpAddr = bare.parse().map_err(|_| "an address is like 127.0.0.1 or ::1".to_owned())?;
    // A connect to no address in particular goes to loopback.
    Ok(match addr.to_canonical() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        addr => addr,
    })
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let problem = || "a duration is like 90, 90s, 5m or 1h30m, and more than nothing".to_owned();
    let duration = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let signed: jiff::SignedDuration = text.parse().map_err(|_| problem())?;
            Duration::try_from(signed).map_err(|_| problem())?
        }
    };
    if duration.is_zero() { Err(problem()) } else { Ok(duration) }
}

impl Cli {
    /// Parses the process's arguments.
    ///
    /// # Errors
    /// A [`Failure`] that states in one sentence what is wrong. Help and version are printed here, and end
    /// the process.
    pub fn from_arguments() -> Result<Self, Failure> {
        Self::try_parse().map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.exit(),
            _ => usage(&error),
        })
    }
}

/// Clap's error in tracer's form.
fn usage(error: &clap::Error) -> Failure {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let hint = "see `tracer --help`";
    if let (Some(argument), Some(value)) =
        (context(ContextKind::InvalidArg), context(ContextKind::InvalidValue))
    {
        let reason =
            std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"));
        return Failure::usage(
            format!(
                "`{}` cannot be the value of `{argument}`{reason}",
                crate::model::escape::escape(value.as_bytes())
            ),
            hint,
        );
    }
    let rendered = error.to_string();
    let first = rendered.lines().next().unwrap_or_default();
    Failure::usage(first.strip_prefix("error: ").unwrap_or(first), hint)
}
