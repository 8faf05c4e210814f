//! Developer commands: `cargo xtask <command>`.

mod codegen;
mod ebpf;

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
    /// Make the wire's Rust code from wire/proto.
    Codegen(codegen::Args),
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
        Command::Codegen(args) => codegen::run(&args, &root()),
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
