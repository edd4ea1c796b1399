//! Where OpenClaw's configuration is, and which of its settings decide how the gateway binds.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::model::socket::is_tailnet;
use crate::products::openclaw::json5::{self, Malformed, Value};
use crate::products::settings::{SET, shown as shown_bytes};
use crate::products::{Access, Environment, FileSettings, Override, ServerSettings, Source, variable};

pub const BIND: &str = "gateway.bind";
pub const PORT: &str = "gateway.port";
pub const MODE: &str = "gateway.mode";
pub const AUTH_MODE: &str = "gateway.auth.mode";
pub const TOKEN: &str = "gateway.auth.token";
const PASSWORD: &str = "gateway.auth.password";

/// The first version that listens on 127.0.0.1 beside its tailnet or custom address.
pub const WITH_LOOPBACK: [u32; 3] = [2026, 8, 1];

/// Environment variables that set where the configuration is, or what is in it.
pub const VARIABLES: [&str; 9] = [
    "HOME",
    "OPENCLAW_CONFIG_PATH",
    "OPENCLAW_STATE_DIR",
    "OPENCLAW_HOME",
    "OPENCLAW_PROFILE",
    "OPENCLAW_GATEWAY_PORT",
    "OPENCLAW_GATEWAY_BIND",
    "OPENCLAW_GATEWAY_TOKEN",
    "OPENCLAW_GATEWAY_PASSWORD",
];

/// Names of the configuration file, the present one first.
const FILES: [&str; 2] = ["openclaw.json", "clawdbot.json"];

/// Directories in the home directory that it may be in, the present one first.
const DIRECTORIES: [&str; 2] = [".openclaw", ".clawdbot"];

/// The settings that are read, and nothing else: where they stand, and whether only their presence may be shown.
const SETTINGS: [(&[&str], &str, Show); 8] = [
    (&["gateway", "mode"], MODE, Show::Value),
    (&["gateway", "bind"], BIND, Show::Value),
    (&["gateway", "customBindHost"], "gateway.customBindHost", Show::Value),
    (&["gateway", "port"], PORT, Show::Value),
    (&["gateway", "tailscale", "mode"], "gateway.tailscale.mode", Show::Value),
    (&["gateway", "auth", "mode"], AUTH_MODE, Show::Value),
    (&["gateway", "auth", "token"], TOKEN, Show::Presence),
    (&["gateway", "auth", "password"], PASSWORD, Show::Presence),
];

/// The version that wrote the file last.
const VERSION: &[&str] = &["meta", "lastTouchedVersion"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Show {
    Value,
    Presence,
}

/// Whether sockets that listen on `addrs` are what a setting asks for; `None`: it does not decide that, or is of a kind
/// that cannot be known.
pub fn agrees(what: &str, settings: &ServerSettings, addrs: &[IpAddr], ports: &[u16]) -> Option<bool> {
    if addrs.is_empty() {
        return None;
    }
    match what {
        PORT => {
            let port: u16 = settings.effective(what)?.value.parse().ok()?;
            Some(ports.contains(&port))
        }
        BIND => {
            let is_tailnet = |addr: &IpAddr| is_tailnet(*addr);
            match Bind::of(settings)? {
                Bind::Lan => Some(addrs.iter().any(IpAddr::is_unspecified)),
                Bind::Loopback => Some(addrs.iter().all(IpAddr::is_loopback)),
                Bind::Custom { host, with_loopback } => {
                    let is_there = |addr: &IpAddr| *addr == host || addr.is_unspecified();
                    let has_loopback = addrs.iter().any(|addr| is_v4_loopback(addr) || addr.is_unspecified());
                    Some(addrs.iter().any(is_there) && (!with_loopback || has_loopback))
                }
                Bind::Tailnet { with_loopback } => {
                    let has_loopback = addrs.iter().any(is_v4_loopback);
                    Some(addrs.iter().any(is_tailnet) && (!with_loopback || has_loopback))
                }
            }
        }
        _ => None,
    }
}

/// What `gateway.bind` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    Loopback,
    Lan,
    Tailnet { with_loopback: bool },
    Custom { host: IpAddr, with_loopback: bool },
}

impl Bind {
    /// As far as it can be known: `auto` depends on where the gateway runs.
    pub fn of(settings: &ServerSettings) -> Option<Self> {
        // Of a version that is not known, the least is taken.
        let with_loopback = version(settings).is_some_and(|version| is_since(version, WITH_LOOPBACK));
        match settings.effective(BIND)?.value {
            "loopback" => Some(Self::Loopback),
            "lan" => Some(Self::Lan),
            "tailnet" => Some(Self::Tailnet { with_loopback }),
            "custom" => {
                let host = settings.effective("gateway.customBindHost")?.value;
                host.parse().ok().map(|host| Self::Custom { host, with_loopback })
            }
            _ => None,
        }
    }

    /// Whether a gateway that does as asked would answer at an address of this host.
    pub fn covers(self, addr: IpAddr) -> bool {
        let is_v4_loopback = is_v4_loopback(&addr);
        match self {
            Self::Loopback => is_v4_loopback || addr == IpAddr::V6(Ipv6Addr::LOCALHOST),
            // 0.0.0.0, and not `::`.
            Self::Lan => addr.is_ipv4(),
            Self::Tailnet { with_loopback } => is_tailnet(addr) || with_loopback && is_v4_loopback,
            Self::Custom { host, with_loopback } => {
                host == addr
                    || host.is_unspecified() && host.is_ipv4() == addr.is_ipv4()
                    || with_loopback && is_v4_loopback
            }
        }
    }
}

fn is_v4_loopback(addr: &IpAddr) -> bool {
    *addr == IpAddr::V4(Ipv4Addr::LOCALHOST)
}

/// What the file sets about authentication.
pub fn access(settings: &ServerSettings) -> Access {
    let is_set = |what: &str| settings.effective(what).is_some();
    match settings.effective(AUTH_MODE).map(|mode| mode.value) {
        Some("none") => Access::Open(TOKEN),
        Some("password") if is_set(PASSWORD) => Access::Asked(PASSWORD),
        Some("token") | None if is_set(TOKEN) => Access::Asked(TOKEN),
        None if is_set(PASSWORD) => Access::Asked(PASSWORD),
        mode => {
            let what = if mode == Some("password") { PASSWORD } else { TOKEN };
            // What is included may set it; and other modes have ways of their own.
            let is_whole = settings.in_file().is_some_and(|file| !file.includes);
            let is_known = matches!(mode, Some("token" | "password") | None);
            if is_whole && is_known { Access::Open(what) } else { Access::Unknown(what) }
        }
    }
}

/// A client in this mode asks the gateway that `gateway.remote.url` names.
pub fn leads_away(settings: &ServerSettings) -> Option<&'static str> {
    let is_remote = settings.effective(MODE).is_some_and(|mode| mode.value == "remote");
    is_remote.then_some("gateway.mode \"remote\": it asks the gateway of gateway.remote.url")
}

/// The version that wrote the configuration last, as far as that shows which one runs.
pub fn version(settings: &ServerSettings) -> Option<&str> {
    settings.in_file()?.version.as_deref()
}

/// Whether a version like `2026.7.35` is that one or a later one.
pub fn is_since(version: &str, since: [u32; 3]) -> bool {
    let number = |part: &str| {
        let digits = part.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse().unwrap_or(0)
    };
    let mut parts = version.split('.').map(number);
    let version = [0; 3].map(|none: u32| parts.next().unwrap_or(none));
    version >= since
}

/// Where the configuration may be, the first that exists being it. `home` is the user's, where the environment does
/// not set it.
pub fn config_paths(environment: &Environment, arguments: &[&[u8]], home: Option<&Path>) -> Vec<PathBuf> {
    let path = |name: &str| variable(environment, name).map(|value| PathBuf::from(OsStr::from_bytes(value)));
    let home = path("OPENCLAW_HOME").or_else(|| path("HOME")).or_else(|| home.map(Path::to_owned));
    let at_home = |path: PathBuf| match (path.strip_prefix("~"), &home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    };
    if let Some(path) = path("OPENCLAW_CONFIG_PATH") {
        return vec![at_home(path)];
    }
    if let Some(directory) = path("OPENCLAW_STATE_DIR") {
        let directory = at_home(directory);
        return FILES.iter().map(|file| directory.join(file)).collect();
    }
    let Some(home) = home else { return Vec::new() };
    let profile = option(arguments, "--profile")
        .or_else(|| arguments.contains(&b"--dev".as_slice()).then_some(b"dev".as_slice()))
        .or_else(|| variable(environment, "OPENCLAW_PROFILE"))
        .filter(|profile| *profile != b"default" && !profile.contains(&b'/'));
    if let Some(profile) = profile {
        let directory = home.join(OsStr::from_bytes(&[b".openclaw-", profile].concat()));
        return FILES.iter().map(|file| directory.join(file)).collect();
    }
    let in_directory = |directory: &&str| FILES.map(|file| home.join(directory).join(file));
    DIRECTORIES.iter().flat_map(in_directory).collect()
}

/// The value of an option, as `--name VALUE` or `--name=VALUE`.
fn option<'a>(arguments: &[&'a [u8]], name: &str) -> Option<&'a [u8]> {
    let with_equals = |argument: &&'a [u8]| argument.strip_prefix(name.as_bytes())?.strip_prefix(b"=");
    let behind = || {
        let at = arguments.iter().position(|argument| *argument == name.as_bytes())?;
        arguments.get(at + 1).copied()
    };
    arguments.iter().find_map(with_equals).or_else(behind).filter(|value| !value.is_empty())
}

/// What the arguments and the environment set for the bind: both win over the file.
pub fn overrides(environment: &Environment, arguments: &[&[u8]]) -> Vec<Override> {
    let mut overrides = Vec::new();
    for (name, what) in [("--bind", BIND), ("--port", PORT)] {
        if let Some(value) = option(arguments, name) {
            overrides.push(Override {
                what: what.into(),
                value: Some(shown_bytes(value)),
                source: Source::Arguments,
            });
        }
    }
    let variables = [
        ("OPENCLAW_GATEWAY_BIND", BIND, Show::Value),
        ("OPENCLAW_GATEWAY_PORT", PORT, Show::Value),
        ("OPENCLAW_GATEWAY_TOKEN", TOKEN, Show::Presence),
        ("OPENCLAW_GATEWAY_PASSWORD", PASSWORD, Show::Presence),
    ];
    for (name, what, show) in variables {
        if let Some(value) = variable(environment, name) {
            let value = match (show, what) {
                (Show::Presence, _) => SET.to_owned(),
                // It may be `host:port`.
                (Show::Value, PORT) => {
                    shown_bytes(value.rsplit(|byte| *byte == b':').next().unwrap_or(value))
                }
                (Show::Value, _) => shown_bytes(value),
            };
            overrides.push(Override {
                what: what.into(),
                value: Some(value),
                source: Source::Environment(name.into()),
            });
        }
    }
    overrides
}

/// The names of the settings that are read.
pub fn settings_read() -> Vec<&'static str> {
    SETTINGS.iter().map(|(_, what, _)| *what).collect()
}

/// What the configuration file sets.
///
/// # Errors
/// When it is not JSON5.
pub fn settings(text: &str) -> Result<FileSettings, Malformed> {
    let mut found: [Option<String>; SETTINGS.len()] = Default::default();
    let mut version = None;
    let mut includes = false;
    let mut is_object = false;
    json5::walk(text, |path, value| {
        is_object |= path.is_empty() && value == Value::Object;
        // Of a key that stands twice the last one counts, with all that is in it.
        for ((keys, _, show), setting) in SETTINGS.iter().zip(&mut found) {
            if is_equal(path, keys) {
                *setting = shown(value, *show);
            } else if is_prefix(path, keys) {
                *setting = None;
            }
        }
        if is_equal(path, VERSION) {
            version = shown(value, Show::Value);
        }
        includes |= path.last().is_some_and(|key| key == "$include") && is_above(path);
    })?;
    if !is_object {
        return Err(Malformed { at: 0, why: "no object" });
    }
    let values =
        SETTINGS.iter().zip(found).filter_map(|((_, what, _), value)| Some(((*what).into(), value?)));
    Ok(FileSettings { values: values.collect(), version, includes, ..FileSettings::default() })
}

fn is_equal(path: &[Cow<'_, str>], keys: &[&str]) -> bool {
    path.len() == keys.len() && is_prefix(path, keys)
}

fn is_prefix(path: &[Cow<'_, str>], keys: &[&str]) -> bool {
    path.len() <= keys.len() && path.iter().zip(keys).all(|(own, key)| own == key)
}

/// Whether what is included here could hold one of the settings.
fn is_above(path: &[Cow<'_, str>]) -> bool {
    let Some((_, above)) = path.split_last() else { return false };
    SETTINGS.iter().any(|(keys, _, _)| is_prefix(above, keys))
}

fn shown(value: Value<'_>, show: Show) -> Option<String> {
    match (show, value) {
        (_, Value::Word("null")) => None,
        (Show::Presence, Value::String("")) => None,
        // A reference to a secret kept elsewhere is an object.
        (Show::Presence, Value::String(_) | Value::Object) => Some(SET.to_owned()),
        (Show::Presence, Value::Word(_) | Value::Array) | (Show::Value, Value::Object | Value::Array) => None,
        (Show::Value, Value::String(_)) => value.text().map(|text| shown_bytes(text.as_bytes())),
        (Show::Value, Value::Word(word)) => {
            Some(value.port().map_or_else(|| shown_bytes(word.as_bytes()), |port| port.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::products::openclaw::OpenClaw;
    use crate::products::settings::VALUE_MAX;
    use crate::products::{ConfigFile, ProductRef};

    fn environment(pairs: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
    }

    fn paths(pairs: &[(&str, &str)], arguments: &[&str]) -> Vec<String> {
        let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
        let paths = config_paths(&environment(pairs), &arguments, Some(Path::new("/home/ann")));
        paths.into_iter().map(|path| path.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_file_is_where_the_gateway_reads_it() {
        assert_eq!(
            paths(&[], &[]),
            [
                "/home/ann/.openclaw/openclaw.json",
                "/home/ann/.openclaw/clawdbot.json",
                "/home/ann/.clawdbot/openclaw.json",
                "/home/ann/.clawdbot/clawdbot.json",
            ]
        );
        assert_eq!(paths(&[("HOME", "/home/node")], &[])[0], "/home/node/.openclaw/openclaw.json");
        assert_eq!(paths(&[("OPENCLAW_CONFIG_PATH", "/etc/o.json"), ("HOME", "/x")], &[]), ["/etc/o.json"]);
        assert_eq!(paths(&[("OPENCLAW_CONFIG_PATH", "~/o.json"), ("HOME", "/x")], &[]), ["/x/o.json"]);
        assert_eq!(
            paths(&[("OPENCLAW_STATE_DIR", "/srv/state")], &[]),
            ["/srv/state/openclaw.json", "/srv/state/clawdbot.json"]
        );
        assert_eq!(
            paths(&[("OPENCLAW_HOME", "/srv")], &["--profile", "work"])[0],
            "/srv/.openclaw-work/openclaw.json"
        );
        assert_eq!(paths(&[], &["--dev"])[0], "/home/ann/.openclaw-dev/openclaw.json");
        assert_eq!(paths(&[], &["--profile=../../etc"])[0], "/home/ann/.openclaw/openclaw.json");
    }

    fn values(text: &str) -> Vec<(String, String)> {
        let values = settings(text).unwrap().values;
        values.into_iter().map(|(what, value)| (what.into_owned(), value)).collect()
    }

    #[test]
    fn only_settings_of_the_bind_are_read() {
        let found = settings(
            r#"{ meta: { lastTouchedVersion: "2026.7.35" }, secrets: { key: "hush" },
                gateway: { mode: "local", bind: "lan", port: 18789, customBindHost: "10.0.0.1",
                           tailscale: { mode: "serve" }, auth: { mode: "token", token: "hush-hush" } } }"#,
        )
        .unwrap();
        assert_eq!(found.version.as_deref(), Some("2026.7.35"));
        assert!(!found.includes);
        let expected = [
            ("gateway.mode", "local"),
            ("gateway.bind", "lan"),
            ("gateway.customBindHost", "10.0.0.1"),
            ("gateway.port", "18789"),
            ("gateway.tailscale.mode", "serve"),
            ("gateway.auth.mode", "token"),
            ("gateway.auth.token", "set"),
        ];
        assert_eq!(found.values, expected.map(|(what, value)| (what.into(), value.to_owned())));
        assert!(!format!("{found:?}").contains("hush"));
    }

    #[test]
    fn the_last_of_two_keys_counts_with_all_that_is_in_it() {
        assert_eq!(
            values("{gateway:{bind:'lan'},gateway:{bind:'loopback'}}"),
            [("gateway.bind".into(), "loopback".into())]
        );
        assert_eq!(values("{gateway:{bind:'lan'},gateway:{}}"), []);
        assert_eq!(values("{gateway:{bind:'lan',bind:null}}"), []);
        assert_eq!(values("{gateway:{bind:'lan'},gateway:7}"), []);
    }

    #[test]
    fn other_keys_are_not_settings() {
        assert_eq!(values("{gateway:[{bind:'lan'}]}"), []);
        assert_eq!(values("{a:{gateway:{bind:'lan'}},gateway:{bind:{x:'lan'}},bind:'lan'}"), []);
        assert_eq!(values("{gateway:{auth:{token:'',password:null}}}"), []);
        assert_eq!(
            values("{gateway:{auth:{token:{source:'env'}}}}"),
            [("gateway.auth.token".into(), "set".into())]
        );
    }

    #[test]
    fn hostile_values_are_shown_short_and_escaped() {
        let long = format!("{{gateway:{{bind:'{}'}}}}", "x".repeat(100_000));
        assert_eq!(values(&long)[0].1.len(), VALUE_MAX + 3);
        assert_eq!(values("{gateway:{bind:'\\u001b[31m'}}"), [("gateway.bind".into(), "\\x1b[31m".into())]);
        assert_eq!(values("{gateway:{port:1e308}}"), [("gateway.port".into(), "1e308".into())]);
    }

    #[test]
    fn includes_are_noticed_where_they_matter() {
        assert!(settings("{$include:'a.json'}").unwrap().includes);
        assert!(settings("{gateway:{$include:'a.json'}}").unwrap().includes);
        assert!(settings("{gateway:{auth:{$include:'a.json'}}}").unwrap().includes);
        assert!(!settings("{channels:{$include:'a.json'}}").unwrap().includes);
        for text in ["[]", "7", "'x'"] {
            assert!(settings(text).is_err());
        }
    }

    fn configured(text: &str) -> ServerSettings {
        let file = ConfigFile {
            path: PathBuf::from("/openclaw.json"),
            changed: None,
            settings: Ok(settings(text).unwrap()),
        };
        ServerSettings { file: Some(file), ..ServerSettings::of(ProductRef::new(&OpenClaw)) }
    }

    #[test]
    fn sockets_agree_with_a_bind_or_do_not() {
        let agrees = |text: &str, addrs: &[&str]| {
            let addrs: Vec<IpAddr> = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
            agrees("gateway.bind", &configured(text), &addrs, &[18_789])
        };
        let bind = |mode: &str| format!("{{gateway:{{bind:'{mode}',customBindHost:'10.0.0.1'}}}}");
        assert_eq!(agrees(&bind("lan"), &["0.0.0.0"]), Some(true));
        assert_eq!(agrees(&bind("lan"), &["100.101.102.103"]), Some(false));
        assert_eq!(agrees(&bind("loopback"), &["127.0.0.1", "::1"]), Some(true));
        assert_eq!(agrees(&bind("loopback"), &["127.0.0.1", "0.0.0.0"]), Some(false));
        assert_eq!(agrees(&bind("custom"), &["10.0.0.1"]), Some(true));
        assert_eq!(agrees(&bind("custom"), &["10.0.0.2"]), Some(false));
        assert_eq!(agrees(&bind("tailnet"), &["100.101.102.103"]), Some(true));
        assert_eq!(agrees(&bind("tailnet"), &["127.0.0.1"]), Some(false));
        assert_eq!(agrees(&bind("auto"), &["0.0.0.0"]), None);
        assert_eq!(agrees(&bind("lan"), &[]), None);
        let newer = "{meta:{lastTouchedVersion:'2026.9.6'},gateway:{bind:'tailnet'}}";
        assert_eq!(agrees(newer, &["100.101.102.103"]), Some(false));
        assert_eq!(agrees(newer, &["100.101.102.103", "127.0.0.1"]), Some(true));
    }

    #[test]
    fn a_custom_address_comes_with_loopback_since_a_version() {
        let older =
            "{meta:{lastTouchedVersion:'2026.7.35'},gateway:{bind:'custom',customBindHost:'10.0.0.1'}}";
        let newer = older.replace("2026.7.35", "2026.8.1");
        let covers = |text: &str| configured(text).covers(IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!((covers(older), covers(&newer)), (Some(false), Some(true)));
        let with = |addrs: &[&str]| {
            let addrs: Vec<IpAddr> = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
            agrees(BIND, &configured(&newer), &addrs, &[18_789])
        };
        assert_eq!((with(&["10.0.0.1"]), with(&["10.0.0.1", "127.0.0.1"])), (Some(false), Some(true)));
    }

    #[test]
    fn access_is_shown_as_far_as_it_is_set() {
        let access = |auth: &str| configured(&format!("{{gateway:{{auth:{auth}}}}}")).access();
        for (auth, expected) in [
            ("{mode:'token',token:'hush'}", Access::Asked(TOKEN)),
            ("{token:'hush'}", Access::Asked(TOKEN)),
            ("{password:'hush'}", Access::Asked(PASSWORD)),
            ("{mode:'password',password:'hush'}", Access::Asked(PASSWORD)),
            ("{mode:'none',token:'hush'}", Access::Open(TOKEN)),
            ("{mode:'token'}", Access::Open(TOKEN)),
            ("{mode:'password',token:'hush'}", Access::Open(PASSWORD)),
            ("{}", Access::Open(TOKEN)),
            ("{mode:'trusted-proxy'}", Access::Unknown(TOKEN)),
            ("{$include:'secrets.json'}", Access::Unknown(TOKEN)),
        ] {
            assert_eq!(access(auth), expected, "{auth}");
        }
        let none = ServerSettings::of(ProductRef::new(&OpenClaw));
        assert_eq!(none.access(), Access::Unknown(TOKEN));
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (version, is) in [
            ("2026.8.1", true),
            ("2026.10.0", true),
            ("2027.1", true),
            ("2026.8.1-beta.2", true),
            ("2026.7.35", false),
            ("2026", false),
            ("", false),
            ("latest", false),
        ] {
            assert_eq!(is_since(version, [2026, 8, 1]), is, "{version}");
        }
    }

    #[test]
    fn arguments_and_environment_are_shown_with_their_source() {
        let environment =
            environment(&[("OPENCLAW_GATEWAY_PORT", "127.0.0.1:19001"), ("OPENCLAW_GATEWAY_TOKEN", "hush")]);
        let arguments: [&[u8]; 5] = [b"node", b"openclaw", b"gateway", b"--bind=lan", b"--port"];
        let given = overrides(&environment, &[&arguments[..], &[b"18790"]].concat());
        let shown: Vec<_> =
            given.iter().map(|one| (one.what.as_ref(), one.value.as_deref().unwrap())).collect();
        assert_eq!(
            shown,
            [
                ("gateway.bind", "lan"),
                ("gateway.port", "18790"),
                ("gateway.port", "19001"),
                ("gateway.auth.token", "set")
            ]
        );
    }
}
