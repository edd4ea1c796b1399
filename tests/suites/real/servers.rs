//! How each server is started, in the foreground, with its files in the scenario's directory.

use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use tests::needs::{POSTGRESQL, user};
use tests::netns::run;

use super::software::{GUNICORN, HSQLDB, NETCAT, NODE, UVICORN, VITE};
use super::stage::{Launch, Stage};

/// Python's own web server.
pub fn python(stage: &Stage, addr: &str, port: u16) -> Launch {
    let directory = stage.directory("www");
    Launch::new(["/usr/bin/python3", "-m", "http.server", &port.to_string(), "--bind", addr])
        .with(&["--directory", &directory])
}

/// A script of the scenario's own, run by Node.js.
pub fn node(stage: &Stage, script: &str, text: &str) -> Launch {
    Launch::new([NODE.to_owned(), stage.file(script, text)])
}

/// Redis without persistence.
pub fn redis(port: u16, bind: &str) -> Launch {
    let port = port.to_string();
    Launch::new(["/usr/bin/redis-server", "--port", &port, "--protected-mode", "no", "--save", "", "--bind"])
        .with(&bind.split(' ').collect::<Vec<_>>())
}

/// nginx with these lines in its `http` block.
pub fn nginx(stage: &Stage, http: &str) -> Launch {
    nginx_with(stage, "daemon off;", http)
}

/// nginx as a daemon, which can be upgraded; its process id is in `nginx/nginx.pid`.
pub fn nginx_daemon(stage: &Stage, http: &str) -> Launch {
    nginx_with(stage, "daemon on;", http)
}

fn nginx_with(stage: &Stage, daemon: &str, http: &str) -> Launch {
    let directory = stage.directory("nginx");
    let configuration = stage.file(
        "nginx.conf",
        &format!(
            "user root;
            {daemon}
            worker_processes 1;
            pid {directory}/nginx.pid;
            error_log stderr notice;
            events {{}}
            http {{
                access_log off;
                client_body_temp_path {directory}/body;
                proxy_temp_path {directory}/proxy;
                fastcgi_temp_path {directory}/fastcgi;
                uwsgi_temp_path {directory}/uwsgi;
                scgi_temp_path {directory}/scgi;
                {http}
            }}
            "
        ),
    );
    // It ends its workers with it.
    Launch::new(["/usr/sbin/nginx", "-c", &configuration, "-e", "stderr"]).stopped_by(Signal::TERM)
}

/// nginx that answers on these addresses.
pub fn nginx_at(stage: &Stage, addresses: &[&str]) -> Launch {
    let listen: String = addresses.iter().map(|addr| format!("listen {addr};")).collect();
    nginx(stage, &format!("server {{ {listen} location / {{ return 200 ok; }} }}"))
}

/// lighttpd with these lines in its configuration.
pub fn lighttpd(stage: &Stage, configuration: &str) -> Launch {
    let directory = stage.directory("www");
    let lines = format!("server.document-root = \"{directory}\"\n{configuration}\n");
    Launch::new(["/usr/sbin/lighttpd", "-D", "-f", &stage.file("lighttpd.conf", &lines)])
}

pub fn haproxy(stage: &Stage, sections: &str) -> Launch {
    let configuration = stage.file(
        "haproxy.cfg",
        &format!(
            "defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    retries 0
{sections}
"
        ),
    );
    Launch::new(["/usr/sbin/haproxy", "-db", "-f", &configuration])
}

/// PHP-FPM that listens on a path or an address.
pub fn php_fpm(stage: &Stage, listen: &str) -> Launch {
    php_fpm_at(stage, &[listen])
}

/// The same with a pool for each.
pub fn php_fpm_at(stage: &Stage, listen: &[&str]) -> Launch {
    let pool = |(number, listen): (usize, &&str)| {
        format!(
            "[www{number}]
user = nobody
group = nogroup
listen = {listen}
pm = static
pm.max_children = 2
"
        )
    };
    let pools: String = listen.iter().enumerate().map(pool).collect();
    let configuration = stage
        .file("php-fpm.conf", &format!("[global]\ndaemonize = no\nerror_log = /proc/self/fd/2\n{pools}"));
    Launch::new(["/usr/sbin/php-fpm8.2", "-y", &configuration, "-c", "/dev/null"]).stopped_by(Signal::TERM)
}

/// MariaDB on an empty directory.
pub fn mariadb(stage: &Stage, arguments: &[&str]) -> Launch {
    let data = stage.directory("mariadb");
    let socket = stage.path("mariadb.sock");
    Launch::new(["/usr/sbin/mariadbd", "--no-defaults", "--user=root", "--skip-grant-tables"])
        .with(&["--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M", "--skip-log-bin"])
        .with(&[&format!("--datadir={data}"), &format!("--socket={socket}"), "--pid-file=pid"])
        .with(arguments)
}

/// MariaDB, started by root, as the user that it gives up root for.
pub fn mariadb_of(stage: &Stage, user: &str, arguments: &[&str]) -> Launch {
    mariadb(stage, &[&format!("--user={user}")]).with(arguments)
}

/// Mosquitto with these lines in its configuration. It gives up root for its own user.
pub fn mosquitto(stage: &Stage, configuration: &str) -> Launch {
    let lines = format!("user mosquitto\nallow_anonymous true\n{configuration}\n");
    Launch::new(["/usr/sbin/mosquitto", "-c", &stage.file("mosquitto.conf", &lines)])
}

/// memcached without UDP.
pub fn memcached(addr: &str, port: u16) -> Launch {
    Launch::new([
        "/usr/bin/memcached",
        "-u",
        "nobody",
        "-m",
        "8",
        "-U",
        "0",
        "-l",
        addr,
        "-p",
        &port.to_string(),
    ])
}

/// netcat that listens.
pub fn netcat(addr: &str, port: u16) -> Launch {
    Launch::new([NETCAT, "-l", addr, &port.to_string()])
}

/// A web application for gunicorn and Uvicorn, in a directory of its own.
pub fn application(stage: &Stage, text: &str) -> String {
    let directory = stage.directory("application");
    stage.file("application/app.py", text);
    directory
}

/// A WSGI application that answers.
pub const WSGI: &str = "
def app(environ, start_response):
    start_response('200 OK', [('Content-Length', '2')])
    return [b'ok']
";

/// An ASGI application that answers.
pub const ASGI: &str = "
async def app(scope, receive, send):
    if scope['type'] == 'http':
        await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'2')]})
        await send({'type': 'http.response.body', 'body': b'ok'})
";

pub fn gunicorn(stage: &Stage, bind: &str, application: &str) -> Launch {
    let directory = self::application(stage, application);
    Launch::new([GUNICORN, "--chdir", &directory, "--no-control-socket", "--bind", bind, "app:app"])
        .variable("PYTHONDONTWRITEBYTECODE", "1")
        .stopped_by(Signal::TERM)
}

/// gunicorn that reads from a file which addresses to bind: a reload reads it again.
pub fn gunicorn_at(stage: &Stage, addresses: &[&str]) -> Launch {
    let directory = self::application(stage, WSGI);
    let configuration = stage.file("gunicorn.conf.py", &format!("bind = {addresses:?}\nreuse_port = True\n"));
    Launch::new([
        GUNICORN,
        "--chdir",
        &directory,
        "--no-control-socket",
        "--config",
        &configuration,
        "app:app",
    ])
    .variable("PYTHONDONTWRITEBYTECODE", "1")
    .stopped_by(Signal::TERM)
}

pub fn uvicorn(stage: &Stage, addr: &str, port: u16, application: &str) -> Launch {
    let directory = self::application(stage, application);
    Launch::new([UVICORN, "--app-dir", &directory, "--host", addr, "--port", &port.to_string(), "app:app"])
        .variable("PYTHONDONTWRITEBYTECODE", "1")
}

/// Vite's development server; it takes the next port where this one is taken.
pub fn vite(stage: &Stage, project: &str, host: &str, port: u16) -> Launch {
    let root = stage.directory(project);
    stage.file(&format!("{project}/index.html"), "<title>project</title>");
    Launch::new([NODE, VITE, &root, "--host", host, "--port", &port.to_string()])
}

/// HSQLDB: a database server in Java.
pub fn hsqldb(addr: &str, port: u16) -> Launch {
    Launch::new(["/usr/bin/java", "-XX:TieredStopAtLevel=1", "-Xmx64m", "-cp", HSQLDB])
        .with(&["org.hsqldb.server.Server", "--address", addr, "--port", &port.to_string()])
        .with(&["--database.0", "mem:test", "--dbname.0", "test"])
}

/// docker-proxy as the Docker daemon starts it: descriptor 3 takes the answer that it is up.
pub fn docker_proxy(from: (&str, u16), to: (&str, u16)) -> Launch {
    const WITH_DESCRIPTOR: &str = "exec 3>/dev/null; exec \"$0\" \"$@\"";
    let (host_port, container_port) = (from.1.to_string(), to.1.to_string());
    Launch::new(["/bin/sh", "-c", WITH_DESCRIPTOR, "/usr/sbin/docker-proxy", "-proto", "tcp"])
        .with(&["-host-ip", from.0, "-host-port", &host_port])
        .with(&["-container-ip", to.0, "-container-port", &container_port])
}

pub fn socat(from: &str, to: &str) -> Launch {
    Launch::new(["/usr/bin/socat", from, to])
}

/// sshd with these lines in its configuration, and a directory for its privilege separation.
pub fn sshd(stage: &Stage, configuration: &str) -> Launch {
    const IN_OWN_RUN: &str = "mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec \"$0\" \"$@\"";
    let key = stage.path("host-key");
    if !Path::new(&key).exists() {
        run(Command::new("/usr/bin/ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &key]), "");
    }
    let authorized = format!("{key}.pub");
    let file = stage.file(
        "sshd_config",
        &format!(
            "{configuration}
HostKey {key}
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
AuthorizedKeysFile {authorized}
"
        ),
    );
    Launch::new(["/usr/bin/unshare", "--mount", "/bin/sh", "-c", IN_OWN_RUN, "/usr/sbin/sshd", "-D", "-e"])
        .with(&["-f", &file])
}

/// A tunnel of ssh to an sshd of the same scenario.
pub fn ssh(stage: &Stage, port: u16, arguments: &[&str]) -> Launch {
    ssh_to(stage, ("127.0.0.1", port), arguments)
}

/// The same to another address.
pub fn ssh_to(stage: &Stage, (host, port): (&str, u16), arguments: &[&str]) -> Launch {
    let key = stage.path("host-key");
    Launch::new(["/usr/bin/ssh", "-N", "-F", "none", "-i", &key, "-p", &port.to_string()])
        .with(&["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
        .with(&["-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes"])
        .with(arguments)
        .with(&[&format!("root@{host}")])
}

/// A database cluster of PostgreSQL; the server's own arguments follow.
pub fn postgresql(stage: &Stage, port: u16, arguments: &[&str]) -> Launch {
    let directory = stage.directory("postgresql");
    let data = format!("{directory}/data");
    if !Path::new(&data).exists() {
        let (uid, gid) = user("postgres").expect("the user of PostgreSQL");
        chown(&directory, Some(uid), Some(gid)).expect("to give a directory away");
        let mut initdb = Command::new("/usr/bin/setpriv");
        initdb.args(AS_POSTGRES).arg(Path::new(POSTGRESQL).join("initdb")).current_dir("/");
        run(initdb.args(["--no-sync", "--auth=trust", "--pgdata", &data]), "");
    }
    Launch::new(["/usr/bin/setpriv"])
        .with(&AS_POSTGRES)
        .with(&[&format!("{POSTGRESQL}/postgres"), "-D", &data, "-k", &directory, "-p", &port.to_string()])
        .with(arguments)
        // An immediate shutdown takes its shared memory with it, which SIGKILL would leave behind.
        .stopped_by(Signal::QUIT)
}

const AS_POSTGRES: [&str; 5] = ["--reuid", "postgres", "--regid", "postgres", "--clear-groups"];

/// A container of Podman's that publishes its port 8080 at `published` of the scenario's namespace; SIGTERM removes it.
///
/// It has its own `/run`, for the namespace that it names there. Its command ends by itself, should the scenario be killed.
pub fn podman(stage: &Stage, published: &str, command: &str) -> Launch {
    const RUN: &str = r#"set -eu
mount --make-rprivate /
mount -t tmpfs none /run
mkdir -p /run/lock /run/netns
podman="podman --root $1/root --runroot $1/run --tmpdir $1/tmp --cgroup-manager cgroupfs \
    --runtime runc --events-backend none"
$podman run --detach --name one --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 \
    --publish "$2:8080" --rootfs "$1/rootfs" timeout 300 sh -c "$3"
echo published
trap '$podman rm --force --time 0 one; exit' TERM
sleep 300 & wait"#;
    let directory = stage.directory("podman");
    for inner in
        ["rootfs/bin", "rootfs/proc", "rootfs/sys", "rootfs/dev", "rootfs/etc", "rootfs/tmp", "rootfs/run"]
    {
        stage.directory(&format!("podman/{inner}"));
    }
    std::fs::copy("/usr/bin/busybox", format!("{directory}/rootfs/bin/busybox")).expect("busybox");
    for name in ["sh", "sleep", "httpd", "timeout"] {
        std::os::unix::fs::symlink("busybox", format!("{directory}/rootfs/bin/{name}")).expect("a link");
    }
    // netavark runs iptables.
    Launch::new(["/usr/bin/unshare", "--mount", "sh", "-c", RUN, "sh", &directory, published, command])
        .variable("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stopped_by(Signal::TERM)
}
