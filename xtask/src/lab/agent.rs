//! An agent's configuration that knows the labs: clusters by their endpoints, and launchers for the tools that go with them.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What one lab adds.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Sections of `agent.toml`.
    pub(super) sections: String,
    /// Launchers: name and text.
    pub(super) launchers: Vec<(String, String)>,
}

/// A tool of a cluster: a JVM of its own that ends by itself.
pub(super) struct Tool<'a> {
    pub(super) java: &'a Path,
    pub(super) class_path: &'a str,
    pub(super) conf: &'a Path,
    pub(super) arguments: &'a [&'a str],
}

impl Tool<'_> {
    /// Its launcher's file; `seconds` declares the parameter of that name.
    pub(super) fn launcher(&self, seconds: bool) -> String {
        let Self { java, class_path, conf, arguments } = self;
        let mut command = vec![java.display().to_string()];
        command.extend(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"].map(str::to_owned));
        command.push((*class_path).to_owned());
        command.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let mut text = format!(
            "# A tool of the lab: it ends by itself.\ncommand = {command:?}\nallow_root = true\n\n[environment]\n\
             HADOOP_CONF_DIR = {:?}\n\n[limits]\nmemory = \"512Mi\"\n",
            conf.display().to_string()
        );
        if seconds {
            text.push_str("\n[parameters.seconds]\ntype = \"number\"\nfrom = 1\nto = 2147483647\n");
        }
        text
    }
}

/// A daemon that is a member of a cluster; its slot says which.
pub(super) struct Member<'a> {
    pub(super) java: &'a Path,
    pub(super) arguments: &'a [String],
    pub(super) environment: &'a [(&'a str, String)],
    /// Containers that it starts have cgroups of their own.
    pub(super) leaves: bool,
}

impl Member<'_> {
    /// Its launcher's file, for slots from 1 to `most`.
    pub(super) fn launcher(&self, most: u32) -> String {
        let mut command = vec![self.java.display().to_string()];
        command.extend(self.arguments.iter().cloned());
        let mut text = format!(
            "# A member of a cluster of the lab.\ncommand = {command:?}\nallow_root = true\nleaves = {}\n\n[environment]\n",
            self.leaves
        );
        for (name, value) in self.environment {
            let _ = writeln!(text, "{name} = {value:?}");
        }
        let _ = write!(text, "\n[parameters.slot]\ntype = \"number\"\nfrom = 1\nto = {most}\n");
        text
    }
}

/// Writes the configuration below `directory`/agent, and says where it is.
pub(super) fn write(directory: &Path, parts: &[Part]) -> Result<PathBuf> {
    let agent = directory.join("agent");
    let launchers = agent.join("launch.d");
    fs::create_dir_all(&launchers).with_context(|| format!("making {}", launchers.display()))?;
    let mut text = format!(
        "# Reads the labs; with act = true it may change them. Made anew by each `cargo xtask lab`.\nnode = \"lab\"\n\
         state = {:?}\nlaunchers = {:?}\nact = true\nexecutor = \"direct\"\n",
        agent.join("state").display().to_string(),
        launchers.display().to_string()
    );
    for part in parts {
        let _ = write!(text, "\n{}", part.sections);
        for (name, launcher) in &part.launchers {
            fs::write(launchers.join(format!("{name}.toml")), launcher)?;
        }
    }
    let file = agent.join("agent.toml");
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}
