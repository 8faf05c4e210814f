//! `trimtab top`: nodes, workloads, tasks and decisions on the whole screen; once, as text, when nobody watches.
//!
//! | module | question |
//! |---|---|
//! | [`data`] | what is asked, and of whom? |
//! | [`agent`] | what does an agent say where there is no autoscaler? |
//! | [`list`] | which lines does a page have, in which order? |
//! | [`screen`] | what does a key change? |
//! | [`draw`] | how does it look? |

mod agent;
mod data;
mod draw;
mod list;
mod screen;

use std::fmt::Write as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::arguments::Top;
use crate::failure::Failure;
use crate::get::{node_rows, workload_rows};
use crate::output::{self, Rows, bytes, moment, number, percent};
use data::{Data, Fleet, Source};
use screen::{Key, Screen};

/// Longest time until something new is shown after it came.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) fn run(url: Option<&str>, top: &Top) -> Result<(), Failure> {
    // A fault of the first question is said as for other commands, and the terminal stays as it is.
    let (mut source, first) = Source::open(url, top.agent)?;
    if !output::on_terminal() {
        return output::print(&text(&first, top.tasks));
    }
    let mut screen = Screen::new(source.address());
    screen.take(Ok(first));
    let (questions, asked) = channel();
    let (answers, answered) = channel();
    let interval = Duration::from_secs(top.interval);
    // It ends with the process: it may be waiting for an answer then.
    std::thread::spawn(move || ask_again(&mut source, interval, &asked, &answers));
    let mut terminal = ratatui::try_init()?;
    let ended = watch(&mut terminal, &mut screen, &questions, &answered);
    ratatui::try_restore()?;
    ended
}

/// Asks at each interval, and at once when something else is wanted.
fn ask_again(
    source: &mut Source,
    interval: Duration,
    wanted: &Receiver<Option<String>>,
    answers: &Sender<Result<Data, Failure>>,
) {
    use std::sync::mpsc::RecvTimeoutError;
    let mut about = None;
    loop {
        match wanted.recv_timeout(interval) {
            Ok(workload) => about = workload,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if answers.send(source.ask(about.as_deref())).is_err() {
            return;
        }
    }
}

fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    screen: &mut Screen,
    questions: &Sender<Option<String>>,
    answered: &Receiver<Result<Data, Failure>>,
) -> Result<(), Failure> {
    let coloured = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (mut last, mut about) = (Instant::now(), None);
    loop {
        for answer in answered.try_iter() {
            if answer.is_ok() {
                last = Instant::now();
            }
            screen.take(answer.map_err(|failure| failure.to_string()));
        }
        if screen.about() != about {
            about = screen.about();
            // The one who asks is gone only when the process ends.
            let _ = questions.send(about.clone());
        }
        terminal.draw(|frame| draw::draw(frame, screen, last.elapsed(), coloured))?;
        if event::poll(LOOK)?
            && let Event::Key(pressed) = event::read()?
            && let Some(key) = key(pressed)
            && screen.press(key)
        {
            return Ok(());
        }
    }
}

fn key(pressed: KeyEvent) -> Option<Key> {
    if pressed.kind == KeyEventKind::Release {
        return None;
    }
    Some(match pressed.code {
        KeyCode::Char('c' | 'd') if pressed.modifiers.contains(KeyModifiers::CONTROL) => Key::Quit,
        KeyCode::Char(letter) => Key::Letter(letter),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Back,
        KeyCode::Backspace => Key::Erase,
        KeyCode::Tab | KeyCode::Right => Key::Next,
        KeyCode::BackTab | KeyCode::Left => Key::Previous,
        KeyCode::Up => Key::Move(-1),
        KeyCode::Down => Key::Move(1),
        KeyCode::PageUp => Key::Move(-10),
        KeyCode::PageDown => Key::Move(10),
        KeyCode::Home => Key::Move(isize::MIN),
        KeyCode::End => Key::Move(isize::MAX),
        _ => return None,
    })
}

/// For pipes and files: the fleet in a line, and tables.
fn text(data: &Data, tasks: usize) -> String {
    let fleet = data.fleet();
    let Fleet { cpus, cpu_used, .. } = fleet;
    let idle = cpu_used.filter(|(_, of)| *of > 0.0).map(|(used, of)| 1.0 - used / of);
    let mut text = format!(
        "{}  {}  {} nodes, {cpus} CPUs, {} used, {} idle, {} tasks{}\n",
        moment(data.status.now_ms),
        data.status.state,
        data.nodes.len(),
        number(cpu_used.map(|(used, _)| used)),
        percent(idle),
        data.tasks.len(),
        fleet.idle_cost(data.prices.as_ref())
    );
    if let Some(why) = &data.status.frozen {
        let _ = writeln!(text, "frozen: {}", output::safe(why));
    }
    let _ = write!(text, "\n{}", node_rows(&data.nodes).table(false));
    if !data.workloads.is_empty() {
        let _ = write!(text, "\n{}", workload_rows(&data.workloads).table(false));
    }
    let mut busiest: Vec<_> = data.tasks.iter().collect();
    busiest.sort_by(|a, b| b.cpu_cores.unwrap_or(0.0).total_cmp(&a.cpu_cores.unwrap_or(0.0)));
    let mut rows = Rows::new(&[
        ("cpu", true, false),
        ("memory", true, false),
        ("node", false, false),
        ("kind", false, false),
        ("task", false, false),
    ]);
    for task in busiest.into_iter().take(tasks) {
        let name = task.task.as_ref().unwrap_or(&task.name);
        rows.push(vec![
            number(task.cpu_cores),
            bytes(task.memory_bytes),
            task.node.clone(),
            task.kind.clone(),
            name.clone(),
        ]);
    }
    let _ = write!(text, "\n{}", rows.table(false));
    text
}
