//! Stock Debian kernels: which is the newest of a series, and where its image and modules are once fetched.
//!
//! By apt's own tools, which check the archive's signatures, but with a configuration, lists and a cache of
//! their own: nothing of the host's apt changes, and no root is needed. The mirror is the host's.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};

use crate::{
    cargo::{find, home, output, shown, succeed},
    failure::Failure,
};

/// The series whose newest kernel is run, oldest first.
pub const SERIES: [&str; 4] = ["5.10", "6.1", "6.12", "7"];

/// Where they come from: releases of Debian, and whether it is their security updates.
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

/// The kernels without the drivers of real machines, which have everything else.
const FLAVOUR: &str = "-cloud-amd64";

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// How long the newest kernel of a series is taken to be the newest.
const FRESH: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A kernel at hand.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Of [`SERIES`].
    pub series: String,
    /// As `uname -r` prints it.
    pub release: String,
    directory: PathBuf,
}

impl Kernel {
    #[cfg(test)]
    pub fn at_hand(series: &str) -> Self {
        Self { series: series.to_owned(), release: format!("{series}.0"), directory: PathBuf::new() }
    }

    /// The image to boot.
    pub fn image(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    /// The folder of its modules, `/lib/modules/RELEASE` on a machine that has it installed.
    pub fn modules(&self) -> PathBuf {
        self.directory.join("modules")
    }
}

/// The kernels of these series: from the cache, or from the archive.
pub fn kernels(series: &[&str]) -> Result<Vec<Kernel>> {
    if !cfg!(target_arch = "x86_64") {
        let what = "the kernels here are those of x86-64, and run what is built for it";
        return Err(Failure::unable(what, "run it on x86-64").into());
    }
    let cache = cache()?;
    let missing = series.iter().any(|series| recorded(&cache, series, true).is_none());
    let archive = if missing { Some(Archive::open(&cache)) } else { None };
    let fetched = |series: &&str| match &archive {
        None => recorded(&cache, series, true).with_context(|| format!("the kernel {series} was removed")),
        Some(Ok(archive)) => archive.fetch(series),
        Some(Err(error)) => {
            let kernel = recorded(&cache, series, false).with_context(|| format!("{error:#}"))?;
            eprintln!("vm: {error:#}: going on with {}", kernel.release);
            Ok(kernel)
        }
    };
    series.iter().map(fetched).collect()
}

/// Where kernels are kept, for every clone of this user.
fn cache() -> Result<PathBuf> {
    env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .or_else(home)
        .map(|directory| directory.join("tracer-vm"))
        .context("neither XDG_CACHE_HOME nor HOME is set, so there is no place to keep kernels")
}

/// The kernel that was last the newest of its series; with `fresh`, not long ago.
fn recorded(cache: &Path, series: &str, fresh: bool) -> Option<Kernel> {
    let record = cache.join(series);
    let age = fs::metadata(&record).ok()?.modified().ok()?;
    // A time to come is a clock that was set back.
    let age = SystemTime::now().duration_since(age).unwrap_or(Duration::MAX);
    let release = fs::read_to_string(&record).ok()?.trim().to_owned();
    let directory = cache.join("kernels").join(&release);
    let kernel = Kernel { series: series.to_owned(), release, directory };
    (kernel.image().exists() && (!fresh || age < FRESH)).then_some(kernel)
}

/// The archive as apt sees it.
struct Archive {
    cache: PathBuf,
    options: Vec<String>,
    /// The packages of kernels that there are.
    packages: Vec<String>,
}

impl Archive {
    /// Fetches the lists of what there is.
    fn open(cache: &Path) -> Result<Self> {
        let apt = cache.join("apt");
        for directory in ["state/lists/partial", "cache/archives/partial"] {
            let directory = apt.join(directory);
            fs::create_dir_all(&directory)
                .with_context(|| format!("cannot make `{}`", directory.display()))?;
        }
        let sources = apt.join("sources.list");
        fs::write(&sources, sources_list(&mirrors()?)?)
            .with_context(|| format!("cannot write `{}`", sources.display()))?;
        let mut archive = Self { cache: cache.to_owned(), options: options(&apt), packages: Vec::new() };
        eprintln!("vm: asking the archive for its newest kernels");
        if let Err(error) = succeed(archive.apt("apt-get").args(["update", "-qq"])) {
            // A suite that has moved need not be the one that matters: what is missing will be named.
            eprintln!("vm: {error:#}");
        }
        // A name with two numbers only is that of a package that brings the newest along.
        let names = format!("^linux-(image|binary|modules)-[0-9]+[.][0-9]+[.][0-9].*{FLAVOUR}$");
        let found = output(archive.apt("apt-cache").args(["search", "--names-only", &names]))?;
        archive.packages =
            found.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
        Ok(archive)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(find(program).unwrap_or_else(|| program.into()));
        command.args(self.options.iter().flat_map(|option| ["-o", option]));
        command
    }

    /// The newest kernel of a series, from the archive unless it is at hand.
    fn fetch(&self, series: &str) -> Result<Kernel> {
        let releases = self.packages.iter().filter_map(|name| name.strip_prefix("linux-image-"));
        let release = newest(releases, series)
            .with_context(|| format!("the archive has no kernel {series} of the flavour `{FLAVOUR}`"))?;
        let directory = self.cache.join("kernels").join(release);
        let kernel = Kernel { series: series.to_owned(), release: release.to_owned(), directory };
        if !kernel.image().exists() {
            eprintln!("vm: fetching the kernel {release}");
            self.unpack(&kernel)?;
        }
        let record = self.cache.join(series);
        fs::write(&record, release).with_context(|| format!("cannot write `{}`", record.display()))?;
        Ok(kernel)
    }

    /// Downloads the packages of a kernel and keeps its image and modules.
    fn unpack(&self, kernel: &Kernel) -> Result<()> {
        let release = &kernel.release;
        let scratch = self.cache.join(format!("unpacking-{}", std::process::id()));
        let (packages, files) = (scratch.join("packages"), scratch.join("files"));
        fs::create_dir_all(&packages).with_context(|| format!("cannot make `{}`", packages.display()))?;
        // Newer kernels have their image and modules in packages of their own.
        let names = ["image", "binary", "modules"].map(|part| format!("linux-{part}-{release}"));
        let names = names.iter().filter(|name| self.packages.contains(name));
        succeed(self.apt("apt-get").args(["download", "-q"]).args(names).current_dir(&packages))?;
        for package in entries(&packages)? {
            succeed(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&files))?;
        }
        let first =
            |places: &[String]| places.iter().map(|place| files.join(place)).find(|path| path.exists());
        let image = first(&[
            format!("boot/vmlinuz-{release}"),
            format!("usr/lib/modules/{release}/vmlinuz"),
            format!("lib/modules/{release}/vmlinuz"),
        ]);
        let modules = first(&[format!("usr/lib/modules/{release}"), format!("lib/modules/{release}")]);
        let (Some(image), Some(modules)) = (image, modules) else {
            bail!("the packages of the kernel {release} hold no image, or no modules");
        };
        let ready = scratch.join("ready");
        let result = fs::create_dir_all(&ready)
            .and_then(|()| fs::rename(image, ready.join("vmlinuz")))
            .and_then(|()| fs::rename(modules, ready.join("modules")))
            .and_then(|()| fs::create_dir_all(self.cache.join("kernels")))
            // Another run may have been as quick.
            .and_then(|()| {
                fs::rename(&ready, &kernel.directory)
                    .or_else(|error| if kernel.image().exists() { Ok(()) } else { Err(error) })
            })
            .and_then(|()| fs::remove_dir_all(&scratch));
        result.with_context(|| format!("cannot keep the kernel {release} in `{}`", self.cache.display()))
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .with_context(|| format!("cannot read `{}`", directory.display()))
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
    let hint = "run it on a Debian machine: the kernels are Debian's";
    let Some(apt) = find("apt-get") else {
        return Err(Failure::unable("`apt-get` was not found to fetch kernels with", hint).into());
    };
    if !Path::new(KEYRING).exists() {
        let what = format!("`{KEYRING}` is missing, which shows whether a kernel is Debian's");
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

/// The newest release of a series.
fn newest<'a>(releases: impl Iterator<Item = &'a str>, series: &str) -> Option<&'a str> {
    let series = numbers(series);
    releases.filter(|release| numbers(release).starts_with(&series)).max_by_key(|release| numbers(release))
}

/// The numbers in a release, which decide which of two is newer: `6.12.115+deb13.1-cloud-amd64` has 6, 12, 115,
/// 13 and 1.
fn numbers(release: &str) -> Vec<u64> {
    let version = release.strip_suffix(FLAVOUR).unwrap_or(release);
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_found_by_its_numbers() {
        let releases = [
            "6.12.95+deb13-cloud-amd64",
            "6.12.117+deb12-cloud-amd64",
            "6.12.115+deb13.1-cloud-amd64",
            "6.12.117+deb13-cloud-amd64",
            "6.1.0-56-cloud-amd64",
            "6.1.0-0.deb11.52-cloud-amd64",
            "5.10.0-9-cloud-amd64",
            "5.10.0-46-cloud-amd64",
            "7.2.13+deb14-cloud-amd64",
            "7.3.4+deb13-cloud-amd64",
        ];
        let newest = |series| newest(releases.into_iter(), series);
        assert_eq!(newest("5.10"), Some("5.10.0-46-cloud-amd64"));
        assert_eq!(newest("6.1"), Some("6.1.0-56-cloud-amd64"));
        assert_eq!(newest("6.12"), Some("6.12.117+deb13-cloud-amd64"));
        assert_eq!(newest("7"), Some("7.3.4+deb13-cloud-amd64"));
        assert_eq!(newest("5.1"), None);
        assert_eq!(numbers("6.12.115+deb13.1-cloud-amd64"), [6, 12, 115, 13, 1]);
        assert_eq!(newest("8"), None);
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
