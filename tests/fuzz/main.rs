//! The targets of `fuzz` in the ordinary run of the tests: with the corpus, and with changes of it.
//!
//! What is changed follows from a seed, so that every run tries the same. libFuzzer, which measures what an input
//! reaches, is run by `tests/run --long`.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of the tests panic like the tests themselves"
)]
#![expect(clippy::print_stderr, reason = "a failed test shows its input")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use fastrand::Rng;

#[path = "../../fuzz/src/lib.rs"]
#[expect(
    unreachable_pub,
    reason = "in the directory fuzz it is a crate of its own"
)]
mod targets;

/// No input grows beyond this size.
const LARGEST: usize = 8 << 10;

/// Runs a target with every input of its corpus, and with so many changed ones.
fn replay(name: &str, target: fn(&[u8]), changed: usize) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let files = fs::read_dir(&directory).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let corpus: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    assert!(corpus.len() > 2, "{}", directory.display());
    let mut dice = Rng::with_seed(7);
    let changed = std::iter::repeat_with(|| change(&corpus, &mut dice)).take(changed);
    for input in corpus.iter().cloned().chain(changed) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&input))) {
            eprintln!(
                "{name}: add to {}: {}",
                directory.display(),
                input.escape_ascii()
            );
            resume_unwind(panic);
        }
    }
}

/// Returns an input of the corpus with one to eight changes.
fn change(corpus: &[Vec<u8>], dice: &mut Rng) -> Vec<u8> {
    let mut input = dice.choice(corpus).unwrap().clone();
    for _ in 0..dice.usize(1..=8) {
        let at = dice.usize(..=input.len());
        let end = (at + dice.usize(..=16)).min(input.len());
        match dice.u8(..7) {
            0 => drop(input.drain(at..end)),
            1 => input.insert(at, dice.u8(..)),
            2 if at < end => input[at] ^= 1 << dice.u8(..8),
            3 => {
                let copy = input[at..end].to_vec();
                let to = dice.usize(..=input.len());
                input.splice(to..to, copy);
            }
            4 => {
                let special = [
                    &b"\0"[..],
                    b"\xff",
                    b"\"",
                    b"\\",
                    b"<",
                    b"%00",
                    b"\\ud83d",
                    b"18446744073709551616",
                ];
                let special = dice.choice(special).unwrap();
                input.splice(at..end, special.iter().copied());
            }
            // The beginning of one input with the end of another.
            5 => {
                let other = dice.choice(corpus).unwrap();
                let from = dice.usize(..=other.len());
                input.splice(at.., other[from..].iter().copied());
            }
            _ => {
                let digit = input.iter().position(u8::is_ascii_digit);
                if let Some(digit) = digit {
                    input[digit] = dice.u8(b'0'..=b'9');
                }
            }
        }
    }
    input.truncate(LARGEST);
    input
}

#[test]
fn no_answer_of_wechat_breaks_the_decoder_or_the_archive() {
    replay("portrait", targets::portrait, 10_000);
}

#[test]
fn no_envelope_changes_an_answer() {
    replay("envelope", targets::envelope, 5_000);
}

#[test]
fn no_source_of_tokens_yields_what_cannot_be_sent() {
    replay("token", targets::token, 20_000);
}

#[test]
fn no_secret_is_left_of_a_foreign_text() {
    replay("errmsg", targets::errmsg, 5_000);
}

#[test]
fn no_configuration_shows_a_secret_or_reads_back_as_another() {
    replay("configuration", targets::configuration, 2_000);
}

#[test]
fn no_web_configuration_is_accepted_that_cannot_be_served() {
    replay("web_configuration", targets::web_configuration, 2_000);
}

#[test]
fn no_imported_file_yields_a_day_that_cannot_be_read_back() {
    replay("import", targets::import, 5_000);
}

#[test]
fn no_request_gets_an_answer_that_breaks_its_format_or_has_a_secret() {
    replay("request", targets::request, 300);
}

#[test]
fn no_names_and_figures_break_the_page() {
    replay("page", targets::page, 800);
}
