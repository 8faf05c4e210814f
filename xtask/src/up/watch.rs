//! What is shown while it runs: load, replicas, queue delay, and each decision with its reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::load::Load;
use super::report::{quantile, sorted};
use super::work::Work;

/// The balancer's own log of queue delays, read beside the agent's.
pub(super) struct QueueLog {
    /// When each was said, s since the log was opened, and the delay, ms.
    delays: Arc<Mutex<Vec<(u64, u32)>>>,
}

impl QueueLog {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let socket = UnixDatagram::bind(path).with_context(|| format!("making {}", path.display()))?;
        let delays: Arc<Mutex<Vec<(u64, u32)>>> = Arc::default();
        let (kept, began) = (Arc::clone(&delays), Instant::now());
        // Ends with this process: the socket has no other end to wait for.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n) = socket.recv(&mut buffer) {
                if let Some(ms) = std::str::from_utf8(&buffer[..n]).ok().and_then(queue_ms) {
                    let second = began.elapsed().as_secs();
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push((second, ms));
                }
            }
        });
        Ok(Self { delays })
    }

    /// Quantile of all queue delays since `from`, ms, and how many there were.
    pub(super) fn quantile(&self, from: usize, share: f64) -> (Option<u32>, usize) {
        let all = self.delays.lock().unwrap_or_else(PoisonError::into_inner);
        let part = all.get(from..).unwrap_or_default().iter().map(|(_, ms)| *ms);
        (quantile(&sorted(part.collect()), share), all.len())
    }

    /// Share of the seconds with requests in which 95 % of them waited for `target_ms` at most.
    pub(super) fn held(&self, target_ms: u32) -> f64 {
        let mut seconds: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for (second, ms) in self.delays.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            seconds.entry(*second).or_default().push(*ms);
        }
        let all = seconds.len();
        let held =
            seconds.into_values().map(sorted).filter(|delays| quantile(delays, 0.95) <= Some(target_ms));
        held.count() as f64 / all.max(1) as f64
    }
}

/// `trimtab <backend> <server> <Tw> …`
fn queue_ms(line: &str) -> Option<u32> {
    let fields = line.split_once("trimtab ")?.1;
    fields.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// What was seen of the workload.
pub(super) struct Watch {
    api: SocketAddr,
    /// Decisions on all workloads are shown, not only on the web application's.
    all: bool,
    shown: BTreeSet<String>,
    queue_seen: usize,
    last: (u64, usize),
    pub(super) scale_out: u32,
    pub(super) scale_in: u32,
    pub(super) peak: u64,
}

impl Watch {
    pub(super) fn new(api: SocketAddr, all: bool) -> Self {
        let mut watch = Self {
            api,
            all,
            shown: BTreeSet::new(),
            queue_seen: 0,
            last: (0, 0),
            scale_out: 0,
            scale_in: 0,
            peak: 0,
        };
        // What was decided before the day began is no news.
        for decision in watch.decisions() {
            watch.shown.insert(decision["id"].to_string());
        }
        println!(
            "{:>7} {:>9}  {:>9}  {:>9}  {:>8}  {:>9}{}",
            "time",
            "asked/s",
            "served/s",
            "queue p95",
            "replicas",
            "errors",
            if all { Work::HEAD } else { "" }
        );
        watch
    }

    fn get(&self, path: &str) -> Option<Value> {
        crate::http::json(&format!("http://{}{path}", self.api))
    }

    fn decisions(&self) -> Vec<Value> {
        let of = if self.all { "" } else { "workload=web&" };
        let list = self.get(&format!("/api/v1/decisions?{of}limit=50"));
        list.and_then(|mut l| l["items"].as_array_mut().map(std::mem::take)).unwrap_or_default()
    }

    /// One line about now, and one for each new decision.
    pub(super) fn show(
        &mut self,
        (at, day): (Duration, Duration),
        load: &Load,
        queue: &QueueLog,
        work: Option<&mut Work>,
    ) {
        let mut news: Vec<Value> = self.decisions();
        news.retain(|d| self.shown.insert(d["id"].to_string()));
        for decision in news.iter().rev() {
            self.count(decision);
            let (act, summary) = (decision["act"] == true, decision["summary"].as_str().unwrap_or_default());
            println!("        {} {summary}", if act { "==>" } else { " - " });
        }
        let status = self.get("/api/v1/workloads/web").map(|w| w["status"].clone()).unwrap_or_default();
        let n = |key: &str| status[key].as_u64().unwrap_or(0);
        self.peak = self.peak.max(n("up") + n("starting") + n("leaving"));
        let (delay, seen) = queue.quantile(self.queue_seen, 0.95);
        self.queue_seen = seen;
        let (answered, due) = (load.seen().answered.load(Ordering::Relaxed), load.due());
        let (served, asked) = (answered - self.last.0, due - self.last.1);
        self.last = (answered, due);
        let replicas = match (n("starting"), n("leaving")) {
            (0, 0) => format!("{}", n("up")),
            (s, 0) => format!("{}+{s}", n("up")),
            (0, l) => format!("{}-{l}", n("up")),
            (s, l) => format!("{}+{s}-{l}", n("up")),
        };
        let delay = delay.map_or("-".to_owned(), |ms| format!("{ms} ms"));
        let errors = load.seen().errors.load(Ordering::Relaxed);
        let more = work.map(Work::shown).unwrap_or_default();
        let time = format!("{}/{}", at.as_secs(), day.as_secs());
        println!("{time:>7} {asked:>9}  {served:>9}  {delay:>9}  {replicas:>8}  {errors:>9}{more}");
    }

    fn count(&mut self, decision: &Value) {
        if decision["act"] != true || decision["workload"] != "web" {
            return;
        }
        let (before, after) =
            (decision["before"].as_u64().unwrap_or(0), decision["after"].as_u64().unwrap_or(0));
        if after > before {
            self.scale_out += 1;
        } else if after < before {
            self.scale_in += 1;
        }
    }
}
