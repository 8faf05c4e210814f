use super::*;
use proptest::prelude::*;

const GIB: u64 = 1 << 30;

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn workload(name: &str) -> WorkloadName {
    WorkloadName::new(name).unwrap()
}

/// 4 cores and 8 GiB, of which others use 1 core and 1 GiB; it may start `web` and `job`.
fn host(name: &str) -> Host {
    Host {
        name: node(name),
        rack: None,
        launchers: BTreeSet::from(["web".to_owned(), "job".to_owned()]),
        capacity: Room { cpu_millis: 4_000, memory_bytes: 8 * GIB },
        used: (Some(1_000), Some(GIB)),
    }
}

/// A replica of 1 core and 1 GiB that uses nothing.
fn piece(of: &str, on: &str) -> Piece {
    Piece {
        workload: workload(of),
        node: node(on),
        role: Role::Moves { launcher: of.to_owned() },
        given: (Some(1_000), Some(GIB)),
        used: (Some(0), Some(0)),
    }
}

fn pieces(of: &str, on: &str, count: usize) -> Vec<Piece> {
    vec![piece(of, on); count]
}

fn loss<'a>(headroom: &'a Headroom, name: &str) -> &'a Loss {
    headroom.losses.iter().find(|loss| loss.lost == Lost::Node(node(name))).unwrap()
}

#[test]
fn a_node_is_survived_when_the_others_have_room_for_all_that_ran_there() {
    let hosts = vec![host("a"), host("b")];
    let question = Question { hosts, pieces: pieces("web", "a", 3), kinds: Vec::new() };
    let answer = question.answer();
    assert_eq!((answer.node.verdict, answer.node.asked, answer.node.survived), (Verdict::Yes, 2, 2));
    assert_eq!((&answer.node.why, answer.node.replicas), (&None, 3));
    assert_eq!(loss(&answer, "a").replicas, 3);
    assert_eq!(answer.free, Some(Room { cpu_millis: 3_000, memory_bytes: 11 * GIB }), "a is full of CPU");

    let question = Question { pieces: pieces("web", "a", 4), ..question };
    let answer = question.answer();
    assert_eq!((answer.node.verdict, answer.node.survived), (Verdict::No, 1));
    let short = &loss(&answer, "a").short;
    assert_eq!((short.len(), short[0].replicas, short[0].of), (1, 1, 4));
    assert_eq!(
        answer.node.why.unwrap(),
        "node a: 1 of 4 replicas of web would have no place, each takes 1.00 cores and 1.00 GiB, and b has 0.00 cores and 4.00 GiB left"
    );
    assert_eq!(answer.losses[0].lost, Lost::Node(node("a")), "what is not survived comes first");
}

#[test]
fn what_is_given_and_not_used_is_not_free_and_neither_is_what_is_used_beyond_it() {
    let mut busy = piece("web", "b");
    busy.used = (Some(2_500), Some(GIB));
    let mut here = host("b");
    // 1 core of others and 2.5 of the replica, which was given 1.
    here.used = (Some(3_500), Some(2 * GIB));
    let question =
        Question { hosts: vec![host("a"), here], pieces: vec![busy, piece("web", "a")], kinds: vec![] };
    let answer = question.answer();
    assert_eq!(loss(&answer, "a").verdict, Verdict::No, "half a core is left");
    assert_eq!(loss(&answer, "b").verdict, Verdict::Yes);
}

#[test]
fn both_resources_count() {
    let mut small = host("b");
    small.used = (Some(0), Some(8 * GIB - GIB / 2));
    let question = Question { hosts: vec![host("a"), small], pieces: pieces("web", "a", 1), kinds: vec![] };
    assert_eq!(loss(&question.answer(), "a").verdict, Verdict::No);
}

#[test]
fn only_those_count_that_may_start_it() {
    let mut other = host("b");
    other.launchers = BTreeSet::from(["job".to_owned()]);
    let question = Question { hosts: vec![host("a"), other], pieces: pieces("web", "a", 1), kinds: vec![] };
    let answer = question.answer();
    assert_eq!(
        answer.node.why.as_deref(),
        Some("node a: 1 of 1 replicas of web would have no place, no other node may start them")
    );
    let mut alone = pieces("web", "a", 1);
    alone[0].given = (None, None);
    let question = Question { pieces: alone, ..question };
    assert_eq!(question.answer().node.verdict, Verdict::No, "whatever its size is");
}

#[test]
fn an_unknown_size_or_an_unmeasured_node_is_never_a_yes() {
    let mut no_size = pieces("web", "a", 1);
    no_size[0].given.1 = None;
    let question = Question { hosts: vec![host("a"), host("b")], pieces: no_size, kinds: vec![] };
    let answer = question.answer();
    assert_eq!(loss(&answer, "a").doubts, [Doubt::NoSize { workload: workload("web") }]);
    assert_eq!((answer.node.verdict, loss(&answer, "b").verdict), (Verdict::Unknown, Verdict::Yes));

    let mut dark = host("b");
    dark.used.0 = None;
    let question = Question { hosts: vec![host("a"), dark], pieces: pieces("web", "a", 1), kinds: vec![] };
    let answer = question.answer();
    assert_eq!(loss(&answer, "a").doubts, [Doubt::Unmeasured { node: node("b") }]);
    assert_eq!(answer.node.why.unwrap(), "node a: it is not known what is free on b");
    assert_eq!(answer.without, [node("b")]);
    let hosts = [question.hosts, vec![host("c")]].concat();
    let answer = Question { hosts, ..question }.answer();
    assert_eq!(loss(&answer, "a").verdict, Verdict::Yes, "c has room, whatever b has");
}

#[test]
fn members_stay_away_and_what_leaves_is_not_missed() {
    let mut member = piece("ring", "a");
    member.role = Role::Member;
    let mut leaving = piece("web", "a");
    leaving.role = Role::Leaves;
    let question = Question { hosts: vec![host("a")], pieces: vec![member, leaving], kinds: vec![] };
    let answer = question.answer();
    let loss = loss(&answer, "a");
    assert_eq!((loss.verdict, loss.replicas, loss.members), (Verdict::Yes, 0, 1));
    assert_eq!(answer.free.unwrap().cpu_millis, 1_000, "both keep their room while they are there");
}

#[test]
fn racks_are_lost_as_a_whole_and_unknown_until_all_are_told() {
    let in_rack = |name: &str, rack: &str| Host { rack: Some(RackName::new(rack).unwrap()), ..host(name) };
    let hosts = vec![in_rack("a", "r1"), in_rack("b", "r1"), in_rack("c", "r2")];
    let all = [pieces("web", "a", 2), pieces("web", "b", 2)].concat();
    let question = Question { hosts, pieces: all, kinds: vec![] };
    let answer = question.answer();
    assert_eq!((answer.node.verdict, answer.rack.verdict, answer.rack.asked), (Verdict::Yes, Verdict::No, 2));
    assert!(answer.rack.why.unwrap().starts_with("rack r1: 1 of 4 replicas of web"));

    let mut some = question;
    some.hosts[2].rack = None;
    assert_eq!(some.answer().rack.verdict, Verdict::No, "r1 alone is too much already");
    some.pieces.truncate(2);
    let rack = some.answer().rack;
    assert_eq!(rack.verdict, Verdict::Unknown);
    assert_eq!(rack.why.unwrap(), "the rack is not told of c: set `rack` in the agents' configuration");
    some.hosts.iter_mut().for_each(|host| host.rack = None);
    assert_eq!(some.answer().rack.why.unwrap(), words::NO_RACK);
    let nobody = Question::default().answer();
    assert_eq!((nobody.node.verdict, nobody.node.why.as_deref()), (Verdict::Unknown, Some(words::NOBODY)));
}

#[test]
fn a_way_that_first_fit_misses_is_found() {
    let with = |name: &str, cpu: u64| {
        let used = (Some(0), Some(0));
        Host { capacity: Room { cpu_millis: cpu, memory_bytes: 64 * GIB }, used, ..host(name) }
    };
    let sized = |of: &str, cpu: u64| Piece { given: (Some(cpu), Some(0)), ..piece(of, "a") };
    let mut hosts = vec![with("a", 20_000), with("b", 10_000), with("c", 9_000)];
    hosts.iter_mut().for_each(|host| host.launchers.extend(["x".to_owned(), "y".to_owned(), "z".to_owned()]));
    // First fit puts 7 on b, beside which no 5 fits; 5 and 5 on b, 7 on c is a way.
    let missed = vec![sized("x", 7_000), sized("y", 5_000), sized("y", 5_000)];
    let question = Question { hosts, pieces: missed, kinds: vec![] };
    assert_eq!(loss(&question.answer(), "a").verdict, Verdict::Yes, "7 goes to the smaller place");
    let none = vec![sized("x", 7_000), sized("y", 6_000), sized("z", 4_500)];
    let question = Question { pieces: none, ..question };
    assert_eq!(loss(&question.answer(), "a").verdict, Verdict::No, "17.5 of 19, and no way");
}

#[test]
fn room_for_more_is_told_by_workload() {
    let kind = |of: &str, given| Kind { workload: workload(of), launcher: of.to_owned(), given };
    let kinds = vec![kind("web", (Some(1_500), Some(GIB))), kind("job", (None, Some(GIB)))];
    let question = Question { hosts: vec![host("a"), host("b")], pieces: pieces("web", "a", 1), kinds };
    let more = question.answer().more;
    assert_eq!((more[0].replicas, more[1].replicas), (Some(1 + 2), None));
}

fn any_host(name: usize) -> impl Strategy<Value = Host> {
    let known = (prop::option::weighted(0.9, 0u64..6_000), prop::option::weighted(0.9, 0u64..12 * GIB));
    let launchers = prop::collection::btree_set(prop::sample::select(vec!["w0", "w1", "w2"]), 0..=3);
    (0u64..8_000, 0u64..16 * GIB, known, launchers).prop_map(
        move |(cpu_millis, memory_bytes, used, launchers)| Host {
            name: node(&format!("n{name}")),
            rack: (!name.is_multiple_of(3)).then(|| RackName::new(format!("r{}", name % 3)).unwrap()),
            launchers: launchers.into_iter().map(str::to_owned).collect(),
            capacity: Room { cpu_millis, memory_bytes },
            used,
        },
    )
}

fn any_pieces(nodes: usize) -> impl Strategy<Value = Vec<Piece>> {
    // A workload's replicas have one size.
    let size = (prop::option::weighted(0.95, 0u64..3_000), prop::option::weighted(0.95, 0u64..4 * GIB));
    let used = (prop::option::of(0u64..3_000), prop::option::of(0u64..4 * GIB));
    let one = (0usize..3, 0..nodes, 0u8..8, used);
    (prop::array::uniform3(size), prop::collection::vec(one, 0..12)).prop_map(|(sizes, all)| {
        let piece = |(of, on, role, used): (usize, usize, u8, Known)| Piece {
            workload: workload(&format!("w{of}")),
            node: node(&format!("n{on}")),
            role: match role {
                0 => Role::Member,
                1 => Role::Leaves,
                _ => Role::Moves { launcher: format!("w{of}") },
            },
            given: sizes[of],
            used,
        };
        all.into_iter().map(piece).collect()
    })
}

/// Some nodes, and one more of any name.
fn any_fleet() -> impl Strategy<Value = (Question, Host)> {
    (1usize..6).prop_flat_map(|nodes| {
        let hosts: Vec<_> = (0..nodes).map(any_host).collect();
        let place = prop::bool::ANY.prop_flat_map(|first| any_host(if first { 90 } else { 0 }));
        (hosts, any_pieces(nodes), place, prop::bool::ANY).prop_map(|(hosts, pieces, mut one_more, first)| {
            one_more.name = node(if first { "m" } else { "z" });
            one_more.rack = None;
            (Question { hosts, pieces, kinds: Vec::new() }, one_more)
        })
    })
}

/// The amounts that stand in `hosts` after the loss of one of them, placed by somebody else: every way, one replica after another.
fn has_a_way(hosts: &[(BTreeSet<String>, Room)], movers: &[(String, Room)]) -> bool {
    let Some(((launcher, size), rest)) = movers.split_first() else { return true };
    (0..hosts.len()).any(|at| {
        let (launchers, free) = &hosts[at];
        if !launchers.contains(launcher) || free.holds(*size) == 0 {
            return false;
        }
        let mut with = hosts.to_vec();
        with[at].1 = free.less(*size);
        has_a_way(&with, rest)
    })
}

proptest! {
    #[test]
    fn one_more_node_never_makes_a_no_of_a_yes((question, one_more) in any_fleet()) {
        let before = question.answer();
        let mut larger = question;
        larger.hosts.push(one_more);
        larger.hosts.sort_by(|a, b| a.name.cmp(&b.name));
        let after = larger.answer();
        for loss in before.losses.iter().filter(|loss| loss.verdict == Verdict::Yes) {
            let same = after.losses.iter().find(|one| one.lost == loss.lost).unwrap();
            prop_assert_ne!(same.verdict, Verdict::No, "{:?}", same);
        }
    }

    /// Yes and no are what trying every way says; so nothing is ever fitted over the capacity.
    #[test]
    fn yes_has_a_way_and_no_has_none((question, _) in any_fleet()) {
        let free = question.free();
        for loss in question.answer().losses.iter().filter(|loss| loss.replicas <= 5) {
            let gone = |host: &Host| match &loss.lost {
                Lost::Node(node) => host.name == *node,
                Lost::Rack(rack) => host.rack.as_ref() == Some(rack),
            };
            let lost: BTreeSet<&NodeId> = question.hosts.iter().filter(|host| gone(host)).map(|h| &h.name).collect();
            let movers: Vec<(String, Known)> = question.pieces.iter().filter(|piece| lost.contains(&piece.node))
                .filter_map(|piece| match &piece.role {
                    Role::Moves { launcher } => Some((launcher.clone(), piece.given)),
                    _ => None,
                }).collect();
            let others = |dark: Room| -> Vec<(BTreeSet<String>, Room)> {
                question.hosts.iter().zip(&free).filter(|(host, _)| !gone(host))
                    .map(|(host, free)| (host.launchers.clone(), free.unwrap_or(dark))).collect()
            };
            // What is not known is nothing of a yes, and all that one could wish of a no.
            let most = Room { cpu_millis: u64::MAX, memory_bytes: u64::MAX };
            let sizes = |unknown: u64| -> Vec<(String, Room)> {
                let room = |(cpu, memory): Known| Room {
                    cpu_millis: cpu.unwrap_or(unknown), memory_bytes: memory.unwrap_or(unknown),
                };
                movers.iter().map(|(launcher, given)| (launcher.clone(), room(*given))).collect()
            };
            match loss.verdict {
                Verdict::Yes => {
                    prop_assert!(movers.iter().all(|(_, given)| room(*given).is_some()));
                    prop_assert!(has_a_way(&others(Room::default()), &sizes(0)), "{:?}", loss);
                }
                Verdict::No => {
                    prop_assert!(!loss.short.is_empty());
                    prop_assert!(!has_a_way(&others(most), &sizes(0)), "{:?}", loss);
                }
                Verdict::Unknown => prop_assert!(!loss.doubts.is_empty()),
            }
        }
    }

    #[test]
    fn the_loss_of_an_empty_node_is_always_survived((question, empty) in any_fleet()) {
        let mut larger = question;
        larger.hosts.push(empty.clone());
        let answer = larger.answer();
        let loss = answer.losses.iter().find(|loss| loss.lost == Lost::Node(empty.name.clone())).unwrap();
        prop_assert_eq!((loss.verdict, loss.replicas), (Verdict::Yes, 0));
    }
}
