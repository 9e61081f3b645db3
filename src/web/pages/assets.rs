//! The style sheet and the script of the pages. Their addresses change with them, so browsers keep them.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use twox_hash::XxHash3_64;

use crate::exposition::gzip::{Member, Piece};
use crate::web::compressed::send;

/// A file that pages load.
#[derive(Debug)]
pub(super) struct Asset {
    name: &'static str,
    content_type: &'static str,
    content: &'static str,
}

pub(super) static STYLE: &Asset = &Asset {
    name: "pages.css",
    content_type: "text/css; charset=utf-8",
    content: concat!(
        include_str!("assets/pages.css"),
        include_str!("assets/chart.css")
    ),
};

pub(super) static SCRIPT: &Asset = &Asset {
    name: "pages.js",
    content_type: "text/javascript; charset=utf-8",
    content: include_str!("assets/pages.js"),
};

/// The version of each, and its content, compressed once.
static ASSETS: LazyLock<[(&Asset, String, Piece); 2]> = LazyLock::new(|| {
    [STYLE, SCRIPT].map(|asset| {
        let version = XxHash3_64::oneshot(asset.content.as_bytes());
        (asset, format!("{version:016x}"), Piece::new(asset.content))
    })
});

/// Returns the address of a file, relative to the root.
pub(super) fn path(asset: &Asset) -> String {
    let version = ASSETS.iter().find(|(other, ..)| other.name == asset.name);
    let version = version.map_or("", |(_, version, _)| version);
    format!("assets/{version}/{}", asset.name)
}

/// Sends a file. An address with another version, as an older page may have it, gets the present one, and is not
/// kept.
pub(in crate::web) async fn asset(
    Path((version, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let Some((asset, present, content)) = ASSETS.iter().find(|(asset, ..)| asset.name == name)
    else {
        return (StatusCode::NOT_FOUND, "not found\n").into_response();
    };
    let mut member = Member::default();
    member.push(content.clone());
    let mut response = send(asset.content_type, member, &headers);
    let cache = if version == *present {
        "max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let cache = HeaderValue::from_static(cache);
    response.headers_mut().insert(header::CACHE_CONTROL, cache);
    response
}
