//! Containers get the names that their runtimes give: asked in the background, and told on the stream as what the task is now.

use agent_core::container::Runtime;
use model::node::Container;

use super::{Done, Node};
use crate::adapter::{container, containerd};
use crate::clock;

impl Node {
    /// Asks every runtime whose turn it is.
    pub(super) fn ask_runtimes(&mut self, now_ms: u64) {
        while let Some(runtime) = self.containers.ask(now_ms) {
            let socket = match runtime {
                Runtime::Docker => &self.settings.docker,
                Runtime::Podman => &self.settings.podman,
                Runtime::Containerd => &self.settings.containerd,
            };
            let (socket, done) = (socket.clone(), self.done.clone());
            tokio::spawn(async move {
                let list = match runtime {
                    Runtime::Docker | Runtime::Podman => container::list(&socket).await,
                    Runtime::Containerd => containerd::list(&socket).await,
                };
                let _ = done.send(Done::Containers(runtime, list)).await;
            });
        }
    }

    /// A runtime answered: its containers are classified again, and named anew on the stream.
    pub(super) fn runtime_answered(&mut self, runtime: Runtime, list: Result<Vec<Container>, String>) {
        if let Err(why) = &list
            && self.runtime_faults.insert(runtime, why.clone()).as_ref() != Some(why)
        {
            tracing::warn!(
                runtime = runtime.name(),
                %why,
                "names of containers cannot be had: they are shown by number (may this agent open the socket?)"
            );
        } else if list.is_ok() && self.runtime_faults.remove(&runtime).is_some() {
            tracing::info!(runtime = runtime.name(), "names of containers can be had");
        }
        for (cgroup, path) in self.containers.answered(runtime, list.ok(), clock::boot_ms()) {
            let (rules, processes) = (&self.rules, &self.processes);
            let class = rules.classify(&path, self.containers.get(cgroup), || processes.first(&path));
            self.name_again(cgroup, class);
        }
    }
}
