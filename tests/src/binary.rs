//! The program under test: where it is, built from the sources as they are.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Names the program, instead of the one that cargo builds.
pub const VARIABLE: &str = "TRACER_BINARY";

/// The path of the program under test. Without [`VARIABLE`] cargo builds it, in the profile of this test program:
/// a run of the tests alone does not build it, so what lies in the target directory can be older than its sources.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| env::var_os(VARIABLE).map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // With the features that the tests' own build chose, so that each dependency is built once.
    command.args(["build", "--quiet", "--package", "tests", "--package", "tracer", "--bin", "tracer"]);
    let (target, profile) = target_and_profile();
    command.arg("--target-dir").arg(target).args(["--profile", &profile]);
    command.args(["--message-format", "json-render-diagnostics"]);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).stderr(Stdio::inherit());
    let built = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}: without cargo, set {VARIABLE} to the program"));
    assert!(built.status.success(), "{command:?}: {}", built.status);
    let messages = String::from_utf8_lossy(&built.stdout);
    let executable = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message["executable"].as_str()?))
    });
    executable.unwrap_or_else(|| panic!("{command:?} names no executable"))
}

/// Where cargo put this test program, and in which profile: it is `TARGET/PROFILE/deps/NAME-HASH`, or
/// `TARGET/TRIPLE/PROFILE/deps/NAME-HASH`.
fn target_and_profile() -> (PathBuf, String) {
    let own = env::current_exe().expect("the path of this test program");
    let target = own.ancestors().find(|directory| directory.join("CACHEDIR.TAG").exists());
    let target = target.unwrap_or_else(|| {
        panic!("`{}` is not in a target directory of cargo: set {VARIABLE}", own.display())
    });
    let profile = own.ancestors().skip(1).find(|directory| !directory.ends_with("deps"));
    let profile = profile.and_then(Path::file_name).and_then(OsStr::to_str).expect("the name of a profile");
    (target.to_owned(), if profile == "debug" { "dev" } else { profile }.to_owned())
}
