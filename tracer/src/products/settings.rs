//! What a server is configured to listen on: the values of its arguments, its environment and its configuration files.
//!
//! All of it is owned data that can be serialised: a product is stored by its name, and found by it when it is read back.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::escape::escape;
use crate::model::time::WallTime;
use crate::products::ProductRef;

/// The name of a setting or of a variable. Those that a product defines are borrowed, those read back are owned.
pub type Name = Cow<'static, str>;

/// The longest value that is shown, in characters. No valid value of a known setting is longer.
pub const VALUE_MAX: usize = 64;

/// The value shown of a secret: that it is set.
pub const SET: &str = "set";

/// A value as it is shown: escaped, and cut to [`VALUE_MAX`] characters.
pub fn shown(bytes: &[u8]) -> String {
    let text = escape(bytes);
    match text.char_indices().nth(VALUE_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// What one process is configured to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSettings {
    pub product: ProductRef,
    /// Values that win over every file, those that win over the others first.
    pub overrides: Vec<Override>,
    /// Files whose values win over [`ServerSettings::file`], those that win over the others first.
    pub overlays: Vec<ConfigFile>,
    /// The configuration file that the process reads, where there is one.
    pub file: Option<ConfigFile>,
    /// Values that count where no file sets them.
    pub fallbacks: Vec<Override>,
}

/// A value from outside of the configuration files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// The setting, by its name in the configuration file.
    pub what: Name,
    /// `None`: it is set, and its value cannot be read.
    pub value: Option<String>,
    pub source: Source,
}

/// Where a value outside of the configuration files comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    Arguments,
    /// The variable of this name.
    Environment(Name),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arguments => f.write_str("arguments"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
        }
    }
}

/// A configuration file, as its process sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFile {
    /// Inside the root of the process. Any bytes: a path need not be text.
    #[serde(with = "path_bytes")]
    pub path: PathBuf,
    /// When its contents were last written.
    pub changed: Option<WallTime>,
    /// Its values, or why they are not known.
    pub settings: Result<FileSettings, String>,
}

/// What a configuration file sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSettings {
    /// Settings and their values; a secret's value is [`SET`].
    pub values: Vec<(Name, String)>,
    /// The version that wrote the file last.
    pub version: Option<String>,
    /// It includes other files, which are not followed: they may set other values.
    pub includes: bool,
    /// Directories whose `*.conf` files it includes, relative to its own one: those that have such a file, once the host
    /// was asked.
    #[serde(with = "paths_bytes")]
    pub included_directories: Vec<PathBuf>,
    /// Directories or files that it names, for [`crate::products::Product::overlays`]. They are not shown.
    #[serde(with = "paths_bytes")]
    pub leads_to: Vec<PathBuf>,
}

impl FileSettings {
    pub fn value(&self, what: &str) -> Option<&str> {
        self.values.iter().find(|(own, _)| own == what).map(|(_, value)| value.as_str())
    }

    /// Whether a file that was not read may set other values.
    pub fn may_be_overruled(&self) -> bool {
        self.includes || !self.included_directories.is_empty()
    }
}

/// Whether a server asks its clients for a password or another proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It asks for this, which is set.
    Asked(&'static str),
    /// It asks for nothing. This setting would change that.
    Open(&'static str),
    /// This decides, and its value is not known.
    Unknown(&'static str),
}

/// The value of a setting that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effective<'a> {
    pub value: &'a str,
    pub origin: Origin<'a>,
}

/// Where the value that counts comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    Override(&'a Source),
    Overlay(&'a ConfigFile),
    File(&'a ConfigFile),
    Fallback(&'a Source),
}

impl<'a> Origin<'a> {
    /// The source, where the value is not from a file.
    pub fn source(self) -> Option<&'a Source> {
        match self {
            Self::Override(source) | Self::Fallback(source) => Some(source),
            Self::Overlay(_) | Self::File(_) => None,
        }
    }

    /// What wins over the configuration file.
    pub fn wins_over_file(self) -> Option<&'a Source> {
        match self {
            Self::Override(source) => Some(source),
            Self::Overlay(_) | Self::File(_) | Self::Fallback(_) => None,
        }
    }
}

impl ServerSettings {
    /// Of a process of which nothing else is known.
    pub fn of(product: ProductRef) -> Self {
        Self { product, overrides: Vec::new(), overlays: Vec::new(), file: None, fallbacks: Vec::new() }
    }

    /// What the configuration file alone asks for.
    pub fn of_file(&self) -> Self {
        Self { file: self.file.clone(), ..Self::of(self.product) }
    }

    /// The values of the configuration file, where it could be read.
    pub fn in_file(&self) -> Option<&FileSettings> {
        self.file.as_ref()?.settings.as_ref().ok()
    }

    /// Whether a server that does as configured answers at an address of its host; `None`: that is not known.
    pub fn covers(&self, addr: IpAddr) -> Option<bool> {
        self.product.covers(self, addr)
    }

    pub fn access(&self) -> Access {
        self.product.access(self)
    }

    /// The value of a setting that counts; `None`: it is not set, or what counts cannot be read.
    pub fn effective(&self, what: &str) -> Option<Effective<'_>> {
        let named = |list: &'_ [Override]| list.iter().position(|one| one.what == what);
        if let Some(at) = named(&self.overrides) {
            let Override { value, source, .. } = &self.overrides[at];
            return Some(Effective { value: value.as_deref()?, origin: Origin::Override(source) });
        }
        for file in &self.overlays {
            // What cannot be read may set it.
            if let Some(value) = file.settings.as_ref().ok()?.value(what) {
                return Some(Effective { value, origin: Origin::Overlay(file) });
            }
        }
        if let Some(file) = &self.file
            && let Some(value) = file.settings.as_ref().ok()?.value(what)
        {
            return Some(Effective { value, origin: Origin::File(file) });
        }
        let Override { value, source, .. } = &self.fallbacks[named(&self.fallbacks)?];
        Some(Effective { value: value.as_deref()?, origin: Origin::Fallback(source) })
    }
}

/// A path as its bytes: serde's own form of a path fails where it is not UTF-8.
mod path_bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(OsString::from_vec(Vec::deserialize(deserializer)?).into())
    }
}

/// The same of several.
mod paths_bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::PathBuf;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(|path| path.as_os_str().as_bytes()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
        let paths: Vec<Vec<u8>> = Vec::deserialize(deserializer)?;
        Ok(paths.into_iter().map(|path| OsString::from_vec(path).into()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;

    use super::*;
    use crate::products::registry;

    fn file(path: &str, value: Option<&str>) -> ConfigFile {
        let values = value.map(|value| ("bind".into(), value.to_owned())).into_iter().collect();
        let settings = Ok(FileSettings { values, ..FileSettings::default() });
        ConfigFile { path: path.into(), changed: None, settings }
    }

    fn given(value: &str, source: Source) -> Override {
        Override { what: "bind".into(), value: Some(value.to_owned()), source }
    }

    #[test]
    fn the_source_that_wins_gives_the_value() {
        let mut settings = ServerSettings::of(registry()[0]);
        let value = |settings: &ServerSettings| {
            settings.effective("bind").map(|effective| effective.value.to_owned())
        };
        assert_eq!(value(&settings), None);
        settings.fallbacks.push(given("fallback", Source::Environment("BIND".into())));
        assert_eq!(value(&settings).as_deref(), Some("fallback"));
        settings.file = Some(file("/etc/x.conf", Some("file")));
        assert_eq!(value(&settings).as_deref(), Some("file"));
        settings.overlays.push(file("/etc/x.auto.conf", None));
        assert_eq!(value(&settings).as_deref(), Some("file"));
        settings.overlays.push(file("/etc/y.auto.conf", Some("overlay")));
        assert_eq!(value(&settings).as_deref(), Some("overlay"));
        settings.overrides.push(given("override", Source::Arguments));
        assert_eq!(value(&settings).as_deref(), Some("override"));
        assert_eq!(settings.of_file().effective("bind").map(|found| found.value), Some("file"));
        assert_eq!(settings.effective("port"), None);
    }

    #[test]
    fn a_file_that_cannot_be_read_may_set_anything() {
        let mut settings = ServerSettings::of(registry()[0]);
        settings.file = Some(file("/etc/x.conf", Some("file")));
        settings.fallbacks.push(given("fallback", Source::Arguments));
        let unreadable = ConfigFile { settings: Err("it is a directory".to_owned()), ..file("/etc/y", None) };
        settings.overlays.push(unreadable.clone());
        assert_eq!(settings.effective("bind"), None);
        settings.overlays.clear();
        settings.file = Some(unreadable);
        assert_eq!(settings.effective("bind"), None);
    }

    #[test]
    fn settings_survive_being_serialised() {
        for product in registry() {
            let mut settings = ServerSettings::of(*product);
            settings.overrides.push(given("lan", Source::Environment("BIND".into())));
            settings.overrides.push(Override { value: None, ..given("", Source::Arguments) });
            settings.overlays.push(ConfigFile {
                path: Path::new(OsStr::from_bytes(b"/etc/\xff")).to_owned(),
                settings: Err("it is a socket".to_owned()),
                ..file("", None)
            });
            let mut main = file("/etc/x.conf", Some("lan"));
            main.changed = Some(WallTime(0));
            if let Ok(read) = &mut main.settings {
                read.leads_to.push(Path::new(OsStr::from_bytes(b"/srv/\xfe")).to_owned());
            }
            settings.file = Some(main);
            let text = serde_json::to_string(&settings).unwrap();
            assert!(text.contains(&format!("\"product\":\"{}\"", product.name())), "{text}");
            assert_eq!(serde_json::from_str::<ServerSettings>(&text).unwrap(), settings);
        }
    }

    #[test]
    fn a_product_that_is_not_registered_is_not_read_back() {
        let error = serde_json::from_str::<ProductRef>("\"teapot\"").unwrap_err();
        assert!(error.to_string().contains("unknown product `teapot`"), "{error}");
    }

    #[test]
    fn values_are_shown_escaped_and_short() {
        assert_eq!(shown(b"\x1b[31m"), "\\x1b[31m");
        assert_eq!(shown(&[b'x'; 1000]).len(), VALUE_MAX + 3);
    }
}
