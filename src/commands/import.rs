//! `import`: imports history from elsewhere into the archive.
//!
//! Everything is read twice: problems are found before anything is stored, and little is held in
//! memory, however much there is.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use flate2::bufread::MultiGzDecoder;
use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;
use walkdir::WalkDir;

use super::{Error, print_stdout, progress};
use crate::archive::{Row, Store};
use crate::calendar::Clock;
use crate::cli;
use crate::import::{self, ImportDefaults, Item};
use crate::portrait::AppId;

/// Means standard input among the paths.
const STANDARD_INPUT: &str = "-";

/// What a file begins with that is compressed with gzip.
const GZIP_MAGIC: &[u8] = b"\x1f\x8b";

/// How many problems are logged one by one.
const PROBLEMS: usize = 20;

/// How many entries are stored in one transaction.
const BATCH: usize = 64;

/// Imports what the paths hold, or nothing if any of it is invalid.
///
/// # Errors
///
/// A file is invalid, or the archive can't be written.
pub(super) fn run(
    flags: &cli::Import,
    clock: &Clock,
    ending: &CancellationToken,
) -> Result<(), Error> {
    let covers = flags.window.zip(flags.reference_date);
    if covers.is_some() && (flags.paths.len() > 1 || flags.paths.iter().any(|path| path.is_dir())) {
        let problem = "--window and --reference-date are for a single file";
        return Err(Error::Usage(problem.to_owned()));
    }
    let files: Result<Vec<_>, Error> = flags.paths.iter().map(|path| files_in(path)).collect();
    let files = files?.concat();
    let standard_input = standard_input(&files, &flags.storage_path)?;
    let sizes = files.iter().map(fs::metadata);
    let sizes = sizes.chain(standard_input.as_ref().map(File::metadata));
    let bytes = sizes.map(|metadata| metadata.map_or(0, |metadata| metadata.len()));
    let source = Source {
        standard_input,
        defaults: ImportDefaults {
            appid: flags.appid.clone(),
            covers,
        },
        now: clock(),
        progress: progress(bytes.sum::<u64>() * 2, "bytes"),
        files,
        ending,
    };

    let mut problems = 0;
    let mut without_portrait = 0;
    // Scripts that poll several times a day leave several responses for it: the last one counts.
    let mut last_places = HashMap::new();
    let mut place = 0_usize;
    source.read(|file, line, item| {
        match item {
            Ok(Item::Day(record)) => {
                last_places.insert(record.key, place);
                place += 1;
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
    })?;
    if problems > PROBLEMS {
        tracing::error!(problems = problems - PROBLEMS, "further problems");
    }
    if problems > 0 {
        return Err(Error::Import);
    }

    let mut archive = Store::of_guest(&flags.storage_path, Arc::clone(clock));
    let mut batch = Vec::new();
    let mut stored = 0;
    let mut place = 0_usize;
    let mut store = |batch: &mut Vec<Row>| -> Result<(), Error> {
        stored += archive.insert_missing(&*batch)?;
        batch.clear();
        Ok(())
    };
    source.read(|file, _, item| {
        match item {
            Ok(Item::Day(record)) => {
                if last_places.get(&record.key) == Some(&place) {
                    batch.push(Row::from(&record));
                }
                place += 1;
            }
            Ok(Item::NoPortrait(_)) => {}
            Err(_) => return Err(Error::Changed(file.to_owned())),
        }
        if batch.len() >= BATCH {
            store(&mut batch)?;
        }
        Ok(())
    })?;
    store(&mut batch)?;
    source.progress.finish_and_clear();

    let apps: BTreeSet<&AppId> = last_places.keys().map(|key| &key.appid).collect();
    let mut summary = format!(
        "Imported {stored} of {} of {} in {} into {}.\n",
        counted(last_places.len(), "day"),
        counted(apps.len(), "app"),
        counted(source.files.len(), "file"),
        archive.path().display(),
    );
    if stored < last_places.len() {
        summary += "The archive already has the others; they are unchanged.\n";
    }
    if stored > 0 {
        summary += "A running exporter shows the new days within its poll.interval.\n";
    }
    if without_portrait > 0 {
        summary += &counted(without_portrait, "response");
        summary += " had no portrait.\n";
    }
    print_stdout(&summary)
}

fn counted(number: usize, what: &str) -> String {
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
    if metadata.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    if !metadata.is_dir() {
        let problem =
            "not a regular file, which it must be as it is read twice; standard input is `-`";
        return Err(failed(io::Error::other(problem)));
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

/// Returns an unnamed file with all of standard input, if that is among the files.
///
/// It is in the archive directory, as a container may have no other directory to write to.
fn standard_input(files: &[PathBuf], storage_path: &Path) -> Result<Option<File>, Error> {
    if !files.iter().any(|file| file.as_path() == STANDARD_INPUT) {
        return Ok(None);
    }
    let copied = tempfile::tempfile_in(storage_path)
        .or_else(|_| tempfile::tempfile())
        .and_then(|mut copy| io::copy(&mut io::stdin().lock(), &mut copy).map(|_| copy));
    copied
        .map(Some)
        .map_err(|error| Error::Input(STANDARD_INPUT.into(), error))
}

/// The files to import.
struct Source<'a> {
    /// The copy of standard input, for `-` among the files.
    standard_input: Option<File>,
    files: Vec<PathBuf>,
    defaults: ImportDefaults,
    now: DateTime<Utc>,
    progress: ProgressBar,
    ending: &'a CancellationToken,
}

impl Source<'_> {
    /// Passes all items of the files on, with file and line.
    fn read(
        &self,
        mut each: impl FnMut(&Path, usize, Result<Item, String>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for file in &self.files {
            let mut end = Ok(());
            let pass_on = |line, item| {
                end = if self.ending.is_cancelled() {
                    Err(Error::Interrupted)
                } else {
                    each(file, line, item)
                };
                match end {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            };
            let opened = match &self.standard_input {
                Some(copy) if file.as_path() == STANDARD_INPUT => {
                    copy.try_clone().and_then(|mut copy| {
                        copy.rewind()?;
                        Ok(copy)
                    })
                }
                _ => File::open(file),
            };
            opened
                .and_then(|open| decompressed(BufReader::new(self.progress.wrap_read(open))))
                .and_then(|open| import::read(open, &self.defaults, self.now, pass_on))
                .map_err(|source| Error::Input(file.clone(), source))?;
            end?;
        }
        Ok(())
    }
}
