//! Reads a YAML file as far as it has the expected shape.

use std::io::ErrorKind;
use std::path::Path;

use super::read::Read;
use super::{files, tree, yaml_errors};

/// No configuration file is larger: a list of 10,000 apps has some 2 MiB.
const LARGEST_FILE: u64 = 16 << 20;

/// Returns what could be read, and the problems with the lines that they are in; `flag` names the file
/// on the command line.
pub(super) fn read<T: Read>(path: &Path, flag: &str) -> (Option<T>, Vec<(Option<u64>, String)>) {
    let failed = |line, problem| (None, vec![(line, problem)]);
    let bytes = match files::read(path, LARGEST_FILE) {
        Ok(bytes) => bytes,
        Err(error) => {
            let hint = match error.kind() {
                ErrorKind::NotFound => format!("; write it, or name another with {flag}"),
                _ => String::new(),
            };
            return failed(None, format!("cannot read it: {error}{hint}"));
        }
    };
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = before.split(|byte| *byte == b'\n').count() as u64;
            let problem = "not valid UTF-8: save the file as UTF-8".to_owned();
            return failed(Some(line), problem);
        }
    };
    let node = match tree::parse(text) {
        Ok(node) => node,
        Err(error) => {
            let (line, problem) = yaml_errors::describe(&error);
            return failed(line, problem);
        }
    };
    let mut problems = Vec::new();
    let value = T::read(node, "", &mut problems);
    let problems = problems.into_iter();
    let problems = problems.map(|(line, problem)| (Some(line), problem));
    (value, problems.collect())
}
