//! Traffic and system calls on a stock kernel that takes fexit programs, emulated, where this one refuses them.
//!
//! An emulated processor takes its own time for everything, so that its rates mean nothing; what its ratios mean
//! depends on how much of them is work that hardware does otherwise. A loop that meets none of tracer's programs
//! is as fast as without them on any machine.

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    Bench,
    report::{Measured, Row},
    traffic,
};
use crate::vm;

const GROUP: &str = "The same where the kernel takes fexit programs, emulated";

/// The stock kernel nearest to those that most hosts have.
const KERNEL: &str = "6.12";

pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    // It takes minutes, most of them to build what a guest runs.
    if bench.quick || traffic::hooks_by_fexit(bench)? {
        return Ok(Vec::new());
    }
    let measured = vm::in_guest(KERNEL, |tracer| {
        let words = ["/bin/xtask", "bench", "traffic", "--json", "--tracer"];
        words.iter().map(Into::into).chain([tracer.into()]).collect()
    });
    bench.ctrl_c.look()?;
    let told = match measured {
        Ok(told) => told,
        Err(error) => return Ok(vec![Row::new(GROUP, "all of it", Measured::Not(format!("{error:#}")))]),
    };
    let told: Value = serde_json::from_str(&told).context("the guest's measurements are no JSON")?;
    let kernel = told["machine"]["kernel"].as_str().context("the guest did not name its kernel")?;
    let rows = told["rows"].as_array().context("the guest measured nothing")?;
    let rows = rows.iter().map(|row| {
        let row = Row::read(GROUP, row).with_context(|| format!("the guest measured in vain: {row}"))?;
        Ok(if row.note.is_empty() { row.note(format!("qemu, without KVM, Linux {kernel}")) } else { row })
    });
    rows.collect()
}
