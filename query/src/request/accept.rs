//! Content negotiation (RFC 9110, 12.4 and 12.5): which format, which content coding.
//!
//! *Invariants*: only the request's fields decide, before NATS is asked for anything.

use std::borrow::Cow;

use http::header::{ACCEPT, ACCEPT_ENCODING};
use http::{HeaderMap, HeaderValue};

use crate::answer::Format;
pub use crate::http::Coding;

/// The weight of an element without one, in thousandths.
const HEAVIEST: u16 = 1000;

/// Why no answer is acceptable to the client.
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
    match best(offers.map(|(format, media)| (format, media_weight(&ranges, media)))) {
        Some(format) => Ok(format),
        // A field with bytes that are no text may allow anything, so it excludes nothing.
        None if headers.get_all(ACCEPT).iter().any(|value| value.to_str().is_err()) => {
            Ok(Format::Json)
        }
        None => Err(NotAcceptable::Format),
    }
}

/// The best content coding: by weight, then zstd before gzip before none.
///
/// # Errors
/// If none is allowed.
pub fn coding(headers: &HeaderMap) -> Result<Coding, NotAcceptable> {
    // Without the field any coding is allowed; every client can read an answer without one.
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

/// The first of the heaviest offers; an offer of weight 0 is excluded.
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

/// The elements of a list header; `None` if it is absent. Bytes that are no text spoil only the
/// element in which they stand.
fn elements(headers: &HeaderMap, name: &http::HeaderName) -> Option<Vec<Element>> {
    if !headers.contains_key(name) {
        return None;
    }
    let fields: Vec<_> = headers.get_all(name).iter().map(text).collect();
    let all: Vec<&str> = fields.iter().flat_map(|text| split_outside_quotes(text, b',')).collect();
    // An empty field is like an absent one.
    if name == ACCEPT && all.iter().all(|element| element.trim().is_empty()) {
        return None;
    }
    Some(all.into_iter().filter_map(element).collect())
}

fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

fn element(text: &str) -> Option<Element> {
    let mut parts = split_outside_quotes(text, b';').into_iter().map(str::trim);
    let value = parts.next().filter(|value| !value.is_empty())?.to_owned();
    let mut parameters = Vec::new();
    let mut weight = HEAVIEST;
    for part in parts.filter(|part| !part.is_empty()) {
        let (name, given) = part.split_once('=').unwrap_or((part, ""));
        let (name, given) = (name.trim(), given.trim());
        if name.eq_ignore_ascii_case("q") {
            weight = thousandths(given)?;
            // After q came extensions, which RFC 9110 dropped.
            break;
        }
        parameters.push((name.to_ascii_lowercase(), given.trim_matches('"').to_ascii_lowercase()));
    }
    Some(Element { value, parameters, weight })
}

/// A weight in thousandths, from a plain decimal number of 0 to 1: Java writes `.2`, others `1.` or
/// ten decimals. A number above 0 is at least 1 thousandth, because 0 excludes.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let mut digits = whole.bytes().chain(decimals.bytes());
    if whole.len() + decimals.len() == 0 || !digits.all(|b| b.is_ascii_digit()) {
        return None;
    }
    let least = u16::from(decimals.bytes().any(|b| b != b'0'));
    match whole.trim_start_matches('0') {
        "" => {
            let first: String = decimals.bytes().chain(*b"000").take(3).map(char::from).collect();
            first.parse::<u16>().ok().map(|weight| weight.max(least))
        }
        "1" if least == 0 => Some(HEAVIEST),
        _ => None,
    }
}

/// The weight of a media type: the weight of the most specific range that matches it.
fn media_weight(ranges: &[Element], (kind, subtype): (&str, &str)) -> u16 {
    let specificity = |range: &Element| {
        // Java and others write `*` for `*/*`.
        let (range_kind, range_subtype) = match range.value.as_str() {
            "*" => ("*", "*"),
            value => value.split_once('/').map(|(kind, subtype)| (kind.trim(), subtype.trim()))?,
        };
        if range_kind.eq_ignore_ascii_case(kind) && range_subtype.eq_ignore_ascii_case(subtype) {
            let mut known = 0;
            for (name, value) in &range.parameters {
                match is_kept(subtype, name, value) {
                    Some(true) => known += 1,
                    Some(false) => return None,
                    None => {}
                }
            }
            // A range with parameters is more specific than one without.
            return Some(3 + known);
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

/// True if an answer of a subtype satisfies a parameter of its media type; `None` if the media type
/// has no such parameter, which is then ignored. JSON has no parameters (RFC 8259, 11), CSV has two
/// (RFC 7111, 5.1): an answer is UTF-8 and has a header line.
fn is_kept(subtype: &str, name: &str, value: &str) -> Option<bool> {
    match (subtype, name) {
        ("csv", "charset") => Some(matches!(value, "utf-8" | "utf8")),
        ("csv", "header") => Some(value == "present"),
        _ => None,
    }
}

/// Splits at the separators outside quoted strings. A quote that is never closed is a plain
/// character: it must not hide the elements behind it.
fn split_outside_quotes(text: &str, separator: u8) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut parts = Vec::new();
    let (mut start, mut at, mut closed) = (0, 0, true);
    while let Some(byte) = bytes.get(at) {
        if *byte == separator {
            parts.push(text.get(start..at).unwrap_or_default());
            start = at + 1;
        } else if *byte == b'"' && closed {
            match closing_quote(bytes, at + 1) {
                Some(end) => at = end,
                // No later quote is closed either: it would have closed this one.
                None => closed = false,
            }
        }
        at += 1;
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

/// The end of a quoted string that begins at `at`; a backslash escapes the next byte.
fn closing_quote(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: http::HeaderName, values: &[&str]) -> HeaderMap {
        // Bytes beyond ASCII as well.
        let value = |value: &&str| http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
        values.iter().map(|text| (name.clone(), value(text))).collect()
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
            // Of Java's HttpURLConnection.
            (&["text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"], Some(Json)),
            (&["*"], Some(Json)),
            (&["*;q=.5, application/json;q=.4"], Some(Csv)),
            (&["*;q=0"], None),
            // Weights that are no qvalues of RFC 9110, but numbers.
            (&["application/json;q=.2, text/csv;q=.3"], Some(Csv)),
            (&["application/json;q=1., text/csv;q=0.9"], Some(Json)),
            (&["application/json;q=0., text/csv;q=.1"], Some(Csv)),
            (&["application/json;q=.0"], None),
            (&["application/json;q=00.000"], None),
            (&["application/json;q=0.90000001, text/csv;q=.8"], Some(Json)),
            (&["application/json;q=0.1234"], Some(Json)),
            (&["application/json;q=0.0001"], Some(Json)),
            (&["application/json;q=2, text/csv"], Some(Csv)),
            (&["application/json ; q = \"0.5\" , text/csv ; q = 0.6"], Some(Csv)),
            (&["application/json;\tq=0\t,\ttext/csv"], Some(Csv)),
            // A weight that cannot be read, or is more than 1, spoils its element only.
            (&["application/json;q=high, text/csv;q=0.9"], Some(Csv)),
            (&["application/json;q=1.001, text/csv;q=0.9"], Some(Csv)),
            (&["text/csv;q="], None),
            (&["text/csv;q"], None),
            (&["text/csv;q=."], None),
            (&["text/csv;q=-1"], None),
            (&["text/csv;q=1e-1"], None),
            // Parameters that a media type does not have are ignored, those that it has are not.
            (&["application/json;version=2"], Some(Json)),
            (&["application/json;odata=verbose;charset=latin1"], Some(Json)),
            (&["application/x-ndjson; charset=UTF-8"], Some(Ndjson)),
            (
                &["application/json;odata=verbose;q=0.1, application/json;q=0.9, text/csv;q=0.5"],
                Some(Json),
            ),
            (&["application/json;odata"], Some(Json)),
            (&["application/json;;=;"], Some(Json)),
            (&["text/csv;charset=\"UTF-8\";header=PRESENT"], Some(Csv)),
            (&["text/csv;charset=utf8;columns=3"], Some(Csv)),
            (&["text/csv;header=absent"], None),
            (&["text/csv;header=absent, */*;q=0.1"], Some(Json)),
            // What cannot be read costs its own element only.
            (&["text/html;x=\"a,application/json\""], None),
            (&["text/html;x=\"a\\\",application/json\", text/csv"], Some(Csv)),
            (&["text/html;x=\"a, text/csv"], Some(Csv)),
            (&["text/html;x=\"a\\\", text/csv"], Some(Csv)),
            (&["text/html;x=é, text/csv"], Some(Csv)),
            (&["é", "text/csv"], Some(Csv)),
            (&["é"], Some(Json)),
            (&[" , ,, text/csv ,"], Some(Csv)),
            (&[";q=0, text/csv"], Some(Csv)),
            (&["/, //, a/b/c, text/csv"], Some(Csv)),
            (&[" , ;q=1,, "], None),
            (&[" , ,, "], Some(Json)),
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
            (&["gzip;q=.5"], Some(Gzip)),
            (&["zstd;q=.4, x-gzip;q=.5"], Some(Gzip)),
            (&["zstd;q=1., gzip;q=.9999"], Some(Zstd)),
            (&["gzip;q=high"], Some(Identity)),
            (&["gzip;q=high, zstd;q=.1"], Some(Zstd)),
            (&["gzip;level=9"], Some(Gzip)),
            (&[", ,gzip ; q = 1 ,"], Some(Gzip)),
            (&["é, gzip"], Some(Gzip)),
            (&["é", "GZip;Q=.5"], Some(Gzip)),
            (&["br;x=\", gzip"], Some(Gzip)),
            (&["identity;q=.0, gzip;q=0."], None),
            (&["*;q=.0"], None),
        ] {
            assert_eq!(coding(&headers(ACCEPT_ENCODING, accept)).ok(), expected, "{accept:?}");
        }
    }
}
