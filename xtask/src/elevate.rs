//! Running one program as root, and nothing else.

use std::{ffi::OsStr, process::Command};

use anyhow::Result;
use rustix::process::geteuid;

use crate::{
    cargo::{find, quoted, shown},
    failure::Failure,
};

/// Whether this process is root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// The command that runs `program` as root: directly, or by `sudo`, or by `doas`.
pub fn elevated<I, S>(program: impl AsRef<OsStr>, args: I) -> Result<Command>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let program = program.as_ref();
    let mut direct = Command::new(program);
    direct.args(args);
    if is_root() {
        return Ok(direct);
    }
    for (name, end_of_options) in [("sudo", Some("--")), ("doas", None)] {
        if let Some(path) = find(name) {
            let mut command = Command::new(path);
            command.args(end_of_options).arg(program).args(direct.get_args());
            return Ok(command);
        }
    }
    Err(Failure::unable(
        format!("`{}` needs root, and there is neither `sudo` nor `doas`", program.display()),
        format!("as root: su -c {}", quoted(OsStr::new(&shown(&direct)))),
    )
    .into())
}
