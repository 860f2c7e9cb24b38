//! Flows to where none should go leave by the output `alert`; all others go on.
//!
//! `config: {allow: [10.0.0.0/8, "fd00::/8", 1.1.1.1]}`. A flow is an event with a `destinationaddress`; what has none
//! passes, and one that cannot be read is an alert.

use std::net::IpAddr;

use meshbus_filter::json::{self, Value};
use meshbus_filter::{Event, Filter, Output, Verdict, export, metrics};

struct Egress {
    allow: Vec<Network>,
}

impl Filter for Egress {
    fn init(config: &str) -> Result<Self, String> {
        let config: Value = json::from_str(config).map_err(|error| error.to_string())?;
        let allow =
            config["allow"].as_array().ok_or("`allow` is no list of networks such as [10.0.0.0/8]")?;
        let network = |network: &Value| {
            let read = network.as_str().and_then(Network::parse);
            read.ok_or_else(|| format!("`allow` holds {network}, which is no network such as 10.0.0.0/8"))
        };
        Ok(Self { allow: allow.iter().map(network).collect::<Result<_, _>>()? })
    }

    fn process(&mut self, event: Event) -> Verdict {
        let Some(destination) = event.attribute("destinationaddress") else { return Verdict::Pass };
        let address: Option<IpAddr> = destination.parse().ok();
        if address.is_some_and(|address| self.allow.iter().any(|network| network.holds(address))) {
            return Verdict::Pass;
        }
        metrics::count("unexpected_egress", 1, &[]);
        Output::new().set("alertreason", format!("unexpected egress to {destination}")).to("alert").into()
    }
}

/// Addresses that begin with the same bits.
struct Network {
    bits: u128,
    prefix: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address.parse().ok()?, Some(prefix.parse::<u32>().ok()?)),
            None => (text.parse().ok()?, None),
        };
        let (own, most) = if matches!(address, IpAddr::V4(_)) { (96, 32) } else { (0, 128) };
        let prefix = prefix.unwrap_or(most);
        (prefix <= most).then(|| Self { bits: bits(address), prefix: own + prefix })
    }

    fn holds(&self, address: IpAddr) -> bool {
        (self.bits ^ bits(address)).leading_zeros() >= self.prefix
    }
}

/// One space for both families: an IPv4 address is the IPv6 one that stands for it.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().into(),
        IpAddr::V6(address) => address.into(),
    }
}

export!(Egress);

#[cfg(test)]
mod tests {
    use super::*;

    fn is_alert(allow: &[&str], destination: &str) -> bool {
        let mut filter = Egress::init(&json::json!({"allow": allow}).to_string()).unwrap();
        let verdict = filter.process(Event::new("1", "s", "t").with("destinationaddress", destination));
        match verdict {
            Verdict::Pass => false,
            Verdict::Emit(outputs) => outputs[0].to.as_deref() == Some("alert"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_no_network_holds_is_an_alert() {
        let allow = ["10.0.0.0/8", "fd00::/8", "1.1.1.1"];
        for inside in ["10.255.0.1", "fd12::1", "1.1.1.1", "::ffff:10.1.2.3"] {
            assert!(!is_alert(&allow, inside), "{inside}");
        }
        for outside in ["11.0.0.1", "fe00::1", "1.1.1.2", "::10.0.0.1", "example.com", ""] {
            assert!(is_alert(&allow, outside), "{outside}");
        }
        assert!(is_alert(&[], "10.0.0.1"));
        assert!(!is_alert(&["0.0.0.0/0"], "8.8.8.8") && is_alert(&["0.0.0.0/0"], "2001::1"));
    }

    #[test]
    fn a_network_that_is_none_is_refused() {
        for allow in ["10.0.0.0/33", "10.0.0/8", "fd00::/129", "all", "10.0.0.0/-1"] {
            assert!(Egress::init(&json::json!({"allow": [allow]}).to_string()).is_err(), "{allow}");
        }
    }
}
