//! Developer commands: `cargo xtask <command>`.

mod bench;
mod cache;
mod cgroup;
mod codegen;
mod dist;
mod ebpf;
mod fuzz;
mod http;
mod interface;
mod lab;
mod lab_test;
mod metrics;
mod test;
mod tidy;
mod up;
mod vm;
mod web;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer commands of Trimtab.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure what is promised.
    #[command(subcommand)]
    Bench(bench::Command),
    /// Make the wire's Rust code from wire/proto.
    Codegen(codegen::Args),
    /// (internal) One process of a benchmark's population.
    #[command(hide = true)]
    BenchSleeper { awake: PathBuf },
    /// (internal) A short life in a cgroup.
    #[command(hide = true)]
    BenchBrief { cgroup: PathBuf, life_ms: u64 },
    /// (internal) A process of `bench colocate`.
    #[command(hide = true, subcommand)]
    BenchColocate(bench::ColocatePart),
    /// (internal) Becomes a daemon of the lab, in a cgroup.
    #[command(hide = true)]
    LabExec {
        cgroup: PathBuf,
        program: std::ffi::OsString,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Hold what the description of the REST interface promises against a real autoscaler.
    ApiFuzz(interface::Args),
    /// Compare the description of the REST interface with that of the last release: nothing may break.
    ApiCompare(interface::compare::Args),
    /// Look for inputs that break what reads bytes from outside.
    Fuzz(fuzz::Args),
    /// Real Hadoop, Cassandra and Rails on loopback, to develop and test against.
    Lab(lab::Args),
    /// Show on real clusters what Trimtab does beside them.
    LabTest(lab_test::Args),
    /// Run all tests; this is what CI runs.
    Test(test::Args),
    /// Check imports, file sizes and lints.
    Tidy(tidy::Args),
    /// Write the Grafana dashboards; with --check, run them and the alert rules on a real Prometheus.
    Metrics(metrics::Args),
    /// Run everything on this machine: autoscaler, agent, HAProxy, a real Rails app, and a compressed day of load.
    Up(up::Args),
    /// Run suites on booted machines: systemd, cgroup v2, three kernels.
    Vm(vm::Args),
    /// Make Debian packages of the agent, the autoscaler and the command.
    Dist(dist::Args),
    /// Check, test and build the dashboards; the autoscaler that is built next has them in it.
    Web(web::Args),
    /// Build the kernel programs and put them where the agent embeds them.
    Ebpf(ebpf::Args),
}

/// The top of the checkout.
fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Bench(command) => bench::run(&command, &root()),
        Command::BenchColocate(part) => bench::colocate_part(part),
        Command::Codegen(args) => codegen::run(&args, &root()),
        Command::BenchSleeper { awake } => bench::sleeper(&awake),
        Command::BenchBrief { cgroup, life_ms } => bench::brief(&cgroup, life_ms),
        Command::ApiFuzz(args) => interface::run(&args, &root()),
        Command::ApiCompare(args) => interface::compare::run(&args, &root()),
        Command::Fuzz(args) => fuzz::run(&args, &root()),
        Command::Lab(args) => lab::run(&args, &root()),
        Command::LabTest(args) => lab_test::run(&args, &root()),
        Command::LabExec { cgroup, program, arguments } => lab::become_program(&cgroup, &program, &arguments),
        Command::Test(args) => test::run(&args, &root()),
        Command::Tidy(args) => tidy::run(&args, &root()),
        Command::Metrics(args) => metrics::run(&args, &root()),
        Command::Up(args) => up::run(&args, &root()),
        Command::Vm(args) => vm::run(&args, &root()),
        Command::Web(args) => web::run(&args, &root()),
        Command::Dist(args) => dist::run(&args, &root()),
        Command::Ebpf(args) => ebpf::run(&args, &root()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
