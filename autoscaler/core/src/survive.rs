//! Would what runs survive the loss of a node, or of a rack? And how much more has room?
//!
//! Problem: a fleet that is packed well has no place left for what a lost node ran, and nobody sees that before the node is lost. Method: for
//! each node (and each rack) the replicas that Trimtab placed there, with the sizes that they were given, are fitted into what is free on the
//! others that may start them: same launcher, acting, not drained. Free is capacity less what others than Trimtab use, and less the greater of
//! given and used of each of Trimtab's own ([`fit`]). *Yes* is a way to place them that was found; *no* is proved; whatever is not known, a size
//! or a measurement, makes an answer *unknown* wherever it could matter, and never *yes*. Members of clusters are not started elsewhere by the
//! loss: their cluster goes on with those that are left, so they are counted beside the answer, and keep their room where they are. Bounds: each
//! loss costs one walk over the nodes for each workload on it, and searches [`fit::STEPS`] steps at most.

mod fit;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use model::id::{NodeId, RackName, WorkloadName};

use crate::room::Room;
use crate::view::GivenView;
use fit::{Class, Fit, Place};

/// An amount of which each resource may not be known: thousandths of a core, bytes.
pub type Known = (Option<u64>, Option<u64>);

/// Cores as thousandths of one.
pub(crate) fn millis(cores: f64) -> u64 {
    (cores.max(0.0) * 1e3).ceil() as u64
}

fn room((cpu, memory): Known) -> Option<Room> {
    Some(Room { cpu_millis: cpu?, memory_bytes: memory? })
}

/// A node whose stream is up.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Which.
    pub name: NodeId,
    /// The rack that it stands in, as its owner says.
    pub rack: Option<RackName>,
    /// What may be started there now; none where nothing may be.
    pub launchers: BTreeSet<String>,
    /// All there is.
    pub capacity: Room,
    /// What all tasks use, by fresh measurements.
    pub used: Known,
}

/// Something of Trimtab's on a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Whose.
    pub workload: WorkloadName,
    /// Where.
    pub node: NodeId,
    /// What it is to the loss of its node.
    pub role: Role,
    /// What it may use.
    pub given: Known,
    /// What it uses.
    pub used: Known,
}

/// What the loss of its node means for a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It is started elsewhere, by this launcher.
    Moves {
        /// Its name.
        launcher: String,
    },
    /// A member of a cluster, which goes on without it.
    Member,
    /// It is on its way out: nobody misses it.
    Leaves,
}

/// What one more replica of a workload takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    /// Whose.
    pub workload: WorkloadName,
    /// What starts it.
    pub launcher: String,
    /// What it is given.
    pub given: Known,
}

/// The fleet, as far as the question needs it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Question {
    /// Nodes that are connected, by name.
    pub hosts: Vec<Host>,
    /// What Trimtab runs on any node.
    pub pieces: Vec<Piece>,
    /// What could be started, by workload.
    pub kinds: Vec<Kind>,
}

impl Question {
    /// What was given on each node where Trimtab has something.
    #[must_use]
    pub fn given(&self) -> BTreeMap<NodeId, GivenView> {
        GivenView::by_node(self.pieces.iter().map(|piece| (piece.node.clone(), piece.given)))
    }
}

/// Whether a loss is survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// There is no place for all that ran there.
    No,
    /// It cannot be told.
    Unknown,
    /// All that ran there has a place.
    Yes,
}

/// What is lost.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lost {
    /// One node.
    Node(NodeId),
    /// All nodes of a rack.
    Rack(RackName),
}

/// What one loss would mean.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// Of what.
    pub lost: Lost,
    /// Whether it is survived.
    pub verdict: Verdict,
    /// Replicas that would be started elsewhere.
    pub replicas: u64,
    /// Members of clusters that would be missing.
    pub members: u64,
    /// Replicas without a place.
    pub short: Vec<Short>,
    /// Why it cannot be told.
    pub doubts: Vec<Doubt>,
}

/// Replicas of one workload that have no place.
#[derive(Debug, Clone, PartialEq)]
pub struct Short {
    /// Whose.
    pub workload: WorkloadName,
    /// How many.
    pub replicas: u64,
    /// Of how many that would be lost.
    pub of: u64,
    /// What one takes, as far as it is known.
    pub given: Known,
    /// The node that may start it and lacks least, with what is free there then; `None` = no other node may start it.
    pub best: Option<(NodeId, Room)>,
}

/// Why something cannot be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// The specification gives no size.
    NoSize {
        /// Whose.
        workload: WorkloadName,
    },
    /// Nothing fresh is known of the use of this node, which may start what has no place.
    Unmeasured {
        /// Which.
        node: NodeId,
    },
    /// No way was found, and none was excluded.
    Search,
}

/// The answer to one of the two questions.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Of all losses together: the worst.
    pub verdict: Verdict,
    /// Losses that were looked at.
    pub asked: usize,
    /// Of those, how many are survived.
    pub survived: usize,
    /// Replicas that are somewhere among them: a yes of none says little.
    pub replicas: u64,
    /// Why it is not a yes.
    pub why: Option<String>,
}

/// What has room for one more of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct More {
    /// Whose.
    pub workload: WorkloadName,
    /// So many more replicas have room on the nodes that are measured; `None` when its size is not given.
    pub replicas: Option<u64>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Headroom {
    /// Whether the loss of any one node is survived.
    pub node: Answer,
    /// The same for any one rack.
    pub rack: Answer,
    /// What each loss would mean: first those that are not survived, then what cannot be told.
    pub losses: Vec<Loss>,
    /// What is free on nodes where something may be started; `None` when that is known of none.
    pub free: Option<Room>,
    /// How many nodes that is.
    pub free_on: usize,
    /// Nodes where something may be started, and of which it is not known.
    pub without: Vec<NodeId>,
    /// What would fit there, by workload, each alone.
    pub more: Vec<More>,
}

impl Question {
    /// Answers it.
    #[must_use]
    pub fn answer(&self) -> Headroom {
        let free = self.free();
        let by_node = self.by_node();
        let place = |(host, free): (&Host, &Option<Room>)| Place { free: *free, name: host.name.clone() };
        let mut places: Vec<(usize, Place)> = self.hosts.iter().zip(&free).map(place).enumerate().collect();
        // The roomiest first, so that a walk is short.
        let roomy = |place: &Place| place.free.map(|free| (free.cpu_millis, free.memory_bytes));
        places.sort_by(|(_, a), (_, b)| roomy(b).cmp(&roomy(a)).then_with(|| a.name.cmp(&b.name)));
        let mut losses: Vec<Loss> = Vec::new();
        for (at, host) in self.hosts.iter().enumerate() {
            losses.push(self.loss(Lost::Node(host.name.clone()), &BTreeSet::from([at]), &places, &by_node));
        }
        let node = answer(&losses, &[], words::NOBODY);
        let mut racks: BTreeMap<&RackName, BTreeSet<usize>> = BTreeMap::new();
        for (at, host) in self.hosts.iter().enumerate() {
            if let Some(rack) = &host.rack {
                racks.entry(rack).or_default().insert(at);
            }
        }
        let of_racks: Vec<Loss> = racks
            .into_iter()
            .map(|(rack, nodes)| self.loss(Lost::Rack(rack.clone()), &nodes, &places, &by_node))
            .collect();
        let homeless = self.hosts.iter().filter(|host| host.rack.is_none()).map(|host| host.name.clone());
        let rack = answer(&of_racks, &homeless.collect::<Vec<_>>(), words::NO_RACK);
        losses.extend(of_racks);
        losses.sort_by_key(|loss| loss.verdict);
        let usable = || self.hosts.iter().zip(&free).filter(|(host, _)| !host.launchers.is_empty());
        Headroom {
            node,
            rack,
            losses,
            free: usable().filter_map(|(_, free)| *free).reduce(Room::and),
            free_on: usable().filter(|(_, free)| free.is_some()).count(),
            without: usable().filter(|(_, free)| free.is_none()).map(|(host, _)| host.name.clone()).collect(),
            more: self.kinds.iter().map(|kind| self.more(kind, &free)).collect(),
        }
    }

    /// What is free on each host; `None` when that is not known.
    fn free(&self) -> Vec<Option<Room>> {
        let at: BTreeMap<&NodeId, usize> =
            self.hosts.iter().enumerate().map(|(at, h)| (&h.name, at)).collect();
        // Of Trimtab's own: what counts as taken, and how much of it is in the use of all.
        let mut own = vec![(Room::default(), Room::default()); self.hosts.len()];
        for piece in &self.pieces {
            let Some((taken, used)) = at.get(&piece.node).and_then(|at| own.get_mut(*at)) else { continue };
            let most = |given: Option<u64>, used: Option<u64>| given.unwrap_or(0).max(used.unwrap_or(0));
            *taken = taken.and(Room {
                cpu_millis: most(piece.given.0, piece.used.0),
                memory_bytes: most(piece.given.1, piece.used.1),
            });
            let (cpu_millis, memory_bytes) = (piece.used.0.unwrap_or(0), piece.used.1.unwrap_or(0));
            *used = used.and(Room { cpu_millis, memory_bytes });
        }
        let free = |(host, (taken, used)): (&Host, &(Room, Room))| {
            let others = room(host.used)?.less(*used);
            Some(host.capacity.less(others.and(*taken)))
        };
        self.hosts.iter().zip(&own).map(free).collect()
    }

    fn by_node(&self) -> BTreeMap<&NodeId, Vec<&Piece>> {
        let mut by_node: BTreeMap<&NodeId, Vec<&Piece>> = BTreeMap::new();
        for piece in &self.pieces {
            by_node.entry(&piece.node).or_default().push(piece);
        }
        by_node
    }

    fn loss(
        &self,
        lost: Lost,
        nodes: &BTreeSet<usize>,
        places: &[(usize, Place)],
        by_node: &BTreeMap<&NodeId, Vec<&Piece>>,
    ) -> Loss {
        let gone = nodes.iter().filter_map(|at| by_node.get(&self.hosts.get(*at)?.name)).flatten();
        let (mut members, mut classes) = (0, BTreeMap::<&WorkloadName, Class>::new());
        for piece in gone {
            match &piece.role {
                Role::Leaves => {}
                Role::Member => members += 1,
                Role::Moves { launcher } => {
                    let class = classes.entry(&piece.workload).or_insert_with(|| Class {
                        workload: piece.workload.clone(),
                        given: piece.given,
                        count: 0,
                        may: self.may(launcher, nodes, places),
                    });
                    class.count += 1;
                }
            }
        }
        let classes: Vec<Class> = classes.into_values().collect();
        let replicas = classes.iter().map(|class| class.count).sum();
        let all: Vec<&Place> = places.iter().map(|(_, place)| place).collect();
        let Fit { verdict, short, doubts } = fit::fit(&classes, &all);
        Loss { lost, verdict, replicas, members, short, doubts }
    }

    /// The places, by number, that may start it when these nodes are gone.
    fn may(&self, launcher: &str, nodes: &BTreeSet<usize>, places: &[(usize, Place)]) -> Vec<usize> {
        let starts =
            |host: &usize| self.hosts.get(*host).is_some_and(|host| host.launchers.contains(launcher));
        let left = places.iter().enumerate().filter(|(_, (host, _))| !nodes.contains(host) && starts(host));
        left.map(|(at, _)| at).collect()
    }

    fn more(&self, kind: &Kind, free: &[Option<Room>]) -> More {
        let starts = |host: &Host| host.launchers.contains(&kind.launcher);
        let fits = |size: Room| {
            let on = self.hosts.iter().zip(free).filter(|(host, _)| starts(host));
            on.filter_map(|(_, free)| *free).map(|free| free.holds(size)).fold(0, u64::saturating_add)
        };
        More { workload: kind.workload.clone(), replicas: room(kind.given).map(fits) }
    }
}

/// All losses of a kind together; `homeless` are nodes that belong to none.
fn answer(losses: &[Loss], homeless: &[NodeId], nobody: &str) -> Answer {
    let survived = losses.iter().filter(|loss| loss.verdict == Verdict::Yes).count();
    let worst = losses.iter().min_by_key(|loss| loss.verdict);
    let (verdict, why) = match worst {
        None => (Verdict::Unknown, Some(nobody.to_owned())),
        Some(loss) if loss.verdict == Verdict::No => (Verdict::No, loss.why()),
        Some(_) if !homeless.is_empty() => (Verdict::Unknown, Some(words::homeless(homeless))),
        Some(loss) => (loss.verdict, loss.why()),
    };
    let replicas = losses.iter().map(|loss| loss.replicas).sum();
    Answer { verdict, asked: losses.len(), survived, replicas, why }
}
