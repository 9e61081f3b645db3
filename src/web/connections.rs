//! The connections of all addresses, and which of them to close when there are too many.
//!
//! Whoever serves a connection reports what happens on it.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// A connection on which a byte moved so recently is closed only if there is no other.
const BUSY: Duration = Duration::from_secs(1);

/// The open connections, and how many there may be.
#[derive(Debug)]
pub struct Connections {
    limit: usize,
    start: Instant,
    ids: AtomicU64,
    open: Mutex<Open>,
    closed: Notify,
    /// Held while a connection waits for another to be closed.
    adding: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Open {
    activities: HashMap<u64, Arc<Activity>>,
    /// Those that were evicted and are not closed yet included.
    number: usize,
}

/// What happens on a connection; times are in milliseconds.
#[derive(Debug)]
struct Activity {
    /// When it was accepted, or its last request was answered.
    answered_at: AtomicU64,
    /// When a byte was last received or sent.
    moved_at: AtomicU64,
    is_answering: AtomicBool,
    is_evicted: CancellationToken,
}

/// A connection that is counted until it is dropped.
pub(super) struct Connection {
    connections: Arc<Connections>,
    id: u64,
    activity: Arc<Activity>,
}

impl Connections {
    /// Allows so many connections, at least one.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            start: Instant::now(),
            ids: AtomicU64::new(0),
            open: Mutex::default(),
            closed: Notify::new(),
            adding: tokio::sync::Mutex::default(),
        }
    }

    /// Adds a connection; if there are too many, after the one that has been idle for longest is closed.
    pub(super) async fn add(self: &Arc<Self>) -> Connection {
        let _adding = self.adding.lock().await;
        loop {
            if let Some(connection) = self.try_add() {
                return connection;
            }
            self.closed.notified().await;
        }
    }

    /// Adds a connection, or evicts one.
    fn try_add(self: &Arc<Self>) -> Option<Connection> {
        let now = self.now();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.number >= self.limit {
            if open.activities.len() >= self.limit {
                open.evict(now);
            }
            return None;
        }
        let activity = Arc::new(Activity {
            answered_at: AtomicU64::new(now),
            moved_at: AtomicU64::new(now),
            is_answering: AtomicBool::new(false),
            is_evicted: CancellationToken::new(),
        });
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        open.activities.insert(id, Arc::clone(&activity));
        open.number += 1;
        Some(Connection {
            connections: Arc::clone(self),
            id,
            activity,
        })
    }

    /// Evicts the connection that has been idle for longest.
    pub(super) fn evict_one(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.evict(self.now());
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Open {
    fn evict(&mut self, now: u64) {
        let idle = self.activities.iter().min_by_key(|(id, activity)| {
            let moved_at = activity.moved_at.load(Ordering::Relaxed);
            let is_busy = u128::from(now.saturating_sub(moved_at)) < BUSY.as_millis();
            (
                activity.is_answering.load(Ordering::Relaxed),
                is_busy,
                activity.answered_at.load(Ordering::Relaxed),
                **id,
            )
        });
        if let Some(id) = idle.map(|(id, _)| *id)
            && let Some(activity) = self.activities.remove(&id)
        {
            activity.is_evicted.cancel();
        }
    }
}

impl Connection {
    /// Completes when the connection has to make room for another.
    pub(super) fn evicted(&self) -> WaitForCancellationFuture<'_> {
        self.activity.is_evicted.cancelled()
    }

    /// Completes when no byte has moved for so long, time spent on an answer not counted.
    pub(super) async fn idle_for(&self, limit: Duration) {
        loop {
            let moved_at = self.activity.moved_at.load(Ordering::Relaxed);
            let idle = Duration::from_millis(self.connections.now().saturating_sub(moved_at));
            let left = limit.saturating_sub(idle);
            if self.activity.is_answering.load(Ordering::Relaxed) {
                tokio::time::sleep(limit).await;
            } else if left.is_zero() {
                return;
            } else {
                tokio::time::sleep(left).await;
            }
        }
    }

    /// Returns a handle that reports on the connection.
    pub(super) fn reporter(&self) -> Reporter {
        Reporter {
            connections: Arc::clone(&self.connections),
            activity: Arc::clone(&self.activity),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let open = self.connections.open.lock();
        let mut open = open.unwrap_or_else(PoisonError::into_inner);
        open.activities.remove(&self.id);
        open.number -= 1;
        self.connections.closed.notify_one();
    }
}

/// Reports what happens on a connection.
#[derive(Clone)]
pub(super) struct Reporter {
    connections: Arc<Connections>,
    activity: Arc<Activity>,
}

impl Reporter {
    /// Reports that an answer is being prepared.
    fn begin(&self) {
        self.activity.is_answering.store(true, Ordering::Relaxed);
    }

    /// Reports that an answer is about to be sent.
    pub(super) fn answered(&self) {
        let now = self.connections.now();
        self.activity.answered_at.store(now, Ordering::Relaxed);
        self.activity.moved_at.store(now, Ordering::Relaxed);
        self.activity.is_answering.store(false, Ordering::Relaxed);
    }

    fn moved(&self) {
        let now = self.connections.now();
        self.activity.moved_at.store(now, Ordering::Relaxed);
    }
}

/// Reports that a request is being answered.
pub(super) async fn answering(request: Request, next: Next) -> Response {
    if let Some(reporter) = request.extensions().get::<Reporter>() {
        reporter.begin();
    }
    next.run(request).await
}

/// A stream that reports every byte that moves on it.
pub(super) struct Observed<S> {
    stream: S,
    reporter: Reporter,
}

impl<S> Observed<S> {
    pub(super) fn new(stream: S, reporter: Reporter) -> Self {
        Self { stream, reporter }
    }

    pub(super) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.reporter.moved();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.reporter.moved();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, bytes))?;
        self.reporter.moved();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_evicted(connection: &Connection) -> bool {
        connection.activity.is_evicted.is_cancelled()
    }

    #[test]
    fn the_one_that_has_been_idle_for_longest_makes_room() {
        let connections = Arc::new(Connections::new(4));
        let all: Vec<Connection> = (0..4).filter_map(|_| connections.try_add()).collect();
        let set = |index: usize, answered_at, moved_at| {
            let activity: &Activity = &all[index].activity;
            activity.answered_at.store(answered_at, Ordering::Relaxed);
            activity.moved_at.store(moved_at, Ordering::Relaxed);
        };
        // Of the last two, one is busy and the other prepares an answer.
        set(0, 20_000, 20_000);
        set(1, 10_000, 10_000);
        set(2, 5_000, 59_900);
        set(3, 1_000, 1_000);
        all[3].reporter().begin();
        for expected in [1, 0, 2, 3] {
            assert!(!is_evicted(&all[expected]), "{expected}");
            connections.open.lock().unwrap().evict(60_000);
            assert!(is_evicted(&all[expected]), "{expected}");
        }
    }

    #[test]
    fn a_connection_waits_until_another_is_closed() {
        let connections = Arc::new(Connections::new(1));
        drop(connections.try_add());
        let one = connections.try_add().unwrap();
        assert!(!is_evicted(&one));
        for _ in 0..2 {
            assert!(connections.try_add().is_none() && is_evicted(&one));
        }
        drop(one);
        assert!(connections.try_add().is_some_and(|two| !is_evicted(&two)));
        assert_eq!(connections.open.lock().unwrap().number, 0);
    }

    #[tokio::test]
    async fn two_addresses_get_a_connection_each() {
        let connections = Arc::new(Connections::new(2));
        for _ in 0..2 {
            let idle = connections.try_add().unwrap();
            tokio::spawn(async move { idle.evicted().await });
        }
        let both = async { tokio::join!(connections.add(), connections.add()) };
        let both = tokio::time::timeout(Duration::from_secs(30), both).await;
        assert!(both.is_ok());
    }
}
