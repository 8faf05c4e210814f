//! The dashboards: files that `cargo xtask web` built, served from the program itself.
//!
//! Pages are known by their paths, so that a wrong address below `/api` or `/assets` stays a fault that says so. What a
//! browser may do with a page is closed: nothing from elsewhere, no inline script, in nobody's frame.

use std::borrow::Cow;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::{packed, problem};

/// Files beside the page; all others have a hash of their content in their names, below `/assets`.
const BESIDE: &[&str] = &["/favicon.svg", "/licenses.txt"];

/// Paths at which the one page answers; the page itself knows which of them it shows.
const PAGES: &[&str] =
    &["/", "/workloads", "/workloads/{name}", "/nodes", "/nodes/{name}", "/changes", "/what-if", "/system"];

const POLICY: &str =
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const UNBUILT: &str = "<!doctype html>
<html lang=\"en\"><meta charset=\"utf-8\"><title>Trimtab</title>
<h1>Trimtab runs; this build has no dashboards</h1>
<p>They are built with Node 20.19 or newer: <code>cargo xtask web</code>, then build the autoscaler again.
<p>Without them: <code>trimtab get workloads</code>, <code>trimtab top</code>, and <a href=\"/api/v1/openapi.json\">the REST interface</a>.
";

/// What vite wrote. The folder is in the checkout, empty until then.
#[derive(rust_embed::RustEmbed)]
#[folder = "../dashboards/web/dist"]
struct Built;

/// A file and its entity tag.
struct File {
    bytes: Cow<'static, [u8]>,
    tag: String,
}

/// Looks a file up by its path below the folder.
type Find = fn(&str) -> Option<File>;

fn built(path: &str) -> Option<File> {
    let file = Built::get(path)?;
    let tag = file.metadata.sha256_hash()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    Some(File { bytes: file.data, tag })
}

/// Routes of the dashboards.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    routes_of(built)
}

fn routes_of<S: Clone + Send + Sync + 'static>(find: Find) -> Router<S> {
    let page = move |headers: HeaderMap| async move {
        serve(find, "index.html", &headers).unwrap_or_else(|| unbuilt().into_response())
    };
    let asset = move |Path(path): Path<String>, headers: HeaderMap, uri: Uri| async move {
        match serve(find, &format!("assets/{path}"), &headers) {
            Some(found) => found,
            None => problem::no_such_path(uri).await.into_response(),
        }
    };
    let beside = move |headers: HeaderMap, uri: Uri| async move {
        match serve(find, uri.path().trim_start_matches('/'), &headers) {
            Some(found) => found,
            None => problem::no_such_path(uri).await.into_response(),
        }
    };
    let pages = PAGES.iter().fold(Router::new(), |router, path| router.route(path, get(page)));
    let files = BESIDE.iter().fold(pages, |router, path| router.route(path, get(beside)));
    files.route("/assets/{*path}", get(asset))
}

/// The file, or that the client has it; none when there is no such file that may be served.
fn serve(find: Find, path: &str, headers: &HeaderMap) -> Option<Response> {
    let kind = match path.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "txt" => "text/plain; charset=utf-8",
        _ => return None,
    };
    let plain = find(path)?;
    let packed = if packed::takes(headers, "gzip") { find(&format!("{path}.gz")) } else { None };
    let coding = packed.is_some();
    let file = packed.unwrap_or(plain);
    let tag = format!("\"{}\"", file.tag);
    // Names of assets hold a hash of their content.
    let keep = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let common =
        [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, keep), (header::VARY, "accept-encoding")];
    if has(headers, &tag) {
        return Some((StatusCode::NOT_MODIFIED, common, closed()).into_response());
    }
    let mut response = ([(header::CONTENT_TYPE, kind)], common, closed(), file.bytes).into_response();
    if coding {
        let gzip = header::HeaderValue::from_static("gzip");
        response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
    }
    Some(response)
}

fn unbuilt() -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (kind, closed(), UNBUILT)
}

/// What closes a page against others.
fn closed() -> [(header::HeaderName, &'static str); 4] {
    [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ]
}

/// The client has the content of this tag already.
fn has(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|one| one == "*" || one.trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt as _;

    fn some(path: &str) -> Option<File> {
        let (bytes, tag): (&[u8], &str) = match path {
            "index.html" => (b"<!doctype html>", "page"),
            "index.html.gz" => (b"packed page", "page-gz"),
            "assets/app-1a.js" => (b"run()", "code"),
            "licenses.txt" => (b"MIT", "text"),
            "secret.toml" | "assets/app-1a.js.map" | ".gitignore" => (b"no", "no"),
            _ => return None,
        };
        Some(File { bytes: bytes.into(), tag: tag.to_owned() })
    }

    async fn ask(find: Find, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        routes_of::<()>(find)
            .fallback(problem::no_such_path)
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap()
    }

    fn header<'a>(response: &'a Response, name: &str) -> &'a str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[tokio::test]
    async fn each_page_is_the_page_and_closed_against_others() {
        let paths = ["/workloads", "/workloads/web", "/workloads/..%2f..%2fx", "/nodes", "/nodes/n1"];
        for path in ["/", "/changes", "/what-if", "/system"].into_iter().chain(paths) {
            let page = ask(some, path, &[]).await;
            assert_eq!((page.status(), header(&page, "etag")), (StatusCode::OK, "\"page\""), "{path}");
            assert_eq!(header(&page, "content-type"), "text/html; charset=utf-8");
            assert_eq!(header(&page, "cache-control"), "no-cache");
            let policy = header(&page, "content-security-policy");
            assert!(
                policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"),
                "{policy}"
            );
            assert!(!policy.contains("unsafe"), "{policy}");
            assert_eq!(header(&page, "x-content-type-options"), "nosniff");
            assert_eq!(header(&page, "referrer-policy"), "no-referrer");
        }
    }

    #[tokio::test]
    async fn what_the_client_has_is_not_sent_again() {
        for tags in ["\"page\"", "\"other\", W/\"page\"", "*"] {
            assert_eq!(
                ask(some, "/", &[("if-none-match", tags)]).await.status(),
                StatusCode::NOT_MODIFIED,
                "{tags}"
            );
        }
        assert_eq!(ask(some, "/", &[("if-none-match", "\"other\"")]).await.status(), StatusCode::OK);
        let other_coding =
            ask(some, "/", &[("if-none-match", "\"page\""), ("accept-encoding", "gzip")]).await;
        assert_eq!(other_coding.status(), StatusCode::OK, "a strong tag is of one coding");
    }

    #[tokio::test]
    async fn packed_files_go_to_those_who_take_them() {
        for (takes, coding) in
            [("gzip", "gzip"), ("br, gzip;q=0.5", "gzip"), ("gzip;q=0", ""), ("br", ""), ("identity", "")]
        {
            let page = ask(some, "/", &[("accept-encoding", takes)]).await;
            assert_eq!(header(&page, "content-encoding"), coding, "{takes}");
            assert_eq!(header(&page, "vary"), "accept-encoding");
        }
        let code = ask(some, "/assets/app-1a.js", &[("accept-encoding", "gzip")]).await;
        assert_eq!(
            (header(&code, "content-encoding"), header(&code, "etag")),
            ("", "\"code\""),
            "not packed: plain"
        );
        let text = ask(some, "/licenses.txt", &[]).await;
        assert_eq!(header(&text, "content-type"), "text/plain; charset=utf-8");
        assert_eq!(header(&text, "cache-control"), "no-cache", "its name holds no hash");
        assert_eq!(header(&code, "cache-control"), "public, max-age=31536000, immutable");
    }

    #[tokio::test]
    async fn what_is_no_page_and_no_asset_is_a_problem() {
        for path in [
            "/assets/absent.js",
            "/assets/..%2fsecret.toml",
            "/assets/../secret.toml",
            "/assets/%2e%2e/index.html",
            "/assets/app-1a.js.map",
            "/assets/",
            "/secret.toml",
            "/.gitignore",
            "/favicon.svg",
            "/anything",
            "/api/v1/absent",
            "/workloads/a/b",
            "/changes/1",
        ] {
            let answer = ask(some, path, &[]).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
            assert_eq!(header(&answer, "content-type"), "application/problem+json", "{path}");
        }
    }

    #[tokio::test]
    async fn without_a_build_the_page_says_how() {
        let page = ask(|_| None, "/", &[]).await;
        assert_eq!(page.status(), StatusCode::OK);
        assert!(header(&page, "content-security-policy").contains("default-src 'self'"));
        let body = axum::body::to_bytes(page.into_body(), 1 << 16).await.unwrap();
        assert!(String::from_utf8_lossy(&body).contains("cargo xtask web"));
    }
}
