//! What waits for time. Nothing is asked after in turns: the loop sleeps until the earliest of these is due, and without
//! any of them it wakes for rounds and messages only.
//!
//! | what | when |
//! |---|---|
//! | a task's next step | as its state says ([`agent_core::lifecycle::State::due_ms`]) |
//! | the isolation loop | when nothing was read for too long, while best-effort work is limited |
//! | dialing | when the session's wait is over |
//! | the next spooled round | as [`agent_core::backlog`] says, while there is credit |
//! | a container runtime's list | while a container has no name ([`agent_core::container`]) |
//! | the next certificate | as [`model::certificate::Renewal`] says, with an autoscaler on another machine |
//! | balancers and application servers | each second, where there are some |
//! | clusters | every five seconds, where there are some |
//! | a job of theirs | when it has taken too long |

use std::time::Duration;

use super::{Done, Node};
use crate::{clock, uplink};

/// Time between two reads of balancers and application servers, ms.
const ADAPT_MS: u64 = 1_000;
/// Time between two reads of clusters, ms: their machines change within minutes, and a ResourceManager's list of thousands of nodes is
/// work for it.
const CLUSTERS_MS: u64 = 5_000;

/// Sleeps until `due_ms` on the boot clock; forever when nothing is due.
pub(super) async fn sleep(due_ms: Option<u64>) {
    match due_ms {
        Some(due_ms) => {
            let left_ms = due_ms.saturating_sub(clock::boot_ms());
            tokio::time::sleep(Duration::from_millis(left_ms)).await;
        }
        None => std::future::pending().await,
    }
}

impl Node {
    /// When [`Self::on_time`] has something to do, boot ms.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let dial = self.settings.autoscaler.as_ref().and_then(|_| self.session.retry_at_ms());
        let backlog = self.backlog_due_ms();
        let adapt = self.may_adapt().then_some(self.adapt_at_ms);
        let (certificate, containers) = (self.certificate.due_ms(), self.containers.due_ms());
        let (executor, isolation) = (self.executor.due_ms(), self.isolation.due_ms());
        let clusters = self.may_read_clusters().then_some(self.clusters_at_ms);
        let all = [executor, isolation, dial, backlog, adapt, certificate, containers, clusters];
        all.into_iter().chain([self.clusters.due_ms()]).flatten().min()
    }

    /// Does everything that is due.
    pub(super) fn on_time(&mut self) {
        let now_ms = clock::boot_ms();
        if self.executor.due_ms().is_some_and(|due| due <= now_ms) {
            let events = self.executor.tick();
            self.tell_all(events);
        }
        self.isolation_on_time(now_ms);
        if self.backlog_due_ms().is_some_and(|due| due <= now_ms) {
            self.send_backlog(now_ms);
        }
        if self.may_adapt() && self.adapt_at_ms <= now_ms {
            self.adapt_at_ms = now_ms + ADAPT_MS;
            self.adapt();
        }
        if self.may_read_clusters() && self.clusters_at_ms <= now_ms {
            self.clusters_at_ms = now_ms + CLUSTERS_MS;
            self.read_clusters();
        }
        self.end_late_jobs(now_ms);
        self.ask_runtimes(now_ms);
        if self.certificate.due_ms().is_some_and(|due| due <= now_ms) {
            self.renew();
        }
        let Some(address) = self.settings.autoscaler.clone() else { return };
        if self.session.dial(now_ms) {
            self.look_at_certificate();
            self.streams += 1;
            let hello = wire::convert::hello_to_pb(self.hello());
            let stream =
                uplink::dial(address, self.settings.state.clone(), self.streams, hello, self.heard.clone());
            self.dialed = Some((self.streams, stream));
        }
    }

    fn may_read_clusters(&self) -> bool {
        self.up.is_some() && !self.clusters.is_empty()
    }

    fn may_adapt(&self) -> bool {
        let has_puma = || self.executor.running().any(|(file, _, _)| file.puma.is_some());
        self.up.is_some() && (!self.haproxies.is_empty() || has_puma())
    }

    /// Reads balancers and application servers in the background.
    fn adapt(&self) {
        let files: Vec<_> =
            self.executor.running().map(|(file, _, _)| file.clone()).filter(|f| f.puma.is_some()).collect();
        let (haproxies, done) = (self.haproxies.clone(), self.done.clone());
        tokio::spawn(async move {
            let mut reports = Vec::new();
            for haproxy in &haproxies {
                reports.extend(haproxy.read().await);
            }
            let pumas: Vec<_> = files
                .into_iter()
                .map(|f| tokio::spawn(async move { crate::adapter::puma::read(&f).await }))
                .collect();
            for puma in pumas {
                reports.extend(puma.await.ok().flatten());
            }
            let _ = done.send(Done::Reports(reports)).await;
        });
    }
}
