//! Whether two processes are instances of one service: the same program, run in the same place.

use super::container::Container;
use super::process::Process;
use super::program;
use super::text::Text;
use super::unit::Unit;

/// The user id of root.
const ROOT: u32 = 0;

/// Whether two processes are of one service: the same program in the same unit or container; elsewhere, started by the same
/// user.
///
/// A process that passes connections on is known by what it forwards: all of a runtime's proxies run in the runtime's own
/// unit. It is of one service with itself alone.
pub fn is_same(one: &Process, other: &Process) -> bool {
    if is_one_process(one, other) {
        return true;
    }
    let is_forwarder = program_of(one).is_some_and(program::is_forwarder);
    !is_forwarder && is_same_program(one, other) && is_same_place(one, other)
}

/// Whether both are one process that has not executed another program in between, as far as that is known.
fn is_one_process(one: &Process, other: &Process) -> bool {
    let is_same_file = match (&one.exe, &other.exe) {
        (Some(one), Some(other)) => one.file_name() == other.file_name(),
        _ => true,
    };
    one.is_same(other) && is_same_file
}

/// Whether two processes are of two services. Of two processes that were both read, one in a unit and one outside of any
/// are.
pub fn is_another(one: &Process, other: &Process) -> bool {
    let is_in_unit = |process: &Process| process.unit.as_ref().is_some_and(Unit::is_service);
    let are_read = one.is_read() && other.is_read();
    let is_beside_unit = are_read && is_in_unit(one) != is_in_unit(other);
    !is_one_process(one, other) && (is_beside_unit || !is_same(one, other))
}

/// Whether two processes run the same program: by file names, not by paths, which an update changes.
pub fn is_same_program(one: &Process, other: &Process) -> bool {
    let is_read = one.exe.is_some() && other.exe.is_some();
    // One that ended before it was read has its name alone.
    let has_same_name = !is_read && one.comm.is_some() && one.comm == other.comm;
    let has_same_program = program_of(one).is_some() && program_of(one) == program_of(other);
    if !has_same_program && !has_same_name {
        return false;
    }
    match (&one.script, &other.script) {
        (Some(one), Some(other)) => one == other,
        // A program that stands in the arguments themselves, as behind `-c`.
        (None, None) if is_interpreter(one) && one.arguments.is_some() && other.arguments.is_some() => {
            one.arguments == other.arguments || is_one_unit(one, other)
        }
        // A process may have written over its arguments: then its name is what is left.
        _ => {
            one.script == other.script && !is_interpreter(one)
                || one.comm == other.comm
                || is_one_unit(one, other)
        }
    }
}

/// Whether of two processes of one interpreter nothing but the name shows that they run the same: neither has a script, and
/// the arguments of one are not known.
pub fn is_by_name_only(one: &Process, other: &Process) -> bool {
    let has_script = one.script.is_some() || other.script.is_some();
    is_interpreter(one) && !has_script && (one.arguments.is_none() || other.arguments.is_none())
}

/// The file name of the executable; where it is not known, the name of the process.
pub fn program_of(process: &Process) -> Option<&[u8]> {
    let exe = process.exe.as_ref().map(Text::file_name);
    exe.or_else(|| process.comm.as_ref().map(Text::as_bytes)).filter(|name| !name.is_empty())
}

fn is_interpreter(process: &Process) -> bool {
    program_of(process).is_some_and(program::is_interpreter)
}

/// Whether both are in one unit that is made for one program.
fn is_one_unit(one: &Process, other: &Process) -> bool {
    one.unit.as_ref().is_some_and(|unit| unit.is_service() && Some(unit) == other.unit.as_ref())
}

fn is_same_place(one: &Process, other: &Process) -> bool {
    match (&one.container, &other.container) {
        // Any user makes directories with the names of containers below the own manager's.
        (Some(container), Some(of_other)) => {
            return is_same_container(container, of_other) && is_started_by_same_user(one, other);
        }
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => return false,
    }
    match (&one.unit, &other.unit) {
        (Some(one), Some(other)) if one.is_service() || other.is_service() => one == other,
        // A session holds programs that have nothing to do with each other.
        _ => is_started_by_same_user(one, other),
    }
}

/// A restarted container has another id: its pod, or its name, stays.
fn is_same_container(one: &Container, other: &Container) -> bool {
    let is_same_name = one.name.is_some() && one.name == other.name;
    let is_same_pod = one.pod_uid.is_some() && one.pod_uid == other.pod_uid;
    one.runtime == other.runtime && (one.id == other.id || is_same_name || is_same_pod)
}

/// Whether the same user started both: a server that root starts may give up root, so that a user at an exec is compared with
/// one at an exec. Only where that was not seen of one, both are compared as they were read.
pub fn is_started_by_same_user(one: &Process, other: &Process) -> bool {
    match (user_at_exec(one), user_at_exec(other)) {
        (Some(one), Some(other)) => one == other,
        _ => is_same_user(one, other),
    }
}

/// A process that is root's now can do what one does that was root's at its exec.
fn user_at_exec(process: &Process) -> Option<u32> {
    process.uid_at_exec.or(process.uid.filter(|uid| *uid == ROOT))
}

/// Whether both are the same user's, as far as that is known.
pub fn is_same_user(one: &Process, other: &Process) -> bool {
    one.uid.is_some() && one.uid == other.uid
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::process::Arguments;

    fn process(pid: u32, exe: &str, uid: u32) -> Process {
        Process { pid: Some(pid), exe: Some(exe.into()), uid: Some(uid), ..Process::default() }
    }

    fn in_unit(unit: &str, process: Process) -> Process {
        Process { unit: Some(Unit { name: unit.to_owned(), user: None }), ..process }
    }

    fn runs(script: &str, process: Process) -> Process {
        Process { script: Some(script.into()), ..process }
    }

    #[test]
    fn a_service_is_a_program_and_a_place() {
        let redis = |pid, uid| process(pid, "/usr/bin/redis-server", uid);
        assert!(is_same(&redis(1, 1000), &redis(2, 1000)));
        assert!(!is_same(&redis(1, 1000), &redis(2, 1001)), "another user's");
        assert!(!is_same(&redis(1, 1000), &process(2, "/usr/bin/nginx", 1000)), "another program");
        let unit = |name| in_unit(name, redis(1, 0));
        assert!(is_same(&unit("redis.service"), &in_unit("redis.service", redis(2, 104))), "it gave up root");
        assert!(!is_same(&unit("redis.service"), &unit("redis@2.service")));
        assert!(
            is_same(&unit("session-3.scope"), &unit("session-4.scope")),
            "started again from another shell"
        );
        assert!(is_same(&redis(1, 0), &process(2, "/snap/redis/7/redis-server", 0)), "an update");
    }

    #[test]
    fn a_service_that_gives_up_root_is_known_by_its_user_at_exec() {
        let redis = |pid, at_exec, uid| Process { uid_at_exec: at_exec, ..process(pid, "redis-server", uid) };
        assert!(is_same(&redis(1, Some(0), 104), &redis(2, Some(0), 0)), "it has not given up root yet");
        assert!(
            is_same(&redis(1, Some(0), 104), &redis(2, None, 0)),
            "a process of root, whoever started it"
        );
        assert!(is_same(&redis(1, None, 104), &redis(2, Some(0), 104)), "as both were read");
        for other in [redis(2, Some(104), 104), redis(2, Some(1000), 1000), redis(2, Some(1000), 104)] {
            assert!(!is_same(&redis(1, Some(0), 104), &other), "{other:?}");
            assert!(!is_same(&redis(1, Some(0), 0), &other), "{other:?}");
        }
        assert!(!is_same(&redis(1, Some(0), 0), &redis(2, None, 104)), "who started it is not known");
    }

    #[test]
    fn a_program_beside_a_unit_is_another_service() {
        let redis = |pid| process(pid, "/usr/bin/redis-server", 0);
        let unit = in_unit("redis.service", redis(1));
        assert!(is_another(&unit, &redis(2)) && is_another(&redis(2), &unit));
        assert!(is_another(&unit, &in_unit("session-3.scope", redis(2))));
        assert!(!is_another(&unit, &in_unit("redis.service", redis(2))) && !is_another(&redis(1), &redis(2)));
        let unread = Process { exe: None, comm: Some("redis-server".into()), ..redis(2) };
        assert!(!is_another(&unit, &unread), "its unit is not known");
        let started = Process { exe: Some("redis-server".into()), ..redis(2) };
        assert!(!is_another(&unit, &started), "only its start was recorded");
    }

    #[test]
    fn a_container_is_the_same_only_of_the_same_user() {
        let of = |uid_at_exec, uid| {
            let container = Container { id: "0".repeat(64), runtime: None, name: None, pod_uid: None };
            Process { uid_at_exec, container: Some(container), ..process(1, "/usr/bin/redis-server", uid) }
        };
        let other = |uid_at_exec, uid| Process { pid: Some(2), ..of(uid_at_exec, uid) };
        assert!(is_same(&of(Some(0), 999), &other(Some(0), 0)), "it has not given up root yet");
        assert!(is_same(&of(Some(100_999), 100_999), &other(Some(100_999), 100_999)));
        assert!(
            !is_same(&of(Some(0), 0), &other(Some(1000), 1000)),
            "a cgroup with that name in the user's own"
        );
    }

    /// What stands behind `-c` is in the arguments, and nowhere else.
    #[test]
    fn programs_that_stand_in_the_arguments_are_distinguished_by_them() {
        let python = |pid, text: &str| {
            let arguments = Some(Arguments::of(&[b"python3", b"-c", text.as_bytes()]));
            Process { arguments, comm: Some("python3".into()), ..process(pid, "/usr/bin/python3.11", 1000) }
        };
        assert!(is_same(&python(1, "serve()"), &python(2, "serve()")));
        assert!(!is_same(&python(1, "serve()"), &python(2, "work()")));
        let in_unit = |process| in_unit("web.service", process);
        assert!(is_same(&in_unit(python(1, "serve()")), &in_unit(python(2, "work()"))));
        let titled = Process { arguments: None, ..python(2, "") };
        assert!(is_same(&python(1, "serve()"), &titled) && is_by_name_only(&python(1, "serve()"), &titled));
        let script = |pid| runs("serve.py", python(pid, ""));
        assert!(!is_by_name_only(&script(1), &script(2)));
    }

    #[test]
    fn two_scripts_of_one_interpreter_are_two_programs() {
        let node = |pid, script| runs(script, process(pid, "/usr/bin/node", 1000));
        assert!(is_same(&node(1, "index.js"), &node(2, "index.js")));
        assert!(!is_same(&node(1, "index.js"), &node(2, "worker.js")));
        // One unit with two apps.
        assert!(!is_same(
            &in_unit("apps.service", node(1, "a.js")),
            &in_unit("apps.service", node(2, "b.js"))
        ));
        let titled = Process { comm: Some("gateway".into()), ..process(3, "/usr/bin/node", 1000) };
        let other = Process { comm: Some("node".into()), ..node(4, "index.js") };
        assert!(!is_same(&titled, &other), "nothing shows that it is the same script");
        assert!(is_same(&in_unit("web.service", titled), &in_unit("web.service", other)));
    }

    #[test]
    fn a_proxy_is_not_another_proxy() {
        let proxy = |pid| in_unit("docker.service", process(pid, "/usr/sbin/docker-proxy", 0));
        assert!(!is_same(&proxy(1), &proxy(2)));
    }
}
