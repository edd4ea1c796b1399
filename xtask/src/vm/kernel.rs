//! Stock Debian kernels: which is the newest of a series, and where its image and modules are once fetched.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::archive::{Archive, Cache, extract};
use crate::{
    cargo::{output, succeed},
    failure::Failure,
};

/// The series whose newest kernel is run, oldest first.
pub const SERIES: [&str; 4] = ["5.10", "6.1", "6.12", "7"];

/// The kernels without the drivers of real machines, which have everything else.
const FLAVOUR: &str = "-cloud-amd64";

/// A kernel at hand.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// As `uname -r` prints it.
    pub release: String,
    directory: PathBuf,
}

impl Kernel {
    /// The image to boot.
    pub fn image(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    /// The folder of its modules, `/lib/modules/RELEASE` on a machine that has it installed.
    pub fn modules(&self) -> PathBuf {
        self.directory.join("modules")
    }
}

/// The newest kernel of a series: from the cache, or from the archive.
pub fn newest_of(series: &str, cache: &Cache) -> Result<Kernel> {
    if !cfg!(target_arch = "x86_64") {
        let what = "the kernels here are those of x86-64, and run what is built for it";
        return Err(Failure::unable(what, "run it on x86-64").into());
    }
    let kernel = |release: &str| Kernel {
        release: release.to_owned(),
        directory: cache.path("kernels").join(release),
    };
    let is_there = |release: &str| kernel(release).image().exists();
    let release = cache.newest(series, is_there, |archive| {
        let packages = packages(archive)?;
        let releases = packages.iter().filter_map(|name| name.strip_prefix("linux-image-"));
        let release = newest(releases, series)
            .with_context(|| format!("the archive has no kernel {series} of the flavour `{FLAVOUR}`"))?;
        if !is_there(release) {
            eprintln!("vm: fetching the kernel {release}");
            unpack(&kernel(release), archive, &packages, cache)?;
        }
        Ok(release.to_owned())
    })?;
    Ok(kernel(&release))
}

/// The packages of kernels that there are.
fn packages(archive: &Archive) -> Result<Vec<String>> {
    // A name with two numbers only is that of a package that brings the newest along.
    let names = format!("^linux-(image|binary|modules)-[0-9]+[.][0-9]+[.][0-9].*{FLAVOUR}$");
    let found = output(archive.apt("apt-cache").args(["search", "--names-only", &names]))?;
    Ok(found.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// Downloads the packages of a kernel and keeps its image and modules.
fn unpack(kernel: &Kernel, archive: &Archive, all_packages: &[String], cache: &Cache) -> Result<()> {
    let release = &kernel.release;
    let scratch = cache.scratch()?;
    let (packages, files) = (scratch.join("packages"), scratch.join("files"));
    fs::create_dir_all(&packages).with_context(|| format!("cannot make `{}`", packages.display()))?;
    // Newer kernels have their image and modules in packages of their own.
    let names = ["image", "binary", "modules"].map(|part| format!("linux-{part}-{release}"));
    let names = names.iter().filter(|name| all_packages.contains(name));
    succeed(archive.apt("apt-get").args(["download", "-q"]).args(names).current_dir(&packages))?;
    extract(&packages, &files)?;
    let first = |places: &[String]| places.iter().map(|place| files.join(place)).find(|path| path.exists());
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
        .and_then(|()| fs::create_dir_all(kernel.directory.parent().unwrap_or(Path::new("/"))))
        // Another run may have been as quick.
        .and_then(|()| {
            fs::rename(&ready, &kernel.directory)
                .or_else(|error| if kernel.image().exists() { Ok(()) } else { Err(error) })
        })
        .and_then(|()| fs::remove_dir_all(&scratch));
    result.with_context(|| format!("cannot keep the kernel {release} in `{}`", kernel.directory.display()))
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
}
