//! How many connections wait in the kernel's accept queue of a listener: the queue that Puma itself does not see.

use std::net::SocketAddr;

use super::listeners::{self, TABLES};

/// Connections that wait to be accepted on `listener`; `None` when nothing listens there.
#[must_use]
pub fn waiting(listener: SocketAddr) -> Option<u32> {
    let [v4, v6] = TABLES;
    let table = if listener.is_ipv4() { v4 } else { v6 };
    listeners::on(table, listener.port()).first().map(|found| found.waiting)
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
