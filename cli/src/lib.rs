//! The operator's command: asks the REST interface, shows, changes. Data goes to standard output, everything else to
//! standard error; every fault says what to do next, and has its own exit code ([`failure`]).

mod arguments;
mod change;
mod client;
mod dashboard;
mod doctor;
#[cfg(test)]
mod documented;
mod explain;
mod export;
mod failure;
mod generate;
mod get;
mod headroom;
mod node;
mod output;
mod prices;
mod replay;
mod revisions;
pub mod simulate;
mod specs;
mod top;
mod up;
mod usage;
mod what_if;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use client::Client;
use failure::Failure;

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    output::quiet(arguments.quiet);
    match run(arguments) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("trimtab: {failure}");
            failure.code()
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let client = || Client::new(arguments.url.as_deref());
    let done = |()| ExitCode::SUCCESS;
    match arguments.command {
        Command::Get(get) => get::run(&client()?, &get).map(done),
        Command::Explain { what: arguments::Explained::Workload { name }, output } => {
            explain::run(&client()?, &name, output).map(done)
        }
        Command::Export { what: arguments::Exported::Recommendations { output } } => {
            export::recommendations(&client()?, output).map(done)
        }
        Command::Export { what: arguments::Exported::Schema } => output::print(model::spec::SCHEMA).map(done),
        Command::Top(top) => top::run(arguments.url.as_deref(), &top).map(done),
        Command::Up(up) => up::run(&up).map(done),
        Command::Validate { files, output } => specs::validate(&files.paths(), output).map(done),
        Command::Dashboard { state } => dashboard::run(arguments.url.as_deref(), state.as_deref()).map(done),
        Command::Plan(plan) => change::plan(&client()?, &plan),
        Command::Apply(apply) => change::apply(&client()?, &apply).map(done),
        Command::WhatIf(question) => what_if::run(&client()?, &question).map(done),
        Command::Rollback(rollback) => revisions::rollback(&client()?, &rollback).map(done),
        Command::Set { what: arguments::Settable::Target(target) } => {
            change::set_target(&client()?, &target).map(done)
        }
        Command::Delete { what: arguments::Deletable::Workload { name, yes } } => {
            change::delete(&client()?, &name, yes).map(done)
        }
        Command::Delete { what: arguments::Deletable::Prices { yes } } => {
            prices::delete(&client()?, yes).map(done)
        }
        Command::Node { what: arguments::NodeCommand::JoinToken { name, output } } => {
            node::join_token(&client()?, &name, output).map(done)
        }
        Command::Pause { workload, for_, reason } => {
            change::pause(&client()?, workload, for_, reason).map(done)
        }
        Command::Approve { workload, decision } => change::approve(&client()?, &workload, decision).map(done),
        Command::Reject { workload, for_, decision, reason } => {
            change::reject(&client()?, &workload, decision, reason, for_).map(done)
        }
        Command::Cancel { workload, reason } => change::cancel(&client()?, &workload, reason).map(done),
        Command::Drain(drain) => node::drain(&client()?, &drain).map(done),
        Command::Uncordon { node } => node::uncordon(&client()?, &node).map(done),
        Command::Resume { workload } => change::resume(&client()?, workload).map(done),
        Command::Replay { path, json } => replay::run(path.as_deref(), json),
        Command::Simulate { stdio: _ } => {
            simulate::run_stdio(std::io::stdin().lock(), std::io::stdout().lock()).map(done).map_err(
                |error| {
                    Failure::new(failure::Kind::Error, format!("{error:#}"))
                        .next("see that the game speaks the line protocol of the scoring harness")
                },
            )
        }
        Command::Doctor { json } => doctor::run(arguments.url.as_deref(), json),
        Command::Completions { shell } => generate::completions(shell).map(done),
        Command::Man { directory } => generate::man(directory.as_deref()).map(done),
        Command::Version { output } => generate::version(output).map(done),
    }
}
