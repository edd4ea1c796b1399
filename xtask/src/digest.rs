//! The digest that ties the checked-in eBPF object to its sources.
//!
//! `cargo xtask build-ebpf` writes it beside the object; the build script of `tracer` includes this
//! file too, computes it again, and stops the build when the two differ.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

/// The checked-in object.
pub const OBJECT: &str = "tracer-ebpf/tracer.bpf.o";

/// What the object was built from and by: lines of `key = "value"`.
pub const SIDECAR: &str = "tracer-ebpf/tracer.bpf.toml";

/// The sources of the kernel side.
pub const SOURCES: &str = "tracer-ebpf/src";

/// The manifest of the kernel side.
pub const MANIFEST: &str = "tracer-ebpf/Cargo.toml";

/// The versions of the crates it is built with.
pub const LOCK: &str = "Cargo.lock";

/// The digest of everything the object's code comes from: each file of `tracer-ebpf/src` with its path,
/// the crate's manifest, and the locked versions of the crates that are compiled into it.
pub fn of_sources(root: &Path) -> io::Result<String> {
    let mut files = vec![PathBuf::from(MANIFEST)];
    collect(root, Path::new(SOURCES), &mut files)?;
    files.sort();
    let mut hasher = Sha256::new();
    for file in &files {
        let contents = at(file, fs::read(root.join(file)))?;
        add(&mut hasher, file.to_string_lossy().as_bytes());
        add(&mut hasher, &contents);
    }
    let lock = Path::new(LOCK);
    for line in locked(&at(lock, fs::read_to_string(root.join(lock)))?) {
        add(&mut hasher, line.as_bytes());
    }
    Ok(hex(&hasher.finalize()))
}

/// The digest of the bytes alone, as `sha256sum` prints it.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The value of one key of the sidecar.
pub fn recorded<'a>(sidecar: &'a str, key: &str) -> Option<&'a str> {
    sidecar.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let value = value.trim().strip_prefix('"')?.strip_suffix('"')?;
        (name.trim() == key).then_some(value)
    })
}

/// Adds a piece with its length, so that no two sequences of pieces read the same.
fn add(hasher: &mut Sha256, piece: &[u8]) {
    hasher.update((piece.len() as u64).to_le_bytes());
    hasher.update(piece);
}

/// Every file below `folder`; without hidden files and the backups that editors leave behind.
fn collect(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in at(folder, fs::read_dir(root.join(folder)))? {
        let entry = at(folder, entry)?;
        let name = entry.file_name();
        let left_behind = name.to_string_lossy();
        if left_behind.starts_with('.') || left_behind.ends_with('~') {
            continue;
        }
        let path = folder.join(&name);
        if at(&path, fs::metadata(root.join(&path)))?.is_dir() {
            collect(root, &path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// `name version checksum` of each crate that ends up in the object, sorted. The proc macros' own
/// dependencies are not among them: `syn` may move without a rebuild.
fn locked(lock: &str) -> Vec<String> {
    let value = |package: &str, key: &str| recorded(package, key).unwrap_or_default().to_owned();
    let mut crates: Vec<_> = lock
        .split("[[package]]")
        .skip(1)
        .filter(|package| {
            recorded(package, "name").is_some_and(|name| {
                name.starts_with("aya-ebpf") || name.starts_with("aya-log-ebpf") || name == "aya-log-common"
            })
        })
        .map(|package| ["name", "version", "checksum"].map(|key| value(package, key)).join(" "))
        .collect();
    crates.sort();
    crates
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names the file in an I/O error.
fn at<T>(path: &Path, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("cannot read `{}`: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The versions of the crates it is built with.
    pub const LOCKED: &str = "\
version = 4

[[package]]
name = \"aya-ebpf\"
version = \"0.2.1\"
source = \"registry+https://github.com/rust-lang/crates.io-index\"
checksum = \"eace\"
dependencies = [
 \"aya-log-common\",
]

[[package]]
name = \"syn\"
version = \"2.0.0\"
checksum = \"51\"
";

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let put = |path: &str, contents: &str| {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents).unwrap();
        };
        put("tracer-ebpf/Cargo.toml", "[package]");
        put("tracer-ebpf/src/main.rs", "fn main() {}");
        put("tracer-ebpf/src/hooks/state.rs", "");
        put("Cargo.lock", LOCKED);
        tree
    }

    fn after(path: &str, contents: &str) -> String {
        let tree = tree();
        fs::write(tree.path().join(path), contents).unwrap();
        of_sources(tree.path()).unwrap()
    }

    #[test]
    fn the_same_sources_give_the_same_digest_in_any_folder() {
        assert_eq!(of_sources(tree().path()).unwrap(), of_sources(tree().path()).unwrap());
    }

    #[test]
    fn a_change_of_what_is_compiled_changes_the_digest() {
        let before = of_sources(tree().path()).unwrap();
        for (path, contents) in [
            ("tracer-ebpf/src/main.rs", "fn main() { }"),
            ("tracer-ebpf/src/hooks/state.rs", "\n"),
            ("tracer-ebpf/src/hooks/new.rs", ""),
            ("tracer-ebpf/Cargo.toml", "[package]\n"),
            ("Cargo.lock", &LOCKED.replace("0.2.1", "0.2.2")),
            ("Cargo.lock", &LOCKED.replace("eace", "eacf")),
        ] {
            assert_ne!(after(path, contents), before, "{path}");
        }
    }

    #[test]
    fn a_change_of_anything_else_does_not() {
        let before = of_sources(tree().path()).unwrap();
        for (path, contents) in [
            ("tracer-ebpf/src/.main.rs.swp", "x"),
            ("tracer-ebpf/src/main.rs~", "x"),
            ("tracer-ebpf/tracer.bpf.o", "x"),
            ("Cargo.lock", &LOCKED.replace("2.0.0", "2.0.1")),
        ] {
            assert_eq!(after(path, contents), before, "{path}");
        }
    }

    #[test]
    fn a_move_from_one_file_to_the_next_changes_the_digest() {
        let tree = tree();
        let file = |name: &str| tree.path().join("tracer-ebpf/src").join(name);
        fs::write(file("a.rs"), "one").unwrap();
        fs::write(file("b.rs"), "two").unwrap();
        let before = of_sources(tree.path()).unwrap();
        fs::write(file("a.rs"), "onet").unwrap();
        fs::write(file("b.rs"), "wo").unwrap();
        assert_ne!(of_sources(tree.path()).unwrap(), before);
    }

    #[test]
    fn a_digest_is_what_sha256sum_prints() {
        assert_eq!(of_bytes(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_missing_source_is_named() {
        let error = of_sources(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.contains("`tracer-ebpf/src`"), "{error}");
    }

    #[test]
    fn the_record_is_read_by_key() {
        let sidecar = "# comment = \"no\"\nsources = \"ab\"\nrustc = \"rustc 1.96.0 (a = b)\"\n";
        assert_eq!(recorded(sidecar, "sources"), Some("ab"));
        assert_eq!(recorded(sidecar, "rustc"), Some("rustc 1.96.0 (a = b)"));
        assert_eq!(recorded(sidecar, "object"), None);
    }
}
