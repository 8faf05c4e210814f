use std::collections::BTreeMap;

use model::id::CgroupId;
use model::metric::Metric;
use model::node::{Container, TaskClass, TaskInfo};
use model::sample::Values;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::pb;

fn info(cgroup: u64) -> TaskInfo {
    let class = TaskClass::new("service", format!("s{cgroup}.service"));
    TaskInfo { cgroup: CgroupId(cgroup), since_ns: 1, class }
}

fn header(seq: u64) -> Header {
    Header { seq, boot_ns: seq * 1_000_000_000, wall_offset_ns: -5 }
}

/// What an agent does to its tasks between two batches.
#[derive(Debug, Clone)]
enum Step {
    Appear(u8),
    End(u8),
    Count(u8, u8, u32),
    Gauge(u8, u8, u64),
    Lose(u8, u8),
    Snapshot,
    Send,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..12).prop_map(Step::Appear),
        (0u8..12).prop_map(Step::End),
        (0u8..12, 0u8..14, any::<u32>()).prop_map(|(a, b, c)| Step::Count(a, b, c)),
        (0u8..12, 14u8..17, any::<u64>()).prop_map(|(a, b, c)| Step::Gauge(a, b, c)),
        (0u8..12, 0u8..17).prop_map(|(a, b)| Step::Lose(a, b)),
        Just(Step::Snapshot),
        Just(Step::Send),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens between batches, the receiver ends with exactly the sender's totals.
    #[test]
    fn the_receiver_has_the_senders_totals(steps in prop::collection::vec(step(), 0..120)) {
        let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::new().unwrap());
        let mut tasks: BTreeMap<u32, (u64, Values)> = BTreeMap::new();
        let (mut appeared, mut gone): (Vec<(u32, TaskInfo)>, Vec<u32>) = (Vec::new(), Vec::new());
        let (mut seq, mut next_cgroup, mut snapshot) = (0, 100, false);
        let mut mirror: BTreeMap<u32, (u64, Values)> = BTreeMap::new();
        for step in steps.into_iter().chain([Step::Send]) {
            match step {
                Step::Appear(s) if !tasks.contains_key(&u32::from(s)) => {
                    next_cgroup += 1;
                    tasks.insert(s.into(), (next_cgroup, Values::default()));
                    appeared.push((s.into(), info(next_cgroup)));
                }
                Step::End(s) if tasks.contains_key(&u32::from(s)) && !gone.contains(&u32::from(s)) => gone.push(s.into()),
                Step::Count(s, m, n) => if let (Some((_, v)), Some(m)) = (tasks.get_mut(&s.into()), Metric::from_index(m)) {
                    v.set(m, v.get(m).unwrap_or(0) + u64::from(n));
                },
                Step::Gauge(s, m, n) => if let (Some((_, v)), Some(m)) = (tasks.get_mut(&s.into()), Metric::from_index(m)) {
                    v.set(m, n >> 2);
                },
                Step::Lose(s, m) => if let (Some((_, v)), Some(m)) = (tasks.get_mut(&s.into()), Metric::from_index(m)) {
                    // A counter is lost for good: when it comes back it is at least what it was.
                    if m.entry().kind == model::metric::Kind::Gauge { v.clear(m) }
                },
                Step::Snapshot => snapshot = true,
                Step::Send => {
                    seq += 1;
                    let rows: Vec<(u32, Values)> = tasks.iter().map(|(s, (_, v))| (*s, *v)).collect();
                    let rows: Vec<(u32, &Values)> = rows.iter().map(|(s, v)| (*s, v)).collect();
                    let whole = snapshot || seq == 1;
                    if whole {
                        appeared = tasks.iter().map(|(s, (c, _))| (*s, info(*c))).collect();
                        mirror.clear();
                    }
                    let input = Input { appeared: &appeared, tasks: &rows, gone: &gone, delays: &[] };
                    let batch = encoder.encode(header(seq), &input, snapshot).unwrap();
                    let batch = pb::SampleBatch::decode(&*batch.encode_to_vec()).unwrap();
                    let decoded = decoder.decode(&batch).unwrap();
                    for (slot, info) in &decoded.appeared { mirror.insert(*slot, (info.cgroup.0, Values::default())); }
                    for (slot, cgroup, values) in decoded.changed() { mirror.insert(slot, (cgroup.0, *values)); }
                    for g in &decoded.gone {
                        let (cgroup, values) = tasks.remove(&g.slot).unwrap();
                        prop_assert_eq!((g.cgroup.0, g.values), (cgroup, values));
                        mirror.remove(&g.slot);
                    }
                    prop_assert_eq!(decoded.live(), tasks.len());
                    prop_assert_eq!(&mirror, &tasks);
                    appeared.clear();
                    gone.clear();
                    snapshot = false;
                }
                _ => {}
            }
        }
        prop_assert_eq!(decoder.snapshot_differences(), 0);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(body in prop::collection::vec(any::<u8>(), 0..300), length in 0u32..400, backlog: bool) {
        let mut decoder = Decoder::new().unwrap();
        let batch = pb::SampleBatch { seq: 1, snapshot: true, backlog, body_bytes: length, body, ..Default::default() };
        let _ = decoder.decode(&batch);
    }

    #[test]
    fn no_body_makes_the_table_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut compressor = crate::compress::Compressor::new().unwrap();
        let (body_bytes, body) = (bytes.len() as u32, compressor.compress(&bytes).unwrap());
        let batch = pb::SampleBatch { seq: 1, snapshot: true, body_bytes, body, ..Default::default() };
        let _ = Decoder::new().unwrap().decode(&batch);
    }
}

fn send(body: &pb::BatchBody) -> Result<(), String> {
    let mut decoder = Decoder::new().unwrap();
    let bytes = body.encode_to_vec();
    let mut compressor = crate::compress::Compressor::new().unwrap();
    let (body_bytes, body) = (bytes.len() as u32, compressor.compress(&bytes).unwrap());
    let batch = pb::SampleBatch { seq: 1, snapshot: true, body_bytes, body, ..Default::default() };
    decoder.decode(&batch).map(|_| ()).map_err(|e| e.to_string())
}

#[test]
fn a_table_that_does_not_fit_is_refused_with_its_reason() {
    let task = |slot| pb::Task { slot, cgroup: 1, kind: "k".into(), name: "n".into(), ..Default::default() };
    let column = |slots: Vec<u32>, rises| pb::Column { metric: 0, slots, rises, ..Default::default() };
    let body = |appeared, columns| pb::BatchBody { appeared, columns, ..Default::default() };
    assert_eq!(send(&body(vec![task(3)], vec![column(vec![3], vec![9])])), Ok(()));
    for (body, why) in [
        (body(vec![], vec![column(vec![0], vec![1])]), "never named"),
        (body(vec![task(1), pb::Task { cgroup: 2, ..task(1) }], vec![]), "in use"),
        (body(vec![task(20_000)], vec![]), "over the limit"),
        (body(vec![task(0)], vec![column(vec![0, 0], vec![1, 1])]), "step 0"),
        (body(vec![task(0)], vec![column(vec![0], vec![])]), "as many values"),
        (body(vec![task(0)], vec![column(vec![0], vec![u64::MAX]), column(vec![0], vec![1])]), "over 2^64"),
        (pb::BatchBody { gone: vec![0], ..Default::default() }, "never named"),
    ] {
        let refused = send(&body).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn batches_must_come_in_order_and_begin_with_a_snapshot() {
    let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::new().unwrap());
    let first = encoder.encode(header(5), &Input::default(), false).unwrap();
    let second = encoder.encode(header(6), &Input::default(), false).unwrap();
    let mut late = Decoder::new().unwrap();
    assert!(late.decode(&second).err().unwrap().to_string().contains("snapshot"));
    decoder.decode(&first).unwrap();
    assert!(decoder.decode(&first).err().unwrap().to_string().contains("batch 5 after batch 5"));
    decoder.decode(&second).unwrap();
}

#[test]
fn a_task_that_turns_out_to_be_a_container_keeps_its_totals() {
    let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::new().unwrap());
    let mut values = Values::default();
    values.set(Metric::CpuTime, 70);
    let rows = [(0, &values)];
    let unnamed = Input { appeared: &[(0, info(1))], tasks: &rows, ..Input::default() };
    decoder.decode(&encoder.encode(header(1), &unnamed, false).unwrap()).unwrap();
    let container = Container {
        id: "ab".repeat(32),
        name: "web".into(),
        image: "shop:1".into(),
        labels: [("app".to_owned(), "shop".to_owned())].into(),
    };
    let mut named = info(1);
    named.class.container = Some(Box::new(container));
    let appeared = [(0, named)];
    let input = Input { appeared: &appeared, tasks: &rows, ..Input::default() };
    let batch = encoder.encode(header(2), &input, false).unwrap();
    {
        let decoded = decoder.decode(&batch).unwrap();
        assert_eq!((&decoded.appeared[..], decoded.changed().count()), (&appeared[..], 0));
    }
    values.set(Metric::CpuTime, 75);
    let rows = [(0, &values)];
    let batch = encoder.encode(header(3), &Input { tasks: &rows, ..Input::default() }, false).unwrap();
    let decoded = decoder.decode(&batch).unwrap();
    let totals: Vec<_> = decoded.changed().map(|(_, _, v)| v.get(Metric::CpuTime)).collect();
    assert_eq!(totals, [Some(75)]);
}

#[test]
fn a_batch_from_the_spool_leaves_the_stream_alone() {
    let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::new().unwrap());
    let mut values = Values::default();
    values.set(Metric::CpuTime, 70);
    let (appeared, rows) = ([(0, info(1))], [(0, &values)]);
    let input = Input { appeared: &appeared, tasks: &rows, ..Input::default() };
    let old = Encoder::encode_alone(header(1), &input).unwrap();
    decoder.decode(&encoder.encode(header(9), &input, false).unwrap()).unwrap();
    {
        let decoded = decoder.decode(&old).unwrap();
        assert!(decoded.backlog);
        assert_eq!(
            decoded.changed().map(|(_, c, v)| (c.0, v.get(Metric::CpuTime))).collect::<Vec<_>>(),
            [(1, Some(70))]
        );
    }
    let idle = Input { tasks: &rows, ..Input::default() };
    let batch = encoder.encode(header(10), &idle, false).unwrap();
    assert!(batch.encoded_len() < 50, "an idle task costs nothing: {}", batch.encoded_len());
    assert_eq!(decoder.decode(&batch).unwrap().changed().count(), 0);
}
