//! The systemd unit that a process runs in, as its cgroup path names it.
//!
//! A process that may make directories in a part of the cgroup tree chooses their names: one of root, of a user below
//! `user@UID.service`, of a service to which systemd delegates its part, of a container in a tree of its own. So only the
//! first unit of a path is one of the system's manager, and the first below `user@UID.service` one of that user's: any
//! further name proves nothing.

use serde::{Deserialize, Serialize};

use super::path::without_deleted;

/// Longest name of a unit (UNIT_NAME_MAX, systemd's src/basic/unit-name.h).
const NAME_MAX: usize = 256;

/// The kinds of units that hold processes.
const SUFFIXES: [&str; 4] = [".service", ".scope", ".socket", ".mount"];

/// A systemd unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Unit {
    /// Only of the characters that systemd allows in one.
    pub name: String,
    /// User id of the user whose service manager runs it, or is it; `None`: the system's manager.
    pub user: Option<u32>,
}

impl Unit {
    /// Whether it is made for one program, as a service is. A session, or the first process, holds programs that have
    /// nothing to do with each other.
    pub fn is_service(&self) -> bool {
        self.name.ends_with(".service")
    }

    /// Whether only root can have put a process into it. Every user who logs in gets a session.
    pub fn is_of_system(&self) -> bool {
        self.user.is_none() && self.is_service()
    }

    /// The unit of the process whose `/proc/PID/cgroup` holds `contents`.
    pub fn from_cgroup(contents: &[u8]) -> Option<Self> {
        // systemd's own hierarchy where there is one, else the unified one.
        let path = path_of(contents, b"name=systemd").or_else(|| path_of(contents, b""))?;
        let mut names = path.split(|&byte| byte == b'/').filter_map(name);
        let first = names.next()?;
        let manager = first.strip_prefix("user@").and_then(|rest| rest.strip_suffix(".service"));
        let user = manager.and_then(|user| user.parse().ok());
        // What a user's manager keeps outside of its units is the user's as well.
        let own = user.and_then(|_| names.next());
        Some(Self { name: own.unwrap_or(first).to_owned(), user })
    }
}

/// The path in the hierarchy that has these controllers.
fn path_of<'a>(contents: &'a [u8], controllers: &[u8]) -> Option<&'a [u8]> {
    contents.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.splitn(3, |&byte| byte == b':');
        let (_, own, path) = (fields.next()?, fields.next()?, fields.next()?);
        let path = without_deleted(path);
        // A path that leads out of the reader's cgroup namespace is not complete.
        (own == controllers && !path.starts_with(b"/..")).then_some(path)
    })
}

/// The name of a unit, where a directory has one.
fn name(directory: &[u8]) -> Option<&str> {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(byte);
    let name = str::from_utf8(directory).ok()?;
    let stem = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix))?;
    (!stem.is_empty() && name.len() < NAME_MAX && directory.iter().all(is_allowed)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(path: &str) -> Option<(String, Option<u32>)> {
        Unit::from_cgroup(format!("0::{path}\n").as_bytes()).map(|unit| (unit.name, unit.user))
    }

    fn named(name: &str, user: Option<u32>) -> Option<(String, Option<u32>)> {
        Some((name.to_owned(), user))
    }

    #[test]
    fn a_unit_is_the_one_that_its_manager_made() {
        assert_eq!(
            unit("/system.slice/system-database.slice/database@15-main.service"),
            named("database@15-main.service", None)
        );
        assert_eq!(
            unit("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service"),
            named("web.service", Some(1000))
        );
        assert_eq!(unit("/user.slice/user-1000.slice/session-3.scope"), named("session-3.scope", None));
        assert_eq!(
            unit("/user.slice/user-1000.slice/user@1000.service"),
            named("user@1000.service", Some(1000))
        );
        assert_eq!(unit("/init.scope"), named("init.scope", None));
        assert_eq!(unit("/"), None);
        assert_eq!(unit("/system.slice"), None);
    }

    /// systemd lets a service make directories of its own where it is set to (`Delegate=`).
    #[test]
    fn a_directory_below_a_unit_is_not_a_unit() {
        assert_eq!(unit("/system.slice/build.service/sshd.service"), named("build.service", None));
        assert_eq!(unit("/system.slice/docker-0123.scope/sshd.service"), named("docker-0123.scope", None));
        assert_eq!(
            unit("/user.slice/user-7.slice/user@7.service/app.slice/web.service/sshd.service"),
            named("web.service", Some(7))
        );
    }

    #[test]
    fn the_hierarchy_of_systemd_comes_first() {
        let contents = b"2:cpu:/other.service\n1:name=systemd:/system.slice/sshd.service\n0::/\n";
        assert_eq!(Unit::from_cgroup(contents).map(|unit| unit.name), Some("sshd.service".to_owned()));
    }

    #[test]
    fn a_name_that_systemd_does_not_allow_is_none() {
        for path in ["/system.slice/a b.service", "/system.slice/a;b.service", "/.service", "/../x.service"] {
            assert_eq!(unit(path), None, "{path}");
        }
        // A name there is the choice of user 7.
        assert_eq!(unit("/user@7.service/user@0.service/x.service"), named("user@0.service", Some(7)));
    }
}
