//! Content negotiation (RFC 9110, 12.4 and 12.5): which format, which content coding.
//!
//! *Invariants*: decided from the headers alone, before anything costs anything.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING};

use crate::answer::render::Format;

/// A content coding of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// gzip
    Gzip,
    /// zstd
    Zstd,
}

impl Coding {
    /// The value of `Content-Encoding`, if there is to be one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            Coding::Identity => None,
            Coding::Gzip => Some("gzip"),
            Coding::Zstd => Some("zstd"),
        }
    }
}

/// What the client will not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAcceptable {
    /// None of the media types.
    #[error(
        "Accept allows none of what there is: application/json, text/csv, application/x-ndjson"
    )]
    Format,
    /// None of the content codings.
    #[error("Accept-Encoding allows none of what there is: gzip, zstd, identity")]
    Coding,
}

/// The best format: by weight, then JSON before CSV before NDJSON.
///
/// # Errors
/// If none is allowed.
pub fn format(headers: &HeaderMap) -> Result<Format, NotAcceptable> {
    let offers = [
        (Format::Json, ("application", "json")),
        (Format::Csv, ("text", "csv")),
        (Format::Ndjson, ("application", "x-ndjson")),
    ];
    let Some(ranges) = elements(headers, &ACCEPT) else {
        return Ok(Format::Json);
    };
    best(offers.map(|(format, media)| (format, media_weight(&ranges, media))))
        .ok_or(NotAcceptable::Format)
}

/// The best content coding: by weight, then zstd before gzip before none.
///
/// # Errors
/// If none is allowed.
pub fn coding(headers: &HeaderMap) -> Result<Coding, NotAcceptable> {
    // Without the header anything is allowed; what every client can read is sent.
    let Some(codings) = elements(headers, &ACCEPT_ENCODING) else {
        return Ok(Coding::Identity);
    };
    let weight = |names: &[&str]| {
        let named = |element: &&Element| names.iter().any(|n| element.is(n));
        codings.iter().find(named).map(|element| element.weight)
    };
    let any = weight(&["*"]);
    let zstd = weight(&["zstd"]).or(any).unwrap_or(0);
    let gzip = weight(&["gzip", "x-gzip"]).or(any).unwrap_or(0);
    // Identity is allowed unless it is excluded, but only as the last resort if it is not named.
    let identity = weight(&["identity"]).or(any.filter(|weight| *weight == 0));
    let named =
        [(Coding::Zstd, zstd), (Coding::Gzip, gzip), (Coding::Identity, identity.unwrap_or(0))];
    match best(named) {
        Some(coding) => Ok(coding),
        None if identity.is_none() => Ok(Coding::Identity),
        None => Err(NotAcceptable::Coding),
    }
}

/// The first of the heaviest; nothing that weighs 0.
fn best<T: Copy, const N: usize>(offers: [(T, u16); N]) -> Option<T> {
    let heaviest = offers.iter().map(|(_, weight)| *weight).max().filter(|weight| *weight > 0)?;
    offers.iter().find(|(_, weight)| *weight == heaviest).map(|(offer, _)| *offer)
}

/// One element of a list header: its value, its parameters before `q`, its weight in thousandths.
#[derive(Debug)]
struct Element {
    value: String,
    parameters: Vec<(String, String)>,
    weight: u16,
}

impl Element {
    fn is(&self, name: &str) -> bool {
        self.value.eq_ignore_ascii_case(name)
    }
}

/// The elements of a list header; `None` if it is absent. An element that cannot be read is left out.
fn elements(headers: &HeaderMap, name: &http::HeaderName) -> Option<Vec<Element>> {
    if !headers.contains_key(name) {
        return None;
    }
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let all: Vec<&str> = values.flat_map(|value| split_outside_quotes(value, b',')).collect();
    // An empty field says nothing, as an absent one.
    if name == ACCEPT && all.iter().all(|element| element.trim().is_empty()) {
        return None;
    }
    Some(all.into_iter().filter_map(element).collect())
}

fn element(text: &str) -> Option<Element> {
    let mut parts = split_outside_quotes(text, b';').into_iter().map(str::trim);
    let value = parts.next().filter(|value| !value.is_empty())?.to_owned();
    let mut parameters = Vec::new();
    let mut weight = 1000;
    for part in parts.filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (name.trim(), value.trim());
        if name.eq_ignore_ascii_case("q") {
            weight = thousandths(value)?;
            // What follows q were extensions, which nobody defines any more.
            break;
        }
        parameters.push((name.to_ascii_lowercase(), value.trim_matches('"').to_ascii_lowercase()));
    }
    Some(Element { value, parameters, weight })
}

/// A weight: `0` to `1` with up to three decimals.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let decimals: u16 = format!("{decimals:0<3}").parse().ok()?;
    match (whole, decimals) {
        ("0", decimals) => Some(decimals),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

/// The weight of a media type: that of the most specific range that matches it.
fn media_weight(ranges: &[Element], (kind, subtype): (&str, &str)) -> u16 {
    let specificity = |range: &Element| {
        let (range_kind, range_subtype) = range.value.split_once('/')?;
        let known_parameters = range.parameters.iter().all(|(name, value)| {
            matches!((name.as_str(), value.as_str()), ("charset", "utf-8") | ("header", "present"))
        });
        let exact = range_kind.eq_ignore_ascii_case(kind)
            && range_subtype.eq_ignore_ascii_case(subtype)
            && known_parameters;
        if exact {
            // A range with parameters is more specific than one without.
            return Some(3 + range.parameters.len());
        }
        match (range_kind, range_subtype) {
            ("*", "*") => Some(1),
            (range_kind, "*") if range_kind.eq_ignore_ascii_case(kind) => Some(2),
            _ => None,
        }
    };
    let matching = ranges.iter().filter_map(|range| Some((specificity(range)?, range.weight)));
    matching.max().map_or(0, |(_, weight)| weight)
}

/// Splits at a separator that does not stand in a quoted string.
fn split_outside_quotes(text: &str, separator: u8) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == separator && !quoted => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: http::HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn formats() {
        use Format::{Csv, Json, Ndjson};
        for (accept, expected) in [
            (&[][..], Some(Json)),
            (&[""], Some(Json)),
            (&["*/*"], Some(Json)),
            (&["application/json"], Some(Json)),
            (&["APPLICATION/Json"], Some(Json)),
            (&["application/*"], Some(Json)),
            (&["text/csv"], Some(Csv)),
            (&["text/*"], Some(Csv)),
            (&["text/csv; charset=utf-8; header=present"], Some(Csv)),
            (&["text/csv; charset=latin1"], None),
            (&["application/x-ndjson"], Some(Ndjson)),
            (&["text/csv, application/json"], Some(Json)),
            (&["text/csv", "application/json"], Some(Json)),
            (&["text/csv, application/json;q=0.9"], Some(Csv)),
            (&["application/x-ndjson, text/csv"], Some(Csv)),
            (&["application/json;q=0.1, */*;q=0.5"], Some(Csv)),
            (&["application/json;q=0, */*"], Some(Csv)),
            (&["application/*;q=0.3, text/csv;q=0.2"], Some(Json)),
            (&["application/*;q=0, */*;q=0.1"], Some(Csv)),
            (&["application/json;Q=0.001"], Some(Json)),
            (&["application/json;q=0"], None),
            (&["*/*;q=0"], None),
            (&["text/html"], None),
            (&["text/html, */*;q=0.1"], Some(Json)),
            (&["*/json"], None),
            (&["json"], None),
            (&["application/json;version=2"], None),
            // A weight that cannot be read spoils its element only.
            (&["application/json;q=2, text/csv"], Some(Csv)),
            (&["application/json;q=0.1234"], None),
            (&["text/html;x=\"a,application/json\""], None),
        ] {
            assert_eq!(format(&headers(ACCEPT, accept)).ok(), expected, "{accept:?}");
        }
    }

    #[test]
    fn codings() {
        use Coding::{Gzip, Identity, Zstd};
        for (accept, expected) in [
            (&[][..], Some(Identity)),
            (&[""], Some(Identity)),
            (&["gzip"], Some(Gzip)),
            (&["x-gzip"], Some(Gzip)),
            (&["GZIP"], Some(Gzip)),
            (&["zstd"], Some(Zstd)),
            (&["gzip, deflate, br, zstd"], Some(Zstd)),
            (&["gzip, deflate, br"], Some(Gzip)),
            (&["gzip", "zstd"], Some(Zstd)),
            (&["gzip, zstd;q=0.5"], Some(Gzip)),
            (&["br"], Some(Identity)),
            (&["identity"], Some(Identity)),
            (&["gzip;q=0.5, identity"], Some(Identity)),
            (&["gzip;q=0"], Some(Identity)),
            (&["*"], Some(Zstd)),
            (&["*;q=0.5, zstd;q=0"], Some(Gzip)),
            (&["identity;q=0"], None),
            (&["identity;q=0, br"], None),
            (&["identity;q=0, gzip;q=0.1"], Some(Gzip)),
            (&["*;q=0"], None),
            (&["*;q=0, identity;q=0.1"], Some(Identity)),
            (&["br;q=1, *;q=0"], None),
        ] {
            assert_eq!(coding(&headers(ACCEPT_ENCODING, accept)).ok(), expected, "{accept:?}");
        }
    }
}
