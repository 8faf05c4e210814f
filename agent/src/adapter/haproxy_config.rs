//! HAProxy's own file: servers that were added at run time are written there too, so that a reload keeps them. It is
//! replaced as a whole, and only by what HAProxy itself calls good.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_core::haproxy::config::with_server;
use tokio::process::Command;
use tokio::sync::Mutex;

/// Longest that HAProxy may take to check a file.
const CHECK: Duration = Duration::from_secs(20);

/// The file, which one step at a time changes.
#[derive(Clone)]
pub(super) struct ConfigFile(Arc<Mutex<Place>>);

struct Place {
    file: PathBuf,
    program: PathBuf,
}

impl ConfigFile {
    pub(super) fn new(file: PathBuf, program: PathBuf) -> Self {
        Self(Arc::new(Mutex::new(Place { file, program })))
    }

    /// Sets the line of a server to `arguments`, or removes it. `Err` says why the file is as it was.
    pub(super) async fn set(
        &self,
        backend: &str,
        server: &str,
        arguments: Option<&str>,
    ) -> Result<(), String> {
        let place = self.0.lock().await;
        let named = |e: std::io::Error| format!("{}: {e}", place.file.display());
        let text = fs::read_to_string(&place.file).map_err(named)?;
        let new = with_server(&text, backend, server, arguments)
            .map_err(|e| format!("{}: {e}", place.file.display()))?;
        if new == text {
            return Ok(());
        }
        let beside = place.file.with_extension("trimtab-new");
        let written = place.write_beside(&beside, &new).map_err(|e| format!("{}: {e}", beside.display()));
        let good = match written {
            Ok(()) => place.check(&beside).await,
            Err(why) => Err(why),
        };
        let replaced = good.and_then(|()| fs::rename(&beside, &place.file).map_err(named));
        if replaced.is_err() {
            let _ = fs::remove_file(&beside);
        }
        replaced
    }
}

impl Place {
    fn write_beside(&self, beside: &PathBuf, text: &str) -> std::io::Result<()> {
        let mut file = fs::File::create(beside)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(fs::metadata(&self.file)?.permissions())?;
        file.sync_all()
    }

    async fn check(&self, file: &PathBuf) -> Result<(), String> {
        let program = self.program.display();
        let mut command = Command::new(&self.program);
        command.arg("-c").arg("-f").arg(file).stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(CHECK, command.output())
            .await
            .map_err(|_| format!("{program} -c did not end within {} s", CHECK.as_secs()))?
            .map_err(|e| format!("{program}: {e}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{program} -c refuses it: {}", said.lines().next().unwrap_or("no word why")))
    }
}
