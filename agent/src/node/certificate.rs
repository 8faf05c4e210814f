//! This node's certificate towards an autoscaler on another machine: looked at when dialing, renewed in the background.
//!
//! What is in use is always the file: the next dial reads it. So a renewal disturbs no stream, and one that does not become
//! durable changes nothing.

use model::certificate::{Renewal, Validity};

use super::{Done, Node};
use crate::clock;
use crate::identity::{Identity, renew};
use crate::settings::Address;

/// What the node's loop knows of it.
#[derive(Debug, Default)]
pub(super) struct Certificate {
    /// `None` without an autoscaler on another machine, or before this node has joined.
    renewal: Option<Renewal>,
    under_way: bool,
    failures: u64,
}

impl Certificate {
    /// When to renew, boot ms; the wall clock is asked each time, because it may be set.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let renewal = self.renewal.filter(|_| !self.under_way)?;
        Some(clock::boot_ms().saturating_add(renewal.due_ms().saturating_sub(clock::wall_ms())))
    }

    pub(super) fn validity(&self) -> Option<Validity> {
        self.renewal.map(|renewal| renewal.validity())
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    /// Takes over what is in use; one that is known already keeps its next attempt.
    fn in_use(&mut self, validity: Option<Validity>) {
        if self.validity() != validity {
            self.renewal = validity.map(Renewal::of);
        }
    }
}

impl Node {
    /// Sees which certificate the dial that follows will show.
    pub(super) fn look_at_certificate(&mut self) {
        let is_remote = matches!(self.settings.autoscaler, Some(Address::Remote(_)));
        // What cannot be read is said by the dial.
        let found = if is_remote { Identity::open(&self.settings.state).ok().flatten() } else { None };
        self.certificate.in_use(found.and_then(|identity| identity.validity()));
    }

    pub(super) fn renew(&mut self) {
        let Some(Address::Remote(remote)) = self.settings.autoscaler.clone() else {
            return self.certificate.in_use(None);
        };
        self.certificate.under_way = true;
        let (state, done) = (self.settings.state.clone(), self.done.clone());
        tokio::spawn(async move {
            let outcome = renew::renew(remote, state).await;
            let _ = done.send(Done::Renewed(outcome)).await;
        });
    }

    pub(super) fn renewed(&mut self, outcome: Result<Validity, String>) {
        self.certificate.under_way = false;
        let now_ms = clock::wall_ms();
        match outcome {
            Ok(validity) => {
                tracing::info!(expires_s = validity.not_after_s, "this node's certificate was renewed");
                self.certificate.in_use(Some(validity));
            }
            Err(why) => {
                self.certificate.failures += 1;
                let Some(renewal) = &mut self.certificate.renewal else { return };
                renewal.failed(now_ms);
                let (left_s, next_s) = (
                    renewal.validity().not_after_s.saturating_sub(now_ms / 1000),
                    renewal.due_ms().saturating_sub(now_ms) / 1000,
                );
                if left_s == 0 {
                    tracing::error!(
                        why,
                        "this node's certificate has expired: make a token (trimtab node join-token NAME) and run trimtab-agent join"
                    );
                } else {
                    tracing::warn!(
                        why,
                        left_s,
                        next_s,
                        "this node's certificate could not be renewed; the old one stays in use"
                    );
                }
            }
        }
    }
}
