//! `METRICS.md` against the real output, and the Grafana dashboard against `METRICS.md`.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{collections::BTreeMap, fs, path::Path};

use common::{chain::Service, get, send};
use serde_json::Value;

/// By name: type and labels.
type Families = BTreeMap<String, (String, Vec<String>)>;

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// What the table says.
fn documented() -> Families {
    let text = file("METRICS.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let ["", name, kind, labels, _unit, tells, _alert, ""] = cells[..] else { panic!("{row}") };
        assert!(!tells.is_empty(), "{row}");
        let mut labels: Vec<String> = labels.split(", ").filter(|l| !l.is_empty()).map(unquoted).collect();
        labels.sort_unstable();
        (unquoted(name), (kind.to_owned(), labels))
    })
    .collect()
}

fn unquoted(cell: &str) -> String {
    cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')).unwrap_or_else(|| panic!("{cell}")).to_owned()
}

/// What a page of `/metrics` holds; the labels of families that have samples.
fn written(page: &str) -> Families {
    let mut families = Families::new();
    let mut last = String::new();
    for line in page.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            name.clone_into(&mut last);
            assert!(families.insert(last.clone(), (kind.to_owned(), Vec::new())).is_none(), "{name} is there twice");
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value == "+Inf" || value.parse::<f64>().is_ok(), "{line}");
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let of_family =
                name.strip_prefix(&last).is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest));
            assert!(of_family, "{line}\nafter {last}");
            let mut labels: Vec<String> = labels
                .trim_end_matches('}')
                .split("\",")
                .filter_map(|label| Some(label.split_once('=')?.0.to_owned()))
                .filter(|label| label != "le")
                .collect();
            labels.sort_unstable();
            families.get_mut(&last).unwrap().1 = labels;
        }
    }
    families
}

#[tokio::test]
async fn the_table_is_what_metrics_are() {
    let service = Service::start(100, &[("WAIT_UNTIL", "Final")]).await;
    assert_eq!(send(&service.base, r#"{"receiverId":"user1.test.near","amount":"7"}"#).await.0, 200);
    // Everything that a shard measures of a transfer is reported soon after it, and so is the balance.
    let page = common::until("everything is reported", || async {
        let page = get(&service.base, "/metrics").await.1;
        let reported = ["keyshard_transfers_finalized_total 1\n", "\nkeyshard_tokens_paid_total 7\n"];
        let read = ["\nkeyshard_token_balance ", "\nkeyshard_account_near "];
        reported.iter().chain(&read).all(|line| page.contains(line)).then_some(page)
    })
    .await;
    let (documented, written) = (documented(), written(&page));
    for (name, (kind, labels)) in &written {
        let Some((documented_kind, documented_labels)) = documented.get(name) else {
            panic!("{name} is not in METRICS.md")
        };
        assert_eq!(kind, documented_kind, "{name}");
        // A family without samples shows no labels.
        assert!(labels.is_empty() || labels == documented_labels, "{name}: {labels:?}, {documented_labels:?}");
    }
    for name in documented.keys() {
        assert!(written.contains_key(name), "{name} is in METRICS.md and not in /metrics");
    }
    for stage in ["durable", "signed", "sent", "executed", "final", "total"] {
        let line = format!("keyshard_stage_seconds_count{{stage=\"{stage}\"}} 1\n");
        assert!(page.contains(&line), "{line}{page}");
    }
    for line in [
        "keyshard_batch_transfers_count 1\n",
        "keyshard_batch_gas_count 1\n",
        "keyshard_transfers_accepted_total 1\n",
        "keyshard_transfers_executed_total 1\n",
        "keyshard_transfers_failed_total 0\n",
        "keyshard_rpc_calls_total{method=\"send_tx\",outcome=\"answered\"} 1\n",
        "keyshard_token_runway_seconds +Inf\n",
    ] {
        assert!(page.contains(line), "{line}{page}");
    }
}

#[test]
fn the_grafana_dashboard_uses_only_what_is_there() {
    let dashboard: Value = serde_json::from_str(&file("grafana/keyshard.json")).unwrap();
    let documented = documented();
    let mut expressions = Vec::new();
    collect(&dashboard, &mut expressions);
    assert!(expressions.len() > 20, "{}", expressions.len());
    for expression in expressions {
        let names = expression
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("keyshard_") || word.starts_with("ft_service_"));
        let mut count = 0;
        for name in names {
            count += 1;
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|part| {
                let family = name.strip_suffix(part)?;
                (documented.get(family)?.0 == "histogram").then_some(family)
            });
            let kind = documented.get(name).map(|(kind, _)| kind.as_str());
            assert!(of_histogram.is_some() || kind.is_some_and(|kind| kind != "histogram"), "{name} in {expression}");
        }
        assert!(count > 0, "{expression} names no metric");
    }
}

/// All of `"expr"`, and what the variables ask for.
fn collect<'a>(value: &'a Value, expressions: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                match value {
                    Value::String(text) if name == "expr" || name == "definition" => expressions.push(text),
                    value => collect(value, expressions),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, expressions)),
        _ => {}
    }
}
