//! The vocabulary: processes, addresses, counts, times and signals as people write them.

use super::schema;
use crate::model::escape::{escape, quoted};
use crate::model::process::{Process, Text};
use crate::model::program;
use crate::model::unit::Unit;

/// Items named in one sentence before the rest is counted.
const NAMED_MAX: usize = 4;

/// The process as people know it: `name[pid]`, its name in quotation marks where it is not a plain one.
pub fn who(process: &Process) -> String {
    // Node.js gives that name to its first thread while it starts: it says nothing of the process.
    let is_thread = process.comm.as_ref().is_some_and(|comm| comm.as_bytes() == b"MainThread");
    let file_name = process.exe.as_ref().map(Text::file_name);
    let file_name = file_name.filter(|name| is_thread && program::is_interpreter(name));
    let comm = process.comm.as_ref().map(Text::as_bytes);
    let comm = file_name.or(comm).map(escape);
    name(process.pid, comm.as_deref(), process.uid)
}

/// The same of a process as a line has it.
pub fn who_in_line(process: &schema::Process) -> String {
    name(process.pid, process.comm.as_deref(), process.uid)
}

fn name(pid: Option<u32>, comm: Option<&str>, uid: Option<u32>) -> String {
    match (pid, comm, uid) {
        (Some(pid), Some(comm), _) => format!("{}[{pid}]", quoted(comm)),
        (Some(pid), None, _) => format!("process {pid}"),
        (None, _, Some(uid)) => format!("a process of uid {uid}"),
        (None, _, None) => "a process not known".to_owned(),
    }
}

/// The unit of a process, where its name can stand in a command.
pub fn unit_of(process: &Process) -> Option<&Unit> {
    process.unit.as_ref().filter(|unit| unit.is_service() && !unit.name.starts_with('-'))
}

/// A service by its unit; outside of one, by its process. A unit's name has only the characters that systemd allows.
pub fn service_name(process: &Process) -> String {
    match unit_of(process) {
        Some(Unit { name, user: None }) => name.clone(),
        Some(Unit { name, user: Some(uid) }) => format!("{name} of uid {uid}'s own systemd"),
        None => who(process),
    }
}

/// An address of a line as it stands in a URL. The name of its interface may be any user's choice.
pub fn in_brackets(addr: &str) -> String {
    match addr.split_once('%') {
        Some((addr, interface)) => format!("[{addr}%{}]", quoted(interface)),
        None if addr.contains(':') => format!("[{addr}]"),
        None => addr.to_owned(),
    }
}

/// `1 listener`, `2 listeners`, `2 processes`.
pub fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("{count} {what}"),
        _ if what.ends_with('s') => format!("{count} {what}es"),
        _ => format!("{count} {what}s"),
    }
}

/// A length of time in words.
pub fn ago(nanoseconds: u64) -> String {
    let seconds = nanoseconds as f64 / 1e9;
    match seconds {
        _ if seconds < 0.0995 => format!("{:.1} ms", seconds * 1e3),
        _ if seconds < 120.0 => format!("{seconds:.1} s"),
        _ if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        _ if seconds < 172_800.0 => format!("{:.0} h", seconds / 3600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}

/// `a`, `a and b`, `a, b and c`, and a count of what is too much to name.
pub fn enumerate(items: &[String]) -> String {
    let named = &items[..items.len().min(NAMED_MAX)];
    match (named, items.len() - named.len()) {
        ([], _) => String::new(),
        ([one], 0) => one.clone(),
        ([first @ .., last], 0) => format!("{} and {last}", first.join(", ")),
        (named, rest) => format!("{} and {rest} more", named.join(", ")),
    }
}

/// `SIGKILL` and so on; `signal N` for the rest.
pub fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        31 => "SIGSYS",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let items = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(enumerate(&items(0)), "");
        assert_eq!(enumerate(&items(1)), "0");
        assert_eq!(enumerate(&items(2)), "0 and 1");
        assert_eq!(enumerate(&items(4)), "0, 1, 2 and 3");
        assert_eq!(enumerate(&items(9)), "0, 1, 2, 3 and 5 more");
    }
}
