//! The command line: exit code, stdout and stderr together.

use std::process::{Command, Stdio};

/// Runs tracer and shows all that it said.
fn run(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tracer"))
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().map_or_else(|| "none".to_owned(), |code| code.to_string());
    format!("exit code: {code}\n--- stdout\n{}--- stderr\n{}", text(output.stdout), text(output.stderr))
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
        run(&["status", "gateway.example"]),
        run(&["status", "127.0.0.1:18789"]),
        run(&["status", "-p", "0"]),
        run(&["-p", "\x1b[31m"]),
    ];
    insta::assert_snapshot!(all.join("\n"));
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
