//! The sections of clusters that keep their own list of members, field by field, and what they must satisfy.

use std::collections::BTreeMap;

use super::check;
use super::fault::Faults;
use super::section::{Read, Section};
use super::tree::Node;
use crate::units::{Bytes, Millis};
use crate::workload::{Advertise, ClusterSpec, Offer, Slots};

/// Longest drain: a week is no drain any more.
const MOST_DRAIN: Millis = Millis(7 * 86_400_000);
/// Most slots of one node.
const MOST_SLOTS: u32 = 1_000;
/// Least memory that a NodeManager can advertise: YARN's own smallest container is 1 GiB, and may be set to less.
const LEAST_OFFER: Bytes = Bytes(64 << 20);

impl Read for ClusterSpec {
    fn read(node: &Node, path: &str, faults: &mut Faults<'_>) -> Option<Self> {
        const FIELDS: &[&str] =
            &["cluster", "launcher", "parameters", "member", "slots", "drain", "advertise"];
        let s = Section::open(node, path, FIELDS, faults)?;
        let cluster = s.required("cluster", "cluster: batch", faults);
        let read = Self {
            launcher: s.optional("launcher", faults),
            parameters: s.or("parameters", BTreeMap::new(), faults),
            member: s.or("member", "{node}".to_owned(), faults),
            slots: s.optional("slots", faults),
            drain: s.optional("drain", faults),
            advertise: s.optional("advertise", faults),
            cluster: cluster?,
        };
        section(&read, &s, faults);
        Some(read)
    }
}

impl Read for Slots {
    fn read(node: &Node, path: &str, faults: &mut Faults<'_>) -> Option<Self> {
        let s = Section::open(node, path, &["from", "span"], faults)?;
        let (from, span) = (s.required("from", "from: 1", faults), s.required("span", "span: 9", faults));
        let read = Self { from: from?, span: span? };
        if read.span == 0 || read.span > MOST_SLOTS || read.from.checked_add(read.span).is_none() {
            let message = format!("{} slots: 1 to {MOST_SLOTS} are possible", read.span);
            s.fault("span", message, "write `slots: { from: 1, span: 9 }`", faults);
        }
        Some(read)
    }
}

impl Read for Advertise {
    fn read(node: &Node, path: &str, faults: &mut Faults<'_>) -> Option<Self> {
        let s = Section::open(node, path, &["least", "most", "vcoresPerCore"], faults)?;
        let least: Option<Offer> = s.required("least", "least: { memory: 1Gi, vcores: 1 }", faults);
        let most: Option<Offer> = s.required("most", "most: { memory: 16Gi, vcores: 8 }", faults);
        let vcores_per_core = s.or("vcoresPerCore", 1, faults);
        let read = Self { least: least?, most: most?, vcores_per_core };
        if read.least.memory > read.most.memory || read.least.vcores > read.most.vcores {
            s.fault("least", "`least` is more than `most`".to_owned(), "exchange them", faults);
        }
        if !(1..=64).contains(&vcores_per_core) {
            let message = format!("{vcores_per_core} virtual cores for a core");
            s.fault("vcoresPerCore", message, "from 1 to 64", faults);
        }
        Some(read)
    }
}

impl Read for Offer {
    fn read(node: &Node, path: &str, faults: &mut Faults<'_>) -> Option<Self> {
        let s = Section::open(node, path, &["memory", "vcores"], faults)?;
        let memory: Option<Bytes> = s.required("memory", "memory: 4Gi", faults);
        let vcores: Option<u32> = s.required("vcores", "vcores: 4", faults);
        let read = Self { memory: memory?, vcores: vcores? };
        if read.memory < LEAST_OFFER {
            let message = format!("{} is not enough for one container", read.memory);
            s.fault("memory", message, "at least 64Mi; `4Gi` has its unit behind the number", faults);
        }
        if read.vcores == 0 {
            s.fault(
                "vcores",
                "without a virtual core no container runs".to_owned(),
                "write 1 or more",
                faults,
            );
        }
        Some(read)
    }
}

fn section(read: &ClusterSpec, s: &Section<'_>, faults: &mut Faults<'_>) {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if read.cluster.is_empty() || read.cluster.len() > 63 || !read.cluster.chars().all(good) {
        let message = "this is not a name of a cluster".to_owned();
        s.fault("cluster", message, "the name that the agent's configuration gives it", faults);
    }
    check::parameters(&read.parameters, s, faults);
    if read.parameters.contains_key("slot") {
        let message = "`slot` is set for each member by itself".to_owned();
        s.fault("parameters", message, "leave it out, and set `slots`", faults);
    }
    let bare = read.member.replace("{node}", "").replace("{slot}", "");
    if bare.len() > 200 || !bare.chars().all(|c| good(c) || c == ':') {
        let message =
            "a member's name is a host name or an address, with `{node}` and `{slot}` in it".to_owned();
        s.fault("member", message, "for example `{node}`, `{node}:9866`, `10.0.0.{slot}`", faults);
    }
    let (by_node, by_slot) = (read.member.contains("{node}"), read.member.contains("{slot}"));
    if !by_node && !by_slot {
        let message = "all members would have one name".to_owned();
        s.fault("member", message, "put `{node}` or `{slot}` in it", faults);
    }
    if by_slot != read.slots.is_some() {
        let message = "`{slot}` in `member` and `slots` go together".to_owned();
        s.fault("member", message, "write `slots: { from: 1, span: 9 }`, or leave `{slot}` out", faults);
    }
    if let Some(drain) = read.drain {
        let good = Millis(10_000)..=MOST_DRAIN;
        check::within("drain", drain, &good, "for example 1h", s, faults);
    }
}
