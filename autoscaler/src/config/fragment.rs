//! One source of configuration as it was written: dotted keys, each value as text with its origin.

use toml::de::{DeTable, DeValue};

use super::keys;
use super::{ConfigFault, Origin};

/// One file, the environment, or the flags.
#[derive(Debug, Clone, Default)]
pub struct Fragment {
    pub(super) values: Vec<(String, String, Origin)>,
}

impl Fragment {
    /// Reads a file's text. Keys that are not known are faults, and so are values that are neither text, number, flag
    /// nor a list of texts.
    pub fn from_toml(path: &str, text: &str, faults: &mut Vec<ConfigFault>) -> Self {
        let at = |offset: usize| {
            let before = text.get(..offset).unwrap_or(text);
            let line_start = before.rfind('\n').map_or(0, |n| n + 1);
            let line = before.matches('\n').count() + 1;
            Origin::File { path: path.to_owned(), line, column: before[line_start..].chars().count() + 1 }
        };
        let mut fragment = Self::default();
        match DeTable::parse(text) {
            Ok(table) => fragment.take("", table.get_ref(), &at, faults),
            Err(error) => {
                let origin = at(error.span().map_or(0, |span| span.start));
                let message = format!("this is not valid TOML: {}", error.message().replace('\n', " "));
                faults.push(ConfigFault { origin, message });
            }
        }
        fragment
    }

    fn take(
        &mut self,
        path: &str,
        table: &DeTable<'_>,
        at: &impl Fn(usize) -> Origin,
        faults: &mut Vec<ConfigFault>,
    ) {
        for (key, value) in table {
            let name =
                if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
            let origin = at(key.span().start);
            if let DeValue::Table(inner) = value.get_ref() {
                let section = format!("{name}.");
                if keys::names().any(|known| known.starts_with(&section)) {
                    self.take(&name, inner, at, faults);
                } else {
                    faults.push(ConfigFault { origin, message: unknown("section", &name) });
                }
                continue;
            }
            if !keys::names().any(|known| known == name) {
                faults.push(ConfigFault { origin, message: unknown("key", &name) });
                continue;
            }
            match text_of(value.get_ref()) {
                Some(text) => self.values.push((name, text, origin)),
                None => {
                    let message = format!("`{name}` must be a text, a number or a list of texts");
                    faults.push(ConfigFault { origin: at(value.span().start), message });
                }
            }
        }
    }

    /// Takes the variables `TRIMTAB_<SECTION>__<KEY>` that name known keys; others belong to other programs.
    pub fn from_environment(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut values: Vec<_> = variables
            .into_iter()
            .filter_map(|(variable, value)| {
                let name = variable.strip_prefix("TRIMTAB_")?.to_lowercase().replace("__", ".");
                let known = keys::names().any(|known| known == name);
                known.then_some((name, value, Origin::Environment(variable)))
            })
            .collect();
        values.sort_by(|a, b| a.0.cmp(&b.0));
        Self { values }
    }

    /// Takes a flag's value.
    pub fn flag(&mut self, key: &'static str, flag: &'static str, value: Option<String>) {
        self.values.extend(value.map(|value| (key.to_owned(), value, Origin::Flag(flag))));
    }
}

fn text_of(value: &DeValue<'_>) -> Option<String> {
    Some(match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Array(many) => {
            let texts: Option<Vec<_>> =
                many.iter().map(|one| one.get_ref().as_str().map(str::to_owned)).collect();
            texts?.join(",")
        }
        DeValue::Datetime(_) | DeValue::Table(_) => return None,
    })
}

fn unknown(what: &str, name: &str) -> String {
    let shown: String = name.chars().take(60).collect();
    let nearest = keys::names()
        .map(|known| (strsim::jaro_winkler(known, &shown), known))
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((_, known)) => format!("unknown {what} `{shown}`: did you mean `{known}`?"),
        None => format!("unknown {what} `{shown}`: `trimtab-autoscaler config show` lists all of them"),
    }
}
