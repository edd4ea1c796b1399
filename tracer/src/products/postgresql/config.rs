//! Where the settings of PostgreSQL are, and which of them decide how it listens.
//!
//! The order is that of `GucSource` (src/include/utils/guc.h): arguments, then `postgresql.auto.conf`, then
//! `postgresql.conf`, then `PGPORT`, then the default.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::products::settings::shown;
use crate::products::{
    Access, Environment, FileSettings, Origin, Override, ServerSettings, Source, variable,
};

pub const LISTEN_ADDRESSES: &str = "listen_addresses";
pub const PORT: &str = "port";
const CONFIG_FILE: &str = "config_file";
const DATA_DIRECTORY: &str = "data_directory";

pub const DEFAULT_PORT: u16 = 5432;
const DEFAULT_ADDRESSES: &str = "localhost";

pub const VARIABLES: [&str; 2] = ["PGDATA", "PGPORT"];

/// What ALTER SYSTEM writes, in the data directory; it is read after `postgresql.conf`, and wins over it.
pub const AUTO_FILE: &str = "postgresql.auto.conf";
pub const FILE: &str = "postgresql.conf";

/// The settings that are shown.
pub const SHOWN: [&str; 2] = [LISTEN_ADDRESSES, PORT];

/// Which clients may connect, and how they authenticate, is set in a file of its own, which is not read.
pub const ACCESS: Access = Access::Unknown("a password (pg_hba.conf)");

/// One option of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandOption<'a> {
    /// `-` for `--name=value`.
    pub letter: u8,
    /// Empty for an option that takes none.
    pub value: &'a [u8],
}

/// The options of a command line, as getopt(3) takes them apart.
pub struct Arguments<'a> {
    rest: std::slice::Iter<'a, &'a [u8]>,
    /// More letters of the same argument.
    cluster: &'a [u8],
}

impl<'a> Arguments<'a> {
    /// Of a whole command line, its program included.
    pub fn new(arguments: &'a [&'a [u8]]) -> Self {
        let mut rest = arguments.iter();
        rest.next();
        Self { rest, cluster: b"" }
    }
}

impl<'a> Iterator for Arguments<'a> {
    type Item = CommandOption<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        /// Those that take a value (PostmasterMain, src/backend/postmaster/postmaster.c; versions 9.6 to 18).
        const WITH_VALUE: &[u8] = b"ABbCcDdfhkNopRrStvWx";
        if self.cluster.is_empty() {
            let argument = self.rest.next()?;
            if let Some(long) = argument.strip_prefix(b"--") {
                return (!long.is_empty()).then_some(CommandOption { letter: b'-', value: long });
            }
            // The server takes nothing but options: getopt ends at the first other word.
            self.cluster = argument.strip_prefix(b"-").filter(|cluster| !cluster.is_empty())?;
        }
        let (letter, behind) = self.cluster.split_first()?;
        if !WITH_VALUE.contains(letter) {
            self.cluster = behind;
            return Some(CommandOption { letter: *letter, value: b"" });
        }
        self.cluster = b"";
        let value = if behind.is_empty() { self.rest.next()? } else { behind };
        Some(CommandOption { letter: *letter, value })
    }
}

/// The value that the arguments give a setting: the last one counts.
fn argument<'a>(arguments: &'a [&'a [u8]], name: &str) -> Option<&'a [u8]> {
    let of = |option: CommandOption<'a>| match (option.letter, name) {
        (b'c' | b'-', _) => assigned(option.value, name),
        (b'h', LISTEN_ADDRESSES) | (b'p', PORT) | (b'D', DATA_DIRECTORY) => Some(option.value),
        (b'i', LISTEN_ADDRESSES) => Some(&b"*"[..]),
        _ => None,
    };
    Arguments::new(arguments).filter_map(of).last()
}

/// The value of `name=value`, where `-` stands for `_` as well, and letters are of either case.
fn assigned<'a>(assignment: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let at = assignment.iter().position(|byte| *byte == b'=')?;
    let own =
        assignment[..at].iter().map(|byte| if *byte == b'-' { b'_' } else { byte.to_ascii_lowercase() });
    own.eq(name.bytes()).then(|| &assignment[at + 1..])
}

fn absolute(bytes: &[u8]) -> Option<PathBuf> {
    let path = Path::new(OsStr::from_bytes(bytes));
    path.is_absolute().then(|| path.to_owned())
}

/// The directory of `-D` or PGDATA: that of the configuration, and of the data unless the configuration names another. A
/// relative one is not known: the server has left the directory that it was started in.
fn directory(environment: &Environment, arguments: &[&[u8]]) -> Option<PathBuf> {
    absolute(argument(arguments, DATA_DIRECTORY).or_else(|| variable(environment, "PGDATA"))?)
}

pub fn config_paths(environment: &Environment, arguments: &[&[u8]]) -> Vec<PathBuf> {
    let path = match argument(arguments, CONFIG_FILE) {
        Some(file) => absolute(file),
        None => directory(environment, arguments).map(|directory| directory.join(FILE)),
    };
    path.into_iter().collect()
}

/// What ALTER SYSTEM wrote, in the data directory.
pub fn overlays(environment: &Environment, arguments: &[&[u8]], file: Option<&FileSettings>) -> Vec<PathBuf> {
    let named = file.and_then(|file| file.leads_to.first().cloned());
    let data = named.or_else(|| directory(environment, arguments));
    data.map(|data| data.join(AUTO_FILE)).into_iter().collect()
}

pub fn overrides(arguments: &[&[u8]]) -> Vec<Override> {
    let given = SHOWN.iter().filter_map(|what| {
        let value = Some(shown(argument(arguments, what)?));
        Some(Override { what: (*what).into(), value, source: Source::Arguments })
    });
    given.collect()
}

pub fn fallbacks(environment: &Environment) -> Vec<Override> {
    let port = variable(environment, "PGPORT").map(|value| Override {
        what: PORT.into(),
        value: Some(shown(value)),
        source: Source::Environment("PGPORT".into()),
    });
    port.into_iter().collect()
}

/// Why a text is not a configuration file. The server refuses to start with such a file as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Malformed {
    line: usize,
    why: &'static str,
}

/// What a configuration file sets.
///
/// # Errors
/// Why the server would refuse it.
pub fn settings(text: &str) -> Result<FileSettings, String> {
    parse(text).map_err(|Malformed { line, why }| format!("not a postgresql.conf: {why} in line {line}"))
}

fn parse(text: &str) -> Result<FileSettings, Malformed> {
    let mut found: [Option<String>; SHOWN.len()] = Default::default();
    let mut data_directory = None;
    let mut includes = false;
    let mut included_directories = Vec::new();
    for (number, line) in text.split('\n').enumerate() {
        let malformed = |why| Malformed { line: number + 1, why };
        let Some((name, value)) = assignment(line).map_err(malformed)? else { continue };
        let name = name.to_ascii_lowercase();
        // Of a name that stands twice the last one counts.
        if let Some(at) = SHOWN.iter().position(|shown| *shown == name) {
            found[at] = Some(shown(value.as_bytes()));
        } else if name == DATA_DIRECTORY {
            data_directory = absolute(value.as_bytes());
        }
        match name.as_str() {
            "include" | "include_if_exists" => includes = true,
            "include_dir" => included_directories.push(PathBuf::from(value)),
            _ => {}
        }
    }
    let values = SHOWN.iter().zip(found).filter_map(|(what, value)| Some(((*what).into(), value?)));
    let leads_to = data_directory.into_iter().collect();
    Ok(FileSettings { values: values.collect(), version: None, includes, included_directories, leads_to })
}

/// The name and the value of a line; `None`: it is empty or a comment. The grammar is that of
/// src/backend/utils/misc/guc-file.l.
fn assignment(line: &str) -> Result<Option<(&str, String)>, &'static str> {
    let line = line.trim_matches(is_space);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let is_name = |letter: char| {
        letter.is_ascii_alphanumeric() || matches!(letter, '_' | '$' | '.') || !letter.is_ascii()
    };
    let end = line.find(|letter| !is_name(letter)).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return Err("a name is missing");
    }
    let rest = rest.trim_start_matches(is_space);
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start_matches(is_space);
    let (value, rest) = match rest.strip_prefix('\'') {
        Some(inside) => quoted(inside)?,
        None => {
            let is_part = |letter: char| {
                letter.is_alphanumeric() || matches!(letter, '_' | '$' | '.' | '-' | '+' | ':' | '/')
            };
            let end = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
            (rest[..end].to_owned(), &rest[end..])
        }
    };
    if value.is_empty() && !line.contains('\'') {
        return Err("a value is missing, or is not in quotes");
    }
    let rest = rest.trim_start_matches(is_space);
    if rest.is_empty() || rest.starts_with('#') {
        Ok(Some((name, value)))
    } else {
        Err("more behind the value")
    }
}

fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\r')
}

/// The text of a quoted value, and what is behind it: `''` and `\'` are a quote (DeescapeQuotedString).
fn quoted(inside: &str) -> Result<(String, &str), &'static str> {
    let mut text = String::new();
    let mut letters = inside.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\'' if letters.next_if(|(_, next)| *next == '\'').is_some() => text.push('\''),
            '\'' => return Ok((text, &inside[at + 1..])),
            '\\' => {
                let Some((_, escaped)) = letters.next() else { break };
                match escaped {
                    'b' => text.push('\u{8}'),
                    'f' => text.push('\u{c}'),
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    '0'..='7' => {
                        let mut code = escaped.to_digit(8).unwrap_or_default();
                        for _ in 0..2 {
                            let Some((_, digit)) = letters.next_if(|(_, next)| next.is_digit(8)) else {
                                break;
                            };
                            code = code * 8 + digit.to_digit(8).unwrap_or_default();
                        }
                        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    other => text.push(other),
                }
            }
            other => text.push(other),
        }
    }
    Err("a quote is missing")
}

/// The value of `listen_addresses` that counts, the default included; `None`: not known.
pub fn listen_addresses(settings: &ServerSettings) -> Option<&str> {
    match settings.effective(LISTEN_ADDRESSES) {
        // An included file may set another value.
        Some(effective) => {
            let may_be_included = matches!(effective.origin, Origin::File(file)
                if file.settings.as_ref().is_ok_and(FileSettings::may_be_overruled));
            (!may_be_included).then_some(effective.value)
        }
        None => {
            let is_read = settings.in_file().is_some_and(|file| !file.may_be_overruled())
                && settings.overlays.iter().all(|file| file.settings.is_ok());
            is_read.then_some(DEFAULT_ADDRESSES)
        }
    }
}

/// What one entry of `listen_addresses` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// `*`: every address of both families.
    Every,
    Addr(IpAddr),
    /// Whatever the name is resolved to: 127.0.0.1 everywhere, and ::1 on most hosts.
    Localhost,
    /// Another name.
    Name,
}

impl Entry {
    fn of(entry: &str) -> Self {
        match (entry, entry.parse()) {
            ("*", _) => Self::Every,
            (_, Ok(addr)) => Self::Addr(addr),
            (name, _) if name.eq_ignore_ascii_case("localhost") => Self::Localhost,
            _ => Self::Name,
        }
    }

    fn covers(self, addr: IpAddr) -> Option<bool> {
        match self {
            Self::Every => Some(true),
            Self::Addr(own) => Some(own == addr || own.is_unspecified() && own.is_ipv4() == addr.is_ipv4()),
            Self::Localhost if addr == IpAddr::V6(Ipv6Addr::LOCALHOST) => None,
            Self::Localhost => Some(addr == IpAddr::V4(Ipv4Addr::LOCALHOST)),
            Self::Name => None,
        }
    }

    /// Whether it is one that a socket at `addr` can be of.
    fn may_be(self, addr: IpAddr) -> bool {
        match self {
            Self::Every => addr.is_unspecified(),
            Self::Addr(own) => own == addr,
            Self::Localhost => addr.is_loopback(),
            Self::Name => true,
        }
    }
}

fn entries(value: &str) -> Vec<Entry> {
    value.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(Entry::of).collect()
}

pub fn covers(settings: &ServerSettings, addr: IpAddr) -> Option<bool> {
    let answers: Vec<Option<bool>> =
        entries(listen_addresses(settings)?).into_iter().map(|entry| entry.covers(addr)).collect();
    match () {
        () if answers.contains(&Some(true)) => Some(true),
        () if answers.contains(&None) => None,
        () => Some(false),
    }
}

/// Whether sockets are what a setting asks for. An address that could not be bound is left out with a warning in the log:
/// every entry has to have a socket, and every socket an entry.
pub fn agrees(what: &str, settings: &ServerSettings, addrs: &[IpAddr], ports: &[u16]) -> Option<bool> {
    if addrs.is_empty() {
        return None;
    }
    match what {
        LISTEN_ADDRESSES => {
            let entries = entries(listen_addresses(settings)?);
            let has_socket = |entry: &Entry| addrs.iter().any(|addr| entry.may_be(*addr));
            let has_entry = |addr: &IpAddr| entries.iter().any(|entry| entry.may_be(*addr));
            let is_certain = !entries.contains(&Entry::Name);
            let agrees = entries.iter().all(has_socket) && addrs.iter().all(has_entry);
            if agrees && !is_certain { None } else { Some(agrees) }
        }
        PORT => {
            let port: u16 = settings.effective(PORT)?.value.parse().ok()?;
            Some(ports.contains(&port))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::products::postgresql::PostgreSql;
    use crate::products::{ConfigFile, ProductRef};

    fn words<'a>(arguments: &[&'a str]) -> Vec<&'a [u8]> {
        arguments.iter().map(|argument| argument.as_bytes()).collect()
    }

    fn environment(pairs: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn the_files_are_where_the_server_reads_them() {
        let paths = |pairs: &[(&str, &str)], arguments: &[&str]| {
            let (environment, arguments) = (environment(pairs), words(arguments));
            let shown = |paths: Vec<PathBuf>| -> Vec<String> {
                paths.into_iter().map(|path| path.to_str().unwrap().to_owned()).collect()
            };
            let file = shown(config_paths(&environment, &arguments));
            (file, shown(overlays(&environment, &arguments, None)))
        };
        let of = |file: &str, auto: &str| (vec![file.to_owned()], vec![auto.to_owned()]);
        let debian = ["postgres", "-D", "/var/lib/postgresql/15/main", "-c"];
        assert_eq!(
            paths(&[], &[&debian[..], &["config_file=/etc/postgresql/15/main/postgresql.conf"]].concat()),
            of("/etc/postgresql/15/main/postgresql.conf", "/var/lib/postgresql/15/main/postgresql.auto.conf")
        );
        let in_data = of("/data/postgresql.conf", "/data/postgresql.auto.conf");
        assert_eq!(paths(&[], &["postgres", "-D/data"]), in_data);
        assert_eq!(paths(&[("PGDATA", "/data")], &["postgres"]), in_data);
        assert_eq!(paths(&[("PGDATA", "/other")], &["postgres", "-D", "/data"]), in_data);
        assert_eq!(paths(&[], &["postgres", "--data-directory=/data"]), in_data);
        assert_eq!(paths(&[], &["postgres", "-D", "data"]), (vec![], vec![]));
        assert_eq!(paths(&[], &["postgres"]), (vec![], vec![]));
        // The configuration may name another data directory.
        let file = settings("data_directory = '/srv/pg'").unwrap();
        let overlays = overlays(&[], &words(&["postgres", "-D", "/etc/pg"]), Some(&file));
        assert_eq!(overlays, [PathBuf::from("/srv/pg/postgresql.auto.conf")]);
    }

    #[test]
    fn the_last_of_several_arguments_counts() {
        let given = |arguments: &[&str]| -> Vec<(String, String)> {
            let overrides = overrides(&words(arguments)).into_iter();
            overrides.map(|one| (one.what.into_owned(), one.value.unwrap())).collect()
        };
        let of = |what: &str, value: &str| vec![(what.to_owned(), value.to_owned())];
        assert_eq!(
            given(&["postgres", "-D", "/data", "-c", "listen_addresses=10.0.0.1", "-p", "5433"]),
            [of("listen_addresses", "10.0.0.1"), of("port", "5433")].concat()
        );
        assert_eq!(given(&["postgres", "-h", "127.0.0.1", "-h*"]), of("listen_addresses", "*"));
        assert_eq!(given(&["postgres", "--listen-addresses=*"]), of("listen_addresses", "*"));
        assert_eq!(given(&["postgres", "-iD", "/data"]), of("listen_addresses", "*"));
        assert_eq!(given(&["postgres", "-c", "Port=1", "-p2"]), of("port", "2"));
        assert_eq!(given(&["postgres", "-c", "config_file=-p9", "-N", "-p", "7"]), [].as_slice());
        assert_eq!(given(&["postgres", "-p"]), [].as_slice());
    }

    fn values(text: &str) -> Vec<(String, String)> {
        let values = settings(text).unwrap().values;
        values.into_iter().map(|(what, value)| (what.into_owned(), value)).collect()
    }

    #[test]
    fn a_file_is_read_as_the_server_reads_it() {
        for (text, expected) in [
            ("listen_addresses = 'localhost'", "localhost"),
            ("  Listen_Addresses\t'10.0.0.1, ::1'  # two\r", "10.0.0.1, ::1"),
            ("listen_addresses='*'#all", "*"),
            ("listen_addresses = localhost", "localhost"),
            ("listen_addresses = ''", ""),
            ("listen_addresses = 'a'\n#listen_addresses = 'b'\nlisten_addresses = 'c'", "c"),
            (r"listen_addresses = 'it''s \'here\' \101\n'", "it's 'here' A\\n"),
            ("listen_addresses = 'x'\nsearch_path = '\"$user\", public'\na.b = 0x1F", "x"),
        ] {
            assert_eq!(values(text), [("listen_addresses".to_owned(), expected.to_owned())], "{text:?}");
        }
        assert_eq!(values("port = 5433 # default 5432"), [("port".to_owned(), "5433".to_owned())]);
        assert_eq!(values("# nothing\n\n"), [].as_slice());
        let long = format!("listen_addresses = '{}'", "x".repeat(100_000));
        assert!(values(&long)[0].1.len() < 100);
    }

    #[test]
    fn what_the_server_refuses_is_refused_with_its_line() {
        for (text, why) in [
            ("port = 1\nlisten_addresses = *", "a value is missing, or is not in quotes in line 2"),
            ("listen_addresses = 'x", "a quote is missing in line 1"),
            ("listen_addresses = 'x\\", "a quote is missing in line 1"),
            ("listen_addresses = x, y", "more behind the value in line 1"),
            ("listen_addresses", "a value is missing, or is not in quotes in line 1"),
            ("\n= 5", "a name is missing in line 2"),
            ("{\"port\": 5432}", "a name is missing in line 1"),
            ("1a = 5", "a name is missing in line 1"),
        ] {
            assert_eq!(settings(text).unwrap_err(), format!("not a postgresql.conf: {why}"), "{text:?}");
        }
    }

    #[test]
    fn included_files_are_noted() {
        for text in ["include = 'a.conf'", "include_dir 'conf.d'", "Include_If_Exists = 'a'"] {
            assert!(settings(text).unwrap().may_be_overruled(), "{text}");
        }
        assert!(!settings("#include_dir = 'conf.d'").unwrap().may_be_overruled());
        assert_eq!(settings("include_dir 'conf.d'").unwrap().included_directories, [PathBuf::from("conf.d")]);
    }

    fn file(text: &str) -> ConfigFile {
        ConfigFile { path: PathBuf::from("/postgresql.conf"), changed: None, settings: settings(text) }
    }

    fn configured(text: &str) -> ServerSettings {
        ServerSettings { file: Some(file(text)), ..ServerSettings::of(ProductRef::new(&PostgreSql)) }
    }

    fn ip(addr: &str) -> IpAddr {
        addr.parse().unwrap()
    }

    #[test]
    fn a_configured_address_is_answered_or_not() {
        for (value, addr, expected) in [
            ("localhost", "127.0.0.1", Some(true)),
            ("localhost", "::1", None),
            ("localhost", "10.0.0.1", Some(false)),
            ("*", "10.0.0.1", Some(true)),
            ("*", "::1", Some(true)),
            ("0.0.0.0", "10.0.0.1", Some(true)),
            ("0.0.0.0", "::1", Some(false)),
            ("::", "10.0.0.1", Some(false)),
            ("10.0.0.1 , localhost", "127.0.0.1", Some(true)),
            ("10.0.0.1", "127.0.0.1", Some(false)),
            ("db.example, 10.0.0.1", "10.0.0.1", Some(true)),
            ("db.example, 10.0.0.1", "10.0.0.2", None),
            ("", "127.0.0.1", Some(false)),
        ] {
            let settings = configured(&format!("listen_addresses = '{value}'"));
            assert_eq!(settings.covers(ip(addr)), expected, "{value} {addr}");
        }
        assert_eq!(configured("").covers(ip("127.0.0.1")), Some(true), "the default");
        assert_eq!(configured("").covers(ip("10.0.0.1")), Some(false), "the default");
    }

    #[test]
    fn what_may_be_set_elsewhere_is_not_known() {
        let here = ip("127.0.0.1");
        assert_eq!(configured("listen_addresses = '*'\ninclude_dir = 'conf.d'").covers(here), None);
        assert_eq!(configured("include_dir = 'conf.d'").covers(here), None);
        assert_eq!(configured("listen_addresses = *").covers(here), None);
        assert_eq!(ServerSettings::of(ProductRef::new(&PostgreSql)).covers(here), None);
        // What wins over the file is known all the same.
        let mut settings = configured("include_dir = 'conf.d'");
        settings.overlays = vec![file("listen_addresses = '10.0.0.1'")];
        assert_eq!(settings.covers(here), Some(false));
        settings.overrides = overrides(&words(&["postgres", "-h", "127.0.0.1"]));
        assert_eq!(settings.covers(here), Some(true));
        settings.overrides.clear();
        settings.overlays = vec![file("listen_addresses = *")];
        assert_eq!(settings.covers(here), None);
    }

    #[test]
    fn sockets_agree_with_the_addresses_or_do_not() {
        let agrees = |value: &str, addrs: &[&str]| {
            let addrs: Vec<IpAddr> = addrs.iter().map(|addr| ip(addr)).collect();
            agrees(LISTEN_ADDRESSES, &configured(&format!("listen_addresses = '{value}'")), &addrs, &[5432])
        };
        assert_eq!(agrees("localhost", &["127.0.0.1", "::1"]), Some(true));
        assert_eq!(agrees("localhost", &["127.0.0.1"]), Some(true));
        assert_eq!(agrees("localhost", &["0.0.0.0"]), Some(false));
        assert_eq!(agrees("*", &["0.0.0.0", "::"]), Some(true));
        assert_eq!(agrees("*", &["127.0.0.1"]), Some(false));
        assert_eq!(agrees("127.0.0.1,10.0.0.1", &["127.0.0.1"]), Some(false), "one could not be bound");
        assert_eq!(agrees("db.example", &["10.0.0.1"]), None);
        assert_eq!(agrees("127.0.0.1,db.example", &["10.0.0.1"]), Some(false));
        assert_eq!(agrees("localhost", &[]), None);
    }

    #[test]
    fn the_port_is_that_of_the_source_that_wins() {
        let port = |settings: &ServerSettings| settings.effective(PORT).map(|port| port.value.to_owned());
        let mut settings = configured("port = 5433");
        settings.fallbacks = fallbacks(&environment(&[("PGPORT", "5434")]));
        assert_eq!(port(&settings).as_deref(), Some("5433"), "the file wins over PGPORT");
        settings.file = Some(file(""));
        assert_eq!(port(&settings).as_deref(), Some("5434"));
        assert_eq!(agrees(PORT, &settings, &[ip("127.0.0.1")], &[5434]), Some(true));
    }
}
