//! Two real daemons on TLS: join, stream, restart, renewal, and what a certificate that no longer holds looks like.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use support::Stage;

/// Joins `n1`, and starts both daemons; the autoscaler's address.
fn joined(stage: &mut Stage, configuration: &str) -> String {
    let autoscaler = stage.listen_with_tls(configuration);
    stage.start_autoscaler();
    let token = stage.join_token("n1");
    let (good, said) = stage.join(&autoscaler, &token);
    assert!(good && said.contains("joined.toml says so"), "{said}");
    autoscaler
}

fn connected(stage: &mut Stage) {
    stage.until("the node", |s| (s.get("/nodes/n1")["connected"] == true).then_some(()));
}

fn expiry(stage: &Stage) -> Option<f64> {
    stage.agent_metric("certificate_expiry_seconds")
}

#[test]
fn a_node_joins_over_tls_and_works_through_restarts_of_both() {
    let Some(mut stage) = Stage::prepare("") else { return };
    let autoscaler = joined(&mut stage, "");
    stage.start_agent();
    connected(&mut stage);
    // The stream is the one with TLS: the agent's configuration in agent.d wins over the unix socket.
    let node = fs::read_to_string(stage.path("agent.d/joined.toml")).unwrap();
    assert!(node.contains(&autoscaler), "{node}");
    stage.service("burn", 2);
    stage.wait_for("jobs", 2);
    stage.until("samples", |s| (s.get("/nodes/n1")["samples"].as_u64()? > 10).then_some(()));
    let pids = stage.ledger.pids();
    let identity = fs::read(stage.path("agent/identity.pem")).unwrap();

    let output = stage.trimtab(&["node", "join-token", "../n1"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(5) && said.contains("`../n1` cannot be a node's name"), "{said}");
    let output = stage.trimtab(&["node", "join-token", "n3", "-o", "json"]);
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((made["node"].as_str(), made["autoscaler"].as_str()), (Some("n3"), Some(autoscaler.as_str())));

    let (good, said) = stage.join(&autoscaler, "trimtab1_no");
    assert!(!good && said.contains("copy it again"), "{said}");
    let used = stage.join_token("n1");
    let (good, _) = stage.join(&autoscaler, &used);
    assert!(good);
    let again = fs::read(stage.path("agent/identity.pem")).unwrap();
    assert_ne!(again, identity, "joining anew gives a new key and certificate");
    let (good, said) = stage.join(&autoscaler, &used);
    assert!(!good && said.contains("was used before"), "{said}");
    let other = stage.join_token("n2");
    let (good, said) = stage.join(&autoscaler, &other);
    assert!(!good && said.contains("for node `n2`, not for `n1`"), "{said}");
    assert_eq!(fs::read(stage.path("agent/identity.pem")).unwrap(), again, "a refusal changes nothing");

    stage.kill_agent();
    stage.kill_autoscaler();
    stage.start_autoscaler();
    let (good, said) = stage.join(&autoscaler, &used);
    assert!(!good && said.contains("was used before"), "also after a restart: {said}");
    stage.start_agent();
    connected(&mut stage);
    stage.wait_for("jobs", 2);
    assert_eq!(stage.ledger.pids(), pids, "the tasks are the same");
    stage.until("samples", |s| (s.get("/nodes/n1")["samples"].as_u64()? > 10).then_some(()));
    stage.service("burn", 1);
    stage.wait_for("jobs", 1);
    stage.compare_ended("jobs", 1);
}

/// Two thirds of this and the 3 s before it are over after 7 s; 5 s are left for attempts.
const SHORT: &str = "[tls]\nlifetime = \"12s\"\n";

#[test]
fn a_short_certificate_is_renewed_under_a_stream_that_goes_on() {
    let Some(mut stage) = Stage::prepare("") else { return };
    let autoscaler = joined(&mut stage, SHORT);
    stage.start_agent();
    connected(&mut stage);
    let first = stage.until("the first certificate", |s| expiry(s));
    // More than one whole life later the stream is still the first one.
    stage.until("renewals", |s| (expiry(s)? > first + 12.0).then_some(()));
    assert_eq!(stage.log("agent").matches("connected to the autoscaler").count(), 1);
    assert_eq!(stage.agent_metric("certificate_renewals_failed_total"), Some(0.0));
    let given = |s: &Stage| s.metric("certificates_given_total{reason=\"renew\"}");
    assert!(given(&stage).unwrap() >= 2.0);

    // Killed at any moment, it has one identity, and it holds.
    for _ in 0..4 {
        let before = given(&stage).unwrap();
        stage.until("a renewal", |s| (given(s)? > before).then_some(()));
        stage.kill_agent();
        stage.start_agent();
        connected(&mut stage);
    }

    // Away for too long: the other end says so, and a new token helps.
    stage.kill_agent();
    std::thread::sleep(Duration::from_secs(14));
    stage.start_agent();
    stage.until("the refusal", |s| {
        let log = s.log("agent");
        (log.contains("this node's certificate has expired") && log.contains("join again")).then_some(())
    });
    let refused = "tls_handshakes_failed_total{reason=\"certificate_expired\"}";
    stage.until("its count", |s| (s.metric(refused)? >= 1.0).then_some(()));
    assert!(stage.log("autoscaler").contains("its certificate has expired"), "{}", stage.log("autoscaler"));
    let token = stage.join_token("n1");
    let (good, said) = stage.join(&autoscaler, &token);
    assert!(good, "{said}");
    // The running agent reads it at its next dial.
    connected(&mut stage);
}

#[test]
fn a_full_disk_keeps_the_certificate_in_use_until_the_next_one_is_durable() {
    let mounts = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    if !mounts {
        println!("SKIP: mount namespaces need root and unshare(1)");
        return;
    }
    let Some(mut stage) = Stage::prepare("") else { return };
    joined(&mut stage, SHORT);
    let (state, copy) = (stage.path("agent"), stage.path("identity.copy"));
    fs::copy(state.join("identity.pem"), &copy).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=2m,mode=755 tmpfs {0} && cp -p {1} {0}/identity.pem && exec \"$0\" \"$@\"",
        state.display(),
        copy.display()
    );
    stage.run_agent_behind(&["unshare", "-m", "sh", "-c", &script]);
    stage.start_agent();
    let inside = PathBuf::from(format!("/proc/{}/root{}", stage.agent_pid(), state.display()));
    stage.agent_state = Some(inside.clone());
    connected(&mut stage);
    let identity = || fs::read(inside.join("identity.pem")).unwrap();
    let mut filler = fs::File::create(inside.join("filler")).unwrap();
    stage.until("a renewal that fails", |s| {
        // What the agent gives back in the meantime is taken, too.
        while filler.write_all(&[7; 4096]).is_ok() {}
        (s.agent_metric("certificate_renewals_failed_total")? >= 1.0).then_some(())
    });
    assert!(stage.log("agent").contains("the old one stays in use"), "{}", stage.log("agent"));
    let before = identity();
    assert!(
        before.starts_with(b"-----BEGIN PRIVATE KEY-----")
            && before.ends_with(b"-----END CERTIFICATE-----\n")
    );
    assert_eq!(stage.agent_metric("connected"), Some(1.0));
    let kept = expiry(&stage).unwrap();
    drop(filler);
    fs::remove_file(inside.join("filler")).unwrap();
    stage.until("a renewal", |s| (expiry(s)? > kept).then_some(()));
    assert_ne!(identity(), before);
}

#[test]
fn another_name_and_another_authority_are_refused_in_words_on_both_sides() {
    let Some(mut stage) = Stage::prepare("") else { return };
    joined(&mut stage, "");
    // What the file in agent.d says is overruled by a later one.
    fs::write(stage.path("agent.d/zz.toml"), "node = \"n2\"\n").unwrap();
    stage.start_agent();
    let word = "calls its node `n2` but its certificate is for `n1`";
    stage.until("the refusal", |s| s.log("agent").contains(word).then_some(()));
    stage.until("the same there", |s| s.log("autoscaler").contains(word).then_some(()));
    stage.until("its count", |s| {
        (s.metric("streams_closed_total{reason=\"identity\"}")? >= 1.0).then_some(())
    });
    assert_eq!(stage.get("/nodes")["items"], serde_json::json!([]), "n2 was never seen");

    stage.kill_agent();
    stage.kill_autoscaler();
    fs::remove_file(stage.path("agent.d/zz.toml")).unwrap();
    fs::rename(stage.path("autoscaler/authority.pem"), stage.path("authority.before")).unwrap();
    stage.start_autoscaler();
    stage.start_agent();
    let word = "its certificate is not from the authority that this node joined";
    stage.until("the refusal", |s| s.log("agent").contains(word).then_some(()));
    stage.until("its count", |s| {
        (s.metric("tls_handshakes_failed_total{reason=\"peer_refused\"}")? >= 1.0).then_some(())
    });
    // The authority is restored from its copy: nobody has to join again.
    stage.kill_autoscaler();
    fs::rename(stage.path("authority.before"), stage.path("autoscaler/authority.pem")).unwrap();
    stage.start_autoscaler();
    connected(&mut stage);
}
