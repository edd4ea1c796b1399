//! What a server's configuration, arguments and environment say of the address it is to listen on. A claim is shown
//! beside the socket, and never decides a verdict.

pub mod json5;
pub mod openclaw;

use std::fmt;
use std::path::PathBuf;

use crate::line::Time;

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// What its arguments and its environment say, in the order in which one wins over the other.
    pub said: Vec<Said>,
    /// The configuration file that it should have read, where there is one.
    pub file: Option<ConfigFile>,
}

impl Claims {
    /// What counts of a setting, where the last word is the file's only when nothing wins over it.
    pub fn effective(&self, what: &str) -> Option<Effective<'_>> {
        if let Some(said) = self.said.iter().find(|said| said.what == what) {
            return Some(Effective { value: said.value.as_deref()?, wins_over_file: Some(&said.source) });
        }
        let settings = self.file.as_ref()?.settings.as_ref().ok()?;
        let (_, value) = settings.said.iter().find(|(own, _)| *own == what)?;
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
