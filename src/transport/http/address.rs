//! Which addresses a URL from a stranger may lead to: only those of the public internet.
//!
//! The check is made on the resolved address of every connection, so that a name that resolves to something
//! else the next time (DNS rebinding) gains nothing. IANA's special-purpose registries are the source.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Checks that `address` is one of the public internet.
///
/// # Errors
/// Says what kind of address it is instead.
pub fn check_public(address: IpAddr) -> Result<(), &'static str> {
    match address {
        IpAddr::V4(address) => check_v4(address),
        IpAddr::V6(address) => check_v6(address),
    }
}

fn check_v4(address: Ipv4Addr) -> Result<(), &'static str> {
    match address.octets() {
        [0, ..] => Err("unspecified"),
        [127, ..] => Err("loopback"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Err("private"),
        [100, 64..=127, ..] => Err("shared by carriers"),
        [169, 254, ..] => Err("link-local"),
        [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [198, 18..=19, ..] => {
            Err("reserved for documentation, tests or protocols")
        }
        [192, 88, 99, _] => Err("a relay to other addresses"),
        [224..=239, ..] => Err("multicast"),
        [240..=255, ..] => Err("reserved or broadcast"),
        _ => Ok(()),
    }
}

fn check_v6(address: Ipv6Addr) -> Result<(), &'static str> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Err("unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Err("loopback"),
        // These carry an IPv4 address, and so would walk around the check of that one.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] => Err("an IPv4 address in IPv6 form"),
        [0x64, 0xff9b, ..] => Err("translated to IPv4 (NAT64)"),
        [0x2002, ..] | [0x2001, 0..=0x1ff, ..] => Err("a tunnel to other addresses, or reserved"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Err("reserved for documentation"),
        [0xfc00..=0xfdff, ..] => Err("unique local"),
        [0xfe80..=0xfebf, ..] => Err("link-local"),
        [0xff00..=0xffff, ..] => Err("multicast"),
        [0x2000..=0x3fff, ..] => Ok(()),
        _ => Err("not of the public internet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_pass() {
        for denied in [
            "0.0.0.0",
            "127.0.0.1",
            "127.9.9.9",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.169.254",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:8.8.8.8",
            "::ffff:127.0.0.1",
            "::8.8.8.8",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
        ] {
            assert!(check_public(denied.parse().unwrap()).is_err(), "{denied}");
        }
        for allowed in ["8.8.8.8", "1.1.1.1", "172.32.0.1", "192.1.0.1", "2606:4700::1111", "2001:4860::1"]
        {
            assert_eq!(check_public(allowed.parse().unwrap()), Ok(()), "{allowed}");
        }
    }
}
