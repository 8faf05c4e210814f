//! From the text of `/metrics` to samples: what is sent is what a scrape would have had, name by name and value by value.

use std::collections::BTreeMap;

/// The label that holds a sample's name.
const NAME: &str = "__name__";

/// One sample with all its labels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    /// By name; the sample's own name is `__name__`.
    pub(super) labels: BTreeMap<String, String>,
    /// What it says.
    pub(super) value: f64,
}

/// Every sample of a text in either format, with `extra` labels beside its own. A line that is no sample is left out.
pub(super) fn read(text: &str, extra: &BTreeMap<String, String>) -> Vec<Series> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| sample(line, extra)).collect()
}

fn sample(line: &str, extra: &BTreeMap<String, String>) -> Option<Series> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    if name.is_empty() {
        return None;
    }
    let mut labels = extra.clone();
    let rest = match rest.strip_prefix('{') {
        Some(inner) => own_labels(inner, &mut labels)?,
        None => rest,
    };
    labels.insert(NAME.to_owned(), name.to_owned());
    Some(Series { labels, value: rest.strip_prefix(' ')?.parse().ok()? })
}

/// Takes `name="value",…}`; what is behind it.
fn own_labels<'a>(mut rest: &'a str, labels: &mut BTreeMap<String, String>) -> Option<&'a str> {
    loop {
        if let Some(behind) = rest.strip_prefix('}') {
            return Some(behind);
        }
        let (name, inner) = rest.split_once("=\"")?;
        let (value, behind) = quoted(inner)?;
        // A label without a value is none.
        if !value.is_empty() {
            labels.insert(name.to_owned(), value);
        }
        rest = behind.strip_prefix(',').unwrap_or(behind);
    }
}

/// A value up to its closing quote, and what is behind that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match letters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::labels;

    fn none() -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    #[test]
    fn samples_are_read_with_their_labels_and_remarks_are_not() {
        let text = "# HELP trimtab_a A.\n# TYPE trimtab_a gauge\ntrimtab_a 1.5\n\
                    trimtab_b_total{workload=\"web\",reason=\"\"} 3\n\
                    trimtab_c_bucket{le=\"+Inf\"} 7\ntrimtab_d NaN\ntrimtab_e +Inf\n# EOF\n";
        let extra =
            BTreeMap::from([("job".to_owned(), "t".to_owned()), ("workload".to_owned(), "x".to_owned())]);
        let all = read(text, &extra);
        let shown: Vec<String> = all.iter().map(|one| format!("{:?} {}", one.labels, one.value)).collect();
        assert_eq!(
            shown,
            [
                r#"{"__name__": "trimtab_a", "job": "t", "workload": "x"} 1.5"#,
                r#"{"__name__": "trimtab_b_total", "job": "t", "workload": "web"} 3"#,
                r#"{"__name__": "trimtab_c_bucket", "job": "t", "le": "+Inf", "workload": "x"} 7"#,
                r#"{"__name__": "trimtab_d", "job": "t", "workload": "x"} NaN"#,
                r#"{"__name__": "trimtab_e", "job": "t", "workload": "x"} inf"#,
            ]
        );
    }

    #[test]
    fn a_line_that_is_no_sample_is_left_out() {
        for line in [
            "",
            " ",
            "a",
            "a{",
            "a{b",
            "a{b=\"",
            "a{b=\"c",
            "a{b=\"c\\",
            "a{b=\"c\"}",
            "a{b=\"c\"} x",
            "{} 1",
        ] {
            assert_eq!(read(line, &none()), [], "{line:?}");
        }
    }

    #[test]
    fn each_line_of_a_real_scrape_is_a_sample() {
        let metrics = crate::metrics::Metrics::new();
        metrics.round_seconds.observe(0.01);
        let text = metrics.scrape(crate::metrics::Format::OpenMetrics, None, None);
        let lines = text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!((read(&text, &none()).len(), lines > 30), (lines, true), "{text}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in any::<String>(), number in any::<f64>()) {
            let line = format!("trimtab_x{} {number}", labels(&[("a", &value), ("b", "c")]));
            let all = read(&line, &none());
            prop_assume!(!value.contains('\r'));
            prop_assert_eq!(all.len(), 1);
            prop_assert_eq!(all[0].labels.get("a").map_or("", String::as_str), value.as_str());
            prop_assert_eq!(all[0].labels["b"].as_str(), "c");
            prop_assert!(all[0].value == number || all[0].value.is_nan() && number.is_nan());
        }

        #[test]
        fn no_text_breaks_it(text in any::<String>()) {
            let _ = read(&text, &none());
        }
    }
}
