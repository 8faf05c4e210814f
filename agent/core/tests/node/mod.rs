//! A small model of a node: a latency-critical service with open arrivals and best-effort hogs share CPUs, 1 ms at a time.
//!
//! What it takes from real machines: a woken thread waits for a slice of whoever runs unless that one is idle work, which gives the CPU
//! up at once but for the switch; and whoever runs beside others runs slower (caches, memory, siblings), which is what CPI² and
//! Heracles measured. What it leaves out: sockets, cache sizes, IO. So it shows orders, not figures.

use std::collections::{BTreeMap, VecDeque};

use agent_core::qos::memory::Possible;
use agent_core::qos::settings::{SLOW_MS, STEP_MS};
use agent_core::qos::{Act, BestEffort, Critical, Delay, Governor, NodeUse, Observation, Settings};

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    /// CPUs.
    pub(crate) cpus: u32,
    /// How much slower it runs beside best-effort work on all the other CPUs.
    pub(crate) interference: f64,
}

impl Machine {
    /// One of a fleet.
    pub(crate) const USUAL: Self = Self { cpus: 8, interference: 0.6 };
}

/// Mean CPU time of a request, ms.
const SERVICE_MS: f64 = 4.0;
/// Longest that somebody's slice lasts, ms (EEVDF's base slice on eight CPUs is 2.8).
const SLICE_MS: f64 = 2.8;
/// Taking the CPU from idle work, ms.
const PREEMPT_MS: f64 = 0.05;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.next()).max(1e-12).ln()
    }
}

/// Who decides what best-effort work may use.
pub(crate) enum Policy {
    /// Nobody: everybody has the same weight.
    None,
    /// The kernel: best-effort work is idle work.
    Weight,
    /// The same, and Koordinator's rule: each second, 65 % of the CPUs less what the others used.
    Suppress65,
    /// The same, and the loop.
    Ours(Box<Governor>),
}

impl Policy {
    pub(crate) fn ours(machine: Machine) -> Self {
        Policy::Ours(Box::new(Governor::new(Settings::default(), machine.cpus * 1000, Possible::ALL)))
    }
}

struct Job {
    arrived: f64,
    left: f64,
    /// Not before this: the switch, or somebody's slice.
    ready: f64,
    begun: bool,
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// Response times, ms, ascending.
    pub(crate) responses: Vec<f64>,
    /// CPU seconds of best-effort work.
    pub(crate) best_s: f64,
    /// What the loop did.
    pub(crate) transcript: Vec<String>,
    /// How often it gave each reason.
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl Outcome {
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let at = ((self.responses.len() as f64 * share) as usize).min(self.responses.len() - 1);
        self.responses[at]
    }

    /// Mean of the slowest hundredth, ms: a quantile in steps of a simulated millisecond would hide small differences.
    pub(crate) fn tail(&self) -> f64 {
        let slowest = &self.responses[self.responses.len() * 99 / 100..];
        slowest.iter().sum::<f64>() / slowest.len() as f64
    }
}

/// Runs a node for `seconds`; `load(second)` is what the service needs, as a share of all CPUs.
pub(crate) fn run(
    machine: Machine,
    mut policy: Policy,
    seed: u64,
    seconds: u64,
    load: impl Fn(u64) -> f64,
) -> Outcome {
    let mut random = Random(seed);
    let n = f64::from(machine.cpus);
    let mut jobs: VecDeque<Job> = VecDeque::new();
    let mut responses = Vec::new();
    let (mut delay_ns, mut runs, mut stall_us) = (0u64, 0u64, 0u64);
    let (mut critical_us, mut best_us) = (0f64, 0f64);
    let mut allowed = match &policy {
        // Until the first reading it has what it begins with.
        Policy::Ours(_) => n * Settings::default().floor,
        _ => n,
    };
    let (mut second_critical, mut slow_at, mut transcript) = (0f64, 0, Vec::new());
    let fair = matches!(policy, Policy::None);
    for ms in 0..seconds * 1000 {
        let now = ms as f64;
        // Arrivals of this millisecond.
        let mut expected = load(ms / 1000) * n / SERVICE_MS;
        while expected > 0.0 {
            if random.next() < expected.min(1.0) {
                let beside = (best_share(&jobs, allowed, n, fair) / n).clamp(0.0, 1.0);
                let wait = match random.next() < beside {
                    false => 0.0,
                    true if fair => random.next() * SLICE_MS,
                    true => PREEMPT_MS,
                };
                let left = random.exponential(SERVICE_MS);
                jobs.push_back(Job { arrived: now, left, ready: now + wait, begun: false });
            }
            expected -= 1.0;
        }
        // Who runs: the service first where best-effort work is idle work, else in proportion.
        let ready = jobs.iter().filter(|job| job.ready <= now + 0.999).count() as f64;
        let wanting = n.min(allowed);
        let critical = if fair && ready + wanting > n { n * ready / (ready + wanting) } else { ready.min(n) };
        let best = (n - critical).min(wanting).max(0.0);
        let speed = 1.0 / (1.0 + machine.interference * best / n);
        let mut cpus = critical;
        let mut waits = false;
        for job in &mut jobs {
            if job.ready > now + 0.999 || cpus <= 0.0 {
                waits = true;
                continue;
            }
            if !job.begun {
                job.begun = true;
                delay_ns += ((now.max(job.ready) - job.arrived) * 1e6) as u64;
                runs += 1;
            }
            let share = cpus.min(1.0);
            job.left -= share * speed;
            cpus -= share;
        }
        jobs.retain(|job| {
            if job.left <= 0.0 {
                responses.push(now + 1.0 - job.arrived);
            }
            job.left > 0.0
        });
        stall_us += if waits { 1000 } else { 0 };
        critical_us += critical * 1e3;
        second_critical += critical;
        best_us += best * 1e3;
        let tick = ms + 1;
        match &mut policy {
            Policy::Suppress65 if tick % 1000 == 0 => {
                allowed = (0.65 * n - second_critical / 1000.0).max(0.1);
            }
            Policy::Ours(governor) if tick % STEP_MS == 0 => {
                let slow = tick - slow_at >= SLOW_MS;
                if slow {
                    slow_at = tick;
                }
                let seen = Observation {
                    now_ms: tick,
                    critical: vec![Critical {
                        task: "web-1".parse().unwrap(),
                        delay: Some(Delay { total_ns: delay_ns, runs }),
                        lengths: None,
                        cpu_stall_us: Some(stall_us),
                        memory_stall_us: Some(0),
                        cpu_us: Some(critical_us as u64),
                        held: None,
                    }],
                    best: vec![BestEffort {
                        task: "jobs-1".parse().unwrap(),
                        age: 0,
                        cpu_us: Some(best_us as u64),
                        memory_bytes: Some(1 << 30),
                        own_millis: None,
                        held: false,
                        idle: true,
                    }],
                    node: slow.then_some(NodeUse {
                        busy_us: (critical_us + best_us) as u64,
                        memory_bytes: 1 << 34,
                        available_bytes: 1 << 33,
                    }),
                };
                let step = governor.step(&seen);
                for act in &step.acts {
                    assert_eq!(act.task().as_str(), "jobs-1", "latency-critical work is never touched");
                    if let Act::Cap { millis, .. } = act {
                        allowed = millis.map_or(n, |millis| f64::from(millis) / 1e3);
                    }
                }
                let acts = step.reasons.iter().filter(|reason| reason.acts());
                transcript.extend(acts.map(|reason| format!("{:>7.1} s  {reason}", tick as f64 / 1e3)));
            }
            _ => {}
        }
        if tick % 1000 == 0 {
            second_critical = 0.0;
        }
    }
    responses.sort_by(f64::total_cmp);
    let counts = match policy {
        Policy::Ours(governor) => governor.counts().clone(),
        _ => BTreeMap::new(),
    };
    Outcome { responses, best_s: best_us / 1e6, transcript, counts }
}

fn best_share(jobs: &VecDeque<Job>, allowed: f64, n: f64, fair: bool) -> f64 {
    let busy = jobs.len() as f64;
    let wanting = n.min(allowed);
    if fair { n.min(wanting) * n / (n + busy) } else { (n - busy).min(wanting).max(0.0) }
}
