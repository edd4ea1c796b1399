//! Debian's archive by apt's own tools, and the folder that keeps what was fetched from it.
//!
//! apt checks the archive's signatures, but has a configuration, lists and a cache of its own here: nothing of the
//! host's apt changes, and no root is needed. The mirror is the host's.

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, anyhow, bail};

use crate::{
    cargo::{find, home, output, shown, succeed},
    failure::Failure,
};

/// What packages come from: releases of Debian, and whether it is their security updates.
const SUITES: [(&str, bool); 8] = [
    ("bullseye", false),
    ("bullseye-security", true),
    ("bookworm", false),
    ("bookworm-security", true),
    ("trixie", false),
    ("trixie-security", true),
    ("trixie-backports", false),
    ("sid", false),
];

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// How long the newest version of something is taken to be the newest.
const FRESH: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What was fetched before, for every clone of this user, and the archive for what was not.
pub struct Cache {
    directory: PathBuf,
    /// Opened when it is needed; an error in words.
    archive: OnceCell<Result<Archive, String>>,
}

impl Cache {
    pub fn of_this_user() -> Result<Self> {
        let directory = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
            .or_else(home)
            .map(|directory| directory.join("tracer-vm"))
            .context("neither XDG_CACHE_HOME nor HOME is set, so there is no place to keep kernels")?;
        Ok(Self { directory, archive: OnceCell::new() })
    }

    /// A path in it.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.directory.join(path)
    }

    /// An empty directory in it for this process, to unpack in.
    pub fn scratch(&self) -> Result<PathBuf> {
        let scratch = self.path(format!("unpacking-{}", std::process::id()));
        if scratch.exists() {
            fs::remove_dir_all(&scratch).with_context(|| format!("cannot clear `{}`", scratch.display()))?;
        }
        fs::create_dir_all(&scratch).with_context(|| format!("cannot make `{}`", scratch.display()))?;
        Ok(scratch)
    }

    /// The newest version of what has this name: the recorded one while it is fresh, otherwise the one that `fetch` takes
    /// from the archive, which is then recorded. Where the archive does not answer, the recorded one is used. A recorded
    /// version whose files are removed (`is_there`) does not count.
    pub fn newest(
        &self,
        name: &str,
        is_there: impl Fn(&str) -> bool,
        fetch: impl FnOnce(&Archive) -> Result<String>,
    ) -> Result<String> {
        let record = self.path(name);
        let recorded = |fresh| recorded(&record, fresh).filter(|version| is_there(version));
        if let Some(version) = recorded(true) {
            return Ok(version);
        }
        let archive = self.archive.get_or_init(|| Archive::open(self).map_err(|error| format!("{error:#}")));
        let archive = match (archive, recorded(false)) {
            (Ok(archive), _) => archive,
            (Err(error), Some(version)) => {
                eprintln!("vm: {error}: going on with {version}");
                return Ok(version);
            }
            (Err(error), None) => return Err(anyhow!("{error}")),
        };
        let version = fetch(archive)?;
        fs::write(&record, &version).with_context(|| format!("cannot write `{}`", record.display()))?;
        Ok(version)
    }
}

/// The version in a record; with `fresh`, one that was written not long ago.
fn recorded(record: &Path, fresh: bool) -> Option<String> {
    let age = fs::metadata(record).ok()?.modified().ok()?;
    // A time to come is a clock that was set back.
    let age = SystemTime::now().duration_since(age).unwrap_or(Duration::MAX);
    let version = fs::read_to_string(record).ok()?.trim().to_owned();
    (!fresh || age < FRESH).then_some(version)
}

/// The archive as apt sees it.
pub struct Archive {
    options: Vec<String>,
}

impl Archive {
    /// Fetches the lists of what there is.
    fn open(cache: &Cache) -> Result<Self> {
        let apt = cache.path("apt");
        for directory in ["state/lists/partial", "cache/archives/partial"] {
            let directory = apt.join(directory);
            fs::create_dir_all(&directory)
                .with_context(|| format!("cannot make `{}`", directory.display()))?;
        }
        let sources = apt.join("sources.list");
        fs::write(&sources, sources_list(&mirrors()?)?)
            .with_context(|| format!("cannot write `{}`", sources.display()))?;
        let archive = Self { options: options(&apt) };
        eprintln!("vm: asking the archive for its newest packages");
        if let Err(error) = succeed(archive.apt("apt-get").args(["update", "-qq"])) {
            // A suite that has moved need not be the one that matters: what is missing will be named.
            eprintln!("vm: {error:#}");
        }
        Ok(archive)
    }

    /// A program of apt's with the options that keep it to the cache.
    pub fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(find(program).unwrap_or_else(|| program.into()));
        command.args(self.options.iter().flat_map(|option| ["-o", option]));
        command
    }
}

/// Extracts every package of a directory into another.
pub fn extract(packages: &Path, into: &Path) -> Result<()> {
    let unreadable = || format!("cannot read `{}`", packages.display());
    for package in fs::read_dir(packages).with_context(unreadable)? {
        let package = package.with_context(unreadable)?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            succeed(Command::new("dpkg-deb").arg("--extract").arg(package).arg(into))?;
        }
    }
    Ok(())
}

/// What keeps apt to `directory`, and to signed lists.
fn options(directory: &Path) -> Vec<String> {
    let directory = directory.display();
    vec![
        format!("Dir::State={directory}/state"),
        format!("Dir::Cache={directory}/cache"),
        format!("Dir::Etc::SourceList={directory}/sources.list"),
        "Dir::Etc::SourceParts=/dev/null".to_owned(),
        "Dir::Etc::Preferences=/dev/null".to_owned(),
        "Dir::Etc::PreferencesParts=/dev/null".to_owned(),
        "Dir::State::Status=/dev/null".to_owned(),
        "APT::Architecture=amd64".to_owned(),
        "APT::Architectures=amd64".to_owned(),
        "APT::Get::AllowUnauthenticated=false".to_owned(),
        "Acquire::AllowInsecureRepositories=false".to_owned(),
        "Acquire::Languages=none".to_owned(),
        // What root fetches into a directory of its own is out of reach of apt's own user.
        "APT::Sandbox::User=root".to_owned(),
    ]
}

/// Addresses of Debian's archive.
#[derive(Debug, PartialEq, Eq)]
struct Mirrors {
    main: String,
    security: Option<String>,
}

/// Those that this host is configured with.
fn mirrors() -> Result<Mirrors> {
    let hint = "run it on a Debian machine: what it boots is Debian's";
    let Some(apt) = find("apt-get") else {
        return Err(Failure::unable("`apt-get` was not found to fetch packages with", hint).into());
    };
    if !Path::new(KEYRING).exists() {
        let what = format!("`{KEYRING}` is missing, which shows whether a package is Debian's");
        return Err(Failure::unable(what, "install debian-archive-keyring").into());
    }
    let mut command = Command::new(apt);
    command.args(["indextargets", "--format", "$(RELEASE) $(SITE)", "Created-By: Packages"]);
    let targets = output(&mut command)?;
    mirrors_among(&targets).ok_or_else(|| {
        let what = format!("`{}` names no mirror of Debian", shown(&command));
        Failure::unable(what, hint).into()
    })
}

/// The mirrors among lines of a release and the address that the host has it from.
fn mirrors_among(targets: &str) -> Option<Mirrors> {
    const RELEASES: [&str; 7] = ["bullseye", "bookworm", "trixie", "forky", "sid", "stable", "testing"];
    let sites: BTreeMap<&str, &str> = targets.lines().filter_map(|line| line.split_once(' ')).collect();
    let main = RELEASES.iter().find_map(|release| sites.get(release))?;
    let security = RELEASES.iter().find_map(|release| sites.get(format!("{release}-security").as_str()));
    Some(Mirrors { main: (*main).to_owned(), security: security.map(|site| (*site).to_owned()) })
}

/// The sources of apt, in the one-line style of sources.list(5): of each suite what packages it has, no more.
fn sources_list(mirrors: &Mirrors) -> Result<String> {
    let mut list = String::new();
    for (suite, is_security) in SUITES {
        let site = if is_security { mirrors.security.as_ref() } else { Some(&mirrors.main) };
        // A host without security updates gets the kernels of the releases.
        let Some(site) = site else { continue };
        if site.contains(char::is_whitespace) {
            bail!("`{site}` is not an address of a mirror");
        }
        list += &format!("deb [signed-by={KEYRING} arch=amd64 target=Packages] {site} {suite} main\n");
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache whose archive does not answer, with a record that is this old.
    fn cache_without_archive(directory: &Path, age: Duration) -> Cache {
        let record = directory.join("something");
        fs::write(&record, "1.0\n").unwrap();
        fs::File::options().write(true).open(record).unwrap().set_modified(SystemTime::now() - age).unwrap();
        Cache {
            directory: directory.to_owned(),
            archive: OnceCell::from(Err("the archive does not answer".to_owned())),
        }
    }

    #[test]
    fn a_recorded_version_is_used_while_its_files_are_there() {
        let directory = tempfile::tempdir().unwrap();
        for age in [Duration::ZERO, FRESH * 2] {
            let cache = cache_without_archive(directory.path(), age);
            let newest =
                |is_there: bool| cache.newest("something", |_| is_there, |_| unreachable!("no archive"));
            assert_eq!(newest(true).unwrap(), "1.0");
            assert_eq!(newest(false).unwrap_err().to_string(), "the archive does not answer");
        }
    }

    #[test]
    fn a_version_from_the_archive_is_recorded() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache {
            archive: OnceCell::from(Ok(Archive { options: Vec::new() })),
            ..cache_without_archive(directory.path(), FRESH * 2)
        };
        assert_eq!(cache.newest("something", |_| true, |_| Ok("1.1".to_owned())).unwrap(), "1.1");
        assert_eq!(cache.newest("something", |_| true, |_| unreachable!("it is fresh")).unwrap(), "1.1");
    }

    #[test]
    fn the_mirrors_are_the_hosts() {
        let targets = "nodistro https://example.org/node\n\
                       bookworm http://mirror.example/debian\n\
                       bookworm-updates http://mirror.example/debian\n\
                       bookworm-security http://mirror.example/security\n";
        let mirrors = mirrors_among(targets).unwrap();
        assert_eq!(mirrors.main, "http://mirror.example/debian");
        assert_eq!(mirrors.security.as_deref(), Some("http://mirror.example/security"));
        let list = sources_list(&mirrors).unwrap();
        assert_eq!(list.lines().count(), SUITES.len());
        assert!(list.contains("] http://mirror.example/security trixie-security main\n"), "{list}");
        assert!(list.contains("] http://mirror.example/debian trixie-backports main\n"), "{list}");
        assert!(list.lines().all(|line| line.contains("signed-by=")), "{list}");
    }

    #[test]
    fn a_host_without_security_updates_has_the_releases() {
        let mirrors = mirrors_among("trixie http://mirror.example/debian\n").unwrap();
        assert_eq!(sources_list(&mirrors).unwrap().lines().count(), 5);
    }

    #[test]
    fn another_distribution_has_no_mirror_of_debian() {
        assert_eq!(mirrors_among("noble http://mirror.example/ubuntu\n"), None);
    }
}
