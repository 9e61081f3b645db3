//! Guards every path, and the handshake of TLS, with the file of `--web.config.file`.
//!
//! The file and those that it names are read again when they have changed. As in the exporters of
//! Prometheus, nothing is served while they are invalid, and whether TLS is on and the limit on requests are
//! settled at the start.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rustls::ServerConfig;
use tokio::sync::Semaphore;

use super::auth::{Authenticator, RateLimiter, Verdict};
use super::tls;
use crate::config;
use crate::config::web::{self, WebConfig};

/// How long reading the files may take: they may be on a share that does not answer.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// How many readings may be under way at once, those that took longer included: each occupies a thread.
const READINGS: usize = 3;

/// The web configuration, and what is known about clients.
pub struct Guard {
    path: PathBuf,
    is_tls: bool,
    limiter: Option<RateLimiter>,
    authenticator: Authenticator,
    current: Mutex<Current>,
    /// Each for one reading of the files.
    permits: Arc<Semaphore>,
    /// Called when the files have become invalid.
    failed: Box<dyn Fn() + Send + Sync>,
}

struct Current {
    /// Of the files when they were read.
    signature: Signature,
    loaded: Loaded,
    /// What is wrong with the files now.
    problem: Option<String>,
}

/// What was read last.
#[derive(Clone)]
struct Loaded {
    config: Arc<WebConfig>,
    tls: Option<Arc<ServerConfig>>,
}

/// What changes with every file that is replaced or written.
type Signature = Vec<Option<(u64, u64, i64, i64, i64)>>;

impl Guard {
    /// Reads the web configuration; `failed` is called whenever it has become invalid later.
    ///
    /// # Errors
    ///
    /// The files are invalid, or the system has no random numbers.
    pub fn open(
        path: &Path,
        failed: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, config::Error> {
        let (signature, loaded) = load(path)?;
        log_warnings(&loaded.config.warnings);
        Ok(Self {
            path: path.to_owned(),
            is_tls: loaded.tls.is_some(),
            limiter: loaded.config.rate_limit.map(RateLimiter::new),
            authenticator: Authenticator::new().map_err(|problem| web::error(path, &problem))?,
            current: Mutex::new(Current {
                signature,
                loaded,
                problem: None,
            }),
            permits: Arc::new(Semaphore::new(READINGS)),
            failed: Box::new(failed),
        })
    }

    /// Returns whether connections are encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Returns what the next connection is encrypted with; `None` while the files are invalid.
    pub(super) async fn tls(self: &Arc<Self>) -> Option<Arc<ServerConfig>> {
        self.loaded().await?.tls
    }

    /// Returns what the files contain; `None` while they are invalid or cannot be read.
    async fn loaded(self: &Arc<Self>) -> Option<Loaded> {
        let reading = async {
            let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
            let guard = Arc::clone(self);
            let reading = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                guard.read()
            });
            reading.await.ok()?
        };
        let read = tokio::time::timeout(READ_TIMEOUT, reading).await;
        read.unwrap_or_else(|_| {
            self.note(Some(format!(
                "{}: reading it took longer than {READ_TIMEOUT:?}: check the disks and shares that it and its certificates are on",
                self.path.display()
            )));
            None
        })
    }

    /// Reads the files if they have changed. Nothing is locked meanwhile, as that may take long.
    fn read(&self) -> Option<Loaded> {
        let (before, last) = {
            let current = self.current();
            (current.signature.clone(), current.loaded.clone())
        };
        let is_same = signature(&last.config.files) == before;
        if is_same && self.current().problem.is_none() {
            return Some(last);
        }
        let (signature, loaded) = match load(&self.path) {
            Ok(found) => found,
            Err(error) => {
                self.note(Some(error.to_string()));
                return None;
            }
        };
        if loaded.config.warnings != last.config.warnings {
            log_warnings(&loaded.config.warnings);
        }
        let hint = "restart the exporter";
        if loaded.config.rate_limit != last.config.rate_limit {
            tracing::warn!(hint, "the changed rate_limit has no effect yet");
        }
        let has_tls = loaded.tls.is_some();
        if has_tls && !self.is_tls && last.tls.is_none() {
            tracing::warn!(hint, "the added tls_server_config has no effect yet");
        }
        let mut current = self.current();
        current.signature = signature;
        current.loaded = loaded.clone();
        drop(current);
        if self.is_tls && !has_tls {
            self.note(Some(format!(
                "{}: tls_server_config is gone: restart the exporter to serve without TLS",
                self.path.display()
            )));
            return None;
        }
        self.note(None);
        Some(loaded)
    }

    /// Notes what is wrong with the files now, and reports when that changes.
    fn note(&self, problem: Option<String>) {
        let mut current = self.current();
        if problem == current.problem {
            return;
        }
        if let Some(problem) = &problem {
            for problem in problem.lines() {
                tracing::error!(problem, "invalid web configuration");
            }
            (self.failed)();
        } else {
            tracing::info!("the web configuration is valid again");
        }
        current.problem = problem;
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks the web configuration at `path`, and returns its warnings.
///
/// # Errors
///
/// It is invalid.
pub fn check_web_config(path: &Path) -> Result<Vec<String>, config::Error> {
    load(path).map(|(_, loaded)| loaded.config.warnings.clone())
}

fn log_warnings(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!(problem = warning, "questionable web configuration");
    }
}

fn load(path: &Path) -> Result<(Signature, Loaded), config::Error> {
    let mut files = vec![path.to_owned()];
    loop {
        // Before they are read, so that a change meanwhile is noticed the next time.
        let signature = signature(&files);
        let config = web::load(path)?;
        if config.files != files {
            files = config.files;
            continue;
        }
        let tls = config.tls.as_ref().map(tls::server_config).transpose();
        let tls = tls.map_err(|problem| web::error(path, &problem))?;
        let config = Arc::new(config);
        return Ok((signature, Loaded { config, tls }));
    }
}

fn signature(files: &[PathBuf]) -> Signature {
    let of_file = |file: &PathBuf| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((
            metadata.ino(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime_nsec(),
        ))
    };
    files.iter().map(of_file).collect()
}

/// Answers a request only as the web configuration allows.
pub(super) async fn protect(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(Loaded { config, .. }) = guard.loaded().await else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n").into_response();
    };
    let is_allowed = |limiter: &RateLimiter| limiter.allow(Instant::now());
    if !guard.limiter.as_ref().is_none_or(is_allowed) {
        return too_many_requests();
    }
    let authorization = request.headers().get(header::AUTHORIZATION);
    let mut response = match guard
        .authenticator
        .check(&config.users, authorization)
        .await
    {
        Verdict::Right => next.run(request).await,
        Verdict::Busy => return too_many_requests(),
        Verdict::Wrong => {
            let headers = [
                (header::WWW_AUTHENTICATE, "Basic"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (StatusCode::UNAUTHORIZED, headers, "Unauthorized\n").into_response()
        }
    };
    // They replace the exporter's own.
    for (name, value) in &config.headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

fn too_many_requests() -> Response {
    (StatusCode::TOO_MANY_REQUESTS, "Too Many Requests\n").into_response()
}
