//! What the agent of this host says, where there is no autoscaler.
//!
//! It has totals, no rates: those are differences of two answers, by the agent's own times of reading. A task that is in one answer only has none.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use autoscaler::api::{Node, Status, Task, Unavailable};
use model::node::Inventory;
use serde::Deserialize;

use super::data::Data;
use crate::client::{Client, own_states};
use crate::failure::{Failure, Kind};

/// Where an agent answers when its configuration says nothing else.
const USUAL: &str = "127.0.0.1:7782";
/// Longest wait for its next round.
const ROUND: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(200);

/// An agent's answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    node: String,
    at_ms: u64,
    age_ms: u64,
    connected: bool,
    inventory: Inventory,
    tasks: Vec<Counted>,
}

#[derive(Debug, Deserialize)]
struct Counted {
    cgroup: u64,
    kind: String,
    name: String,
    workload: Option<String>,
    task: Option<String>,
    totals: BTreeMap<String, u64>,
}

/// The agent of this host.
#[derive(Debug)]
pub(super) struct Local {
    client: Client,
    /// The answer that rates are counted from.
    before: Option<Answer>,
}

impl Local {
    /// The first one that answers.
    ///
    /// # Errors
    /// When none does.
    pub(super) fn find() -> Result<Self, Failure> {
        let mut last = None;
        for address in addresses() {
            let client = Client::new(Some(&format!("http://{address}")))?;
            match client.get::<Answer>("/tasks") {
                Ok(before) => return Ok(Self { client, before: Some(before) }),
                Err(failure) => last = Some((address, failure)),
            }
        }
        let tried = last.map_or_else(String::new, |(address, failure)| {
            let old = failure.kind() != Kind::Unreachable;
            let why = if old { "an older one runs there" } else { "nobody answers" };
            format!(" at {address} ({why})")
        });
        Err(Failure::new(Kind::Unreachable, format!("no agent of this host answers{tried}"))
            .next("start it (systemctl start trimtab-agent), or both: sudo trimtab up"))
    }

    pub(super) fn address(&self) -> &str {
        self.client.address()
    }

    /// What it measures now. Waits for a round that is newer than the one before.
    pub(super) fn ask(&mut self) -> Result<Data, Failure> {
        let began = Instant::now();
        let mut now: Answer = self.client.get("/tasks")?;
        while self.before.as_ref().is_some_and(|before| before.at_ms == now.at_ms) && began.elapsed() < ROUND
        {
            std::thread::sleep(LOOK);
            now = self.client.get("/tasks")?;
        }
        let data = data(self.before.as_ref(), &now);
        self.before = Some(now);
        Ok(data)
    }
}

/// Where an agent of this host may answer: as it has noted itself, else as usual.
fn addresses() -> Vec<String> {
    let mut states: Vec<PathBuf> =
        own_states().flat_map(|own| [own.join("up/agent"), own.with_file_name("trimtab-agent")]).collect();
    states.push(PathBuf::from("/var/lib/trimtab-agent"));
    let noted =
        states.into_iter().filter_map(|state| std::fs::read_to_string(state.join("http.address")).ok());
    let mut addresses: Vec<String> = noted.map(|text| text.trim().to_owned()).collect();
    addresses.push(USUAL.to_owned());
    addresses
}

fn data(before: Option<&Answer>, now: &Answer) -> Data {
    let passed_ms = before.and_then(|before| now.at_ms.checked_sub(before.at_ms)).filter(|ms| *ms > 0);
    let earlier: BTreeMap<u64, &Counted> =
        before.iter().flat_map(|before| &before.tasks).map(|task| (task.cgroup, task)).collect();
    let grown = |task: &Counted, total: &str| {
        let then = earlier.get(&task.cgroup)?.totals.get(total)?;
        task.totals.get(total)?.checked_sub(*then)
    };
    let tasks: Vec<Task> = now
        .tasks
        .iter()
        .map(|task| Task {
            node: now.node.clone(),
            cgroup: task.cgroup,
            kind: task.kind.clone(),
            name: task.name.clone(),
            workload: task.workload.clone(),
            task: task.task.clone(),
            cpu_cores: grown(task, "cpu_time_us").zip(passed_ms).map(|(us, ms)| us as f64 / 1e3 / ms as f64),
            memory_bytes: task.totals.get("memory_current_bytes").copied(),
            run_delay_mean_seconds: grown(task, "run_delay_ns")
                .zip(grown(task, "run_count"))
                .filter(|(_, runs)| *runs > 0)
                .map(|(ns, runs)| ns as f64 / 1e9 / runs as f64),
            age_ms: Some(now.age_ms),
            totals: task.totals.clone(),
        })
        .collect();
    let state = if now.connected { "the agent alone" } else { "the agent alone: no stream to an autoscaler" };
    Data {
        status: Status {
            api_version: "trimtab/v1".to_owned(),
            version: String::new(),
            state: state.to_owned(),
            frozen: None,
            pauses: Vec::new(),
            epoch: 0,
            agents: 1,
            now_ms: u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0),
        },
        nodes: vec![node(now, &tasks)],
        workloads: Vec::new(),
        tasks,
        decisions: Vec::new(),
        prices: None,
        explained: None,
    }
}

fn node(now: &Answer, tasks: &[Task]) -> Node {
    let inventory = &now.inventory;
    let unavailable = inventory.unavailable.iter();
    Node {
        name: now.node.clone(),
        connected: now.connected,
        tier: inventory.tier.to_string(),
        acts: inventory.acts,
        cpus: inventory.cpus,
        cpu_cores: tasks.iter().filter_map(|task| task.cpu_cores).reduce(|a, b| a + b),
        memory_total_bytes: inventory.memory_bytes,
        memory_bytes: tasks.iter().filter_map(|task| task.memory_bytes).reduce(u64::saturating_add),
        tasks: u32::try_from(tasks.len()).unwrap_or(u32::MAX),
        age_ms: Some(now.age_ms),
        kernel: inventory.kernel.clone(),
        boot: String::new(),
        launchers: inventory.launchers.clone(),
        features: inventory.features.clone(),
        unavailable: unavailable
            .map(|one| Unavailable { what: one.what.clone(), why: one.why.clone() })
            .collect(),
        samples: 0,
        refused_samples: 0,
        accounting_error_ratio: None,
        clock_skew_ms: None,
        spooled_rounds: None,
        spooled_bytes: None,
        gaps: 0,
        last_gap: None,
        rack: inventory.rack.clone().map(String::from),
        agent_version: inventory.version.clone(),
        waits: None,
        run_delay_unknown: None,
        stalls_unknown: None,
        network: None,
        network_unknown: None,
        reserved: None,
        drain: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(at_ms: u64, tasks: &[(u64, u64)]) -> Answer {
        let tasks: Vec<_> = tasks
            .iter()
            .map(|(cgroup, us)| {
                json!({ "cgroup": cgroup, "kind": "service", "name": format!("t{cgroup}"), "workload": null, "task": null,
                    "totals": { "cpu_time_us": us, "memory_current_bytes": 4096 } })
            })
            .collect();
        let inventory = Inventory::new(4, 1 << 30, model::node::Tier::B);
        serde_json::from_value(
            json!({ "apiVersion": "trimtab/v1", "node": "n1", "atMs": at_ms, "ageMs": 300, "connected": false,
            "inventory": inventory, "tasks": tasks }),
        )
        .unwrap()
    }

    #[test]
    fn rates_are_differences_and_what_was_seen_once_has_none() {
        let (before, now) =
            (answer(1_000, &[(1, 500), (2, 9_000)]), answer(3_000, &[(1, 1_000_500), (2, 8_000), (3, 70)]));
        let shown = data(Some(&before), &now);
        let cores: Vec<Option<f64>> = shown.tasks.iter().map(|task| task.cpu_cores).collect();
        assert_eq!(cores, [Some(0.5), None, None], "a total that fell is another cgroup with its number");
        assert_eq!((shown.nodes[0].cpu_cores, shown.nodes[0].memory_bytes), (Some(0.5), Some(12_288)));
        let first = data(None, &now);
        assert!(
            first.tasks.iter().all(|task| task.cpu_cores.is_none()) && first.nodes[0].cpu_cores.is_none()
        );
    }
}
