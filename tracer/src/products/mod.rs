//! What tracer knows of single server products: the trait [`Product`], and the registry of those that implement it.
//!
//! A product chooses words: which processes are shown as candidates, which settings stand beside a socket, which hint
//! is given. No cause of a refusal is decided by a setting or a name alone.
//!
//! # How to add a product
//!
//! 1. Make a folder here with its name and these files; the other folders are examples.
//!    `mod.rs` implements [`Product`] and calls the others. `recognise.rs` decides which processes are the server, by name
//!    and arguments. `config.rs` finds and parses its settings. `hints.rs` has its rows of hints.
//! 2. Add one line to the registry below. No other file of the sources may name the product: a test checks that.
//! 3. Add a scenario for each row of hints to the tests of hints, and let them write docs/hints.md.
//! 4. Add a live test against the real server, and its package to `cargo xtask setup`.
//!
//! A product imports [`crate::model`] and this module, and nothing that reads the host: text and bytes go in, values come
//! out. Which file is read, and with which rights, is decided in `host`.

pub mod hint;
pub mod openclaw;
pub mod postgresql;
pub mod proxies;
pub mod recognise;
#[cfg(test)]
pub mod sample;
pub mod settings;
pub mod unasked;

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::cause::Cause;
use crate::model::process::{Process, Text};
use hint::HintRow;
pub use settings::{
    Access, ConfigFile, Effective, FileSettings, Name, Origin, Override, ServerSettings, Source,
};

/// Every product, in the order in which a process is compared with them. The one place that names them.
static REGISTRY: [ProductRef; 2] =
    [ProductRef::new(&openclaw::OpenClaw), ProductRef::new(&postgresql::PostgreSql)];

/// Every product that tracer knows.
pub fn registry() -> &'static [ProductRef] {
    &REGISTRY
}

/// Whether a process may be a product's client that reads the server's configuration file, by what is known of it.
pub fn may_be_client(process: &Process) -> bool {
    let words =
        [process.exe.as_ref(), process.script.as_ref()].map(|word| word.map_or(&b""[..], Text::as_bytes));
    let name = process.comm.as_ref().map_or(&b""[..], Text::as_bytes);
    registry().iter().any(|product| product.recognises_client(name, &words))
}

/// The port that is watched where the command line names none: that of the first product.
pub fn default_port() -> u16 {
    let [first, ..] = &REGISTRY;
    first.default_port()
}

/// The variables of a process's environment that its product asked for, by name.
pub type Environment = [(String, Vec<u8>)];

/// A server product: how its processes are recognised, where its settings are, and which hints are its own.
pub trait Product: fmt::Debug + Sync {
    /// Its name, as people write it. Unique: settings are stored with it.
    fn name(&self) -> &'static str;

    // Recognise: see `recognise.rs` of a product.

    /// The file names of the programs that may become the server, and the names of their processes when they start. The
    /// kernel side filters by the first fifteen bytes of each.
    fn runners(&self) -> &'static [&'static str];

    /// Whether a process is the server, by its `comm` and its first arguments.
    fn recognises(&self, name: &[u8], arguments: &[&[u8]]) -> bool;

    /// Whether a process is a client of the server that reads the server's configuration file too, by its `comm` and its first
    /// arguments.
    fn recognises_client(&self, name: &[u8], arguments: &[&[u8]]) -> bool {
        let _ = (name, arguments);
        false
    }

    /// The names that the owner of a socket goes by, as its `comm` or as the file name of its program, where nothing else
    /// is known of it.
    fn owner_names(&self) -> &'static [&'static str];

    /// How it is recognised, in words, for the documentation.
    fn recognised_by(&self) -> &'static str;

    /// Whether a client of `port` may be waiting for this server: the port is its default one, or is the one configured.
    /// A process of the product is a server candidate for such a port alone.
    fn serves(&self, port: u16, settings: Option<&ServerSettings>) -> bool {
        let configured = || settings?.effective(self.port())?.value.parse().ok();
        port == self.default_port() || configured() == Some(port)
    }

    fn default_port(&self) -> u16;

    // Settings: see `config.rs` of a product.

    /// The environment variables that set where the configuration is, or what is in it.
    fn variables(&self) -> &'static [&'static str];

    /// Whether only the presence of a variable may be shown.
    fn is_secret(&self, variable: &str) -> bool;

    /// Where the configuration file may be, absolute and inside the process's root; the first that exists is used. `home`
    /// is the user's home directory by the user database.
    fn config_paths(
        &self,
        environment: &Environment,
        arguments: &[&[u8]],
        home: Option<&Path>,
    ) -> Vec<PathBuf>;

    /// Files whose values win over the configuration file, those that win over the others first. `file` is what the
    /// configuration file sets, where it could be read.
    fn overlays(
        &self,
        environment: &Environment,
        arguments: &[&[u8]],
        file: Option<&FileSettings>,
    ) -> Vec<PathBuf> {
        let _ = (environment, arguments, file);
        Vec::new()
    }

    /// The values of arguments and environment that win over every file, those that win over the others first.
    fn overrides(&self, environment: &Environment, arguments: &[&[u8]]) -> Vec<Override>;

    /// The values of the environment that count where no file sets them.
    fn fallbacks(&self, environment: &Environment) -> Vec<Override> {
        let _ = environment;
        Vec::new()
    }

    /// The values of a configuration file.
    ///
    /// # Errors
    /// Why the file sets nothing: in lower case, for people.
    fn settings(&self, text: &str) -> Result<FileSettings, String>;

    /// The names of the settings that are read.
    fn settings_read(&self) -> Vec<&'static str>;

    /// The setting of the address on which it listens.
    fn bind(&self) -> &'static str;

    /// The setting of the port.
    fn port(&self) -> &'static str;

    /// Whether a server that does as configured answers at an address of its host; `None`: that is not known.
    fn covers(&self, settings: &ServerSettings, addr: IpAddr) -> Option<bool>;

    /// Whether sockets that listen on `addrs` and `ports` are what a setting asks for; `None`: the setting does not decide
    /// it, or that is not known.
    fn agrees(&self, what: &str, settings: &ServerSettings, addrs: &[IpAddr], ports: &[u16]) -> Option<bool>;

    /// What a client's file sets that makes it ask another host's server, as a person would write it; `None`: it asks this
    /// host's.
    fn leads_away(&self, settings: &ServerSettings) -> Option<&'static str> {
        let _ = settings;
        None
    }

    /// Whether a setting decides nothing of how the server listens: it is not shown beside its sockets.
    fn is_of_clients(&self, what: &str) -> bool {
        let _ = what;
        false
    }

    /// Whether it asks its clients for a password or another proof.
    fn access(&self, settings: &ServerSettings) -> Access;

    // Hints: see `hints.rs` of a product.

    /// What `tracer explain` adds about a cause: a sentence.
    fn note_on(&self, cause: Cause) -> Option<&'static str> {
        let _ = cause;
        None
    }

    /// The setting that makes it listen on loopback alone, as a person would write it.
    fn loopback_setting(&self) -> &'static str;

    /// Its rows of hints, in the order in which they are tried.
    fn hints(&self) -> &'static [HintRow] {
        &[]
    }
}

/// A product as data: copied, compared and serialised by its name.
#[derive(Clone, Copy, Debug)]
pub struct ProductRef(&'static dyn Product);

impl ProductRef {
    pub const fn new(product: &'static dyn Product) -> Self {
        Self(product)
    }

    /// The registered product of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        registry().iter().copied().find(|product| product.name() == name)
    }
}

impl Deref for ProductRef {
    type Target = dyn Product;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl PartialEq for ProductRef {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for ProductRef {}

impl Serialize for ProductRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for ProductRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::by_name(&name).ok_or_else(|| serde::de::Error::custom(format!("unknown product `{name}`")))
    }
}

/// The value of a variable, where it is set and not empty.
pub fn variable<'a>(environment: &'a Environment, name: &str) -> Option<&'a [u8]> {
    let value = environment.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_slice());
    value.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_product_has_a_name_of_its_own() {
        let mut names: Vec<&str> = registry().iter().map(|product| product.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), registry().len());
    }

    #[test]
    fn the_kernel_side_has_room_for_the_programs_of_every_product() {
        let runners = registry().iter().map(|product| product.runners().len()).sum::<usize>();
        // Most of it is for the programs that are seen to listen.
        assert!(4 * runners <= tracer_ebpf::NAMES_MAX as usize, "{runners}");
    }
}
