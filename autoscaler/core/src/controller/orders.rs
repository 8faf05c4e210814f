//! Which steps are sent now, and to whom.

use model::action::{Command, Verb};
use model::id::NodeId;
use model::workload::Mode;

use super::{Context, Controller};
use crate::place::Link;
use crate::replica::{State, Step};
use crate::rollout::{ANSWER_MS, Fence, Issue, Replica, START_MS, command};
use crate::{rails, service};

impl Controller {
    /// Commands for the steps that are due. A paused workload finishes what is half done (a started replica comes up, a
    /// stopped one goes), since half a change is worse than either end of it; in any other mode than auto nothing is sent.
    pub(crate) fn orders(&mut self, fence: &mut Fence, context: &Context<'_>) -> Vec<(NodeId, Command)> {
        let mut commands = Vec::new();
        if !self.in_force || self.workload.spec.mode != Mode::Auto {
            return commands;
        }
        let due: Vec<_> =
            self.replicas.values().filter_map(|r| Some((r.task.clone(), r.due(context.now)?))).collect();
        for (task, step) in due {
            let Some(issue) = self.replicas.get(&task).and_then(|r| self.issue(r, step, context)) else {
                continue;
            };
            let Some(replica) = self.replicas.get_mut(&task) else { continue };
            let generation = &mut self.generation;
            commands.push(command(fence, generation, &self.workload.name, replica, issue, context.now));
        }
        commands.extend(self.resizes(fence, context));
        commands.extend(self.classes(fence, context));
        commands
    }

    /// Replicas whose class is known to be another than the specification's are told.
    fn classes(&mut self, fence: &mut Fence, context: &Context<'_>) -> Vec<(NodeId, Command)> {
        let class = self.workload.spec.class();
        let mut commands = Vec::new();
        for replica in self.replicas.values_mut() {
            let there = context.nodes.get(&replica.node).is_some_and(|node| node.link == Link::Up);
            if there && replica.class_due(class, context.now) {
                let issue =
                    Issue { to: replica.node.clone(), verb: Verb::Classify { class }, within_ms: ANSWER_MS };
                let generation = &mut self.generation;
                commands.push(command(fence, generation, &self.workload.name, replica, issue, context.now));
            }
        }
        commands
    }

    fn issue(&self, replica: &Replica, step: Step, context: &Context<'_>) -> Option<Issue> {
        let spec = &self.workload.spec;
        let (to, verb, within_ms) = match step {
            Step::Start => (replica.node.clone(), self.start(replica)?, START_MS),
            Step::Stop => {
                let grace = spec.behavior.stop_grace.0;
                let grace_ms = u32::try_from(grace).unwrap_or(u32::MAX);
                (replica.node.clone(), Verb::Stop { grace_ms }, grace + ANSWER_MS)
            }
            Step::Add | Step::Ready | Step::Drain | Step::Maintenance | Step::Remove => {
                let at = self.balancer()?.node.clone();
                let mut replica = replica.clone();
                if replica.host.is_none() && replica.node == at {
                    // The same host: the one address that is right without asking.
                    replica.host = Some("127.0.0.1".to_owned());
                }
                (at, rails::balancer(spec.rails.as_ref()?, step, &replica)?, ANSWER_MS)
            }
        };
        let there = context.nodes.get(&to).is_some_and(|node| match step {
            // Its owner may have changed what it allows since it was chosen.
            Step::Start => node.can_start(self.launcher()),
            _ => node.link == Link::Up,
        });
        there.then_some(Issue { to, verb, within_ms })
    }

    fn start(&self, replica: &Replica) -> Option<Verb> {
        let spec = &self.workload.spec;
        let size = self.size_in_force();
        let startup = spec.size.startup_cpu.map(|cpu| cpu.0);
        match (&spec.rails, &spec.service) {
            (Some(rails), _) => Some(rails::start(rails, size, startup, spec.class(), replica)),
            (None, Some(service)) => Some(service::start(service, size, startup, spec.class(), replica)),
            (None, None) => None,
        }
    }

    /// The ports of a number: fixed, so that a replica that is found again is known again.
    pub(super) fn ports(&self, number: u32) -> (Option<u16>, Option<u16>) {
        let spec = &self.workload.spec;
        let rails = spec.rails.as_ref().map(|rails| rails.ports);
        let Some(range) = rails.or(spec.service.as_ref().and_then(|service| service.ports)) else {
            return (None, None);
        };
        let at = u16::try_from(number % u32::from(range.span.max(1))).unwrap_or(0);
        let port = range.from.checked_add(at);
        let control = port.and_then(|port| port.checked_add(range.span));
        (port, control.filter(|_| rails.is_some()))
    }

    /// A port that no process of this workload may still have.
    pub(super) fn port_free(&self, number: u32) -> bool {
        let port = self.ports(number).0;
        port.is_none()
            || !self.replicas.values().any(|r| {
                // One on a silent node keeps its port there; its replacement is elsewhere.
                r.port == port && !matches!(r.state, State::Away { .. } | State::Deleted { .. })
            })
    }
}
