//! `cargo deny` and `cargo audit`, where they are installed: they know more, and ask for the advisories of today.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{Findings, policy::Advisories};
use crate::cargo::{cargo, shown};

/// Runs each tool that is installed.
pub fn check(policy: &Advisories) -> Result<Findings> {
    let mut findings = Findings::default();
    if is_installed("deny") {
        let mut command = cargo();
        command.args(["deny", "--locked", "check", "licenses", "bans", "sources"]);
        let status = command.status().with_context(|| format!("cannot run `{}`", shown(&command)))?;
        if !status.success() {
            findings.problems.push(format!("`{}` failed: {status}", shown(&command)));
        }
    }
    if is_installed("audit") {
        let mut command = cargo();
        command.args(["audit", "--json"]);
        command.args(policy.ignore.iter().flat_map(|entry| ["--ignore", entry.id.as_str()]));
        let audit = command.output().with_context(|| format!("cannot run `{}`", shown(&command)))?;
        match serde_json::from_slice::<Report>(&audit.stdout) {
            Ok(report) => findings.problems.extend(report.affected()),
            // It prints no report where it cannot fetch the advisories.
            Err(_) => {
                let stderr = String::from_utf8_lossy(&audit.stderr);
                let reason = stderr.lines().next().unwrap_or_default();
                findings.notes.push(format!("`{}` made no report: {reason}", shown(&command)));
            }
        }
    }
    Ok(findings)
}

fn is_installed(subcommand: &str) -> bool {
    let mut version: Command = cargo();
    version.args([subcommand, "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

/// What `cargo audit --json` prints.
#[derive(Deserialize)]
struct Report {
    vulnerabilities: Vulnerabilities,
}

#[derive(Deserialize)]
struct Vulnerabilities {
    list: Vec<Vulnerability>,
}

#[derive(Deserialize)]
struct Vulnerability {
    advisory: Named,
    package: Affected,
}

#[derive(Deserialize)]
struct Named {
    id: String,
    title: String,
}

#[derive(Deserialize)]
struct Affected {
    name: String,
    version: String,
}

impl Report {
    fn affected(self) -> impl Iterator<Item = String> {
        self.vulnerabilities.list.into_iter().map(|Vulnerability { advisory, package }| {
            let Affected { name, version } = package;
            format!("`cargo audit`: `{name} {version}` is affected by {}: {}", advisory.id, advisory.title)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vulnerability_that_cargo_audit_reports_is_a_problem() {
        let report: Report = serde_json::from_str(
            r#"{ "database": { "advisory-count": 1 }, "vulnerabilities": { "found": true, "count": 1, "list": [
                { "advisory": { "id": "RUSTSEC-2026-0001", "title": "Reads too far" },
                  "package": { "name": "one", "version": "1.0.0" } } ] } }"#,
        )
        .unwrap();
        assert_eq!(
            report.affected().collect::<Vec<_>>(),
            ["`cargo audit`: `one 1.0.0` is affected by RUSTSEC-2026-0001: Reads too far"]
        );
    }
}
