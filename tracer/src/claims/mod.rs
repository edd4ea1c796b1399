//! What a server's configuration, arguments and environment say of the address it is to listen on. A claim is shown
//! beside the socket, and never decides a verdict.
//!
//! What is one server's own is behind [`Product`]: another server is one more file here, one more entry in
//! [`crate::server`]'s table, and where there are hints of its own one more kind of owner in
//! [`crate::correlate::hints`].

pub mod json5;
pub mod openclaw;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::line::Time;

/// What a process's own environment says, by name.
pub type Environment = [(String, Vec<u8>)];

/// A server whose claims can be read: where they stand, and what they ask for.
pub trait Product: fmt::Debug + Sync {
    /// As people call it.
    fn name(&self) -> &'static str;

    /// Environment variables that say where the configuration is, or what is in it.
    fn variables(&self) -> &'static [&'static str];

    /// Whether only the presence of a variable may be told.
    fn is_secret(&self, variable: &str) -> bool;

    /// Where the configuration may be, the first that exists being it. `home` is the user's, where the environment
    /// does not say.
    fn config_paths(
        &self,
        environment: &Environment,
        arguments: &[&[u8]],
        home: Option<&Path>,
    ) -> Vec<PathBuf>;

    /// What the arguments and the environment say, in the order in which one wins over the other; all of it wins over
    /// the file.
    fn overrides(&self, environment: &Environment, arguments: &[&[u8]]) -> Vec<Said>;

    /// What the configuration file says.
    ///
    /// # Errors
    /// Why it says nothing.
    fn settings(&self, text: &str) -> Result<Settings, String>;

    /// The names of the settings that are read.
    fn settings_read(&self) -> Vec<&'static str>;

    /// The setting that says which address it listens on.
    fn bind(&self) -> &'static str;

    /// The setting that says which port.
    fn port(&self) -> &'static str;

    /// Whether a server that does as asked would answer at an address of its host; `None`: that cannot be known.
    fn covers(&self, claims: &Claims, addr: IpAddr) -> Option<bool>;

    /// Whether sockets that listen on `addrs` and `ports` are what a setting asks for; `None`: it says nothing of that,
    /// or of a kind that cannot be known.
    fn agrees(&self, what: &str, claims: &Claims, addrs: &[IpAddr], ports: &[u16]) -> Option<bool>;

    /// Whether who connects is asked who they are.
    fn access(&self, claims: &Claims) -> Access;
}

impl PartialEq for dyn Product + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn Product + '_ {}

/// Whether a server says that it asks who connects to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// By this setting, which is set.
    Asked(&'static str),
    /// By nothing that is claimed: this setting would do it.
    Open(&'static str),
    /// This setting would tell, and what is claimed cannot be read, or does not say.
    Unknown(&'static str),
}

/// Where a claim stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Arguments,
    /// In this variable.
    Environment(&'static str),
}

/// One thing that a process says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The setting, by the name it has in the configuration.
    pub what: &'static str,
    pub value: Option<String>,
    pub source: Source,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arguments => f.write_str("arguments"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
        }
    }
}

/// What a configuration file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Settings and their values; a secret's is that it is set.
    pub said: Vec<(&'static str, String)>,
    /// The version that wrote the file last.
    pub version: Option<String>,
    /// Other files are included, which are not followed: they may say otherwise.
    pub includes: bool,
}

/// What one process says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// What it is.
    pub product: &'static dyn Product,
    /// What its arguments and its environment say, in the order in which one wins over the other.
    pub said: Vec<Said>,
    /// The configuration file that it should have read, where there is one.
    pub file: Option<ConfigFile>,
}

impl Claims {
    /// What counts, but for what wins over the file.
    pub fn of_file(&self) -> Self {
        Self { product: self.product, said: Vec::new(), file: self.file.clone() }
    }

    /// The file's settings, where it could be read.
    pub fn settings(&self) -> Option<&Settings> {
        self.file.as_ref()?.settings.as_ref().ok()
    }

    /// Whether a server that does as asked would answer at an address of its host.
    pub fn covers(&self, addr: IpAddr) -> Option<bool> {
        self.product.covers(self, addr)
    }

    /// Whether who connects is asked who they are.
    pub fn access(&self) -> Access {
        self.product.access(self)
    }

    /// What counts of a setting, where the last word is the file's only when nothing wins over it.
    pub fn effective(&self, what: &str) -> Option<Effective<'_>> {
        if let Some(said) = self.said.iter().find(|said| said.what == what) {
            return Some(Effective { value: said.value.as_deref()?, wins_over_file: Some(&said.source) });
        }
        let (_, value) = self.settings()?.said.iter().find(|(own, _)| *own == what)?;
        Some(Effective { value, wins_over_file: None })
    }
}

/// The value of a setting that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effective<'a> {
    pub value: &'a str,
    /// What said it, when it was not the file.
    pub wins_over_file: Option<&'a Source>,
}

/// A configuration file, as its process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    pub path: PathBuf,
    /// When its contents were last written.
    pub changed: Option<Time>,
    /// What it says, or why that is not known.
    pub settings: Result<Settings, String>,
}
