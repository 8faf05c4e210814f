//! A container runtime's list. Only ever read.

use std::path::Path;
use std::time::Duration;

use agent_core::container;
use model::node::Container;

/// Longest wait for an answer: a runtime that starts or ends many containers at once answers late.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The containers that run, by a Docker or Podman socket.
///
/// # Errors
/// A text that names the socket and what happened.
pub async fn list(socket: &Path) -> Result<Vec<Container>, String> {
    match super::get_unix(socket, "/containers/json", TIMEOUT).await? {
        (200, body) => container::listed(&body).map_err(|why| format!("{}: {why}", socket.display())),
        (status, _) => Err(format!("{}: answered {status}", socket.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    async fn answer(text: &'static str) -> Result<Vec<Container>, String> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            let n = stream.read(&mut asked).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&asked[..n]).into_owned()
        });
        let list = list(&socket).await;
        assert!(server.await.unwrap().starts_with("GET /containers/json HTTP/1.1\r\n"));
        list
    }

    #[tokio::test]
    async fn a_refusal_and_nonsense_are_named_with_the_socket() {
        let empty = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]";
        assert_eq!(answer(empty).await, Ok(vec![]));
        for (text, part) in [
            ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "answered 403"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "invalid type"),
            ("no HTTP at all\r\n\r\n", "docker.sock"),
        ] {
            let why = answer(text).await.unwrap_err();
            assert!(why.contains(part) && why.contains("docker.sock: "), "{why}");
        }
        let missing = list(Path::new("/nonexistent/docker.sock")).await.unwrap_err();
        assert!(missing.contains("No such file"), "{missing}");
    }
}
