//! How it looks.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Words, Span};
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, Row, Table, TableState, Wrap};

use super::data::Data;
use super::list::{Column, Line, Mood, Page, Value};
use super::screen::Screen;
use crate::output::{bytes, moment, number, safe};

/// Cells of a bar.
const BAR: usize = 8;
/// From this share on a bar is full, for people: as the dashboards say it.
const FULL: f64 = 0.9;
/// An answer that is older than this is called old.
const OLD: Duration = Duration::from_secs(15);

const HELP: &str = "\
1 2 3 4, Tab   nodes, workloads, tasks, decisions
up, down, j k  choose a line; PgUp PgDn Home End
Enter          more about it, and again: less
t              the tasks of the chosen node or workload
/              show only lines with these words, or =NAME; Esc: all again
s, r           order by the next column; the other way round
p, space       keep the view as it is; the fleet goes on
q, Ctrl-C      the end

A dash is not known: it is never 0.";

/// Colours, or what does without.
#[derive(Debug, Clone, Copy)]
struct Look {
    coloured: bool,
}

impl Look {
    fn colour(self, colour: Color) -> Style {
        if self.coloured { Style::new().fg(colour) } else { Style::new() }
    }

    fn mood(self, mood: Mood) -> Style {
        match mood {
            Mood::Calm => Style::new(),
            Mood::Notice => self.colour(Color::Yellow),
            Mood::Bad => self.colour(Color::Red).add_modifier(Modifier::BOLD),
        }
    }
}

/// Draws everything; `age` is that of the last answer.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen, age: Duration, coloured: bool) {
    let look = Look { coloured };
    let rows = [Constraint::Length(2), Constraint::Length(1), Constraint::Min(3), Constraint::Length(1)];
    let [head, tabs, body, foot] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Paragraph::new(header(screen, age, look)), head);
    frame.render_widget(Paragraph::new(pages(screen)), tabs);
    if screen.open {
        let [above, below] =
            Layout::vertical([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(body);
        table(frame, screen, above, look);
        let text: Vec<Words<'_>> = screen.detail().into_iter().map(Words::from).collect();
        let block = Block::new().borders(Borders::TOP).title(" more (Enter: less) ");
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }).block(block), below);
    } else {
        table(frame, screen, body, look);
    }
    frame.render_widget(Paragraph::new(footer(screen)), foot);
    if screen.help {
        let area = middle(frame.area(), 70, 12);
        frame.render_widget(Clear, area);
        frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title(" keys ")), area);
    }
}

fn middle(of: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(of.width), height.min(of.height));
    Rect::new(of.x + (of.width - width) / 2, of.y + (of.height - height) / 2, width, height)
}

fn header(screen: &Screen, age: Duration, look: Look) -> Vec<Words<'static>> {
    let Some(data) = &screen.data else { return vec![Words::from("waiting for the first answer")] };
    let fleet = data.fleet();
    let cost = fleet.idle_cost(data.prices.as_ref());
    let mut first = vec![
        state(data, look),
        Span::raw(format!("  {}  {} UTC{cost}", screen.address, moment(data.status.now_ms))),
    ];
    let bad = look.mood(Mood::Bad);
    if let Some(why) = &screen.fault {
        first.push(Span::styled(format!("  no answer for {} s: {why}", age.as_secs()), bad));
    } else if age > OLD {
        first.push(Span::styled(format!("  the last answer is {} s old", age.as_secs()), bad));
    }
    if screen.held {
        first.push(Span::styled("  view kept (p: go on)", look.mood(Mood::Notice)));
    }
    let part = |used: Option<(f64, f64)>| used.filter(|(_, of)| *of > 0.0).map(|(used, of)| used / of);
    let cpu = fleet.cpu_used.map(|(used, _)| used);
    let memory = fleet.memory_used.map(|(used, of)| (used as u64, of as u64)).unzip();
    let away = if fleet.away > 0 { format!(", {} away", fleet.away) } else { String::new() };
    let second = format!(
        "CPU {} {} of {} cores   memory {} {} of {}   {} nodes{away}, {} tasks",
        share(part(fleet.cpu_used)),
        number(cpu),
        fleet.cpus,
        share(part(fleet.memory_used)),
        bytes(memory.0),
        bytes(memory.1),
        data.nodes.len(),
        data.tasks.len()
    );
    vec![Words::from(first), Words::from(second)]
}

fn state(data: &Data, look: Look) -> Span<'static> {
    let mood = match data.status.state.as_str() {
        "acting" => Mood::Calm,
        "paused" => Mood::Notice,
        _ => Mood::Bad,
    };
    let why = data.status.frozen.as_ref().map(|why| format!(": {}", safe(why))).unwrap_or_default();
    Span::styled(format!("{}{why}", data.status.state), look.mood(mood).add_modifier(Modifier::BOLD))
}

fn pages(screen: &Screen) -> Words<'static> {
    let mut words = Vec::new();
    for page in Page::ALL {
        let text = format!(" {} {} ", page.number() + 1, page.title());
        let here = if page == screen.page { Modifier::REVERSED } else { Modifier::empty() };
        words.push(Span::styled(text, Style::new().add_modifier(here)));
    }
    words.push(Span::raw(format!("  {} lines", screen.lines.len())));
    Words::from(words)
}

fn footer(screen: &Screen) -> Words<'static> {
    match (screen.typing, screen.words.is_empty()) {
        (true, _) => {
            Words::from(format!("only lines with: {}_   Enter: done   Esc: all", safe(&screen.words)))
        }
        (false, false) => {
            Words::from(format!("only lines with: {}   Esc: all   ?: keys   q: end", safe(&screen.words)))
        }
        (false, true) => Words::from(
            "Enter: more   t: its tasks   /: filter   s r: order   p: keep the view   ?: keys   q: end",
        ),
    }
}

fn table(frame: &mut Frame<'_>, screen: &Screen, area: Rect, look: Look) {
    let columns = screen.page.columns();
    let (ordered, largest_first) = screen.order();
    let title = |(at, column): (usize, &Column)| {
        let arrow = match (at == ordered, largest_first) {
            (false, _) => "",
            (true, true) => "↓",
            (true, false) => "↑",
        };
        aligned(column, format!("{}{arrow}", column.title))
    };
    let head = Row::new(columns.iter().enumerate().map(title).collect::<Vec<_>>())
        .style(Style::new().add_modifier(Modifier::BOLD));
    let rows = screen.lines.iter().map(|line| row(line, columns, look));
    let width = |column: &Column| match column.width {
        0 => Constraint::Fill(1),
        width => Constraint::Length(width),
    };
    let table = Table::new(rows, columns.iter().map(width))
        .header(head)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut TableState::new().with_selected(screen.chosen()));
}

fn aligned<'a>(column: &Column, text: String) -> Cell<'a> {
    let words = Words::from(text);
    Cell::new(if column.right { words.right_aligned() } else { words })
}

fn row<'a>(line: &Line, columns: &[Column], look: Look) -> Row<'a> {
    let cells = line.cells.iter().zip(columns).map(|(value, column)| match value {
        Value::Text(text) | Value::Number(_, text) => aligned(column, text.clone()),
        Value::Unknown => aligned(column, "-".to_owned()),
        Value::Share(part) => {
            let full = if *part >= FULL { look.mood(Mood::Bad) } else { Style::new() };
            aligned(column, share(Some(*part))).style(full)
        }
    });
    Row::new(cells.collect::<Vec<_>>()).style(look.mood(line.mood))
}

/// A bar and its number, or a dash.
fn share(part: Option<f64>) -> String {
    let Some(part) = part else { return "-".to_owned() };
    let filled = ((part.clamp(0.0, 1.0) * BAR as f64).round() as usize).min(BAR);
    format!("{}{} {:>3.0}%", "█".repeat(filled), "░".repeat(BAR - filled), part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_share_and_never_longer_than_whole() {
        assert_eq!(share(Some(0.5)), "████░░░░  50%");
        assert_eq!(share(Some(1.3)), "████████ 130%");
        assert_eq!(share(Some(0.0)), "░░░░░░░░   0%");
        assert_eq!(share(None), "-");
    }
}
