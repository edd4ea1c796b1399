//! A clone of the tree.

use std::{path::Path, process::Command};

use anyhow::Result;

use crate::cargo::{output, root, succeed};

/// Clones the repository into a directory, changes that are not committed included, or brings an earlier clone up to date:
/// git writes only the files that differ, so that cargo compiles only these again.
pub fn bring(directory: &Path) -> Result<()> {
    let identity = ["-c", "user.name=xtask", "-c", "user.email=xtask@localhost"];
    let mut commit = output(git(&root()).args(identity).args(["stash", "create"]))?;
    if commit.is_empty() {
        commit = output(git(&root()).args(["rev-parse", "HEAD"]))?;
    }
    // A clone shares the objects of its origin, so that it knows the commit without a fetch.
    if !directory.join(".git").exists() {
        let clone = ["clone", "--quiet", "--shared", "--no-checkout", "."];
        succeed(git(&root()).args(clone).arg(directory))?;
    }
    succeed(git(directory).args(["checkout", "--quiet", "--force", "--detach", &commit]))?;
    succeed(git(directory).args(["clean", "--quiet", "--force", "-d"]))
}

/// git in a directory.
pub fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory);
    command
}
