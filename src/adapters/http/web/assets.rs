//! What pages load: all of it is part of the program, and comes from its own address.

use std::sync::LazyLock;

use poem::http::header;
use poem::{Request, Response};

use super::sessions::hex;

/// A file that pages load.
pub(super) struct Asset {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
    /// Where it is loaded from. There is a mark of the content in it, so that browsers may keep it.
    pub(super) path: String,
}

/// The style sheet.
pub(super) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("style.css", "text/css", include_str!("assets/style.css")));
/// The script.
pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "script.js",
        "text/javascript",
        include_str!("assets/script.js"),
    )
});
/// The icon of a page where all is well.
pub(super) static CALM: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("calm.svg", "image/svg+xml", include_str!("assets/calm.svg")));
/// The icon of a page with something late on it.
pub(super) static LATE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("late.svg", "image/svg+xml", include_str!("assets/late.svg")));
/// The icon of a page that hears nothing any more.
pub(super) static LOST: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("lost.svg", "image/svg+xml", include_str!("assets/lost.svg")));

static ALL: [&LazyLock<Asset>; 5] = [&STYLE, &SCRIPT, &CALM, &LATE, &LOST];

impl Asset {
    fn new(name: &'static str, media_type: &'static str, text: &'static str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        Self {
            name,
            media_type,
            text,
            path: format!("/ui/{name}?v={}", hex(&digest.as_ref()[..6])),
        }
    }

    /// The file as an answer to `request`. It may be kept if it is the one that was meant: a server of another release
    /// has another one.
    pub(super) fn answer(&self, request: &Request) -> Response {
        let target = request.uri().path_and_query();
        let caching = if target.is_some_and(|target| target.as_str() == self.path) {
            "public, max-age=31536000, immutable"
        } else {
            "no-cache"
        };
        Response::builder()
            .header(
                header::CONTENT_TYPE,
                format!("{}; charset=utf-8", self.media_type),
            )
            .header(header::CACHE_CONTROL, caching)
            .body(self.text)
    }
}

/// The file at `path`, whatever mark it is asked for with.
pub(super) fn find(path: &str) -> Option<&'static Asset> {
    let name = path.strip_prefix("/ui/")?;
    let mut all = ALL.iter().map(|asset| &***asset);
    all.find(|asset| asset.name == name)
}
