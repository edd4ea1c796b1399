//! Which processes a client can take for its server: those of root, of the system's own units, and of its own user.

use super::process::Process;
use super::service::is_same_user;
use super::unit::Unit;

/// Services that run what any user asks them to: their names without an instance, `getty@tty1.service` is one of `getty`.
const RUN_FOR_USERS: [&str; 28] = [
    "anacron",
    "at",
    "atd",
    "autovt",
    "cockpit",
    "console-getty",
    "container-getty",
    "cron",
    "crond",
    "cronie",
    "dovecot",
    "dropbear",
    "exim4",
    "fcron",
    "gdm",
    "getty",
    "jupyterhub",
    "lightdm",
    "postfix",
    "sddm",
    "sendmail",
    "serial-getty",
    "slurmd",
    "ssh",
    "sshd",
    "ttyd",
    "xrdp",
    "xrdp-sesman",
];

/// Whether a service runs what any user asks it to.
fn runs_for_users(service: &str) -> bool {
    let name = service.strip_suffix(".service").unwrap_or(service);
    let name = name.split_once('@').map_or(name, |(template, _)| template);
    RUN_FOR_USERS.contains(&name)
}

/// Whether only root can have started a process: it is root's, or in a unit of the system that is made for it.
///
/// Any other user can open a socket on a port in the name of a server. A container proves nothing: a user makes directories
/// with the names of containers below the own manager's.
pub fn is_of_system(process: &Process) -> bool {
    let is_made_for_it = |unit: &Unit| unit.is_of_system() && !runs_for_users(&unit.name);
    process.uid == Some(0) || process.unit.as_ref().is_some_and(is_made_for_it)
}

/// Whether a client can take a process for its server by what that does on a port alone: any user can take a port, or try
/// to, so that a refused client can only have expected root's server or its own user's. A process whose user is not known
/// can be any user's.
pub fn is_known_to(client: &Process, process: &Process) -> bool {
    is_of_system(process) || is_same_user(client, process)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, exe: &str, uid: u32) -> Process {
        Process { pid: Some(pid), exe: Some(exe.into()), uid: Some(uid), ..Process::default() }
    }

    fn in_unit(unit: &str, process: Process) -> Process {
        Process { unit: Some(Unit { name: unit.to_owned(), user: None }), ..process }
    }

    #[test]
    fn a_process_of_an_unknown_user_is_known_to_no_client() {
        let client = |uid| Process { uid, ..process(1, "/usr/bin/curl", 0) };
        let unknown = Process { uid: None, ..process(2, "/usr/bin/nginx", 0) };
        assert!(!is_known_to(&client(Some(1000)), &unknown) && !is_known_to(&client(None), &unknown));
        assert!(is_known_to(&client(None), &process(2, "/usr/bin/nginx", 0)), "root's");
        for (unit, is_known) in [
            ("nginx.service", true),
            ("web@main.service", true),
            ("getty@tty1.service", false),
            ("ssh@0-10.0.0.1:22-10.0.0.9:51000.service", false),
            ("cronie.service", false),
            ("postfix@-.service", false),
        ] {
            assert_eq!(is_known_to(&client(None), &in_unit(unit, unknown.clone())), is_known, "{unit}");
        }
    }
}
