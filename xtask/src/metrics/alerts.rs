//! Each alert says what happened, what to do and how bad it is, leads into the docs, and has cases in which it fires and does not.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

/// Reads the files as text: rules of a fixed shape, one key a line.
pub(super) fn check(root: &Path) -> Result<()> {
    let read = |name: &str| fs::read_to_string(root.join(name));
    let (rules, cases, guide) =
        (read("dashboards/alerts.yaml")?, read("dashboards/alerts_test.yaml")?, read("docs/alerts.md")?);
    let mut faults = Vec::new();
    let mut count = 0;
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap_or_default().trim();
        count += 1;
        let severity = ["critical", "warning", "info"].map(|word| format!("severity: {word} }}"));
        let runbook = format!("runbook: docs/alerts.md#{}", name.to_lowercase());
        let has = |key: &str| rule.lines().any(|line| line.trim_start().starts_with(key));
        for (good, what) in [
            (severity.iter().any(|word| rule.contains(word.as_str())), "a severity"),
            (has("expr: ") && has("for: "), "an expression and a time"),
            (has("summary: ") && has("description: "), "a summary and a description"),
            (rule.contains(&runbook), "its runbook"),
            (guide.contains(&format!("## {name}\n")), "a section in docs/alerts.md"),
            (fires(&cases, name), "a case in alerts_test.yaml in which it fires"),
            (rests(&cases, name), "a case in alerts_test.yaml in which it does not fire"),
        ] {
            if !good {
                faults.push(format!("{name} lacks {what}"));
            }
        }
    }
    for line in guide.lines().filter_map(|line| line.strip_prefix("## ")) {
        if !rules.contains(&format!("- alert: {line}\n")) {
            faults.push(format!("docs/alerts.md tells of {line}, which is no alert"));
        }
    }
    ensure!(faults.is_empty(), "alerts: {}", faults.join("; "));
    ensure!(count > 0, "dashboards/alerts.yaml has no alerts");
    Ok(())
}

/// The cases whose name begins with this, each up to the next.
fn of<'a>(cases: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let of = move |case: &&str| case.strip_prefix(name).is_some_and(|rest| rest.starts_with(' '));
    cases.split("- name: ").skip(1).filter(of)
}

fn fires(cases: &str, name: &str) -> bool {
    of(cases, name).any(|case| case.contains(&format!("{name} fires")) && case.contains(&expected(name)))
}

fn rests(cases: &str, name: &str) -> bool {
    of(cases, name).any(|case| {
        case.contains(&format!("{name} does not fire"))
            && case.contains("exp_samples")
            && !case.contains(&expected(name))
    })
}

fn expected(name: &str) -> String {
    format!("labels: '{{alertname=\"{name}\"}}', value: 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_counts_for_the_alert_that_it_is_of_only() {
        let cases = "tests:\n  - name: Down fires\n    exp_samples:\n      - { labels: '{alertname=\"Down\"}', value: 1 }\n  \
                     - name: DownLong does not fire\n    exp_samples: []\n";
        assert!(fires(cases, "Down") && !rests(cases, "Down"));
        assert!(!fires(cases, "DownLong") && rests(cases, "DownLong"));
        let swapped = cases.replace("\"Down\"", "\"Other\"");
        assert!(!fires(&swapped, "Down"), "another alert that fires is no proof");
    }
}
