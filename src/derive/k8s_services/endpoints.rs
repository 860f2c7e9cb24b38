//! Which endpoints a port has, and where.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::objects::{Endpoint, EndpointSlice, Service, ServicePort};

/// Endpoints by zone, each address once, in order.
pub(super) type Zones<'s> = BTreeMap<&'s str, Vec<(IpAddr, u16)>>;

/// The endpoints to which calls of a port go: those that are ready, or else those that end and still answer.
pub(super) fn of_port<'s>(service: &Service, port: &ServicePort, slices: &'s [EndpointSlice]) -> Zones<'s> {
    let ready = addresses(service, port, slices, Endpoint::is_ready);
    if ready.is_empty() { addresses(service, port, slices, Endpoint::is_last_resort) } else { ready }
}

fn addresses<'s>(
    service: &Service,
    port: &ServicePort,
    slices: &'s [EndpointSlice],
    wanted: fn(&Endpoint) -> bool,
) -> Zones<'s> {
    // While an endpoint moves from slice to slice it is in both. Clients refuse one that is there twice.
    let mut zone_of: BTreeMap<(IpAddr, u16), &str> = BTreeMap::new();
    for slice in slices {
        let Some(target) = slice.target(port) else { continue };
        for endpoint in slice.endpoints.iter().filter(|endpoint| wanted(endpoint)) {
            // All addresses of one endpoint are the same pod.
            let Some(address) = endpoint.addresses.iter().find_map(|text| text.parse().ok()) else {
                continue;
            };
            let zone = zone_of.entry((address, target)).or_insert(&endpoint.zone);
            // The same whichever slice comes first; and a zone rather than none.
            if zone.is_empty() || (!endpoint.zone.is_empty() && *endpoint.zone < **zone) {
                *zone = &endpoint.zone;
            }
        }
    }
    // Of two stacks the pods are the same: clients are given that which the Service has first.
    let is_first = |address: &IpAddr| match service.family.as_deref() {
        Some("IPv4") => address.is_ipv4(),
        Some("IPv6") => address.is_ipv6(),
        _ => true,
    };
    let has_first = zone_of.keys().any(|(address, _)| is_first(address));
    let mut zones = Zones::new();
    for ((address, port), zone) in zone_of {
        if !has_first || is_first(&address) {
            zones.entry(zone).or_default().push((address, port));
        }
    }
    zones
}
