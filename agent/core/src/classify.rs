//! What a cgroup is: the first rule that fits says it. Rules are data, in the order of their files and lines.
//!
//! A rule looks at the cgroup's path first, and at a process only when it asks for one; so most cgroups cost no look
//! into /proc. Names from outside are made safe for display here, once.

use model::id::WorkloadName;
use model::node::TaskClass;
use serde::Deserialize;

use crate::unit;

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
    /// The workload that such tasks belong to.
    #[serde(default)]
    pub workload: Option<WorkloadName>,
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
}

/// Bytes of a displayed name at most: the wire's limit for texts, with room for an ellipsis.
const NAME_LIMIT: usize = 120;

impl Rules {
    /// Rules in force; `own` is the path of Trimtab's own tasks, without slashes at its ends.
    #[must_use]
    pub fn new(rules: Vec<Rule>, own: &str) -> Self {
        Self { rules, own: own.to_owned() }
    }

    /// Environment keys that some rule names.
    #[must_use]
    pub fn env_keys(&self) -> Vec<&str> {
        self.rules.iter().filter_map(|r| r.env.as_deref()).collect()
    }

    /// What the cgroup at `path` (below the root, without a leading slash) is.
    #[must_use]
    pub fn classify(&self, path: &str, mut process: impl FnMut() -> Option<Process>) -> TaskClass {
        if let Some(class) = self.own_task(path) {
            return class;
        }
        let mut read: Option<Option<Process>> = None;
        for rule in &self.rules {
            if rule.path.as_ref().is_some_and(|pattern| !fits(pattern, path)) {
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
        TaskClass { kind: "other".into(), name: display(last(path)), workload: None, task: None }
    }

    fn own_task(&self, path: &str) -> Option<TaskClass> {
        let below = path.strip_prefix(&self.own)?.strip_prefix('/')?;
        let (workload, task) = unit::task(&self.own, below).or_else(|| {
            let (workload, task) = below.split_once('/')?;
            Some((workload.parse().ok()?, task.parse().ok()?))
        })?;
        Some(TaskClass {
            kind: "task".into(),
            name: task.to_string(),
            workload: Some(workload),
            task: Some(task),
        })
    }
}

fn class(rule: &Rule, name: &str) -> TaskClass {
    TaskClass { kind: rule.kind.clone(), name: display(name), workload: rule.workload.clone(), task: None }
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
        let kind = |path: &str, p: Option<Process>| rules().classify(path, || p.clone()).kind;
        assert_eq!(kind("system.slice/nginx.service", None), "service");
        assert_eq!(kind("system.slice/a/b.service", None), "other", "* does not cross /");
        assert_eq!(kind("a/b/docker-0f.scope", None), "container");
        let java = Process { exe: "java".into(), args: vec!["org.x.CassandraDaemon".into()], env: vec![] };
        assert_eq!(kind("system.slice/c.service", Some(java.clone())), "cassandra");
        let yarn = Process { env: vec![("CONTAINER_ID".into(), "container_1_2".into())], ..java };
        let class = rules().classify("x", || Some(yarn.clone()));
        assert_eq!((class.kind.as_str(), class.name.as_str()), ("yarn-container", "container_1_2"));
        let own = rules().classify("trimtab.slice/web/web-3", none);
        assert_eq!(own.task.unwrap().as_str(), "web-3");
    }

    #[test]
    fn hostile_names_are_shown_safely() {
        assert_eq!(display("a\nb\u{202e}c\u{1b}[31m"), "a\\u{a}b\\u{202e}c\\u{1b}[31m");
        assert!(display(&"x".repeat(10_000)).len() < 130);
        let class = rules().classify("trimtab.slice/web/$(id)", || None);
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
