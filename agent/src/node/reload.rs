//! What a SIGHUP does: the configuration is read anew, and what is good takes effect without a restart.
//!
//! | setting | takes effect |
//! |---|---|
//! | launchers, act, max_tasks, qos, autoscaler | at once; the autoscaler is told by a new stream |
//! | rules | for tasks that begin from now on |
//! | all others | at the next start; the log names those that differ |
//!
//! A fault anywhere changes nothing: the running configuration stays as a whole, and the log says why.

use std::collections::BTreeSet;

use agent_core::classify::Rules;

use super::Node;
use crate::settings::{Faults, Settings};

impl Node {
    pub(super) fn reload(&mut self, read: Result<Settings, Faults>) {
        let new = match read {
            Ok(new) => new,
            Err(faults) => {
                for fault in &faults.0 {
                    tracing::error!(%fault, "not reloaded");
                }
                tracing::error!(faults = faults.0.len(), "the running configuration stays in force");
                return;
            }
        };
        let waits = self.settings.waits_for_start(&new);
        let said = |settings: &Settings| {
            let launchers: BTreeSet<String> = settings.launchers.keys().cloned().collect();
            (settings.autoscaler.clone(), settings.act, launchers)
        };
        let tell = said(&new) != said(&self.settings);
        let own_leaves = new.launchers.values().any(|launcher| launcher.leaves);
        self.rules = Rules::new(new.rules.clone(), &self.settings.slice)
            .with_leaves_of(&self.settings.leaves, own_leaves);
        self.processes.env_keys = self.rules.env_keys().into_iter().map(str::to_owned).collect();
        self.settings.take(new);
        self.isolation_reloaded();
        self.leaves.may_act(self.settings.act);
        tracing::info!(
            launchers = self.settings.launchers.len(),
            rules = self.settings.rules.len(),
            "reloaded"
        );
        if !waits.is_empty() {
            tracing::warn!(settings = ?waits, "changed, and takes effect at the next start");
        }
        if tell {
            self.inventory.launchers = self.settings.launchers.keys().cloned().collect();
            self.inventory.acts = self.settings.act;
            self.lost("the configuration was reloaded");
        }
    }
}
