//! The tests that docs/faults.md and the patches name: they exist.

use std::{collections::BTreeSet, fs, path::Path};

use crate::cargo::root;

/// Every `program name` in backticks.
fn named(document: &str) -> BTreeSet<&str> {
    let words = document
        .lines()
        .filter(|line| line.starts_with("| "))
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    words.filter(|words| words.split(' ').count() == 2).collect()
}

/// The sources under a directory, one after the other.
fn sources(directory: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            text.push_str(&sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
    text
}

/// The source of a module of tracer.
fn module(path: &str) -> Option<String> {
    let path = root().join("tracer/src").join(path.replace("::", "/"));
    fs::read_to_string(path.with_extension("rs")).or_else(|_| fs::read_to_string(path.join("mod.rs"))).ok()
}

/// Those of these tests, each `program name`, that do not exist.
pub fn missing<'a>(tests: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let suites = sources(&root().join("tests"));
    let is_there = |test: &str| {
        let (program, name) = test.split_once(' ').unwrap();
        let (path, function) = name.rsplit_once("::").unwrap_or(("", name));
        let function_of = |text: &str, name: &str| text.contains(&format!("fn {name}("));
        match program {
            "lib" => {
                path.strip_suffix("::tests").and_then(module).is_some_and(|text| function_of(&text, function))
            }
            // A function, or a libtest-mimic test by the end of its name.
            _ => function_of(&suites, function) || suites.contains(&format!("{function}\"")),
        }
    };
    tests.into_iter().filter(|test| !is_there(test)).collect()
}

#[test]
fn every_test_that_the_document_names_exists() {
    let document = fs::read_to_string(root().join("docs/faults.md")).unwrap();
    let tests = named(&document);
    assert!(tests.len() > 50, "the document names {} tests", tests.len());
    let missing = missing(tests);
    assert!(missing.is_empty(), "docs/faults.md names tests that do not exist: {missing:?}");
}
