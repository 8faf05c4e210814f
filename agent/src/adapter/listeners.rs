//! Sockets on which something listens on this host, as the kernel lists them (Documentation/networking/proc_net_tcp).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The list of version 4, and that of version 6.
pub const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// State of a listening socket.
const LISTEN: &str = "0A";

/// A socket that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// Where; unspecified = on all addresses.
    pub ip: IpAddr,
    /// Connections that wait to be accepted: for a listening socket the receive queue is the accept queue.
    pub waiting: u32,
}

/// What listens on a port, by one of [`TABLES`]; nothing where that cannot be read.
#[must_use]
pub fn on(table: &str, port: u16) -> Vec<Listener> {
    let text = std::fs::read_to_string(table).unwrap_or_default();
    text.lines().skip(1).filter_map(|line| read(line, port)).collect()
}

fn read(line: &str, port: u16) -> Option<Listener> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, _remote, state, queues) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let (ip, at) = local.split_once(':')?;
    if state != LISTEN || u16::from_str_radix(at, 16) != Ok(port) {
        return None;
    }
    let waiting = u32::from_str_radix(queues.split_once(':')?.1, 16).ok()?;
    Some(Listener { ip: address(ip)?, waiting })
}

/// The kernel writes an address as words of four bytes in the host's order.
fn address(hex: &str) -> Option<IpAddr> {
    let words: Vec<u32> = (0..hex.len() / 8)
        .map(|n| u32::from_str_radix(hex.get(n * 8..n * 8 + 8)?, 16).ok())
        .collect::<Option<_>>()?;
    match words[..] {
        [word] => Some(Ipv4Addr::from(word.to_ne_bytes()).into()),
        [a, b, c, d] => {
            let mut bytes = [0; 16];
            for (n, word) in [a, b, c, d].into_iter().enumerate() {
                bytes[n * 4..n * 4 + 4].copy_from_slice(&word.to_ne_bytes());
            }
            let ip = Ipv6Addr::from(bytes);
            Some(ip.to_ipv4_mapped().map_or(ip.into(), Into::into))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(port: u16) -> Vec<IpAddr> {
        TABLES.iter().flat_map(|table| on(table, port)).map(|listener| listener.ip).collect()
    }

    #[test]
    fn listeners_are_found_with_their_addresses() {
        let local = std::net::TcpListener::bind("127.0.0.7:0").unwrap();
        let port = local.local_addr().unwrap().port();
        assert_eq!(found(port), [IpAddr::from([127, 0, 0, 7])]);
        drop(local);
        assert_eq!(found(port), Vec::<IpAddr>::new());
        if let Ok(open) = std::net::TcpListener::bind("[::]:0") {
            let found = found(open.local_addr().unwrap().port());
            assert!(found.iter().all(|ip| ip.is_unspecified()) && !found.is_empty(), "{found:?}");
        }
    }

    #[test]
    fn an_address_is_read_from_the_kernels_words() {
        let word = |bytes| format!("{:08X}", u32::from_ne_bytes(bytes));
        assert_eq!(address(&word([10, 0, 0, 7])), Some([10, 0, 0, 7].into()));
        let mapped = [[0; 4], [0; 4], [0, 0, 255, 255], [10, 0, 0, 7]].map(word).concat();
        assert_eq!(address(&mapped), Some([10, 0, 0, 7].into()));
        assert_eq!((address("zz"), address("")), (None, None));
    }
}
