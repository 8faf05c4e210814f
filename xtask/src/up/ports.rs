//! Ports on loopback.

use std::net::{SocketAddr, TcpListener};

use anyhow::Result;

/// Ports for replicas, away from those of the stage.
pub(super) fn replica_ports(api: u16) -> (u16, u16) {
    let from = if (20_000..20_400).contains(&api) { 21_000 } else { 20_000 };
    (from, from + 399)
}

/// Addresses on loopback that nothing uses now.
pub(crate) fn free_ports(count: usize) -> Result<Vec<SocketAddr>> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    Ok(listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?)
}
