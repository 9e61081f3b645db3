//! `export`: writes archived days.

use std::fs;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use super::{Error, archive, is_stdout_closed, progress};
use crate::archive::{Record, Selection, Store};
use crate::calendar::{self, Clock};
use crate::cli::{self, ExportFormat};
use crate::config::{Config, STALE_AFTER};
use crate::expectation::HISTORY_DAYS;
use crate::export::Writer;
use crate::poll::due;
use crate::portrait::Dimension;
use crate::wechat::decode;

const STEP: TimeDelta = TimeDelta::hours(1);

/// Writes the selected days, or fails without an output file.
///
/// # Errors
///
/// The archive can't be read, or the output can't be written.
pub(super) fn run(
    flags: &cli::Export,
    config: Option<&Config>,
    clock: &Clock,
    ending: &CancellationToken,
) -> Result<(), Error> {
    if flags.step.is_some() && flags.format != ExportFormat::OpenMetrics {
        return Err(Error::Usage(
            "--step is for --format openmetrics only".to_owned(),
        ));
    }
    if flags.bom && flags.format != ExportFormat::Csv {
        return Err(Error::Usage("--bom is for --format csv only".to_owned()));
    }
    if let (Some(from), Some(to)) = (flags.from, flags.to)
        && from > to
    {
        return Err(Error::Usage(format!(
            "--from {from} is later than --to {to}"
        )));
    }
    let output = flags.output.as_ref().filter(|path| *path != "-");
    if output.is_none() && is_stdout_closed() {
        return Err(Error::NoOutput);
    }
    let mut archive = archive::of_guest(&flags.storage_path, config, clock)?;
    if let Some(file) = archive.file()
        && !file.is_file()
    {
        return Err(Error::NoArchive(file.to_owned()));
    }
    for appid in &flags.appid {
        let selection = Selection {
            appids: vec![appid.clone()],
            ..Selection::default()
        };
        if archive.count(&selection)? == 0 {
            return Err(Error::NotArchived(appid.clone()));
        }
    }
    let export = Export {
        flags,
        config,
        now: clock(),
        ending,
    };
    let Some(path) = output else {
        let output = io::stdout().lock();
        let is_alone = !output.is_terminal();
        return match export.write(&mut archive, BufWriter::new(output), is_alone) {
            // The reader has closed the pipe.
            Err(Error::Output(_, error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        };
    };
    let failed = |error| Error::Output(path.clone(), error);
    let (path, mut file) = beside(path, &archive).map_err(failed)?;
    let result = export.write(&mut archive, BufWriter::new(&mut file), true);
    if let Ok(()) | Err(Error::Unreadable(_)) = result {
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
    }
    result
}

/// Returns the final path of the output, and the temporary file beside it.
fn beside(path: &Path, archive: &Store) -> io::Result<(PathBuf, NamedTempFile)> {
    let (path, permissions) = match fs::canonicalize(path) {
        Ok(path) => {
            let metadata = path.metadata()?;
            if !metadata.is_file() {
                // A device must not be replaced by a file.
                return Err(io::Error::other("not a regular file"));
            }
            if let Some(archive) = archive.file() {
                let archive = fs::canonicalize(archive)?;
                let name = path.as_os_str().as_encoded_bytes();
                // The names of its other files begin with its own.
                if name.starts_with(archive.as_os_str().as_encoded_bytes()) {
                    return Err(io::Error::other("it is the archive"));
                }
            }
            (path, Some(metadata.permissions()))
        }
        Err(_) => (path.to_owned(), None),
    };
    let directory = directory_of(&path);
    if !directory.is_dir() {
        let problem = format!("no such directory: {}", directory.display());
        return Err(io::Error::other(problem));
    }
    let mut builder = tempfile::Builder::new();
    // The permissions of any new file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let file = builder.tempfile_in(directory)?;
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    Ok((path, file))
}

fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    }
}

/// What is exported, and how.
struct Export<'a> {
    flags: &'a cli::Export,
    config: Option<&'a Config>,
    now: DateTime<Utc>,
    ending: &'a CancellationToken,
}

impl Export<'_> {
    fn write(
        &self,
        archive: &mut Store,
        output: impl Write,
        with_progress: bool,
    ) -> Result<(), Error> {
        let Self {
            flags,
            config,
            now,
            ending,
        } = *self;
        let to_output = flags
            .output
            .clone()
            .unwrap_or_else(|| "standard output".into());
        let failed = |error| Error::Output(to_output.clone(), error);
        let is_samples = flags.format == ExportFormat::OpenMetrics;
        let stale_after = config.map_or(STALE_AFTER, |config| config.stale_after);
        let is_gzip = flags.gzip || to_output.extension().is_some_and(|ending| ending == "gz");
        let output = if is_gzip {
            Output::Gzip(Box::new(GzEncoder::new(output, Compression::default())))
        } else {
            Output::Plain(output)
        };
        let mut writer = match flags.format {
            ExportFormat::OpenMetrics => {
                let step = flags.step.and_then(|step| TimeDelta::from_std(step).ok());
                let apps = config.map_or(&[][..], |config| &config.apps);
                let apps = apps.iter().map(|app| (app.appid.clone(), app.into()));
                let (step, apps) = (step.unwrap_or(STEP), apps.collect());
                let file = flags.output.as_deref().filter(|path| *path != "-");
                let directory = file.map_or(&*flags.storage_path, directory_of);
                Writer::open_metrics(output, step, stale_after, now, apps, directory)
            }
            ExportFormat::Csv => {
                let apps = config.map_or(&[][..], |config| &config.apps);
                let names = apps.iter().map(|app| (app.appid.clone(), app.name.clone()));
                Writer::csv(output, names.collect(), flags.bom)
            }
            ExportFormat::JsonLines => Ok(Writer::json_lines(output)),
        }
        .map_err(failed)?;
        let mut selection = Selection {
            appids: flags.appid.clone(),
            windows: flags.window.clone(),
            from: flags.from,
            to: flags.to,
            lead: 0,
        };
        let mut dimensions = Dimension::ALL.to_vec();
        dimensions
            .retain(|dimension| flags.dimension.is_empty() || flags.dimension.contains(dimension));
        let days = archive.count(&selection)?;
        if days == 0 {
            tracing::warn!(archive = %archive.place(), "no archived days match these apps, windows and days");
        }
        if is_samples {
            // The days before show which names are missing and what was to be expected, the days after when
            // the last day was replaced.
            selection.lead = HISTORY_DAYS;
            let stale_at = |to| due::stale_at(to, stale_after);
            let past = selection.to.filter(|to| *to < calendar::today(now));
            selection.to = past.map(|to| calendar::today(stale_at(to)));
        }
        let wanted = flags.from.unwrap_or(NaiveDate::MIN)..=flags.to.unwrap_or(NaiveDate::MAX);
        let progress = if with_progress {
            progress(days, "days")
        } else {
            indicatif::ProgressBar::hidden()
        };
        let mut unreadable = 0;
        let mut each = |record: &Record| -> Result<(), Error> {
            if ending.is_cancelled() {
                return Err(Error::Interrupted);
            }
            let (window, day) = (record.key.window, record.key.reference_date);
            let portrait = decode::archived(&record.answer, window, day);
            if !wanted.contains(&day) {
                return writer.pass_over(record, portrait.ok()).map_err(failed);
            }
            progress.inc(1);
            match portrait {
            Ok(portrait) => writer.add(record, portrait, &dimensions),
            Err(error) => {
                tracing::error!(appid = %record.key.appid, %window, %day, %error, "skipped an archived response");
                unreadable += 1;
                writer.pass_over(record, None)
            }
        }
        .map_err(failed)
        };
        let end = archive.read(&selection, |record| match each(&record) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        })?;
        if let ControlFlow::Break(error) = end {
            return Err(error);
        }
        writer.finish().and_then(Output::finish).map_err(failed)?;
        progress.finish_and_clear();
        if unreadable > 0 {
            return Err(Error::Unreadable(unreadable));
        }
        Ok(())
    }
}

/// Where the export is written.
enum Output<W: Write> {
    Plain(W),
    Gzip(Box<GzEncoder<W>>),
}

impl<W: Write> Output<W> {
    /// Writes what is still buffered.
    fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(mut output) => output.flush(),
            Self::Gzip(encoder) => encoder.finish()?.flush(),
        }
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(output) => output.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(output) => output.flush(),
            Self::Gzip(encoder) => encoder.flush(),
        }
    }
}
