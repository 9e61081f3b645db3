//! Sends texts, compressed for clients that accept that.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde::Serialize;

use super::rendering::Rendering;
use crate::exposition::gzip::{Member, Piece};

/// Sends a text that is rendered for this request, compressed if the client accepts that.
pub(super) fn send_text(content_type: &str, text: String, headers: &HeaderMap) -> Response {
    if !accepts_gzip(headers) {
        let of_text = [
            (header::CONTENT_TYPE, content_type),
            (header::VARY, "accept-encoding"),
        ];
        return (of_text, text).into_response();
    }
    let mut member = Member::default();
    member.push(Piece::new(&text));
    send(content_type, member, headers)
}

/// Sends a value as JSON, which of a thousand apps is megabytes.
pub(super) async fn send_json<T: Serialize>(
    rendering: &Rendering,
    headers: HeaderMap,
    value: impl FnOnce() -> T + Send + 'static,
) -> Response {
    let rendered = rendering.run(move || {
        let json = serde_json::to_string(&value())?;
        // Without a parameter, as Prometheus compares it.
        Ok::<_, serde_json::Error>(send_text("application/json", json, &headers))
    });
    match rendered.await {
        Some(Ok(response)) => ([(header::CACHE_CONTROL, "no-cache")], response).into_response(),
        Some(Err(_)) | None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Sends a text, compressed if the client accepts that.
pub(super) fn send(content_type: &str, member: Member, headers: &HeaderMap) -> Response {
    let response = Response::builder()
        .header(header::CONTENT_TYPE, content_type)
        .header(header::VARY, "accept-encoding");
    let response = if accepts_gzip(headers) {
        response
            .header(header::CONTENT_ENCODING, "gzip")
            .header(header::CONTENT_LENGTH, member.gzip_len())
            .body(Body::from_stream(stream::iter(
                member.gzip().map(Ok::<_, Infallible>),
            )))
    } else {
        response
            .header(header::CONTENT_LENGTH, member.len())
            .body(Body::from_stream(stream::iter(
                member.plain().map(Ok::<_, Infallible>),
            )))
    };
    response.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// Returns whether the client accepts gzip (RFC 9110, section 12.5.3); a weight of 0 refuses it.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut parameters = coding.split(';').map(str::trim);
            let is_gzip = parameters
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
            is_gzip
                && !parameters.any(|parameter| {
                    let weight = parameter
                        .strip_prefix("q=")
                        .or_else(|| parameter.strip_prefix("Q="));
                    weight.and_then(|weight| weight.parse::<f32>().ok()) == Some(0.0)
                })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_when_accepted() {
        let accepts = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
            accepts_gzip(&headers)
        };
        for value in ["gzip", "deflate, GZIP;q=0.5", "br,gzip ; q=1"] {
            assert!(accepts(value), "{value}");
        }
        for value in ["", "identity", "gzip;q=0", "gzip; q=0.000", "xgzip", "br"] {
            assert!(!accepts(value), "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
