//! Whom a hint is about: who owns a socket, by what it shows of itself.
//!
//! Names, paths and arguments are claims: they choose the words of a hint, never a cause.

use crate::claims::Product;
use crate::claims::openclaw::OpenClaw;
use crate::line::Process;

/// A program that hints have words for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    OpenClaw,
    DockerProxy,
    Tailscaled,
    Ssh,
    Sshd,
    Kubectl,
    Systemd,
    Unknown,
}

/// A kind of owner, and how it is recognised.
pub struct Recognised {
    pub kind: Kind,
    pub name: &'static str,
    /// What is looked at, in words.
    pub by: &'static str,
    is_it: fn(&Evidence<'_>) -> bool,
}

/// What is looked at.
struct Evidence<'a> {
    process: &'a Process,
    /// What its name and its arguments make it.
    product: Option<&'static dyn Product>,
}

/// The first that fits.
pub const KINDS: [Recognised; 8] = [
    Recognised {
        kind: Kind::OpenClaw,
        name: "OpenClaw",
        by: "the name `openclaw-gatewa`, the arguments `openclaw gateway` or `dist/index.js gateway`",
        is_it: |one| {
            one.product == Some(&OpenClaw) || one.goes_by("openclaw") || one.goes_by("openclaw-gatewa")
        },
    },
    Recognised {
        kind: Kind::DockerProxy,
        name: "docker-proxy",
        by: "the name or the program `docker-proxy`",
        is_it: |one| one.goes_by("docker-proxy"),
    },
    Recognised {
        kind: Kind::Tailscaled,
        name: "tailscaled",
        by: "the name or the program `tailscaled`",
        is_it: |one| one.goes_by("tailscaled"),
    },
    Recognised {
        kind: Kind::Ssh,
        name: "ssh -L",
        by: "the name or the program `ssh`",
        is_it: |one| one.goes_by("ssh"),
    },
    Recognised {
        kind: Kind::Sshd,
        name: "ssh -R",
        by: "the name or the program `sshd` or `sshd-session`",
        is_it: |one| one.goes_by("sshd") || one.goes_by("sshd-session"),
    },
    Recognised {
        kind: Kind::Kubectl,
        name: "kubectl",
        by: "the name or the program `kubectl`",
        is_it: |one| one.goes_by("kubectl"),
    },
    Recognised {
        kind: Kind::Systemd,
        name: "systemd socket",
        by: "the name or the program `systemd`, whatever its process id: a user's own has another than 1",
        is_it: |one| one.goes_by("systemd"),
    },
    Recognised { kind: Kind::Unknown, name: "unknown", by: "none of these", is_it: |_| true },
];

impl Evidence<'_> {
    /// Whether its name, or the file name of its program, is this one.
    fn goes_by(&self, name: &str) -> bool {
        let Process { comm, exe, .. } = self.process;
        let program = exe.as_deref().and_then(|path| path.rsplit('/').next());
        comm.as_deref() == Some(name) || program == Some(name)
    }
}

/// What a process is.
pub fn recognise(process: &Process, product: Option<&'static dyn Product>) -> Kind {
    let evidence = Evidence { process, product };
    KINDS.iter().find(|known| (known.is_it)(&evidence)).map_or(Kind::Unknown, |known| known.kind)
}

impl Kind {
    /// As people call it.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|known| known.kind == self).map_or("unknown", |known| known.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(comm: &str, exe: Option<&str>) -> Kind {
        let process =
            Process { comm: Some(comm.to_owned()), exe: exe.map(str::to_owned), ..Process::default() };
        recognise(&process, None)
    }

    #[test]
    fn an_owner_is_known_by_its_name_or_its_program() {
        for (comm, exe, expected) in [
            ("openclaw-gatewa", Some("/usr/bin/node"), Kind::OpenClaw),
            ("docker-proxy", Some("/usr/bin/docker-proxy"), Kind::DockerProxy),
            ("tailscaled", Some("/usr/sbin/tailscaled"), Kind::Tailscaled),
            ("ssh", None, Kind::Ssh),
            ("sshd", Some("/usr/sbin/sshd"), Kind::Sshd),
            ("sshd-session", None, Kind::Sshd),
            ("kubectl", Some("/usr/local/bin/kubectl"), Kind::Kubectl),
            ("systemd", Some("/usr/lib/systemd/systemd"), Kind::Systemd),
            ("init", Some("/usr/lib/systemd/systemd"), Kind::Systemd),
            ("node", Some("/usr/bin/node"), Kind::Unknown),
            ("my-ssh", Some("/opt/ssh/server"), Kind::Unknown),
        ] {
            assert_eq!(kind(comm, exe), expected, "{comm} {exe:?}");
        }
    }

    #[test]
    fn a_product_is_known_by_what_its_arguments_say() {
        let process = Process { comm: Some("MainThread".to_owned()), ..Process::default() };
        assert_eq!(recognise(&process, Some(&OpenClaw)), Kind::OpenClaw);
        assert_eq!(recognise(&process, None), Kind::Unknown);
    }
}
