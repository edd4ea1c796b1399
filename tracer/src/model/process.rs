//! A process: its identity, what was read of it, and how it ended. All but the numbers is the process's own choice, and stays raw bytes until `output` escapes it.

use serde::{Deserialize, Serialize};

use super::container::Container;
use super::time::StartTime;
use super::unit::Unit;

pub use super::text::Text;

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id as the host counts.
    pub pid: Option<u32>,
    /// Process id as its own PID namespace counts.
    pub ns_pid: Option<u32>,
    /// Process id of the parent as the host counts.
    pub ppid: Option<u32>,
    /// User id as the host counts.
    pub uid: Option<u32>,
    /// User id when it executed its program, which it may have given up since. Only the kernel's record of the exec shows it,
    /// so that the state alone has it, and no input; `None`: that was not seen.
    #[serde(skip)]
    pub uid_at_exec: Option<u32>,
    /// Name (`task_struct.comm`).
    pub comm: Option<Text>,
    /// Path of the executable, as in its own mount namespace.
    pub exe: Option<Text>,
    /// What the executable runs, where it is an interpreter: see [`super::program::script`].
    pub script: Option<Text>,
    /// `None`: they were not read, are too long, or the process has written over them.
    #[serde(default)]
    pub arguments: Option<Arguments>,
    pub start: Option<StartTime>,
    pub container: Option<Container>,
    /// `None` in a container, whose units are none of the host's.
    pub unit: Option<Unit>,
}

/// A hash of a process's arguments, which can be secrets, without the program's own name: it distinguishes two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arguments(u64);

impl Arguments {
    /// Of every word of a command line, the first one aside.
    pub fn of(words: &[&[u8]]) -> Self {
        // FNV-1a: the same value in every version that reads a recording.
        let bytes = words.iter().skip(1).flat_map(|word| word.iter().chain([&0]));
        Self(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }
}

/// One process for as long as it is running: no other has both numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessKey {
    pub pid: u32,
    pub start: StartTime,
}

impl Process {
    /// Adds what was read of the same process. One that has executed another program since mostly has another name.
    pub fn complete(&mut self, read: &Self) {
        let is_same_name = self.comm.is_none() || read.comm.is_none() || self.comm == read.comm;
        if self.is_same(read) && is_same_name {
            let before = self.clone();
            (self.exe, self.script, self.container, self.unit) = (None, None, None, None);
            self.fill(read);
            self.fill(&before);
        }
    }

    /// Takes from another read of the same process what this one does not have of its program and its place.
    pub fn fill(&mut self, other: &Self) {
        let Self { exe, script, arguments, container, unit, .. } = other;
        self.exe = self.exe.take().or_else(|| exe.clone());
        self.script = self.script.take().or_else(|| script.clone());
        self.arguments = self.arguments.or(*arguments);
        self.container = self.container.take().or_else(|| container.clone());
        self.unit = self.unit.take().or_else(|| unit.clone());
    }

    /// Whether it was read from `/proc`, its unit and container too: that has the path of the executable, and the kernel's
    /// record of a start its file name alone.
    pub fn is_read(&self) -> bool {
        self.exe.as_ref().is_some_and(|exe| exe.as_bytes().contains(&b'/'))
    }

    /// Whether both are one process, and known to be: two processes of which nothing is known are not.
    pub fn is_same(&self, other: &Self) -> bool {
        self.key().is_some() && self.key() == other.key()
    }

    /// `None`: its number, or when it started, is not known.
    pub fn key(&self) -> Option<ProcessKey> {
        Some(ProcessKey { pid: self.pid?, start: self.start? })
    }
}

/// The number of the first process, in every PID namespace.
pub const INIT: u32 = 1;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// `exit()` with this code.
    Code(i32),
    /// Ended by this signal.
    Signal(i32),
}

impl ExitStatus {
    /// Reads a wait status as `wait(2)` encodes it.
    pub const fn from_wait(status: u32) -> Self {
        match status & 0x7f {
            0 => Self::Code((status >> 8 & 0xff) as i32),
            signal => Self::Signal(signal as i32),
        }
    }
}

/// What became of the process that held a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OwnerEnd {
    /// It is still running.
    Running,
    Ended(ExitStatus),
    Unknown,
}
