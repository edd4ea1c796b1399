//! Which processes are a PostgreSQL server: the first process, which owns the sockets, and none of its children.

use super::config::Arguments;

/// The program of the server, and the name of its process.
const NAME: &[u8] = b"postgres";

/// Children replace their arguments by a title that begins with this (src/backend/utils/misc/ps_status.c).
const TITLE: &[u8] = b"postgres: ";

/// First arguments that make the program something else than a server (src/backend/main/main.c).
const OTHER_MODES: [&[u8]; 9] = [
    b"--single",
    b"--boot",
    b"--check",
    b"--describe-config",
    b"--help",
    b"-?",
    b"--version",
    b"-V",
    b"--forkchild",
];

/// The programs that run it.
pub const RUNNERS: [&str; 1] = ["postgres"];

/// Names of its processes.
pub const OWNER_NAMES: [&str; 1] = ["postgres"];

pub const BY: &str =
    "the name or the program `postgres`; not `postgres: ...`, which is a child, nor `--single` and `-C`";

/// Whether a process is the server, by its name and its arguments.
pub fn is_server(name: &[u8], arguments: &[&[u8]]) -> bool {
    let (program, rest) = arguments.split_first().map_or((&b""[..], &[][..]), |(first, rest)| (*first, rest));
    let file_name = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let is_other_mode = rest.first().is_some_and(|first| OTHER_MODES.contains(first));
    let prints_a_setting = || Arguments::new(arguments).any(|option| option.letter == b'C');
    (name == NAME || file_name == NAME)
        && !program.starts_with(TITLE)
        && !is_other_mode
        && !prints_a_setting()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recognised(name: &str, arguments: &[&str]) -> bool {
        let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
        is_server(name.as_bytes(), &arguments)
    }

    #[test]
    fn the_first_process_is_the_server() {
        let program = "/usr/lib/postgresql/15/bin/postgres";
        assert!(recognised("postgres", &[program, "-D", "/var/lib/postgresql/15/main", "-c", "port=5433"]));
        assert!(recognised("postgres", &["postgres"]), "with PGDATA");
        assert!(recognised("postgres", &[]), "arguments cannot be read");
        assert!(recognised("db", &["/usr/bin/postgres", "-D", "/data"]));
    }

    #[test]
    fn its_children_and_its_tools_are_not() {
        for title in ["postgres: checkpointer ", "postgres: 15/main: app app 10.0.0.1(40212) idle"] {
            assert!(!recognised("postgres", &[title]), "{title}");
        }
        for arguments in [
            &["postgres", "--single", "-D", "/data"][..],
            &["postgres", "--boot", "-X", "16777216"],
            &["postgres", "--version"],
            &["postgres", "-V"],
            &["postgres", "-D", "/data", "-C", "port"],
            &["postgres", "-Cport", "-D/data"],
        ] {
            assert!(!recognised("postgres", arguments), "{arguments:?}");
        }
        assert!(!recognised("psql", &["psql", "-h", "127.0.0.1", "-U", "postgres"]));
        assert!(!recognised("docker-entrypoi", &["bash", "/usr/local/bin/docker-entrypoint.sh", "postgres"]));
        assert!(!recognised("pg_ctl", &["pg_ctl", "start", "-D", "/data"]));
    }
}
