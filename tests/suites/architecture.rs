//! The modules of tracer/src: which may import which, and what the pure ones may not use. Each test reads the sources.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules, from the lowest layer up, and those that each may import beside itself. A file beside the folders is a module
/// of its own.
const MODULES: &[(&str, &[&str])] = &[
    ("stdio", &[]),
    ("exit", &["stdio"]),
    ("memory", &[]),
    ("model", &[]),
    ("products", &["model"]),
    ("query", &["model", "products"]),
    ("sandbox", &["model"]),
    ("host", &["model", "products", "query", "sandbox"]),
    // What a host lacks is found by a query.
    ("bpf", &["model", "stdio", "exit", "memory", "host", "sandbox"]),
    ("stream", &["model", "bpf", "host"]),
    ("state", &["model", "products", "query"]),
    ("verdict", &["model", "query", "state"]),
    ("lifecycle", &["model", "products", "query", "state", "verdict"]),
    ("output", &["model", "products", "query", "state", "verdict", "lifecycle"]),
    ("run", &["model", "products", "query", "lifecycle", "output"]),
    ("record", &["run"]),
    ("cli", &["model", "exit", "bpf", "output", "products"]),
];

/// Those that may import every module.
const TOP: &[&str] = &["cmd", "fuzz", "lib", "main"];

/// Functions of their arguments: no clock, no I/O, nothing that differs in a second run.
const PURE: &[&str] =
    &["model", "products", "query", "state", "verdict", "lifecycle", "output", "run", "record"];

/// The files of pure modules that write to stdout.
const WRITES: &[&str] = &["output/sink.rs"];

/// What a pure module may not name. A type of an address is data, and so is the number of a signal or an error.
const IMPURE: &[&str] = &[
    "crate::bpf",
    "crate::host",
    "crate::cmd",
    "crate::stream",
    "std::fs",
    "std::process",
    "std::env",
    "std::thread",
    "std::os::fd",
    "std::os::unix::net",
    // A group would hide the rest of this list.
    "std::{",
    "io::stdout",
    "io::stderr",
    "io::stdin",
    "print!(",
    "println!(",
    // Alone or in a group of `std::net`.
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "Instant",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "TimeZone::system",
    "Uuid::new",
    "rustix::",
    "tokio::",
];

/// Whether a line names something that a pure module may not. Hash tables have a random seed, and no result depends on
/// their order: [`tracer::model::hash`].
fn is_impure(line: &str) -> bool {
    let line = line.replace("ahash::RandomState", "");
    line.contains("RandomState")
        || IMPURE.iter().any(|name| line.contains(name))
        || names_behind(&line, "libc::").any(|name| name.starts_with(|char: char| char.is_ascii_lowercase()))
}

/// What stands behind each occurrence of a path.
fn names_behind<'a>(line: &'a str, path: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(path).map(move |(at, _)| &line[at + path.len()..])
}

/// Folders whose `mod.rs` lists each file with its job.
const LISTED: &[&str] = &[
    "model",
    "query",
    "host",
    "bpf",
    "stream",
    "state",
    "lifecycle",
    "verdict",
    "verdict/scene",
    "output",
    "output/hints",
    "output/text",
    "cmd",
];

/// A file of tracer/src.
struct Source {
    /// Below tracer/src.
    path: String,
    text: String,
    /// Without comments and without its unit tests, line by line.
    code: Vec<(usize, String)>,
}

impl Source {
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn is_pure(&self) -> bool {
        PURE.contains(&self.module()) && !WRITES.contains(&self.path.as_str())
    }

    /// The modules that it names, each with a line that does. A path of `super` stays in the module, but from a file beside
    /// the folders.
    fn imports(&self) -> Vec<(usize, String)> {
        let mut imports = Vec::new();
        for (number, line) in &self.code {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                assert!(!rest.starts_with('{'), "{}:{number}: a path for each module: {line}", self.path);
                let is_word = |char: char| char.is_alphanumeric() || char == '_';
                let module: String = rest.chars().take_while(|char| is_word(*char)).collect();
                imports.push((*number, module));
            }
        }
        imports
    }
}

/// Without what is behind `//` and without modules of tests, which stand last in a file.
fn code(text: &str) -> Vec<(usize, String)> {
    let lines = text.lines().zip(1..).take_while(|(line, _)| *line != "mod tests {");
    let code = lines.filter(|(line, _)| !line.trim_start().starts_with("//"));
    code.map(|(line, number)| (number, line.split(" // ").next().unwrap_or_default().to_owned())).collect()
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tracer/src");
    let mut sources: Vec<Source> = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(source(&root, path));
            }
        }
    }
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(sources.len() > 50, "the sources are there");
    sources
}

fn source(root: &Path, path: PathBuf) -> Source {
    let text = fs::read_to_string(&path).expect("a source");
    let below = path.strip_prefix(root).expect("below the root").to_str().expect("UTF-8").to_owned();
    let code = code(&text);
    Source { path: below, text, code }
}

/// Fails with everything that was found.
fn assert_none(what: &str, found: &[String]) {
    let mut list = String::new();
    for one in found {
        let _ = writeln!(list, "  {one}");
    }
    assert!(found.is_empty(), "{what}:\n{list}");
}

/// Every line of code that `is_it` takes.
fn lines(sources: &[Source], is_it: impl Fn(&Source, &str) -> bool) -> Vec<String> {
    let of = |source: &Source| -> Vec<String> {
        let lines = source.code.iter().filter(|(_, line)| is_it(source, line));
        lines.map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim())).collect()
    };
    sources.iter().flat_map(of).collect()
}

#[test]
fn no_module_imports_one_above_it() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !TOP.contains(&source.module())) {
        let module = MODULES.iter().find(|(name, _)| *name == source.module());
        let Some((_, allowed)) = module else {
            found.push(format!(
                "{}: `{}` is a new module: give it a layer here",
                source.path,
                source.module()
            ));
            continue;
        };
        for (number, imported) in source.imports() {
            if imported != source.module() && !allowed.contains(&imported.as_str()) {
                found.push(format!("{}:{number}: {} imports {imported}", source.path, source.module()));
            }
        }
    }
    assert_none("imports that run up", &found);
}

#[test]
fn the_layers_have_no_cycle() {
    for (place, (module, allowed)) in MODULES.iter().enumerate() {
        let below: BTreeSet<&str> = MODULES[..place].iter().map(|(name, _)| *name).collect();
        for name in *allowed {
            assert!(below.contains(name), "{module} may import {name}, which does not stand below it");
        }
    }
}

#[test]
fn the_pure_modules_have_no_side_effects() {
    let names = |source: &Source, line: &str| source.is_pure() && is_impure(line);
    assert_none("not pure", &lines(&sources(), names));
}

/// `tracer_ebpf` is the wire format that both sides share. Its bounds are numbers, and have one place: a pure module takes
/// these, and no record.
#[test]
fn the_pure_modules_take_only_numbers_of_the_wire_format() {
    let is_number = |name: &str| {
        let word: String = name.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect();
        !word.is_empty() && word.chars().all(|char| char.is_ascii_uppercase() || char == '_')
    };
    let takes_more =
        |source: &Source, line: &str| source.is_pure() && !names_behind(line, "tracer_ebpf::").all(is_number);
    assert_none("more than a number of the wire format", &lines(&sources(), takes_more));
}

#[test]
fn what_is_impure_is_found_however_it_is_written() {
    for line in [
        "use std::net::{IpAddr, UdpSocket};",
        "use std::hash::{BuildHasher, RandomState};",
        "let now = unsafe { libc::clock_gettime(id, &mut time) };",
        "use std::{fs, io};",
        "eprintln!(\"a line\");",
    ] {
        assert!(is_impure(line), "{line}");
    }
    for line in [
        "use std::net::{IpAddr, SocketAddr};",
        "pub type HashSet<K> = std::collections::HashSet<K, ahash::RandomState>;",
        "ExitStatus::Signal(libc::SIGKILL)",
        "$(libc::$name => Self::$name,)+",
    ] {
        assert!(!is_impure(line), "{line}");
    }
}

#[test]
fn only_output_and_what_is_above_it_knows_the_schema() {
    let may = |module: &str| ["output", "run", "cli"].contains(&module) || TOP.contains(&module);
    let names = |source: &Source, line: &str| line.contains("output::schema") && !may(source.module());
    assert_none("the published types are known", &lines(&sources(), names));
}

#[test]
fn results_are_returned() {
    const RESULTS: [&str; 7] =
        ["Line", "Finding", "Transition", "Query", "QueryKind", "Answer", "ConfigChanged"];
    let is_out = |_: &Source, line: &str| {
        let kinds = line.match_indices("&mut Vec<").map(|(at, found)| &line[at + found.len()..]);
        line.contains(": &mut Vec<")
            && kinds.into_iter().any(|kind| RESULTS.iter().any(|one| kind.starts_with(&format!("{one}>"))))
    };
    assert_none("a parameter that results are added to", &lines(&sources(), is_out));
}

#[test]
fn each_file_states_its_purpose() {
    let all = sources();
    let silent = all.iter().filter(|source| !source.text.starts_with("//! "));
    assert_none("no first line `//! ...`", &silent.map(|source| source.path.clone()).collect::<Vec<_>>());
}

#[test]
fn a_folder_with_a_list_of_its_files_lists_them_all() {
    let all = sources();
    let mut found = Vec::new();
    for folder in LISTED {
        let index = all.iter().find(|source| source.path == format!("{folder}/mod.rs"));
        let list = &index.expect("a folder has a mod.rs").text;
        let below = |source: &&Source| source.path.starts_with(&format!("{folder}/"));
        for source in all.iter().filter(below) {
            let name = source.path[folder.len() + 1..].trim_end_matches(".rs").trim_end_matches("/mod");
            let is_in_list = list.lines().any(|line| {
                let names = [format!("`{name}`"), format!("`{name}.rs`"), format!("`{name}/`")];
                line.starts_with("//! | ") && names.iter().any(|name| line.contains(name))
            });
            // A folder in it has a list of its own.
            let is_listed_below = LISTED.iter().any(|other| {
                other.starts_with(&format!("{folder}/"))
                    && source.path.starts_with(&format!("{other}/"))
                    && !source.path.ends_with("/mod.rs")
            });
            if name != "mod" && !is_in_list && !is_listed_below {
                found.push(source.path.clone());
            }
        }
    }
    assert_none("not in the list of the folder", &found);
}

#[test]
fn each_file_is_a_module() {
    let all = sources();
    let is_declared = |source: &&Source| {
        let path = Path::new(&source.path);
        let (mut name, mut folder) = (path.file_stem(), path.parent().unwrap_or(Path::new("")));
        if name.is_some_and(|name| name == "mod") {
            name = folder.file_name();
            folder = folder.parent().unwrap_or(Path::new(""));
        }
        let name = name.and_then(|name| name.to_str()).unwrap_or_default();
        let declares = |parent: &Source| {
            let place = Path::new(&parent.path);
            let is_parent = place == folder.join("mod.rs")
                || place == folder.join("lib.rs")
                || place == folder.with_extension("rs");
            is_parent && parent.code.iter().any(|(_, line)| line.ends_with(&format!("mod {name};")))
        };
        ["lib.rs", "main.rs"].contains(&source.path.as_str()) || all.iter().any(declares)
    };
    let lost = all.iter().filter(|source| !is_declared(source));
    assert_none("compiled by nothing", &lost.map(|source| source.path.clone()).collect::<Vec<_>>());
}

#[test]
fn no_number_stands_for_nothing() {
    let is_sentinel = |_: &Source, line: &str| line.contains("NetnsId(0)") || line.contains("Mono(u64::MAX)");
    let found = lines(&sources(), is_sentinel);
    // Its one name.
    let found: Vec<String> = found.into_iter().filter(|one| !one.starts_with("model/time.rs:")).collect();
    assert_none("an `Option` would show it", &found);
}

#[test]
fn a_published_type_has_no_derived_order() {
    let derives = |source: &Source, line: &str| {
        let is_published = source.path == "output/schema.rs" && line.contains("Serialize");
        is_published && line.contains("derive(") && line.contains("Ord")
    };
    assert_none("an order that is only a declaration's", &lines(&sources(), derives));
}

#[test]
fn the_guide_names_every_module() {
    let all = sources();
    let guide = &all.iter().find(|source| source.path == "lib.rs").expect("lib.rs").text;
    let modules = all.iter().map(Source::module).filter(|module| !["lib", "main"].contains(module));
    let modules: BTreeSet<&str> = modules.collect();
    let is_missing = |module: &&str| {
        let name = format!("`{module}`");
        !guide.lines().any(|line| line.starts_with("//! | ") && line.contains(&name))
    };
    let missing: Vec<String> = modules.into_iter().filter(is_missing).map(str::to_owned).collect();
    assert_none("not in lib.rs", &missing);
}

#[test]
fn each_path_of_the_guide_exists() {
    let guide = sources().into_iter().find(|source| source.path == "lib.rs").expect("lib.rs").text;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let rows = guide.lines().filter(|line| line.starts_with("//! | "));
    // What stands between two backticks.
    let paths = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let is_path = |path: &&str| path.ends_with(".rs") || path.ends_with('/');
    let is_lost = |path: &&str| {
        !path.contains("NAME")
            && ![root.join("tracer/src"), root.into()].iter().any(|at| at.join(path).exists())
    };
    let lost: Vec<String> = paths.filter(is_path).filter(is_lost).map(str::to_owned).collect();
    assert_none("in no folder", &lost);
}
