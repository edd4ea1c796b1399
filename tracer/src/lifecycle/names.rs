//! The names of programs that were servers: a process that executes one of them may be the server.

use crate::model::hash::HashSet;
use crate::model::path::without_deleted;
use crate::model::process::{Process, ProcessKey, Text};

/// Names that are remembered, so that each is handed to the kernel side once: more than it has room for.
const NAMES_MAX: usize = 4_096;

/// Servers whose executable is not known yet.
const UNDESCRIBED_MAX: usize = 1_024;

/// The names of servers' programs.
#[derive(Debug, Default)]
pub struct ServerNames {
    known: HashSet<Text>,
    /// Not handed to the kernel side yet.
    new: Vec<Text>,
    undescribed: HashSet<ProcessKey>,
}

impl ServerNames {
    /// A process holds a listener on a watched port, or failed to bind one. Its own name is that of the program too, until
    /// its executable is known: a script has its own name, and the executable that of the interpreter.
    pub fn is_server(&mut self, process: &Process) {
        self.add(process.comm.as_ref().map(Text::as_bytes));
        if !self.add_executable(process)
            && let Some(key) = process.key()
        {
            if self.undescribed.len() >= UNDESCRIBED_MAX {
                self.undescribed.clear();
            }
            self.undescribed.insert(key);
        }
    }

    /// A process was described.
    pub fn described(&mut self, process: &Process) {
        if process.key().is_some_and(|key| self.undescribed.remove(&key)) {
            self.add_executable(process);
        }
    }

    /// The names that the kernel side does not have yet.
    pub fn take(&mut self) -> Vec<Text> {
        std::mem::take(&mut self.new)
    }

    fn add_executable(&mut self, process: &Process) -> bool {
        let name = process.exe.as_ref().map(Text::file_name);
        self.add(name.map(without_deleted));
        name.is_some()
    }

    fn add(&mut self, name: Option<&[u8]>) {
        let Some(name) = name.filter(|name| !name.is_empty()).map(Text::new) else { return };
        if self.known.len() >= NAMES_MAX {
            self.known.clear();
        }
        if self.known.insert(name.clone()) {
            self.new.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::StartTime;

    fn process(comm: &str, exe: Option<&str>) -> Process {
        Process {
            pid: Some(7),
            comm: Some(comm.into()),
            exe: exe.map(Text::from),
            start: Some(StartTime::from_boottime(1)),
            ..Process::default()
        }
    }

    #[test]
    fn the_name_of_a_process_and_that_of_its_executable_are_handed_out_once() {
        let mut names = ServerNames::default();
        names.is_server(&process("gateway", None));
        assert_eq!(names.take(), [Text::from("gateway")]);
        // Of others, nothing is watched.
        names.described(&Process { pid: Some(8), ..process("curl", Some("/usr/bin/curl")) });
        names.described(&process("gateway", Some("/usr/bin/node (deleted)")));
        names.described(&process("gateway", Some("/usr/bin/other")));
        names.is_server(&process("gateway", Some("/opt/node")));
        assert_eq!(names.take(), [Text::from("node")]);
    }
}
