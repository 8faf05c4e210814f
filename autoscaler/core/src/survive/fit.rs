//! Whether replicas of several sizes fit into several places.
//!
//! First-fit-decreasing finds a way nearly always when there is one. When it finds none, a search that tries every number of replicas of each
//! workload on each place does, or proves that there is none, unless it runs out of steps: so more room never makes a *no* of a *yes*.

use model::id::{NodeId, WorkloadName};

use super::{Doubt, Known, Short, Verdict, room};
use crate::room::Room;

/// Steps of one search: some ms at most, and enough to be exact with a handful of nodes.
pub(super) const STEPS: u32 = 5_000;
/// Deepest search: places times workloads beyond this are many nodes, where sums tell.
const DEPTH: usize = 128;

/// Replicas of one workload that need a place.
#[derive(Debug, Clone)]
pub(super) struct Class {
    pub(super) workload: WorkloadName,
    pub(super) given: Known,
    pub(super) count: u64,
    /// Numbers of the places that may start it.
    pub(super) may: Vec<usize>,
}

/// A place.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) name: NodeId,
    /// `None` when that is not known.
    pub(super) free: Option<Room>,
}

/// Whether all have a place.
#[derive(Debug)]
pub(super) struct Fit {
    pub(super) verdict: Verdict,
    pub(super) short: Vec<Short>,
    pub(super) doubts: Vec<Doubt>,
}

/// A class whose size is known, on places whose room is.
struct Sized<'a> {
    class: &'a Class,
    size: Room,
    on: Vec<usize>,
}

/// Fits all classes into the places.
pub(super) fn fit(classes: &[Class], places: &[&Place]) -> Fit {
    let mut free: Vec<Room> = places.iter().map(|place| place.free.unwrap_or_default()).collect();
    let mut sized: Vec<Sized<'_>> = classes
        .iter()
        .filter_map(|class| {
            let lit = |at: &usize| places.get(*at).is_some_and(|place| place.free.is_some());
            let on = class.may.iter().copied().filter(lit).collect();
            Some(Sized { class, size: room(class.given)?, on })
        })
        .collect();
    sort_by_size(&mut sized, &free);
    let before = free.clone();
    let left: Vec<u64> = sized.iter().map(|one| first_fit(one, &mut free)).collect();
    let whole = left.iter().all(|left| *left == 0);

    let nowhere = |class: &&Class| class.may.is_empty();
    let mut short: Vec<Short> = classes
        .iter()
        .filter(nowhere)
        .map(|class| Short {
            workload: class.workload.clone(),
            replicas: class.count,
            of: class.count,
            given: class.given,
            best: None,
        })
        .collect();
    let no_size = classes.iter().filter(|class| room(class.given).is_none() && !class.may.is_empty());
    let mut doubts: Vec<Doubt> =
        no_size.map(|class| Doubt::NoSize { workload: class.workload.clone() }).collect();
    let stuck = !short.is_empty();
    let searched = if whole {
        Some(true)
    } else if too_much(&sized, &before) {
        Some(false)
    } else {
        search(&sized, before)
    };
    if searched != Some(true) {
        let left = sized.iter().zip(left).filter(|(one, left)| *left > 0 && !one.class.may.is_empty());
        short.extend(left.map(|(one, left)| lacking(one, left, places, &free)));
    }
    if stuck {
        return Fit { verdict: Verdict::No, short, doubts: Vec::new() };
    }
    if searched.is_none() {
        doubts.push(Doubt::Search);
    }
    if searched != Some(true) {
        // A place in the dark may have room for what has none elsewhere.
        let dark = |at: &&usize| places.get(**at).is_some_and(|place| place.free.is_none());
        let mut unmeasured: Vec<usize> =
            sized.iter().flat_map(|one| one.class.may.iter().filter(dark)).copied().collect();
        unmeasured.sort_unstable();
        unmeasured.dedup();
        if searched == Some(false) && unmeasured.is_empty() {
            return Fit { verdict: Verdict::No, short, doubts: Vec::new() };
        }
        let names = unmeasured.iter().filter_map(|at| places.get(*at));
        doubts.extend(names.map(|place| Doubt::Unmeasured { node: place.name.clone() }));
    }
    let verdict = if doubts.is_empty() { Verdict::Yes } else { Verdict::Unknown };
    Fit { verdict, short, doubts }
}

/// The largest first, by the resource of which it takes the larger share of all that is free.
fn sort_by_size(sized: &mut [Sized<'_>], free: &[Room]) {
    let all = free.iter().fold(Room::default(), |all, free| all.and(*free));
    sized.sort_by(|a, b| {
        b.size.share(all).total_cmp(&a.size.share(all)).then_with(|| a.class.workload.cmp(&b.class.workload))
    });
}

/// Puts as many as possible on the first places that take them; answers how many are left.
fn first_fit(one: &Sized<'_>, free: &mut [Room]) -> u64 {
    let mut left = one.class.count;
    for at in &one.on {
        if left == 0 {
            break;
        }
        let Some(free) = free.get_mut(*at) else { continue };
        let here = free.holds(one.size).min(left);
        *free = free.less(one.size.times(here));
        left -= here;
    }
    left
}

fn lacking(one: &Sized<'_>, left: u64, places: &[&Place], free: &[Room]) -> Short {
    // How far a place is from taking one: the share of its size that is missing, of the resource that lacks more.
    let lacks = |free: Room| {
        let of = |has: u64, wants: u64| 1.0 - (has as f64 / wants.max(1) as f64).min(1.0);
        of(free.cpu_millis, one.size.cpu_millis).max(of(free.memory_bytes, one.size.memory_bytes))
    };
    let on = one.on.iter().filter_map(|at| Some((places.get(*at)?, *free.get(*at)?)));
    let best = on.min_by(|(_, a), (_, b)| lacks(*a).total_cmp(&lacks(*b)));
    Short {
        workload: one.class.workload.clone(),
        replicas: left,
        of: one.class.count,
        given: one.class.given,
        best: best.map(|(place, free)| (place.name.clone(), free)),
    }
}

/// All of them together, or those of one workload alone, take more than there is.
fn too_much(sized: &[Sized<'_>], free: &[Room]) -> bool {
    let holds = |one: &Sized<'_>| {
        one.on
            .iter()
            .filter_map(|at| free.get(*at))
            .map(|free| free.holds(one.size))
            .fold(0, u64::saturating_add)
    };
    let mut on: Vec<usize> = sized.iter().flat_map(|one| one.on.iter().copied()).collect();
    on.sort_unstable();
    on.dedup();
    let all = on.iter().filter_map(|at| free.get(*at)).fold(Room::default(), |all, free| all.and(*free));
    let asked = sized.iter().fold(Room::default(), |all, one| all.and(one.size.times(one.class.count)));
    asked.cpu_millis > all.cpu_millis
        || asked.memory_bytes > all.memory_bytes
        || sized.iter().any(|one| holds(one) < one.class.count)
}

/// Whether there is a way at all; `None` when that takes too many steps to tell.
fn search(sized: &[Sized<'_>], mut free: Vec<Room>) -> Option<bool> {
    if sized.iter().map(|one| one.on.len() + 1).sum::<usize>() > DEPTH {
        return None;
    }
    let mut steps = STEPS;
    let first = sized.first().map_or(0, |one| one.class.count);
    try_from(sized, &mut free, (0, first), &mut steps)
}

/// With `left` of the first class to place from its place number `from` on.
fn try_from(
    sized: &[Sized<'_>],
    free: &mut [Room],
    (from, left): (usize, u64),
    steps: &mut u32,
) -> Option<bool> {
    let Some((one, rest)) = sized.split_first() else { return Some(true) };
    *steps = steps.checked_sub(1)?;
    if left == 0 {
        let next = rest.first().map_or(0, |one| one.class.count);
        return try_from(rest, free, (0, next), steps);
    }
    let on = one.on.get(from..).unwrap_or_default();
    let fits = |at: &usize| free.get(*at).map_or(0, |free| free.holds(one.size));
    if on.iter().map(fits).fold(0, u64::saturating_add) < left {
        return Some(false);
    }
    let Some(at) = on.first() else { return Some(false) };
    let most = fits(at).min(left);
    let had = free.get(*at).copied()?;
    for here in (0..=most).rev() {
        if let Some(place) = free.get_mut(*at) {
            *place = had.less(one.size.times(here));
        }
        match try_from(sized, free, (from + 1, left - here), steps) {
            Some(false) => {}
            found => return found,
        }
    }
    if let Some(place) = free.get_mut(*at) {
        *place = had;
    }
    Some(false)
}
