//! How the autoscaler is reached.

use std::path::PathBuf;

/// How the autoscaler is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Plain HTTP/2 on loopback.
    Loopback(std::net::SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Loopback(address) => write!(f, "http://{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Parses an autoscaler's address; anything off loopback needs TLS, which this version does not speak.
pub(super) fn address(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Address::Unix(PathBuf::from(path)));
    }
    let Some(rest) = text.strip_prefix("http://") else {
        return Err(format!("{text:?}: write http://127.0.0.1:7781 or unix:/run/trimtab/agents.sock"));
    };
    match rest.trim_end_matches('/').parse::<std::net::SocketAddr>() {
        Ok(a) if a.ip().is_loopback() => Ok(Address::Loopback(a)),
        Ok(a) => Err(format!("{a} is not on loopback: it needs TLS, which this version does not have yet")),
        Err(e) => Err(format!("{rest:?}: {e}")),
    }
}
