//! Renders answers that take a processor for milliseconds, off the threads that serve and a few at a time, so that
//! a storm of requests leaves a processor to scrapes.
//!
//! Does not know what is rendered.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::Semaphore;

/// Bounds how much is rendered at once. Clones share the bound.
#[derive(Debug, Clone)]
pub(super) struct Rendering(Arc<Semaphore>);

impl Default for Rendering {
    /// Leaves one processor to everything else, if there are several.
    fn default() -> Self {
        let processors = available_parallelism().map_or(1, NonZero::get);
        Self::new(processors.saturating_sub(1).max(1))
    }
}

impl Rendering {
    fn new(at_once: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_once)))
    }

    /// Runs `work` when it is its turn; never if the caller has stopped waiting by then, as the client has left.
    /// Returns `None` only if it panics, which the hook logs, or while the program ends.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let turn = Arc::clone(&self.0).acquire_owned().await.ok()?;
        let work = move || {
            // It lasts as long as the work, also if the caller stops waiting meanwhile.
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(work).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn a_few_are_rendered_at_once_and_all_in_the_end() {
        let rendering = Rendering::new(2);
        let running = Arc::new(AtomicUsize::new(0));
        let work = (0..50).map(|_| {
            let running = Arc::clone(&running);
            rendering.run(move || {
                let others = running.fetch_add(1, Ordering::SeqCst);
                std::thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                others
            })
        });
        let others = join_all(work).await;
        assert!(others.iter().all(|others| others.is_some_and(|n| n < 2)));
    }

    #[tokio::test]
    async fn nothing_is_rendered_for_a_client_that_has_left() {
        let rendering = Rendering::new(1);
        let turn = Arc::clone(&rendering.0).acquire_owned().await.unwrap();
        let rendered = Arc::new(AtomicUsize::new(0));
        let render = || {
            let rendered = Arc::clone(&rendered);
            rendering.run(move || rendered.fetch_add(1, Ordering::SeqCst))
        };
        let (mut left, mut stayed) = (Box::pin(render()), Box::pin(render()));
        assert_eq!(left.as_mut().now_or_never(), None);
        assert_eq!(stayed.as_mut().now_or_never(), None);
        drop(left);
        drop(turn);
        assert_eq!(stayed.await, Some(0));
        assert_eq!(render().await, Some(1));
    }

    #[tokio::test]
    async fn a_panic_ends_one_turn() {
        let rendering = Rendering::new(1);
        let failed = rendering.run(|| std::panic::resume_unwind(Box::new("a bug")));
        assert_eq!(failed.await, None::<()>);
        assert_eq!(rendering.run(|| 1).await, Some(1));
    }
}
