//! The types of panels in several versions of Grafana, as `tests/dashboards/types.mjs` reads them.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::harness::root;

/// Checks dashboards; returns the findings, one in a line.
fn findings<'a>(dashboards: impl IntoIterator<Item = &'a Path>) -> Vec<String> {
    let output = Command::new("node")
        .arg("tests/dashboards/types.mjs")
        .args(dashboards)
        .current_dir(root())
        .output()
        .unwrap();
    let findings = String::from_utf8(output.stdout).unwrap();
    let findings: Vec<_> = findings.lines().map(str::to_owned).collect();
    let expected = i32::from(!findings.is_empty());
    let problem = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(expected), "{problem}");
    findings
}

#[test]
fn every_version_of_grafana_knows_every_property_of_the_dashboards() {
    let dashboards = glob::glob(concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards/*.json")).unwrap();
    let dashboards: Vec<_> = dashboards.map(Result::unwrap).collect();
    assert!(!dashboards.is_empty(), "there are no dashboards");
    let findings = findings(dashboards.iter().map(AsRef::as_ref));
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn a_property_that_a_version_of_grafana_lacks_is_found() {
    let right = json!({
        "title": "right", "type": "table",
        "options": {"showHeader": true, "cellHeight": "sm"},
        "fieldConfig": {
            "defaults": {"unit": "short", "custom": {"align": "auto"}},
            "overrides": [{
                "matcher": {"id": "byName", "options": "users"},
                "properties": [
                    {"id": "custom.filterable", "value": true},
                    {"id": "custom.cellOptions", "value": {"type": "gauge", "mode": "basic"}},
                ],
            }],
        },
    });
    let (kind, options, defaults) = ("/type", "/options", "/fieldConfig/defaults");
    let (id, value, cells) = (
        "/fieldConfig/overrides/0/properties/0/id",
        "/fieldConfig/overrides/0/properties/0/value",
        "/fieldConfig/overrides/0/properties/1/value",
    );
    // A place, what is there instead, and what is found in how many of the four versions.
    let wrong = [
        (kind, json!("tables"), "no panel of the type tables", 4),
        // It has options of its own, and no custom properties.
        (kind, json!("stat"), "\"cellHeight\"", 4),
        (kind, json!("stat"), "\"align\"", 4),
        (options, json!({"height": 1}), "\"height\"", 4),
        (options, json!({"footer": {}}), "\"footer\"", 2),
        (options, json!({"cellHeight": "tiny"}), "\"tiny\"", 4),
        (defaults, json!({"units": "short"}), "\"units\"", 4),
        (defaults, json!({"custom": {"fill": 1}}), "\"fill\"", 4),
        (id, json!("custom.hidden"), "\"custom.hidden\"", 2),
        (value, json!("yes"), "'string' is not assignable", 4),
        (cells, json!({"type": "gauges"}), "\"gauges\"", 4),
    ];
    let mut panels = vec![right.clone()];
    for (id, (place, instead, ..)) in wrong.iter().enumerate() {
        let mut panel = right.clone();
        *panel.pointer_mut(place).unwrap() = instead.clone();
        panel["title"] = json!(format!("wrong {id}"));
        panels.push(panel);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let dashboard = json!({"title": "one", "panels": panels, "schemaVersions": 39});
    serde_json::to_writer(&file, &dashboard).unwrap();

    let findings = findings([file.path()]);
    let count = |place: &str, finding: &str| {
        let found = findings.iter().filter(|found| found.contains(place));
        found.filter(|found| found.contains(finding)).count()
    };
    let all = findings.join("\n");
    for (id, (_, _, finding, versions)) in wrong.iter().enumerate() {
        let place = format!("panel \"wrong {id}\"");
        assert_eq!(count(&place, finding), *versions, "{id} {finding}\n{all}");
    }
    assert_eq!(count(": Grafana ", "\"schemaVersions\""), 4, "{all}");
    assert_eq!(count("\"right\"", ""), 0, "{all}");
}
