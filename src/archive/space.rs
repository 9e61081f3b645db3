//! How much space is left where the archive is.
//!
//! Does not decide what to do about it.

use std::path::Path;

/// Returns the directory, or the nearest one above it if it is yet to be created.
#[must_use]
pub fn existing(directory: &Path) -> &Path {
    let mut directories = directory.ancestors();
    let found = directories.find(|directory| directory.is_dir());
    found.unwrap_or(Path::new("."))
}

/// Returns how many bytes this user can still write where `directory` is or will be; [`u64::MAX`] if the
/// file system does not report it.
#[must_use]
pub fn free(directory: &Path) -> u64 {
    match rustix::fs::statvfs(existing(directory)) {
        // Some file systems in user space report no blocks at all.
        Ok(found) if found.f_blocks > 0 => found.f_bavail.saturating_mul(found.f_frsize),
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_space_of_a_directory_that_is_yet_to_be_created_is_that_above_it() {
        let above = tempfile::tempdir().unwrap();
        let missing = above.path().join("a/b");
        assert_eq!(existing(&missing), above.path());
        assert_eq!(existing(above.path()), above.path());
        assert_eq!(existing(Path::new("no-such-directory")), Path::new("."));
        assert!(free(&missing) > 0);
        assert_eq!(free(Path::new("/proc")), u64::MAX);
    }
}
