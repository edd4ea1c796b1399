//! Finding the workspace and running programs in it.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use cargo_metadata::{Artifact, Message, MetadataCommand};

/// The directory of the workspace, as cargo knows it when it runs this program.
pub fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().expect("xtask is a folder of the workspace").to_owned()
}

/// The cargo that runs this program, at the workspace's root.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Where cargo keeps what it downloads and installs.
pub fn home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
}

/// `PATH`, and the directories of system programs that Debian leaves out of the `PATH` of ordinary users: `su` and
/// `sudo -E` keep it so for root.
pub fn search_path() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let own: Vec<_> = env::split_paths(&path).collect();
    own.into_iter().chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
}

/// The program `name` in the directories of [`search_path`].
pub fn find(name: &str) -> Option<PathBuf> {
    search_path().map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// The command as a person would type it.
pub fn shown(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// A word as a shell takes it.
pub fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs the command to its end; an error unless it succeeds.
pub fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs the command and gives what it printed on stdout, trimmed; an error unless it succeeds.
pub fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{}`", shown(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}: {}", shown(command), output.status, stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Builds `tracer` in release and gives the path of its binary, wherever cargo is configured to put it.
pub fn build_tracer() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--release", "--package", "tracer", "--bin", "tracer"]);
    executable(&build(command)?, "tracer")
}

/// Builds a program of the testbed and gives its path. Not in release: it undoes what it made by unwinding.
pub fn build_testbed(name: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--profile", "testbed", "--package", "tests", "--bin", name]);
    executable(&build(command)?, name)
}

/// An executable that cargo built.
#[derive(Clone)]
pub struct Executable {
    /// The target's name.
    pub name: String,
    /// Its path.
    pub path: PathBuf,
}

/// Runs a cargo command that builds, and returns the executables that it built.
pub fn build(command: Command) -> Result<Vec<Executable>> {
    let artifacts = artifacts(command, &[])?;
    let executables = artifacts.into_iter().filter_map(|artifact| {
        Some(Executable { path: artifact.executable?.into(), name: artifact.target.name })
    });
    Ok(executables.collect())
}

/// Runs a cargo command that builds, and returns all that it built, or found to be up to date. `cargo rustc` passes the
/// arguments `to_compiler` on.
pub fn artifacts(mut command: Command, to_compiler: &[String]) -> Result<Vec<Artifact>> {
    command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    if !to_compiler.is_empty() {
        command.arg("--").args(to_compiler);
    }
    let built = command.output().with_context(|| format!("cannot run `{}`", shown(&command)))?;
    if !built.status.success() {
        bail!("`{}` failed: {}", shown(&command), built.status);
    }
    let mut artifacts = Vec::new();
    for message in Message::parse_stream(&built.stdout[..]) {
        if let Message::CompilerArtifact(artifact) = message.context("cannot read cargo's messages")? {
            artifacts.push(artifact);
        }
    }
    Ok(artifacts)
}

/// The executable of this name among those that were built.
pub fn executable(built: &[Executable], name: &str) -> Result<PathBuf> {
    built
        .iter()
        .find(|executable| executable.name == name)
        .map(|executable| executable.path.clone())
        .with_context(|| format!("cargo named no executable `{name}`"))
}

/// The directory that cargo builds into.
pub fn target_directory() -> Result<PathBuf> {
    let mut command = MetadataCommand::new();
    command.current_dir(root()).no_deps();
    let metadata = command.exec().context("`cargo metadata` failed")?;
    Ok(metadata.target_directory.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_a_shell_would_take_apart_is_quoted() {
        assert_eq!(quoted(OsStr::new("--port=18789")), "--port=18789");
        assert_eq!(quoted(OsStr::new("a b")), "'a b'");
        assert_eq!(quoted(OsStr::new("it's")), r"'it'\''s'");
        assert_eq!(quoted(OsStr::new("")), "''");
    }
}
