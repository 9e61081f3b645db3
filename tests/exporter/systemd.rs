//! The unit for systemd: whether systemd takes it, how little it lets the exporter do, and whether
//! the exporter starts as it says.
//!
//! Needs no running systemd; what its restrictions do is not seen.

use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Running, program, root};

const NAME: &str = "wxapp-portrait-exporter.service";

/// Where the unit has the program.
const PROGRAM: &str = "/usr/local/bin/wxapp-portrait-exporter";

fn read(name: &str) -> String {
    let folder = root().join("deploy/systemd");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// Answers what the unit sets a key to, which it does once.
fn setting(key: &str) -> String {
    let unit = read(NAME).replace("\\\n", "");
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    let values: Vec<_> = lines.filter(|(name, _)| *name == key).collect();
    assert_eq!(values.len(), 1, "{key}");
    values[0].1.to_owned()
}

/// Lets systemd-analyze look at the unit with the program where it is here; answers whether it is
/// content, and what it says.
fn analyze(arguments: &[&str]) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(NAME);
    let here = program().get_program().to_str().unwrap().to_owned();
    std::fs::write(&file, read(NAME).replace(PROGRAM, &here)).unwrap();
    let mut command = Command::new("systemd-analyze");
    let output = command.args(arguments).arg(&file).output();
    let output = output.unwrap_or_else(|error| panic!("systemd-analyze: {error}: run tests/run"));
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn systemd_takes_the_unit() {
    // Of what else is installed here, nothing is told.
    let (good, said) = analyze(&["--man=no", "--recursive-errors=no", "verify"]);
    // An unknown key is told, and taken.
    assert!(good && said.is_empty(), "{said}");
}

#[test]
fn systemd_rates_the_exposure_of_the_exporter_below_two() {
    let (good, said) = analyze(&["security", "--offline=true", "--threshold=20"]);
    assert!(good && said.contains("Overall exposure level"), "{said}");
}

/// Runs what the unit starts, up to the check of the sample configuration, with everything in a
/// folder; answers the exit code and what was said.
async fn check_in(folder: &TempDir) -> (Option<i32>, String) {
    let start = setting("ExecStart");
    let words = start.strip_prefix(PROGRAM).unwrap().split_whitespace();
    let root = folder.path().to_str().unwrap();
    let mut command = program();
    for word in words {
        let state = format!("{root}/var/lib/{}", setting("StateDirectory"));
        command.arg(
            word.replace("${STATE_DIRECTORY}", &state)
                .replace("=/etc/", &format!("={root}/etc/")),
        );
    }
    command.arg("--config.check");
    let mut running = Running::start(command);
    let (end, _) = running.ended().await;
    (end.code(), running.output())
}

#[tokio::test]
async fn the_exporter_starts_as_the_unit_says_with_the_sample_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let sample = read("wxapp-portrait.yml");
    let etc = folder.path().join("etc/wxapp-portrait");
    let credentials = folder.path().join("credentials");
    for folder in [&etc, &credentials] {
        std::fs::create_dir_all(folder).unwrap();
    }

    // systemd names the copy of every file in a folder after the credential and the file.
    let credential = setting("LoadCredential");
    let (prefix, secrets) = credential.split_once(':').unwrap();
    assert!(sample.contains(&format!("{secrets}/shop")), "{sample}");
    std::fs::write(
        credentials.join(format!("{prefix}_shop")),
        "5ec2e7".repeat(5) + "00",
    )
    .unwrap();
    let given = format!("/run/credentials/{NAME}/");
    assert!(sample.contains(&given), "{sample}");
    let sample = sample.replace(&given, &format!("{}/", credentials.display()));
    std::fs::write(etc.join("wxapp-portrait.yml"), sample).unwrap();

    let (code, said) = check_in(&folder).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("good, apps: 1"), "{said}");
}

#[tokio::test]
async fn a_wrong_configuration_is_not_tried_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = check_in(&folder).await;
    let code = code.map(|code| code.to_string());
    assert_eq!(code, Some(setting("RestartPreventExitStatus")), "{said}");
}
