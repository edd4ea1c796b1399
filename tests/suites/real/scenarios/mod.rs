//! The scenarios, a file for each kind.

mod addresses;
mod binds;
mod containers;
mod identity;
mod lifecycle;
mod network;
mod ports;
mod proxies;

use super::stage::Scenario;

/// Each kind by its name.
pub const GROUPS: &[(&str, &[Scenario])] = &[
    ("addresses", addresses::ALL),
    ("binds", binds::ALL),
    ("ports", ports::ALL),
    ("lifecycle", lifecycle::ALL),
    ("identity", identity::ALL),
    ("proxies", proxies::ALL),
    ("network", network::ALL),
    ("containers", containers::ALL),
];
