use serde_json::{Value, json};

use super::super::draw;
use super::*;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

fn node(name: &str, cpu: Option<f64>, connected: bool) -> Value {
    json!({ "name": name, "connected": connected, "tier": "A", "acts": true, "cpus": 4, "cpuCores": cpu,
        "memoryTotalBytes": 8u64 << 30, "memoryBytes": cpu.map(|_| 2u64 << 30), "tasks": 3, "ageMs": 900,
        "kernel": "6.12", "boot": "00", "launchers": ["web"], "features": ["switch"],
        "unavailable": [{ "what": "stall", "why": "no PSI" }], "samples": 10, "refusedSamples": 0,
        "accountingErrorRatio": null })
}

fn task(node: &str, cgroup: u64, name: &str, cpu: Option<f64>) -> Value {
    json!({ "node": node, "cgroup": cgroup, "kind": "service", "name": name, "workload": null, "task": null,
        "cpuCores": cpu, "memoryBytes": 1u64 << 20, "runDelayMeanSeconds": null, "ageMs": 900,
        "totals": { "cpu_time_us": 123 } })
}

fn data(nodes: &[Value], tasks: &[Value]) -> Data {
    let of = |values: &[Value]| Value::Array(values.to_vec());
    Data {
        status: serde_json::from_value(
            json!({ "apiVersion": "trimtab/v1", "version": "1", "state": "acting",
            "frozen": null, "pauses": [], "epoch": 1, "agents": 1, "nowMs": 1_795_258_733_054u64 }),
        )
        .unwrap(),
        nodes: serde_json::from_value(of(nodes)).unwrap(),
        workloads: Vec::new(),
        tasks: serde_json::from_value(of(tasks)).unwrap(),
        decisions: Vec::new(),
        prices: None,
        explained: None,
    }
}

fn three() -> Data {
    let nodes = [node("a", Some(1.0), true), node("b", None, false), node("c", Some(3.8), true)];
    let tasks =
        [task("a", 1, "small", Some(0.1)), task("c", 2, "large", Some(3.0)), task("b", 3, "lost", None)];
    data(&nodes, &tasks)
}

fn screen(data: Data) -> Screen {
    let mut screen = Screen::new("http://127.0.0.1:7780");
    screen.take(Ok(data));
    screen
}

fn keys(screen: &Screen) -> Vec<&str> {
    screen.lines.iter().map(|line| line.key.as_str()).collect()
}

fn typed(screen: &mut Screen, text: &str) {
    for letter in text.chars() {
        assert!(!screen.press(Key::Letter(letter)), "{letter} ended it");
    }
}

/// What a terminal of this size shows.
fn shown(screen: &Screen, age: u64) -> String {
    let mut terminal = Terminal::new(TestBackend::new(110, 16)).unwrap();
    terminal.draw(|frame| draw::draw(frame, screen, Duration::from_secs(age), false)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let row = |y| (0..110).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..16).map(row).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_busiest_comes_first_and_the_unknown_last_in_either_order() {
    let mut screen = screen(three());
    assert_eq!(keys(&screen), ["c", "a", "b"]);
    screen.press(Key::Letter('r'));
    assert_eq!(keys(&screen), ["a", "c", "b"]);
}

#[test]
fn the_choice_stays_with_its_line_when_the_order_changes() {
    let mut screen = screen(three());
    screen.press(Key::Move(1));
    assert_eq!(screen.lines[screen.chosen().unwrap()].key, "a");
    let nodes = [node("a", Some(3.9), true), node("c", Some(0.1), true)];
    screen.take(Ok(data(&nodes, &[])));
    assert_eq!((keys(&screen), screen.chosen()), (vec!["a", "c"], Some(0)));
    // It is gone: the line in its place.
    screen.take(Ok(data(&nodes[1..], &[])));
    assert_eq!(screen.chosen(), Some(0));
    screen.take(Ok(data(&[], &[])));
    assert_eq!(screen.chosen(), None);
    for by in [1, -1, isize::MIN, isize::MAX] {
        screen.press(Key::Move(by));
    }
}

#[test]
fn words_leave_lines_that_have_them_and_escape_brings_all_back() {
    let mut screen = screen(three());
    typed(&mut screen, "3/LARGQ");
    assert!(screen.lines.is_empty());
    screen.press(Key::Erase);
    assert_eq!(keys(&screen), ["c/2"]);
    screen.press(Key::Enter);
    // No key of a word ends it; now one does.
    screen.press(Key::Back);
    assert_eq!(screen.lines.len(), 3);
    assert!(screen.press(Key::Letter('q')));
}

#[test]
fn from_a_node_to_its_tasks() {
    let mut screen = screen(three());
    typed(&mut screen, "t");
    assert_eq!((screen.page, keys(&screen)), (Page::Tasks, vec!["c/2"]));
    screen.press(Key::Enter);
    assert!(screen.detail().concat().contains("cpu_time_us"), "{:?}", screen.detail());
}

#[test]
fn a_kept_view_stays_as_it_is_and_no_answer_is_said_beside_the_last_one() {
    let mut screen = screen(three());
    typed(&mut screen, "p");
    screen.take(Ok(data(&[], &[])));
    assert_eq!(screen.lines.len(), 3);
    screen.take(Err("nobody listens\x1b[2J".to_owned()));
    let text = shown(&screen, 21);
    assert!(text.contains("no answer for 21 s: nobody listens") && text.contains("view kept"), "{text}");
    assert!(text.contains(" c ") || text.contains("\nc "), "{text}");
    typed(&mut screen, "p");
    screen.take(Ok(data(&[], &[])));
    assert!(screen.lines.is_empty() && screen.fault.is_none());
}

#[test]
fn names_from_outside_do_not_steer_the_terminal() {
    let hostile = "x\x1b[2J\u{202e}\ny";
    let mut screen = screen(data(&[node(hostile, Some(1.0), true)], &[task("n", 1, hostile, None)]));
    for page in ['1', '3'] {
        typed(&mut screen, &page.to_string());
        screen.open = true;
        let text = shown(&screen, 0);
        assert!(text.contains("x\u{fffd}[2J"), "{text}");
        assert!(!text.chars().any(|c| c == '\x1b' || c == '\u{202e}'), "{text}");
    }
}

#[test]
fn every_page_is_drawn_at_any_size() {
    let mut screen = screen(three());
    screen.open = true;
    screen.help = true;
    for (width, height) in [(1, 1), (5, 3), (40, 10), (300, 90)] {
        for page in ["1", "2", "3", "4"] {
            screen.help = !screen.help;
            typed(&mut screen, page);
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| draw::draw(frame, &screen, Duration::ZERO, true)).unwrap();
        }
    }
}

#[test]
fn nodes_look_like_this() {
    let mut screen = screen(three());
    screen.press(Key::Move(1));
    screen.press(Key::Enter);
    insta::assert_snapshot!(shown(&screen, 1));
}

#[test]
fn idle_capacity_is_money_only_at_prices_and_where_use_is_known() {
    let mut data = three();
    let cost = |data: &Data| data.fleet().idle_cost(data.prices.as_ref());
    assert_eq!(cost(&data), "", "nobody said a price");
    data.prices = serde_json::from_value(
        json!({ "apiVersion": "trimtab/v1", "name": "list", "currency": "EUR", "perCoreHour": 0.05,
        "perGibHour": 0.01, "appliedMs": 0, "revision": 1, "document": {} }),
    )
    .ok();
    // 3.2 cores and 12 GiB of two nodes; of the third nothing is known.
    assert_eq!(cost(&data), "   idle costs 0.28 EUR an hour");
    assert!(shown(&screen(data.clone()), 0).contains("idle costs 0.28 EUR an hour"));
    data.nodes.retain(|node| node.cpu_cores.is_none());
    assert_eq!(cost(&data), "");
}
