//! Rails on loopback: Puma replicas of the demo's shop behind HAProxy, without anybody who scales them.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::MOST;
use super::daemon::{Daemons, Wanted, until};
use crate::up::install;

/// Users' side, replicas (and, a hundred above, their control ports).
const FRONT: u16 = 8480;
const REPLICAS: u16 = 8500;
const TOKEN: &str = "lab";
const THREADS: u32 = 3;
const START: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(15);

/// The shop below one directory.
pub(super) struct Rails {
    directory: PathBuf,
    demo: PathBuf,
    daemons: Daemons,
}

impl Rails {
    /// # Errors
    /// When packages cannot be had.
    pub(super) fn open(directory: &Path, slice: Option<PathBuf>, root: &Path) -> Result<Self> {
        let directory = directory.join("rails");
        let daemons = Daemons::open(&directory.join("pids"), slice.map(|slice| slice.join("rails")))?;
        Ok(Self { directory, demo: root.join("xtask/demo"), daemons })
    }

    /// Starts what does not run, and waits until every replica answers.
    pub(super) fn up(&self, replicas: u32) -> Result<()> {
        ensure!((1..=MOST).contains(&replicas), "{replicas} replicas: 1 to {MOST} are possible");
        install::packages()?;
        let app = self.directory.join("app");
        for directory in [&app, &self.directory.join("log")] {
            fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        }
        for file in ["config.ru", "puma.rb", "seed.rb"] {
            fs::copy(self.demo.join(file), app.join(file))?;
        }
        self.seed(&app)?;
        let mut needed = Vec::new();
        for n in 1..=replicas {
            let mut puma = Command::new("puma");
            puma.current_dir(&app).arg("-C").arg(app.join("puma.rb"));
            puma.env("DATABASE", app.join("shop.db")).env("PORT", port(n).to_string());
            puma.env("CONTROL_PORT", (port(n) + 100).to_string()).env("WORKERS", "1");
            puma.env("THREADS", THREADS.to_string()).env("TOKEN", TOKEN);
            needed.push(self.start(&format!("puma{n}"), puma)?);
        }
        for n in 1..=replicas {
            let url = format!("http://127.0.0.1:{}/up", port(n));
            until(&format!("replica {n}"), START, &needed, || ureq::get(&url).call().ok())?;
        }
        self.balance(replicas)?;
        println!("==> rails: {replicas} replicas behind http://127.0.0.1:{FRONT}");
        Ok(())
    }

    fn start(&self, name: &str, command: Command) -> Result<(super::daemon::Record, PathBuf)> {
        let log = self.directory.join("log").join(format!("{name}.log"));
        Ok((self.daemons.start(&Wanted { name, command, log: log.clone() })?, log))
    }

    fn seed(&self, app: &Path) -> Result<()> {
        let database = app.join("shop.db");
        if database.exists() {
            return Ok(());
        }
        let new = app.join("shop.db.new");
        let _ = fs::remove_file(&new);
        let status =
            Command::new("ruby").arg(app.join("seed.rb")).arg(&new).status().context("running ruby")?;
        ensure!(status.success(), "the database could not be made");
        Ok(fs::rename(new, database)?)
    }

    /// HAProxy knows the replicas of its configuration: it is started anew when their number changes.
    fn balance(&self, replicas: u32) -> Result<()> {
        let file = self.directory.join("haproxy.cfg");
        let text = self.configuration(replicas);
        if fs::read_to_string(&file).is_ok_and(|there| there != text) {
            self.daemons.stop("haproxy", STOP)?;
        }
        fs::write(&file, text)?;
        let mut haproxy = Command::new("/usr/sbin/haproxy");
        haproxy.arg("-db").arg("-f").arg(&file);
        let started = self.start("haproxy", haproxy)?;
        until("HAProxy", START, &[started], || TcpStream::connect(("127.0.0.1", FRONT)).ok())?;
        Ok(())
    }

    fn configuration(&self, replicas: u32) -> String {
        let mut servers = String::new();
        for n in 1..=replicas {
            // Writing to a String cannot fail.
            let _ = writeln!(
                servers,
                "  server web-{n} 127.0.0.1:{} maxconn {THREADS} check port {} inter 1s",
                port(n),
                port(n) + 100
            );
        }
        format!(
            "global\n  stats socket {}/haproxy.sock mode 600 level admin\n  maxconn 4000\n\n\
             defaults\n  mode http\n  option http-keep-alive\n  option redispatch\n  retries 3\n  timeout connect 5s\n  \
             timeout client 60s\n  timeout server 60s\n  timeout queue 30s\n\n\
             frontend front\n  bind 127.0.0.1:{FRONT}\n  http-request set-header X-Request-Start t=%[date(0,ms)]\n  \
             default_backend web\n\n\
             backend web\n  balance leastconn\n  option httpchk GET /stats?token={TOKEN}\n{servers}",
            self.directory.display()
        )
    }
}

impl super::Cluster for Rails {
    fn down(&self) -> Result<()> {
        // Its name comes first.
        for name in self.daemons.recorded()? {
            self.daemons.stop(&name, STOP)?;
        }
        Ok(())
    }

    fn shown(&self) -> Result<Vec<String>> {
        self.daemons.shown(|name| {
            let n = name.strip_prefix("puma").and_then(|n| n.parse().ok());
            format!("http://127.0.0.1:{}", n.map_or(FRONT, port))
        })
    }
}

fn port(n: u32) -> u16 {
    REPLICAS + u16::try_from(n).unwrap_or(0)
}
