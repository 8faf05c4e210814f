//! Who is a member of a cluster, by the newest reports.

use std::collections::{BTreeMap, BTreeSet};

use model::cassandra::CassandraReport;
use model::hdfs::{AdminState, HdfsReport};
use model::id::NodeId;
use model::reason::{Reason, Signal};
use model::yarn::{YarnReport, YarnState};

use crate::cluster::gate::Ring;
use crate::cluster::need::Means;
use crate::cluster::valley::Valley;
use crate::event::{ClusterReport, Time};
use crate::fleet::Reported;

/// Agents read clusters every five seconds; three intervals (workloads.md, rules for all).
pub(in crate::cluster) const STALE_MS: u64 = 15_000;
/// A member of a ring that was not heard of for this long is no member by what it said then, ms.
const FORGET_MS: u64 = 3_600_000;

/// A member whose process runs is listed again so soon after its master was started anew, ms: NodeManagers try to reach a ResourceManager every
/// 30 s (`yarn.resourcemanager.connect.retry-interval.ms`), three times.
const BACK_MS: u64 = 90_000;

/// The newest reports.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) yarn: Option<Reported<YarnReport>>,
    pub(super) hdfs: Option<Reported<HdfsReport>>,
    pub(super) ring: BTreeMap<String, Reported<CassandraReport>>,
    pub(super) means: Means,
    pub(super) valley: Valley,
    /// Start of the ResourceManager or NameNode, ms: another one means that it knows only what was on disk.
    pub(super) manager_started_ms: Option<u64>,
    /// When it was first seen to have been started anew.
    restarted: Option<Time>,
    /// Members that are not listed at all, though nobody saw them go, and since when.
    missed: BTreeMap<String, Time>,
}

impl Seen {
    pub(super) fn take(&mut self, node: NodeId, at: Time, report: ClusterReport) {
        match report {
            ClusterReport::Yarn(report) => {
                self.means.observe(&report, at);
                self.yarn = Some(Reported { node, at, report });
            }
            ClusterReport::Hdfs(report) => {
                if let Some(transfers) = report.transfers {
                    self.valley.observe_level(&report.cluster, transfers, at);
                }
                self.hdfs = Some(Reported { node, at, report });
            }
            ClusterReport::Cassandra(report) => {
                self.ring.retain(|_, known| at.since(known.at) < FORGET_MS);
                let requests = report.reads.count.saturating_add(report.writes.count);
                self.valley.observe(&report.address, requests, at);
                self.ring.insert(report.address.clone(), Reported { node, at, report: *report });
            }
        }
    }

    /// What was seen is no proof of now. What was learned stays.
    pub(super) fn forget(&mut self) {
        (self.yarn, self.hdfs) = (None, None);
        self.ring.clear();
        self.missed.clear();
    }

    /// Whether the newest report is of a ResourceManager or NameNode that was started anew since the one before.
    pub(super) fn restarts(&mut self, at: Time) -> bool {
        let yarn = self.yarn.as_ref().map(|seen| seen.report.started_ms);
        let Some(started) = yarn.or(self.hdfs.as_ref().map(|seen| seen.report.started_ms)) else {
            return false;
        };
        let before = self.manager_started_ms.replace(started);
        let anew = before.is_some_and(|before| before != started);
        if anew {
            self.restarted = Some(at);
        }
        anew
    }

    /// What it does not know is no proof yet.
    pub(super) fn has_just_restarted(&self, now: Time) -> bool {
        self.restarted.is_some_and(|at| now.since(at) < BACK_MS)
    }

    /// Who should be in the newest report of a ResourceManager or NameNode and is not: members `before` it, and those whose processes are known to
    /// run, but for those that are known to go or to come. One that was started anew knows nobody until they come back.
    pub(super) fn miss(
        &mut self,
        before: BTreeSet<String>,
        runs: &BTreeSet<String>,
        others: &BTreeSet<String>,
        at: Time,
    ) {
        let fresh = self.has_just_restarted(at);
        let listed: BTreeSet<&String> = match (&self.yarn, &self.hdfs) {
            (Some(seen), _) => seen.report.nodes.iter().map(|node| &node.host).collect(),
            // To a NameNode that has just been started all that are on its list are dead until they come back.
            (None, Some(seen)) => {
                let heard = seen.report.nodes.iter().filter(|node| node.alive || !fresh);
                heard.map(|node| &node.name).collect()
            }
            (None, None) => return,
        };
        let known = std::mem::take(&mut self.missed);
        let all = before.into_iter().chain(runs.iter().cloned()).chain(known.keys().cloned());
        let awaited = all.filter(|member| !listed.contains(member) && !others.contains(member));
        let since = awaited.map(|member| (known.get(&member).copied().unwrap_or(at), member));
        let still = since.filter(|(since, member)| runs.contains(member) || at.since(*since) < BACK_MS);
        self.missed = still.map(|(since, member)| (member, since)).collect();
    }

    /// The ring by fresh reports.
    pub(super) fn fresh_ring(&self, now: Time) -> Ring {
        let fresh = self.ring.iter().filter(|(_, known)| now.since(known.at) <= STALE_MS);
        fresh.map(|(address, known)| (address.clone(), known.report.clone())).collect()
    }

    /// Views of the ring that are as new as the newest: who fell silent saw another ring.
    fn views(&self) -> impl Iterator<Item = &Reported<CassandraReport>> {
        let newest = self.ring.values().map(|known| known.at).max();
        self.ring.values().filter(move |known| newest.is_some_and(|at| at.since(known.at) <= STALE_MS))
    }

    /// Members that are in service, as the cluster says.
    pub(super) fn there(&self) -> BTreeSet<String> {
        if let Some(seen) = &self.yarn {
            let stays = |state| {
                matches!(
                    state,
                    YarnState::New | YarnState::Running | YarnState::Unhealthy | YarnState::Rebooted
                )
            };
            return seen.report.nodes.iter().filter(|n| stays(n.state)).map(|n| n.host.clone()).collect();
        }
        if let Some(seen) = &self.hdfs {
            let serves = seen.report.nodes.iter().filter(|n| n.alive && n.state == AdminState::Normal);
            return serves.map(|node| node.name.clone()).collect();
        }
        // One that left or joins has a view of its own.
        let views = self.views().filter(|known| known.report.mode.is_full());
        let mut there = BTreeSet::new();
        for view in views.map(|known| &known.report.ring) {
            let moves = |member: &&String| !view.joining.contains(member) && !view.leaving.contains(member);
            there.extend(view.members.iter().filter(moves).cloned());
        }
        there
    }

    /// Names that cannot be given to a new member: members, and those that come or go.
    pub(super) fn taken(&self) -> BTreeSet<String> {
        let mut taken = self.there();
        if let Some(seen) = &self.yarn {
            let going = seen.report.nodes.iter().filter(|n| n.state == YarnState::Decommissioning);
            taken.extend(going.map(|node| node.host.clone()));
        }
        if let Some(seen) = &self.hdfs {
            taken.extend(seen.report.nodes.iter().filter(|n| n.alive).map(|node| node.name.clone()));
        }
        for view in self.views().map(|known| &known.report.ring) {
            taken.extend(view.members.iter().chain(&view.joining).chain(&view.leaving).cloned());
        }
        taken
    }

    /// The cluster was seen since the controller's start.
    pub(super) fn is_known(&self) -> bool {
        self.yarn.is_some() || self.hdfs.is_some() || !self.ring.is_empty()
    }

    /// Why what was seen cannot be relied on, if it cannot.
    pub(super) fn doubt(&self, now: Time) -> Option<Reason> {
        let signal = Signal::Members;
        let at = match (&self.yarn, &self.hdfs) {
            (Some(seen), _) => Some(seen.at),
            (None, Some(seen)) => Some(seen.at),
            (None, None) => self.ring.values().map(|known| known.at).max(),
        };
        let Some(at) = at else { return Some(Reason::Missing { signal }) };
        let age_ms = now.since(at);
        if age_ms > STALE_MS {
            return Some(Reason::Stale { signal, age_ms, limit_ms: STALE_MS });
        }
        let (member, _) = self.missed.iter().find(|(_, since)| now.since(**since) < BACK_MS)?;
        let what = "nobody saw it go, and the cluster does not list it: its master may have been started a moment ago, and it is waited for";
        Some(Reason::Told { member: member.clone(), what: what.to_owned() })
    }
}
