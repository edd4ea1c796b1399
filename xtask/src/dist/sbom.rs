//! The list of what the binary consists of, beside it: a bill of materials in CycloneDX's format, version 1.5.
//!
//! A small generator of its own: `cargo cyclonedx` lists the crates of a manifest, with the features of the whole workspace,
//! and neither those of the kernel side nor what the linker adds.

use std::process::Command;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Serialize;

use super::crates::{Crate, Crates, Kind};
use crate::{cargo::output, digest, supply};

/// What the linker adds to the crates.
pub struct Toolchain {
    libraries: [Library; 3],
}

/// A library that is not a crate.
struct Library {
    name: &'static str,
    version: String,
    licence: &'static str,
}

impl Toolchain {
    /// That of this host: Rust's standard library, the C library, and the compiler's own.
    pub fn of_host() -> Result<Self> {
        let rustc = output(Command::new("rustc").arg("-vV"))?;
        let release = rustc.lines().find_map(|line| line.strip_prefix("release: "));
        let release = release.context("`rustc -vV` names no release")?.to_owned();
        let libc = output(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
        let libc = libc.strip_prefix("glibc ").context("the C library is not glibc")?.to_owned();
        let gcc = output(Command::new("cc").arg("-dumpfullversion"))?;
        let library = |name, version, licence| Library { name, version, licence };
        Ok(Self {
            libraries: [
                library("std", release, "MIT OR Apache-2.0"),
                library("glibc", libc, "LGPL-2.1-or-later"),
                library("libgcc", gcc, "GPL-3.0-or-later WITH GCC-exception-3.1"),
            ],
        })
    }
}

// Structures, whose fields are written in this order: that of a map depends on the features that other crates ask of
// serde_json.

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bill<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    bom_format: &'static str,
    spec_version: &'static str,
    serial_number: String,
    version: u32,
    metadata: Metadata<'a>,
    components: Vec<Component<'a>>,
    dependencies: Vec<Dependencies>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    timestamp: String,
    lifecycles: [Phase; 1],
    component: Component<'a>,
}

#[derive(Serialize)]
struct Phase {
    phase: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Component<'a> {
    r#type: &'static str,
    #[serde(rename = "bom-ref")]
    reference: String,
    name: &'a str,
    version: String,
    scope: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<Licence>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_references: Vec<Reference<'a>>,
}

#[derive(Serialize)]
struct Hash<'a> {
    alg: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct Licence {
    expression: String,
}

#[derive(Serialize)]
struct Reference<'a> {
    r#type: &'static str,
    url: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependencies {
    r#ref: String,
    depends_on: Vec<String>,
}

/// The bill of this binary, as JSON.
pub fn text(crates: &Crates, toolchain: &Toolchain, binary: &[u8], time: Timestamp) -> Result<String> {
    let digest = digest::of_bytes(binary);
    let root = Component {
        r#type: "application",
        hashes: vec![Hash { alg: "SHA-256", content: &digest }],
        ..component(crates.root())
    };
    let others = crates.all.iter().filter(|one| !crates.is_root(one));
    let dependencies = crates.all.iter().map(|one| {
        let mut depends_on: Vec<_> =
            one.dependencies.iter().map(|&place| reference(&crates.all[place])).collect();
        if crates.is_root(one) {
            depends_on.extend(toolchain.libraries.iter().map(Library::reference));
        }
        Dependencies { r#ref: reference(one), depends_on }
    });
    let bill = Bill {
        schema: "http://cyclonedx.org/schema/bom-1.5.schema.json",
        bom_format: "CycloneDX",
        spec_version: "1.5",
        serial_number: serial_number(&digest),
        version: 1,
        metadata: Metadata {
            timestamp: time.to_string(),
            lifecycles: [Phase { phase: "build" }],
            component: root,
        },
        components: others.map(component).chain(toolchain.libraries.iter().map(Library::component)).collect(),
        dependencies: dependencies.collect(),
    };
    Ok(serde_json::to_string_pretty(&bill).context("cannot write JSON")? + "\n")
}

impl Library {
    fn reference(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    fn component(&self) -> Component<'_> {
        Component {
            r#type: "library",
            reference: self.reference(),
            name: self.name,
            version: self.version.clone(),
            scope: "required",
            hashes: Vec::new(),
            licenses: vec![Licence { expression: self.licence.to_owned() }],
            purl: None,
            external_references: Vec::new(),
        }
    }
}

fn component(one: &Crate) -> Component<'_> {
    Component {
        r#type: "library",
        reference: reference(one),
        name: &one.name,
        version: one.version.to_string(),
        scope: match one.kind {
            Kind::Runtime => "required",
            Kind::Build => "excluded",
        },
        hashes: one.checksum.iter().map(|content| Hash { alg: "SHA-256", content }).collect(),
        licenses: one
            .licence
            .iter()
            .filter_map(|text| supply::canonical(text))
            .map(|expression| Licence { expression })
            .collect(),
        purl: purl(one),
        external_references: one.repository.iter().map(|url| Reference { r#type: "vcs", url }).collect(),
    }
}

/// What other parts of the bill name it by.
fn reference(one: &Crate) -> String {
    purl(one).unwrap_or_else(|| format!("{}@{}", one.name, one.version))
}

/// The package's URL; none for a crate of the workspace, since another may have its name on crates.io.
fn purl(one: &Crate) -> Option<String> {
    let version = one.version.to_string().replace('+', "%2B");
    one.is_from_registry().then(|| format!("pkg:cargo/{}@{version}", one.name))
}

/// A UUID of version 8 (RFC 9562) from the binary's digest: the same binary has the same bill.
fn serial_number(digest: &str) -> String {
    format!(
        "urn:uuid:{}-{}-8{}-a{}-{}",
        &digest[..8],
        &digest[8..12],
        &digest[13..16],
        &digest[17..20],
        &digest[20..32]
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// CycloneDX's own schemas (Apache-2.0), as its package cyclonedx-python-lib 11.12.0 has them.
    const SCHEMA: &str = include_str!("schema/bom-1.5.SNAPSHOT.schema.json");
    const SCHEMAS: [(&str, &str); 2] = [
        (
            "http://cyclonedx.org/schema/spdx.SNAPSHOT.schema.json",
            include_str!("schema/spdx.SNAPSHOT.schema.json"),
        ),
        (
            "http://cyclonedx.org/schema/jsf-0.82.SNAPSHOT.schema.json",
            include_str!("schema/jsf-0.82.SNAPSHOT.schema.json"),
        ),
    ];

    fn crates() -> Crates {
        Crates::of("x86_64-unknown-linux-gnu").unwrap()
    }

    fn bill(crates: &Crates) -> Value {
        let time = Timestamp::from_second(1_700_000_000).unwrap();
        let text = text(crates, &Toolchain::of_host().unwrap(), b"binary", time).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// What the schema finds wrong.
    fn errors(bill: &Value) -> Vec<String> {
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let mut registry = jsonschema::Registry::new();
        for (uri, text) in SCHEMAS {
            registry = registry.add(uri, parse(text)).unwrap();
        }
        let registry = registry.prepare().unwrap();
        let schema = parse(SCHEMA);
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .with_registry(&registry)
            .build(&schema)
            .unwrap();
        validator.iter_errors(bill).map(|error| error.to_string()).collect()
    }

    #[test]
    fn the_bill_is_valid() {
        assert_eq!(errors(&bill(&crates())), [""; 0]);
    }

    #[test]
    fn a_bill_that_is_not_valid_is_noticed() {
        let mut wrong = bill(&crates());
        wrong["serialNumber"] = "1".into();
        wrong["components"][0]["type"] = "crate".into();
        assert_eq!(errors(&wrong).len(), 2);
    }

    #[test]
    fn every_crate_is_listed_with_its_version_and_licence() {
        let crates = crates();
        let bill = bill(&crates);
        let listed = |one: &Crate| {
            let components =
                bill["components"].as_array().unwrap().iter().chain([&bill["metadata"]["component"]]);
            let mut same = components.filter(|component| {
                component["name"] == one.name && component["version"] == one.version.to_string()
            });
            let component = same.next().unwrap_or_else(|| panic!("{} {}", one.name, one.version));
            assert!(same.next().is_none(), "{} is listed twice", one.name);
            component["licenses"][0]["expression"].as_str().map(str::to_owned)
        };
        for one in &crates.all {
            assert_eq!(listed(one), supply::canonical(one.licence.as_ref().unwrap()), "{}", one.name);
        }
    }

    #[test]
    fn every_reference_leads_to_a_component() {
        let bill = bill(&crates());
        let components =
            bill["components"].as_array().unwrap().iter().chain([&bill["metadata"]["component"]]);
        let known: BTreeSet<_> = components.map(|component| component["bom-ref"].as_str().unwrap()).collect();
        for dependency in bill["dependencies"].as_array().unwrap() {
            for reference in dependency["dependsOn"].as_array().unwrap().iter().chain([&dependency["ref"]]) {
                assert!(known.contains(reference.as_str().unwrap()), "{reference}");
            }
        }
    }

    #[test]
    fn the_libraries_of_the_toolchain_are_listed() {
        let bill = bill(&crates());
        let names: Vec<_> = bill["components"]
            .as_array()
            .unwrap()
            .iter()
            .map(|component| component["name"].as_str().unwrap())
            .collect();
        for name in ["std", "glibc", "libgcc"] {
            assert!(names.contains(&name), "{name}");
        }
    }

    #[test]
    fn the_serial_number_is_a_uuid_of_the_digest() {
        let digest = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        assert_eq!(serial_number(digest), "urn:uuid:00112233-4455-8677-a899-aabbccddeeff");
    }
}
