//! Units of systemd that exist as long as their value does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::poll;
use super::tracer::{Finished, finish};

/// Where units stand that end with the machine.
const UNITS: &str = "/run/systemd/system";

/// Whether it is the first process of this host, as `sd_booted()` finds it out.
pub fn is_first_process() -> bool {
    Path::new("/run/systemd/system").is_dir()
        && fs::read_to_string("/proc/1/comm").is_ok_and(|comm| comm.trim_end() == "systemd")
}

/// Units whose names begin with a stem that nothing else has.
pub struct Units {
    stem: String,
    names: Vec<String>,
}

impl Units {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self { stem: format!("tracer-live-{}-{number}", std::process::id()), names: Vec::new() }
    }

    /// The name of the unit whose name ends like this.
    pub fn name(&self, ending: &str) -> String {
        format!("{}-{ending}", self.stem)
    }

    /// What the journal has of all of them.
    pub fn journal(&self) -> String {
        let mut command = Command::new("journalctl");
        command.args(["--no-pager", "--output", "short-precise"]);
        command.args(self.names.iter().flat_map(|name| ["--unit", name]));
        finish(command).stdout
    }

    /// Writes a unit, new or in place of its last text, and has systemd read it.
    pub fn write(&mut self, ending: &str, text: &str) -> Unit {
        let name = self.name(ending);
        let path = path(&name);
        if !self.names.contains(&name) {
            self.names.push(name.clone());
        }
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        systemctl(&["daemon-reload"]);
        Unit { name }
    }
}

impl Default for Units {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        if self.names.is_empty() {
            return;
        }
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        // All of them at a time: one that is stopped may start another.
        try_systemctl(&[&["stop"], names.as_slice()].concat());
        for name in &names {
            try_systemctl(&["kill", "--signal=KILL", name]);
            let _ = fs::remove_file(path(name));
        }
        try_systemctl(&["daemon-reload"]);
        try_systemctl(&[&["reset-failed"], names.as_slice()].concat());
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(UNITS).join(name)
}

/// A unit that systemd has read.
#[derive(Clone, Debug)]
pub struct Unit {
    pub name: String,
}

impl Unit {
    pub fn start(&self) {
        systemctl(&["start", &self.name]);
    }

    /// Stops it, and waits until its processes have ended.
    pub fn stop(&self) {
        systemctl(&["stop", &self.name]);
    }

    pub fn restart(&self) {
        systemctl(&["restart", &self.name]);
    }

    /// Sends a signal to its processes.
    pub fn kill(&self, signal: &str) {
        systemctl(&["kill", "--signal", signal, &self.name]);
    }

    /// Waits for its main process; another one than `not`.
    pub fn main_process_after(&self, not: u32) -> u32 {
        poll(&format!("the main process of {}", self.name), || {
            let pid = self.show("MainPID").parse().expect("a process id");
            (pid != 0 && pid != not).then_some(pid)
        })
    }

    pub fn main_process(&self) -> u32 {
        self.main_process_after(0)
    }

    /// Waits until it has failed for good.
    pub fn failed(&self) {
        poll(&format!("the failure of {}", self.name), || {
            (self.show("ActiveState") == "failed").then_some(())
        });
    }

    /// The value of a property.
    pub fn show(&self, property: &str) -> String {
        systemctl(&["show", "--property", property, "--value", &self.name])
    }
}

/// Runs `systemctl`, which must succeed; gives what it printed.
fn systemctl(arguments: &[&str]) -> String {
    let Finished { status, stdout, stderr } = try_systemctl(arguments);
    assert!(status.success(), "systemctl {arguments:?}: {status}: {stderr}");
    stdout.trim_end().to_owned()
}

fn try_systemctl(arguments: &[&str]) -> Finished {
    let mut command = Command::new("systemctl");
    command.args(arguments);
    finish(command)
}
