use proptest::prelude::*;

use super::{Format, SpecFault, parse, parse_all, parse_as, parse_prices_as, prices_document, to_document};
use crate::prices::Price;
use crate::units::{Millis, Share};
use crate::workload::{Class, Mode, WorkloadKind};

const GOOD: &str = "\
apiVersion: trimtab/v1
kind: Workload
metadata: { name: web }
spec:
  type: rails
  replicas: { min: 2, max: 20 }
  target: { queueDelayP95: 20ms }
  size: { mode: recommend, cpu: 1500m, memory: 512Mi }
  mode: auto
  rails:
    balancer: { haproxy: /run/haproxy/admin.sock, backend: web }
    launcher: puma-web
    workers: 2
    threads: 5
    parameters: { RAILS_ENV: production, seed: 7 }
";

fn faults(text: &str) -> Vec<SpecFault> {
    parse("web.yaml", text).unwrap_err()
}

#[test]
fn the_example_of_the_manual_is_read() {
    let workloads = parse("web.yaml", GOOD).unwrap();
    let web = &workloads[0];
    assert_eq!(web.name.as_str(), "web");
    assert_eq!(web.spec.kind, WorkloadKind::Rails);
    assert_eq!(web.spec.mode, Mode::Auto);
    assert_eq!(web.spec.target.queue_delay_p95, Some(Millis(20)));
    assert_eq!(web.spec.rails.as_ref().unwrap().parameters["seed"], "7");
}

#[test]
fn a_workload_is_the_same_in_all_three_formats_and_by_serde() {
    let yaml = parse("web.yaml", GOOD).unwrap();
    let document = to_document(&yaml[0]);
    let json = document.to_string();
    assert_eq!(parse("web.json", &json).unwrap(), yaml);
    assert_eq!(parse("web.json", &format!("[{json}]")).unwrap(), yaml);
    assert_eq!(parse("web.toml", &toml::to_string(&document).unwrap()).unwrap(), yaml);
    assert_eq!(
        serde_json::from_value::<crate::workload::WorkloadSpec>(document["spec"].clone()).unwrap(),
        yaml[0].spec
    );
}

pub(super) const EXAMPLES: [(&str, &str); 5] = [
    ("rails.yaml", include_str!("../../../examples/rails.yaml")),
    ("service.yaml", include_str!("../../../examples/service.yaml")),
    ("yarn.yaml", include_str!("../../../examples/yarn.yaml")),
    ("hdfs.yaml", include_str!("../../../examples/hdfs.yaml")),
    ("cassandra.yaml", include_str!("../../../examples/cassandra.yaml")),
];

#[test]
fn every_example_is_read_and_is_the_same_when_it_is_written() {
    for (name, text) in EXAMPLES {
        let workloads = parse(name, text).unwrap_or_else(|faults| panic!("{}", faults[0]));
        assert_eq!(parse("again.json", &to_document(&workloads[0]).to_string()).unwrap(), workloads);
        assert_eq!(workloads[0].spec.kind.word(), name.trim_end_matches(".yaml"));
    }
}

#[test]
fn a_target_that_is_missing_is_shown_in_the_kinds_own_terms() {
    for (name, text) in EXAMPLES {
        let targets = |line: &&str| !line.trim_start().starts_with("target:");
        let without: String = text.lines().filter(targets).flat_map(|line| [line, "\n"]).collect();
        let found = faults(&without);
        assert_eq!(found[0].field, "spec.target", "{}", found[0]);
        let said = found[0].to_string();
        let shown = said.split('`').find(|part| part.starts_with("target: {")).unwrap();
        let again = without.replacen("  replicas:", &format!("  {shown}\n  replicas:"), 1);
        assert!(parse(name, &again).is_ok(), "{name}: {shown}");
    }
}

const RING: &str = "\
apiVersion: trimtab/v1
kind: Workload
metadata: { name: ring }
spec:
  type: cassandra
  replicas: { min: 3, max: 4 }
  target: { disk: 60% }
  cassandra: { cluster: ring, launcher: cassandra, member: '10.0.0.{slot}', slots: { from: 4, span: 2 } }
";

#[test]
fn a_cluster_says_how_its_members_are_told_apart_and_what_it_is_measured_by() {
    let ring = &parse("ring.yaml", RING).unwrap()[0].spec;
    assert_eq!((ring.class(), ring.behavior.step_up), (Class::LatencyCritical, 1));
    assert_eq!(ring.behavior.shrink_after, Millis(86_400_000), "data stays where it is for a day");
    for (from, to, said) in [
        ("disk: 60%", "cpu: 65%", "`cpu` is nothing that a workload of type `cassandra` is measured by"),
        ("disk: 60%", "latencyP99: 9ms", "needs a target for its disks"),
        ("disk: 60%", "disk: 99%", "between 5% and 90%"),
        (", slots: { from: 4, span: 2 }", "", "go together"),
        ("10.0.0.{slot}", "10.0.0.4", "all members would have one name"),
        ("10.0.0.{slot}", "{slot};rm", "a host name or an address"),
        ("launcher: cassandra", "drain: 1h", "YARN's alone"),
        ("type: cassandra", "type: yarn", "needs a `yarn` section"),
        ("cluster: ring,", "cluster: '',", "not a name of a cluster"),
        ("spec:", "spec:\n  policy: hpa", "the HPA's rule knows nothing of clusters"),
    ] {
        assert!(RING.contains(from), "{from}");
        let all = faults(&RING.replace(from, to));
        assert!(all.iter().any(|fault| fault.message.contains(said)), "{to}: {all:?}");
    }
}

#[test]
fn many_documents_are_read_and_a_name_that_comes_twice_is_refused() {
    let two = format!("{GOOD}---\n{}", GOOD.replace("name: web", "name: shop"));
    assert_eq!(parse("web.yaml", &two).unwrap().len(), 2);
    let twice = faults(&format!("{GOOD}---\n{GOOD}"));
    assert_eq!(twice[0].line, 19);
    assert!(twice[0].message.contains("twice"), "{}", twice[0]);
}

#[test]
fn an_unknown_field_is_shown_with_a_caret_and_what_was_meant() {
    let text = GOOD.replace("replicas: {", "replica: {");
    let found = faults(&text);
    assert_eq!(
        found[0].to_string(),
        "error: unknown field `replica`\n\
         \x20--> web.yaml:6:3\n\
         \x20 |\n\
         6 |   replica: { min: 2, max: 20 }\n\
         \x20 |   ^^^^^^^\n\
         \x20 = field: spec.replica\n\
         \x20 = help: did you mean `replicas`?"
    );
    assert_eq!(found.len(), 1, "the field that was meant is not reported as missing, too");
}

#[test]
fn a_class_is_what_is_said_or_what_the_kind_says() {
    let class = |text: &str| parse("web.yaml", text).unwrap()[0].spec.class();
    assert_eq!(class(GOOD), Class::LatencyCritical, "somebody waits for Rails");
    let service = "apiVersion: trimtab/v1\nkind: Workload\nmetadata: { name: jobs }\nspec:\n  type: service\n  \
                   replicas: { min: 1, max: 2 }\n  target: { cpu: 65% }\n  service: { launcher: jobs }\n";
    assert_eq!(class(service), Class::Standard);
    for word in [Class::LatencyCritical, Class::Standard, Class::BestEffort] {
        assert_eq!(class(&format!("{service}  class: {word}\n")), word);
    }
    let found = faults(&format!("{service}  class: best_effort\n"));
    assert_eq!((found[0].line, found[0].column, found[0].field.as_str()), (9, 10, "spec.class"));
    assert!(found[0].to_string().contains("did you mean `best-effort`?"), "{}", found[0]);
}

#[test]
fn all_faults_of_a_file_are_reported_at_once_with_their_places() {
    let text = GOOD
        .replace("min: 2, max: 20", "min: 20, max: 2")
        .replace("20ms", "20 parsecs")
        .replace("mode: auto", "mode: automatic")
        .replace("memory: 512Mi", "memory: 512")
        .replace("workers: 2", "workers: many");
    let found: Vec<_> = faults(&text).into_iter().map(|f| (f.line, f.column, f.field)).collect();
    let expected = [
        (6, 20, "spec.replicas.min"),
        (7, 28, "spec.target.queueDelayP95"),
        (8, 48, "spec.size.memory"),
        (9, 9, "spec.mode"),
        (13, 14, "spec.rails.workers"),
    ];
    assert_eq!(found, expected.map(|(l, c, f)| (l, c, f.to_owned())));
}

#[test]
fn each_rule_names_its_field_and_says_what_to_do() {
    let cases = [
        ("target: { queueDelayP95: 20ms }", "target: {}", "spec.target", "nothing says"),
        ("  type: rails", "  type: service", "spec.service", "needs a `service` section"),
        (
            "  mode: auto",
            "  mode: auto\n  service: { launcher: a }",
            "spec.service",
            "has no `service` section",
        ),
        (
            "  mode: auto",
            "  behavior: { shrinkCooldown: 1m, growCooldown: 30s }",
            "spec.behavior.shrinkCooldown",
            "flap",
        ),
        ("  mode: auto", "  behavior: { growCooldown: 2m }", "spec.behavior.growCooldown", "flap"),
        ("max: 20", "max: 2000000", "spec.replicas.max", "more than"),
        ("min: 2", "min: 0", "spec.replicas.min", "at least one"),
        ("cpu: 1500m", "cpu: 1m", "spec.size.cpu", "sensible"),
        ("cpu: 1500m", "cpu: 1500m, startupCpu: 1", "spec.size.startupCpu", "at least `cpu`"),
        ("cpu: 1500m,", "startupCpu: 2,", "spec.size.startupCpu", "at least `cpu`"),
        ("20ms", "9h", "spec.target.queueDelayP95", "between"),
        ("/run/haproxy/admin.sock", "/run/../etc", "spec.rails.balancer.haproxy", "absolute path"),
        ("threads: 5", "ports: { from: 65000, span: 400 }", "spec.rails.ports.span", "beyond 65535"),
        ("threads: 5", "ports: { from: 9300, span: 4 }", "spec.replicas", "too few"),
        (
            "threads: 5",
            "database: { maxConnections: 10, reserved: 3, pool: 5 }",
            "spec.replicas",
            "database connections",
        ),
        ("kind: Workload", "kind: NodePool", "kind", "not read by this version"),
        ("kind: Workload", "kind: workloads", "kind", "not a value"),
        ("trimtab/v1", "trimtab/v9", "apiVersion", "not a version"),
        ("name: web", "name: ../web", "metadata.name", "not allowed"),
        ("seed: 7", "\"a b\": 7", "spec.rails.parameters", "not a parameter's name"),
    ];
    for (from, to, field, message) in cases {
        assert!(GOOD.contains(from), "{from}");
        let found = faults(&GOOD.replacen(from, to, 1));
        let hit = found.iter().find(|f| f.field == field && f.message.contains(message));
        assert!(hit.is_some(), "{to}: {found:#?}");
        assert!(found.iter().all(|f| f.line > 0 && f.column > 0), "{to}");
    }
}

#[test]
fn broken_grammar_has_a_place_in_each_format() {
    let yaml = faults("spec:\n\ttype: rails\n");
    assert_eq!((yaml[0].line, yaml[0].help.is_some()), (2, true), "{}", yaml[0]);
    let json = parse("a.json", "{\n  \"kind\": }").unwrap_err();
    assert_eq!((json[0].line, json[0].column), (2, 11), "{}", json[0]);
    let toml = parse("a.toml", "kind = \"Workload\"\nspec = [").unwrap_err();
    assert_eq!(toml[0].line, 2, "{}", toml[0]);
    assert!(parse("a.yaml", "").is_err(), "an empty file is not a good one");
    assert!(parse("a.yaml", &"a: [".repeat(10_000)).is_err(), "deep nesting is refused");
    assert!(parse("a.toml", &format!("a = {}", "[".repeat(100_000))).is_err());
    assert!(parse("a.yaml", &"#".repeat(super::FILE_LIMIT + 1)).is_err());
}

#[test]
fn a_key_that_comes_twice_is_refused() {
    let found = faults(&GOOD.replace("  mode: auto", "  mode: auto\n  mode: observe"));
    assert!(found[0].message.contains("uplicate"), "{}", found[0]);
    assert_eq!(found[0].line, 10);
}

#[test]
fn expanding_aliases_are_bounded() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        let many = vec![format!("*a{}", n - 1); 10].join(", ");
        text += &format!("a{n}: &a{n} [{many}]\n");
    }
    assert!(parse("bomb.yaml", &text).is_err());
}

#[test]
fn a_number_is_accepted_where_a_unit_has_a_plain_form() {
    let workloads = parse("web.yaml", &GOOD.replace("queueDelayP95: 20ms", "cpu: 0.65")).unwrap();
    assert_eq!(workloads[0].spec.target.cpu, Some(Share(0.65)));
    assert!(faults(&GOOD.replace("20ms", "20"))[0].message.contains("30s"), "a duration needs its unit");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_makes_the_parser_panic(text in "(?s).{0,200}", format in 0..3usize) {
        let _ = parse_as([Format::Yaml, Format::Toml, Format::Json][format], "x", &text).map_err(|all| all.iter().map(ToString::to_string).collect::<String>());
    }

    #[test]
    fn no_mutilation_of_a_good_file_makes_the_parser_panic(at in 0..GOOD.len(), cut in 0..40usize, put in "(?s).{0,6}") {
        let mut text = GOOD.to_owned();
        let end = (at + cut).min(text.len());
        text.replace_range(at..end, &put);
        let _ = parse("web.yaml", &text).map_err(|all| all.iter().map(ToString::to_string).collect::<String>());
    }
}

const PRICES: &str = include_str!("../../../examples/prices.yaml");

#[test]
fn prices_are_read_in_each_format_beside_workloads_and_alone() {
    let both = format!("{PRICES}---\n{GOOD}");
    let read = parse_all("all.yaml", &both).unwrap();
    let table = read.prices.unwrap();
    assert_eq!(
        (read.workloads.len(), table.name.as_str(), table.spec.currency.as_str()),
        (1, "default", "EUR")
    );
    assert!(table.spec.per_core_hour > Price(0.0));
    let document = prices_document(&table);
    for (format, text) in [
        (Format::Yaml, PRICES.to_owned()),
        (Format::Json, document.to_string()),
        (Format::Toml, toml::to_string(&document).unwrap()),
    ] {
        assert_eq!(parse_prices_as(format, "p", &text).unwrap(), table, "{format:?}");
    }
    let wrong = parse("web.yaml", &both).unwrap_err();
    assert!(wrong[0].message.contains("`Workload` is wanted") && wrong[0].line > 0, "{}", wrong[0]);
    assert!(parse_prices_as(Format::Yaml, "p", &both).unwrap_err()[0].message.contains("nothing else"));
    assert!(parse_prices_as(Format::Yaml, "p", GOOD).unwrap_err()[0].message.contains("PriceTable"));
    assert!(parse_prices_as(Format::Yaml, "p", "").is_err());
    let twice = parse_all("p.yaml", &format!("{PRICES}---\n{PRICES}")).unwrap_err();
    assert!(twice[0].message.contains("two price tables"), "{}", twice[0]);
}

#[test]
fn each_fault_of_prices_has_its_place_and_its_field() {
    let good = "apiVersion: trimtab/v1\nkind: PriceTable\nmetadata: { name: default }\nspec:\n  currency: EUR\n  perCoreHour: 0.031\n  perGibHour: 0.004\n";
    assert!(parse_all("p.yaml", good).is_ok());
    for (from, to, field, said) in [
        ("currency: EUR", "curency: EUR", "spec.curency", "did you mean `currency`"),
        ("currency: EUR", "currency: 0.03", "spec.currency", "not a currency"),
        ("currency: EUR", "currency: [a]", "spec.currency", "this is a list"),
        ("perCoreHour: 0.031", "perCoreHour: 0,031", "spec.perCoreHour", "not a price"),
        ("perCoreHour: 0.031", "perCoreHour: -1", "spec.perCoreHour", "not a price"),
        ("perCoreHour: 0.031", "perCoreHours: 0.031", "spec.perCoreHours", "did you mean `perCoreHour`"),
        ("  perGibHour: 0.004\n", "", "spec.perGibHour", "write for example `perGibHour: 0.004`"),
        ("PriceTable", "PriceTables", "kind", "did you mean `PriceTable`"),
        ("name: default", "name: The Prices", "metadata.name", "is not allowed"),
        ("spec:\n  currency: EUR\n  perCoreHour: 0.031\n  perGibHour: 0.004\n", "", "spec", "currency: EUR"),
    ] {
        assert!(good.contains(from), "{from}");
        let found = parse_all("p.yaml", &good.replacen(from, to, 1)).unwrap_err();
        let hit = found.iter().find(|fault| fault.field == field);
        let hit = hit.unwrap_or_else(|| panic!("{to}: {found:#?}"));
        assert!(hit.to_string().contains(said) && hit.line > 0, "{to}: {hit}");
    }
    let free = good.replace("0.031", "0").replace("0.004", "0.0");
    assert!(parse_all("p.yaml", &free).unwrap_err()[0].message.contains("says nothing"));
}
