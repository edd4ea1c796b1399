//! Whether NAT rules of this thread's network namespace may lead a connect elsewhere.

use std::fs;

use netlink_packet_core::{NlaBuffer, NlasIterator};

use super::netlink::{Channel, Error};

/// NETLINK_NETFILTER (include/uapi/linux/netlink.h).
const NETFILTER: isize = 12;

/// `NFT_MSG_GETCHAIN` of the subsystem `NFNL_SUBSYS_NFTABLES` (include/uapi/linux/netfilter/nf_tables.h, nfnetlink.h).
const GET_CHAIN: u16 = 10 << 8 | 4;

/// `struct nfgenmsg` for every family: family, version, and a resource of two bytes.
const EVERY_FAMILY: [u8; 4] = [0; 4];

/// `NFTA_CHAIN_TYPE`: the kind of a base chain, a text with a NUL at its end.
const CHAIN_TYPE: u16 = 7;

/// The tables of iptables that the kernel has, by family.
const LEGACY: [&str; 2] = ["/proc/self/net/ip_tables_names", "/proc/self/net/ip6_tables_names"];

/// Whether there is a chain or a table of NAT; `None`: that cannot be read, as without CAP_NET_ADMIN.
pub fn may_redirect() -> Option<bool> {
    let by_legacy = || {
        let tables = LEGACY.iter().filter_map(|path| fs::read_to_string(path).ok());
        tables.into_iter().any(|tables| tables.lines().any(|table| table == "nat"))
    };
    match has_nat_chain() {
        Ok(has_chain) => Some(has_chain || by_legacy()),
        Err(_) => by_legacy().then_some(true),
    }
}

fn has_nat_chain() -> Result<bool, Error> {
    let mut channel = Channel::open(NETFILTER)?;
    let found = channel.dump(GET_CHAIN, &EVERY_FAMILY, |_, payload| {
        let attributes = payload.get(EVERY_FAMILY.len()..).unwrap_or_default();
        for attribute in NlasIterator::new(attributes) {
            let attribute: NlaBuffer<&[u8]> = attribute.map_err(Error::malformed)?;
            if attribute.kind() == CHAIN_TYPE && attribute.value() == b"nat\0" {
                return Ok(Some(()));
            }
        }
        Ok(None)
    })?;
    Ok(!found.is_empty())
}
