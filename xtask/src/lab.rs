//! `cargo xtask lab`: real Hadoop, Cassandra and Rails on loopback, to develop and to test against.
//!
//! Every daemon is one process in a session of its own, and in a cgroup of its own where one can be made. State is below one directory; what is
//! fetched is kept outside the checkout. Only processes that this command recorded are ended, each known by its id and the time it was
//! started at.
//!
//! | module | question |
//! |---|---|
//! | [`jars`] | where do the programs come from? |
//! | [`daemon`] | how does a process start, and how does it end? |
//! | [`disk`] | what do they write to, where it matters how full that is? |
//! | [`hadoop`], [`cassandra`], [`rails`] | what is a cluster of that kind, and when is it ready? |
//! | [`agent`] | how does an agent get to know them? |
//! | [`half`] | on which CPUs may they run, where the machine is to be halved? |
//! | [`cql`] | how is a ring asked? |

mod agent;
mod cassandra;
pub(crate) mod cql;
mod daemon;
mod disk;
mod hadoop;
mod half;
mod jars;
mod rails;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use cassandra::Cassandra;
use hadoop::Hadoop;
use rails::Rails;

pub(crate) use daemon::become_program;
pub(crate) use hadoop::{data_nodes, resource_manager};
pub(crate) use half::{Half, on};

/// Options of `cargo xtask lab`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory of the labs' state.
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// ResourceManager, NameNode, and workers of a NodeManager and a DataNode each (about 0.5 GB, and 0.35 GB a worker).
    Hadoop {
        /// Workers, 0 to 9; without any, an agent can start them by launchers.
        #[arg(default_value_t = 3)]
        workers: u32,
    },
    /// A ring of nodes on 127.0.0.1 and up (about 0.5 GB each).
    Cassandra {
        /// Nodes, 1 to 9.
        #[arg(default_value_t = 3)]
        nodes: u32,
    },
    /// Puma replicas of the demo's shop behind HAProxy.
    Rails {
        /// Replicas, 1 to 9.
        #[arg(default_value_t = 2)]
        replicas: u32,
    },
    /// All three, as large as they are by default.
    All,
    /// What runs, and where it answers.
    Status,
    /// End what runs.
    Down {
        /// Remove data, configuration and logs, too.
        #[arg(long)]
        wipe: bool,
    },
}

/// The cgroup of the lab in a directory, on the unified hierarchy: two labs do not end each other's processes.
fn slice(mount: &Path, directory: &Path) -> PathBuf {
    let digest = Sha256::digest(directory.as_os_str().as_encoded_bytes());
    mount.join(format!("trimtab-lab-{:02x}{:02x}{:02x}.slice", digest[0], digest[1], digest[2]))
}

/// Members of a lab that have addresses and ports.
const MOST: u32 = 9;
/// The file that says that a directory is ours.
const MARK: &str = "lab";

pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    let directory = args.dir.clone().unwrap_or_else(|| std::env::temp_dir().join("trimtab-lab"));
    let needs_one = matches!(args.command, Command::Status | Command::Down { .. });
    if needs_one && !directory.join(MARK).exists() {
        println!("no lab in {} (cargo xtask lab --help)", directory.display());
        return Ok(());
    }
    let lab = Lab::open(&directory, root)?;
    match args.command {
        Command::Hadoop { workers } => lab.hadoop()?.up(workers)?,
        Command::Cassandra { nodes } => lab.cassandra()?.up(nodes)?,
        Command::Rails { replicas } => lab.rails()?.up(replicas)?,
        Command::All => {
            lab.rails()?.up(2)?;
            lab.hadoop()?.up(3)?;
            lab.cassandra()?.up(3)?;
        }
        Command::Status => {}
        Command::Down { wipe } => return lab.down(wipe),
    }
    lab.show()
}

/// A cluster of one kind that was started.
trait Cluster {
    /// Ends its daemons in the order that loses nothing.
    fn down(&self) -> Result<()>;
    /// Gives back what is no file below its directory.
    fn forget(&self) -> Result<()> {
        Ok(())
    }
    /// A line for each daemon that runs, and where it answers.
    fn shown(&self) -> Result<Vec<String>>;
    /// What an agent beside it has to know.
    fn for_agent(&self) -> Result<agent::Part> {
        Ok(agent::Part::default())
    }
}

/// Which clusters a test needs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clusters {
    /// Workers of Hadoop; 0 = its masters alone.
    pub(crate) workers: Option<u32>,
    /// Nodes of Cassandra; 0 = none.
    pub(crate) nodes: u32,
    /// CPUs that Hadoop's daemons may run on, and those that Cassandra may; absent = all.
    pub(crate) halves: Option<[Half; 2]>,
}

/// Starts clusters anew in a directory: nothing is left of what was there.
///
/// # Errors
/// When one does not start.
pub(crate) fn fresh(directory: &Path, root: &Path, clusters: &Clusters) -> Result<()> {
    wipe(directory, root)?;
    let lab = Lab::open(directory, root)?;
    let [hadoop, cassandra] = clusters.halves.map_or([None, None], |halves| halves.map(Some));
    if let Some(workers) = clusters.workers {
        on(hadoop, || lab.hadoop()?.up(workers))?;
    }
    if clusters.nodes > 0 {
        on(cassandra, || lab.cassandra()?.up(clusters.nodes))?;
    }
    lab.show()
}

/// The sections by which an agent's configuration knows the clusters in a directory, and the directory of its launchers.
///
/// # Errors
/// When no clusters were started there.
pub(crate) fn for_agent(directory: &Path) -> Result<(String, PathBuf)> {
    let agent = directory.join("agent");
    let file = agent.join("agent.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let sections = text.find("\n[[").and_then(|at| text.get(at..)).unwrap_or_default();
    Ok((sections.to_owned(), agent.join("launch.d")))
}

/// A client of the Hadoop cluster in a directory.
///
/// # Errors
/// When there is none.
pub(crate) fn hadoop_client(directory: &Path, arguments: &[&str]) -> Result<std::process::Command> {
    Ok(Hadoop::open(directory, None)?.client(arguments))
}

/// Ends what runs in a directory; files stay.
///
/// # Errors
/// When something does not end.
pub(crate) fn end(directory: &Path, root: &Path) -> Result<()> {
    Lab::open(directory, root)?.down(false)
}

/// Ends what runs in a directory and removes it.
///
/// # Errors
/// When something does not end.
pub(crate) fn wipe(directory: &Path, root: &Path) -> Result<()> {
    if directory.join(MARK).exists() { Lab::open(directory, root)?.down(true) } else { Ok(()) }
}

/// The labs below one directory.
struct Lab {
    directory: PathBuf,
    root: PathBuf,
    slice: Option<PathBuf>,
    /// One command at a time.
    _lock: Flock<fs::File>,
}

impl Lab {
    fn open(directory: &Path, root: &Path) -> Result<Self> {
        if !directory.join(MARK).exists() {
            let empty = fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none());
            ensure!(empty, "{} is there and is no lab of this command", directory.display());
            fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
            fs::write(
                directory.join(MARK),
                "made by cargo xtask lab; removed by cargo xtask lab down --wipe\n",
            )?;
        }
        let directory = fs::canonicalize(directory)?;
        let lock = fs::File::open(directory.join(MARK))?;
        let lock =
            Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error).with_context(
                || format!("another command works on the lab in {}: wait for it", directory.display()),
            )?;
        // Without the right to make cgroups the daemons run where this command does.
        let slice = crate::cgroup::unified_mount().ok().map(|mount| slice(&mount, &directory));
        let slice = slice.filter(|slice| fs::create_dir_all(slice).is_ok());
        if slice.is_none() {
            println!("    no cgroup can be made here: the daemons run in this one");
        }
        Ok(Self { directory, root: root.to_owned(), slice, _lock: lock })
    }

    fn hadoop(&self) -> Result<Hadoop> {
        Hadoop::open(&self.directory, self.slice.clone())
    }

    fn cassandra(&self) -> Result<Cassandra> {
        Cassandra::open(&self.directory, self.slice.clone())
    }

    fn rails(&self) -> Result<Rails> {
        Rails::open(&self.directory, self.slice.clone(), &self.root)
    }

    /// The clusters that were ever started here.
    fn clusters(&self) -> Result<Vec<Box<dyn Cluster>>> {
        let has = |kind: &str| self.directory.join(kind).exists();
        let mut clusters: Vec<Box<dyn Cluster>> = Vec::new();
        if has("rails") {
            clusters.push(Box::new(self.rails()?));
        }
        if has("hadoop") {
            clusters.push(Box::new(self.hadoop()?));
        }
        if has("cassandra") {
            clusters.push(Box::new(self.cassandra()?));
        }
        Ok(clusters)
    }

    fn show(&self) -> Result<()> {
        let mut lines = Vec::new();
        for cluster in self.clusters()? {
            lines.extend(cluster.shown()?);
        }
        for line in &lines {
            println!("{line}");
        }
        if lines.is_empty() {
            println!("nothing runs (cargo xtask lab --help)");
            return Ok(());
        }
        let directory = self.directory.display();
        println!("logs and state: {directory}; end it: cargo xtask lab --dir {directory} down");
        let parts: Vec<_> =
            self.clusters()?.iter().map(|cluster| cluster.for_agent()).collect::<Result<_>>()?;
        if parts.iter().any(|part| !part.sections.is_empty()) {
            let file = agent::write(&self.directory, &parts)?;
            println!("an agent that knows them: trimtab-agent run --config {}", file.display());
        }
        Ok(())
    }

    fn down(&self, wipe: bool) -> Result<()> {
        let clusters = self.clusters()?;
        for cluster in &clusters {
            cluster.down()?;
        }
        if let Some(slice) = &self.slice {
            crate::cgroup::end_slice(slice);
        }
        if wipe {
            for cluster in &clusters {
                cluster.forget()?;
            }
            fs::remove_dir_all(&self.directory)
                .with_context(|| format!("removing {}", self.directory.display()))?;
        }
        println!("==> down");
        Ok(())
    }
}
