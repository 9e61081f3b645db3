//! What protects people's browsers: requests that another site makes are refused, and pages load and run nothing
//! from elsewhere.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use url::{Position, Url};

/// What every response says.
const HEADERS: [(header::HeaderName, &str); 2] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
];

/// What pages say in addition.
const PAGE_HEADERS: [(header::HeaderName, &str); 2] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_FRAME_OPTIONS, "deny"),
];

/// Refuses requests that change something and come from a page of another site; `external_url` is where browsers
/// see the exporter, if that is not the host that they send.
pub(super) async fn protect(
    State(external_url): State<Option<Url>>,
    request: Request,
    next: Next,
) -> Response {
    let is_reading = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    let mut response = if is_reading || is_same_site(request.headers(), external_url.as_ref()) {
        next.run(request).await
    } else {
        let text = "refused: a page of another site made this request; if that site is a proxy of this \
                    exporter, name its address with --web.external-url\n";
        (StatusCode::FORBIDDEN, text).into_response()
    };
    let headers = response.headers_mut();
    let content_type = headers.get(header::CONTENT_TYPE);
    let is_page = content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/html"));
    let of_page = PAGE_HEADERS.iter().filter(|_| is_page);
    for (name, value) in HEADERS.iter().chain(of_page) {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Returns whether a request does not come from a page of another site. Programs send neither header.
fn is_same_site(headers: &HeaderMap, external_url: Option<&Url>) -> bool {
    let text = |name| headers.get(name).map(HeaderValue::as_bytes);
    if let Some(site) = text(header::HeaderName::from_static("sec-fetch-site")) {
        return matches!(site, b"same-origin" | b"none");
    }
    let Some(origin) = text(header::ORIGIN) else {
        return true;
    };
    let Some(origin) = std::str::from_utf8(origin)
        .ok()
        .and_then(|text| Url::parse(text).ok())
    else {
        return false;
    };
    let host = &origin[Position::BeforeHost..Position::AfterPort];
    let is_of_host =
        text(header::HOST).is_some_and(|value| value.eq_ignore_ascii_case(host.as_bytes()));
    is_of_host || external_url.is_some_and(|url| url.origin() == origin.origin())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_same_site_may_change_something() {
        let external: Url = "https://metrics.example/wx/".parse().unwrap();
        for (headers, expected) in [
            (&[("host", "a:10690")] as &[_], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "same-site")], false),
            (
                &[("sec-fetch-site", "cross-site"), ("origin", "http://a")],
                false,
            ),
            (&[("host", "a:10690"), ("origin", "http://A:10690")], true),
            (&[("host", "a"), ("origin", "http://a")], true),
            (&[("host", "a:10690"), ("origin", "http://a")], false),
            (&[("host", "a"), ("origin", "http://b")], false),
            (&[("host", "a"), ("origin", "null")], false),
            (&[("origin", "http://b")], false),
            (
                &[("host", "10.0.0.1"), ("origin", "https://metrics.example")],
                true,
            ),
            (
                &[("host", "10.0.0.1"), ("origin", "http://metrics.example")],
                false,
            ),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, HeaderValue::from_static(value));
            }
            assert_eq!(is_same_site(&map, Some(&external)), expected, "{headers:?}");
        }
    }
}
