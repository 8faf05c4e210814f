//! What is known of a YARN container: its id, its application, and whether it is the application's master.
//!
//! The NodeManager writes `container_[eEPOCH_]CLUSTER_APPLICATION_ATTEMPT_NUMBER` into the environment of all that it launches
//! (`CONTAINER_ID`, Hadoop's `ApplicationConstants.Environment`), and launches it by a script in a folder of that name. All of it is in the
//! hands of the container's user, so it is parsed strictly and gives a name, never a right.

use std::fmt;
use std::str::FromStr;

use model::node::Container;

use crate::classify::Process;

/// The variable that says which container a process belongs to.
pub const CONTAINER_ID: &str = "CONTAINER_ID";
/// Only the master's environment has this variable: the ResourceManager's `AMLauncher` adds it.
pub const SUBMIT_TIME: &str = "APP_SUBMIT_TIME_ENV";
/// The script that a container's first process runs (`ContainerLaunch.CONTAINER_SCRIPT`).
const SCRIPT: &str = "/launch_container.sh";
/// Digits of each number at most: those of 2^64.
const DIGITS: usize = 20;

/// A container's id, as YARN writes it: lower-case letters, digits and `_` only, at most 108 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId {
    text: String,
    /// Where `CLUSTER_APPLICATION` and `ATTEMPT` lie in it.
    application: (usize, usize),
    attempt: (usize, usize),
}

/// A text that is no container's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no id of a YARN container: want container_[eEPOCH_]CLUSTER_APPLICATION_ATTEMPT_NUMBER")]
pub struct NotAContainerId;

impl FromStr for ContainerId {
    type Err = NotAContainerId;

    fn from_str(text: &str) -> Result<Self, NotAContainerId> {
        let is_number =
            |part: &str| (1..=DIGITS).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        let rest = text.strip_prefix("container_").ok_or(NotAContainerId)?;
        let numbers = match rest.strip_prefix('e').and_then(|rest| rest.split_once('_')) {
            Some((epoch, numbers)) if is_number(epoch) => numbers,
            Some(_) => return Err(NotAContainerId),
            None => rest,
        };
        let parts: Vec<&str> = numbers.split('_').take(5).collect();
        let [cluster, application, attempt, number] = parts[..] else { return Err(NotAContainerId) };
        if ![cluster, application, attempt, number].into_iter().all(is_number) {
            return Err(NotAContainerId);
        }
        let start = text.len() - numbers.len();
        let end = start + cluster.len() + 1 + application.len();
        Ok(Self {
            text: text.to_owned(),
            application: (start, end),
            attempt: (end + 1, end + 1 + attempt.len()),
        })
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl ContainerId {
    /// As YARN writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its application: `application_CLUSTER_APPLICATION`.
    #[must_use]
    pub fn application(&self) -> String {
        format!("application_{}", &self.text[self.application.0..self.application.1])
    }

    /// Its application's attempt: `appattempt_CLUSTER_APPLICATION_ATTEMPT`, the attempt with six digits.
    #[must_use]
    pub fn attempt(&self) -> String {
        let attempt = &self.text[self.attempt.0..self.attempt.1];
        format!("appattempt_{}_{attempt:0>6}", &self.text[self.application.0..self.application.1])
    }

    /// Which container a process with this environment and these arguments says it belongs to.
    #[must_use]
    pub fn of(environment: Option<&str>, arguments: &[impl AsRef<str>]) -> Option<Self> {
        let launched = |argument: &str| {
            let folder = argument.strip_suffix(SCRIPT)?;
            folder.rsplit('/').next()?.parse().ok()
        };
        environment
            .and_then(|id| id.parse().ok())
            .or_else(|| arguments.iter().find_map(|argument| launched(argument.as_ref())))
    }

    /// Its description, as far as its first process is known: with `yarn.role` once that process shows its environment.
    #[must_use]
    pub fn describe(&self, first: Option<&Process>) -> Container {
        let mut labels = [
            ("yarn.application".to_owned(), self.application()),
            ("yarn.attempt".to_owned(), self.attempt()),
        ]
        .into_iter()
        .collect::<std::collections::BTreeMap<_, _>>();
        if let Some(role) = first.and_then(|first| self.role(first)) {
            labels.insert(ROLE.to_owned(), role.to_owned());
        }
        Container { id: self.text.clone(), name: self.text.clone(), image: String::new(), labels }
    }

    fn role(&self, first: &Process) -> Option<&'static str> {
        let value = |key: &str| first.env.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
        // A launching script has its own environment still, which says neither.
        value(CONTAINER_ID)?;
        let is_master =
            value(SUBMIT_TIME).is_some() || first.args.iter().any(|arg| arg.contains("MRAppMaster"));
        Some(if is_master { "master" } else { "task" })
    }
}

/// The label that says what a container does in its application: `master` or `task`.
pub const ROLE: &str = "yarn.role";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(text: &str) -> ContainerId {
        text.parse().unwrap()
    }

    #[test]
    fn an_id_names_its_application_and_attempt() {
        let plain = id("container_1795246453454_0002_01_000001");
        assert_eq!(plain.application(), "application_1795246453454_0002");
        assert_eq!(plain.attempt(), "appattempt_1795246453454_0002_000001");
        let later = id("container_e17_1795246453454_12345_02_000044");
        assert_eq!(later.application(), "application_1795246453454_12345");
        assert_eq!(later.attempt(), "appattempt_1795246453454_12345_000002");
    }

    #[test]
    fn what_is_no_id_is_none() {
        for text in [
            "",
            "container_",
            "container_1_2_3",
            "container_1_2_3_4_5",
            "container_1_2_3_x",
            "container_1_2_3_",
            "container_e_1_2_3_4",
            "container_ex_1_2_3_4",
            "container_1_2_3_4/..",
            "container_1_2_3_4\n",
            "../container_1_2_3_4",
            "Container_1_2_3_4",
            "container_1_2_3_+4",
            "container_1_2_3_١",
            "container_111111111111111111111_2_3_4",
        ] {
            assert_eq!(text.parse::<ContainerId>(), Err(NotAContainerId), "{text:?}");
        }
    }

    #[test]
    fn a_process_says_its_container_by_its_environment_or_by_the_script_that_it_runs() {
        let (one, two) = ("container_1_0001_01_000001", "container_1_0001_01_000002");
        let script = format!("/data/appcache/application_1_0001/{two}/launch_container.sh");
        assert_eq!(ContainerId::of(Some(one), &["bash", &script]), Some(id(one)));
        assert_eq!(ContainerId::of(None, &["/bin/bash", &script]), Some(id(two)));
        assert_eq!(ContainerId::of(Some("$(id)"), &["/bin/bash", "/x/launch_container.sh"]), None);
        assert_eq!(ContainerId::of(None, &["bash", &format!("/data/{two}/other.sh")]), None);
    }

    #[test]
    fn a_master_is_told_from_a_task_once_its_environment_is_there() {
        let one = id("container_1_0001_01_000001");
        let role = |env: &[&str], args: &[&str]| {
            let pair = |key: &&str| ((*key).to_owned(), "1".to_owned());
            let args = args.iter().map(|&arg| arg.to_owned()).collect();
            let first = Process { exe: "java".into(), args, env: env.iter().map(pair).collect() };
            one.describe(Some(&first)).labels.get(ROLE).cloned()
        };
        assert_eq!(role(&[CONTAINER_ID, SUBMIT_TIME], &[]).as_deref(), Some("master"));
        assert_eq!(role(&[CONTAINER_ID], &["org.x.v2.app.MRAppMaster"]).as_deref(), Some("master"));
        assert_eq!(role(&[CONTAINER_ID], &["org.x.mapred.YarnChild"]).as_deref(), Some("task"));
        assert_eq!(role(&[], &["launch_container.sh"]), None);
        assert_eq!(one.describe(None).labels["yarn.application"], "application_1_0001");
    }

    proptest! {
        #[test]
        fn an_id_is_safe_as_a_folders_name(text in "container_(e[0-9]{1,3}_)?[0-9a-z_/.]{0,30}") {
            if let Ok(id) = text.parse::<ContainerId>() {
                prop_assert_eq!(id.as_str(), &text);
                prop_assert!(text.bytes().all(|b| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit()));
                prop_assert!(id.application().len() < 60 && id.attempt().len() < 80);
            }
        }

        #[test]
        fn what_yarn_writes_is_read(epoch in 0u64..200, cluster: u64, app: u32, attempt: u32, number in 0u64..1 << 40) {
            let epoch = if epoch == 0 { String::new() } else { format!("e{epoch:02}_") };
            let text = format!("container_{epoch}{cluster}_{app:04}_{attempt:02}_{number:06}");
            let id: ContainerId = text.parse().unwrap();
            prop_assert_eq!(id.application(), format!("application_{cluster}_{app:04}"));
            prop_assert_eq!(id.attempt(), format!("appattempt_{cluster}_{app:04}_{attempt:06}"));
        }
    }
}
