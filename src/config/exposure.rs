//! The law of listeners: nothing listens beyond loopback without `access` and TLS, unless it says `insecure: true`.

use std::net::IpAddr;

/// What would be right where [`check_exposure`] refuses.
pub const EXPOSURE_HINT: &str =
    "listen on 127.0.0.1, or give `access:` and `tls:`, or say `insecure: true`";

/// Checks one address to listen on (`127.0.0.1:8080`, `[::]:8080`, `:8080`). What needs a look-up to know
/// whether it is loopback counts as beyond.
///
/// # Errors
/// Names what is missing.
pub fn check_exposure(listen: &str, has_access: bool, has_tls: bool, insecure: bool) -> Result<(), String> {
    if insecure || is_loopback(listen) {
        return Ok(());
    }
    let missing = match (has_access, has_tls) {
        (true, true) => return Ok(()),
        (true, false) => "without TLS",
        (false, true) => "without `access`",
        (false, false) => "without `access` and TLS",
    };
    Err(format!("{listen} can be reached from other machines, {missing}"))
}

/// Whether `listen` reaches loopback only. What needs a look-up to know, other than `localhost`, does not count.
pub fn is_loopback(listen: &str) -> bool {
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known_without_a_look_up() {
        for listen in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "localhost:80", "LOCALHOST:1"] {
            assert!(is_loopback(listen), "{listen}");
        }
        for listen in
            [":80", "0.0.0.0:80", "[::]:80", "10.0.0.1:80", "localhost.example.com:80", "127.0.0.1.nip:1"]
        {
            assert!(!is_loopback(listen), "{listen}");
        }
    }

    #[test]
    fn nothing_listens_beyond_loopback_without_access_and_tls_unless_it_says_insecure() {
        for listen in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"] {
            assert!(check_exposure(listen, false, false, false).is_ok(), "{listen}");
        }
        for listen in ["0.0.0.0:1", "[::]:1", ":1", "10.0.0.1:1", "localhost.evil.example:1", "host:1"] {
            assert!(check_exposure(listen, false, false, false).is_err(), "{listen}");
            assert!(check_exposure(listen, true, false, false).is_err(), "{listen}");
            assert!(check_exposure(listen, false, true, false).is_err(), "{listen}");
            assert!(check_exposure(listen, true, true, false).is_ok(), "{listen}");
            assert!(check_exposure(listen, false, false, true).is_ok(), "{listen}");
        }
    }
}
