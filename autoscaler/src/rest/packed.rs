//! Answers that are long come packed, to whoever takes that: a thousand nodes are most of a megabyte, which pages ask for every two
//! seconds, often through a tunnel.
//!
//! Method: zstd, which is here for the journal already and which browsers take from loopback. Bounds: JSON whose length is known; never
//! live events, never what has an entity tag, which would then stand for two forms.

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{self, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::problem::Failure;

/// Shorter answers are sent as they are, bytes: about ten packets.
const WORTH: u64 = 16 << 10;
/// zstd's level: the fastest of its usual ones, a tenth of the length for lists of nodes.
const LEVEL: i32 = 1;

pub(super) async fn pack(request: Request, next: Next) -> Response {
    let wanted = takes(request.headers(), "zstd");
    let mut answer = next.run(request).await;
    if !may_be(&answer) {
        return answer;
    }
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if wanted { packed(answer).await } else { answer }
}

fn may_be(answer: &Response) -> bool {
    let headers = answer.headers();
    let json = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let taken = [header::CONTENT_ENCODING, header::ETAG, header::VARY];
    json && answer.body().size_hint().exact().is_some_and(|length| length >= WORTH)
        && !taken.iter().any(|name| headers.contains_key(name))
}

async fn packed(answer: Response) -> Response {
    let (mut head, body) = answer.into_parts();
    // Its length is known because it is in memory already.
    let plain = match axum::body::to_bytes(body, usize::MAX).await {
        Ok(plain) => plain,
        Err(error) => return Failure::internal(&error).into_response(),
    };
    let kept = plain.clone();
    match tokio::task::spawn_blocking(move || zstd::bulk::compress(&plain, LEVEL)).await {
        Ok(Ok(bytes)) => {
            head.headers.remove(header::CONTENT_LENGTH);
            head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("zstd"));
            Response::from_parts(head, bytes.into())
        }
        _ => Response::from_parts(head, kept.into()),
    }
}

/// The client takes this coding: it is named (`*` is too vague), with a weight above none.
pub(super) fn takes(headers: &HeaderMap, wanted: &str) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| {
        let (coding, weight) = one.split_once(';').unwrap_or((one, "q=1"));
        let weight = weight.trim().trim_start_matches("q=").parse::<f32>().unwrap_or(0.0);
        coding.trim().eq_ignore_ascii_case(wanted) && weight > 0.0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;

    /// A list of some thousand numbers, as JSON.
    fn long() -> String {
        let numbers: Vec<String> = (0..9_000).map(|n| n.to_string()).collect();
        format!("[{}]", numbers.join(","))
    }

    async fn ask(path: &str, takes: &str) -> Response {
        const JSON: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json")];
        let streamed = || async {
            let stream = tokio_stream::once(Ok::<_, std::convert::Infallible>(long()));
            (JSON, Body::from_stream(stream)).into_response()
        };
        let tagged = || async { (JSON, [(header::ETAG, "\"1\"")], long()).into_response() };
        let router = Router::new()
            .route("/long", get(|| async { (JSON, long()) }))
            .route("/short", get(|| async { (JSON, "[1,2]") }))
            .route("/text", get(|| async { long() }))
            .route("/streamed", get(streamed))
            .route("/tagged", get(tagged))
            .layer(axum::middleware::from_fn(pack));
        let request = Request::get(path).header("accept-encoding", takes).body(Body::empty()).unwrap();
        router.oneshot(request).await.unwrap()
    }

    async fn bytes(answer: Response) -> Vec<u8> {
        axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap().to_vec()
    }

    #[tokio::test]
    async fn a_long_answer_comes_packed_to_whom_takes_it() {
        for takes in ["zstd", "gzip, deflate, br, zstd", "ZSTD;q=0.5"] {
            let answer = ask("/long", takes).await;
            let head = answer.headers().clone();
            assert_eq!(head["content-encoding"], "zstd", "{takes}");
            assert_eq!(
                (&head["vary"], &head["content-type"]),
                (&"accept-encoding".parse().unwrap(), &"application/json".parse().unwrap())
            );
            let packed = bytes(answer).await;
            assert!(packed.len() < long().len() / 2, "{} bytes", packed.len());
            assert_eq!(zstd::bulk::decompress(&packed, 1 << 20).unwrap(), long().into_bytes());
        }
        for takes in ["", "gzip", "*", "zstd;q=0", "zstd;q=much"] {
            let answer = ask("/long", takes).await;
            assert!(!answer.headers().contains_key("content-encoding"), "{takes}");
            assert_eq!(answer.headers()["vary"], "accept-encoding", "a cache must not give it to others");
            assert_eq!(bytes(answer).await, long().into_bytes());
        }
    }

    #[tokio::test]
    async fn what_is_short_or_no_json_or_streamed_or_tagged_stays_as_it_is() {
        for path in ["/short", "/text", "/streamed", "/tagged"] {
            let answer = ask(path, "zstd").await;
            assert!(!answer.headers().contains_key("content-encoding"), "{path}");
            assert!(!answer.headers().contains_key("vary"), "{path}");
        }
    }
}
