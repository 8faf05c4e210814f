//! Printing: tables for people, JSON and YAML as a contract, CSV for spreadsheets.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::arguments::Output;
use crate::failure::{Failure, Kind};

/// Remarks are not wanted.
static QUIET: AtomicBool = AtomicBool::new(false);

/// From now on, [`remark`] says nothing.
pub(crate) fn quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Something beside the data, for people: on standard error, unless they asked for quiet.
pub(crate) fn remark(text: &str) {
    if !QUIET.load(Ordering::Relaxed) {
        eprintln!("{}", safe(text));
    }
}

/// Rows for people; a column may be for wide output only.
pub(crate) struct Rows {
    /// Title, right-aligned, wide only.
    pub(crate) columns: Vec<(&'static str, bool, bool)>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Rows {
    pub(crate) fn new(columns: &[(&'static str, bool, bool)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row.into_iter().map(|cell| safe(&cell)).collect());
    }

    pub(crate) fn table(&self, wide: bool) -> String {
        let shown: Vec<usize> = (0..self.columns.len()).filter(|at| wide || !self.columns[*at].2).collect();
        let pick = |row: &[String]| shown.iter().map(|at| row[*at].clone()).collect::<Vec<_>>();
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(shown.iter().map(|at| self.columns[*at].0.to_uppercase()));
        for row in &self.rows {
            table.add_row(pick(row));
        }
        for (index, at) in shown.iter().enumerate() {
            if let Some(column) = table.column_mut(index) {
                column.set_padding((if index == 0 { 0 } else { 1 }, 1));
                if self.columns[*at].1 {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        let text = table.to_string();
        text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    fn csv(&self) -> String {
        let quoted = |cell: &str| {
            if cell.contains([',', '"', '\n']) {
                format!("\"{}\"", cell.replace('"', "\"\""))
            } else {
                cell.to_owned()
            }
        };
        let line = |cells: Vec<String>| format!("{}\n", cells.join(","));
        let mut text = line(self.columns.iter().map(|(title, _, _)| (*title).to_owned()).collect());
        for row in &self.rows {
            text += &line(row.iter().map(|cell| quoted(cell)).collect());
        }
        text
    }
}

/// One value in the chosen form. `empty` is said on standard error when there is no row.
pub(crate) fn text(value: &impl Serialize, rows: &Rows, output: Output) -> Result<String, Failure> {
    match output {
        Output::Table => Ok(rows.table(false)),
        Output::Wide => Ok(rows.table(true)),
        Output::Csv => Ok(rows.csv()),
        Output::Json | Output::Yaml => structured(value, output),
    }
}

/// JSON or YAML.
pub(crate) fn structured(value: &impl Serialize, output: Output) -> Result<String, Failure> {
    match output {
        Output::Yaml => {
            let plain = serde_json::to_value(value)?;
            serde_saphyr::to_string(&plain).map_err(|error| Failure::new(Kind::Error, error.to_string()))
        }
        _ => Ok(serde_json::to_string_pretty(value)? + "\n"),
    }
}

/// Prints to standard output; a reader that went away is no fault.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// True when standard output is a terminal.
pub(crate) fn on_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Begins a new view: clears a terminal, does nothing elsewhere.
pub(crate) fn fresh_view() -> &'static str {
    if on_terminal() { "\x1b[H\x1b[2J" } else { "" }
}

/// Text from outside without anything that could steer a terminal or turn its direction.
pub(crate) fn safe(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// A number with two decimals, or a dash when it is not known.
pub(crate) fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"))
}

/// A share in percent, or a dash.
pub(crate) fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{:.0}%", v * 100.0))
}

/// Bytes in the largest binary unit, or a dash.
pub(crate) fn bytes(value: Option<u64>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    let (unit, shift) = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)]
        .into_iter()
        .find(|(_, shift)| value >= 1 << shift)
        .unwrap_or(("", 0));
    if shift == 0 { value.to_string() } else { format!("{:.1}{unit}", value as f64 / (1u64 << shift) as f64) }
}

/// A length of time, or a dash.
pub(crate) fn age(ms: Option<u64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms @ 0..10_000) => format!("{:.1}s", ms as f64 / 1000.0),
        Some(ms @ 10_000..120_000) => format!("{}s", ms / 1000),
        Some(ms @ 120_000..7_200_000) => format!("{}m", ms / 60_000),
        Some(ms @ 7_200_000..172_800_000) => format!("{}h", ms / 3_600_000),
        Some(ms) => format!("{}d", ms / 86_400_000),
    }
}

/// A moment in UTC.
pub(crate) fn moment(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| ms.to_string(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_do_not_reach_the_terminal() {
        assert_eq!(safe("a\x1b[2Jb\u{202e}c\nd"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d");
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!(
            (bytes(Some(1536)), bytes(Some(5)), bytes(None)),
            ("1.5Ki".into(), "5".into(), "-".into())
        );
        assert_eq!(
            (age(Some(900)), age(Some(65_000)), age(Some(600_000))),
            ("0.9s".into(), "65s".into(), "10m".into())
        );
        assert_eq!(moment(1_795_258_733_054), "2026-11-21 10:58:53");
    }

    #[test]
    fn a_table_shows_wide_columns_only_when_asked_and_csv_quotes() {
        let mut rows = Rows::new(&[("name", false, false), ("n", true, false), ("more", false, true)]);
        rows.push(vec!["web".into(), "12".into(), "a,\"b\"".into()]);
        assert_eq!(rows.table(false), "NAME   N\nweb   12\n");
        assert!(rows.table(true).contains("MORE"));
        assert_eq!(rows.csv(), "name,n,more\nweb,12,\"a,\"\"b\"\"\"\n");
    }
}
