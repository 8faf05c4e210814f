//! What a key changes: a page, an order, a filter, what is chosen. No terminal, no clock.

use super::data::Data;
use super::list::{Line, Page, order};
use crate::output::{moment, safe};

/// What was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Letter(char),
    Enter,
    /// Escape.
    Back,
    Erase,
    /// The next page.
    Next,
    Previous,
    /// So many lines down; up when it is negative.
    Move(isize),
    Quit,
}

/// How one page is looked at.
#[derive(Debug, Clone)]
struct View {
    column: usize,
    largest_first: bool,
    /// Key and place of the chosen line; the key counts as long as there is one with it.
    chosen: (String, usize),
}

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct Screen {
    /// Whom it asks.
    pub(super) address: String,
    pub(super) page: Page,
    views: [View; 4],
    /// Only lines with these words are shown.
    pub(super) words: String,
    /// The words are being typed.
    pub(super) typing: bool,
    /// New answers are not shown.
    pub(super) held: bool,
    pub(super) help: bool,
    /// More about the chosen line is shown.
    pub(super) open: bool,
    pub(super) data: Option<Data>,
    /// Why there is no newer answer.
    pub(super) fault: Option<String>,
    /// The lines of the page, as they are shown.
    pub(super) lines: Vec<Line>,
}

impl Screen {
    pub(super) fn new(address: &str) -> Self {
        let view = |page: Page| {
            let (column, largest_first) = page.order();
            View { column, largest_first, chosen: (String::new(), 0) }
        };
        Self {
            address: safe(address),
            page: Page::Nodes,
            views: Page::ALL.map(view),
            words: String::new(),
            typing: false,
            held: false,
            help: false,
            open: false,
            data: None,
            fault: None,
            lines: Vec::new(),
        }
    }

    /// Takes an answer, or why there is none: then the last one stays.
    pub(super) fn take(&mut self, answer: Result<Data, String>) {
        match answer {
            Err(why) => self.fault = Some(safe(&why)),
            Ok(data) => {
                self.fault = None;
                if !self.held {
                    self.data = Some(data);
                    self.arrange();
                }
            }
        }
    }

    /// True when it is over.
    pub(super) fn press(&mut self, key: Key) -> bool {
        if key == Key::Quit {
            return true;
        }
        if self.typing {
            self.write(key);
        } else if self.help {
            self.help = false;
        } else if key == Key::Letter('q') {
            return true;
        } else {
            self.steer(key);
        }
        self.arrange();
        false
    }

    fn write(&mut self, key: Key) {
        match key {
            Key::Letter(letter) => self.words.push(letter),
            Key::Erase => {
                self.words.pop();
            }
            Key::Back => {
                self.words.clear();
                self.typing = false;
            }
            Key::Move(by) => self.choose(by),
            Key::Enter | Key::Next | Key::Previous | Key::Quit => self.typing = false,
        }
    }

    fn steer(&mut self, key: Key) {
        let pages = Page::ALL.len();
        match key {
            Key::Letter(digit @ '1'..='4') => {
                self.page = Page::ALL[digit as usize - '1' as usize];
            }
            Key::Next => self.page = Page::ALL[(self.page.number() + 1) % pages],
            Key::Previous => self.page = Page::ALL[(self.page.number() + pages - 1) % pages],
            Key::Move(by) => self.choose(by),
            Key::Letter('j') => self.choose(1),
            Key::Letter('k') => self.choose(-1),
            Key::Letter('/') => self.typing = true,
            Key::Letter('s') => {
                let columns = self.page.columns().len();
                let view = self.view_mut();
                view.column = (view.column + 1) % columns;
            }
            Key::Letter('r') => {
                let view = self.view_mut();
                view.largest_first = !view.largest_first;
            }
            Key::Letter('p' | ' ') => self.held = !self.held,
            Key::Letter('?' | 'h') => self.help = true,
            Key::Letter('t') => self.tasks(),
            Key::Enter => self.open = !self.open,
            Key::Back if self.open => self.open = false,
            Key::Back => self.words.clear(),
            Key::Letter(_) | Key::Erase | Key::Quit => {}
        }
    }

    /// The tasks of the chosen node or workload.
    fn tasks(&mut self) {
        if matches!(self.page, Page::Nodes | Page::Workloads)
            && let Some(line) = self.chosen().and_then(|at| self.lines.get(at))
        {
            self.words = format!("={}", safe(&line.key));
            self.page = Page::Tasks;
        }
    }

    fn view_mut(&mut self) -> &mut View {
        &mut self.views[self.page.number()]
    }

    /// The column that orders the page, and whether the largest comes first.
    pub(super) fn order(&self) -> (usize, bool) {
        let view = &self.views[self.page.number()];
        (view.column, view.largest_first)
    }

    fn arrange(&mut self) {
        let mut lines = self.data.as_ref().map(|data| self.page.lines(data)).unwrap_or_default();
        if !self.words.is_empty() {
            lines.retain(|line| line.has(&self.words));
        }
        let (column, largest_first) = self.order();
        order(&mut lines, column, largest_first);
        self.lines = lines;
        self.choose(0);
    }

    /// Where the chosen line is.
    pub(super) fn chosen(&self) -> Option<usize> {
        let (key, place) = &self.views[self.page.number()].chosen;
        let last = self.lines.len().checked_sub(1)?;
        Some(self.lines.iter().position(|line| line.key == *key).unwrap_or((*place).min(last)))
    }

    fn choose(&mut self, by: isize) {
        if let Some(now) = self.chosen() {
            let at = now.saturating_add_signed(by).min(self.lines.len() - 1);
            let key = self.lines[at].key.clone();
            self.view_mut().chosen = (key, at);
        }
    }

    /// The workload that is to be explained.
    pub(super) fn about(&self) -> Option<String> {
        if !self.open || self.page != Page::Workloads {
            return None;
        }
        Some(self.lines.get(self.chosen()?)?.key.clone())
    }

    /// More about the chosen line.
    pub(super) fn detail(&self) -> Vec<String> {
        let (Some(data), Some(at)) = (&self.data, self.chosen()) else { return Vec::new() };
        let key = &self.lines[at].key;
        let words = match self.page {
            Page::Nodes => node(data, key),
            Page::Workloads => match &data.explained {
                Some((name, words)) if name == key => words.lines().map(str::to_owned).collect(),
                _ => vec!["…".to_owned()],
            },
            Page::Tasks => task(data, key),
            Page::Decisions => decision(data, key),
        };
        words.iter().map(|line| safe(line)).collect()
    }
}

fn node(data: &Data, key: &str) -> Vec<String> {
    let Some(node) = data.nodes.iter().find(|node| node.name == *key) else { return Vec::new() };
    let list = |words: &[String]| if words.is_empty() { "none".to_owned() } else { words.join(" ") };
    let mut lines = vec![
        format!("{}: kernel {}, tier {}", node.name, node.kernel, node.tier),
        if node.acts {
            format!("its agent may act; launchers: {}", list(&node.launchers))
        } else {
            "its agent observes only".to_owned()
        },
        format!("measured by: {}", list(&node.features)),
    ];
    if let Some(drain) = &node.drain {
        lines.push(format!("to be empty, {} left: {}", drain.left, drain.why));
    }
    lines.extend(node.unavailable.iter().map(|not| format!("not measured: {}: {}", not.what, not.why)));
    if node.refused_samples > 0 {
        lines.push(format!("{} of its samples were refused", node.refused_samples));
    }
    lines
}

fn task(data: &Data, key: &str) -> Vec<String> {
    let is = |task: &&autoscaler::api::Task| format!("{}/{}", task.node, task.cgroup) == *key;
    let Some(task) = data.tasks.iter().find(is) else { return Vec::new() };
    let mut lines =
        vec![format!("{} on {}, cgroup {}; totals since its start:", task.name, task.node, task.cgroup)];
    lines.extend(task.totals.iter().map(|(name, total)| format!("{name:<36} {total:>20}")));
    lines
}

fn decision(data: &Data, key: &str) -> Vec<String> {
    let Some(d) = data.decisions.iter().find(|d| d.id == *key) else { return Vec::new() };
    let mut lines = vec![format!("{} {}: {}", moment(d.at_ms), d.workload, d.summary)];
    lines.extend(d.reasons.iter().map(|reason| format!("because {}", reason.text)));
    for part in &d.parts {
        let wish = part.wish.map_or_else(|| "no wish".to_owned(), |wish| format!("wishes {wish}"));
        lines.push(format!("{}: {wish}; {}", part.signal, part.detail));
    }
    lines.extend(d.binding.iter().map(|binding| format!("bound by {}", binding.text)));
    lines.extend(d.alternatives.iter().map(|other| format!("not {}: {}", other.replicas, other.why.text)));
    if let Some(predicted) = d.predicted {
        let seconds = predicted.after_ms / 1_000;
        lines.push(format!("expected after {seconds} s: use {:.0} %", predicted.utilisation * 100.0));
    }
    if let Some(realised) = d.realised {
        let seconds = realised.after_ms / 1_000;
        let use_ = realised.utilisation * 100.0;
        lines.push(format!("was after {seconds} s: use {use_:.0} %, {} serve", realised.serving));
    }
    lines
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
