//! Traffic and system calls on a stock kernel that takes fexit programs, emulated, where this one refuses them.
//!
//! An emulated processor takes its own time for everything, so that its rates mean nothing; what its ratios mean
//! depends on how much of them is work that hardware does otherwise. A loop that meets none of tracer's programs
//! is as fast as without them on any machine.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    Bench,
    report::{Measured, Row},
};

const GROUP: &str = "The same where the kernel takes fexit programs, emulated";

pub fn measure(bench: &Bench) -> Result<Vec<Row>> {
    // It takes minutes, most of them to build what a guest runs: `cargo xtask bench` does that before, if it is wanted.
    let Some(path) = &bench.emulated else { return Ok(Vec::new()) };
    let guest = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let guest: Value = serde_json::from_str(&guest).context("the guest's measurements are not JSON")?;
    if let Some(error) = guest["error"].as_str() {
        return Ok(vec![Row::new(GROUP, "all of it", Measured::Not(error.to_owned()))]);
    }
    let kernel = guest["machine"]["kernel"].as_str().context("the guest did not name its kernel")?;
    let rows = guest["rows"].as_array().context("the guest measured nothing")?;
    let rows = rows.iter().map(|row| {
        let row = Row::read(GROUP, row).with_context(|| format!("cannot read the guest's row {row}"))?;
        Ok(if row.note.is_empty() { row.note(format!("qemu, without KVM, Linux {kernel}")) } else { row })
    });
    rows.collect()
}
