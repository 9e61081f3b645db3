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
                    {"id": "decimals", "value": 0},
                    {"id": "custom.cellOptions", "value": {"type": "gauge", "mode": "basic"}},
                ],
            }],
        },
    });
    let (options, defaults) = ("/options", "/fieldConfig/defaults");
    let property = "/fieldConfig/overrides/0/properties/0";
    let cells = json!({"id": "custom.cellOptions", "value": {"type": "gauges"}});
    // A place, what is there instead, and what is found in how many of the four versions.
    let wrong = [
        (
            "/type",
            json!("tables"),
            "has no panel of the type tables",
            4,
        ),
        (
            options,
            json!({"height": 1}),
            "'\"height\"' does not exist",
            4,
        ),
        (
            options,
            json!({"footer": {"show": false}}),
            "'\"footer\"' does not exist",
            2,
        ),
        (
            options,
            json!({"cellHeight": "tiny"}),
            "'\"tiny\"' is not assignable",
            4,
        ),
        (
            defaults,
            json!({"units": "short"}),
            "'\"units\"' does not exist",
            4,
        ),
        (
            defaults,
            json!({"custom": {"lineWidth": 1}}),
            "'\"lineWidth\"' does not exist",
            4,
        ),
        (
            property,
            json!({"id": "custom.hidden"}),
            "'\"custom.hidden\"' is not assignable",
            2,
        ),
        (
            property,
            json!({"id": "custom.width", "value": "wide"}),
            "'string' is not assignable",
            4,
        ),
        (property, cells, "'\"gauges\"' is not assignable", 4),
    ];
    let mut panels = vec![right.clone()];
    for (place, instead, finding, _) in &wrong {
        let mut panel = right.clone();
        *panel.pointer_mut(place).unwrap() = instead.clone();
        panel["title"] = json!(finding);
        panels.push(panel);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let dashboard = json!({"panels": panels, "title": "wrong", "schemaVersions": 39});
    serde_json::to_writer(&file, &dashboard).unwrap();

    let findings = findings([file.path()]);
    let all = findings.join("\n");
    let count = |words: &[&str]| {
        let with = findings
            .iter()
            .filter(|one| words.iter().all(|word| one.contains(word)));
        with.count()
    };
    for (_, _, finding, versions) in wrong {
        let place = format!("panel \"{finding}\"");
        assert_eq!(count(&[&place]), versions, "{finding}\n{all}");
        assert_eq!(
            count(&[&place, ": Grafana ", finding]),
            versions,
            "{finding}\n{all}"
        );
    }
    assert_eq!(count(&["'\"schemaVersions\"' does not exist"]), 4, "{all}");
    assert_eq!(count(&["\"right\""]), 0, "{all}");
}
