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

/// Who runs containers; each answers Docker's `GET /containers/json` on a socket of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Runtime {
    /// Docker.
    Docker,
    /// Podman, for containers of root.
    Podman,
}

impl Runtime {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Docker, Self::Podman];

    /// Its name in settings and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

/// The container of the cgroup at `path` (below the root, without a leading slash): who runs it, its number, and where in it the cgroup
/// is, empty for its top.
#[must_use]
pub fn of_path(path: &str) -> Option<(Runtime, &str, &str)> {
    let mut parent = "";
    let mut end = 0;
    for name in path.split('/') {
        end += name.len();
        let found = name
            .strip_prefix("docker-")
            .and_then(|n| n.strip_suffix(".scope"))
            .or((parent == "docker").then_some(name))
            .map(|id| (Runtime::Docker, id))
            .or_else(|| {
                let name = name.strip_prefix("libpod-")?;
                Some((Runtime::Podman, name.strip_suffix(".scope").unwrap_or(name)))
            })
            .filter(|(_, id)| is_id(id));
        if let Some((runtime, id)) = found {
            return Some((runtime, id, path[end..].trim_start_matches('/')));
        }
        parent = name;
        end += 1;
    }
    None
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
}

impl Containers {
    /// A cgroup appeared. Returns its container when that is known already.
    pub fn appeared(&mut self, cgroup: CgroupId, path: &str, now_ms: u64) -> Option<&Container> {
        let (runtime, id, _) = of_path(path)?;
        let known = self.known.get(id);
        let tries = known.is_none().then_some(0);
        self.cgroups.insert(cgroup, Place { runtime, id: id.to_owned(), path: path.to_owned(), tries });
        if known.is_none() {
            let ask = self.asks.entry(runtime).or_default();
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

    fn waits(&self, runtime: Runtime) -> bool {
        self.cgroups.values().any(|p| p.runtime == runtime && p.tries.is_some_and(|tries| tries < TRIES))
    }

    /// When a runtime is to be asked, ms; `None` while nobody waits for an answer that is not under way.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        let open = self.asks.iter().filter(|(runtime, ask)| !ask.under_way && self.waits(**runtime));
        open.map(|(_, ask)| ask.due_ms).min()
    }

    /// Whom to ask now; the question counts as under way.
    pub fn ask(&mut self, now_ms: u64) -> Option<Runtime> {
        let due = |(runtime, ask): &(&Runtime, &Ask)| {
            !ask.under_way && ask.due_ms <= now_ms && self.waits(**runtime)
        };
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
        let mut named = Vec::new();
        let mut list: BTreeMap<String, Container> =
            list.unwrap_or_default().into_iter().map(|c| (c.id.clone(), c)).collect();
        for (cgroup, place) in self.cgroups.iter_mut().filter(|(_, p)| p.runtime == runtime) {
            let Some(tries) = place.tries else { continue };
            if let Some(container) = list.remove(&place.id) {
                self.known.insert(place.id.clone(), container);
            }
            if self.known.contains_key(&place.id) {
                place.tries = None;
                named.push((*cgroup, place.path.clone()));
            } else {
                place.tries = Some(tries + u32::from(is_answer));
            }
        }
        if let Some(ask) = self.asks.get_mut(&runtime) {
            ask.under_way = false;
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

#[cfg(test)]
mod tests;
