use super::*;
use proptest::prelude::*;

fn id(n: u8) -> String {
    format!("{n:02x}").repeat(32)
}

fn container(n: u8) -> Container {
    Container { id: id(n), name: format!("c{n}"), image: "busybox".into(), labels: BTreeMap::new() }
}

fn docker(n: u8) -> String {
    format!("system.slice/docker-{}.scope", id(n))
}

#[test]
fn the_number_is_read_from_the_paths_of_both_runtimes_and_cgroup_drivers() {
    let id = id(0xab);
    let found =
        |path: &str| of_path(&path.replace("ID", &id)).map(|(r, i, p)| (r, i.to_owned(), p.to_owned()));
    let of = |runtime, rest: &str| Some((runtime, id.clone(), rest.to_owned()));
    assert_eq!(found("system.slice/docker-ID.scope"), of(Runtime::Docker, ""));
    assert_eq!(found("docker/ID"), of(Runtime::Docker, ""));
    assert_eq!(found("docker/ID/init.scope/a"), of(Runtime::Docker, "init.scope/a"));
    assert_eq!(found("machine.slice/libpod-ID.scope"), of(Runtime::Podman, ""));
    assert_eq!(found("machine.slice/libpod-ID.scope/container"), of(Runtime::Podman, "container"));
    assert_eq!(found("libpod_parent/libpod-ID"), of(Runtime::Podman, ""));
    assert_eq!(
        found("kubepods.slice/kubepods-pod1.slice/cri-containerd-ID.scope"),
        of(Runtime::Containerd, "")
    );
    assert_eq!(found("kubepods/burstable/pod1/ID/a"), of(Runtime::Containerd, "a"));
    assert_eq!(found("system.slice/nerdctl-ID.scope"), of(Runtime::Containerd, ""));
    let by_name = of_path("default/shop-3/init.scope");
    assert_eq!(by_name, Some((Runtime::Containerd, "default/shop-3", "init.scope")));
    for other in [
        "default",
        "default/-x",
        "default/a b",
        "a/default/b",
        "kubepods.slice/kubepods-pod1.slice",
        "machine.slice/libpod-conmon-ID.scope",
        "system.slice/docker.service",
        "docker/short",
        "docker",
        "a/ID",
        "system.slice/docker-IDa.scope",
        "",
    ] {
        assert_eq!(found(other), None, "{other}");
    }
    let outer = of_path("docker/ID/docker/OTHER").is_none();
    assert!(outer, "numbers are hexadecimal");
}

#[test]
fn a_list_is_read_and_its_texts_are_safe() {
    let body = format!(
        r#"[{{"Id":"{}","Names":["/linked/db","/web\n1"],"Image":"app:2","Labels":{{"app":"web"}},"State":"running"}},
            {{"Id":"{}","Names":null,"Image":"b","Labels":null}},{{"Id":"../x"}}]"#,
        id(1),
        id(2)
    );
    let list = listed(body.as_bytes()).unwrap();
    assert_eq!((list[0].name.as_str(), list[0].image.as_str()), ("web\\u{a}1", "app:2"));
    assert_eq!(list[0].labels["app"], "web");
    assert!(list[1].name.starts_with("0202"));
    assert_eq!(list.len(), 2, "a number that is none is left out");
    let many: BTreeMap<String, String> = (0..100).map(|n| (format!("k{n}"), "v".into())).collect();
    let body = serde_json::json!([{"Id": id(1), "Labels": many}]).to_string();
    assert_eq!(listed(body.as_bytes()).unwrap()[0].labels.len(), LABEL_LIMIT);
    for bad in ["", "{}", "{\"message\":\"no\"}", "[{}]"] {
        assert!(listed(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn containerd_keeps_names_in_labels_and_what_has_no_number_is_named_by_its_namespace() {
    let labels = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let of = |id: &str, pairs: &[(&str, &str)]| {
        of_containerd("default", id, "docker.io/lib/shop:1\n", labels(pairs))
    };
    let plain = of("shop-3", &[("app", "shop\u{202e}")]).unwrap();
    assert_eq!((plain.id.as_str(), plain.name.as_str()), ("default/shop-3", "shop-3"));
    assert_eq!(
        (plain.image.as_str(), plain.labels["app"].as_str()),
        ("docker.io/lib/shop:1\\u{a}", "shop\\u{202e}")
    );
    let pod = [("io.kubernetes.pod.name", "web-7"), ("io.kubernetes.container.name", "app")];
    let numbered = of(&id(7), &pod).unwrap();
    assert_eq!((numbered.id, numbered.name), (id(7), "web-7/app".to_owned()));
    assert_eq!(of(&id(7), &pod[..1]).unwrap().name, "web-7", "a pod's own sandbox");
    assert_eq!(of(&id(7), &[("nerdctl/name", "night")]).unwrap().name, "night");
    for bad in ["", "../x", "a/b", &"a".repeat(77)] {
        assert_eq!(of(bad, &[]), None, "{bad}");
    }
    let path = "default/shop-3";
    let mut c = Containers::default();
    assert!(c.appeared(CgroupId(1), path, 0).is_none());
    assert_eq!(c.ask(0), Some(Runtime::Containerd));
    assert_eq!(c.answered(Runtime::Containerd, Some(vec![plain]), 1), [(CgroupId(1), path.to_owned())]);
}

#[test]
fn one_question_names_all_that_wait_and_then_nobody_asks() {
    let mut c = Containers::default();
    assert_eq!(c.due_ms(), None);
    assert!(c.appeared(CgroupId(1), &docker(1), 100).is_none());
    assert!(c.appeared(CgroupId(2), &docker(2), 100).is_none());
    assert!(c.appeared(CgroupId(3), "system.slice/cron.service", 100).is_none());
    assert_eq!((c.due_ms(), c.len()), (Some(100), 2));
    assert_eq!(c.ask(100), Some(Runtime::Docker));
    assert_eq!((c.ask(100), c.due_ms()), (None, None), "never two at once");
    let named = c.answered(Runtime::Docker, Some(vec![container(1), container(2), container(9)]), 150);
    assert_eq!(named, [(CgroupId(1), docker(1)), (CgroupId(2), docker(2))]);
    assert_eq!((c.due_ms(), c.get(CgroupId(2))), (None, Some(&container(2))));
    let part = format!("{}/init", docker(1));
    assert_eq!(c.appeared(CgroupId(4), &part, 200), Some(&container(1)), "known: nobody is asked");
    c.gone(CgroupId(1));
    assert!(c.get(CgroupId(4)).is_some());
    c.gone(CgroupId(4));
    assert!(c.appeared(CgroupId(5), &docker(1), 300).is_none(), "forgotten with its last cgroup");
}

#[test]
fn a_runtime_that_is_not_there_is_asked_more_and_more_rarely() {
    let mut c = Containers::default();
    c.appeared(CgroupId(1), &docker(1), 0);
    let mut asked = Vec::new();
    while let Some(due) = c.due_ms().filter(|due| *due < 3_600_000) {
        // Others appear all the time.
        c.appeared(CgroupId(due + 10), &docker(2), due.saturating_sub(1));
        assert_eq!(c.ask(due), Some(Runtime::Docker));
        assert!(c.answered(Runtime::Docker, None, due).is_empty());
        asked.push(due);
    }
    assert_eq!(asked[..4], [0, 500, 1_500, 3_500]);
    assert!(asked.windows(2).skip(10).all(|w| w[1] - w[0] == LONGEST_RETRY_MS), "{asked:?}");
    assert!(asked.len() < 100);
}

#[test]
fn a_number_that_no_answer_names_is_given_up() {
    let mut c = Containers::default();
    c.appeared(CgroupId(1), &docker(1), 0);
    for _ in 0..TRIES {
        let due = c.due_ms().unwrap();
        c.ask(due);
        c.answered(Runtime::Docker, Some(vec![]), due);
    }
    assert_eq!(c.due_ms(), None);
    c.appeared(CgroupId(2), &docker(2), 1_000_000);
    assert_eq!(c.due_ms(), Some(1_000_000), "a new one is asked for at once");
}

proptest! {
    #[test]
    fn no_path_and_no_answer_makes_it_panic(path in ".{0,80}", body in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = of_path(&path);
        let _ = listed(&body);
    }

    /// Whatever comes and goes: what is asked for ends up named, and no more than the containers of live cgroups are remembered.
    #[test]
    fn everything_that_runs_is_named_in_the_end(steps in prop::collection::vec((0u8..4, 0u8..6), 1..60)) {
        let (mut c, mut running, mut now) = (Containers::default(), BTreeMap::new(), 0);
        for (step, n) in steps {
            now += 100;
            let waiting = c.cgroups.values().filter(|place| place.waits()).count();
            prop_assert_eq!(c.asks.values().map(|ask| ask.waiting).sum::<usize>(), waiting);
            match step {
                0 => { running.insert(n, CgroupId(u64::from(n))); c.appeared(CgroupId(u64::from(n)), &docker(n), now); }
                1 => { running.remove(&n); c.gone(CgroupId(u64::from(n))); }
                2 => { c.ask(now); }
                _ => { c.answered(Runtime::Docker, (n > 2).then(|| running.keys().map(|n| container(*n)).collect()), now); }
            }
        }
        for _ in 0..20 {
            now += LONGEST_RETRY_MS;
            c.ask(now);
            c.answered(Runtime::Docker, Some(running.keys().map(|n| container(*n)).collect()), now);
        }
        for (n, cgroup) in &running {
            prop_assert_eq!(c.get(*cgroup), Some(&container(*n)));
        }
        prop_assert_eq!(c.known.len(), running.len());
        prop_assert!(c.asks.values().all(|ask| ask.waiting == 0));
        prop_assert_eq!(c.due_ms(), None);
    }
}
