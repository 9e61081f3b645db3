//! Reads files that may be anything: reading a named pipe would block, and a device has no end.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

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
}
