//! What guests printed, read and counted.

use std::fmt::Write as _;

use crate::test::Report;

/// The suite that is one verdict, and not a program of tests.
pub const DEMO: &str = "demo";

/// What the demo's verdict must be: its server is on another address than its client wants.
const VERDICT: &str = "wrong-address";

/// A suite as a guest reported it.
#[derive(Debug, PartialEq, Eq)]
pub struct SuiteOutput {
    pub name: String,
    /// What it printed on stdout.
    pub output: String,
    /// Its exit code; none: it did not end.
    pub status: Option<i32>,
}

/// How many lines of the output of failed tests are repeated for a suite.
const MESSAGES_MAX: usize = 60;

/// The suites that a guest reported, and whether it came to its end.
pub fn read_suites(results: &str) -> (Vec<SuiteOutput>, bool) {
    let (mut suites, mut is_done) = (Vec::<SuiteOutput>::new(), false);
    for line in results.lines() {
        let line = line.trim_end_matches('\r');
        let mut words = line.split(' ');
        match (words.next(), words.next()) {
            (Some("@"), Some("begin")) => suites.push(SuiteOutput {
                name: words.next().unwrap_or_default().to_owned(),
                output: String::new(),
                status: None,
            }),
            (Some("@"), Some("end")) => {
                let name = words.next();
                if let Some(suite) = suites.last_mut().filter(|suite| Some(suite.name.as_str()) == name) {
                    suite.status = words.next().and_then(|status| status.parse().ok());
                }
            }
            (Some("@"), Some("done")) => is_done = true,
            _ => {
                if let Some(suite) = suites.last_mut().filter(|suite| suite.status.is_none()) {
                    suite.output.push_str(line);
                    suite.output.push('\n');
                }
            }
        }
    }
    (suites, is_done)
}

/// The counts of a suite on a kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Its release, and what else tells its guest apart.
    pub kernel: String,
    /// What tracer sees `bind()` by.
    pub backend: String,
    pub suite: String,
    pub run: usize,
    pub failed: usize,
    pub not_possible: usize,
}

/// Rows as Markdown has a table, with the columns aligned.
pub fn table(rows: &[Row]) -> String {
    let head = ["kernel", "bind() by", "suite", "run", "failed", "not possible"].map(str::to_owned);
    let cells = rows.iter().map(|Row { kernel, backend, suite, run, failed, not_possible }| {
        let [run, failed, not_possible] = [run, failed, not_possible].map(usize::to_string);
        [kernel.clone(), backend.clone(), suite.clone(), run, failed, not_possible]
    });
    let lines: Vec<_> = [head].into_iter().chain(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or_default();
    let mut table = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (column, cell) in line.iter().enumerate() {
            let width = width(column);
            let _ = if column < 3 {
                write!(table, "| {cell:width$} ")
            } else {
                write!(table, "| {cell:>width$} ")
            };
        }
        table.push_str("|\n");
        if number == 0 {
            for column in 0..line.len() {
                let dashes = "-".repeat(width(column) + 1);
                let _ = write!(table, "|{dashes}{}", if column < 3 { '-' } else { ':' });
            }
            table.push_str("|\n");
        }
    }
    table
}

/// What the demo's event log shows.
#[derive(Debug, PartialEq, Eq)]
pub struct Demo {
    /// What tracer sees `bind()` by.
    pub backend: String,
    /// What is wrong with its verdict, if anything is.
    pub wrong: Option<String>,
}

/// Reads the demo's event log.
pub fn demo(output: &str) -> Demo {
    let events: Vec<serde_json::Value> =
        output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of_type = |name: &str| events.iter().filter(|event| event["type"] == name).collect::<Vec<_>>();
    let start = of_type("start");
    let kinds: Vec<_> = start.iter().filter_map(|event| event["hooks"].as_array()).flatten().collect();
    let has = |kind: &str| kinds.iter().any(|hook| hook["kind"] == kind);
    let backend = if has("fexit") {
        "fexit"
    } else if has("tracepoint") {
        "system call"
    } else {
        "nothing"
    };
    let refused = of_type("refused");
    let causes: Vec<_> = refused.iter().map(|event| event["verdict"]["cause"].as_str()).collect();
    let wrong = (causes != [Some(VERDICT)])
        .then(|| format!("the demo's verdicts should be one, `{VERDICT}`, and were {causes:?}"));
    Demo { backend: backend.to_owned(), wrong }
}

/// What a program of tests printed, counted.
pub fn tests(output: &str) -> Report {
    let mut report = Report::default();
    output.lines().for_each(|line| report.read(line));
    report
}

/// The output of the failed tests of a program, line by line and bounded: a runner may show the end of the output alone.
pub fn messages(output: &str) -> impl Iterator<Item = &str> {
    output.lines().skip_while(|line| *line != "failures:").skip(1).take(MESSAGES_MAX)
}

/// How many tests were reported as passed or failed.
pub fn finished(output: &str) -> usize {
    let outcomes =
        output.lines().filter(|line| line.starts_with("test ")).filter_map(|line| line.rsplit(' ').next());
    outcomes.filter(|outcome| ["ok", "FAILED"].contains(outcome)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULTS: &str = "@ begin demo\n{\"type\":\"start\",\"hooks\":[{\"name\":\"inet_bind\",\"kind\":\"fexit\"}]}\n\
        {\"type\":\"refused\",\"verdict\":{\"cause\":\"wrong-address\"}}\n\n@ end demo 0\n\
        @ begin live\r\ntest a ... ok\r\ntest b ... ignored (no c)\n\
        test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\n@ end live 0\n@ done\n";

    #[test]
    fn the_output_of_failed_tests_follows_the_heading() {
        let output = "test a ... FAILED\n\nfailures:\n\n---- a ----\nno line came\n\n\nfailures:\n    a\n";
        assert_eq!(messages(output).nth(2), Some("no line came"));
        assert_eq!(messages("test a ... ok\n").count(), 0);
    }

    #[test]
    fn suites_are_separated() {
        let (suites, is_done) = read_suites(RESULTS);
        assert!(is_done);
        assert_eq!(suites.iter().map(|suite| suite.name.as_str()).collect::<Vec<_>>(), ["demo", "live"]);
        assert!(suites.iter().all(|suite| suite.status == Some(0)));
        let report = tests(&suites[1].output);
        assert_eq!((report.passed, report.ignored), (1, 1));
        assert_eq!(report.not_run[0].to_string(), "b: no c");
    }

    #[test]
    fn a_guest_that_stops_in_the_middle_is_seen() {
        let (suites, is_done) = read_suites("@ begin live\ntest a ... ok\ntest b");
        assert!(!is_done);
        assert_eq!(suites[0].status, None);
        assert_eq!(finished(&suites[0].output), 1);
        assert!(read_suites("").0.is_empty());
    }

    #[test]
    fn a_suite_ended_by_a_signal_has_its_code() {
        let (suites, _) = read_suites("@ begin live\n\n@ end live 134\n@ done\n");
        assert_eq!(suites[0].status, Some(134));
    }

    #[test]
    fn the_demo_has_one_verdict() {
        let (suites, _) = read_suites(RESULTS);
        assert_eq!(demo(&suites[0].output), Demo { backend: "fexit".to_owned(), wrong: None });
        assert!(demo("").wrong.is_some());
        let other = "{\"type\":\"refused\",\"verdict\":{\"cause\":\"remote\"}}";
        assert!(demo(other).wrong.is_some_and(|wrong| wrong.contains("remote")));
        let twice = "{\"type\":\"refused\",\"verdict\":{\"cause\":\"wrong-address\"}}\n".repeat(2);
        assert!(demo(&twice).wrong.is_some());
    }

    #[test]
    fn binds_seen_as_system_calls_are_reported() {
        let start =
            |kind| format!("{{\"type\":\"start\",\"hooks\":[{{\"name\":\"x\",\"kind\":\"{kind}\"}}]}}");
        assert_eq!(demo(&start("tracepoint")).backend, "system call");
        assert_eq!(demo(&start("tp_btf")).backend, "nothing");
    }

    #[test]
    fn the_table_is_aligned() {
        let row = |kernel: &str, suite: &str, run, failed, not_possible| Row {
            kernel: kernel.to_owned(),
            backend: "fexit".to_owned(),
            suite: suite.to_owned(),
            run,
            failed,
            not_possible,
        };
        let table = table(&[row("5.10.0", "demo", 1, 0, 0), row("6.1", "live", 178, 1, 12)]);
        assert_eq!(
            table,
            "| kernel | bind() by | suite | run | failed | not possible |\n\
             |--------|-----------|-------|----:|-------:|-------------:|\n\
             | 5.10.0 | fexit     | demo  |   1 |      0 |            0 |\n\
             | 6.1    | fexit     | live  | 178 |      1 |           12 |\n"
        );
    }
}
