use super::*;

fn read(file: &Path, environment: &[(&str, &str)]) -> Result<Settings, Faults> {
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Settings::read(Some(file), environment, Fragment::default())
}

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("conf.d")).unwrap();
    std::fs::create_dir_all(dir.path().join("cg")).unwrap();
    std::fs::write(dir.path().join("cg/cgroup.controllers"), "").unwrap();
    let text =
        format!("node = \"n1\"\ninterval_ms = 500\ncgroup = \"{}\"\n", dir.path().join("cg").display());
    std::fs::write(dir.path().join("agent.toml"), text).unwrap();
    dir
}

#[test]
fn later_sources_win_and_each_setting_knows_its_origin() {
    let dir = tree();
    std::fs::write(dir.path().join("conf.d/10.toml"), "interval_ms = 2000\nact = true\n").unwrap();
    std::fs::create_dir(dir.path().join("agent.d")).unwrap();
    std::fs::write(dir.path().join("agent.d/10.toml"), "max_tasks = 7\n").unwrap();
    std::fs::write(dir.path().join("conf.d/99.toml"), "max_tasks = 8\n").unwrap();
    let s = read(&dir.path().join("agent.toml"), &[("TRIMTAB_ACT", "false"), ("TRIMTAB_UNRELATED", "x")])
        .unwrap();
    assert_eq!((s.interval_ms, s.act, s.node.as_str()), (2000, false, "n1"));
    let shown = s.show(true);
    assert!(shown.contains("10.toml") && shown.contains("act = false    # environment"), "{shown}");
    assert!(
        shown.contains("max_tasks = 7    # ") && shown.contains("slice = trimtab.slice    # default"),
        "{shown}"
    );
}

#[test]
fn every_fault_is_reported_at_once_with_its_place() {
    let dir = tree();
    let path = dir.path().join("conf.d/20.toml");
    std::fs::write(
        &path,
        "node = \"a/b\"\ninterval_ms = 5\nhttp = \"0.0.0.0:1\"\nautoscaler = \"http://10.0.0.1:7781\"\n",
    )
    .unwrap();
    let faults = read(&dir.path().join("agent.toml"), &[]).unwrap_err().to_string();
    for part in ["node (", "interval_ms (", "not on loopback", "TLS", "20.toml"] {
        assert!(faults.contains(part), "{part} in {faults}");
    }
    assert_eq!(faults.lines().count(), 4, "{faults}");
    std::fs::write(&path, "intervall_ms = 5\n").unwrap();
    assert!(read(&dir.path().join("agent.toml"), &[]).unwrap_err().to_string().contains("intervall_ms"));
    std::fs::write(&path, "").unwrap();
    let bad = read(&dir.path().join("agent.toml"), &[("TRIMTAB_INTERVAL_MS", "often")]).unwrap_err();
    assert!(bad.to_string().contains("TRIMTAB_INTERVAL_MS"), "{bad}");
}

#[test]
fn isolation_is_set_key_by_key_and_a_share_that_makes_no_sense_is_refused() {
    let dir = tree();
    let file = dir.path().join("conf.d/10.toml");
    std::fs::write(&file, "[qos]\nrun_queue_delay = \"3ms\"\nheadroom = \"30%\"\n").unwrap();
    std::fs::write(dir.path().join("conf.d/20.toml"), "[qos]\nheadroom = \"25%\"\nenabled = false\n")
        .unwrap();
    let read_now = read(&dir.path().join("agent.toml"), &[]).unwrap();
    let shown = read_now.show(true);
    assert!(shown.contains("qos.floor = 5%    # default"), "{shown}");
    let headroom = shown.lines().find(|line| line.starts_with("qos.headroom = 25%")).unwrap();
    assert!(headroom.ends_with("20.toml") && shown.contains("qos.run_queue_delay = 3ms"), "{shown}");
    let qos = read_now.qos;
    assert_eq!((qos.enabled, qos.delay_ns, qos.headroom), (false, 3_000_000, Some(0.25)));
    assert_eq!(qos.floor, qos::Settings::default().floor, "what is not said is as by default");
    for (said, is) in [("auto", None), ("0%", Some(0.0)), ("12.5%", Some(0.125))] {
        std::fs::write(dir.path().join("conf.d/20.toml"), format!("[qos]\nheadroom = \"{said}\"\n")).unwrap();
        let read_now = read(&dir.path().join("agent.toml"), &[]).unwrap();
        assert_eq!(read_now.qos.headroom, is);
        assert!(read_now.show(false).contains(&format!("qos.headroom = {said}")), "{}", read_now.show(false));
    }
    std::fs::write(dir.path().join("conf.d/20.toml"), "[qos]\nheadroom = \"some\"\n").unwrap();
    let fault = read(&dir.path().join("agent.toml"), &[]).unwrap_err().to_string();
    assert!(fault.contains("65%, or auto"), "{fault}");
    std::fs::remove_file(dir.path().join("conf.d/20.toml")).unwrap();
    std::fs::write(&file, "[qos]\nfloor = \"90%\"\n").unwrap();
    let fault = read(&dir.path().join("agent.toml"), &[]).unwrap_err().to_string();
    assert!(fault.contains("qos (") && fault.contains("floor"), "{fault}");
    std::fs::write(&file, "[qos]\nheadrom = \"30%\"\n").unwrap();
    assert!(read(&dir.path().join("agent.toml"), &[]).unwrap_err().to_string().contains("headrom"));
}

#[test]
fn launchers_are_read_and_checked() {
    let dir = tree();
    let launch = dir.path().join("launch.d");
    std::fs::create_dir(&launch).unwrap();
    std::fs::write(launch.join("ok.toml"), "command = [\"/bin/true\"]\nallow_root = true\n").unwrap();
    let with = Fragment { launchers: Some(launch.clone()), ..Fragment::default() };
    let s = Settings::read(Some(&dir.path().join("agent.toml")), std::iter::empty(), with.clone()).unwrap();
    assert_eq!(s.launchers.keys().collect::<Vec<_>>(), ["ok"]);
    std::fs::write(launch.join("bad.toml"), "command = [\"true\"]\n").unwrap();
    let faults = Settings::read(Some(&dir.path().join("agent.toml")), std::iter::empty(), with).unwrap_err();
    assert!(faults.to_string().contains("bad.toml") && faults.to_string().contains("absolute"), "{faults}");
}

#[test]
fn the_rules_that_trimtab_brings_are_rules() {
    let rules = toml::from_str::<RuleFile>(DEFAULT_RULES).unwrap().rules;
    assert!(rules.iter().any(|r| r.kind == "puma") && rules.iter().any(|r| r.kind == "service"));
}
