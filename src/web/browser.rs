//! What protects people's browsers: requests that another site makes are refused, and pages load and run nothing
//! from elsewhere.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use url::{Host, Position, Url};

/// What every response says.
const HEADERS: [(header::HeaderName, &str); 2] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
];

/// What pages say in addition.
const PAGE_HEADERS: [(header::HeaderName, &str); 2] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
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
///
/// A name in `Host` is trusted only while there is no `external_url`: the owner of another name may let it
/// lead here.
fn is_same_site(headers: &HeaderMap, external_url: Option<&Url>) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let site = text(header::HeaderName::from_static("sec-fetch-site"));
    let has_origin = headers.contains_key(header::ORIGIN);
    if site.is_none() && !has_origin {
        return true;
    }
    let origin = text(header::ORIGIN).and_then(|origin| Url::parse(origin).ok());
    let origin = origin.filter(Url::has_host);
    let is_external = |url: &Url| {
        origin
            .as_ref()
            .is_some_and(|origin| origin.origin() == url.origin())
    };
    if external_url.is_some_and(is_external) {
        return true;
    }
    let host = text(header::HOST).unwrap_or_default();
    if external_url.is_some() && !is_address(host) {
        return false;
    }
    match site {
        Some(site) => matches!(site, "same-origin" | "none"),
        None => origin.is_some_and(|origin| {
            origin[Position::BeforeHost..Position::AfterPort].eq_ignore_ascii_case(host)
        }),
    }
}

/// Returns whether a header `Host` has the address of a host and not a name, or is this host.
fn is_address(host: &str) -> bool {
    let url = Url::parse(&format!("http://{host}/")).ok();
    match url.as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_same_site_may_change_something() {
        let external: Url = "https://metrics.example/wx/".parse().unwrap();
        for (headers, expected) in [
            (&[("host", "a:10690")] as &[_], true),
            (
                &[("host", "[::1]:1"), ("sec-fetch-site", "same-origin")],
                true,
            ),
            (&[("host", "localhost"), ("sec-fetch-site", "none")], true),
            (
                &[("host", "127.0.0.1"), ("sec-fetch-site", "same-site")],
                false,
            ),
            (
                &[("host", "evil.example"), ("sec-fetch-site", "same-origin")],
                false,
            ),
            (
                &[("host", "evil.example"), ("origin", "http://evil.example")],
                false,
            ),
            (&[("host", ""), ("origin", "file://")], false),
            (
                &[("sec-fetch-site", "cross-site"), ("origin", "http://a")],
                false,
            ),
            (
                &[
                    ("host", "127.0.0.1:10690"),
                    ("origin", "http://127.0.0.1:10690"),
                ],
                true,
            ),
            (
                &[("host", "localhost"), ("origin", "http://localhost")],
                true,
            ),
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
