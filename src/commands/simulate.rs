//! `simulate`: runs the simulated WeChat alone. Does not depend on the exporter.

use std::pin::pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Error, GRACE, ProcessContext, listen};
use crate::cli;
use crate::simulator::{self, Event, Settings, Simulator};

/// Serves the simulated WeChat until `shutdown`.
///
/// # Errors
///
/// The address can't be listened on, or a fault, an event or cloud hosting belongs to an app that is
/// not simulated.
pub async fn run(flags: &cli::Simulate, context: ProcessContext) -> Result<(), Error> {
    let of_faults = flags.fault.iter().map(|(appid, _)| appid);
    let of_events = flags.event.iter().filter_map(Event::app);
    for appid in of_faults.chain(of_events).chain(&flags.cloud_hosting) {
        if !flags.app.iter().any(|app| app.appid == *appid) {
            return Err(Error::NotSimulated(appid.clone()));
        }
    }
    let listener = listen(&flags.listen_address).await?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, apps = flags.app.len(), "listening as WeChat");
    }
    let settings = Settings {
        apps: flags.app.clone(),
        events: flags.event.clone(),
        faults: flags.fault.clone(),
        ready_at: flags.ready_at,
        final_at: flags.final_at,
        token_life: flags.token_life,
        cloud_hosting: flags.cloud_hosting.clone(),
        ..Settings::default()
    };
    let clock = Arc::clone(&context.clock);
    let simulator = Simulator::new(settings, move || clock());
    let ending = CancellationToken::new();
    let ended = ending.clone().cancelled_owned();
    let mut server = pin!(simulator::run(listener, simulator, ended));
    tokio::select! {
        result = &mut server => return result.map_err(Error::Web),
        () = context.shutdown => ending.cancel(),
    }
    // Responses that are delayed by a fault need not be waited for.
    let _ = tokio::time::timeout(GRACE, server).await;
    Ok(())
}
