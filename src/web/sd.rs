//! `/sd`: a target for every app, for the service discovery of Prometheus by HTTP (`http_sd`).
//!
//! Prometheus reads a list of targets with labels, of which those that begin with `__` say where and how each is
//! scraped: <https://prometheus.io/docs/prometheus/latest/http_sd/>.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use url::Url;

use super::compressed::send_json;
use super::state::AppState;
use crate::state::AppSnapshot;

#[derive(Debug, Serialize)]
struct Target {
    targets: [String; 1],
    labels: BTreeMap<String, String>,
}

/// Where Prometheus reaches the exporter.
#[derive(Debug, PartialEq)]
struct Place {
    scheme: String,
    /// Host and port.
    address: String,
    probe_path: String,
}

/// Responds with a target for every app of this exporter.
pub(super) async fn targets(State(state): State<Arc<AppState>>, headers: HeaderMap) -> Response {
    let Some(place) = place(&state, &headers) else {
        let text = "the header Host is missing or not that of a host and a port: send it, or start the exporter \
                    with --web.external-url\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    let rendering = state.rendering.clone();
    let targets = move || {
        let apps = state.registry.all();
        apps.iter().map(|app| place.target(app)).collect::<Vec<_>>()
    };
    send_json(&rendering, headers, targets).await
}

/// Returns the external URL, or else the host that this request names; what a proxy may add is not trusted.
fn place(state: &AppState, headers: &HeaderMap) -> Option<Place> {
    if let Some(url) = &state.paths.external_url {
        return Place::new(url, url.path());
    }
    let is_tls = state.guard.as_ref().is_some_and(|guard| guard.is_tls());
    let url = requested(if is_tls { "https" } else { "http" }, headers)?;
    Place::new(&url, &state.paths.prefix)
}

/// Returns the URL of the host that was requested, if the header has nothing but a host and a port.
fn requested(scheme: &str, headers: &HeaderMap) -> Option<Url> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().filter(|_| hosts.next().is_none())?;
    let host = host.to_str().ok()?;
    let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    let url = Url::parse(&format!("{scheme}://{host}")).ok()?;
    host.bytes().all(is_of_host).then_some(url)
}

impl Place {
    fn new(url: &Url, prefix: &str) -> Option<Self> {
        Some(Self {
            scheme: url.scheme().to_owned(),
            address: format!("{}:{}", url.host_str()?, url.port_or_known_default()?),
            probe_path: format!("{}/probe", prefix.trim_end_matches('/')),
        })
    }

    fn target(&self, app: &AppSnapshot) -> Target {
        let Self {
            scheme,
            address,
            probe_path,
        } = self;
        // All apps have one address, by which alone their `up` would be one series.
        let instance = format!("{address}/{}", app.appid);
        let how = [
            ("__scheme__", scheme.as_str()),
            ("__metrics_path__", probe_path),
            ("__param_target", app.appid.as_str()),
            ("instance", &instance),
            ("__meta_wxapp_app", &app.name),
        ];
        let how = how.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let of_app = app.labels.iter();
        let of_app =
            of_app.map(|(name, value)| (format!("__meta_wxapp_label_{name}"), value.clone()));
        Target {
            targets: [address.clone()],
            labels: how.into_iter().chain(of_app).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(hosts: &[&str]) -> HeaderMap {
        let hosts = hosts.iter();
        let hosts = hosts.map(|host| (header::HOST, host.parse().unwrap()));
        hosts.collect()
    }

    #[test]
    fn the_address_is_the_host_that_was_requested_with_its_port() {
        for (scheme, host, address) in [
            ("http", "portraits:10690", "portraits:10690"),
            ("http", "10.0.0.1", "10.0.0.1:80"),
            (
                "https",
                "Portraits.example.com",
                "portraits.example.com:443",
            ),
            ("https", "[2001:db8::1]:10690", "[2001:db8::1]:10690"),
            ("http", "a_b.c-d", "a_b.c-d:80"),
        ] {
            let url = requested(scheme, &headers(&[host])).unwrap();
            let place = Place::new(&url, "/wx").unwrap();
            assert_eq!(
                (place.scheme.as_str(), place.address.as_str()),
                (scheme, address)
            );
            assert_eq!(place.probe_path, "/wx/probe");
        }
    }

    #[test]
    fn anything_else_than_a_host_and_a_port_is_refused() {
        for hosts in [
            &[][..],
            &["a", "a"],
            &[""],
            &[":80"],
            &["a b"],
            &["a/b"],
            &["user@a"],
            &["a?b"],
            &["a#b"],
            &["a\\b"],
            &["a:b"],
            &["a:65536"],
            &["<a>"],
            &["a,b\"c"],
            &["::1"],
        ] {
            assert_eq!(requested("http", &headers(hosts)), None, "{hosts:?}");
        }
    }
}
