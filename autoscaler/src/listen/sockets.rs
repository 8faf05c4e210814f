//! Binding listeners: deep accept queues, port 0, stale unix sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt};

use super::BACKLOG;
use crate::config::Address;

/// A listener whose accept queue takes connections; it is served by whichever runtime turns it into its own kind.
#[derive(Debug)]
pub enum Bound {
    /// TCP.
    Tcp(TcpListener),
    /// TCP, for TLS.
    Tls(TcpListener),
    /// A unix socket, and its path.
    Unix(UnixListener, PathBuf),
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct ListenError {
    /// Which.
    pub address: Address,
    /// What the system says.
    pub error: io::Error,
}

impl Bound {
    /// The address, with the port that the kernel chose.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Bound::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Bound::Tls(listener) => listener.local_addr().map(Address::Tls),
            Bound::Unix(_, path) => Ok(Address::Unix(path.clone())),
        }
    }
}

/// Binds an address.
///
/// # Errors
/// [`ListenError`] that names the address.
pub fn bind(address: &Address) -> Result<Bound, ListenError> {
    let bound = match address {
        Address::Tcp(socket) => tcp_listener(*socket).map(Bound::Tcp),
        Address::Tls(socket) => tcp_listener(*socket).map(Bound::Tls),
        Address::Unix(path) => unix_listener(path).map(|listener| Bound::Unix(listener, path.clone())),
    };
    bound.map_err(|error| ListenError { address: address.clone(), error })
}

fn tcp_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG.unsigned_abs())?.into_std()
}

/// A socket that nobody listens on is left over from a killed service, and is replaced.
fn unix_listener(path: &Path) -> io::Result<UnixListener> {
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is there"));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another service listens there"));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    // Listening again on a listening socket sets the length of its queue, listen(2).
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

pub(super) fn tcp(listener: tokio::net::TcpListener) -> impl Stream<Item = io::Result<TcpStream>> {
    TcpListenerStream::new(listener).map(|accepted| {
        accepted.inspect(|stream| {
            // Small messages must not wait for each other; without it they are slower, not wrong.
            let _ = stream.set_nodelay(true);
        })
    })
}

pub(super) fn unix(listener: tokio::net::UnixListener) -> impl Stream<Item = io::Result<UnixStream>> {
    UnixListenerStream::new(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn port_0_is_told_and_a_left_over_socket_is_replaced() {
        let bound = bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(matches!(bound.address().unwrap(), Address::Tcp(address) if address.port() != 0));
        let taken = bind(&bound.address().unwrap()).unwrap_err().to_string();
        assert!(taken.starts_with("cannot listen on 127.0.0.1:"), "{taken}");

        let dir = tempfile::tempdir().unwrap();
        let address: Address = format!("unix:{}", dir.path().join("a.sock").display()).parse().unwrap();
        let first = bind(&address).unwrap();
        assert!(bind(&address).unwrap_err().to_string().contains("another service"));
        drop(first);
        bind(&address).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let file: Address = format!("unix:{}", dir.path().join("file").display()).parse().unwrap();
        assert!(bind(&file).unwrap_err().to_string().contains("no socket"));
    }
}
