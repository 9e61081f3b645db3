//! The archive's own thread, and the handle to it.
//!
//! SQLite waits for the disk; no app's task does. Jobs go through a bounded channel and are processed
//! one after the other; between them, long work is done in slices.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use tokio::sync::{mpsc, oneshot};

use super::error::{Error, Operation, Place};
use super::health::Health;
use super::record::{Coverage, DayState, Key, Record, Restored, Row, UnreadDay};
use super::sharing::{Round, Sharing};
use super::sqlite;
use super::store::Store;
use crate::portrait::{AppId, Window};

/// How many jobs may wait.
const WAITING: usize = 64;

/// How many days of a history are read at once: some milliseconds.
const HISTORY_SLICE: usize = 128;

/// How often the thread checks the file for changes by other programs.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// How long a shutdown may spend copying the rest of a file that was removed.
const LAST_COPIES: Duration = Duration::from_secs(2);

/// How long work in slices pauses after a failure.
const RETRY_COOLDOWN: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// The archive of an exporter.
#[derive(Debug)]
pub struct Archive {
    shared: Arc<Shared>,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What can be read without waiting.
#[derive(Debug)]
struct Shared {
    place: Place,
    sharing: Option<Sharing>,
    size: AtomicU64,
    version: AtomicU64,
    health: Health,
}

/// What runs on the thread.
struct Worker {
    store: Store,
    shared: Arc<Shared>,
    observe: Box<dyn Fn(Operation) + Send>,
}

impl Archive {
    /// Opens an archive and starts its thread; `observe` is called for every operation that fails. If
    /// it can't be opened, the thread keeps running and retries.
    ///
    /// # Errors
    ///
    /// Another exporter owns it, or this version of the program can't use it.
    pub fn open(
        mut store: Store,
        observe: impl Fn(Operation) + Send + 'static,
    ) -> Result<Self, Error> {
        if let Store::Sqlite(file) = &mut store {
            file.lock()?;
        }
        let shared = Arc::new(Shared {
            place: store.place(),
            sharing: store.sharing(),
            size: AtomicU64::new(0),
            version: AtomicU64::new(0),
            health: Health::default(),
        });
        let mut worker = Worker {
            store,
            shared: Arc::clone(&shared),
            observe: Box::new(observe),
        };
        if let Err(error) = worker.run(Operation::Open, Store::open)
            && error.prevents_start()
        {
            return Err(error);
        }
        let (jobs, queue) = mpsc::channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("archive".to_owned())
            .spawn(move || worker.work(queue))
            .map_err(|error| Error::Failed {
                place: shared.place.clone(),
                operation: Operation::Open,
                problem: format!("cannot start its thread: {error}"),
            })?;
        Ok(Self {
            shared,
            jobs: Mutex::new(Some(jobs)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Returns where it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.shared.place
    }

    /// Returns the size of the file and its log, in bytes, as last observed; none of a database.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        matches!(self.shared.place, Place::File(_))
            .then(|| self.shared.size.load(Ordering::Relaxed))
    }

    /// Returns the current problem of the archive, for people; `None` if there is none.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.shared.health.problem()
    }

    /// Returns a number that changes when days may have been added or removed by anything but an app's
    /// own task: an import, the retention, or another file.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Relaxed)
    }

    /// Returns how long leases and rounds last, if other exporters may use it: an app may be polled under
    /// a lease only.
    #[must_use]
    pub fn sharing(&self) -> Option<Sharing> {
        self.shared.sharing
    }

    /// Reports this exporter to the others, claims the leases of these apps that nobody holds, and reads
    /// what the others did; `polled` are the apps that this one polled since the last round. Leases of
    /// other apps are released. Only for an archive that is shared.
    ///
    /// # Errors
    ///
    /// It failed; the leases that were held before last for [`Sharing::lease`] from the last success.
    pub async fn share(&self, appids: HashSet<AppId>, polled: Vec<AppId>) -> Result<Round, Error> {
        self.call(Operation::Share, move |store| store.share(&appids, &polled))
            .await
    }

    /// Stores rows, see [`Store::upsert`]; returns the state of each as it is archived now.
    ///
    /// # Errors
    ///
    /// None of them is stored in that case.
    pub async fn upsert(&self, rows: Vec<Arc<Row>>) -> Result<Vec<DayState>, Error> {
        self.call(Operation::Write, move |store| {
            store.upsert(rows.iter().map(|row| &**row))
        })
        .await
    }

    /// Notes that the same figures arrived again, see [`Store::update_state`].
    ///
    /// # Errors
    ///
    /// Nothing is changed in that case.
    pub async fn update_state(
        &self,
        key: Key,
        digest: u64,
        state: DayState,
    ) -> Result<bool, Error> {
        self.call(Operation::Write, move |store| {
            store.update_state(&key, digest, &state)
        })
        .await
    }

    /// Returns what is held of an app and window, see [`Store::restore`].
    ///
    /// # Errors
    ///
    /// It can't be read now.
    pub async fn restore(
        &self,
        appid: AppId,
        window: Window,
        limit: usize,
        last_day: NaiveDate,
    ) -> Result<Restored, Error> {
        self.call(Operation::Read, move |store| {
            store.restore(&appid, window, limit, last_day)
        })
        .await
    }

    /// Returns which days of an app and window are held.
    ///
    /// # Errors
    ///
    /// It can't be read now.
    pub async fn coverage(&self, appid: AppId, window: Window) -> Result<Coverage, Error> {
        self.call(Operation::Read, move |store| store.coverage(&appid, window))
            .await
    }

    /// Returns the days of an app and window that are held, beginning with `from`, the oldest first; their
    /// figures are yet to be read. In slices, so that writes need not wait for all of them.
    ///
    /// # Errors
    ///
    /// They can't be read now.
    pub async fn history(
        &self,
        appid: AppId,
        window: Window,
        mut from: NaiveDate,
    ) -> Result<Vec<UnreadDay>, Error> {
        let mut days = Vec::new();
        loop {
            let appid = appid.clone();
            let read = move |store: &mut Store| store.history(&appid, window, from, HISTORY_SLICE);
            let slice = self.call(Operation::Read, read).await?;
            let end = slice.last().map(|day| day.reference_date);
            let is_last = slice.len() < HISTORY_SLICE;
            days.extend(slice);
            match end.and_then(|end| end.succ_opt()) {
                Some(next) if !is_last => from = next,
                _ => return Ok(days),
            }
        }
    }

    /// Returns up to `limit` records of an app and window, beginning with `from`, the oldest first.
    ///
    /// # Errors
    ///
    /// They can't be read now.
    pub async fn records(
        &self,
        appid: AppId,
        window: Window,
        from: NaiveDate,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        self.call(Operation::Read, move |store| {
            store.records(&appid, window, from, limit)
        })
        .await
    }

    /// Returns the answer of a day, if it is held.
    ///
    /// # Errors
    ///
    /// It can't be read now.
    pub async fn answer(&self, key: Key) -> Result<Option<String>, Error> {
        self.call(Operation::Read, move |store| store.answer(&key))
            .await
    }

    /// Plans to delete the days that are further back than `retention_days`, see
    /// [`Store::plan_pruning`].
    pub async fn prune(&self, retention_days: u64, today: NaiveDate) {
        let job: Job = Box::new(move |worker| worker.store.plan_pruning(retention_days, today));
        let jobs = self
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(jobs) = jobs {
            // Fails only when the program ends.
            let _ = jobs.send(job).await;
        }
    }

    /// Reads the whole file to check that all of it can be read, and sets it aside if not. Takes long
    /// for a large file, but nothing waits for it.
    pub async fn check(&self) {
        let Place::File(path) = self.shared.place.clone() else {
            return;
        };
        let check = move || (sqlite::inode(&path), sqlite::check(&path));
        let Ok((checked, found)) = tokio::task::spawn_blocking(check).await else {
            return;
        };
        // Counted and logged there.
        let _ = self
            .call(Operation::Open, move |store| match store {
                Store::Sqlite(file) => file.checked(checked, found),
                Store::Postgres(_) => Ok(()),
            })
            .await;
    }

    /// Ends the thread once pending jobs are done, and closes the file.
    pub async fn close(&self) {
        let jobs = self
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(jobs);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // A panic there was logged by the hook.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// Runs a job on the thread, and waits for its result.
    async fn call<T: Send + 'static>(
        &self,
        operation: Operation,
        action: impl FnOnce(&mut Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let jobs = self
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let jobs = jobs.ok_or(Error::Closed)?;
        let (reply, result) = oneshot::channel();
        let job: Job = Box::new(move |worker| {
            if operation == Operation::Read && reply.is_closed() {
                // The caller has stopped waiting, as the archive was slow.
                return;
            }
            let _ = reply.send(worker.run(operation, action));
        });
        jobs.send(job).await.map_err(|_| Error::Closed)?;
        result.await.unwrap_or(Err(Error::Closed))
    }
}

impl Worker {
    fn work(mut self, mut queue: mpsc::Receiver<Job>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let Ok(runtime) = runtime else {
            tracing::error!("cannot start the thread of the archive");
            return;
        };
        let mut looked_at = Instant::now();
        let mut failed_at: Option<Instant> = None;
        loop {
            if looked_at.elapsed() >= LOOK_AROUND {
                looked_at = Instant::now();
                // The first job that needs the file opens it; a failure here is logged and counted.
                if self.store.is_open() {
                    let _ = self.run(Operation::Open, |store| match store {
                        Store::Sqlite(file) => file.look_around().map(drop),
                        Store::Postgres(_) => Ok(()),
                    });
                }
            }
            let is_resting = failed_at.is_some_and(|at| at.elapsed() < RETRY_COOLDOWN);
            let job = if self.store.has_work() && !is_resting {
                match queue.try_recv() {
                    Ok(job) => Some(job),
                    Err(mpsc::error::TryRecvError::Disconnected) => return self.finish(),
                    Err(mpsc::error::TryRecvError::Empty) => {
                        let slice = self.run(self.store.next_operation(), Store::work);
                        failed_at = slice.is_err().then(Instant::now);
                        None
                    }
                }
            } else {
                let next = runtime
                    .block_on(async { tokio::time::timeout(LOOK_AROUND, queue.recv()).await });
                match next {
                    Ok(Some(job)) => Some(job),
                    Ok(None) => return self.finish(),
                    Err(_) => None,
                }
            };
            if let Some(job) = job {
                job(&mut self);
            }
        }
    }

    /// Copies what may exist only in an open connection, for as long as a shutdown may take, and releases
    /// the leases.
    fn finish(&mut self) {
        let deadline = Instant::now() + LAST_COPIES;
        let has_rescue = |store: &Store| matches!(store, Store::Sqlite(file) if file.has_rescue());
        while has_rescue(&self.store)
            && Instant::now() < deadline
            && self.run(Operation::Write, Store::work).is_ok()
        {}
        if self.store.is_open() {
            // Else they expire.
            let _ = self.run(Operation::Share, Store::release);
        }
    }

    /// Runs an operation on the store, and records its outcome.
    fn run<T>(
        &mut self,
        operation: Operation,
        action: impl FnOnce(&mut Store) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let action = AssertUnwindSafe(|| action(&mut self.store));
        let result = catch_unwind(action).unwrap_or_else(|_| {
            // Logged by the hook. The file is reopened, and the slice is not retried.
            self.store.recover();
            Err(Error::Failed {
                place: self.shared.place.clone(),
                operation,
                problem: "a bug in this program, see the log".to_owned(),
            })
        });
        let shared = &self.shared;
        match &result {
            // A check that could not open the file says nothing.
            Ok(_) if !self.store.is_open() => {}
            Ok(_) => shared.health.succeeded(operation),
            Err(error) => {
                (self.observe)(error.operation());
                shared.health.failed(error);
            }
        }
        if let Store::Sqlite(file) = &self.store {
            shared.health.set_notice(file.notice());
            shared.size.store(file.size(), Ordering::Relaxed);
        }
        shared
            .version
            .store(self.store.version(), Ordering::Relaxed);
        result
    }
}
