//! The command line: exit code, stdout and stderr together.

use std::process::{Command, Stdio};

use tests::binary::binary;
use tests::token::leak;

/// Runs tracer and gives its whole output.
fn run(arguments: &[&str]) -> String {
    let output = Command::new(binary())
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().map_or_else(|| "none".to_owned(), |code| code.to_string());
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert_eq!((leak(&stdout), leak(&stderr)), (None, None));
    format!("exit code: {code}\n--- stdout\n{stdout}--- stderr\n{stderr}")
}

#[test]
fn help() {
    insta::assert_snapshot!(run(&["--help"]));
}

#[test]
fn help_of_status() {
    insta::assert_snapshot!(run(&["status", "--help"]));
}

#[test]
fn version() {
    assert_eq!(
        run(&["--version"]),
        format!("exit code: 0\n--- stdout\ntracer {}\n--- stderr\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn bad_ports() {
    let seventeen = (1..=17).map(|port: u16| port.to_string()).collect::<Vec<_>>().join(",");
    let all = ["0", "70000", "x", "", "80,,81", "-1", &seventeen].map(|ports| run(&["-p", ports]));
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn bad_arguments() {
    let all = [
        run(&["--for", "soon"]),
        run(&["--for", "0"]),
        run(&["-c", "0"]),
        run(&["-o", "xml"]),
        run(&["--no-such-option"]),
        run(&["no-such-command"]),
        run(&["-n", "no-such-namespace"]),
        run(&["status", "127.0.0.1:"]),
        run(&["status", "::1:18789"]),
        run(&["status", "ftp://127.0.0.1/"]),
        run(&["status", "-p", "0"]),
        run(&["-p", "\x1b[31m"]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn each_cause_is_explained_as_the_docs_have_it() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/causes");
    let mut names = Vec::new();
    for cause in tracer::output::causes::in_order() {
        let page = tracer::cmd::explain::Page(cause).to_string();
        let file = docs.join(cause.name()).with_extension("md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(&docs).unwrap();
            std::fs::write(&file, &page).unwrap();
        }
        let written = std::fs::read_to_string(&file).unwrap();
        assert_eq!(written, page, "`{}`: write it again with UPDATE_DOCS=1", file.display());
        assert_eq!(run(&["explain", cause.name()]), format!("exit code: 0\n--- stdout\n{page}--- stderr\n"));
        names.push(file.file_name().unwrap().to_owned());
    }
    let mut files: Vec<_> =
        std::fs::read_dir(&docs).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    names.sort();
    assert_eq!(files, names);
    assert!(run(&["explain", "bad-luck"]).contains("a cause is one of filtered, remote, intercepted"));
}

#[test]
fn the_manual_and_the_completions_know_every_command() {
    let commands = ["trace", "status", "show", "explain", "doctor", "schema", "man", "completions"];
    let manual = run(&["man"]);
    for command in commands {
        assert!(manual.contains(&format!("COMMAND {}", command.to_uppercase())), "{command}: {manual}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        assert!(script.starts_with("exit code: 0"), "{script}");
        assert!(commands.iter().all(|command| script.contains(command)), "{shell}: {script}");
    }
}

#[test]
fn a_log_is_shown_as_the_text_it_would_have_been() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let file = path.to_str().unwrap();
    assert!(run(&["show", file]).starts_with("exit code: 2"), "{}", run(&["show", file]));
    std::fs::write(&path, "no log\n{}\n").unwrap();
    assert!(run(&["show", file]).contains("is not a log of tracer"));
    let line = r#"{"v":1,"run":"12345678-9abc-4def-8123-456789abcdef","seq":1,"time":"2026-11-22T10:41:02Z","mono_us":5,"type":"stop","reason":"sigint","refused":7,"by_cause":{"stopped":7},"failed":{},"lost":0}"#;
    // Its last line is cut, as after an abnormal end.
    std::fs::write(&path, format!("{line}\n{}", &line[..60])).unwrap();
    assert_eq!(
        run(&["show", file]),
        "exit code: 0\n--- stdout\ntracer: 7 refused (7 stopped)\n--- stderr\n\
         tracer: 1 of 2 lines are not of this log's form\n"
    );
}

#[test]
fn the_schema_is_itself_a_schema() {
    let printed = run(&["schema"]);
    let json =
        printed.strip_prefix("exit code: 0\n--- stdout\n").unwrap().strip_suffix("--- stderr\n").unwrap();
    let schema: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(jsonschema::meta::is_valid(&schema));
    insta::assert_snapshot!(json);
}
