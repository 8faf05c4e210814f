//! Whether a loss is survived, and what has room, as rows.

use autoscaler::api::{Headroom, Survival};

use crate::output::{Rows, bytes, number};

/// First the two answers, then what is not survived or cannot be told, then what is free and what would fit.
pub(crate) fn rows(headroom: &Headroom) -> Rows {
    let mut rows = Rows::new(&[
        ("what", false, false),
        ("answer", false, false),
        ("why", false, false),
        ("members", true, true),
    ]);
    let mut add = |what: String, answer: String, why: String, members: String| {
        rows.push(vec![what, answer, why, members]);
    };
    let none = String::new;
    for (of, survival) in [("node", &headroom.node), ("rack", &headroom.rack)] {
        add(format!("survives the loss of any {of}"), survival.survives.clone(), why(survival), none());
    }
    for loss in &headroom.losses {
        add(
            format!("{} {}", loss.of, loss.name),
            loss.survives.clone(),
            loss.why.clone(),
            loss.members.to_string(),
        );
    }
    let on = match headroom.without.as_slice() {
        [] => format!("on {} nodes where something may be started", headroom.free_on),
        without => format!(
            "on {} nodes where something may be started; not known of {}",
            headroom.free_on,
            without.join(", ")
        ),
    };
    add("free CPU, cores".to_owned(), number(headroom.free.map(|free| free.cpu_cores)), on.clone(), none());
    add("free memory".to_owned(), bytes(headroom.free.map(|free| free.memory_bytes)), on, none());
    for more in &headroom.more {
        let (replicas, why) = match more.replicas {
            Some(replicas) => (replicas.to_string(), "that would fit, if nothing else took the room"),
            None => ("-".to_owned(), "its specification does not give both CPU and memory"),
        };
        add(format!("more replicas of {}", more.workload), replicas, why.to_owned(), none());
    }
    rows
}

fn why(survival: &Survival) -> String {
    let Survival { asked, survived, replicas, .. } = survival;
    let good = || match replicas {
        0 => "Trimtab has started no replica on any".to_owned(),
        _ => format!("{survived} of {asked} losses are survived"),
    };
    survival.why.clone().unwrap_or_else(good)
}
