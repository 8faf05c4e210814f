//! What the autoscaler says; where there is none, what the agent of this host measures.

use autoscaler::api::{
    Decision, Decisions, Explanation, Node, Nodes, PriceTable, Status, Task, Tasks, Workload, Workloads,
};

use super::agent::Local;
use crate::client::{Client, escaped};
use crate::failure::{Failure, Kind};
use crate::{explain, output, prices};

/// Decisions that are asked for.
const DECISIONS: u32 = 200;

/// One round of answers.
#[derive(Debug, Clone)]
pub(super) struct Data {
    pub(super) status: Status,
    pub(super) nodes: Vec<Node>,
    pub(super) workloads: Vec<Workload>,
    pub(super) tasks: Vec<Task>,
    pub(super) decisions: Vec<Decision>,
    /// What capacity costs, when that was said.
    pub(super) prices: Option<PriceTable>,
    /// Why one workload is as it is: its name, and the words.
    pub(super) explained: Option<(String, String)>,
}

/// Whom to ask.
#[derive(Debug)]
pub(super) enum Source {
    Autoscaler(Client),
    Agent(Box<Local>),
}

impl Source {
    /// The autoscaler; the agent of this host when that is wanted, or when nobody named an autoscaler and none answers. And the first answer.
    pub(super) fn open(url: Option<&str>, agent: bool) -> Result<(Self, Data), Failure> {
        let local = || {
            let mut local = Local::find()?;
            let first = local.ask()?;
            Ok((Self::Agent(Box::new(local)), first))
        };
        if agent {
            return local();
        }
        let client = Client::new(url)?;
        match ask(&client, None) {
            Ok(first) => Ok((Self::Autoscaler(client), first)),
            Err(failure) if url.is_none() && failure.kind() == Kind::Unreachable => {
                let found = local().map_err(|_| failure)?;
                output::remark("no autoscaler answers on this host: this is its agent alone");
                Ok(found)
            }
            Err(failure) => Err(failure),
        }
    }

    pub(super) fn address(&self) -> &str {
        match self {
            Self::Autoscaler(client) => client.address(),
            Self::Agent(local) => local.address(),
        }
    }

    /// Asks everything; `about` is the workload that is to be explained.
    pub(super) fn ask(&mut self, about: Option<&str>) -> Result<Data, Failure> {
        match self {
            Self::Autoscaler(client) => ask(client, about),
            Self::Agent(local) => local.ask(),
        }
    }
}

fn ask(client: &Client, about: Option<&str>) -> Result<Data, Failure> {
    let (nodes, workloads, tasks): (Nodes, Workloads, Tasks) =
        (client.get("/api/v1/nodes")?, client.get("/api/v1/workloads")?, client.get("/api/v1/tasks")?);
    let decisions: Decisions = client.get(&format!("/api/v1/decisions?limit={DECISIONS}"))?;
    let explained = match about {
        // It may be gone by now.
        Some(name) if workloads.items.iter().any(|workload| workload.name == name) => {
            let why: Explanation = client.get(&format!("/api/v1/workloads/{}/explain", escaped(name)))?;
            Some((name.to_owned(), explain::for_people(&why)))
        }
        _ => None,
    };
    Ok(Data {
        status: client.get("/api/v1/status")?,
        nodes: nodes.items,
        workloads: workloads.items,
        tasks: tasks.items,
        decisions: decisions.items,
        prices: prices::in_force(client)?,
        explained,
    })
}

/// All nodes as one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fleet {
    /// Logical CPUs of all nodes.
    pub(super) cpus: u32,
    /// Cores in use, and of how many, on the nodes where that is known; a node that was not measured is neither used nor idle.
    pub(super) cpu_used: Option<(f64, f64)>,
    /// Memory in use, and of how much, likewise; bytes.
    pub(super) memory_used: Option<(f64, f64)>,
    /// Nodes whose agent is not connected.
    pub(super) away: usize,
}

impl Data {
    pub(super) fn fleet(&self) -> Fleet {
        let sum = |of: fn(&Node) -> Option<(f64, f64)>| {
            self.nodes.iter().filter_map(of).reduce(|(used, all), (more, of)| (used + more, all + of))
        };
        Fleet {
            cpus: self.nodes.iter().map(|node| node.cpus).sum(),
            cpu_used: sum(|node| Some((node.cpu_cores?, f64::from(node.cpus)))),
            memory_used: sum(|node| Some((node.memory_bytes? as f64, node.memory_total_bytes as f64))),
            away: self.nodes.iter().filter(|node| !node.connected).count(),
        }
    }
}

impl Fleet {
    /// What is idle costs so much an hour; empty without prices, and when use of CPU or memory is known of no node.
    pub(super) fn idle_cost(&self, table: Option<&PriceTable>) -> String {
        let idle = |(used, all): (f64, f64)| (all - used).max(0.0);
        let cost = table.zip(self.cpu_used.zip(self.memory_used)).map(|(table, (cpu, memory))| {
            prices::money(table, Some(prices::per_hour(table, idle(cpu), idle(memory))))
        });
        cost.map_or_else(String::new, |cost| format!("   idle costs {cost} an hour"))
    }
}
