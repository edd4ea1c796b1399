//! What the owner of a socket is: which program or product, by its name, its program and its arguments.
//!
//! Names, paths and arguments are the process's own choice: they choose the words of a hint, never a cause.

use crate::model::process::{Process, Text};
use crate::model::program;
use crate::products::{ProductRef, registry};

/// A program that hints have words for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A server product.
    Product(ProductRef),
    DockerProxy,
    Podman,
    Tailscaled,
    Ssh,
    Sshd,
    Kubectl,
    Systemd,
    Socat,
    Netcat,
    Unknown,
}

/// A kind of owner, and how it is recognised.
pub struct Recognised {
    pub kind: Kind,
    pub name: &'static str,
    /// How, in words.
    pub by: &'static str,
    is_it: fn(&Process) -> bool,
}

/// Programs that serve or forward ports for others, and belong to no product: the first that fits.
const KINDS: [Recognised; 10] = [
    Recognised {
        kind: Kind::DockerProxy,
        name: "docker-proxy",
        by: "the name or the program `docker-proxy`",
        is_it: |one| goes_by(one, "docker-proxy"),
    },
    Recognised {
        kind: Kind::Podman,
        name: "podman",
        by: "the name or the program `conmon`, which holds a published port, or `rootlessport`, which forwards it",
        is_it: |one| goes_by(one, "conmon") || goes_by(one, "rootlessport"),
    },
    Recognised {
        kind: Kind::Tailscaled,
        name: "tailscaled",
        by: "the name or the program `tailscaled`",
        is_it: |one| goes_by(one, "tailscaled"),
    },
    Recognised {
        kind: Kind::Ssh,
        name: "ssh -L",
        by: "the name or the program `ssh`",
        is_it: |one| goes_by(one, "ssh"),
    },
    Recognised {
        kind: Kind::Sshd,
        name: "ssh -R",
        by: "the name or the program `sshd-session`; or `sshd` with the title of a session, such as `sshd: ann@pts/0`",
        is_it: |one| goes_by(one, "sshd-session") || goes_by(one, "sshd") && is_session(one),
    },
    Recognised {
        kind: Kind::Kubectl,
        name: "kubectl",
        by: "the name or the program `kubectl`",
        is_it: |one| goes_by(one, "kubectl"),
    },
    Recognised {
        kind: Kind::Systemd,
        name: "systemd socket",
        by: "the name or the program `systemd`, whatever its process id: a user's own has another than 1",
        is_it: |one| goes_by(one, "systemd"),
    },
    Recognised {
        kind: Kind::Socat,
        name: "socat",
        by: "the name or the program `socat`",
        is_it: |one| goes_by(one, "socat") || goes_by(one, "socat1"),
    },
    Recognised {
        kind: Kind::Netcat,
        name: "nc -l",
        by: "the name or the program `nc`, `nc.openbsd` or `ncat`",
        is_it: |one| goes_by(one, "nc") || goes_by(one, "nc.openbsd") || goes_by(one, "ncat"),
    },
    Recognised { kind: Kind::Unknown, name: "unknown", by: "none of these", is_it: |_| true },
];

/// Whether the name of a process, or the file name of its program, is this one.
fn goes_by(process: &Process, name: &str) -> bool {
    let Process { comm, exe, .. } = process;
    let program = exe.as_ref().map(Text::file_name);
    comm.as_ref().map(Text::as_bytes) == Some(name.as_bytes()) || program == Some(name.as_bytes())
}

/// Whether a process is one of a session: the server itself forwards nothing.
fn is_session(process: &Process) -> bool {
    process.script.as_ref().is_some_and(|script| script.as_bytes() == program::SESSION)
}

/// What a process is. `product` is what its name and its arguments make it, where they were read.
pub fn recognise(process: &Process, product: Option<ProductRef>) -> Kind {
    let by_name = || {
        registry()
            .iter()
            .copied()
            .find(|product| product.owner_names().iter().any(|name| goes_by(process, name)))
    };
    match product.or_else(by_name) {
        Some(product) => Kind::Product(product),
        None => KINDS.iter().find(|known| (known.is_it)(process)).map_or(Kind::Unknown, |known| known.kind),
    }
}

/// Every kind of owner by its name, and how it is recognised, in words.
pub fn kinds() -> impl Iterator<Item = (&'static str, &'static str)> {
    let products = registry().iter().map(|product| (Kind::Product(*product).name(), product.recognised_by()));
    products.chain(KINDS.iter().map(|known| (known.name, known.by)))
}

impl Kind {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Product(product) => product.name(),
            _ => KINDS.iter().find(|known| known.kind == self).map_or("unknown", |known| known.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(comm: &str, exe: Option<&str>) -> &'static str {
        let process = Process { comm: Some(comm.into()), exe: exe.map(Text::from), ..Process::default() };
        recognise(&process, None).name()
    }

    #[test]
    fn an_owner_is_known_by_its_name_or_its_program() {
        for (comm, exe, expected) in [
            ("docker-proxy", Some("/usr/bin/docker-proxy"), "docker-proxy"),
            ("tailscaled", Some("/usr/sbin/tailscaled"), "tailscaled"),
            ("ssh", None, "ssh -L"),
            ("sshd", Some("/usr/sbin/sshd"), "unknown"),
            ("sshd-session", None, "ssh -R"),
            ("kubectl", Some("/usr/local/bin/kubectl"), "kubectl"),
            ("systemd", Some("/usr/lib/systemd/systemd"), "systemd socket"),
            ("init", Some("/usr/lib/systemd/systemd"), "systemd socket"),
            ("socat", Some("/usr/bin/socat1"), "socat"),
            ("nc", Some("/usr/bin/nc.openbsd"), "nc -l"),
            ("node", Some("/usr/bin/node"), "unknown"),
            ("my-ssh", Some("/opt/ssh/server"), "unknown"),
        ] {
            assert_eq!(kind(comm, exe), expected, "{comm} {exe:?}");
        }
        for product in registry() {
            for name in product.owner_names() {
                assert_eq!(kind(name, Some("/usr/bin/env")), product.name());
                assert_eq!(kind("MainThread", Some(&format!("/opt/{name}"))), product.name());
            }
        }
    }

    #[test]
    fn a_product_is_known_by_its_arguments() {
        let process = Process { comm: Some("MainThread".into()), ..Process::default() };
        let product = registry()[0];
        assert_eq!(recognise(&process, Some(product)), Kind::Product(product));
        assert_eq!(recognise(&process, None), Kind::Unknown);
    }
}
