//! Guards every path, and the handshake of TLS, with the file of `--web.config.file`.
//!
//! The file and those that it names are read again when they have changed. As in the exporters of
//! Prometheus, nothing is served while they are invalid, and whether TLS is on and the limit on requests are
//! settled at the start.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rustls::ServerConfig;

use super::auth::{Authenticator, RateLimiter};
use super::tls;
use crate::config;
use crate::config::web::{self, WebConfig};

/// The web configuration, and what is known about clients.
pub struct Guard {
    path: PathBuf,
    is_tls: bool,
    limiter: Option<RateLimiter>,
    authenticator: Authenticator,
    current: Mutex<Current>,
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
        for warning in &loaded.config.warnings {
            tracing::warn!(problem = warning, "questionable web configuration");
        }
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

    /// Returns what the files contain; `None` while they are invalid.
    async fn loaded(self: &Arc<Self>) -> Option<Loaded> {
        let guard = Arc::clone(self);
        let loaded = tokio::task::spawn_blocking(move || guard.read()).await;
        loaded.ok().flatten()
    }

    fn read(&self) -> Option<Loaded> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = signature(&current.loaded.config.files) == current.signature;
        if is_same && current.problem.is_none() {
            return Some(current.loaded.clone());
        }
        let problem = match load(&self.path) {
            Ok((signature, loaded)) => {
                current.signature = signature;
                current.loaded = loaded;
                match (self.is_tls, current.loaded.tls.is_some()) {
                    (true, false) => Some(format!(
                        "{}: tls_server_config is gone: restart the exporter to serve without TLS",
                        self.path.display()
                    )),
                    (false, true) => {
                        tracing::warn!(
                            file = %self.path.display(),
                            hint = "restart the exporter",
                            "TLS is not switched on while the exporter runs"
                        );
                        None
                    }
                    _ => None,
                }
            }
            Err(error) => Some(error.to_string()),
        };
        if problem != current.problem {
            for problem in problem.iter().flat_map(|problem| problem.lines()) {
                tracing::error!(problem, "invalid web configuration");
            }
            if problem.is_some() {
                (self.failed)();
            } else {
                tracing::info!("the web configuration is valid again");
            }
            current.problem = problem;
        }
        current.problem.is_none().then(|| current.loaded.clone())
    }
}

fn load(path: &Path) -> Result<(Signature, Loaded), config::Error> {
    // Before the files are read, so that a change meanwhile is noticed the next time.
    let before = signature(&[path.to_owned()]);
    let config = web::load(path)?;
    let tls = config.tls.as_ref().map(tls::server_config).transpose();
    let tls = tls.map_err(|problem| web::error(path, &problem))?;
    let mut signature = signature(&config.files);
    signature.splice(..1, before);
    let config = Arc::new(config);
    Ok((signature, Loaded { config, tls }))
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
        return (StatusCode::TOO_MANY_REQUESTS, "Too Many Requests\n").into_response();
    }
    let authorization = request.headers().get(header::AUTHORIZATION);
    let mut response = if guard
        .authenticator
        .check(&config.users, authorization)
        .await
    {
        next.run(request).await
    } else {
        let basic = [(header::WWW_AUTHENTICATE, "Basic")];
        let mut response = (StatusCode::UNAUTHORIZED, basic, "Unauthorized\n").into_response();
        let nosniff = HeaderValue::from_static("nosniff");
        response
            .headers_mut()
            .insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        response
    };
    // They replace the exporter's own.
    for (name, value) in &config.headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}
