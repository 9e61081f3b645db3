//! Passes the revision and the compiler to the program.

use std::process::Command;

#[expect(
    clippy::disallowed_methods,
    reason = "cargo configures build scripts by the environment"
)]
fn main() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let rustversion = output(Command::new(rustc).arg("--version"));
    // "rustc 1.95.0 (59807616e 2026-04-14)"
    let rustversion = rustversion
        .as_deref()
        .and_then(|text| text.split(' ').nth(1));
    println!(
        "cargo::rustc-env=BUILD_RUSTVERSION={}",
        rustversion.unwrap_or("unknown")
    );

    // A build of an image has no repository, and is passed the revision.
    println!("cargo::rerun-if-env-changed=BUILD_REVISION");
    let revision = std::env::var("BUILD_REVISION")
        .ok()
        .or_else(|| output(Command::new("git").args(["rev-parse", "--short=12", "HEAD"])));
    println!(
        "cargo::rustc-env=BUILD_REVISION={}",
        revision.as_deref().unwrap_or("unknown")
    );
    println!("cargo::rerun-if-changed=build.rs");
    // The log of HEAD grows with every commit and checkout.
    if let Some(log) = output(Command::new("git").args(["rev-parse", "--git-path", "logs/HEAD"])) {
        println!("cargo::rerun-if-changed={log}");
    }
}

fn output(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
