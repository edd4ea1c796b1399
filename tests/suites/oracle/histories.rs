//! Random histories against the contract of the causes: see [`tests::histories`].

use tests::binary::binary;
use tests::histories::run::{self, Options, Report};

/// Histories of an ordinary run; `cargo xtask soak --histories` runs more.
const COUNT: usize = 300;
const SEED: u64 = 18_789;

pub fn run() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let one = number("HISTORY");
    let options = Options {
        count: one.map_or_else(
            || number("HISTORIES").map_or(COUNT, |count| usize::try_from(count).expect("a small number")),
            |_| 1,
        ),
        seed: one.or_else(|| number("ORACLE_SEED")).unwrap_or(SEED),
        // A machine whose processors are taken answers late, which is not what is tested.
        arguments: vec!["--patience".to_owned(), "10s".to_owned()],
        shrunk: 8,
    };
    let report = run::run(&options, binary()).expect("histories");
    // A single history gives no share.
    let report = if one.is_some() { Report { unsure: 0, ..report } } else { report };
    report.check().unwrap_or_else(|error| panic!("{error}"));
}
