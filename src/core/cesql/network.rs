//! Networks in CIDR notation ([RFC 4632](https://www.rfc-editor.org/rfc/rfc4632)), for `IP_IN`.

use std::net::IpAddr;

/// A network: the bits of its address, and how many of them count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    bits: u128,
    mask: u128,
    is_v4: bool,
}

impl Network {
    /// Reads `10.0.0.0/8`, `2001:db8::/32`, or an address alone. Bits beyond the prefix do not matter.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let length: u32 = match prefix {
            // `+8` and `08` are no prefix lengths.
            Some(prefix) => prefix.parse().ok().filter(|n: &u32| n.to_string() == prefix && *n <= width)?,
            None => width,
        };
        let mask = u128::MAX.checked_shl(width - length).unwrap_or(0);
        Some(Self { bits: bits(address) & mask, mask, is_v4: address.is_ipv4() })
    }

    /// Whether the address is in it. An IPv4 address written as IPv6 (`::ffff:10.0.0.1`) is the IPv4 address.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let address = if self.is_v4 { address.to_canonical() } else { address };
        address.is_ipv4() == self.is_v4 && bits(address) & self.mask == self.bits
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}
