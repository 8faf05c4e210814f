//! What a cgroup is: the first rule that fits says it. Rules are data, in the order of their files and lines.
//!
//! A rule looks at the cgroup's path first, and at a process only when it asks for one; so most cgroups cost no look
//! into /proc. Names from outside are made safe for display here, once.

use model::id::WorkloadName;
use model::node::{Container, TaskClass};
use serde::Deserialize;

use crate::yarn::{self, ContainerId};
use crate::{container, leaf, unit};

/// A file of rules.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    /// The rules, first fit wins.
    #[serde(default, rename = "rule")]
    pub rules: Vec<Rule>,
}

/// One rule: every condition that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What it makes of a cgroup: `service`, `container`, `puma`, …
    pub kind: String,
    /// A path below the hierarchy's root; `*` stands for any characters but `/`, `**` for any at all.
    #[serde(default)]
    pub path: Option<String>,
    /// The last name of the executable's path of the first process.
    #[serde(default)]
    pub exe: Option<String>,
    /// One argument of the first process holds this text.
    #[serde(default)]
    pub arg: Option<String>,
    /// The first process has this variable in its environment; its value becomes the name.
    #[serde(default)]
    pub env: Option<String>,
    /// It belongs to a container of this image; `*` and `**` as in a path.
    #[serde(default)]
    pub image: Option<String>,
    /// It belongs to a container with this label: `key`, or `key=value`.
    #[serde(default)]
    pub label: Option<String>,
    /// The workload that such tasks belong to.
    #[serde(default)]
    pub workload: Option<WorkloadName>,
}

impl Rule {
    /// Whether its conditions about a container hold.
    fn fits(&self, container: Option<&Container>) -> bool {
        let image = |pattern: &String| container.is_some_and(|c| fits(pattern, &c.image));
        let label = |label: &String| {
            let (key, value) = label.split_once('=').map_or((label.as_str(), None), |(k, v)| (k, Some(v)));
            let found = container.and_then(|c| c.labels.get(key));
            found.is_some_and(|found| value.is_none_or(|value| value == found))
        };
        self.image.as_ref().is_none_or(image) && self.label.as_ref().is_none_or(label)
    }
}

/// The first process of a cgroup, read only when a rule asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    /// Last name of the executable's path.
    pub exe: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Environment, only the keys that rules name.
    pub env: Vec<(String, String)>,
}

/// All rules, with those that Trimtab brings at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<Rule>,
    /// Top of Trimtab's own tasks: `trimtab/<workload>/<task>`.
    own: String,
    /// Paths of the units whose containers have leaves.
    units: Vec<String>,
    /// Trimtab's own tasks may have leaves, too.
    own_leaves: bool,
}

/// What a cgroup is that no rule knows.
const OTHER: &str = "other";
/// What a leaf is when no rule says more.
const LEAF: &str = "yarn-container";

/// Bytes of a displayed name at most: the wire's limit for texts, with room for an ellipsis.
const NAME_LIMIT: usize = 120;

impl Rules {
    /// Rules in force; `own` is the path of Trimtab's own tasks, without slashes at its ends.
    #[must_use]
    pub fn new(rules: Vec<Rule>, own: &str) -> Self {
        Self { rules, own: own.to_owned(), units: Vec::new(), own_leaves: false }
    }

    /// The same, where containers of the units at these paths have leaves, and of Trimtab's own tasks if `own` says so.
    #[must_use]
    pub fn with_leaves_of(self, units: &[String], own: bool) -> Self {
        Self { units: units.to_vec(), own_leaves: own, ..self }
    }

    /// The container whose leaf the cgroup at `path` is.
    #[must_use]
    pub fn leaf(&self, path: &str) -> Option<ContainerId> {
        leaf::of_path(&self.units, path).or_else(|| Some(self.own_leaf(path)?.1))
    }

    /// The task of Trimtab's in whose cgroup the leaf at `path` is, and its container.
    fn own_leaf(&self, path: &str) -> Option<(TaskClass, ContainerId)> {
        let (above, name) = path.rsplit_once('/').filter(|_| self.own_leaves)?;
        let id = name.parse().ok()?;
        Some((self.own_task(above)?, id))
    }

    /// Environment keys that some rule names, or that leaves are named by.
    #[must_use]
    pub fn env_keys(&self) -> Vec<&str> {
        let leaves = [yarn::CONTAINER_ID, yarn::SUBMIT_TIME]
            .into_iter()
            .filter(|_| self.own_leaves || !self.units.is_empty());
        self.rules.iter().filter_map(|r| r.env.as_deref()).chain(leaves).collect()
    }

    /// What the cgroup at `path` (below the root, without a leading slash) is. A cgroup of a container is classified again once its
    /// runtime has said what it is.
    #[must_use]
    pub fn classify(
        &self,
        path: &str,
        container: Option<&Container>,
        mut process: impl FnMut() -> Option<Process>,
    ) -> TaskClass {
        if let Some(class) = self.own_task(path) {
            return class;
        }
        if let Some((task, id)) = self.own_leaf(path) {
            let TaskClass { workload, task, .. } = task;
            return TaskClass { workload, task, ..self.leaf_class(path, &id, process().as_ref()) };
        }
        if let Some(id) = leaf::of_path(&self.units, path) {
            return self.leaf_class(path, &id, process().as_ref());
        }
        let mut class = self.by_rule(path, container, process);
        if let (Some(container), Some((_, _, part))) = (container, container::of_path(path)) {
            class.name = match part {
                "" => container.name.clone(),
                part => display(&format!("{}/{part}", container.name)),
            };
            class.container = Some(Box::new(container.clone()));
        }
        class
    }

    /// A leaf is named by its folder, which this agent made; rules see it as a container.
    fn leaf_class(&self, path: &str, id: &ContainerId, first: Option<&Process>) -> TaskClass {
        let container = id.describe(first);
        let mut class = self.by_rule(path, Some(&container), || first.cloned());
        if class.kind == OTHER {
            class.kind = LEAF.to_owned();
        }
        class.name.clone_from(&container.name);
        class.container = Some(Box::new(container));
        class
    }

    fn by_rule(
        &self,
        path: &str,
        container: Option<&Container>,
        mut process: impl FnMut() -> Option<Process>,
    ) -> TaskClass {
        let mut read: Option<Option<Process>> = None;
        for rule in &self.rules {
            if rule.path.as_ref().is_some_and(|pattern| !fits(pattern, path)) || !rule.fits(container) {
                continue;
            }
            if rule.exe.is_none() && rule.arg.is_none() && rule.env.is_none() {
                return class(rule, last(path));
            }
            let Some(process) = read.get_or_insert_with(&mut process) else { continue };
            let exe = rule.exe.as_ref().is_none_or(|exe| *exe == process.exe);
            let arg = rule.arg.as_ref().is_none_or(|arg| process.args.iter().any(|a| a.contains(arg)));
            let env = rule.env.as_ref().map(|key| process.env.iter().find(|(k, _)| k == key));
            match env {
                _ if !exe || !arg => {}
                Some(Some((_, value))) => return class(rule, value),
                Some(None) => {}
                None => return class(rule, last(path)),
            }
        }
        TaskClass::new(OTHER, display(last(path)))
    }

    fn own_task(&self, path: &str) -> Option<TaskClass> {
        let below = path.strip_prefix(&self.own)?.strip_prefix('/')?;
        let (workload, task) = unit::task(&self.own, below).or_else(|| {
            let (workload, task) = below.split_once('/')?;
            Some((workload.parse().ok()?, task.parse().ok()?))
        })?;
        Some(TaskClass { workload: Some(workload), task: Some(task.clone()), ..TaskClass::new("task", task) })
    }
}

fn class(rule: &Rule, name: &str) -> TaskClass {
    TaskClass { workload: rule.workload.clone(), ..TaskClass::new(&rule.kind, display(name)) }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A name that cannot disturb a terminal, a log or a page: control characters and direction marks are escaped, and it
/// has at most 120 bytes.
#[must_use]
pub fn display(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        let hidden = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if hidden {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
        if out.len() > NAME_LIMIT {
            while out.len() > NAME_LIMIT {
                out.pop();
            }
            out.push('…');
            break;
        }
    }
    out
}

/// Whether `path` fits `pattern`: `*` is any run of characters but `/`, `**` any run at all.
fn fits(pattern: &str, path: &str) -> bool {
    // Positions of the pattern that are reachable after each character: linear, whatever the pattern is.
    let tokens = tokens(pattern);
    let mut reachable = vec![false; tokens.len() + 1];
    reachable[0] = true;
    let skip_stars = |reachable: &mut Vec<bool>| {
        for (i, token) in tokens.iter().enumerate() {
            if reachable[i] && !matches!(token, Token::Char(_)) {
                reachable[i + 1] = true;
            }
        }
    };
    skip_stars(&mut reachable);
    for c in path.chars() {
        let mut next = vec![false; tokens.len() + 1];
        for (i, token) in tokens.iter().enumerate().filter(|(i, _)| reachable[*i]) {
            match token {
                Token::Char(wanted) => next[i + 1] |= *wanted == c,
                Token::Star => next[i] |= c != '/',
                Token::Stars => next[i] = true,
            }
        }
        reachable = next;
        skip_stars(&mut reachable);
    }
    reachable[tokens.len()]
}

enum Token {
    Char(char),
    Star,
    Stars,
}

fn tokens(pattern: &str) -> Vec<Token> {
    let mut out = Vec::new();
    for c in pattern.chars() {
        match (c, out.last()) {
            ('*', Some(Token::Star)) => {
                out.pop();
                out.push(Token::Stars);
            }
            ('*', Some(Token::Stars)) => {}
            ('*', _) => out.push(Token::Star),
            (c, _) => out.push(Token::Char(c)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules() -> Rules {
        let file: RuleFile = toml::from_str(
            r#"
            [[rule]]
            kind = "yarn-container"
            env = "CONTAINER_ID"
            [[rule]]
            kind = "cassandra"
            exe = "java"
            arg = "CassandraDaemon"
            [[rule]]
            kind = "container"
            path = "**/docker-*.scope"
            [[rule]]
            kind = "service"
            path = "system.slice/*.service"
            "#,
        )
        .unwrap();
        Rules::new(file.rules, "trimtab.slice")
    }

    #[test]
    fn the_first_rule_that_fits_says_what_it_is() {
        let none = || None;
        let kind = |path: &str, p: Option<Process>| rules().classify(path, None, || p.clone()).kind;
        assert_eq!(kind("system.slice/nginx.service", None), "service");
        assert_eq!(kind("system.slice/a/b.service", None), "other", "* does not cross /");
        assert_eq!(kind("a/b/docker-0f.scope", None), "container");
        let java = Process { exe: "java".into(), args: vec!["org.x.CassandraDaemon".into()], env: vec![] };
        assert_eq!(kind("system.slice/c.service", Some(java.clone())), "cassandra");
        let yarn = Process { env: vec![("CONTAINER_ID".into(), "container_1_2".into())], ..java };
        let class = rules().classify("x", None, || Some(yarn.clone()));
        assert_eq!((class.kind.as_str(), class.name.as_str()), ("yarn-container", "container_1_2"));
        let own = rules().classify("trimtab.slice/web/web-3", None, none);
        assert_eq!(own.task.unwrap().as_str(), "web-3");
    }

    #[test]
    fn a_container_has_the_name_that_its_runtime_gives_and_rules_see_its_image_and_labels() {
        let file: RuleFile = toml::from_str(
            r#"
            [[rule]]
            kind = "app"
            label = "app=shop"
            workload = "web"
            [[rule]]
            kind = "database"
            image = "**/postgres:*"
            [[rule]]
            kind = "docker"
            path = "**docker-*.scope**"
            "#,
        )
        .unwrap();
        let rules = Rules::new(file.rules, "trimtab.slice");
        let container = |image: &str, app: &str| Container {
            id: "ab".repeat(32),
            name: "shop-1".into(),
            image: image.into(),
            labels: [("app".to_owned(), app.to_owned())].into(),
        };
        let top = format!("system.slice/docker-{}.scope", "ab".repeat(32));
        let class = |path: &str, c: Option<&Container>| rules.classify(path, c, || None);
        assert_eq!(class(&top, None).kind, "docker", "before the runtime answered");
        let shop = class(&top, Some(&container("shop:1", "shop")));
        assert_eq!((shop.kind.as_str(), shop.name.as_str()), ("app", "shop-1"));
        assert_eq!(shop.workload.unwrap().as_str(), "web");
        assert_eq!(shop.container.unwrap().image, "shop:1");
        let part = class(&format!("{top}/init.scope"), Some(&container("hub/lib/postgres:17", "other")));
        assert_eq!(
            (part.kind.as_str(), part.name.as_str(), part.workload),
            ("database", "shop-1/init.scope", None)
        );
    }

    #[test]
    fn a_leaf_is_named_by_its_folder_whatever_its_process_says() {
        let file: RuleFile = toml::from_str(
            "[[rule]]\nkind = \"batch\"\nlabel = \"yarn.application=application_1_0002\"\nworkload = \"nightly\"\n\
             [[rule]]\nkind = \"yarn-container\"\nenv = \"CONTAINER_ID\"\n",
        )
        .unwrap();
        let rules = Rules::new(file.rules, "trimtab.slice").with_leaves_of(&["nm.service".to_owned()], false);
        assert!(rules.env_keys().contains(&yarn::SUBMIT_TIME));
        let says = |id: &str| Process { env: vec![("CONTAINER_ID".into(), id.into())], ..Process::default() };
        let class = |path: &str, p: Option<Process>| rules.classify(path, None, || p.clone());
        let leaf = class("nm.service/container_1_0001_01_000002", Some(says("container_9_0009_01_000009")));
        assert_eq!(
            (leaf.kind.as_str(), leaf.name.as_str()),
            ("yarn-container", "container_1_0001_01_000002")
        );
        let labels = leaf.container.unwrap().labels;
        assert_eq!(
            (labels["yarn.application"].as_str(), labels[yarn::ROLE].as_str()),
            ("application_1_0001", "task")
        );
        let gone = class("nm.service/container_1_0001_01_000002", None);
        assert_eq!((gone.kind.as_str(), gone.container.unwrap().labels.len()), (LEAF, 2));
        let owned = class("nm.service/container_1_0002_01_000002", None);
        assert_eq!((owned.kind.as_str(), owned.workload.unwrap().as_str()), ("batch", "nightly"));
        assert_eq!(class("other.service/container_1_0001_01_000002", None).container, None);
        let own = "trimtab.slice/batch/batch-3/container_1_0001_01_000002";
        assert_eq!((class(own, None).container, rules.leaf(own)), (None, None), "no launcher says so");
    }

    #[test]
    fn a_leaf_of_trimtabs_own_nodemanager_is_part_of_its_task() {
        let rules = Rules::new(Vec::new(), "trimtab.slice").with_leaves_of(&[], true);
        for above in ["batch/batch-3", "trimtab-batch.slice/trimtab-task-batch-3.service"] {
            let path = format!("trimtab.slice/{above}/container_1_0001_01_000002");
            let class = rules.classify(&path, None, || None);
            assert_eq!((class.kind.as_str(), class.name.as_str()), (LEAF, "container_1_0001_01_000002"));
            assert_eq!(class.workload.unwrap().as_str(), "batch");
            assert_eq!(class.task.unwrap().as_str(), "batch-3");
            assert!(rules.leaf(&path).is_some() && class.container.is_some());
        }
        for no_leaf in ["batch/batch-3/main", "batch/batch-3", "container_1_0001_01_000002"] {
            assert_eq!(rules.leaf(&format!("trimtab.slice/{no_leaf}")), None, "{no_leaf}");
        }
    }

    #[test]
    fn hostile_names_are_shown_safely() {
        assert_eq!(display("a\nb\u{202e}c\u{1b}[31m"), "a\\u{a}b\\u{202e}c\\u{1b}[31m");
        assert!(display(&"x".repeat(10_000)).len() < 130);
        let class = rules().classify("trimtab.slice/web/$(id)", None, || None);
        assert_eq!(class.task, None, "not a task of ours");
    }

    proptest! {
        #[test]
        fn any_path_and_pattern_end(pattern in "[a*/]{0,30}", path in "[a/]{0,60}") {
            let _ = fits(&pattern, &path);
        }

        #[test]
        fn a_displayed_name_has_no_control_characters(name in ".{0,200}") {
            prop_assert!(!display(&name).chars().any(char::is_control));
        }
    }
}
