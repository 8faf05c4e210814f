//! `trimtab export recommendations`: what is recommended and not done, as specifications that can be applied.

use std::fmt::Write as _;

use autoscaler::api::{Decision, Explanation, WorkloadDetail, Workloads};
use model::spec::{Format, parse_as, to_document};
use model::units::{Bytes, MilliCpu};
use model::workload::Workload;
use serde_json::json;

use crate::arguments::Output;
use crate::client::{Client, escaped};
use crate::failure::{Failure, Kind};
use crate::output::{self, moment, safe};

/// Codes of the reasons for which something is said and not done: the mode is not to do it.
const ONLY_SAID: [&str; 2] = ["recommend_only", "observe_only"];

/// One workload that should be different.
struct Recommended {
    workload: Workload,
    decisions: Vec<Decision>,
}

pub(crate) fn recommendations(client: &Client, output: Output) -> Result<(), Failure> {
    if !matches!(output, Output::Yaml | Output::Json) {
        return Err(Failure::new(Kind::Usage, "specifications are no table").next("use -o yaml or -o json"));
    }
    let all: Workloads = client.get("/api/v1/workloads")?;
    let mut found = Vec::new();
    for one in &all.items {
        let path = format!("/api/v1/workloads/{}", escaped(&one.name));
        let detail: WorkloadDetail = client.get(&path)?;
        let explanation: Explanation = client.get(&format!("{path}/explain"))?;
        let parsed = parse_as(Format::Json, &one.name, &detail.document.to_string());
        let Ok([workload]) =
            parsed.map_err(|_| ()).and_then(|list| <[Workload; 1]>::try_from(list).map_err(|_| ()))
        else {
            let message =
                format!("the specification of {} is not one that this program reads", safe(&one.name));
            return Err(Failure::new(Kind::Error, message)
                .next("compare `trimtab version` with `trimtab get status`"));
        };
        found.extend(recommended(workload, &explanation));
    }
    if found.is_empty() {
        output::remark("nothing else is recommended than there is");
    }
    let text = match output {
        Output::Json => {
            let items: Vec<_> = found
                .iter()
                .map(|one| {
                    let because: Vec<_> = one.decisions.iter().map(|d| json!({ "decision": d.id, "atMs": d.at_ms, "summary": d.summary })).collect();
                    json!({ "workload": one.workload.name, "document": to_document(&one.workload), "because": because })
                })
                .collect();
            serde_json::to_string_pretty(&json!({ "apiVersion": "trimtab/v1", "items": items }))? + "\n"
        }
        _ => documents(&found)?,
    };
    output::print(&text)
}

fn documents(found: &[Recommended]) -> Result<String, Failure> {
    let mut text = String::new();
    for one in found {
        text.push_str("---\n");
        for d in &one.decisions {
            let _ = writeln!(text, "# {} (decision {}): {}", moment(d.at_ms), d.id, safe(&d.summary));
        }
        text.push_str(&output::structured(&to_document(&one.workload), Output::Yaml)?);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}

/// The specification with what is recommended in it; `None` when that is what there is.
fn recommended(mut workload: Workload, explanation: &Explanation) -> Option<Recommended> {
    let now = &explanation.workload;
    let said =
        |d: &&Decision| !d.act && d.reasons.first().is_some_and(|why| ONLY_SAID.contains(&why.code.as_str()));
    // The newest of each counts: what was said before it is over.
    let number = explanation.decisions.iter().find(|d| d.kind != "resize").filter(said);
    let number =
        number.filter(|d| matches!(d.kind.as_str(), "scale_out" | "scale_in") && d.after != now.wanted);
    let size = explanation.decisions.iter().find(|d| d.kind == "resize" && d.size.is_some()).filter(said);
    let mut decisions = Vec::new();
    if let Some(decision) = number {
        let bounds = &mut workload.spec.replicas;
        if decision.after > now.wanted {
            bounds.min = bounds.min.max(decision.after).min(bounds.max);
        } else {
            bounds.max = bounds.max.min(decision.after).max(bounds.min);
        }
        decisions.push(decision.clone());
    }
    if let Some((decision, size)) = size.and_then(|d| Some((d, d.size?))) {
        let cpu = size.cpu_millis.filter(|cpu| now.size.cpu_millis != Some(*cpu));
        let memory = size.memory_bytes.filter(|bytes| now.size.memory_bytes != Some(*bytes));
        let policy = &mut workload.spec.size;
        if let Some(cpu) = cpu.map(MilliCpu) {
            policy.cpu = Some(cpu);
            policy.startup_cpu = policy.startup_cpu.map(|least| least.max(cpu));
        }
        policy.memory = memory.map(Bytes).or(policy.memory);
        if cpu.is_some() || memory.is_some() {
            decisions.push(decision.clone());
        }
    }
    (!decisions.is_empty()).then_some(Recommended { workload, decisions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn workload() -> Workload {
        let text = "apiVersion: trimtab/v1\nkind: Workload\nmetadata: { name: web }\nspec:\n  type: service\n  \
            mode: recommend\n  replicas: { min: 2, max: 9 }\n  target: { cpu: 65% }\n  \
            size: { cpu: \"1\", startupCpu: 1500m, memory: 512Mi }\n  service: { launcher: worker }\n";
        model::spec::parse("web.yaml", text).unwrap().remove(0)
    }

    fn decision(kind: &str, after: u32, code: &str, size: &Value) -> Value {
        json!({ "id": "7", "atMs": 1_795_258_733_054_u64, "workload": "web", "act": false, "kind": kind, "before": 4, "after": after,
            "tasks": [], "size": size, "summary": format!("web: {kind}"),
            "reasons": [{ "code": code, "text": "why", "detail": {} }], "parts": [], "binding": null,
            "alternatives": [], "predicted": null, "realised": null, "inputsHash": "0", "policy": "trimtab" })
    }

    fn explained(decisions: &[Value]) -> Explanation {
        serde_json::from_value(json!({ "apiVersion": "trimtab/v1", "frozen": null, "blocks": [], "wouldAct": [], "anomalies": [],
            "decisions": decisions,
            "workload": { "name": "web", "kind": "service", "mode": "recommend", "policy": "trimtab", "min": 2, "max": 9, "wanted": 4,
                "up": 4, "starting": 0, "leaving": 0, "replicas": [], "paused": null, "frozen": [],
                "load": { "requestsPerSecond": null, "queueDelayP95Ms": null, "queued": null, "utilisation": null, "cpuCores": null,
                    "memoryBytes": null, "load": null, "forecast": null, "capacity": null, "readyAfterMs": 0 },
                "size": { "mode": "recommend", "cpuMillis": 1000, "memoryBytes": 536_870_912, "phase": "steady", "toCpuMillis": null,
                    "toMemoryBytes": null, "canary": null, "held": null, "heldUntilMs": null },
                "last": null } }))
        .unwrap()
    }

    fn of(decisions: &[Value]) -> Option<Workload> {
        recommended(workload(), &explained(decisions)).map(|one| one.workload)
    }

    #[test]
    fn what_is_recommended_is_in_the_specification_and_can_be_applied() {
        let none = Value::Null;
        let more = of(&[decision("scale_out", 6, "recommend_only", &none)]).unwrap();
        assert_eq!((more.spec.replicas.min, more.spec.replicas.max), (6, 9));
        let fewer = of(&[decision("scale_in", 3, "observe_only", &none)]).unwrap();
        assert_eq!((fewer.spec.replicas.min, fewer.spec.replicas.max), (2, 3));
        let size = json!({ "cpuMillis": 1700, "memoryBytes": 805_306_368 });
        let both = [
            decision("resize", 4, "recommend_only", &size),
            decision("scale_out", 5, "recommend_only", &none),
        ];
        let found = recommended(workload(), &explained(&both)).unwrap();
        let text = documents(&[found]).unwrap();
        let again = model::spec::parse("a.yaml", &text).unwrap().remove(0);
        let policy = again.spec.size;
        assert_eq!(
            (policy.cpu, policy.startup_cpu, policy.memory),
            (Some(MilliCpu(1700)), Some(MilliCpu(1700)), Some(Bytes(805_306_368)))
        );
        assert_eq!(again.spec.replicas.min, 5);
        assert!(text.contains("# 2026-11-21 10:58:53 (decision 7): web: resize\n"), "{text}");
    }

    #[test]
    fn what_is_over_done_or_not_ours_to_say_is_left_out() {
        let none = Value::Null;
        let out = || decision("scale_out", 6, "recommend_only", &Value::Null);
        assert!(of(&[]).is_none());
        assert!(
            of(&[decision("hold", 4, "recommend_only", &none), out()]).is_none(),
            "said before, and over"
        );
        assert!(of(&[decision("scale_out", 6, "paused", &none)]).is_none(), "it waits, and is done then");
        assert!(of(&[decision("scale_out", 4, "recommend_only", &none)]).is_none(), "as many as there are");
        let now = json!({ "cpuMillis": 1000, "memoryBytes": 536_870_912 });
        assert!(of(&[decision("resize", 4, "recommend_only", &now)]).is_none(), "as it is");
        let mut done = out();
        done["act"] = json!(true);
        assert!(of(&[done]).is_none());
    }
}
