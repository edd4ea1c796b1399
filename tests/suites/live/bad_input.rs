//! Arguments that make no sense: exit code 2, one sentence, a hint, and nothing on stdout.

use std::process::Command;

use libtest_mimic::Trial;

use tests::binary::binary;
use tests::needs::Need;
use tests::suite::test;
use tests::tracer::finish;

pub fn all() -> Vec<Trial> {
    let seventeen: Vec<String> = (20_001..=20_017).map(|port: u16| port.to_string()).collect();
    let seventeen = seventeen.join(",");
    let cases: Vec<(&str, Vec<String>, &str)> = vec![
        ("port_zero", vec!["-p".into(), "0".into()], "0"),
        ("port_too_large", vec!["-p".into(), "70000".into()], "70000"),
        ("port_that_is_not_a_number", vec!["-p".into(), "x".into()], "x"),
        ("port_that_is_empty", vec!["-p".into(), "1,,2".into()], "port"),
        ("seventeen_ports", vec!["-p".into(), seventeen], "16"),
        ("unknown_namespace", vec!["-n".into(), "no-such-namespace".into()], "no-such-namespace"),
        ("unknown_namespace_by_path", vec!["-n".into(), "/run/netns/no-such".into()], "/run/netns/no-such"),
        ("namespace_of_no_process", vec!["-n".into(), u32::MAX.to_string()], "4294967295"),
        ("path_that_is_not_a_namespace", vec!["-n".into(), "/dev/null".into()], "/dev/null"),
        ("count_zero", vec!["-c".into(), "0".into()], "0"),
        ("duration_that_is_none", vec!["--for".into(), "soon".into()], "soon"),
    ];
    cases
        .into_iter()
        .map(|(name, arguments, named)| {
            // A namespace can be reported as unknown only to a user who may read every namespace.
            let needs: &[Need] = if arguments[0] == "-n" { &[Need::Root] } else { &[] };
            test(format!("bad_input::{name}"), needs, move || refuses(&arguments, named))
        })
        .collect()
}

fn refuses(arguments: &[String], named: &str) {
    let mut command = Command::new(binary());
    // Should it start in spite of it, it must not run for ever.
    command.args(["trace", "-o", "json", "--for", "10"]);
    if arguments[0] == "--for" {
        command = Command::new(binary());
        command.args(["trace", "-o", "json"]);
    }
    command.args(arguments);
    let finished = finish(command);
    let stderr = &finished.stderr;
    assert_eq!(finished.status.code(), Some(2), "{stderr}");
    assert_eq!(finished.stdout, "", "{stderr}");
    let sentence = stderr.lines().next().unwrap_or_default();
    assert!(sentence.contains(named), "the first line names `{named}`: {stderr}");
    let hints = stderr.lines().filter(|line| line.starts_with("hint: ")).count();
    assert_eq!(hints, 1, "one hint: {stderr}");
    // The sentence, a blank line, the hint.
    let lines: Vec<&str> = stderr.lines().collect();
    let hint = lines.iter().position(|line| line.starts_with("hint: ")).expect("a hint");
    assert_eq!(lines[..hint].iter().filter(|line| !line.is_empty()).count(), 1, "one sentence: {stderr}");
    assert_eq!(lines.get(hint.wrapping_sub(1)), Some(&""), "a blank line before the hint: {stderr}");
}
