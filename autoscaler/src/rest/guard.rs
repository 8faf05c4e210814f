//! Refuses what no client of this host would send, and counts requests.
//!
//! Without a log-in the interface trusts this host's users. A page in a browser on this host must not inherit that
//! trust: neither by a request across sites (it has an `Origin`) nor by a name that resolves to loopback (the `Host`
//! is not a loopback name).

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use super::problem::Failure;
use crate::metrics::Reason;

pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let response = if from_here(request.headers()) {
        next.run(request).await
    } else {
        let detail = "the Host or Origin of the request is not this host: use 127.0.0.1, [::1], localhost or the unix socket";
        Failure::new(StatusCode::FORBIDDEN, "not-local", detail).into_response()
    };
    let class = match response.status().as_u16() / 100 {
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    };
    app.metrics.requests.get_or_create(&Reason { reason: class }).inc();
    response
}

fn from_here(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    let host = text(header::HOST).is_none_or(is_local);
    let origin = text(header::ORIGIN)
        .is_none_or(|origin| origin.split_once("://").is_some_and(|(_, authority)| is_local(authority)));
    host && origin
}

fn is_local(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host,
        _ => authority,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn only_names_of_this_host_pass() {
        for good in ["localhost", "localhost:7780", "127.0.0.1:1", "[::1]:7780", "127.8.8.8"] {
            assert!(is_local(good), "{good}");
        }
        for bad in [
            "example.com",
            "localhost.example.com:80",
            "10.0.0.1",
            "0.0.0.0:1",
            "",
            "?",
            "127.0.0.1.nip.io:80",
        ] {
            assert!(!is_local(bad), "{bad}");
        }
    }
}
