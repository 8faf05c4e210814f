//! What a command changes about a running task, read back.

use std::collections::BTreeMap;

use model::action::Size;
use model::id::TaskName;

use super::{Executor, ExecutorError, Happened, ReadBack, What};

impl Executor {
    /// Changes limits and reads them back. The change begins when the future is polled.
    ///
    /// # Errors
    /// [`ExecutorError`] for an unknown task; the future's, for a limit that was refused.
    pub fn resize(
        &self,
        task: &TaskName,
        size: Size,
    ) -> Result<impl Future<Output = ReadBack> + Send + use<>, ExecutorError> {
        let file = self.entry(task)?.file.clone();
        let (runner, cgroups, sender) = (self.runner.clone(), self.cgroups.clone(), self.happened.clone());
        Ok(async move {
            let back = runner.resize(&cgroups, &file, &file.in_kernel(&size)).await;
            let result = back.as_ref().map(drop).map_err(ToString::to_string);
            let _ = sender.send(Happened { task: file.task, what: What::Resized(size, result) }).await;
            back
        })
    }

    /// Freezes or thaws because a command says so; reads back. The isolation loop does not thaw what a command froze.
    ///
    /// # Errors
    /// [`ExecutorError`] for an unknown task; the future's, when it is refused.
    pub fn freeze(
        &mut self,
        task: &TaskName,
        frozen: bool,
    ) -> Result<impl Future<Output = ReadBack> + Send + use<>, ExecutorError> {
        self.entry(task)?;
        if let Some(entry) = self.tasks.get_mut(task) {
            entry.file.frozen = frozen;
        }
        self.keep(task);
        let (runner, cgroups, file) =
            (self.runner.clone(), self.cgroups.clone(), self.entry(task)?.file.clone());
        Ok(async move { runner.freeze(&cgroups, &file, frozen).await })
    }

    /// Asks the kernel to take memory back.
    ///
    /// # Errors
    /// [`ExecutorError`] for an unknown task or where the kernel has no such file.
    pub fn reclaim(
        &mut self,
        task: &TaskName,
        bytes: u64,
    ) -> Result<BTreeMap<String, String>, ExecutorError> {
        Ok(self.cgroups.reclaim(&self.entry(task)?.file.path, bytes)?)
    }
}
