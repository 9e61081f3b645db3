//! The unit for systemd: whether systemd accepts it, how little it permits, and whether the exporter
//! starts as it defines.
//!
//! Needs no running systemd; the effect of the restrictions is not tested.

use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Running, program, root};

const NAME: &str = "wxapp-portrait-exporter.service";

/// The path of the program in the unit.
const PROGRAM: &str = "/usr/local/bin/wxapp-portrait-exporter";

fn read(name: &str) -> String {
    let directory = root().join("deploy/systemd");
    std::fs::read_to_string(directory.join(name)).unwrap()
}

/// Returns the value of a key in the unit, which is set once.
fn setting(key: &str) -> String {
    let unit = read(NAME).replace("\\\n", "");
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    let values: Vec<_> = lines.filter(|(name, _)| *name == key).collect();
    assert_eq!(values.len(), 1, "{key}");
    values[0].1.to_owned()
}

/// Lets systemd-analyze check the unit with the real path of the program; returns whether it is valid,
/// and the output.
fn analyze(arguments: &[&str]) -> (bool, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(NAME);
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
fn systemd_accepts_the_unit() {
    // Other installed units are not reported.
    let (good, said) = analyze(&["--man=no", "--recursive-errors=no", "verify"]);
    // An unknown key is reported, and accepted.
    assert!(good && said.is_empty(), "{said}");
}

#[test]
fn systemd_rates_the_exposure_of_the_exporter_below_two() {
    let (good, said) = analyze(&["security", "--offline=true", "--threshold=20"]);
    assert!(good && said.contains("Overall exposure level"), "{said}");
}

/// Runs what the unit starts, up to the check of the sample configuration, with everything in a
/// directory; returns the exit code and the output.
async fn check_in(directory: &TempDir) -> (Option<i32>, String) {
    let start = setting("ExecStart");
    let words = start.strip_prefix(PROGRAM).unwrap().split_whitespace();
    let root = directory.path().to_str().unwrap();
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
async fn the_exporter_starts_as_in_the_unit_with_the_sample_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let sample = read("wxapp-portrait.yml");
    let etc = directory.path().join("etc/wxapp-portrait");
    let credentials = directory.path().join("credentials");
    for directory in [&etc, &credentials] {
        std::fs::create_dir_all(directory).unwrap();
    }

    // systemd names the copy of every file in a directory after the credential and the file.
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

    let (code, said) = check_in(&directory).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("valid, apps: 1"), "{said}");
}

#[tokio::test]
async fn an_invalid_configuration_does_not_cause_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let (code, said) = check_in(&directory).await;
    let code = code.map(|code| code.to_string());
    assert_eq!(code, Some(setting("RestartPreventExitStatus")), "{said}");
}
