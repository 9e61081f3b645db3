//! A server of the series of a page with the `prometheus` crate: what an ordinary exporter does.
//!
//! Every scrape gathers, encodes and compresses all of them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::Ipv4Addr;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use prometheus::{GaugeVec, Opts, Registry, TextEncoder};
use tokio::net::TcpListener;

/// Serves the series of a page, compressed, until the process is ended.
pub(crate) fn serve(page: &str, port: u16) {
    let registry = registry(&std::fs::read_to_string(page).unwrap());
    let metrics = move || {
        let registry = registry.clone();
        async move {
            tokio::task::spawn_blocking(move || respond(&registry))
                .await
                .unwrap()
        }
    };
    let app = Router::new().route("/metrics", get(metrics));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .unwrap();
        axum::serve(listener, app).await.unwrap();
    });
}

fn respond(registry: &Registry) -> impl IntoResponse + use<> {
    let text = encode(registry);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    let headers = [
        (header::CONTENT_TYPE, prometheus::TEXT_FORMAT),
        (header::CONTENT_ENCODING, "gzip"),
    ];
    (headers, gzip.finish().unwrap())
}

/// Returns the text of all series.
pub(crate) fn encode(registry: &Registry) -> String {
    TextEncoder::new()
        .encode_to_string(&registry.gather())
        .unwrap()
}

/// Holds the series of a page, each as a gauge.
pub(crate) fn registry(page: &str) -> Registry {
    let mut gauges: BTreeMap<&str, GaugeVec> = BTreeMap::new();
    let registry = Registry::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        // The names of the simulated WeChat need no escapes.
        let labels = labels.strip_suffix("\"}").unwrap_or_default().split("\",");
        let labels = labels.filter_map(|label| label.split_once("=\""));
        let (names, values): (Vec<_>, Vec<_>) = labels.unzip();
        let gauge = gauges.entry(name).or_insert_with(|| {
            let gauge = GaugeVec::new(Opts::new(name, "A metric of the page."), &names).unwrap();
            registry.register(Box::new(gauge.clone())).unwrap();
            gauge
        });
        gauge.with_label_values(&values).set(value.parse().unwrap());
    }
    registry
}
