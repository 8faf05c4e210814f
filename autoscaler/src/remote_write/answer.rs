//! What an answer of the receiver means for what was sent.

use std::time::{Duration, SystemTime};

/// First wait after a failure; it doubles with each one that follows.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait after failures: a receiver that comes back is noticed after it.
const MOST: Duration = Duration::from_secs(60);
/// Longest wait that a receiver can ask for. What is taken meanwhile waits, up to the bound of the queue.
const MOST_ASKED: Duration = Duration::from_secs(600);

/// What to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The receiver has it.
    Taken,
    /// Send it again after this time.
    Again(Duration),
    /// It will never be taken.
    Refused,
}

/// By the status and, where the receiver asks for one, the wait. `failures`: how many attempts failed before, in a row.
pub(super) fn verdict(status: u16, retry_after: Option<Duration>, failures: u32) -> Verdict {
    match status {
        200..=299 => Verdict::Taken,
        // Too many requests, or a fault of the receiver, which passes.
        429 | 500..=599 => {
            let asked = retry_after.map(|wait| wait.clamp(FIRST, MOST_ASKED));
            Verdict::Again(asked.unwrap_or_else(|| backoff(failures)))
        }
        _ => Verdict::Refused,
    }
}

/// How long to wait after `failures` attempts in a row that failed before this one.
pub(super) fn backoff(failures: u32) -> Duration {
    FIRST.saturating_mul(1 << failures.min(16)).min(MOST)
}

/// What `Retry-After` asks for: seconds, or a date of HTTP. `None` when it is neither.
pub(super) fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(header).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

/// The label of a failed status.
pub(super) fn code(status: u16) -> &'static str {
    match status {
        429 => "status_429",
        500..=599 => "status_5xx",
        300..=399 => "status_3xx",
        _ => "status_4xx",
    }
}

/// What a receiver said, as one short line without what a terminal would obey.
pub(super) fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("nothing");
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_tried_again_and_what_does_not_is_given_up() {
        for status in [200, 202, 204] {
            assert_eq!(verdict(status, None, 3), Verdict::Taken);
        }
        for status in [301, 400, 401, 404, 413, 101] {
            assert_eq!(verdict(status, Some(FIRST), 0), Verdict::Refused, "{status}");
        }
        for status in [429, 500, 503, 599] {
            assert_eq!(verdict(status, None, 2), Verdict::Again(Duration::from_secs(4)), "{status}");
            let asked = |seconds| verdict(status, Some(Duration::from_secs(seconds)), 9);
            assert_eq!(asked(7), Verdict::Again(Duration::from_secs(7)));
            assert_eq!(asked(0), Verdict::Again(FIRST), "a wait of nothing would be a storm");
            assert_eq!(asked(u64::MAX), Verdict::Again(MOST_ASKED));
        }
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let waits: Vec<u64> = [0, 1, 5, 6, 7, u32::MAX].map(|n| backoff(n).as_secs()).into();
        assert_eq!(waits, [1, 2, 32, 60, 60, 60]);
    }

    #[test]
    fn both_forms_of_a_wait_are_understood() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        assert_eq!(retry_after(" 3 ", now), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1983 08:49:37 GMT", now), Some(Duration::ZERO));
        for neither in ["", "-1", "soon", "1.5"] {
            assert_eq!(retry_after(neither, now), None, "{neither}");
        }
    }

    #[test]
    fn what_a_receiver_says_is_one_harmless_line() {
        assert_eq!(words(b"\n\n out of \x1b[31morder\x07 sample\nmore"), "out of [31morder sample");
        assert_eq!(words(b""), "nothing");
        assert_eq!(words(&[b'x'; 900]).len(), 200);
        assert!(!words(&[0xff, 0xfe]).is_empty());
    }
}
