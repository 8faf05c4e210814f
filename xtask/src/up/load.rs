//! Who asks for what when: an open-loop generator on a schedule, so that a slow answer does not slow the asking.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// Clients at once. More would only wait in the balancer's queue.
const CLIENTS: usize = 64;
/// Longest wait of a client; longer counts as an error.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long the calibration asks.
const CALIBRATION: Duration = Duration::from_secs(4);

/// Load over the day: (share of the day, load as a multiple of one replica's capacity), linear in between.
const DAY: [(f64, f64); 9] = [
    (0.00, 0.6),
    (0.14, 0.6),
    (0.34, 2.3),
    (0.42, 2.3),
    (0.44, 3.3),
    (0.54, 3.3),
    (0.57, 1.8),
    (0.70, 0.6),
    (1.00, 0.5),
];

fn share(at: f64) -> f64 {
    let next = DAY.iter().position(|(t, _)| *t > at).unwrap_or(DAY.len() - 1).max(1);
    let ((t0, l0), (t1, l1)) = (DAY[next - 1], DAY[next]);
    l0 + (l1 - l0) * ((at - t0) / (t1 - t0)).clamp(0.0, 1.0)
}

fn client() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build().into()
}

fn ask(agent: &ureq::Agent, url: &str) -> Result<u16, ureq::Error> {
    let mut answer = agent.get(url).call()?;
    answer.body_mut().read_to_vec()?;
    Ok(answer.status().as_u16())
}

/// Requests per second that one replica serves: asks each of them as fast as it goes, behind the balancer's back, so that
/// nobody learns from it what a day is like.
pub(super) fn calibrate(replicas: &[SocketAddr], stop: &AtomicBool) -> Result<f64> {
    let (count, began) = (AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for replica in replicas.iter().flat_map(|replica| [replica; 4]) {
            let count = &count;
            scope.spawn(move || {
                let (agent, url) = (client(), format!("http://{replica}/"));
                while began.elapsed() < CALIBRATION && !stop.load(Ordering::Relaxed) {
                    if matches!(ask(&agent, &url), Ok(200)) {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let served = count.load(Ordering::Relaxed);
    ensure!(served > 0, "no request was answered: is the app up?");
    Ok(served as f64 / began.elapsed().as_secs_f64() / replicas.len() as f64)
}

/// What the clients saw so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    next: AtomicUsize,
    pub(super) answered: AtomicU64,
    pub(super) errors: AtomicU64,
    /// Sum of latencies from the scheduled time on, µs.
    latency_us: AtomicU64,
}

/// Load that is under way.
pub(super) struct Load {
    schedule: Arc<Vec<Duration>>,
    seen: Arc<Seen>,
    began: Instant,
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<u32>>>,
    first_errors: Arc<std::sync::Mutex<Vec<String>>>,
}

/// What the clients saw in all.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) requests: u64,
    pub(super) errors: u64,
    /// Latency of answered requests from their scheduled time on, ms, sorted.
    pub(super) latency_ms: Vec<u32>,
    pub(super) first_errors: Vec<String>,
}

impl Load {
    /// Starts a day of `day` against `front`.
    pub(super) fn start(front: SocketAddr, capacity: f64, day: Duration, stop: &Arc<AtomicBool>) -> Self {
        let schedule = Arc::new(schedule(capacity, day));
        let (seen, over) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let first_errors = Arc::default();
        let began = Instant::now();
        let clients = (0..CLIENTS)
            .map(|_| {
                let one = Client {
                    url: format!("http://{front}/"),
                    schedule: Arc::clone(&schedule),
                    seen: Arc::clone(&seen),
                    began,
                    over: Arc::clone(&over),
                    stop: Arc::clone(stop),
                    first_errors: Arc::clone(&first_errors),
                };
                std::thread::spawn(move || one.run())
            })
            .collect();
        Self { schedule, seen, began, over, clients, first_errors }
    }

    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Requests that were due so far.
    pub(super) fn due(&self) -> usize {
        let now = self.began.elapsed();
        self.schedule.partition_point(|at| *at <= now)
    }

    /// Lets what is under way end, and adds up.
    pub(super) fn finish(self) -> Outcome {
        self.over.store(true, Ordering::Relaxed);
        let mut latency_ms: Vec<u32> =
            self.clients.into_iter().flat_map(|c| c.join().unwrap_or_default()).collect();
        latency_ms.sort_unstable();
        let errors = self.seen.errors.load(Ordering::Relaxed);
        let requests = self.seen.answered.load(Ordering::Relaxed) + errors;
        let first_errors = self.first_errors.lock().map(|e| e.clone()).unwrap_or_default();
        Outcome { requests, errors, latency_ms, first_errors }
    }
}

struct Client {
    url: String,
    schedule: Arc<Vec<Duration>>,
    seen: Arc<Seen>,
    began: Instant,
    over: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    first_errors: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Client {
    fn run(&self) -> Vec<u32> {
        let (agent, mut latencies) = (client(), Vec::new());
        loop {
            let index = self.seen.next.fetch_add(1, Ordering::Relaxed);
            let Some(due) = self.schedule.get(index).copied() else { return latencies };
            while let Some(wait) = due.checked_sub(self.began.elapsed()).filter(|w| !w.is_zero()) {
                std::thread::sleep(wait.min(Duration::from_millis(200)));
                if self.over.load(Ordering::Relaxed) || self.stop.load(Ordering::Relaxed) {
                    return latencies;
                }
            }
            match ask(&agent, &self.url) {
                Ok(200) => {
                    let latency = self.began.elapsed().saturating_sub(due);
                    self.seen.answered.fetch_add(1, Ordering::Relaxed);
                    self.seen.latency_us.fetch_add(latency.as_micros() as u64, Ordering::Relaxed);
                    latencies.push(latency.as_millis() as u32);
                }
                Ok(status) => self.failed(&format!("status {status}")),
                Err(error) => self.failed(&error.to_string()),
            }
        }
    }

    fn failed(&self, why: &str) {
        self.seen.errors.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut first) = self.first_errors.lock()
            && first.len() < 10
        {
            first.push(format!("{:.1} s: {why}", self.began.elapsed().as_secs_f64()));
        }
    }
}

/// When each request is due: arrivals at a rate that follows the day, evenly within each moment.
fn schedule(capacity: f64, day: Duration) -> Vec<Duration> {
    let (mut at, mut due) = (0.0, Vec::new());
    let total = day.as_secs_f64();
    while at < total {
        due.push(Duration::from_secs_f64(at));
        at += 1.0 / (capacity * share(at / total)).max(1.0);
    }
    due
}
