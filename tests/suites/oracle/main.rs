//! The random check that the verdict agrees with the kernel: listeners and connects are made at random, a real connect
//! shows whether the kernel answers, and the verdict on the same connect must agree. And the random check that a verdict
//! agrees with what went before it: see histories.rs.
//!
//! Needs root. What this host cannot run is counted as ignored, with the reason. `ORACLE_SEED=N` runs other
//! cases than the usual ones, and those of a run that failed; `HISTORY=N` runs one history.

mod case;
mod check;
mod histories;
mod sockets;
mod tally;
mod world;

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use tally::Property;
use tests::histories::player;
use tests::needs::Need;
use tests::suite::{self, test};

/// Cases in all, and with each property, at the least.
const CASES: usize = 10_000;
const CASES_EACH: usize = 500;

/// One test at a time: what a connect meets depends on when the listener takes it, and histories on when their steps come.
fn alone(run: fn()) -> impl FnOnce() + Send + 'static {
    static ALONE: Mutex<()> = Mutex::new(());
    move || {
        // One that failed leaves nothing behind.
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        run();
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == player::WORD) {
        return player::main(arguments);
    }
    suite::run(vec![
        test(
            "oracle::verdicts_agree_with_histories",
            &[Need::Root, Need::Network, Need::RealTime],
            alone(histories::run),
        ),
        test(
            "oracle::covers_agrees_with_the_kernel",
            &[Need::Root, Need::Network],
            alone(|| {
                use Property::{Client, Device, Elsewhere, Mapped, Unread, V6only, Wildcard};
                let properties = [V6only, Device, Client, Mapped, Wildcard, Elsewhere, Unread];
                check::run(CASES, &properties, CASES_EACH, false);
            }),
        ),
        test(
            "oracle::covers_agrees_with_the_kernel_in_a_vrf",
            &[Need::Root, Need::Network, Need::Vrf],
            || check::run(2 * CASES_EACH, &[Property::Vrf], CASES_EACH, true),
        ),
    ])
}
