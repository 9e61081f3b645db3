//! Finds and reads files that may be anything: reading a named pipe would block, a device has no end, and
//! neither has a pattern that matches everything.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};
use walkdir::WalkDir;

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
///
/// It is not a regular file, is larger, or cannot be read.
pub(super) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let limit = match limit >> 20 {
            0 => format!("{limit} bytes"),
            mebibytes => format!("{mebibytes} MiB"),
        };
        return Err(io::Error::other(format!("larger than {limit}")));
    }
    Ok(bytes)
}

/// Returns `true` if every user of the host can read a file.
pub(super) fn is_world_readable(path: &Path) -> bool {
    let allows = |path: &Path, bits| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & bits == bits)
    };
    let path = path.canonicalize().unwrap_or_default();
    allows(&path, 0o4)
        && path
            .ancestors()
            .skip(1)
            .all(|directory| allows(directory, 0o1))
}

/// Checks that a program could be run.
///
/// # Errors
///
/// Why not.
pub(super) fn check_executable(path: &Path) -> Result<(), String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        Err("not a regular file".to_owned())
    } else if metadata.permissions().mode() & 0o111 == 0 {
        Err("it is not executable".to_owned())
    } else {
        Ok(())
    }
}

/// Returns the files that match a pattern relative to `directory`, sorted.
///
/// # Errors
///
/// The text is not a pattern, a directory cannot be read, or there are more than `limit` entries to
/// search; the message continues a sentence that begins with the pattern.
pub(super) fn matching(
    directory: &Path,
    pattern: &str,
    limit: usize,
) -> Result<Vec<PathBuf>, String> {
    let invalid = |error: glob::PatternError| format!("is not a pattern: {}", error.msg);
    Pattern::new(pattern).map_err(invalid)?;
    let components: Vec<Component<'_>> = Path::new(pattern).components().collect();
    let whole = Path::new(&Pattern::escape(&directory.to_string_lossy())).join(pattern);
    let whole: PathBuf = whole.components().collect();
    let compiled = Pattern::new(&whole.to_string_lossy()).map_err(invalid)?;
    // The search begins at the components without wildcards.
    let literal = components.iter().take_while(|component| {
        let name = component.as_os_str().to_string_lossy();
        !name.contains(['*', '?', '['])
    });
    let literal: PathBuf = literal.collect();
    let depth = components.len() - literal.components().count();
    let start: PathBuf = Path::new(".")
        .join(directory)
        .join(literal)
        .components()
        .collect();
    let mut search = WalkDir::new(&start).follow_links(true).sort_by_file_name();
    if !pattern.contains("**") {
        search = search.min_depth(depth).max_depth(depth);
    }
    let options = MatchOptions {
        require_literal_separator: true,
        ..MatchOptions::new()
    };
    let mut files = Vec::new();
    for (number, entry) in search.into_iter().enumerate() {
        if number == limit {
            return Err(format!(
                "has too much to search: more than {limit} files and directories are below {}; name a directory with fewer",
                start.display()
            ));
        }
        match entry {
            Ok(entry) => {
                let path = entry.path();
                let path = path.strip_prefix(".").unwrap_or(path);
                if compiled.matches_path_with(path, options) {
                    files.push(path.to_owned());
                }
            }
            Err(error) if error.loop_ancestor().is_some() => {}
            // Nothing is there, or it was deleted meanwhile.
            Err(error)
                if error
                    .io_error()
                    .is_some_and(|error| error.kind() == ErrorKind::NotFound) => {}
            Err(error) => return Err(format!("cannot be searched: {error}")),
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_regular_files_up_to_the_limit_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "text").unwrap();
        let pipe = directory.path().join("pipe");
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        let problem = |path: &Path, limit| read(path, limit).unwrap_err().to_string();
        assert_eq!(read(&file, 4).unwrap(), b"text");
        assert_eq!(problem(&file, 3), "larger than 3 bytes");
        for path in [pipe.as_path(), directory.path(), Path::new("/dev/zero")] {
            assert_eq!(problem(path, 4), "not a regular file", "{}", path.display());
        }
    }

    #[test]
    fn a_pattern_with_too_much_to_search_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("a")).unwrap();
        std::os::unix::fs::symlink("..", directory.path().join("a/loop")).unwrap();
        for name in ["b.yml", "a/c.yml", "a/d.yaml"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let found = |pattern, limit| {
            matching(directory.path(), pattern, limit).map(|files| {
                let names = files.iter().map(|file| {
                    let name = file.strip_prefix(directory.path()).unwrap();
                    name.to_string_lossy().into_owned()
                });
                names.collect::<Vec<_>>().join(" ")
            })
        };
        for (pattern, files) in [
            ("*.yml", "b.yml"),
            ("./*/?.yml", "a/c.yml"),
            ("a/c.yml", "a/c.yml"),
            ("**/*.y*ml", "a/c.yml a/d.yaml b.yml"),
            ("a/../*.yml", "a/../b.yml"),
            ("gone/*.yml", ""),
        ] {
            assert_eq!(found(pattern, 100).unwrap(), files, "{pattern}");
        }
        let problem = found("**/*.yml", 3).unwrap_err();
        let path = directory.path().display();
        assert_eq!(
            problem,
            format!(
                "has too much to search: more than 3 files and directories are below {path}; name a directory with fewer"
            )
        );
    }
}
