//! The servers of a backend in HAProxy's own file, between two lines that its owner put there, so that what was added at
//! run time is there after a reload, too.
//!
//! ```text
//! backend web
//!   balance leastconn
//!   # begin trimtab web
//!   server web-3 127.0.0.1:9303 check port 9353 inter 1s rise 1 fall 3 maxconn 3
//!   # end trimtab web
//! ```

/// Why a file cannot take servers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The owner did not say where.
    #[error(
        "backend {backend:?} has no line {line:?}: put `# begin trimtab {backend}` and `# end trimtab {backend}` into it"
    )]
    NoLine {
        /// Which backend.
        backend: String,
        /// Which line.
        line: String,
    },
}

/// The text with the server's line set to `arguments` (what follows the name), or without it.
///
/// # Errors
/// [`ConfigError::NoLine`] when the backend has no place for servers.
pub fn with_server(
    text: &str,
    backend: &str,
    server: &str,
    arguments: Option<&str>,
) -> Result<String, ConfigError> {
    let lines: Vec<&str> = text.lines().collect();
    let find = |line: String, from: usize| {
        let at = lines.iter().skip(from).position(|l| l.trim() == line).map(|at| from + at);
        at.ok_or_else(|| ConfigError::NoLine { backend: backend.to_owned(), line })
    };
    let begin = find(format!("# begin trimtab {backend}"), 0)?;
    let end = find(format!("# end trimtab {backend}"), begin)?;
    let name = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("server")).then(|| words.next()).flatten().map(str::to_owned)
    };
    let indent: String = lines[begin].chars().take_while(|c| c.is_whitespace()).collect();
    let new = arguments.map(|arguments| format!("{indent}server {server} {arguments}"));
    let kept = lines[begin + 1..end].iter().filter(|line| name(line).as_deref() != Some(server));
    let inside = kept.map(|line| (*line).to_owned()).chain(new);
    let outside = |part: &[&str]| part.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let all = outside(&lines[..=begin]).into_iter().chain(inside).chain(outside(&lines[end..]));
    Ok(all.map(|line| line + "\n").collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "global\n\nbackend web\n  balance leastconn\n  # begin trimtab web\n  # end trimtab web\n\nbackend api\n  server web-1 10.0.0.1:80\n";

    #[test]
    fn a_server_is_put_changed_and_removed_and_nothing_else_is_touched() {
        let one = with_server(FILE, "web", "web-1", Some("127.0.0.1:9301 check")).unwrap();
        assert!(one.contains("  # begin trimtab web\n  server web-1 127.0.0.1:9301 check\n  # end"), "{one}");
        let two = with_server(&one, "web", "web-2", Some("127.0.0.1:9302 check")).unwrap();
        let again = with_server(&two, "web", "web-1", Some("127.0.0.1:9309 check")).unwrap();
        assert_eq!(again.matches("server web-1 127.0.0.1").count(), 1, "{again}");
        let without = with_server(&again, "web", "web-1", None).unwrap();
        assert_eq!(with_server(&without, "web", "web-2", None).unwrap(), FILE);
        assert_eq!(with_server(FILE, "web", "web-7", None).unwrap(), FILE);
    }

    #[test]
    fn a_file_without_a_place_says_what_to_write() {
        let error = with_server(FILE, "api", "api-1", Some("x")).unwrap_err().to_string();
        assert!(error.contains("# begin trimtab api") && error.contains("# end trimtab api"), "{error}");
        let half = FILE.replace("# end trimtab web", "");
        assert!(
            with_server(&half, "web", "web-1", None).unwrap_err().to_string().contains("end trimtab web")
        );
    }
}
