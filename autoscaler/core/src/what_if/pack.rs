//! Which machines hold so many pieces of such sizes.
//!
//! First fit decreasing in two resources: the largest pieces first, each into the first machine that has room for it in both. It is
//! within a fifth of the best for one resource (Johnson 1973: 11/9) and close to it in practice for two, takes one pass, and gives the
//! same answer each time. Pieces of one kind are alike: where one did not fit no later one of them does, so the work is machines ×
//! kinds. Bounds: [`MACHINES`].

use crate::room::Room;

/// Most machines of a type that are counted; what does not fit into so many is left over.
pub const MACHINES: usize = 100_000;

/// Pieces that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces<K> {
    /// Whose.
    pub of: K,
    /// How large one is.
    pub size: Room,
    /// How many.
    pub count: u32,
}

/// What was put where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Of each machine, what is left.
    pub left: Vec<Room>,
    /// Machines that hold something, ascending.
    pub used: Vec<usize>,
    /// Of each kind, in the order given, how many did not fit anywhere.
    pub unplaced: Vec<u32>,
}

/// Puts pieces onto the machines that are there; `may` says whether a kind may be put onto one.
pub fn onto<K>(pieces: &[Pieces<K>], machines: &[Room], may: impl Fn(&K, usize) -> bool) -> Packed {
    let mut left = machines.to_vec();
    let mut holds = vec![false; machines.len()];
    let mut unplaced: Vec<u32> = pieces.iter().map(|kind| kind.count).collect();
    for at in order(pieces, largest(machines)) {
        let kind = &pieces[at];
        for (machine, room) in left.iter_mut().enumerate() {
            if unplaced[at] == 0 {
                break;
            }
            if !may(&kind.of, machine) {
                continue;
            }
            let put = room.holds(kind.size).min(unplaced[at].into());
            *room = room.less(kind.size.times(put));
            holds[machine] |= put > 0;
            unplaced[at] -= u32::try_from(put).unwrap_or(u32::MAX);
        }
    }
    let used = holds.iter().enumerate().filter_map(|(machine, holds)| holds.then_some(machine)).collect();
    Packed { left, used, unplaced }
}

/// How many machines of one size hold the pieces; and of each kind how many fit into none.
pub fn count<K>(pieces: &[Pieces<K>], machine: Room) -> (u32, Vec<u32>) {
    let mut left: Vec<Room> = Vec::new();
    let mut unplaced: Vec<u32> = pieces.iter().map(|kind| kind.count).collect();
    for at in order(pieces, machine) {
        let size = pieces[at].size;
        for room in &mut left {
            let put = room.holds(size).min(unplaced[at].into());
            *room = room.less(size.times(put));
            unplaced[at] -= u32::try_from(put).unwrap_or(u32::MAX);
        }
        let each = machine.holds(size);
        while each > 0 && unplaced[at] > 0 && left.len() < MACHINES {
            let put = each.min(unplaced[at].into());
            left.push(machine.less(size.times(put)));
            unplaced[at] -= u32::try_from(put).unwrap_or(u32::MAX);
        }
    }
    (u32::try_from(left.len()).unwrap_or(u32::MAX), unplaced)
}

/// No packing does with fewer machines: all that is asked by all that one has, in the tighter resource.
#[must_use]
pub fn least<K>(pieces: &[Pieces<K>], machine: Room) -> u32 {
    let sum = pieces.iter().fold(Room::default(), |sum, kind| sum.and(kind.size.times(kind.count.into())));
    let of = |sum: u64, one: u64| if one == 0 { u64::from(sum > 0) } else { sum.div_ceil(one) };
    let least = of(sum.cpu_millis, machine.cpu_millis).max(of(sum.memory_bytes, machine.memory_bytes));
    u32::try_from(least).unwrap_or(u32::MAX)
}

fn largest(machines: &[Room]) -> Room {
    let most = |of: fn(&Room) -> u64| machines.iter().map(of).max().unwrap_or(0);
    Room { cpu_millis: most(|room| room.cpu_millis), memory_bytes: most(|room| room.memory_bytes) }
}

/// Kinds, the largest first; of equals the one that was given first.
fn order<K>(pieces: &[Pieces<K>], whole: Room) -> Vec<usize> {
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by(|a, b| pieces[*b].size.share(whole).total_cmp(&pieces[*a].size.share(whole)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn room(cpu_millis: u64, memory_bytes: u64) -> Room {
        Room { cpu_millis, memory_bytes }
    }

    fn pieces(of: &'static str, cpu: u64, memory: u64, count: u32) -> Pieces<&'static str> {
        Pieces { of, size: room(cpu, memory), count }
    }

    #[test]
    fn the_largest_go_first_and_small_ones_fill() {
        let all = [pieces("small", 1_000, 1, 6), pieces("large", 3_000, 1, 3)];
        assert_eq!(count(&all, room(4_000, 100)), (4, vec![0, 0]));
        assert_eq!(least(&all, room(4_000, 100)), 4);
        let packed = onto(&all, &[room(4_000, 9), room(4_000, 9), room(2_000, 9)], |_, _| true);
        assert_eq!((packed.unplaced, packed.used), (vec![2, 1], vec![0, 1, 2]));
    }

    #[test]
    fn either_resource_may_bind_and_what_is_too_large_fits_nowhere() {
        let all = [pieces("wide", 100, 60, 3), pieces("huge", 9_000, 1, 2)];
        assert_eq!(count(&all, room(4_000, 100)), (3, vec![0, 2]));
        assert_eq!(least(&all[..1], room(4_000, 100)), 2);
        assert_eq!(count(&all, room(0, 0)), (0, vec![3, 2]));
        let packed = onto(&all, &[room(4_000, 200), room(4_000, 200)], |_, machine| machine == 1);
        assert_eq!((packed.unplaced, packed.used), (vec![0, 2], vec![1]));
    }

    proptest! {
        /// No machine holds more than it has, nothing is lost or doubled, and never fewer machines than the sums need.
        #[test]
        fn capacity_holds_and_nothing_is_lost(
            kinds in prop::collection::vec((0u64..5_000, 0u64..5_000, 0u32..30), 0..8),
            machines in prop::collection::vec((0u64..9_000, 0u64..9_000), 0..8),
            allowed in any::<u64>(),
            of_type in (1u64..9_000, 1u64..9_000),
        ) {
            let all: Vec<Pieces<usize>> = kinds.iter().enumerate()
                .map(|(of, (cpu, memory, count))| Pieces { of, size: room(*cpu, *memory), count: *count })
                .collect();
            let rooms: Vec<Room> = machines.iter().map(|(cpu, memory)| room(*cpu, *memory)).collect();
            let may = |kind: &usize, machine: usize| allowed >> (kind * 8 + machine) & 1 == 1;
            let packed = onto(&all, &rooms, may);
            let sum = |rooms: &[Room]| rooms.iter().fold(Room::default(), |sum, room| sum.and(*room));
            let mut placed = Room::default();
            for (kind, unplaced) in all.iter().zip(&packed.unplaced) {
                prop_assert!(*unplaced <= kind.count);
                placed = placed.and(kind.size.times(u64::from(kind.count - unplaced)));
            }
            prop_assert_eq!(sum(&packed.left).and(placed), sum(&rooms));
            for (left, had) in packed.left.iter().zip(&rooms) {
                prop_assert!(left.cpu_millis <= had.cpu_millis && left.memory_bytes <= had.memory_bytes);
            }
            for (kind, unplaced) in all.iter().zip(&packed.unplaced) {
                // What is left over fits nowhere where it may be.
                let fits = |machine: usize| packed.left[machine].holds(kind.size) > 0 && may(&kind.of, machine);
                prop_assert!(*unplaced == 0 || !(0..rooms.len()).any(fits));
            }

            let machine = room(of_type.0, of_type.1);
            let (needed, unplaced) = count(&all, machine);
            let fitting: Vec<Pieces<usize>> = all.iter().zip(&unplaced)
                .map(|(kind, unplaced)| Pieces { count: kind.count - unplaced, ..kind.clone() }).collect();
            for (kind, unplaced) in all.iter().zip(&unplaced) {
                prop_assert_eq!(*unplaced > 0, kind.count > 0 && machine.holds(kind.size) == 0);
            }
            prop_assert!(needed >= least(&fitting, machine));
            prop_assert!(u64::from(needed) <= fitting.iter().map(|kind| u64::from(kind.count)).sum::<u64>());
        }
    }
}
