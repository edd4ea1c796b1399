//! Interfaces and local addresses of one network namespace, from rtnetlink(7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{Emitable, NlaBuffer, NlasIterator};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::route::{RouteHeader, RouteMessage, RouteType};
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::host::netlink::{Channel, Error};
use crate::model::namespace::{Link, LocalRoute};

/// linux/rtnetlink.h
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

const LINK_HEADER: usize = 16;
const ROUTE_HEADER: usize = 12;

/// linux/if_link.h
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VRF_TABLE: u16 = 1;

/// linux/rtnetlink.h
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_TABLE: u16 = 15;

/// Opens a route socket in the calling thread's network namespace.
pub fn open() -> Result<Channel, Error> {
    let channel = Channel::open(NETLINK_ROUTE)?;
    // With it the kernel filters by the fields of the request: a router's million routes are not sent to find a
    // dozen local ones. Where it is not known (before 4.20) they are, and are passed over here.
    let _ = channel.socket().set_netlink_get_strict_chk(true);
    Ok(channel)
}

/// Every interface of the channel's namespace.
pub fn links(channel: &mut Channel) -> Result<Vec<Link>, Error> {
    let mut request = LinkMessage::default();
    request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let mut body = vec![0; request.buffer_len()];
    request.emit(&mut body);
    channel.dump(RTM_GETLINK, &body, |message_type, payload| match message_type {
        RTM_NEWLINK => link(payload).map(Some),
        _ => Ok(None),
    })
}

/// Every route of type `local` of the channel's namespace, in all tables and of both families: the
/// addresses that it takes for its own. An address has one with the interface that carries it, `::1`
/// and link-local ones included.
pub fn local_routes(channel: &mut Channel) -> Result<Vec<LocalRoute>, Error> {
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        request.header.kind = RouteType::Local;
        let mut body = vec![0; request.buffer_len()];
        request.emit(&mut body);
        routes.extend(channel.dump(RTM_GETROUTE, &body, |message_type, payload| match message_type {
            RTM_NEWROUTE => local_route(payload, family),
            _ => Ok(None),
        })?);
    }
    Ok(routes)
}

// The attributes are walked here, and not by `LinkMessage` and `RouteMessage`, which fail as a whole
// over one attribute of some driver that they do not expect, and parse fifty that are not used.

fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<NlaBuffer<&[u8]>, Error>> {
    NlasIterator::new(bytes).map(|attribute| attribute.map_err(Error::malformed))
}

fn number(attribute: &NlaBuffer<&[u8]>) -> Result<u32, Error> {
    let bytes = attribute.value().first_chunk().copied();
    bytes.map(u32::from_ne_bytes).ok_or_else(|| Error::malformed("a number shorter than 4 bytes"))
}

/// The text up to the NUL that ends it.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    crate::model::escape::escape(&bytes[..end])
}

/// `struct ifinfomsg` and its attributes.
pub(crate) fn link(payload: &[u8]) -> Result<Link, Error> {
    let (header, rest) = payload
        .split_first_chunk::<LINK_HEADER>()
        .ok_or_else(|| Error::malformed("a link without a header"))?;
    let [_, _, _, _, a, b, c, d, ..] = *header;
    let mut link = Link {
        index: u32::from_ne_bytes([a, b, c, d]),
        name: String::new(),
        master: None,
        vrf_table: None,
        peer: None,
    };
    let (mut other, mut is_veth, mut is_beyond) = (None, false, false);
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match attribute.kind() {
            IFLA_IFNAME => link.name = text(attribute.value()),
            IFLA_MASTER => link.master = Some(number(&attribute)?),
            IFLA_LINK => other = Some(number(&attribute)?),
            IFLA_LINK_NETNSID => is_beyond = true,
            IFLA_LINKINFO => {
                link.vrf_table = vrf_table(attribute.value())?;
                is_veth = kind(attribute.value())? == Some("veth".to_owned());
            }
            _ => {}
        }
    }
    // Of other kinds it is what the link is made on, such as the interface below a VLAN.
    link.peer = other.filter(|_| is_veth && is_beyond);
    Ok(link)
}

fn kind(info: &[u8]) -> Result<Option<String>, Error> {
    for attribute in attributes(info) {
        let attribute = attribute?;
        if attribute.kind() == IFLA_INFO_KIND {
            return Ok(Some(text(attribute.value())));
        }
    }
    Ok(None)
}

fn vrf_table(info: &[u8]) -> Result<Option<u32>, Error> {
    let is_vrf = kind(info)?.is_some_and(|kind| kind == "vrf");
    let mut data = None;
    for attribute in attributes(info) {
        let attribute = attribute?;
        if attribute.kind() == IFLA_INFO_DATA {
            data = Some(attribute);
        }
    }
    // The same number means something else in the data of another kind.
    let Some(data) = data.filter(|_| is_vrf) else { return Ok(None) };
    for attribute in attributes(data.value()) {
        let attribute = attribute?;
        if attribute.kind() == IFLA_VRF_TABLE {
            return number(&attribute).map(Some);
        }
    }
    Ok(None)
}

/// `struct rtmsg` and its attributes; `None` for a route that is not local, or of another family: a
/// kernel without IPv6 answers a request for its routes with all routes (`rtnl_dump_all()`).
pub(crate) fn local_route(payload: &[u8], family: AddressFamily) -> Result<Option<LocalRoute>, Error> {
    let header = RouteHeader::parse(payload).map_err(Error::malformed)?;
    if header.kind != RouteType::Local || header.address_family != family {
        return Ok(None);
    }
    let mut route = LocalRoute {
        addr: match family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            _ => Ipv6Addr::UNSPECIFIED.into(),
        },
        prefix_len: header.destination_prefix_length,
        device: 0,
        table: u32::from(header.table),
    };
    for attribute in attributes(payload.get(ROUTE_HEADER..).unwrap_or_default()) {
        let attribute = attribute?;
        match attribute.kind() {
            RTA_DST => route.addr = address(attribute.value())?,
            RTA_OIF => route.device = number(&attribute)?,
            // Only it holds a table above 255.
            RTA_TABLE => route.table = number(&attribute)?,
            _ => {}
        }
    }
    Ok(Some(route))
}

fn address(bytes: &[u8]) -> Result<IpAddr, Error> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        Ok(bytes.into())
    } else if let Ok(bytes) = <[u8; 16]>::try_from(bytes) {
        Ok(bytes.into())
    } else {
        Err(Error::malformed(format_args!("an address of {} bytes", bytes.len())))
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::{InfoData, InfoKind, InfoVrf, LinkInfo};
    use netlink_packet_route::route::{RouteAddress, RouteAttribute};

    use super::*;

    fn bytes(message: &impl Emitable) -> Vec<u8> {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    #[test]
    fn a_vrf_has_its_table_and_its_port_a_master() {
        let mut vrf = LinkMessage::default();
        vrf.header.index = 7;
        vrf.attributes = vec![
            LinkAttribute::IfName("blue".into()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vrf),
                LinkInfo::Data(InfoData::Vrf(vec![InfoVrf::TableId(1001)])),
            ]),
        ];
        let expected =
            Link { index: 7, name: "blue".into(), master: None, vrf_table: Some(1001), peer: None };
        assert_eq!(link(&bytes(&vrf)).unwrap(), expected);

        let mut port = LinkMessage::default();
        port.header.index = 8;
        port.attributes = vec![LinkAttribute::IfName("eth1".into()), LinkAttribute::Controller(7)];
        let expected = Link { index: 8, name: "eth1".into(), master: Some(7), vrf_table: None, peer: None };
        assert_eq!(link(&bytes(&port)).unwrap(), expected);
    }

    #[test]
    fn a_veth_has_the_index_of_its_end_in_another_namespace() {
        let peer = |kind, netns: Option<i32>| {
            let mut message = LinkMessage::default();
            message.attributes =
                vec![LinkAttribute::Link(4711), LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])];
            message.attributes.extend(netns.map(LinkAttribute::LinkNetNsId));
            link(&bytes(&message)).unwrap().peer
        };
        assert_eq!(peer(InfoKind::Veth, Some(0)), Some(4711));
        // Both ends are in one namespace.
        assert_eq!(peer(InfoKind::Veth, None), None);
        assert_eq!(peer(InfoKind::MacVlan, Some(0)), None);
    }

    #[test]
    fn only_local_routes_of_the_family_asked_for_count() {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.kind = RouteType::Local;
        message.header.destination_prefix_length = 16;
        message.header.table = 252;
        message.attributes = vec![
            RouteAttribute::Destination(RouteAddress::Inet(Ipv4Addr::new(10, 77, 0, 0))),
            RouteAttribute::Oif(1),
            RouteAttribute::Table(1001),
        ];
        let expected =
            LocalRoute { addr: Ipv4Addr::new(10, 77, 0, 0).into(), prefix_len: 16, device: 1, table: 1001 };
        assert_eq!(local_route(&bytes(&message), AddressFamily::Inet).unwrap(), Some(expected));
        assert_eq!(local_route(&bytes(&message), AddressFamily::Inet6).unwrap(), None);

        message.header.kind = RouteType::Unicast;
        assert_eq!(local_route(&bytes(&message), AddressFamily::Inet).unwrap(), None);
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        assert!(link(&[0; 15]).is_err());
        assert!(local_route(&[0; 11], AddressFamily::Inet).is_err());
        let mut cut = vec![0; LINK_HEADER];
        cut.extend([6, 0, 10, 0, 1, 0, 0, 0]);
        assert!(link(&cut).is_err());
    }
}
