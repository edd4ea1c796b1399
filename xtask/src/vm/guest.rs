//! One boot of one kernel: started, waited for, ended when it hangs.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::kernel::Kernel;
use crate::{
    cargo::{find, shown},
    failure::Failure,
};

/// Longer than any run takes: a guest that still runs then hangs.
const LIMIT: Duration = Duration::from_secs(25 * 60);

/// How often to check whether it has ended.
const TICK: Duration = Duration::from_millis(100);

/// In megabytes: the file system, and the tests.
const MEMORY: &str = "1536";

/// The kernel's command line. A guest that panics ends; its clock is the host's. A guest is not attacked, and an emulated
/// machine runs much slower with mitigations: above all for addresses that differ from one start of a program
/// to the next, since what the emulator has translated of a program is known by them.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check mitigations=off norandmaps \
     init_on_alloc=0 hardened_usercopy=off randomize_kstack_offset=off apparmor=0 selinux=0 audit=0";

/// All that the emulator can do, but for the feature of fast string instructions, which it does a byte at a time.
const PROCESSOR: &str = "max,-erms";

/// How a guest ended.
pub struct Ended {
    /// What came over the second serial port.
    pub results: String,
    /// All that it printed on its console.
    pub log: PathBuf,
    /// Why it did not end by itself, if so.
    pub trouble: Option<String>,
    pub took: Duration,
}

/// Boots a kernel on a file system and waits for its end. `name` names the files that are kept in `directory`.
pub fn run(name: &str, kernel: &Kernel, initramfs: &Path, directory: &Path) -> Result<Ended> {
    let log = directory.join(format!("{name}.log"));
    let results = directory.join(format!("{name}.results"));
    let Some(qemu) = find("qemu-system-x86_64") else {
        let what = "`qemu-system-x86_64` is not installed";
        return Err(Failure::unable(what, "`cargo xtask setup` installs what is missing").into());
    };
    let mut command = Command::new(qemu);
    // Emulated even where KVM is: a machine that is itself a guest may have a KVM that hangs.
    command.args(["-accel", "tcg,thread=multi", "-cpu", PROCESSOR, "-m", MEMORY]);
    command.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(initramfs);
    command.args(["-append", COMMAND_LINE]);
    command.args(["-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot"]);
    for port in [&log, &results] {
        fs::write(port, "").with_context(|| format!("cannot write `{}`", port.display()))?;
        command.arg("-serial").arg(format!("file:{}", escaped(port)));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    // SAFETY: a plain system call on the new process. It must not outlive this one, however that ends.
    unsafe { command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?)) };
    let start = Instant::now();
    let mut guest = Guest(command.spawn().with_context(|| format!("cannot run `{}`", shown(&command)))?);
    let trouble = loop {
        if let Some(status) = guest.0.try_wait().context("cannot wait for the emulator")? {
            break (!status.success()).then(|| format!("the emulator ended with {status}"));
        }
        if start.elapsed() > LIMIT {
            break Some(format!("it hung, and was ended after {} s", LIMIT.as_secs()));
        }
        thread::sleep(TICK);
    };
    drop(guest);
    let took = start.elapsed();
    let results = fs::read(&results).with_context(|| format!("cannot read `{}`", results.display()))?;
    Ok(Ended { results: String::from_utf8_lossy(&results).into_owned(), log, trouble, took })
}

/// A path as the emulator takes it, for which a comma ends one.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// A running emulator, ended when dropped.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_path_does_not_end_it() {
        assert_eq!(escaped(Path::new("/a,b/6.1.log")), "/a,,b/6.1.log");
    }
}
