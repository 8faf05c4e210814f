//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const AFTER: &str = "Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 conflict, 5 validation, 6 not authorised, \
    7 timeout or not converged, 8 unreachable, 10 changes present (plan --detailed-exitcode).";

/// See what a fleet uses, set targets, and learn why each change was made or not made.
#[derive(Debug, Parser)]
#[command(name = "trimtab", version, after_help = AFTER, propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// The autoscaler: http://ADDRESS or unix:PATH [default: a running one on this host, or http://127.0.0.1:7780].
    #[arg(long, global = true, env = "TRIMTAB_URL", hide_env_values = true)]
    pub(crate) url: Option<String>,
    /// Print data and errors only, no remarks on standard error.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run autoscaler and agent on this machine until Ctrl-C, and print the address of the dashboards.
    ///
    /// Nothing is installed, and nothing acts: the agent measures only. State, logs and both configurations are in one directory and stay there.
    /// As root it measures with kernel programs; as another user it sees what that user may see. For good, install the packages.
    Up(Up),
    /// List nodes, workloads, decisions, plans, revisions, tasks, the idle ledger, use over time, headroom, prices, or show the status.
    Get(Get),
    /// Say why: what was done, what was not, what blocks.
    Explain {
        #[command(subcommand)]
        what: Explained,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t = Output::Table, global = true)]
        output: Output,
    },
    /// Print what is recommended, as specifications.
    Export {
        #[command(subcommand)]
        what: Exported,
    },
    /// Live view of nodes, workloads and the busiest tasks.
    ///
    /// On a host without an autoscaler it shows what the host's agent measures.
    Top(Top),
    /// Check specification files, offline.
    Validate {
        #[command(flatten)]
        files: Files,
        /// How to print faults: table (for people) or json.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Show what applying specifications would change.
    Plan(Plan),
    /// Apply specifications.
    Apply(Apply),
    /// Set a part of a specification.
    Set {
        #[command(subcommand)]
        what: Settable,
    },
    /// Play recorded load with other settings: replicas, time above target, nodes, cost. Nothing is changed.
    ///
    /// The autoscaler hands what was recorded to the same parts that decide, once with the settings as they are and once as asked. Each
    /// column shows both: as they are -> as asked. What cannot be replayed says why.
    #[command(name = "what-if")]
    WhatIf(WhatIf),
    /// Bring an earlier specification into force again; `trimtab get revisions NAME` lists them.
    ///
    /// It is a new revision, and shows first what it changes. A workload that was withdrawn comes back so.
    Rollback(Rollback),
    /// Withdraw a specification; its tasks keep running and are left alone.
    Delete {
        #[command(subcommand)]
        what: Deletable,
    },
    /// Print the address of the dashboards with the session that lets the page change something.
    ///
    /// Whoever has the address can change what Trimtab does: send it as you would a password. The session is in the state directory of
    /// the autoscaler, which root and its own user may read; a new one is made at its next start when the file `session` is removed.
    Dashboard {
        /// State directory of the autoscaler [default: that of this host].
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
    },
    /// Let nodes in.
    Node {
        #[command(subcommand)]
        what: NodeCommand,
    },
    /// Stop all acting, or that on one workload; measuring goes on.
    Pause {
        /// One workload; without it all.
        workload: Option<String>,
        /// For how long (30m, 2h); without it until resumed.
        #[arg(long = "for", value_name = "DURATION")]
        for_: Option<String>,
        /// Why, for those who ask later.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let a recommended change of a cluster begin (mode recommend; `trimtab explain` shows it with its price).
    Approve {
        /// The workload.
        workload: String,
        /// Only if this decision is still the one that recommends something.
        #[arg(long, value_name = "ID")]
        decision: Option<String>,
    },
    /// Decline a recommended change of a cluster, or put it off: it is not offered again for a day, unless it becomes another change.
    Reject {
        /// The workload.
        workload: String,
        /// Put it off for so long instead (1h, 3d).
        #[arg(long = "for", value_name = "DURATION")]
        for_: Option<String>,
        /// Only if this decision is still the one that recommends something.
        #[arg(long, value_name = "ID")]
        decision: Option<String>,
        /// Why, for those who ask later.
        #[arg(long)]
        reason: String,
    },
    /// Take the change of a cluster that is on its way back, as far as it can be.
    Cancel {
        /// The workload.
        workload: String,
        /// Why, for those who ask later.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Act again.
    Resume {
        /// One workload; without it all.
        workload: Option<String>,
    },
    /// Empty a node: nothing starts there, and what runs there is started elsewhere before it ends there.
    ///
    /// It is refused when something could not leave now (no other node may start it, or acting is paused), and says what. The node
    /// stays empty until `trimtab uncordon NODE`. What Trimtab did not start is left alone.
    Drain(Drain),
    /// Let replicas start on a node again.
    Uncordon {
        /// Its name.
        node: String,
    },
    /// Run the journal again, offline, and compare each plan bit for bit.
    Replay {
        /// A state directory or a copy of its trimtab.db [default: that of this host].
        path: Option<PathBuf>,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Play a scoring game with the autoscaler's own core: JSON lines on standard input and output.
    Simulate {
        /// Speak on standard input and output (the only way there is).
        #[arg(long, required = true)]
        stdio: bool,
    },
    /// Check this host and the autoscaler; each finding says what to do.
    Doctor {
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a completion script.
    Completions {
        /// For which shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all of them.
    Man {
        /// Write one page per command there.
        directory: Option<PathBuf>,
    },
    /// Print the version.
    Version {
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Machines with an agent.
    #[value(alias = "node")]
    Nodes,
    /// What is scaled.
    #[value(alias = "workload")]
    Workloads,
    /// Acts and non-acts with their reasons.
    #[value(alias = "decision")]
    Decisions,
    /// Acts only.
    #[value(alias = "plan")]
    Plans,
    /// What was asked of a workload before (name it), newest first.
    #[value(alias = "revision")]
    Revisions,
    /// Tasks with their use.
    #[value(alias = "task")]
    Tasks,
    /// Members of YARN, HDFS and Cassandra clusters that agents report.
    #[value(alias = "member")]
    Members,
    /// Containers with what all their cgroups use.
    #[value(alias = "container")]
    Containers,
    /// Idle capacity by cause, minute by minute.
    Idle,
    /// Whether the loss of a node or a rack is survived, and what has room.
    Headroom,
    /// What the fleet had, used and left idle, by cause, over hours and weeks (--for).
    Usage,
    /// What capacity costs.
    #[value(alias = "price")]
    Prices,
    /// Whether it acts, is paused or frozen.
    Status,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For people with room.
    Wide,
    /// A versioned contract.
    Json,
    /// The same as YAML.
    Yaml,
    /// For spreadsheets.
    Csv,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Where state, logs and configurations are kept [default: $XDG_STATE_HOME/trimtab/up, or ~/.local/state/trimtab/up].
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Where the dashboards listen, on loopback [default: 127.0.0.1:7780, or another port when that is taken].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) api: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// What.
    #[arg(value_enum)]
    pub(crate) kind: Kind,
    /// Only this one.
    pub(crate) name: Option<String>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Print again whenever it has changed, until interrupted.
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Only of this workload (decisions, plans, tasks).
    #[arg(long)]
    pub(crate) workload: Option<String>,
    /// Only on this node (tasks).
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// Tasks that ended, with their final totals (tasks).
    #[arg(long)]
    pub(crate) ended: bool,
    /// How far back (usage): 1h, 24h, 7d, 30d or any other time from 10m to 400d [default: 24h].
    #[arg(long = "for", value_name = "DURATION")]
    pub(crate) for_: Option<String>,
    /// At most so many.
    #[arg(long)]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Explained {
    /// Why a workload is as it is.
    Workload {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Exported {
    /// The specification of each workload of which another size or number of replicas is recommended than it has, with that in it.
    ///
    /// A recommended number becomes a bound: the minimum when it is more than now, the maximum when it is fewer. Look at them, and
    /// apply what you want: trimtab export recommendations > more.yaml; trimtab plan -f more.yaml
    Recommendations {
        /// How to print them: yaml or json.
        #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
        output: Output,
    },
    /// The JSON Schema of specifications, for editors: they complete and check what is written.
    Schema,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Time between two views, in seconds.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) interval: u64,
    /// Tasks to show.
    #[arg(long, default_value_t = 15)]
    pub(crate) tasks: usize,
    /// Ask this host's agent, not an autoscaler.
    #[arg(long, conflicts_with = "url")]
    pub(crate) agent: bool,
}

/// Specifications, with `-f` before them as other tools have it, or without.
#[derive(Debug, Args)]
pub(crate) struct Files {
    /// Files or directories; `-` is standard input.
    #[arg(required_unless_present = "file", value_name = "FILE")]
    plain: Vec<PathBuf>,
    /// The same, as other tools have it.
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,
}

impl Files {
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.plain.iter().chain(&self.file).cloned().collect()
    }
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) files: Files,
    /// Exit with 10 when something would change.
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,
    /// How to print it: table (a comparison) or json.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) files: Files,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Wait until as many replicas are up as are wanted.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait, in seconds.
    #[arg(long, default_value_t = 300)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct WhatIf {
    /// These workloads; without a name all.
    pub(crate) workloads: Vec<String>,
    /// Another target or bound: cpu=SHARE, queue=DURATION, min=N, max=N; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) target: Vec<String>,
    /// More or less load than was recorded (+20%, -10%).
    #[arg(long, value_name = "CHANGE", allow_hyphen_values = true)]
    pub(crate) load: Option<String>,
    /// Another setting of risk: 1% saves most, 100% is most cautious.
    #[arg(long, value_name = "SHARE")]
    pub(crate) risk: Option<String>,
    /// Give each replica what one used at its peak, and so much more (20%).
    #[arg(long, value_name = "SHARE")]
    pub(crate) headroom: Option<String>,
    /// Lose so many nodes, those with most room: what does not fit any more?
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) lose: u32,
    /// Count nodes of another type: cpus=8,memory=32Gi, and price=0.4 for an hour of one.
    #[arg(long, value_name = "TYPE")]
    pub(crate) node_type: Option<String>,
    /// How far back recorded load is played (10m to 31d).
    #[arg(long = "for", value_name = "DURATION", default_value = "24h")]
    pub(crate) for_: String,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The workload.
    pub(crate) name: String,
    /// The revision to go back to.
    #[arg(long, value_name = "N")]
    pub(crate) to: i64,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Show what would change, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Settable {
    /// Set target, bounds or mode: cpu=65% queue=20ms min=2 max=20 mode=auto.
    Target(Target),
}

#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The workload.
    pub(crate) name: String,
    /// cpu=SHARE, queue=DURATION, min=N, max=N, mode=observe|recommend|auto; an empty value removes a target.
    #[arg(required = true, value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Show what would change, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Make a token with which the agent of a node joins: good once, for 15 minutes, for this name only.
    ///
    /// The token goes to standard output, the command for the node to standard error. An unused token for the same name is
    /// replaced. Whoever has the token can join as that node: send it as you would a password.
    JoinToken {
        /// The node's name: its host name, or `node` in its agent.toml.
        name: String,
        /// How to print it: table (the token alone) or json.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// Its name.
    pub(crate) node: String,
    /// Only say what keeps it, what emptying it takes, and what could not leave.
    #[arg(long, conflicts_with_all = ["reason", "partly", "wait", "timeout"])]
    pub(crate) dry_run: bool,
    /// How to print that: table, wide, json, yaml, csv.
    #[arg(short, long, value_enum, default_value_t = Output::Table, requires = "dry_run")]
    pub(crate) output: Output,
    /// Why, for those who ask later.
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
    /// Begin also when something could not leave now: it stays until it can.
    #[arg(long)]
    pub(crate) partly: bool,
    /// Wait until nothing is left there.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait, in seconds.
    #[arg(long, default_value_t = 300)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Deletable {
    /// A workload's specification.
    Workload {
        /// Its name.
        name: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// The price table: nothing is shown as money then.
    Prices {
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}
