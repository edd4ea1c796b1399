//! Which kernel modules a guest loads, and in which order: each after those that it depends on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use object::{
    Endianness,
    read::{Object as _, ObjectSection as _, elf::ElfFile64},
};

use crate::cargo::shown;

/// What the tests make, and what tracer asks: sockets' lists, devices, and packet filters that refuse. A
/// module that a kernel does not have is built into that kernel, or makes tests impossible, which are counted.
const WANTED: [&str; 16] = [
    // Others find it by its algorithm's name instead of depending on it.
    "crc32c_generic",
    "brd",
    "inet_diag",
    "tcp_diag",
    "veth",
    "dummy",
    "fuse",
    "vrf",
    "nf_tables",
    "nft_reject_inet",
    "nft_reject_ipv4",
    "nft_reject_ipv6",
    "nft_chain_nat",
    "nft_nat",
    "nft_redir",
    "nft_masq",
];

/// A module and what is in its file.
pub struct Module {
    /// As lsmod(8) prints it.
    pub name: String,
    /// The ELF file, no longer compressed.
    pub bytes: Vec<u8>,
}

/// The wanted modules of those under `directory`, in the order to load them in.
pub fn read(directory: &Path) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    find(directory, &mut files)?;
    let mut contents = BTreeMap::new();
    let order = load_order(&WANTED, |name| {
        let Some(path) = files.get(name) else { return Ok(None) };
        let bytes = decompressed(path)?;
        let modinfo = modinfo(&bytes).with_context(|| format!("`{}` is not a module", path.display()))?;
        contents.insert(name.to_owned(), bytes);
        Ok(Some(depends(&modinfo)))
    })?;
    let module = |name: String| {
        let bytes = contents.remove(&name).expect("each in the order was read");
        Module { name, bytes }
    };
    Ok(order.into_iter().map(module).collect())
}

/// Notes each module's file by the module's name.
fn find(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let unreadable = || format!("cannot read `{}`", directory.display());
    for entry in fs::read_dir(directory).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        if entry.file_type().with_context(unreadable)?.is_dir() {
            find(&entry.path(), files)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            files.insert(name.replace('-', "_"), entry.path());
        }
    }
    Ok(())
}

fn decompressed(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => return fs::read(path).with_context(|| format!("cannot read `{}`", path.display())),
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => bail!("`{}` is compressed in a way that is not known", path.display()),
    };
    let mut command = Command::new(program);
    command.args(["--decompress", "--stdout"]).arg(path);
    let output = command.output().with_context(|| format!("cannot run `{}`", shown(&command)))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", shown(&command), output.status);
    }
    Ok(output.stdout)
}

/// The information in a module: `key=value`, each ended by a NUL.
fn modinfo(module: &[u8]) -> Result<Vec<u8>> {
    let file = ElfFile64::<Endianness>::parse(module)?;
    let section = file.section_by_name(".modinfo").context("it has no section `.modinfo`")?;
    Ok(section.data()?.to_vec())
}

/// The names of the modules whose symbols a module uses.
fn depends(modinfo: &[u8]) -> Vec<String> {
    let fields = modinfo.split(|byte| *byte == 0);
    let values = fields.filter_map(|field| field.strip_prefix(b"depends="));
    let names = values.flat_map(|value| value.split(|byte| *byte == b','));
    names
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).replace('-', "_"))
        .collect()
}

/// The wanted modules and all that they depend on, each after those that it depends on; `depends` gives none
/// for a module that does not exist.
fn load_order(
    wanted: &[&str],
    mut depends: impl FnMut(&str) -> Result<Option<Vec<String>>>,
) -> Result<Vec<String>> {
    /// Depth first, so that what is needed comes before what needs it.
    fn visit(
        name: &str,
        depends: &mut dyn FnMut(&str) -> Result<Option<Vec<String>>>,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<String>,
    ) -> Result<()> {
        if !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(needed) = depends(name)? else { return Ok(()) };
        for needed in needed {
            visit(&needed, depends, seen, order)?;
        }
        order.push(name.to_owned());
        Ok(())
    }
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    for name in wanted {
        visit(name, &mut depends, &mut seen, &mut order)?;
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_depends_on_is_in_its_own_words() {
        let modinfo = b"license=GPL\0depends=nf_tables,nf-reject-ipv4\0name=nft_reject\0";
        assert_eq!(depends(modinfo), ["nf_tables", "nf_reject_ipv4"]);
        assert!(depends(b"license=GPL\0depends=\0").is_empty());
        assert!(depends(b"").is_empty());
    }

    #[test]
    fn a_module_comes_after_those_that_it_depends_on() {
        let order = load_order(&["tcp_diag", "nft_reject", "gone", "veth"], |name| {
            Ok(match name {
                "tcp_diag" => Some(vec!["inet_diag".to_owned()]),
                "nft_reject" => Some(vec!["nf_tables".to_owned(), "builtin".to_owned()]),
                "nf_tables" => Some(vec!["nfnetlink".to_owned()]),
                "inet_diag" | "nfnetlink" | "veth" => Some(Vec::new()),
                _ => None,
            })
        });
        let expected = ["inet_diag", "tcp_diag", "nfnetlink", "nf_tables", "nft_reject", "veth"];
        assert_eq!(order.unwrap(), expected);
    }
}
