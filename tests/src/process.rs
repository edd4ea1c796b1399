//! The tests' side of an actor: starts one, sends it commands, and ends it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};

use rustix::process::{Pid, Signal, WaitOptions};
use tempfile::TempDir;

use super::LIMIT;
use super::interrupt;
use super::load::{Done, Load};
use super::netns::{self, Place};

/// What a system call was answered with: 0 or an errno.
pub type Errno = i32;

/// The process spec of an actor.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    comm: Vec<u8>,
    shown: String,
    uid: Option<u32>,
    program: Option<String>,
    binary: Option<PathBuf>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl ProcessSpec {
    /// A name of at most 15 bytes, any but NUL.
    pub fn named(comm: impl AsRef<[u8]>) -> Self {
        let shown = String::from_utf8_lossy(comm.as_ref()).into_owned();
        let comm = comm.as_ref().to_vec();
        Self {
            comm,
            shown,
            uid: None,
            program: None,
            binary: None,
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// A program that has this file name when it is started, in its namespace already, as a supervisor would.
    pub fn program(name: &str) -> Self {
        let comm = &name.as_bytes()[..name.len().min(15)];
        Self { program: Some(name.to_owned()), ..Self::named(comm) }
    }

    /// With another name than its program's.
    pub fn renamed(self, comm: &str) -> Self {
        let Self { comm, shown, .. } = Self::named(comm);
        Self { comm, shown, ..self }
    }

    /// Run from this copy of the test binary.
    pub fn binary(mut self, path: &Path) -> Self {
        self.binary = Some(path.to_owned());
        self
    }

    /// With these arguments behind its own.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self
    }

    /// With this variable in its environment.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What the event log should make of the name.
    pub fn shown_as(mut self, shown: &str) -> Self {
        shown.clone_into(&mut self.shown);
        self
    }

    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }
}

/// A running actor, which ends when it is dropped.
pub struct Actor {
    child: Child,
    stdin: Option<ChildStdin>,
    answers: Receiver<String>,
    /// The process that holds the sockets: the child, or after [`Actor::fork`] its child.
    pub pid: u32,
    /// Its name as the event log should have it.
    pub comm: String,
    /// Cookie of the listener it opened last.
    pub cookie: Option<u64>,
}

impl Actor {
    /// Starts an actor in a namespace and waits until it is ready for commands.
    pub fn start(place: &Place, spec: &ProcessSpec) -> Self {
        let own = || std::env::current_exe().expect("the path of this test binary");
        let binary = spec.binary.clone().unwrap_or_else(own);
        // It has to be there only until it runs.
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = match &spec.program {
            None => Command::new(binary),
            Some(name) => {
                let link = directory.path().join(name);
                std::os::unix::fs::symlink(binary, &link).expect("a link to this test binary");
                Command::new(link)
            }
        };
        command.arg("actor");
        match place {
            Place::Path(path) if spec.program.is_some() => {
                netns::enter(path, &mut command);
            }
            Place::Path(path) => {
                command.arg("--netns").arg(path);
            }
            Place::Unshared => {
                command.arg("--unshare");
            }
        }
        if let Some(uid) = spec.uid {
            command.arg("--uid").arg(uid.to_string());
        }
        command.arg("--comm").arg(hex(&spec.comm)).arg("--").args(&spec.arguments);
        command.envs(spec.environment.iter().cloned());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for the process that started it, which ends it in order.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start an actor: {error}"));
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("a piped stdout"));
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let pid = child.id();
        let actor = Self { child, stdin, answers, pid, comm: spec.shown.clone(), cookie: None };
        assert_eq!(actor.answer(), "ready", "the first word of an actor");
        actor
    }

    /// Sends a command whose answer is taken later, by [`Actor::outcome`].
    pub fn send(&mut self, command: &str) {
        let stdin = self.stdin.as_mut().expect("an actor that has not been ended");
        writeln!(stdin, "{command}")
            .unwrap_or_else(|error| panic!("the actor has ended before `{command}`: {error}"));
    }

    /// Waits for the answer to the oldest command without one: what it returned, or the errno.
    pub fn outcome(&self) -> Result<String, Errno> {
        let answer = self.answer();
        match answer.split_once(' ').unwrap_or((&answer, "")) {
            ("ok", value) => Ok(value.to_owned()),
            ("errno", number) => Err(number.parse().expect("an errno")),
            _ => panic!("an actor answered `{answer}`"),
        }
    }

    /// Gives a command and waits for its answer.
    pub fn ask(&mut self, command: &str) -> Result<String, Errno> {
        self.send(command);
        self.outcome()
    }

    /// Gives a command that must succeed.
    pub fn must(&mut self, command: &str) -> String {
        self.ask(command).unwrap_or_else(|errno| {
            panic!("actor: `{command}`: {}", std::io::Error::from_raw_os_error(errno))
        })
    }

    /// Puts the kernel under load, and waits until that is done.
    pub fn load(&mut self, load: Load) -> Done {
        self.begin_load(load);
        self.load_done()
    }

    /// Begins a load; [`Actor::load_done`] waits for its end.
    pub fn begin_load(&mut self, load: Load) {
        self.send(&format!("load {}", serde_json::to_string(&load).expect("a load")));
    }

    pub fn load_done(&self) -> Done {
        let done = self
            .outcome()
            .unwrap_or_else(|errno| panic!("the load failed: {}", std::io::Error::from_raw_os_error(errno)));
        serde_json::from_str(&done).expect("what was done")
    }

    /// Calls `listen()` on its socket.
    pub fn listen(&mut self, backlog: u32) -> Result<(), Errno> {
        self.listen_with(backlog, "")
    }

    /// The same with options.
    pub fn listen_with(&mut self, backlog: u32, options: &str) -> Result<(), Errno> {
        let cookie = self.ask(format!("listen {backlog} {options}").trim_end())?;
        self.cookie = Some(cookie.parse().expect("a cookie"));
        Ok(())
    }

    /// Closes the listener; the process is still running.
    pub fn close(&mut self) {
        self.must("close");
    }

    /// Lets a child inherit the sockets and go on, while the process that opened them ends.
    pub fn fork(&mut self) {
        self.pid = self.must("fork").parse().expect("a process id");
        self.child.wait().expect("the parent's end");
    }

    /// A place where sockets can be passed to this actor, which keeps them until it takes them.
    pub fn mailbox(&mut self) -> Mailbox {
        let mailbox = Mailbox(tempfile::tempdir().expect("a directory"));
        self.must(&format!("mailbox {}", mailbox.path()));
        mailbox
    }

    /// Passes its socket to another actor; it has it still.
    pub fn pass(&mut self, mailbox: &Mailbox) {
        self.must(&format!("pass {}", mailbox.path()));
    }

    /// Takes what was passed to it.
    pub fn take(&mut self) {
        self.must("take");
    }

    /// Becomes another program in the same process, which inherits the socket.
    pub fn exec(&mut self, comm: &str) {
        self.send(&format!("exec {}", hex(comm.as_bytes())));
        assert_eq!(self.answer(), "ready", "the first word of an actor");
        comm.clone_into(&mut self.comm);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("to signal an actor");
    }

    /// Exits with a code.
    pub fn exit(&mut self, code: u8) -> ExitStatus {
        self.send(&format!("exit {code}"));
        self.child.wait().expect("the actor's end")
    }

    /// Ends by SIGKILL.
    pub fn kill(&mut self) -> ExitStatus {
        self.child.kill().expect("to end an actor");
        self.child.wait().expect("the actor's end")
    }

    /// The next line that it prints.
    fn answer(&self) -> String {
        interrupt::receive(&self.answers, LIMIT)
            .unwrap_or_else(|_| panic!("no answer from actor {}", self.pid))
    }
}

/// Where sockets are passed to.
pub struct Mailbox(TempDir);

impl Mailbox {
    fn path(&self) -> String {
        self.0.path().join("mailbox").display().to_string()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.child.id() != self.pid {
            // A forked actor's orphan: the tests are the reaper of what descends from them, so the id
            // is still that of this process.
            let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).expect("a process id");
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
