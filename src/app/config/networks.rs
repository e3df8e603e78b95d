//! Sets of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses of this kind or that, as a setting names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    /// How many bits.
    length: u32,
}

impl Networks {
    /// Reads addresses and networks, such as `192.0.2.1, 10.0.0.0/8, fd00::/8`; `None` if one is neither.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let networks = text.split(',').map(|text| Network::parse(text.trim()));
        networks.collect::<Option<_>>().map(Self)
    }

    /// This machine, as it reaches itself.
    #[must_use]
    pub fn loopback() -> Self {
        let network = |address, length| Network { address, length };
        Self(vec![
            network(Ipv4Addr::new(127, 0, 0, 0).into(), 8),
            network(Ipv6Addr::LOCALHOST.into(), 128),
        ])
    }

    /// Whether `address` is in one of them.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text
            .split_once('/')
            .map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Some(most), super::sections::number)?;
        (length <= most).then_some(Self { address, length })
    }

    fn contains(self, address: IpAddr) -> bool {
        // Bits that do not count are shifted out; all of them, if none counts.
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(other)) => {
                let differing = ours.to_bits() ^ other.to_bits();
                differing.checked_shr(32 - self.length).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(other)) => {
                let differing = ours.to_bits() ^ other.to_bits();
                differing.checked_shr(128 - self.length).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_alike() {
        let networks = Networks::parse("192.0.2.1, 10.0.0.0/8,fd00::/9").expect("networks");
        for (address, is_in) in [
            ("192.0.2.1", true),
            ("192.0.2.0", false),
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("fd7f::1", true),
            ("fd80::1", false),
            ("::a00:0", false),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(networks.contain(address), is_in, "{address}");
        }
        let all = Networks::parse("0.0.0.0/0").expect("a network");
        assert!(all.contain(Ipv4Addr::BROADCAST.into()));
        assert!(!all.contain(Ipv6Addr::LOCALHOST.into()));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            ",",
            "10.0.0.1,",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "localhost",
            "10.0.0",
        ] {
            assert_eq!(Networks::parse(text), None, "{text:?}");
        }
    }
}
