//! `cargo xtask metrics`: Grafana dashboards and alert rules, and whether they hold on a real Prometheus.
//!
//! | module | question |
//! |---|---|
//! | [`boards`] | which panels does each dashboard have? |
//! | [`dashboard`] | how does Grafana read them? |
//! | [`alerts`] | has each alert all that it must have? |
//! | [`prometheus`] | where does Prometheus come from, and how is it asked? |
//! | [`second`] | who has the series that a healthy fleet lacks? |
//! | [`live`] | what does a real one say, that scrapes real daemons? |
//! | [`written`] | is what was written to it what it scraped? |

mod alerts;
mod boards;
mod dashboard;
mod live;
mod prometheus;
mod second;
mod written;

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use prometheus::Programs;

/// Options of `cargo xtask metrics`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Instead of writing the dashboards anew, fail when they differ, and run each expression on a real Prometheus. Needs root, as the agent does.
    #[arg(long)]
    check: bool,
}

/// Writes the dashboards, or checks everything.
pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    if !args.check {
        for board in boards::ALL {
            let path = root.join(format!("dashboards/grafana/{}.json", board.name));
            fs::write(&path, board.text()).with_context(|| format!("writing {}", path.display()))?;
        }
        return Ok(());
    }
    boards_are_as_written(root)?;
    alerts::check(root)?;
    let programs = Programs::find()?;
    programs.check_rules(root)?;
    let bin = crate::up::prepare(root, true)?;
    let began = Instant::now();
    live::check(&programs, root, &bin)?;
    println!("    on a real Prometheus: {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

fn boards_are_as_written(root: &Path) -> Result<()> {
    let guide = fs::read_to_string(root.join("docs/grafana.md"))?;
    for board in boards::ALL {
        let file = format!("dashboards/grafana/{}.json", board.name);
        let committed = fs::read_to_string(root.join(&file)).unwrap_or_default();
        ensure!(committed == board.text(), "{file} is out of date: `cargo xtask metrics` writes it anew");
        ensure!(
            guide.contains(board.question),
            "docs/grafana.md does not say what {file} answers: {}",
            board.question
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_committed_dashboards_and_alerts_are_whole() {
        boards_are_as_written(&crate::root()).unwrap();
        alerts::check(&crate::root()).unwrap();
    }

    #[test]
    fn each_panel_says_what_it_is_for_and_fits_the_grid() {
        for board in boards::ALL {
            let mut titles = BTreeSet::new();
            for panel in board.panels {
                assert!(titles.insert(panel.title), "{} has {} twice", board.name, panel.title);
                assert!(
                    !panel.queries.is_empty() && panel.why.len() > 8 && panel.why.ends_with('.'),
                    "{}",
                    panel.title
                );
                assert!((1..=24).contains(&panel.width), "{}", panel.title);
                for (expr, ..) in panel.queries {
                    let asked = board.variable.is_none_or(|(name, _)| expr.contains(&format!("\"${name}\"")));
                    assert!(asked, "{} of {} shows more than what was chosen", panel.title, board.name);
                }
            }
        }
    }
}
