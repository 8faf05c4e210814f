//! Where to listen: a socket address, one with TLS, or a unix socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// TCP; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// TCP with TLS: both ends show certificates.
    Tls(SocketAddr),
    /// A unix socket, by its absolute path.
    Unix(PathBuf),
}

impl Address {
    /// True when only this host can reach it, so that it may do without TLS.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Address::Tcp(address) | Address::Tls(address) => address.ip().to_canonical().is_loopback(),
            Address::Unix(_) => true,
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            // 107 bytes and a NUL: sun_path of unix(7).
            return if path.is_absolute() && path.as_os_str().len() <= 107 {
                Ok(Self::Unix(path))
            } else {
                Err(format!("{text:?}: a unix socket needs an absolute path of at most 107 bytes"))
            };
        }
        let wrong = |_| {
            format!(
                "{text:?} is not an address: write for example 127.0.0.1:7781, https://0.0.0.0:7783 or \
                 unix:/run/trimtab/agents.sock"
            )
        };
        match text.strip_prefix("https://") {
            Some(rest) => rest.trim_end_matches('/').parse().map(Self::Tls).map_err(wrong),
            None => text.parse().map(Self::Tcp).map_err(wrong),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Tls(address) => write!(f, "https://{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_local_is_known() {
        for local in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:80", "[::ffff:127.0.0.1]:1", "unix:/run/a.sock"] {
            assert!(local.parse::<Address>().unwrap().is_local(), "{local}");
        }
        for open in ["0.0.0.0:0", "[::]:1", "192.168.1.1:1", "[::ffff:10.0.0.1]:1"] {
            assert!(!open.parse::<Address>().unwrap().is_local(), "{open}");
        }
        let tls: Address = "https://[::]:7783/".parse().unwrap();
        assert!(!tls.is_local() && tls.to_string() == "https://[::]:7783");
        for bad in
            ["", "localhost:1", "127.0.0.1", "unix:relative", "unix:", ":80", "https://", "https://host:1"]
        {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
