//! Which processes of a unit belong into a leaf of their own, and when a leaf is over.
//!
//! **Problem.** YARN's default executor starts containers as plain processes of the NodeManager, in its cgroup: the kernel counts them
//! together. Their first processes are seen at exec, but what they forked meanwhile is not.
//! **Method.** All processes in the unit's cgroup are looked at, those that belong to a container are moved into the leaf of that name, and
//! they are looked at again until nothing is left to move: what is forked by a moved process is born in its leaf.
//! **Bounds.** The unit's own processes are never moved: they name no container and are in nobody's session. What a container used before
//! its move stays the NodeManager's. A leaf is removed only after a round has its last total.

use std::collections::BTreeMap;

use model::id::CgroupId;

use crate::yarn::ContainerId;

/// A process in the cgroup of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id, of the thread group.
    pub pid: u32,
    /// Its session: the id of the process that began it.
    pub session: u32,
    /// When it started, ticks since boot: with the id it names a process.
    pub start: u64,
    /// The container that it says it belongs to.
    pub container: Option<ContainerId>,
}

/// One process, and the leaf that it belongs into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Its id.
    pub pid: u32,
    /// When it started, ticks since boot.
    pub start: u64,
    /// Whose leaf.
    pub container: ContainerId,
}

/// Which of a unit's processes belong into leaves: those that name a container, and those in the session of one that does.
#[must_use]
pub fn plan(members: &[Member]) -> Vec<Move> {
    let leaders: BTreeMap<u32, &ContainerId> = members
        .iter()
        .filter(|member| member.pid == member.session)
        .filter_map(|leader| Some((leader.session, leader.container.as_ref()?)))
        .collect();
    let into = |member: &Member| {
        let container = member.container.as_ref().or_else(|| leaders.get(&member.session).copied())?;
        Some(Move { pid: member.pid, start: member.start, container: container.clone() })
    };
    members.iter().filter_map(into).collect()
}

/// The container whose leaf the cgroup at `path` is, when it is one directly below one of these units.
#[must_use]
pub fn of_path(units: &[String], path: &str) -> Option<ContainerId> {
    let (unit, name) = path.rsplit_once('/')?;
    units.iter().any(|known| known == unit).then(|| name.parse().ok())?
}

/// The leaves of a node.
#[derive(Debug, Default)]
pub struct Leaves {
    leaves: BTreeMap<CgroupId, Leaf>,
}

#[derive(Debug)]
struct Leaf {
    path: String,
    state: State,
    /// What it does in its application is not known yet.
    nameless: bool,
}

/// What a leaf is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Processes are in it, or it was made for one.
    Occupied,
    /// No process was in it after a round with this total, ns.
    Emptied { cpu_ns: u64 },
}

impl State {
    /// A round was read, and then whether a process is in it. True when the leaf is over: no process was there since the round before,
    /// and this round's total is that round's, so the kernel has charged all that there was.
    fn on(self, populated: bool, cpu_ns: u64) -> (Self, bool) {
        match (self, populated) {
            (_, true) => (Self::Occupied, false),
            (Self::Occupied, false) => (Self::Emptied { cpu_ns }, false),
            (Self::Emptied { cpu_ns: before }, false) => (Self::Emptied { cpu_ns }, before == cpu_ns),
        }
    }
}

impl Leaves {
    /// A leaf is in a round for the first time; `nameless` = its role is not known yet.
    pub fn appeared(&mut self, cgroup: CgroupId, path: &str, nameless: bool) {
        self.leaves.insert(cgroup, Leaf { path: path.to_owned(), state: State::Occupied, nameless });
    }

    /// A cgroup is gone.
    pub fn gone(&mut self, cgroup: CgroupId) {
        self.leaves.remove(&cgroup);
    }

    /// Its role is known now.
    pub fn named(&mut self, cgroup: CgroupId) {
        if let Some(leaf) = self.leaves.get_mut(&cgroup) {
            leaf.nameless = false;
        }
    }

    /// Leaves whose role is not known, with their paths.
    pub fn nameless(&self) -> impl Iterator<Item = (CgroupId, &str)> + '_ {
        self.leaves.iter().filter(|(_, leaf)| leaf.nameless).map(|(id, leaf)| (*id, leaf.path.as_str()))
    }

    /// All, with their paths.
    pub fn iter(&self) -> impl Iterator<Item = (CgroupId, &str)> + '_ {
        self.leaves.iter().map(|(id, leaf)| (*id, leaf.path.as_str()))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// A round had this total of a leaf, ns, and after it a process was there or not. Whether the leaf is to be removed.
    pub fn read(&mut self, cgroup: CgroupId, populated: bool, cpu_ns: u64) -> bool {
        let Some(leaf) = self.leaves.get_mut(&cgroup) else { return false };
        let (state, over) = leaf.state.on(populated, cpu_ns);
        leaf.state = state;
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE: &str = "container_1_0001_01_000001";
    const TWO: &str = "container_1_0001_01_000002";

    fn member(pid: u32, session: u32, container: Option<&str>) -> Member {
        Member { pid, session, start: u64::from(pid), container: container.map(|id| id.parse().unwrap()) }
    }

    fn planned(members: &[Member]) -> Vec<(u32, String)> {
        plan(members).into_iter().map(|m| (m.pid, m.container.to_string())).collect()
    }

    #[test]
    fn a_containers_session_and_all_that_name_it_go_together() {
        let members = [
            // The NodeManager, and the script that waits for the container.
            member(10, 10, None),
            member(20, 10, None),
            // launch_container.sh, a child that names nothing, and one that left the session.
            member(30, 30, Some(ONE)),
            member(31, 30, None),
            member(40, 40, Some(ONE)),
            // A second container, by its environment only, in a session that began elsewhere.
            member(50, 7, Some(TWO)),
            member(51, 7, None),
        ];
        let want = [(30, ONE), (31, ONE), (40, ONE), (50, TWO)].map(|(pid, id)| (pid, id.to_owned()));
        assert_eq!(planned(&members), want);
    }

    #[test]
    fn a_leaf_is_the_folder_of_an_id_directly_below_a_listed_unit() {
        let units = ["system.slice/nm.service".to_owned()];
        let is_leaf = |path: &str| of_path(&units, path).is_some();
        assert!(is_leaf(&format!("system.slice/nm.service/{ONE}")));
        assert!(!is_leaf(&format!("system.slice/other.service/{ONE}")));
        assert!(!is_leaf(&format!("system.slice/nm.service/main/{ONE}")));
        assert!(
            !is_leaf("system.slice/nm.service/main") && !is_leaf("system.slice/nm.service") && !is_leaf("")
        );
    }

    #[test]
    fn a_leaf_is_over_when_its_total_stands_still_without_a_process() {
        let (mut leaves, id) = (Leaves::default(), CgroupId(5));
        leaves.appeared(id, "nm/x", true);
        assert!(!leaves.read(id, true, 10));
        assert!(!leaves.read(id, false, 20));
        assert!(!leaves.read(id, false, 25), "the end of an exit was charged");
        assert!(!leaves.read(id, true, 25), "a process came");
        assert!(!leaves.read(id, false, 30));
        assert!(leaves.read(id, false, 30));
        assert!(leaves.read(id, false, 30), "until it is gone");
        leaves.named(id);
        assert_eq!((leaves.nameless().count(), leaves.len()), (0, 1));
        leaves.gone(id);
        assert!(leaves.is_empty() && !leaves.read(id, false, 30));
    }

    proptest! {
        #[test]
        fn nothing_of_the_unit_itself_is_moved(sessions in prop::collection::vec((0u32..6, 0u8..4), 0..20)) {
            // Sessions 0 to 2 are the unit's: nobody in them names a container.
            let members: Vec<Member> = sessions
                .iter()
                .enumerate()
                .map(|(i, (session, says))| {
                    let container = (*session > 2 && *says > 0).then_some(if *says > 2 { TWO } else { ONE });
                    // The first of a session leads it.
                    let leads = sessions.iter().position(|(s, _)| s == session) == Some(i);
                    member(if leads { 100 + session } else { 200 + i as u32 }, 100 + session, container)
                })
                .collect();
            let moves = plan(&members);
            for one in &moves {
                let of = members.iter().find(|m| m.pid == one.pid).unwrap();
                prop_assert!(of.session > 102);
                prop_assert_eq!(of.start, one.start);
                prop_assert!(of.container.is_none() || of.container.as_ref() == Some(&one.container));
            }
            let named = members.iter().filter(|m| m.container.is_some());
            prop_assert!(named.clone().all(|m| moves.iter().any(|one| one.pid == m.pid)));
            // What is moved is there no more: a second look moves less, in the end nothing.
            let left: Vec<Member> =
                members.iter().filter(|m| !moves.iter().any(|one| one.pid == m.pid)).cloned().collect();
            prop_assert!(plan(&left).is_empty());
        }
    }
}
