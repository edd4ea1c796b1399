//! Processes. All but the numbers is the process's own choice, and stays raw bytes until `output` escapes it.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::container::Container;
use super::time::StartTime;
use super::unit::Unit;

/// Text that a process chose, as it is: a name, a path. Cheap to clone: each refusal of a flood is compared by a name.
#[derive(Clone)]
pub struct Text(Stored);

/// Bytes of a text that is stored in place: the kernel's names of processes (`TASK_COMM_LEN`) are no longer.
const SHORT_MAX: usize = 22;

#[derive(Clone)]
enum Stored {
    Short { len: u8, bytes: [u8; SHORT_MAX] },
    Long(Arc<[u8]>),
}

impl Text {
    pub fn new(text: &[u8]) -> Self {
        let mut bytes = [0; SHORT_MAX];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(short), Ok(len)) => {
                short.copy_from_slice(text);
                Self(Stored::Short { len, bytes })
            }
            _ => Self(Stored::Long(text.into())),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Stored::Short { len, bytes } => &bytes[..usize::from(*len)],
            Stored::Long(bytes) => bytes,
        }
    }

    /// What stands behind the last `/`: of a path the file's name.
    pub fn file_name(&self) -> &[u8] {
        self.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

impl Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.as_bytes())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: Vec<u8> = Vec::deserialize(deserializer)?;
        Ok(Self::new(&bytes))
    }
}

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

/// Distinguishes the arguments of two processes: a hash, since arguments can be secrets; without the program's own name.
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

/// One process: no other has both numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessKey {
    pub pid: u32,
    pub start: StartTime,
}

impl Process {
    /// Adds what was read of the same process. One that has executed another program since mostly has another name.
    pub fn complete(&mut self, read: &Self) {
        let is_same_name = self.comm.is_none() || read.comm.is_none() || self.comm == read.comm;
        if self.key().is_some() && self.key() == read.key() && is_same_name {
            self.exe = read.exe.clone().or(self.exe.take());
            self.script = read.script.clone().or(self.script.take());
            self.arguments = self.arguments.or(read.arguments);
            self.container = read.container.clone().or(self.container.take());
            self.unit = read.unit.clone().or(self.unit.take());
        }
    }

    /// Whether it was read from `/proc`, its unit and container too: that has the path of the executable, and the kernel's
    /// record of a start its file name alone.
    pub fn is_read(&self) -> bool {
        self.exe.as_ref().is_some_and(|exe| exe.as_bytes().contains(&b'/'))
    }

    /// `None`: its number, or when it started, is not known.
    pub fn key(&self) -> Option<ProcessKey> {
        Some(ProcessKey { pid: self.pid?, start: self.start? })
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_what_it_was_made_of_whether_short_or_long() {
        for len in [0, 1, 15, SHORT_MAX - 1, SHORT_MAX, SHORT_MAX + 1, 255, 256, 300] {
            let bytes = vec![b'x'; len];
            let text = Text::new(&bytes);
            assert_eq!(text.as_bytes(), bytes);
            assert_eq!(text.clone(), Text::new(&bytes));
            assert!(text < Text::new(&[&bytes[..], b"y"].concat()), "{len}");
        }
        assert!(size_of::<Text>() <= 24);
    }
}
