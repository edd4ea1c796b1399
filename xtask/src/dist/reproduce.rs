//! `cargo xtask dist --check`: the same files come of a build in another directory.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use super::{EPOCH, read};
use crate::{cargo::succeed, clone, digest, failure::Failure};

/// Builds the sources again in a clone, in a directory of another length with a target directory of its own, and compares
/// each of `files` with what comes of it. The clone is kept where they differ.
pub fn check(files: &[PathBuf], time: Timestamp) -> Result<()> {
    let directory = env::temp_dir().join(format!("tracer-dist-in-another-directory-{}", std::process::id()));
    fs::create_dir(&directory).with_context(|| format!("cannot make `{}`", directory.display()))?;
    let tree = directory.join("tree");
    clone::bring(&tree)?;
    let target = directory.join("target");
    let mut again = Command::new(env::current_exe().context("cannot find this program")?);
    again.arg("dist").current_dir(&tree).stdout(Stdio::null());
    again.env("CARGO_MANIFEST_DIR", tree.join("xtask")).env("CARGO_TARGET_DIR", &target);
    again.env(EPOCH, time.as_second().to_string()).env("TZ", "Asia/Kathmandu").env("LC_ALL", "C");
    eprintln!("dist: builds again in `{}`", directory.display());
    succeed(&mut again)?;
    let differ = differing(files, &target.join("dist"))?;
    if !differ.is_empty() {
        let hint = format!("diffoscope {} {}/dist", files[0].display(), target.display());
        return Err(Failure::new(
            format!("built in another directory, these differ: {}", differ.join(", ")),
            hint,
        )
        .into());
    }
    eprintln!("dist: {} files are the same, bit for bit, as built in `{}`", files.len(), directory.display());
    fs::remove_dir_all(&directory).with_context(|| format!("cannot remove `{}`", directory.display()))
}

/// The names of those that are not the same in `other`.
fn differing(files: &[PathBuf], other: &Path) -> Result<Vec<String>> {
    ensure!(!files.is_empty(), "nothing to compare");
    let mut differ = Vec::new();
    for file in files {
        let name = file.file_name().unwrap_or_default();
        if digest::of_bytes(&read(file)?) != digest::of_bytes(&read(&other.join(name))?) {
            differ.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(differ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_differs_by_a_byte_is_named() {
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for (place, directory) in directories.iter().enumerate() {
            fs::write(directory.path().join("same"), "same").unwrap();
            fs::write(directory.path().join("other"), [u8::try_from(place).unwrap()]).unwrap();
        }
        let files = ["same", "other"].map(|name| directories[0].path().join(name));
        assert_eq!(differing(&files, directories[1].path()).unwrap(), ["other"]);
        assert_eq!(differing(&files[..1], directories[1].path()).unwrap(), [""; 0]);
    }

    #[test]
    fn a_file_that_was_not_built_again_is_an_error() {
        let [one, other] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        fs::write(one.path().join("tracer"), "").unwrap();
        differing(&[one.path().join("tracer")], other.path()).unwrap_err();
        differing(&[], other.path()).unwrap_err();
    }
}
