//! How the autoscaler is reached.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use rustls::pki_types::ServerName;

/// How the autoscaler is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Plain HTTP/2 on loopback.
    Loopback(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
    /// TLS, where both ends show certificates.
    Remote(Remote),
}

/// A host and a port that speak TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// A host name or an IP address (without brackets): what the autoscaler's certificate must name.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "https://[{host}]:{port}")
        } else {
            write!(f, "https://{host}:{port}")
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Loopback(address) => write!(f, "http://{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Remote(remote) => remote.fmt(f),
        }
    }
}

const FORMS: &str = "write https://HOST:PORT, http://127.0.0.1:7781 or unix:/run/trimtab/agents.sock";

impl FromStr for Address {
    type Err = String;

    /// Parses an address; plain HTTP goes to loopback only.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Address::Unix(PathBuf::from(path)));
        }
        if let Some(rest) = text.strip_prefix("https://") {
            return remote(rest.trim_end_matches('/'))
                .map(Address::Remote)
                .ok_or_else(|| format!("{text:?} names no host and port: write https://HOST:PORT"));
        }
        let Some(rest) = text.strip_prefix("http://") else { return Err(format!("{text:?}: {FORMS}")) };
        match rest.trim_end_matches('/').parse::<SocketAddr>() {
            Ok(a) if a.ip().is_loopback() => Ok(Address::Loopback(a)),
            Ok(a) => Err(format!("{a} is not on loopback: it needs TLS: write https://{a}")),
            Err(e) => Err(format!("{rest:?}: {e}; {FORMS}")),
        }
    }
}

fn remote(authority: &str) -> Option<Remote> {
    let (host, port) = authority.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    // Without brackets an IPv6 address and a port cannot be told apart.
    let host = match inner {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
        None if host.contains(':') => return None,
        None => host.to_owned(),
    };
    ServerName::try_from(host.as_str()).ok()?;
    Some(Remote { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_and_shown_as_it_was_written() {
        for text in [
            "https://scale.example:7783",
            "https://10.0.0.1:1",
            "https://[2001:db8::1]:7783",
            "http://127.0.0.1:7781",
            "unix:/a",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("https://a:1/".parse(), Ok(Address::Remote(Remote { host: "a".into(), port: 1 })));
    }

    #[test]
    fn what_is_wrong_says_what_to_write() {
        for (text, word) in [
            ("http://10.0.0.1:7781", "TLS: write https://10.0.0.1:7781"),
            ("https://host", "https://HOST:PORT"),
            ("https://host:0", "https://HOST:PORT"),
            ("https://2001:db8::1:7783", "https://HOST:PORT"),
            ("https://a b:1", "https://HOST:PORT"),
            ("https://user@host:1", "https://HOST:PORT"),
            ("127.0.0.1:1", "https://HOST:PORT, http"),
            ("", "https://HOST:PORT, http"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
