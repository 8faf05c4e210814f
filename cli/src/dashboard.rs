//! `trimtab dashboard`: the address of the dashboards, with the session that lets the page change something.

use std::path::{Path, PathBuf};

use autoscaler::session::{FILE, SessionError, Token};
use hyper::Method;
use hyper::body::Bytes;

use crate::client::{Client, endpoints, state_directories};
use crate::failure::{Failure, Kind};
use crate::output;

const TUNNEL: &str = "the dashboards answer on the autoscaler's own host only: run this there, or bring them here with `ssh -L 7780:127.0.0.1:7780 HOST`";

pub(crate) fn run(url: Option<&str>, state: Option<&Path>) -> Result<(), Failure> {
    let (directory, token) = session(state)?;
    // A socket of this host is the same service by a way that no browser takes.
    let address = match url.filter(|url| !url.starts_with("unix:")) {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => listening(&directory)?,
    };
    if !opens(&address) {
        let message = format!("`{}` is no address that a browser of this host opens", output::safe(&address));
        return Err(Failure::new(Kind::Usage, message).next(TUNNEL));
    }
    let client = Client::new(Some(&address))?;
    let bearer = format!("Bearer {}", token.secret());
    let headers = [("authorization", bearer.as_str())];
    if let Err(failure) = client.send(Method::GET, "/api/v1/session", &headers, Bytes::new()) {
        let wrong = failure.kind() == Kind::NotAuthorised;
        let other = format!(
            "the autoscaler at {address} has another session than {}",
            directory.join(FILE).display()
        );
        let next = "name its state directory with --state; a session whose file was removed or replaced ends with a restart of the autoscaler";
        return Err(if wrong { Failure::new(Kind::NotAuthorised, other).next(next) } else { failure });
    }
    output::print(&format!("{address}/#session={}\n", token.secret()))?;
    output::remark("open it in a browser of this host; whoever has the address can change what Trimtab does");
    Ok(())
}

/// The first session of the directories in which a service of this host may keep its own.
fn session(state: Option<&Path>) -> Result<(PathBuf, Token), Failure> {
    let directories = state.map_or_else(state_directories, |state| vec![state.to_owned()]);
    let mut fault = None;
    for directory in &directories {
        match Token::read(directory) {
            Ok(Some(token)) => return Ok((directory.clone(), token)),
            Ok(None) => {}
            // Another one may be readable.
            Err(error) => {
                fault.get_or_insert(error);
            }
        }
    }
    Err(match fault {
        Some(SessionError::File { path, error }) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let message = format!("{} may not be read: {error}", path.display());
            let next = "run it as root or as the user that runs the autoscaler: sudo trimtab dashboard";
            Failure::new(Kind::NotAuthorised, message).next(next)
        }
        Some(error) => {
            Failure::new(Kind::Error, error.to_string()).next("systemctl restart trimtab-autoscaler")
        }
        None => {
            let places: Vec<String> = directories.iter().map(|one| one.display().to_string()).collect();
            let message = format!("no autoscaler has left a session in {}", places.join(", "));
            let next =
                "start it (systemctl start trimtab-autoscaler), or name its state directory with --state";
            Failure::new(Kind::NotFound, message).next(next)
        }
    })
}

/// Where the service of this state directory listens for browsers.
fn listening(directory: &Path) -> Result<String, Failure> {
    let Some(all) = endpoints(directory) else {
        let message = format!("no autoscaler runs on {}", directory.display());
        return Err(
            Failure::new(Kind::Unreachable, message).next("start it: systemctl start trimtab-autoscaler")
        );
    };
    all.into_iter().find(|address| opens(address)).ok_or_else(|| {
        let message = "the autoscaler listens on a unix socket only, which no browser opens";
        Failure::new(Kind::Error, message).next("add 127.0.0.1:7780 to `api` of its configuration")
    })
}

/// Whether a browser of this host opens it: a session is told to nobody else.
fn opens(address: &str) -> bool {
    let Some(authority) = address.strip_prefix("http://") else { return false };
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        _ => authority,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::opens;

    #[test]
    fn a_session_is_told_to_this_host_only() {
        for good in ["http://127.0.0.1:7780", "http://localhost", "http://[::1]:7780"] {
            assert!(opens(good), "{good}");
        }
        for bad in [
            "unix:/run/trimtab/api.sock",
            "http://10.0.0.1:7780",
            "http://localhost.example.com",
            "https://127.0.0.1",
            "http://",
        ] {
            assert!(!opens(bad), "{bad}");
        }
    }
}
