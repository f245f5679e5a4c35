//! The page's files, embedded in the program.
//!
//! *Format*: `index.html` is at `/dashboard` and is asked for again each time (`ETag`). Its text
//! `{assets}` becomes `dashboard/<hash>`, below which all other files are; `<hash>` is over all
//! files, so a file at that path never changes. All links are relative: a proxy may put a prefix
//! before them.
//!
//! *Why* one hash for all: modules import each other by relative names, which then need no change.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use async_compression::Level;
use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
use bytes::Bytes;
use futures::FutureExt as _;
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, LOCATION, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use super::set_coding;
use crate::http::{Body, Coding, whole};
use crate::problem::Problem;
use crate::request::accept;
use crate::respond;

/// The page.
const INDEX: &str = "index.html";
/// All files.
const FILES: &[(&str, &[u8])] = &[
    (INDEX, include_bytes!("../../assets/index.html")),
    ("page.css", include_bytes!("../../assets/page.css")),
    ("uPlot.js", include_bytes!("../../assets/uPlot.js")),
    ("page.js", include_bytes!("../../assets/page.js")),
    ("parts.js", include_bytes!("../../assets/parts.js")),
    ("charts.js", include_bytes!("../../assets/charts.js")),
    ("data.js", include_bytes!("../../assets/data.js")),
    ("metrics.js", include_bytes!("../../assets/metrics.js")),
];
/// What stands in `index.html` for the folder of the other files.
const PLACEHOLDER: &str = "{assets}";
/// The first digits of the hash are enough to tell versions apart.
const HASH_DIGITS: usize = 12;

/// The files as they are served.
#[derive(Debug)]
pub(super) struct Assets {
    hash: String,
    index: File,
    /// All but the index, by name.
    files: BTreeMap<&'static str, File>,
}

#[derive(Debug)]
struct File {
    content_type: &'static str,
    plain: Bytes,
    /// Made when it is first asked for.
    gzip: OnceLock<Bytes>,
    zstd: OnceLock<Bytes>,
}

impl Assets {
    pub(super) fn new() -> Self {
        let hash = hash(FILES);
        let folder = format!("dashboard/{hash}");
        let text = |bytes| String::from_utf8_lossy(bytes).replace(PLACEHOLDER, &folder);
        let (indexes, others): (Vec<_>, Vec<_>) =
            FILES.iter().copied().partition(|(name, _)| *name == INDEX);
        let index: String = indexes.into_iter().map(|(_, bytes)| text(bytes)).collect();
        let file = |(name, bytes)| (name, File::new(name, Bytes::from_static(bytes)));
        Self {
            hash,
            index: File::new(INDEX, index.into()),
            files: others.into_iter().map(file).collect(),
        }
    }

    /// The page.
    pub(super) fn index(&self, headers: &HeaderMap) -> Result<Response<Body>, Problem> {
        // Weak: it is the same for all codings.
        let tag = format!("W/\"{}\"", self.hash);
        let mut response = match is_known(headers, &self.hash) {
            true => {
                let mut response = Response::new(whole(""));
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                response
            }
            false => self.index.response(headers)?,
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(ETAG, tag);
        }
        Ok(response)
    }

    /// One of the other files.
    pub(super) fn file(
        &self,
        hash: &str,
        name: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Problem> {
        let file =
            self.files.get(name).filter(|_| hash == self.hash).ok_or(Problem::UnknownPath)?;
        let mut response = file.response(headers)?;
        let headers = response.headers_mut();
        let immutable = HeaderValue::from_static("public, max-age=31536000, immutable");
        headers.insert(CACHE_CONTROL, immutable);
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        Ok(response)
    }
}

impl File {
    fn new(name: &str, plain: Bytes) -> Self {
        let content_type = match name.rsplit_once('.') {
            Some((_, "html")) => "text/html; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "svg")) => "image/svg+xml",
            _ => "text/plain; charset=utf-8",
        };
        Self { content_type, plain, gzip: OnceLock::new(), zstd: OnceLock::new() }
    }

    fn response(&self, headers: &HeaderMap) -> Result<Response<Body>, Problem> {
        let coding = accept::coding(headers).map_err(Problem::NotAcceptable)?;
        let bytes = self.bytes(coding);
        // An encoder that fails, which it does not, costs no more than its coding.
        let (bytes, coding) = match bytes.is_empty() {
            true => (&self.plain, Coding::Identity),
            false => (bytes, coding),
        };
        let mut response =
            respond::with_body(StatusCode::OK, self.content_type, whole(bytes.clone()));
        set_coding(response.headers_mut(), coding);
        Ok(response)
    }

    fn bytes(&self, coding: Coding) -> &Bytes {
        match coding {
            Coding::Identity => &self.plain,
            Coding::Gzip => self.gzip.get_or_init(|| compressed(&self.plain, coding)),
            Coding::Zstd => self.zstd.get_or_init(|| compressed(&self.plain, coding)),
        }
    }
}

/// Bytes in a coding, as small as it makes them; none if it fails.
fn compressed(plain: &[u8], coding: Coding) -> Bytes {
    let encoded = async {
        let mut bytes = Vec::new();
        match coding {
            Coding::Identity => bytes.extend_from_slice(plain),
            Coding::Gzip => {
                let mut encoder = GzipEncoder::with_quality(plain, Level::Best);
                encoder.read_to_end(&mut bytes).await.ok()?;
            }
            Coding::Zstd => {
                let mut encoder = ZstdEncoder::with_quality(plain, Level::Precise(19));
                encoder.read_to_end(&mut bytes).await.ok()?;
            }
        }
        Some(bytes)
    };
    // Reading from memory never waits.
    encoded.now_or_never().flatten().unwrap_or_default().into()
}

fn hash(files: &[(&str, &[u8])]) -> String {
    let mut all = Sha256::new();
    for (name, bytes) in files {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        for part in [name.as_bytes(), &[0], &length.to_be_bytes(), bytes] {
            all.update(part);
        }
    }
    let mut digits: String = all.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    digits.truncate(HASH_DIGITS);
    digits
}

/// True if the client has this version (RFC 9110, 13.1.2).
fn is_known(headers: &HeaderMap, hash: &str) -> bool {
    let fields = headers.get_all(IF_NONE_MATCH).iter().filter_map(|field| field.to_str().ok());
    let is = |tag: &str| {
        let tag = tag.trim();
        let opaque = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || opaque.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) == Some(hash)
    };
    fields.flat_map(|field| field.split(',')).any(is)
}

/// Leads from `/dashboard/` to the page. The answer has no host: a proxy may have put a prefix
/// before the path, and a client keeps its fragment.
pub(super) fn without_slash() -> Response<Body> {
    let mut response = Response::new(whole(""));
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_static("../dashboard"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The most that all files together may have, compressed with gzip.
    const MAX_BYTES: usize = 60_000;
    const MAX_FILES: usize = 8;

    #[test]
    fn all_files_are_embedded_and_few_and_small() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| ["html", "css", "js", "svg"].iter().any(|end| name.ends_with(end)))
            .collect();
        names.sort();
        let mut embedded: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        embedded.sort_unstable();
        assert_eq!(names, embedded);
        assert!(names.len() <= MAX_FILES, "{names:?}");
        let sizes: Vec<usize> =
            FILES.iter().map(|(_, bytes)| compressed(bytes, Coding::Gzip).len()).collect();
        assert!(sizes.iter().all(|size| *size > 0), "{sizes:?}");
        assert!(sizes.iter().sum::<usize>() <= MAX_BYTES, "{names:?} {sizes:?}");
    }

    /// What a line has outside of comments. A comment over several lines begins a line.
    fn without_comments<'a>(line: &'a str, end: &mut Option<&str>) -> &'a str {
        let mut rest = line.trim_start();
        let marks = [("/*", "*/"), ("<!--", "-->")];
        if end.is_none() {
            *end = marks.iter().find(|(begin, _)| rest.starts_with(begin)).map(|(_, end)| *end);
        }
        if let Some(mark) = *end {
            let Some((_, after)) = rest.split_once(mark) else { return "" };
            (rest, *end) = (after, None);
        }
        if rest.starts_with("//") { "" } else { rest }
    }

    /// Addresses may stand in comments, and name a namespace of XML.
    #[test]
    fn no_file_names_another_host() {
        for (name, bytes) in FILES {
            let mut end = None;
            for line in std::str::from_utf8(bytes).unwrap().lines() {
                let code = without_comments(line, &mut end).replace("http://www.w3.org/", "");
                let names_a_host = code.contains("http://") || code.contains("https://");
                assert!(!names_a_host, "{name}: {line:.200}");
            }
            assert_eq!(end, None, "{name}");
        }
        let mut end = None;
        let lines = ["/*! http://a */ x(\"http://b\")", "/* a", "http://c", "*/ y", "// http://d"];
        let code = lines.map(|line| without_comments(line, &mut end));
        assert_eq!(code, [" x(\"http://b\")", "", "", " y", ""]);
    }

    #[test]
    fn the_hash_is_of_all_names_and_bytes() {
        let one = hash(&[("a", b"bc"), ("d", b"")]);
        assert_eq!(one.len(), HASH_DIGITS);
        for other in [
            hash(&[("a", b"bd"), ("d", b"")]),
            hash(&[("a", b"bc"), ("e", b"")]),
            hash(&[("a", b"bc")]),
            hash(&[("ab", b"c"), ("d", b"")]),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn the_page_leads_to_its_files() {
        let assets = Assets::new();
        let index = String::from_utf8(assets.index.plain.to_vec()).unwrap();
        assert!(!index.contains(PLACEHOLDER));
        assert!(index.contains(&format!("\"dashboard/{}/page.js\"", assets.hash)), "{index}");
        let nothing = HeaderMap::new();
        for (name, _) in &FILES[1..] {
            let found = assets.file(&assets.hash, name, &nothing).unwrap();
            assert_eq!(found.headers()[CACHE_CONTROL], "public, max-age=31536000, immutable");
        }
        for (hash, name) in [
            (assets.hash.as_str(), "index.html"),
            (&assets.hash, "../Cargo.toml"),
            (&assets.hash, ""),
            ("0123456789ab", "page.js"),
        ] {
            let refused = assets.file(hash, name, &nothing);
            assert_eq!(refused.unwrap_err(), Problem::UnknownPath, "{hash} {name}");
        }
    }

    #[test]
    fn a_page_that_is_known_is_not_sent_again() {
        let of = |value: &str| {
            is_known(&HeaderMap::from_iter([(IF_NONE_MATCH, value.parse().unwrap())]), "abc")
        };
        for (value, known) in [
            ("\"abc\"", true),
            ("W/\"abc\"", true),
            ("\"x\", W/\"abc\"", true),
            ("*", true),
            ("abc", false),
            ("\"abcd\"", false),
            ("", false),
        ] {
            assert_eq!(of(value), known, "{value}");
        }
    }
}
