//! The workflows of GitHub: their syntax, the shell commands in them, and the scripts of the project that they run.
//!
//! Nothing here runs a workflow.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use regex::Regex;
use serde_json::Value;

use crate::harness::root;

fn files() -> Vec<PathBuf> {
    let pattern = root().join(".github/workflows/*");
    let files = glob::glob(pattern.to_str().unwrap()).unwrap();
    files.map(Result::unwrap).collect()
}

/// Returns what actionlint finds, which runs shellcheck on all commands.
fn findings(files: &[PathBuf]) -> String {
    let mut actionlint = Command::new(root().join("target/tools/python/bin/actionlint"));
    actionlint.args([
        "-no-color",
        "-oneline",
        "-shellcheck",
        "/usr/bin/shellcheck",
    ]);
    let output = actionlint.args(files).current_dir(root()).output();
    let output = output.unwrap_or_else(|error| panic!("actionlint: {error}: run tests/run"));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_workflows_are_linted_without_findings() {
    assert!(
        std::fs::exists("/usr/bin/shellcheck").unwrap(),
        "run tests/run"
    );
    assert_eq!(findings(&files()), "");

    let directory = tempfile::tempdir().unwrap();
    let release = root().join(".github/workflows/release.yml");
    let release = std::fs::read_to_string(release).unwrap();
    for (good, bad, problem) in [
        (
            "needs: draft",
            "needs: drafts",
            "job \"drafts\" which does not exist",
        ),
        (
            "ubuntu-24.04-arm",
            "ubuntu-24.4-arm",
            "label \"ubuntu-24.4-arm\" is unknown",
        ),
        ("dist/build \"$TARGET\"", "dist/build $TARGET", "SC2086"),
        (
            "matrix.target",
            "matrix.targets",
            "property \"targets\" is not defined",
        ),
    ] {
        let file = directory.path().join("release.yml");
        let broken = release.replacen(good, bad, 1);
        assert_ne!(broken, release, "{good}");
        std::fs::write(&file, broken).unwrap();
        let found = findings(&[file]);
        assert!(found.contains(problem), "{bad}: {found}");
    }
}

#[test]
fn the_workflows_run_scripts_of_the_project_and_no_actions_of_others() {
    let mut scripts = BTreeSet::new();
    let script = Regex::new(r"\bbash (\S+)").unwrap();
    for file in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let image = "docker.io/library/rust:";
        let version = format!("{image}{}-", env!("CARGO_PKG_RUST_VERSION"));
        assert!(text.contains(&version), "{version}");
        assert_eq!(text.matches(image).count(), text.matches(&version).count());
        let workflow: Value = serde_saphyr::from_str(&text).unwrap();
        for job in workflow["jobs"].as_object().unwrap().values() {
            if let Some(other) = job["uses"].as_str() {
                let other = other.strip_prefix("./").unwrap();
                assert!(root().join(other).exists(), "{other}");
                continue;
            }
            if let Some(image) = job["container"].as_str() {
                assert!(image.starts_with(&version), "{image}");
            }
            for step in job["steps"].as_array().unwrap() {
                assert_eq!(step["uses"], Value::Null, "{step}");
                let commands = step["run"].as_str().unwrap();
                let found = script.captures_iter(commands);
                scripts.extend(found.map(|found| found[1].to_owned()));
            }
        }
    }
    let scripts: Vec<_> = scripts.iter().map(String::as_str).collect();
    assert_eq!(scripts, [".ci/run", "deploy/sbom", "dist/build"]);
    for script in scripts {
        let file = std::fs::metadata(root().join(script));
        let file = file.unwrap_or_else(|error| panic!("{script}: {error}"));
        assert_ne!(file.permissions().mode() & 0o111, 0, "{script}");
    }
}
