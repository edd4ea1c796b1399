//! Counts of checked, discarded and rejected cases.

use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// The listener is IPv6 only.
    V6only,
    /// The listener is bound to a device.
    Device,
    /// The client is bound to a device.
    Client,
    /// The listener's address or the client's is IPv4-mapped.
    Mapped,
    /// The listener's address is the wildcard.
    Wildcard,
    /// Listener and client are in different namespaces.
    Elsewhere,
    /// The client's namespace was not read.
    Unread,
    /// The client is bound to a VRF or to a device in one.
    Vrf,
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6only => "v6only listener",
            Self::Device => "listener bound to a device",
            Self::Client => "client bound to a device",
            Self::Mapped => "mapped address",
            Self::Wildcard => "wildcard listener",
            Self::Elsewhere => "listener in another namespace",
            Self::Unread => "namespace not read",
            Self::Vrf => "client in a VRF",
        })
    }
}

#[derive(Debug, Default)]
pub struct Tally {
    pub answered: usize,
    pub refused: usize,
    /// With each property: answered, refused.
    pub properties: BTreeMap<Property, (usize, usize)>,
    /// Cases without a result, by reason.
    pub discarded: BTreeMap<String, usize>,
    /// Listeners that the kernel did not allow, by why.
    pub unlisted: BTreeMap<String, usize>,
}

impl Tally {
    pub fn count(&mut self, is_answered: bool, properties: &[Property]) {
        self.answered += usize::from(is_answered);
        self.refused += usize::from(!is_answered);
        for property in properties {
            let (answered, refused) = self.properties.entry(*property).or_default();
            *answered += usize::from(is_answered);
            *refused += usize::from(!is_answered);
        }
    }

    pub fn total(&self) -> usize {
        self.answered + self.refused
    }

    pub fn with(&self, property: Property) -> usize {
        self.properties.get(&property).map_or(0, |(answered, refused)| answered + refused)
    }

    pub fn discard(&mut self, why: impl Into<String>) {
        *self.discarded.entry(why.into()).or_default() += 1;
    }

    pub fn unlist(&mut self, why: impl Into<String>) {
        *self.unlisted.entry(why.into()).or_default() += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answered, refused, properties, discarded, unlisted } = self;
        writeln!(f, "  {:6} cases: {answered} answered, {refused} refused", self.total())?;
        for (property, (answered, refused)) in properties {
            writeln!(
                f,
                "  {:6} with {property}: {answered} answered, {refused} refused",
                answered + refused
            )?;
        }
        for (why, count) in discarded {
            writeln!(f, "  {count:6} connects not counted: {why}")?;
        }
        for (why, count) in unlisted {
            writeln!(f, "  {count:6} listeners not made: {why}")?;
        }
        Ok(())
    }
}
