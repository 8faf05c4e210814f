//! Which container a cgroup belongs to, and what its runtime says of it.
//!
//! **Problem.** The kernel knows a container by the runtime's number only, and its cgroup is there before the runtime lists it.
//! **Method.** The number is read from the path. A number that is not known yet waits, and while any waits its runtime is asked for
//! its list: one question for all, never two at once. A cgroup inside of a container is a part of it.
//! **Bounds.** Nobody asks while nothing waits. A runtime that does not answer, or does not know a number, is asked again after
//! [`RETRY_MS`], twice as long each time; a number that stays unknown is given up after [`TRIES`] answers.

use std::collections::BTreeMap;

use model::id::CgroupId;
use model::node::{Container, LABEL_LIMIT};
use serde::Deserialize;

use crate::classify::display;

/// First wait before a runtime is asked again, ms: a container is listed some 100 ms after its cgroup appears.
pub const RETRY_MS: u64 = 500;
/// Longest wait, ms.
pub const LONGEST_RETRY_MS: u64 = 60_000;
/// Answers without a number after which it is given up: with doubling waits half a minute.
pub const TRIES: u32 = 6;
/// Digits of a runtime's number.
const ID_DIGITS: usize = 64;

/// Who runs containers; each answers on a socket of its own: the first two Docker's `GET /containers/json`, containerd by gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Runtime {
    /// Docker.
    Docker,
    /// Podman, for containers of root.
    Podman,
    /// containerd, for what it does not run for Docker.
    Containerd,
}

impl Runtime {
    /// All.
    pub const ALL: [Self; 3] = [Self::Docker, Self::Podman, Self::Containerd];

    /// Its name in settings and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
        }
    }
}

/// Docker's namespace of containerd: its containers are named by Docker.
pub const MOBY: &str = "moby";
/// Namespaces of containerd whose containers have cgroups of their name at the top, where nobody says otherwise (`ctr`).
const NAMESPACES: [&str; 2] = ["default", "k8s.io"];
/// Longest id of a container of containerd (`identifiers.maxLength`).
const ID_LIMIT: usize = 76;

/// The container of the cgroup at `path` (below the root, without a leading slash): who runs it, its number, and where in it the cgroup
/// is, empty for its top. What has no number at containerd has `NAMESPACE/ID`.
#[must_use]
pub fn of_path(path: &str) -> Option<(Runtime, &str, &str)> {
    let mut parent = "";
    let mut end = 0;
    for name in path.split('/') {
        let start = end;
        end += name.len();
        let scope = |prefix: &str| name.strip_prefix(prefix)?.strip_suffix(".scope");
        let found = scope("docker-")
            .or((parent == "docker").then_some(name))
            .map(|id| (Runtime::Docker, id))
            .or_else(|| {
                let name = name.strip_prefix("libpod-")?;
                Some((Runtime::Podman, name.strip_suffix(".scope").unwrap_or(name)))
            })
            .or_else(|| {
                let in_pod = path.starts_with("kubepods") && start > 0;
                let id = scope("cri-containerd-").or(scope("nerdctl-")).or(in_pod.then_some(name))?;
                Some((Runtime::Containerd, id))
            })
            .filter(|(_, id)| is_id(id))
            .or_else(|| {
                let top = NAMESPACES.contains(&parent) && start == parent.len() + 1 && is_name(name);
                top.then(|| (Runtime::Containerd, &path[..end]))
            });
        if let Some((runtime, id)) = found {
            return Some((runtime, id, path[end..].trim_start_matches('/')));
        }
        parent = name;
        end += 1;
    }
    None
}

/// Whether it may be an id of containerd: letters, digits, `-`, `_` and `.`, not at its start.
fn is_name(text: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    text.len() <= ID_LIMIT
        && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && text.bytes().all(known)
}

fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    image: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

/// Reads a runtime's answer. Texts are made safe for display; beyond [`LABEL_LIMIT`] labels the last ones are left out.
///
/// # Errors
/// The JSON reader's words when it is no list of containers.
pub fn listed(body: &[u8]) -> Result<Vec<Container>, String> {
    let list: Vec<Listed> = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let container = |listed: Listed| {
        let names = listed.names.unwrap_or_default();
        // Docker lists a name per network link, too: the container's own has one slash, at its start.
        let own = names.iter().map(|n| n.strip_prefix('/').unwrap_or(n)).find(|n| !n.contains('/'));
        let labels = listed.labels.unwrap_or_default().into_iter().take(LABEL_LIMIT);
        Container {
            name: display(own.unwrap_or(&listed.id)),
            image: display(&listed.image),
            labels: labels.map(|(key, value)| (display(&key), display(&value))).collect(),
            id: listed.id,
        }
    };
    Ok(list.into_iter().filter(|listed| is_id(&listed.id)).map(container).collect())
}

/// A container as containerd describes it in a namespace; `None` for an id that is none. It keeps no names: Kubernetes and nerdctl write them
/// into labels.
#[must_use]
pub fn of_containerd(
    namespace: &str,
    id: &str,
    image: &str,
    labels: impl IntoIterator<Item = (String, String)>,
) -> Option<Container> {
    if !is_name(id) {
        return None;
    }
    let all: BTreeMap<String, String> = labels.into_iter().collect();
    let label = |key: &str| all.get(key).map(String::as_str);
    let name =
        match (label("io.kubernetes.pod.name"), label("io.kubernetes.container.name"), label("nerdctl/name"))
        {
            (Some(pod), Some(container), _) => format!("{pod}/{container}"),
            (Some(name), None, _) | (None, _, Some(name)) => name.to_owned(),
            (None, _, None) => id.to_owned(),
        };
    let labels = all.iter().take(LABEL_LIMIT).map(|(key, value)| (display(key), display(value))).collect();
    let id = if is_id(id) { id.to_owned() } else { display(&format!("{namespace}/{id}")) };
    Some(Container { id, name: display(&name), image: display(image), labels })
}

/// The containers of a node.
#[derive(Debug, Default)]
pub struct Containers {
    known: BTreeMap<String, Container>,
    cgroups: BTreeMap<CgroupId, Place>,
    asks: BTreeMap<Runtime, Ask>,
}

#[derive(Debug)]
struct Place {
    runtime: Runtime,
    id: String,
    path: String,
    /// Answers that did not name it; `None` once it is named.
    tries: Option<u32>,
}

#[derive(Debug, Default)]
struct Ask {
    under_way: bool,
    /// Questions since something new was learned.
    asked: u32,
    due_ms: u64,
    /// Cgroups that wait for its answer.
    waiting: usize,
}

impl Place {
    fn waits(&self) -> bool {
        self.tries.is_some_and(|tries| tries < TRIES)
    }
}

impl Containers {
    /// A cgroup appeared. Returns its container when that is known already.
    pub fn appeared(&mut self, cgroup: CgroupId, path: &str, now_ms: u64) -> Option<&Container> {
        let (runtime, id, _) = of_path(path)?;
        let known = self.known.get(id);
        let tries = known.is_none().then_some(0);
        let place = Place { runtime, id: id.to_owned(), path: path.to_owned(), tries };
        if let Some(before) = self.cgroups.insert(cgroup, place) {
            waits_no_more(&mut self.asks, &before);
        }
        if known.is_none() {
            let ask = self.asks.entry(runtime).or_default();
            ask.waiting += 1;
            // A runtime that did not answer before is not asked more often because more waits.
            if ask.asked == 0 || ask.due_ms <= now_ms {
                *ask = Ask { due_ms: now_ms, asked: 0, ..*ask };
            }
        }
        known
    }

    /// A cgroup is gone.
    pub fn gone(&mut self, cgroup: CgroupId) {
        let Some(place) = self.cgroups.remove(&cgroup) else { return };
        waits_no_more(&mut self.asks, &place);
        if !self.cgroups.values().any(|other| other.id == place.id) {
            self.known.remove(&place.id);
        }
    }

    /// Cgroups of containers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cgroups.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cgroups.is_empty()
    }

    /// When a runtime is to be asked, ms; `None` while nobody waits for an answer that is not under way.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        let open = self.asks.values().filter(|ask| !ask.under_way && ask.waiting > 0);
        open.map(|ask| ask.due_ms).min()
    }

    /// Whom to ask now; the question counts as under way.
    pub fn ask(&mut self, now_ms: u64) -> Option<Runtime> {
        let due = |(_, ask): &(&Runtime, &Ask)| !ask.under_way && ask.due_ms <= now_ms && ask.waiting > 0;
        let runtime = *self.asks.iter().find(due)?.0;
        if let Some(ask) = self.asks.get_mut(&runtime) {
            ask.under_way = true;
        }
        Some(runtime)
    }

    /// A runtime answered; `None` = it did not. Returns the cgroups whose container is known now, with their paths.
    pub fn answered(
        &mut self,
        runtime: Runtime,
        list: Option<Vec<Container>>,
        now_ms: u64,
    ) -> Vec<(CgroupId, String)> {
        let is_answer = list.is_some();
        let (mut named, mut over) = (Vec::new(), 0);
        let mut list: BTreeMap<String, Container> =
            list.unwrap_or_default().into_iter().map(|c| (c.id.clone(), c)).collect();
        for (cgroup, place) in self.cgroups.iter_mut().filter(|(_, p)| p.runtime == runtime) {
            let Some(tries) = place.tries else { continue };
            let waited = place.waits();
            if let Some(container) = list.remove(&place.id) {
                self.known.insert(place.id.clone(), container);
            }
            if self.known.contains_key(&place.id) {
                place.tries = None;
                named.push((*cgroup, place.path.clone()));
            } else {
                place.tries = Some(tries + u32::from(is_answer));
            }
            if waited && !place.waits() {
                over += 1;
            }
        }
        if let Some(ask) = self.asks.get_mut(&runtime) {
            ask.under_way = false;
            ask.waiting = ask.waiting.saturating_sub(over);
            ask.asked = if named.is_empty() { ask.asked + 1 } else { 1 };
            let wait = RETRY_MS.saturating_mul(1 << (ask.asked - 1).min(16)).min(LONGEST_RETRY_MS);
            ask.due_ms = now_ms + wait;
        }
        named
    }

    /// What is known of a number.
    #[must_use]
    pub fn get(&self, cgroup: CgroupId) -> Option<&Container> {
        self.known.get(&self.cgroups.get(&cgroup)?.id)
    }
}

/// A cgroup that waited, if it did, does so no more.
fn waits_no_more(asks: &mut BTreeMap<Runtime, Ask>, place: &Place) {
    if let Some(ask) = asks.get_mut(&place.runtime).filter(|_| place.waits()) {
        ask.waiting = ask.waiting.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests;
