//! Refuses what no client of this host would send, asks browsers for the session before they change something, and
//! counts requests.
//!
//! Without a log-in the interface trusts this host's users. A page in a browser of this host must not inherit that
//! trust. Problem: it may come from another site, from another port of this host, or from a name that was bound to
//! loopback after the page was loaded. Method: the `Host` must be a name of loopback, an `Origin` must be the one of the
//! request itself, `Sec-Fetch-Site` must not speak of another (a link that leads here may), and whatever changes
//! something and comes from a browser needs the session's secret, which only whoever reads the state directory can give
//! to a page. Bounds: who is no browser sends none of these headers, and is a user of this host; so is a browser that is
//! too old to send them, but only for reading: changes have had an `Origin` in all of them for years.

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use super::problem::{self, Failure};
use crate::metrics::Reason;
use crate::session::Token;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// No browser: a user of this host.
    Local,
    /// Somebody with the session.
    Session,
    /// A page without it.
    Page,
}

impl Caller {
    /// Whether it may change something.
    pub(super) fn writes(self) -> bool {
        self != Caller::Page
    }
}

pub(super) async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let admitted = admit(request.method(), request.uri(), request.headers(), &app.session);
    let response = match admitted {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            problem::explained(next.run(request).await).await
        }
        Err(failure) => failure.into_response(),
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

fn admit(method: &Method, uri: &Uri, headers: &HeaderMap, session: &Token) -> Result<Caller, Failure> {
    let forbidden = |kind, detail| Failure::new(StatusCode::FORBIDDEN, kind, detail);
    let own = uri
        .authority()
        .map(axum::http::uri::Authority::as_str)
        .or_else(|| all(headers, &header::HOST).next());
    if own.is_some_and(|own| !is_local(own)) || all(headers, &header::HOST).any(|host| !is_local(host)) {
        let detail =
            "the Host of the request is not this host: use 127.0.0.1, [::1], localhost or the unix socket";
        return Err(forbidden("not-local", detail));
    }
    let foreign = |origin: &str| {
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        authority.zip(own).is_none_or(|(authority, own)| !authority.eq_ignore_ascii_case(own))
    };
    let shows = matches!(*method, Method::GET | Method::HEAD);
    // A question whose words are too many for an address: it changes nothing.
    let reads = shows || (*method == Method::POST && uri.path() == super::what_if::PATH);
    let comes_by_link = shows && all(headers, &FETCH_MODE).eq(["navigate"]);
    let elsewhere = all(headers, &FETCH_SITE).any(|site| !matches!(site, "same-origin" | "none"));
    if all(headers, &header::ORIGIN).any(foreign) || (elsewhere && !comes_by_link) {
        let detail = "a page of another address asks, and only the dashboards of this address may: open them, or ask without a browser";
        return Err(forbidden("other-origin", detail));
    }
    let unauthorised = |kind, detail| Failure::new(StatusCode::UNAUTHORIZED, kind, detail);
    if headers.contains_key(header::AUTHORIZATION) {
        return if all(headers, &header::AUTHORIZATION)
            .all(|given| bearer(given).is_some_and(|given| session.is(given)))
        {
            Ok(Caller::Session)
        } else {
            let detail = "the session is not the one of this autoscaler (any more): `trimtab dashboard` prints an address that has it";
            Err(unauthorised("session-wrong", detail))
        };
    }
    let browser = headers.contains_key(header::ORIGIN) || headers.contains_key(&FETCH_SITE);
    match (browser, reads || *method == Method::OPTIONS) {
        (false, _) => Ok(Caller::Local),
        (true, true) => Ok(Caller::Page),
        (true, false) => {
            let detail = "a browser changes something only with a session (Authorization: Bearer SESSION): `trimtab dashboard` prints an address that has it; open that";
            Err(unauthorised("session-required", detail))
        }
    }
}

/// All values of a header; what is no text is something that nothing equals.
fn all<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).into_iter().map(|value| value.to_str().unwrap_or("?"))
}

fn bearer(given: &str) -> Option<&str> {
    let (scheme, secret) = given.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(secret.trim())
}

fn is_local(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host,
        _ => authority,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

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

    const OWN: &str = "127.0.0.1:7780";
    const OWN_ORIGIN: (&str, &str) = ("origin", "http://127.0.0.1:7780");
    const LOCAL: Result<Caller, &str> = Ok(Caller::Local);
    const PAGE: Result<Caller, &str> = Ok(Caller::Page);
    const SESSION: Result<Caller, &str> = Ok(Caller::Session);
    const OTHER: Result<Caller, &str> = Err("other-origin");
    const AWAY: Result<Caller, &str> = Err("not-local");
    const REQUIRED: Result<Caller, &str> = Err("session-required");
    const WRONG: Result<Caller, &str> = Err("session-wrong");

    type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, Result<Caller, &'a str>);

    fn asked(session: &Token, method: &str, headers: &[(&str, &str)]) -> Result<Caller, String> {
        let mut map = HeaderMap::new();
        if !headers.iter().any(|(name, _)| *name == "host") {
            map.insert(header::HOST, OWN.parse().unwrap());
        }
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let uri = Uri::from_static("/api/v1/pause");
        admit(&method.parse().unwrap(), &uri, &map, session).map_err(|failure| failure.kind().to_owned())
    }

    fn check(cases: Vec<Case<'_>>) {
        let state = tempfile::tempdir().unwrap();
        let session = Token::open(state.path()).unwrap();
        let right = format!("Bearer {}", session.secret());
        for (method, headers, expect) in cases {
            let filled: Vec<_> =
                headers.iter().map(|(n, v)| (*n, if *v == "RIGHT" { right.as_str() } else { *v })).collect();
            let got = asked(&session, method, &filled);
            assert_eq!(
                got.as_ref().map_err(String::as_str),
                expect.as_ref().map_err(|kind| *kind),
                "{method} {headers:?}"
            );
        }
    }

    #[test]
    fn a_name_of_elsewhere_is_no_name_of_this_host() {
        check(vec![
            ("GET", vec![], LOCAL),
            ("GET", vec![("host", "localhost")], LOCAL),
            ("GET", vec![("host", "LOCALHOST:7780")], LOCAL),
            ("GET", vec![("host", "evil.example:7780")], AWAY),
            ("GET", vec![("host", "evil.example:7780"), ("origin", "http://evil.example:7780")], AWAY),
            ("GET", vec![("host", OWN), ("host", "evil.example")], AWAY),
            ("POST", vec![("host", "evil.example"), ("authorization", "RIGHT")], AWAY),
        ]);
    }

    #[test]
    fn only_pages_of_this_very_address_may_ask() {
        let site = |value| ("sec-fetch-site", value);
        let mode = |value| ("sec-fetch-mode", value);
        check(vec![
            ("GET", vec![OWN_ORIGIN], PAGE),
            ("GET", vec![("host", "localhost:7780"), ("origin", "http://LOCALHOST:7780")], PAGE),
            // The same host by another name, or another port of it, is another origin.
            ("GET", vec![("origin", "http://localhost:7780")], OTHER),
            ("GET", vec![("origin", "http://127.0.0.1:3000")], OTHER),
            ("GET", vec![("origin", "http://127.0.0.1")], OTHER),
            ("GET", vec![("origin", "https://example.com")], OTHER),
            ("GET", vec![("origin", "null")], OTHER),
            ("GET", vec![("origin", "127.0.0.1:7780")], OTHER),
            ("GET", vec![("origin", "ftp://127.0.0.1:7780")], OTHER),
            ("GET", vec![OWN_ORIGIN, ("origin", "http://127.0.0.1:3000")], OTHER),
            ("POST", vec![("origin", "http://127.0.0.1:3000"), ("authorization", "RIGHT")], OTHER),
            // A page, an address that was typed, a link that leads here, something that is embedded elsewhere.
            ("GET", vec![site("same-origin"), mode("cors")], PAGE),
            ("GET", vec![site("none"), mode("navigate")], PAGE),
            ("GET", vec![site("cross-site"), mode("navigate")], PAGE),
            ("GET", vec![site("same-site"), mode("navigate")], PAGE),
            ("GET", vec![site("same-site"), mode("no-cors")], OTHER),
            ("GET", vec![site("cross-site")], OTHER),
            ("GET", vec![site("same-origin"), site("cross-site")], OTHER),
            // A form of another page.
            ("POST", vec![site("cross-site"), mode("navigate")], OTHER),
            ("POST", vec![site("same-site"), mode("navigate"), ("authorization", "RIGHT")], OTHER),
            ("OPTIONS", vec![site("cross-site"), mode("cors")], OTHER),
        ]);
    }

    #[test]
    fn a_browser_needs_the_session_to_change_something_and_nobody_may_have_a_wrong_one() {
        let site = ("sec-fetch-site", "same-origin");
        check(vec![
            ("POST", vec![], LOCAL),
            ("DELETE", vec![], LOCAL),
            ("PUT", vec![OWN_ORIGIN], REQUIRED),
            ("POST", vec![site], REQUIRED),
            ("DELETE", vec![OWN_ORIGIN, site], REQUIRED),
            ("PATCH", vec![("sec-fetch-site", "none")], REQUIRED),
            ("OPTIONS", vec![OWN_ORIGIN], PAGE),
            ("HEAD", vec![site], PAGE),
            ("PUT", vec![OWN_ORIGIN, site, ("authorization", "RIGHT")], SESSION),
            ("GET", vec![site, ("authorization", "RIGHT")], SESSION),
            ("POST", vec![("authorization", "RIGHT")], SESSION),
            ("POST", vec![OWN_ORIGIN, ("authorization", "Bearer wrong")], WRONG),
            ("GET", vec![OWN_ORIGIN, ("authorization", "Bearer wrong")], WRONG),
            ("POST", vec![("authorization", "Bearer wrong")], WRONG),
            ("GET", vec![("authorization", "Bearer wrong")], WRONG),
            ("POST", vec![("authorization", "Basic YTpi")], WRONG),
            ("POST", vec![("authorization", "Bearer")], WRONG),
            ("POST", vec![("authorization", "")], WRONG),
            ("POST", vec![("authorization", "RIGHT"), ("authorization", "Bearer wrong")], WRONG),
        ]);
    }

    #[test]
    fn a_page_without_the_session_may_ask_what_if_and_a_page_of_elsewhere_may_not() {
        let state = tempfile::tempdir().unwrap();
        let session = Token::open(state.path()).unwrap();
        let ask = |method: Method, path: &str, headers: &[(&'static str, &str)]| {
            let own = [("host", OWN)].into_iter().chain(headers.iter().copied());
            let map =
                own.map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
            let uri = path.parse().unwrap();
            admit(&method, &uri, &map, &session).map_err(|failure| failure.kind().to_owned())
        };
        let other = Err("other-origin".to_owned());
        assert_eq!(ask(Method::POST, "/api/v1/what-if", &[OWN_ORIGIN]), Ok(Caller::Page));
        assert_eq!(ask(Method::POST, "/api/v1/what-if", &[("origin", "http://127.0.0.1:3000")]), other);
        let form = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(ask(Method::POST, "/api/v1/what-if", &form), other, "nor a form of another page");
        let required = Err("session-required".to_owned());
        assert_eq!(ask(Method::DELETE, "/api/v1/what-if", &[OWN_ORIGIN]), required);
        assert_eq!(ask(Method::POST, "/api/v1/what-if/more", &[OWN_ORIGIN]), required);
    }

    #[test]
    fn the_address_of_a_request_counts_before_its_host() {
        let state = tempfile::tempdir().unwrap();
        let session = Token::open(state.path()).unwrap();
        let headers: HeaderMap = [(header::HOST, OWN.parse().unwrap())].into_iter().collect();
        let ask = |uri: &str| admit(&Method::GET, &uri.parse().unwrap(), &headers, &session);
        assert_eq!(ask("http://127.0.0.1:7780/livez").unwrap(), Caller::Local);
        assert_eq!(ask("http://evil.example/livez").unwrap_err().kind(), "not-local");
        let nameless = HeaderMap::from_iter([(header::ORIGIN, "http://127.0.0.1:7780".parse().unwrap())]);
        let nobody = admit(&Method::GET, &Uri::from_static("/"), &nameless, &session);
        assert_eq!(nobody.unwrap_err().kind(), "other-origin", "without a name nothing is its own origin");
    }
}
