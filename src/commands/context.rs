//! What commands take from the process: clock, environment, signals. Reads none of them directly.

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::calendar::Clock;

/// What commands take from the process besides their flags.
pub struct ProcessContext {
    /// Returns the time.
    pub clock: Clock,
    /// Looks up a variable of the environment.
    pub environment: Environment,
    /// Completes when the program is to shut down.
    pub shutdown: BoxFuture<'static, ()>,
    /// Receives an item for every SIGHUP while it serves a configuration.
    pub hangup: Hangup,
}

/// Looks up a variable of the environment; `None` if it is not set.
pub type Environment = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Receives an item for every SIGHUP.
pub type Hangup = mpsc::UnboundedReceiver<()>;
