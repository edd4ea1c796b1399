//! An archive whose bytes depend on nothing but the names, modes and contents of its members, and one time.

use std::io::Write as _;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use jiff::Timestamp;
use tar::{Builder, EntryType, Header};

/// A file of the archive.
pub struct Member {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
    /// Whether it is a program.
    pub is_executable: bool,
}

/// Packs the members into a folder of this name, as a compressed archive.
pub fn pack(folder: &str, mut members: Vec<Member>, time: Timestamp) -> Result<Vec<u8>> {
    members.sort_by(|one, other| one.name.cmp(&other.name));
    let mut builder = Builder::new(Vec::new());
    let mut append = |kind, path: &str, mode, bytes: &[u8]| {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(u64::try_from(time.as_second()).unwrap_or(0));
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, path, bytes).with_context(|| format!("cannot pack `{path}`"))
    };
    append(EntryType::Directory, &format!("{folder}/"), 0o755, &[])?;
    for Member { name, bytes, is_executable } in &members {
        let mode = if *is_executable { 0o755 } else { 0o644 };
        append(EntryType::Regular, &format!("{folder}/{name}"), mode, bytes)?;
    }
    let archive = builder.into_inner().context("cannot pack")?;
    // Its header has neither a time nor a name, and 255, "unknown", for the system.
    let mut compressor =
        GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
    compressor.write_all(&archive).and_then(|()| compressor.finish()).context("cannot compress")
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, path::Path};

    use flate2::read::GzDecoder;

    use super::*;

    fn members() -> Vec<Member> {
        let member = |name: &str, is_executable| Member {
            name: name.to_owned(),
            bytes: name.as_bytes().to_vec(),
            is_executable,
        };
        vec![member("tracer", true), member("README.md", false)]
    }

    fn time() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    #[test]
    fn the_order_of_the_members_does_not_matter() {
        let reversed = members().into_iter().rev().collect();
        assert_eq!(pack("t", members(), time()).unwrap(), pack("t", reversed, time()).unwrap());
    }

    #[test]
    fn every_member_belongs_to_root_and_has_the_time_of_the_sources() {
        let packed = pack("t", members(), time()).unwrap();
        assert_eq!(packed[4..8], [0; 4], "gzip has a time");
        let mut archive = tar::Archive::new(GzDecoder::new(&packed[..]));
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            assert_eq!(header.mtime().unwrap(), 1_700_000_000);
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.push((entry.path().unwrap().into_owned(), header.mode().unwrap(), text));
        }
        let expected =
            [("t/", 0o755, ""), ("t/README.md", 0o644, "README.md"), ("t/tracer", 0o755, "tracer")];
        let expected = expected.map(|(path, mode, text)| (Path::new(path).to_owned(), mode, text.to_owned()));
        assert_eq!(found, expected);
    }
}
