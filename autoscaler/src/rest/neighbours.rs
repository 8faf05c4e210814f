//! With whose CPU a workload's waits move: asks the loop who is where, history what they used, and the core what that says.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use autoscaler_core::fleet::TaskView;
use autoscaler_core::neighbours::{self, POINTS};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use model::id::{BootId, NodeId, WorkloadName};
use model::units::Millis;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::problem::Failure;
use super::workloads::{missing, named};
use crate::api::{API_VERSION, Neighbour, Neighbours, NeighboursOn, Problem};
use crate::history::{self, HistoryError, Series, SumQuery, Tier};
use crate::store::EndedTaskRow;

/// Nodes that are looked at.
const NODES: usize = 8;
/// Neighbours of one node that are compared: those that use most now, and those that ended lately.
const COMPARED: usize = 200;
/// Tasks of a node that ended and may be part of a neighbour.
const ENDED: usize = 1_000;
/// Neighbours that are told.
const TOLD: usize = 50;
/// Ranges, ms, each with the distance of its points; the longest ends at what is kept by default at that distance.
const TIERS: [(u64, Tier); 3] =
    [(3 * 3_600_000, Tier::S10), (24 * 3_600_000, Tier::M1), (7 * 86_400_000, Tier::M10)];
/// Shortest range, ms: 60 points.
const SHORTEST: u64 = 600_000;

/// Which range.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct NeighbourQuery {
    /// How far back: `1h` (default), or any other time from 10 minutes to 7 days.
    range: Option<String>,
}

/// Who uses CPU beside a workload's replicas, ranked by how its waits for a CPU move with theirs.
#[utoipa::path(get, path = "/api/v1/workloads/{name}/neighbours", tag = "workloads",
    params(("name" = String, Path, description = "The workload's name", example = "worker"), NeighbourQuery),
    responses((status = 200, body = Neighbours), (status = 400, body = Problem, content_type = "application/problem+json"), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn neighbours(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Result<Query<NeighbourQuery>, QueryRejection>,
) -> Result<Json<Neighbours>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let range = query.range.as_deref().unwrap_or("1h").parse::<Millis>();
    let range = range.map_err(|error| Failure::bad_request(format!("range: {error}")))?.0;
    let tier = TIERS.iter().find(|(longest, _)| (SHORTEST..=*longest).contains(&range));
    let (_, tier) = *tier.ok_or_else(|| Failure::bad_request("range must be from 10m to 7d"))?;
    let name = named(&name)?;
    if !app.control.workloads().await?.iter().any(|workload| workload.name == name) {
        return Err(missing(&name));
    }
    let now = app.control.now().0;
    let step = tier.seconds();
    let from = now.saturating_sub(range) / 1000 / step * step;
    let count = usize::try_from((now / 1000).saturating_sub(from) / step).unwrap_or(0);
    let window = Window { tier, from, count };
    let (places, left_out) = places(&app, &name).await?;
    let (handle, reader) = (app.history.clone(), app.reader.clone());
    let looked = tokio::task::spawn_blocking(move || {
        let with_ended = |mut place: Place| {
            let ended = reader.ended_tasks(Some(place.node.as_str()), None, None, ENDED);
            // Without them only those that still run are compared.
            place.ended(ended.map(|page| page.items).unwrap_or_default(), &name);
            place
        };
        let places: Vec<Place> = places.into_iter().map(with_ended).collect();
        look(&handle, &places, &window).map(|found| (found, name))
    });
    let ((nodes, compared, items), name) = looked.await.map_err(|error| Failure::internal(&error))??;
    Ok(Json(Neighbours {
        api_version: API_VERSION.to_owned(),
        workload: name.to_string(),
        from_ms: from * 1000,
        to_ms: (from + count as u64 * step) * 1000,
        step_ms: step * 1000,
        summary: Neighbours::summary(&nodes, compared, &items),
        nodes,
        left_out,
        compared,
        items,
    }))
}

/// Which points.
#[derive(Debug, Clone, Copy)]
struct Window {
    tier: Tier,
    /// Seconds of controller time.
    from: u64,
    count: usize,
}

/// A node with replicas, and who else is there.
#[derive(Debug)]
struct Place {
    node: NodeId,
    boot: BootId,
    /// Why waits are not known there, as the node says.
    unknown: Option<String>,
    /// Cgroups of the workload.
    own: BTreeSet<u64>,
    /// Name of each neighbour, and whether it is a workload.
    names: Vec<(String, bool)>,
    /// The neighbour of each other cgroup.
    of: BTreeMap<u64, usize>,
}

impl Place {
    fn ended(&mut self, tasks: Vec<EndedTaskRow>, workload: &WorkloadName) {
        let boot = self.boot.to_string();
        for task in tasks.into_iter().filter(|task| task.boot == boot) {
            if task.workload.as_deref() == Some(workload.as_str()) {
                self.own.insert(task.cgroup);
                continue;
            }
            let Some(key) = key(task.workload, task.name) else { continue };
            self.neighbour(task.cgroup, key);
        }
    }

    fn neighbour(&mut self, cgroup: u64, key: (String, bool)) {
        let known = self.names.iter().position(|name| *name == key);
        let room = self.names.len() < COMPARED;
        let Some(at) = known.or(room.then_some(self.names.len())) else { return };
        if known.is_none() {
            self.names.push(key);
        }
        self.of.insert(cgroup, at);
    }
}

/// What tasks are counted together: all of a workload, or all of one name.
fn key(workload: Option<String>, name: Option<String>) -> Option<(String, bool)> {
    workload.map(|workload| (workload, true)).or(name.map(|name| (name, false)))
}

/// The nodes where the workload runs, those with most tasks of it first, and how many were left out.
async fn places(app: &App, name: &WorkloadName) -> Result<(Vec<Place>, usize), Failure> {
    let tasks = app.control.tasks(None).await?;
    let is_own = |task: &TaskView| task.info.class.workload.as_ref() == Some(name);
    let mut own: BTreeMap<NodeId, BTreeSet<u64>> = BTreeMap::new();
    for task in tasks.iter().filter(|task| is_own(task)) {
        own.entry(task.node.clone()).or_default().insert(task.info.cgroup.0);
    }
    let mut nodes: Vec<(NodeId, BTreeSet<u64>)> = own.into_iter().collect();
    nodes.sort_by_key(|(_, own)| Reverse(own.len()));
    let left_out = nodes.len().saturating_sub(NODES);
    nodes.truncate(NODES);
    let views = app.control.nodes().await?;
    let mut places = Vec::new();
    for (node, own) in nodes {
        let Some(view) = views.iter().find(|view| view.node == node) else { continue };
        let unknown = crate::api::Node::from(view.clone()).run_delay_unknown;
        let (boot, names, of) = (view.boot, Vec::new(), BTreeMap::new());
        let mut place = Place { node, boot, unknown, own, names, of };
        let cores = |task: &TaskView| task.usage.and_then(|usage| usage.cpu_cores).unwrap_or(0.0);
        let mut others: Vec<&TaskView> =
            tasks.iter().filter(|task| task.node == place.node && !is_own(task)).collect();
        others.sort_by(|a, b| cores(b).total_cmp(&cores(a)));
        for task in others {
            let class = &task.info.class;
            let key = key(class.workload.clone().map(String::from), Some(class.name.clone()));
            key.into_iter().for_each(|key| place.neighbour(task.info.cgroup.0, key));
        }
        places.push(place);
    }
    Ok((places, left_out))
}

type Looked = (Vec<NeighboursOn>, usize, Vec<Neighbour>);

fn look(history: &history::Handle, places: &[Place], window: &Window) -> Result<Looked, HistoryError> {
    let compared = places.iter().map(|place| place.names.len()).sum();
    let (mut nodes, mut items) = (Vec::new(), Vec::new());
    for place in places {
        let sums = |groups: BTreeMap<u64, usize>, series| {
            let (node, boot, Window { tier, from, count }) = (place.node.clone(), place.boot, *window);
            history.sums(&SumQuery { node, boot, groups, series, tier, from, count })
        };
        let own: BTreeMap<u64, usize> = place.own.iter().map(|cgroup| (*cgroup, 0)).collect();
        let known = |sums: history::Sums| -> Vec<Option<f64>> {
            let values = sums.groups.into_iter().next().unwrap_or_default();
            values.iter().zip(&sums.known).map(|(value, known)| known.then_some(f64::from(*value))).collect()
        };
        let waits = known(sums(own.clone(), Series::RunDelay)?);
        let cpu = known(sums(own, Series::Cpu)?);
        let both: Vec<f64> = waits.iter().zip(&cpu).filter_map(|(wait, cpu)| cpu.and(*wait)).collect();
        let points = both.len();
        let short = || format!("{points} points are stored of {}, and it takes {POINTS}", place.node);
        nodes.push(NeighboursOn {
            node: place.node.to_string(),
            waited_per_second: (points > 0).then(|| both.iter().sum::<f64>() / points as f64),
            points,
            unknown: (points < POINTS).then(|| place.unknown.clone().unwrap_or_else(short)),
        });
        if points < POINTS {
            continue;
        }
        // Who is not there uses nothing.
        let others: Vec<Vec<Option<f64>>> = sums(place.of.clone(), Series::Cpu)?
            .groups
            .into_iter()
            .map(|values| values.into_iter().map(|value| Some(f64::from(value))).collect())
            .collect();
        for found in neighbours::rank(&waits, &cpu, &others, compared) {
            let Some((name, workload)) = place.names.get(found.at) else { continue };
            items.push(Neighbour::of(place.node.as_str(), name, *workload, &found));
        }
    }
    items.sort_by(|a, b| {
        let of = |one: &Neighbour| if one.stands_out { one.waited_per_second } else { 0.0 };
        let order = b.stands_out.cmp(&a.stands_out).then_with(|| of(b).total_cmp(&of(a)));
        order.then_with(|| b.explained.total_cmp(&a.explained))
    });
    items.truncate(TOLD);
    Ok((nodes, compared, items))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{task, written};

    const STEPS: u64 = 600;

    fn place(cgroups: &[(u64, &str)]) -> Place {
        let mut place = Place {
            node: NodeId::new("n1").unwrap(),
            boot: BootId(7),
            unknown: Some("no BTF".to_owned()),
            own: BTreeSet::from([1]),
            names: Vec::new(),
            of: BTreeMap::new(),
        };
        cgroups.iter().for_each(|(cgroup, name)| place.neighbour(*cgroup, ((*name).to_owned(), false)));
        place
    }

    /// Ten minutes: `noisy` has two tasks that work 20 s in 50, and the workload waits while they do; `steady` always works; `else` works at other times.
    fn stored(state: &std::path::Path, counts: bool) -> history::Handle {
        let mut totals = [0u64; 6];
        let batches = (1..=STEPS).map(|second| {
            let noisy = second % 50 < 20;
            totals[0] += 300_000 + 10_000 * (second % 3);
            totals[1] += if noisy { 900_000 } else { 10_000 };
            totals[2] += if noisy { 900_000 } else { 10_000 };
            totals[3] += 500_000;
            totals[4] += if second % 70 < 30 { 800_000 } else { 20_000 };
            totals[5] += if noisy { 200_000_000 } else { 5_000_000 + second % 7 * 1_000_000 };
            let tasks = (0..5u64).map(|at| {
                let delay = (at == 0 && counts).then_some(totals[5]);
                task(at + 1, totals[at as usize], delay)
            });
            (second, tasks.collect())
        });
        written(state, batches)
    }

    fn window() -> Window {
        Window { tier: Tier::S10, from: 0, count: STEPS as usize / 10 }
    }

    #[test]
    fn who_moves_with_the_waits_is_found_and_named() {
        let state = tempfile::tempdir().unwrap();
        let history = stored(state.path(), true);
        let place = place(&[(2, "noisy"), (3, "noisy"), (4, "steady"), (5, "else")]);
        let (nodes, compared, items) = look(&history, &[place], &window()).unwrap();
        assert_eq!((nodes[0].points, nodes[0].unknown.as_deref(), compared), (60, None, 3));
        assert!(nodes[0].waited_per_second.is_some_and(|waited| (0.05..0.15).contains(&waited)), "{nodes:?}");
        assert_eq!((items[0].name.as_str(), items[0].stands_out), ("noisy", true), "{items:?}");
        assert!((items[0].mean_cores - 0.732).abs() < 0.02 && items[0].explained > 0.9, "{items:?}");
        assert!(items[1..].iter().all(|item| !item.stands_out && item.name != "steady"), "{items:?}");
        let said = Neighbours::summary(&nodes, compared, &items);
        assert!(said.starts_with("on n1 its waits for a CPU move most with noisy"), "{said}");
        let none = Neighbours::summary(&nodes, compared, &items[1..]);
        assert!(none.starts_with("nothing stands out among 3 neighbours"), "{none}");
    }

    #[test]
    fn waits_that_are_not_counted_are_unknown_with_the_nodes_reason() {
        let state = tempfile::tempdir().unwrap();
        let history = stored(state.path(), false);
        let (nodes, _, items) = look(&history, &[place(&[(2, "noisy")])], &window()).unwrap();
        assert_eq!((nodes[0].points, nodes[0].waited_per_second, items.len()), (0, None, 0));
        assert_eq!(Neighbours::summary(&nodes, 1, &items), "nothing can be said: no BTF");
        assert_eq!(Neighbours::summary(&[], 0, &[]), "no task of it runs now");
        let counted = Place { unknown: None, ..place(&[]) };
        let early = Window { count: 3, ..window() };
        let (nodes, ..) = look(&stored(state.path(), true), &[counted], &early).unwrap();
        assert_eq!(nodes[0].unknown.as_deref(), Some("3 points are stored of n1, and it takes 30"));
    }

    #[test]
    fn tasks_that_ended_belong_to_their_workload_or_name_and_to_their_boot_only() {
        let ended = |cgroup: u64, boot: u128, workload: Option<&str>, name: Option<&str>| EndedTaskRow {
            node: "n1".into(),
            boot: BootId(boot).to_string(),
            cgroup,
            kind: None,
            name: name.map(str::to_owned),
            workload: workload.map(str::to_owned),
            task: None,
            ended_ms: 0,
            cpu_total_us: None,
            totals: serde_json::Value::Null,
            status: None,
            signal: None,
            asked: None,
        };
        let mut place = place(&[(2, "noisy")]);
        place.ended(
            vec![
                ended(11, 7, None, Some("noisy")),
                ended(12, 7, Some("web"), Some("web-1")),
                ended(13, 7, Some("batch"), Some("container")),
                ended(14, 8, None, Some("noisy")),
                ended(15, 7, None, None),
            ],
            &WorkloadName::new("web").unwrap(),
        );
        assert_eq!(place.own, BTreeSet::from([1, 12]));
        assert_eq!(place.names, [("noisy".to_owned(), false), ("batch".to_owned(), true)]);
        assert_eq!(place.of, BTreeMap::from([(2, 0), (11, 0), (13, 1)]));
    }
}
