//! `import`: imports history from elsewhere into the archive.
//!
//! Everything is read once, into a [`Staging`]: problems are found before anything is stored, pipes can be
//! read, and little is held in memory, however much there is.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flate2::bufread::MultiGzDecoder;
use tokio_util::sync::CancellationToken;
use walkdir::WalkDir;

use super::{Error, print_stdout, progress, progress_without_end};
use crate::archive::{Staging, Store, space};
use crate::calendar::{self, Clock};
use crate::cli;
use crate::config::{Config, RETENTION};
use crate::import::{self, ImportDefaults, Item};

/// Means standard input among the paths.
const STANDARD_INPUT: &str = "-";

/// What a file begins with that is compressed with gzip.
const GZIP_MAGIC: &[u8] = b"\x1f\x8b";

/// How many problems are logged one by one.
const PROBLEMS: usize = 20;

/// How many bytes an import leaves free on the disk: enough for the exporter to store the days of some
/// months, for the log of the archive, and for what is written between two checks.
pub(super) const RESERVE: u64 = 64 << 20;

/// The free space is checked each time so many bytes were collected.
const CHECKED: usize = 1 << 20;

/// Imports what the paths hold, or nothing if any of it is invalid.
///
/// # Errors
///
/// A file is invalid, the archive can't be written, or the disk would be full.
pub(super) fn run(
    flags: &cli::Import,
    config: Option<&Config>,
    clock: &Clock,
    ending: &CancellationToken,
) -> Result<(), Error> {
    let import = Import {
        flags,
        retention: config.map(|config| config.archive.retention),
        clock,
        ending,
        free: &space::free,
    };
    print_stdout(&import.run()?)
}

/// An import.
struct Import<'a> {
    flags: &'a cli::Import,
    /// See [`crate::config::Archive::retention`]; `None` without a configuration.
    retention: Option<Duration>,
    clock: &'a Clock,
    ending: &'a CancellationToken,
    /// Returns how many bytes are free where a directory is.
    free: &'a dyn Fn(&Path) -> u64,
}

impl Import<'_> {
    /// Imports, and returns sentences for the operator.
    fn run(&self) -> Result<String, Error> {
        let flags = self.flags;
        let covers = flags.window.zip(flags.reference_date);
        if covers.is_some()
            && (flags.paths.len() > 1 || flags.paths.iter().any(|path| path.is_dir()))
        {
            let problem = "--window and --reference-date are for a single file";
            return Err(Error::Usage(problem.to_owned()));
        }
        let is_standard_input = |path: &&PathBuf| path.as_path() == STANDARD_INPUT;
        if flags.paths.iter().filter(is_standard_input).count() > 1 {
            let problem = "`-` can be given once, as standard input can be read once";
            return Err(Error::Usage(problem.to_owned()));
        }
        let files: Result<Vec<_>, Error> = flags.paths.iter().map(|path| files_in(path)).collect();
        let files = files?.concat();
        let defaults = ImportDefaults {
            appid: flags.appid.clone(),
            covers,
        };

        self.require(&flags.storage_path, RESERVE, 0)?;
        let mut staging = Staging::create(&flags.storage_path)?;
        let without_portrait = self.collect(&files, &defaults, &mut staging)?;
        self.require_space(&staging)?;
        let mut archive = Store::of_guest(&flags.storage_path, Arc::clone(self.clock));
        self.warn_of_retention(&staging, &mut archive)?;
        let stored = self.store(&staging, &mut archive)?;

        let days = staging.len()?;
        let mut summary = format!(
            "Imported {stored} of {} of {} in {} into {}.\n",
            counted(days, "day"),
            counted(staging.apps()?, "app"),
            counted(files.len() as u64, "file"),
            archive.path().display(),
        );
        if stored < days {
            summary += "The archive already has the others; they are unchanged.\n";
        }
        if stored > 0 {
            summary += "A running exporter shows the new days within its poll.interval.\n";
        }
        if without_portrait > 0 {
            summary += &counted(without_portrait, "response");
            summary += " had no portrait.\n";
        }
        Ok(summary)
    }

    /// Reads the files; returns how many responses had no portrait. Scripts that poll several times a day
    /// leave several responses for it: the last one counts.
    fn collect(
        &self,
        files: &[PathBuf],
        defaults: &ImportDefaults,
        staging: &mut Staging,
    ) -> Result<u64, Error> {
        let progress = match files.iter().map(|file| length(file)).sum::<Option<u64>>() {
            Some(bytes) => progress(bytes, "bytes"),
            None => progress_without_end("bytes"),
        };
        let now = (self.clock)();
        let mut problems = 0;
        let mut without_portrait = 0;
        let mut unchecked = 0;
        for file in files {
            let mut end = Ok(());
            let mut each = |line, item| -> Result<(), Error> {
                if self.ending.is_cancelled() {
                    return Err(Error::Interrupted);
                }
                match item {
                    // With a problem nothing is stored.
                    Ok(Item::Day(_)) if problems > 0 => {}
                    Ok(Item::Day(record)) => {
                        unchecked += staging.put(&record)?;
                        if unchecked >= CHECKED {
                            unchecked = 0;
                            self.require_space(staging)?;
                        }
                    }
                    Ok(Item::NoPortrait(problem)) => {
                        tracing::info!(file = %file.display(), line, problem, "no portrait");
                        without_portrait += 1;
                    }
                    Err(problem) => {
                        problems += 1;
                        if problems <= PROBLEMS {
                            tracing::error!(file = %file.display(), line, problem, "cannot import");
                        }
                    }
                }
                Ok(())
            };
            let pass_on = |line, item| {
                end = each(line, item);
                match end {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            };
            open(file)
                .and_then(|open| decompressed(BufReader::new(progress.wrap_read(open))))
                .and_then(|open| import::read(open, defaults, now, pass_on))
                .map_err(|source| Error::Input(file.clone(), source))?;
            end?;
        }
        progress.finish_and_clear();
        if problems > PROBLEMS {
            tracing::error!(problems = problems - PROBLEMS, "further problems");
        }
        if problems > 0 {
            return Err(Error::Import);
        }
        Ok(without_portrait)
    }

    /// Stores the days that the archive does not have; returns how many.
    fn store(&self, staging: &Staging, archive: &mut Store) -> Result<u64, Error> {
        let progress = progress(staging.len()?, "days");
        let mut stored = 0;
        staging.batches(|rows| {
            if self.ending.is_cancelled() {
                return Err(Error::Interrupted);
            }
            self.require(&self.flags.storage_path, RESERVE, stored)?;
            stored += archive.insert_missing(rows)? as u64;
            progress.inc(rows.len() as u64);
            Ok(())
        })?;
        progress.finish_and_clear();
        Ok(stored)
    }

    /// Fails unless the archive has space for what was collected so far, and more can be collected.
    fn require_space(&self, staging: &Staging) -> Result<(), Error> {
        self.require(staging.directory(), RESERVE, 0)?;
        self.require(&self.flags.storage_path, staging.bytes()? + RESERVE, 0)
    }

    /// Fails unless so many bytes are free where a directory is.
    fn require(&self, directory: &Path, needed: u64, stored: u64) -> Result<(), Error> {
        let free = (self.free)(directory);
        if free >= needed {
            return Ok(());
        }
        Err(Error::Full {
            directory: space::existing(directory).to_owned(),
            free,
            needed,
            imported: match stored {
                0 => "nothing was imported".to_owned(),
                1 => "1 day was imported".to_owned(),
                _ => format!("{stored} days were imported"),
            },
        })
    }

    /// Warns of days that a running exporter deletes at the next midnight.
    fn warn_of_retention(&self, staging: &Staging, archive: &mut Store) -> Result<(), Error> {
        let Some(newest) = staging.newest()? else {
            return Ok(());
        };
        let retention_days = self.retention.unwrap_or(RETENTION).as_secs() / (24 * 3600);
        let today = calendar::today((self.clock)());
        let days = staging.older_than(archive.first_day_kept(retention_days, today, newest)?)?;
        if days > 0 {
            let (all, is_default) = (staging.len()?, self.retention.is_none());
            let hint = if is_default {
                "raise archive.retention first, or name the configuration with --config.file if it is longer there"
            } else {
                "raise archive.retention first"
            };
            tracing::warn!(
                days,
                of = all,
                retention_days,
                hint,
                "days beyond archive.retention will be deleted by the exporter"
            );
        }
        Ok(())
    }
}

fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// Returns a file itself, or the JSON files in a directory and its subdirectories, sorted.
fn files_in(path: &Path) -> Result<Vec<PathBuf>, Error> {
    if path == STANDARD_INPUT {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |error| Error::Input(path.to_owned(), error);
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    let mut skipped = 0;
    for entry in WalkDir::new(path).sort_by_file_name() {
        let entry = entry.map_err(|error| failed(error.into()))?;
        let name = entry.file_name().to_string_lossy();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        let is_json = [".json", ".jsonl"]
            .iter()
            .any(|ending| name.ends_with(ending));
        if entry.file_type().is_file() && is_json {
            files.push(entry.into_path());
        } else if !entry.file_type().is_dir() {
            skipped += 1;
        }
    }
    if files.is_empty() {
        let problem = "no .json or .jsonl file in this directory, compressed with gzip or not";
        return Err(failed(io::Error::other(problem)));
    }
    if skipped > 0 {
        tracing::warn!(
            directory = %path.display(),
            read = files.len(),
            skipped,
            "only .json and .jsonl files are imported"
        );
    }
    Ok(files)
}

/// Returns what is in a file, be it compressed with gzip or not.
fn decompressed<'a>(mut file: impl BufRead + 'a) -> io::Result<Box<dyn BufRead + 'a>> {
    Ok(if file.fill_buf()?.starts_with(GZIP_MAGIC) {
        Box::new(BufReader::new(MultiGzDecoder::new(file)))
    } else {
        Box::new(file)
    })
}

/// Opens a file, or standard input.
fn open(file: &Path) -> io::Result<File> {
    if file == STANDARD_INPUT {
        io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else {
        File::open(file)
    }
}

/// Returns how long a file is; `None` for a pipe, whose end is unknown, and which must not be opened twice.
fn length(file: &Path) -> Option<u64> {
    let metadata = if file == STANDARD_INPUT {
        open(file).and_then(|input| input.metadata())
    } else {
        fs::metadata(file)
    };
    let metadata = metadata.ok().filter(fs::Metadata::is_file);
    metadata.map(|metadata| metadata.len())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fmt::Write as _;

    use clap::Parser as _;
    use tempfile::TempDir;

    use super::*;
    use crate::archive::Selection;
    use crate::cli::{Cli, Command};

    /// Returns responses for as many days, with as many names that hardly compress.
    fn answers(days: u64, names: u64) -> String {
        let mut random = fastrand::Rng::with_seed(7);
        let first: chrono::NaiveDate = "2026-11-21".parse().unwrap();
        let mut lines = String::new();
        for days in 0..days {
            let day = calendar::days_before(first, days);
            let names = (0..names).map(|users| {
                let letters = std::iter::repeat_with(|| random.alphanumeric());
                let name: String = letters.take(50).collect();
                serde_json::json!({"name": name, "value": users})
            });
            let platforms: Vec<_> = names.collect();
            let answer = serde_json::json!({
                "ref_date": day.format("%Y%m%d").to_string(),
                "visit_uv": {"platforms": platforms},
            });
            writeln!(lines, "{answer}").unwrap();
        }
        lines
    }

    /// Imports a text on a disk with so many free bytes at each look; returns the problem, and how many
    /// days were stored.
    fn imported(text: &str, free: &dyn Fn(&Path) -> u64) -> (Result<String, Error>, u32) {
        let directory = TempDir::new().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        let file = directory.path().join("answers.jsonl");
        fs::write(&file, text).unwrap();
        let words = ["x", "import", "--appid", "wx0123456789abcdef"].map(Into::into);
        let paths = ["--storage.path".into(), data.clone(), file];
        let Some(Command::Import(flags)) =
            Cli::parse_from(words.into_iter().chain(paths.map(PathBuf::into_os_string))).command
        else {
            panic!("import")
        };
        let clock: Clock = Arc::new(|| "2026-11-22T08:00:00Z".parse().unwrap());
        let import = Import {
            flags: &flags,
            retention: None,
            clock: &clock,
            ending: &CancellationToken::new(),
            free,
        };
        let result = import.run();
        if fs::read_dir(&data).unwrap().next().is_none() {
            return (result, 0);
        }
        let mut archive = Store::of_guest(&data, clock);
        let stored = archive.count(&Selection::default()).unwrap();
        (result, stored)
    }

    /// Returns a disk whose free space is another one at each look, and then stays.
    fn shrinking(free: &[u64]) -> impl Fn(&Path) -> u64 {
        let looks = Cell::new(0);
        move |_| {
            let look = looks.replace(looks.get() + 1);
            free[look.min(free.len() - 1)]
        }
    }

    #[test]
    fn an_import_stops_before_it_fills_the_disk() {
        let text = answers(100, 1);
        let (result, stored) = imported(&text, &shrinking(&[u64::MAX]));
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(stored, 100);
        // There is room at each look but the last: at the start, for what is collected, for the archive
        // to grow by as much, and for each batch.
        for (free, expected, days) in [
            (&[RESERVE - 1][..], "nothing was imported", 0),
            (
                &[RESERVE, RESERVE + 1_000_000, RESERVE + 1000],
                "nothing was imported",
                0,
            ),
            (
                &[u64::MAX, u64::MAX, u64::MAX, 0],
                "nothing was imported",
                0,
            ),
            (
                &[u64::MAX, u64::MAX, u64::MAX, RESERVE, RESERVE - 1],
                "64 days were imported",
                64,
            ),
        ] {
            let (result, stored) = imported(&text, &shrinking(free));
            let problem = result.unwrap_err().to_string();
            assert!(problem.contains(expected), "{problem}");
            assert!(
                problem.ends_with("make room, then import again"),
                "{problem}"
            );
            assert_eq!(stored, days, "{problem}");
        }
    }

    #[test]
    fn an_import_stops_while_it_reads_when_the_disk_becomes_full() {
        let text = answers(30, 2000) + "not JSON\n";
        let (result, stored) = imported(&text, &shrinking(&[u64::MAX]));
        assert!(matches!(result, Err(Error::Import)), "{result:?}");
        assert_eq!(stored, 0);
        let (result, stored) = imported(&text, &shrinking(&[RESERVE]));
        let problem = result.unwrap_err().to_string();
        assert!(
            problem.starts_with("stopped before the disk is full: 64 MiB are free in "),
            "{problem}"
        );
        assert!(problem.contains(" needs 6"), "{problem}");
        assert!(problem.contains("of which 64 MiB stay free"), "{problem}");
        assert_eq!(stored, 0);
    }
}
