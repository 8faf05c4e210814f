//! From the body of a batch into the fleet, by the autoscaler's own entry.

use autoscaler::ingest::Stream;
use autoscaler_core::event::Time;
use autoscaler_core::fleet::{ENDED_LIMIT, Fleet};
use model::id::{AgentEpoch, BootId, NodeId};
use model::node::{Incarnation, Inventory, Tier};
use prost::Message;
use wire::pb;

fn body(appear: bool, gone: bool) -> Vec<u8> {
    let task = |slot: u32| pb::Task {
        slot,
        cgroup: 100 + u64::from(slot),
        since_ns: 5,
        kind: "task".into(),
        name: format!("web-{slot}"),
        ..Default::default()
    };
    let body = pb::BatchBody {
        appeared: if appear { (0..3).map(task).collect() } else { vec![] },
        gone: if gone { vec![1] } else { vec![] },
        columns: vec![pb::Column {
            metric: 0,
            slots: vec![0, 1, 1],
            rises: vec![7, 0, 99],
            ..Default::default()
        }],
        delays: vec![pb::DelayHistogram { slot: 0, buckets: vec![0, 5], counts: vec![1, 2] }],
    };
    body.encode_to_vec()
}

/// A snapshot, a batch, and one with which a task ends.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    vec![body(true, false), body(false, false), body(false, true)]
}

pub(super) fn batch(seq: u64, body: &[u8]) -> pb::SampleBatch {
    pb::SampleBatch {
        seq,
        boot_ns: seq.wrapping_mul(1_000_000_000),
        snapshot: seq == 1,
        backlog: seq == 9,
        body_bytes: u32::try_from(body.len()).unwrap(),
        body: zstd::bulk::compress(body, 1).unwrap(),
        ..Default::default()
    }
}

fn fleet(node: &NodeId) -> Fleet {
    let mut fleet = Fleet::new();
    let inventory = Inventory { acts: true, ..Inventory::new(2, 1 << 30, Tier::A) };
    let incarnation = Incarnation { boot: BootId(1), agent: AgentEpoch(1) };
    fleet.node_up(node.clone(), incarnation, inventory, Time(0));
    fleet
}

/// A whole stream in each input: a good snapshot, then the input as a body; in the stream, alone, and again.
pub fn batches(bytes: &[u8]) -> bool {
    let node = NodeId::new("a").unwrap();
    let mut fleet = fleet(&node);
    let mut stream = Stream::new(node).unwrap();
    let mut taken = 0;
    for message in [batch(1, &body(true, false)), batch(2, bytes), batch(9, bytes), batch(3, bytes)] {
        match stream.take(&message, &mut fleet, Time(message.seq * 1000)) {
            Ok(_) => taken += 1,
            Err(error) => {
                assert!(error.to_string().len() < 1000, "{error}");
                break;
            }
        }
    }
    assert!(taken > 0, "the first batch is good");
    let tasks = fleet.tasks(None, Time(5_000));
    let node = &fleet.nodes(Time(5_000))[0];
    assert_eq!(node.tasks as usize, tasks.len());
    assert!(node.cpu_cores.is_none_or(|cores| cores.is_finite() && cores >= 0.0), "{:?}", node.cpu_cores);
    assert!(fleet.take_ended().len() <= ENDED_LIMIT);
    taken > 1
}
