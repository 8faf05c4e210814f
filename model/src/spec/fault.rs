//! One thing that is wrong in a specification, and where.

use std::fmt;

use serde::Serialize;

/// A place in a file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
    /// How many characters to underline; at least 1.
    pub(super) width: usize,
}

/// One fault of a specification file. `Display` shows it with the line and a caret, like a compiler does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct SpecFault {
    /// The file, as it was named.
    pub file: String,
    /// Line, from 1; 0 when the fault is about the whole file.
    pub line: usize,
    /// Column in characters, from 1; 0 when the fault is about the whole file.
    pub column: usize,
    /// Path of the field (`spec.replicas.min`); empty when the file could not be read as a tree.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The text of the line.
    #[serde(skip)]
    pub source_line: String,
    /// How many characters to underline.
    #[serde(skip)]
    pub width: usize,
}

impl fmt::Display for SpecFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        if self.line == 0 {
            write!(f, "  --> {}", self.file)?;
        } else {
            let gutter = self.line.to_string().len();
            writeln!(f, "{:gutter$}--> {}:{}:{}", "", self.file, self.line, self.column)?;
            writeln!(f, "{:gutter$} |", "")?;
            writeln!(f, "{} | {}", self.line, self.source_line)?;
            let indent = self.column.saturating_sub(1);
            write!(f, "{:gutter$} | {:indent$}{}", "", "", "^".repeat(self.width.max(1)))?;
        }
        if !self.field.is_empty() {
            write!(f, "\n  = field: {}", self.field)?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  = help: {help}")?;
        }
        Ok(())
    }
}

/// Collects the faults of one file.
pub(super) struct Faults<'t> {
    file: &'t str,
    text: &'t str,
    list: Vec<SpecFault>,
}

/// A file with more faults than this is another kind of file.
const MOST: usize = 100;
/// Longest line that is shown, characters.
const SHOWN: usize = 160;

impl<'t> Faults<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Self {
        Self { file, text, list: Vec::new() }
    }

    pub(super) fn push(&mut self, place: Place, field: &str, message: String, help: Option<String>) {
        if self.list.len() >= MOST {
            return;
        }
        let line = self.text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default();
        // One character per column: a tab or a control character would move the caret or the terminal.
        let shown =
            line.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
        let column = place.column.min(SHOWN);
        let room = (shown.chars().count() + 1).saturating_sub(column).max(1);
        self.list.push(SpecFault {
            file: self.file.to_owned(),
            line: place.line,
            column,
            field: field.to_owned(),
            message,
            help,
            source_line: shown,
            width: place.width.clamp(1, room),
        });
    }

    pub(super) fn whole_file(&mut self, message: String) {
        self.push(Place::default(), "", message, None);
    }

    pub(super) fn any(&self) -> bool {
        !self.list.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.list.len()
    }

    pub(super) fn into_result<T>(mut self, good: T) -> Result<T, Vec<SpecFault>> {
        if self.list.is_empty() {
            return Ok(good);
        }
        self.list.sort_by_key(|fault| (fault.line, fault.column));
        Err(self.list)
    }
}
