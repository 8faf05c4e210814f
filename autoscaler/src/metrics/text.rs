//! The two text formats that Prometheus reads: OpenMetrics 1.0, and the older one of version 0.0.4.
//!
//! Counters and gauges that the service keeps are written by `prometheus-client`, which knows OpenMetrics only; for the
//! older format its lines are rewritten: a counter's help and type carry its whole name there, and there is neither a
//! unit nor an end mark. What is computed when somebody asks is written here, in either.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Which of the formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0: what is sent unless only the other one is asked for.
    OpenMetrics,
    /// Text format 0.0.4: what `promtool check metrics` and older scrapers read.
    Plain,
}

impl Format {
    /// What a client wants, by its `Accept` header.
    #[must_use]
    pub fn wanted(accept: Option<&str>) -> Self {
        let accept = accept.unwrap_or_default();
        if accept.contains("text/plain") && !accept.contains("application/openmetrics-text") {
            Self::Plain
        } else {
            Self::OpenMetrics
        }
    }

    /// For `Content-Type`.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// How a family's value behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows while the process lives, or the thing that it is of.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// A text that families are added to.
#[derive(Debug)]
pub(super) struct Text {
    out: String,
    format: Format,
}

impl Text {
    /// Begins with what `prometheus-client` wrote.
    pub(super) fn begin(open: &str, format: Format) -> Self {
        let out = match format {
            Format::OpenMetrics => open.trim_end_matches("# EOF\n").to_owned(),
            Format::Plain => plain(open),
        };
        Self { out, format }
    }

    /// Adds a family; one without samples is left out, because nothing is known of it.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str, samples: Vec<(String, f64)>) {
        if samples.is_empty() {
            return;
        }
        let (family, sample, word) = match (kind, self.format) {
            (Kind::Counter, Format::OpenMetrics) => (name.to_owned(), format!("{name}_total"), "counter"),
            (Kind::Counter, Format::Plain) => (format!("{name}_total"), format!("{name}_total"), "counter"),
            (Kind::Gauge, _) => (name.to_owned(), name.to_owned(), "gauge"),
        };
        // Writing to a String does not fail.
        let _ = writeln!(self.out, "# HELP trimtab_{family} {help}.\n# TYPE trimtab_{family} {word}");
        for (labels, value) in samples {
            let _ = writeln!(self.out, "trimtab_{sample}{labels} {value}");
        }
    }

    /// All of it.
    pub(super) fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

/// Labels as they are written; empty for none. A label without a value is left out, which means the same.
pub(crate) fn labels(all: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in all.iter().filter(|(_, value)| !value.is_empty()) {
        out.push(if out.is_empty() { '{' } else { ',' });
        out.push_str(name);
        out.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    if !out.is_empty() {
        out.push('}');
    }
    out
}

/// OpenMetrics as text format 0.0.4.
fn plain(open: &str) -> String {
    let counters: BTreeSet<&str> =
        open.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut out = String::with_capacity(open.len());
    for line in open.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => continue,
            (Some("#"), Some(word), Some(name), Some(rest)) if counters.contains(name) => {
                let _ = write!(out, "# {word} {name}_total {rest}");
            }
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scraper_gets_what_it_reads() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for (accept, format) in [
            (Some(prometheus), Format::OpenMetrics),
            (Some("*/*"), Format::OpenMetrics),
            (None, Format::OpenMetrics),
            (Some("text/plain"), Format::Plain),
            (Some("text/plain;version=0.0.4;q=1,*/*;q=0.1"), Format::Plain),
        ] {
            assert_eq!(Format::wanted(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn the_older_format_names_counters_in_full() {
        let open = "# HELP trimtab_rounds Rounds.\n# TYPE trimtab_rounds counter\ntrimtab_rounds_total 3\n\
                    # HELP trimtab_round_seconds Time.\n# TYPE trimtab_round_seconds histogram\n# UNIT trimtab_round_seconds seconds\n\
                    trimtab_round_seconds_sum 1.5\n# EOF\n";
        let mut text = Text::begin(open, Format::Plain);
        text.family("decisions", Kind::Counter, "Decisions", vec![(labels(&[("workload", "web")]), 2.0)]);
        text.family("nothing", Kind::Gauge, "Unknown", vec![]);
        assert_eq!(
            text.end(),
            "# HELP trimtab_rounds_total Rounds.\n# TYPE trimtab_rounds_total counter\ntrimtab_rounds_total 3\n\
             # HELP trimtab_round_seconds Time.\n# TYPE trimtab_round_seconds histogram\ntrimtab_round_seconds_sum 1.5\n\
             # HELP trimtab_decisions_total Decisions.\n# TYPE trimtab_decisions_total counter\ntrimtab_decisions_total{workload=\"web\"} 2\n"
        );
        let mut text = Text::begin(open, Format::OpenMetrics);
        text.family("decisions", Kind::Counter, "Decisions", vec![(String::new(), 2.0)]);
        let said = text.end();
        assert!(
            said.ends_with("# TYPE trimtab_decisions counter\ntrimtab_decisions_total 2\n# EOF\n"),
            "{said}"
        );
        assert_eq!(said.matches("# EOF").count(), 1);
    }

    #[test]
    fn no_name_breaks_out_of_its_label() {
        assert_eq!(labels(&[("a", "x\"}\n\\"), ("b", ""), ("c", "é")]), "{a=\"x\\\"}\\n\\\\\",c=\"é\"}");
        assert_eq!(labels(&[("a", "")]), "");
    }
}
