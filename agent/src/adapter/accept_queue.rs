//! How many connections wait in the kernel's accept queue of a listener: the queue that Puma itself does not see.

use std::net::SocketAddr;

/// Connections that wait to be accepted on `listener`; `None` when nothing listens there.
///
/// Reads `/proc/net/tcp`: for a listening socket its receive queue is the accept queue (Documentation/networking/proc_net_tcp).
#[must_use]
pub fn waiting(listener: SocketAddr) -> Option<u32> {
    let file = if listener.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    find(&std::fs::read_to_string(file).ok()?, listener.port())
}

/// State of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

fn find(table: &str, port: u16) -> Option<u32> {
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, _remote, state, queues) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        if state != LISTEN || !local.ends_with(&suffix) {
            return None;
        }
        u32::from_str_radix(queues.split_once(':')?.1, 16).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_nobody_accepts_are_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(waiting(address), Some(0));
        let _a = std::net::TcpStream::connect(address).unwrap();
        let _b = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(waiting(address), Some(2));
        drop(listener);
        assert_eq!(waiting(address), None);
    }
}
