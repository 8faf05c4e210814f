//! What HAProxy says: `show stat` (CSV), replies of the runtime socket, and its request log.
//!
//! The queue delay of a request is in the log (`%Tw`, ms): per request and exact to the ms, unlike `qtime` of
//! `show stat`, an average of the last 1024 requests that keeps its value when none come.

pub mod config;

use model::adapter::{BalancerReport, Quantiles, ServerReport, ServerState};

/// Why an answer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatError {
    /// The answer is not the CSV that `show stat` gives.
    #[error("show stat: no header line with {0:?}")]
    NoColumn(&'static str),
    /// The backend is not in it.
    #[error("show stat: there is no backend {0:?}; write the name that haproxy.cfg uses")]
    NoBackend(String),
}

/// Reads one backend out of `show stat`.
///
/// # Errors
/// [`StatError`] when the text is no such table or lacks the backend.
pub fn stat(text: &str, backend: &str) -> Result<BalancerReport, StatError> {
    let mut lines = text.lines();
    let header: Vec<&str> = match lines.find_map(|l| l.strip_prefix("# ")) {
        Some(header) => header.split(',').collect(),
        None => return Err(StatError::NoColumn("pxname")),
    };
    let column = |name: &'static str| header.iter().position(|h| *h == name).ok_or(StatError::NoColumn(name));
    let (px, sv, status) = (column("pxname")?, column("svname")?, column("status")?);
    let (scur, qcur, slim, stot) = (column("scur")?, column("qcur")?, column("slim")?, column("stot")?);
    let (e5, econ, eresp) = (column("hrsp_5xx")?, column("econ")?, column("eresp")?);
    let (check, addr) = (column("check_status")?, column("addr")?);
    let mut report = None;
    let mut servers = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let get = |at: usize| fields.get(at).copied().unwrap_or_default();
        let n = |at: usize| get(at).parse::<u64>().unwrap_or(0);
        if get(px) != backend {
            continue;
        }
        match get(sv) {
            "FRONTEND" => {}
            "BACKEND" => {
                report = Some(BalancerReport {
                    backend: backend.to_owned(),
                    queued: n(qcur),
                    requests_total: n(stot),
                    errors_5xx_total: n(e5),
                    errors_connection_total: n(econ) + n(eresp),
                    queue_delay: None,
                    response_time: None,
                    servers: Vec::new(),
                    started_ms: 0,
                });
            }
            server => servers.push(ServerReport {
                server: server.to_owned(),
                address: get(addr).to_owned(),
                state: server_state(get(status)),
                active: n(scur),
                queued: n(qcur),
                limit: n(slim),
                check: get(check).trim_start_matches("* ").to_owned(),
            }),
        }
    }
    let report = report.ok_or_else(|| StatError::NoBackend(backend.to_owned()))?;
    Ok(BalancerReport { servers, ..report })
}

/// HAProxy's words: `UP`, `UP 1/3`, `DOWN`, `DOWN 1/2`, `DRAIN`, `MAINT`, `MAINT (via …)`, `NOLB`, `no check`.
fn server_state(status: &str) -> ServerState {
    match status {
        "UP" | "no check" => ServerState::Up,
        s if s.starts_with("UP ") || s.starts_with("NOLB") => ServerState::Failing,
        s if s.starts_with("MAINT") => ServerState::Maintenance,
        s if s.starts_with("DRAIN") => ServerState::Draining,
        _ => ServerState::Down,
    }
}

/// Uptime in seconds out of `show info`; with the clock it gives the process's start.
#[must_use]
pub fn uptime_seconds(info: &str) -> Option<u64> {
    info.lines().find_map(|l| l.strip_prefix("Uptime_sec: "))?.trim().parse().ok()
}

/// One request of the log format that Trimtab asks for:
/// `trimtab <backend> <server> <Tw> <Tr> <Ta> <status> <termination>`, all times in ms, −1 when a phase was not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The backend.
    pub backend: &'a str,
    /// Time in the queue, ms; `None` when it never left it.
    pub queue_ms: Option<u64>,
    /// Whole time, ms.
    pub total_ms: Option<u64>,
    /// HTTP status, −1 without one.
    pub status: i32,
}

/// Reads a log datagram; `None` when it is of another format.
#[must_use]
pub fn request(line: &str) -> Option<Request<'_>> {
    let start = line.find("trimtab ")?;
    let mut fields = line[start + "trimtab ".len()..].split_ascii_whitespace();
    let backend = fields.next()?;
    let _server = fields.next()?;
    let mut time = || fields.next()?.trim_start_matches('+').parse::<i64>().ok();
    let (queue, _response, total) = (time()?, time()?, time()?);
    let status = fields.next()?.parse().ok()?;
    let phase = |ms: i64| u64::try_from(ms).ok();
    Some(Request { backend, queue_ms: phase(queue), total_ms: phase(total), status })
}

/// Delays in ms, counted exactly up to a bound: enough for quantiles of one second of requests.
#[derive(Debug, Clone, Default)]
pub struct Delays {
    /// Sorted only when read.
    values: Vec<u32>,
    dropped: u64,
}

/// Most requests kept between two reports; beyond it every further one is only counted.
const DELAYS_LIMIT: usize = 65_536;

impl Delays {
    /// Adds one.
    pub fn record(&mut self, ms: u64) {
        if self.values.len() < DELAYS_LIMIT {
            self.values.push(u32::try_from(ms).unwrap_or(u32::MAX));
        } else {
            self.dropped += 1;
        }
    }

    /// Takes what was recorded; `None` when there was nothing.
    pub fn take(&mut self) -> Option<Quantiles> {
        if self.values.is_empty() {
            return None;
        }
        self.values.sort_unstable();
        let count = self.values.len();
        let at =
            |share: f64| f64::from(self.values[((count as f64 * share).ceil() as usize).clamp(1, count) - 1]);
        let quantiles = Quantiles {
            count: count as u64 + self.dropped,
            p50_ms: at(0.5),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            max_ms: at(1.0),
        };
        self.values.clear();
        self.dropped = 0;
        Some(quantiles)
    }
}

/// Whether a reply of the runtime socket to a change means that it is done (or was done before).
///
/// # Errors
/// The reply's text when it means something else.
pub fn accepted(reply: &str) -> Result<(), String> {
    let text = reply.trim();
    let fine = text.is_empty()
        || text == "New server registered."
        || text == "Server deleted."
        || text.starts_with("[INFO]")
        || text.contains("server added to the default");
    if fine { Ok(()) } else { Err(text.chars().take(200).collect()) }
}

/// Whether a text may stand in a command of the runtime socket: no spaces, separators or control characters.
#[must_use]
pub fn safe_word(word: &str) -> bool {
    !word.is_empty()
        && word.len() <= 128
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STAT: &str = "\
# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,check_status,hrsp_5xx,addr,
web,web-1,0,3,2,4,4,150,0,0,,0,,1,0,0,0,UP,1,L7OK,2,127.0.0.1:9301,
web,web-2,0,0,0,4,4,90,0,0,,0,,0,0,0,0,UP 1/3,1,* L7TOUT,0,127.0.0.1:9302,
web,web-3,0,0,1,4,4,90,0,0,,0,,0,0,0,0,DRAIN,1,L4OK,0,127.0.0.1:9303,
web,BACKEND,7,9,3,8,200,330,0,0,0,0,,1,2,0,0,UP,2,,5,,
";

    #[test]
    fn a_backend_and_its_servers() {
        let report = stat(STAT, "web").unwrap();
        assert_eq!((report.queued, report.requests_total, report.errors_5xx_total), (7, 330, 5));
        assert_eq!(report.errors_connection_total, 3);
        let states: Vec<_> =
            report.servers.iter().map(|s| (s.state, s.active, s.limit, s.check.as_str())).collect();
        assert_eq!(states[0], (ServerState::Up, 2, 4, "L7OK"));
        assert_eq!(states[1], (ServerState::Failing, 0, 4, "L7TOUT"));
        assert_eq!(states[2].0, ServerState::Draining);
    }

    #[test]
    fn a_table_that_is_none_is_an_error() {
        assert_eq!(stat("", "web"), Err(StatError::NoColumn("pxname")));
        assert!(stat("# pxname,svname\n", "web").unwrap_err().to_string().contains("status"));
        assert_eq!(stat(STAT, "api"), Err(StatError::NoBackend("api".into())));
    }

    #[test]
    fn a_request_of_the_log() {
        let line = "<134>Nov 21 10:00:00 haproxy[7]: trimtab web web-1 12 30 45 200 --";
        assert_eq!(
            request(line),
            Some(Request { backend: "web", queue_ms: Some(12), total_ms: Some(45), status: 200 })
        );
        let gone = request("trimtab web <NOSRV> -1 -1 5000 503 sQ").unwrap();
        assert_eq!((gone.queue_ms, gone.status), (None, 503));
        assert_eq!(request("GET / 200"), None);
    }

    #[test]
    fn quantiles_are_exact_and_empty_is_not_zero() {
        let mut delays = Delays::default();
        assert_eq!(delays.take(), None);
        (1..=100).for_each(|ms| delays.record(ms));
        let q = delays.take().unwrap();
        assert_eq!((q.count, q.p50_ms, q.p95_ms, q.p99_ms, q.max_ms), (100, 50.0, 95.0, 99.0, 100.0));
        assert_eq!(delays.take(), None);
    }

    #[test]
    fn words_for_the_socket_are_checked() {
        assert!(safe_word("web-1") && safe_word("127.0.0.1:9301"));
        for bad in ["", "a b", "a;b", "a\nb", "a/b", "$(id)", &"x".repeat(129)] {
            assert!(!safe_word(bad), "{bad:?}");
        }
        assert_eq!(accepted("\n"), Ok(()));
        assert!(accepted("No such server.\n").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,300}") {
            let _ = stat(&text, "web");
            let _ = stat(&format!("# pxname,svname\n{text}"), "web");
            let _ = (request(&text), request(&format!("trimtab {text}")), uptime_seconds(&text));
        }
    }
}
