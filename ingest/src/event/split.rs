//! Splits the JSON text of an event into its fields, for text as publishers commonly write it: one
//! pass, nothing is copied.
//!
//! *Invariants*: what it splits is JSON (RFC 8259), and the fields are those that the library would
//! find. At anything else (an escape, a nested value outside of `data`, an error) it gives up, and
//! the library decides.
//!
//! *Why* beside the library: it splits in a fifth of the time (`docs/performance.md`), and decoding
//! is the largest part of counting an event.

use super::field::{DataFields, EnvelopeFields, RawField};

/// A field that is split further.
const DATA: &str = "data";

/// Splits an envelope with its data. After `None` both are unspecified.
pub(super) fn envelope<'a>(
    text: &'a str,
    fields: &mut EnvelopeFields<'a>,
    data: &mut DataFields<'a>,
) -> Option<()> {
    let mut scanner = Scanner::of(text)?;
    *fields = EnvelopeFields::default();
    let mut has_data = false;
    scanner.space();
    scanner.object(|scanner, key| {
        if key != DATA {
            let value = scanner.scalar()?;
            fields.set(key, value);
            return Some(());
        }
        // The library refuses data that is given twice or is no object.
        if has_data {
            return None;
        }
        has_data = true;
        scanner.data(data)
    })?;
    scanner.space();
    (scanner.is_at_end() && has_data).then_some(())
}

/// Splits data. After `None` the fields are unspecified.
pub(super) fn data<'a>(text: &'a str, fields: &mut DataFields<'a>) -> Option<()> {
    let mut scanner = Scanner::of(text)?;
    scanner.data(fields)?;
    scanner.is_at_end().then_some(())
}

struct Scanner<'a> {
    text: &'a str,
    /// The number of bytes taken.
    at: usize,
}

impl<'a> Scanner<'a> {
    /// Only text without an escape or a control character, so that a string ends at the next quote.
    fn of(text: &'a str) -> Option<Self> {
        let is_plain = |b: u8| (b >= b' ') & (b != b'\\');
        text.bytes().fold(true, |all, b| all & is_plain(b)).then_some(Self { text, at: 0 })
    }

    fn data(&mut self, fields: &mut DataFields<'a>) -> Option<()> {
        *fields = DataFields::default();
        self.object(|scanner, key| {
            let value = scanner.scalar()?;
            fields.set(key, value);
            Some(())
        })
    }

    /// Takes an object; `member` takes the value of each of its keys.
    fn object(&mut self, mut member: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.take(b'{')?;
        self.space();
        if self.take(b'}').is_some() {
            return Some(());
        }
        loop {
            let key = self.string()?;
            self.space();
            self.take(b':')?;
            self.space();
            member(self, key)?;
            self.space();
            if self.take(b',').is_none() {
                return self.take(b'}');
            }
            self.space();
        }
    }

    /// Takes a value that is neither object nor array.
    fn scalar(&mut self) -> Option<RawField<'a>> {
        match self.next()? {
            b'"' => self.string().map(RawField::Text),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => self.number(),
        }
    }

    fn literal(&mut self, word: &'static str) -> Option<RawField<'a>> {
        if !self.rest().starts_with(word.as_bytes()) {
            return None;
        }
        self.at += word.len();
        Some(RawField::Json(word))
    }

    /// Takes `-`, an integer without leading zeros, and perhaps a fraction and an exponent.
    fn number(&mut self) -> Option<RawField<'a>> {
        let begin = self.at;
        let _negative = self.take(b'-');
        if self.take(b'0').is_none() {
            self.digits()?;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if self.take(b'e').or_else(|| self.take(b'E')).is_some() {
            let _sign = self.take(b'+').or_else(|| self.take(b'-'));
            self.digits()?;
        }
        self.text.get(begin..self.at).map(RawField::Json)
    }

    /// Takes one digit or more.
    fn digits(&mut self) -> Option<()> {
        let count = self.rest().iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        (count > 0).then_some(())
    }

    /// Takes a string; gives what is between the quotes.
    fn string(&mut self) -> Option<&'a str> {
        self.take(b'"')?;
        let begin = self.at;
        let end = begin + until_quote(self.rest())?;
        self.at = end + 1;
        self.text.get(begin..end)
    }

    #[inline]
    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then(|| self.at += 1)
    }

    /// There is no other white space in this text.
    #[inline]
    fn space(&mut self) {
        while self.take(b' ').is_some() {}
    }

    #[inline]
    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }
}

/// How many bytes come before the first quote: eight at a time, since most strings are too short
/// for `memchr` to pay.
fn until_quote(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const QUOTES: u64 = u64::from_le_bytes([b'"'; 8]);
    let (words, rest) = bytes.as_chunks::<8>();
    let mut before = 0;
    for word in words {
        // The lowest high bit that is set is that of the first byte that is 0 here.
        let word = u64::from_le_bytes(*word) ^ QUOTES;
        let found = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if found != 0 {
            return Some(before + (found.trailing_zeros() / 8) as usize);
        }
        before += 8;
    }
    rest.iter().position(|b| *b == b'"').map(|place| before + place)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Both ways to split, or that this one gives up.
    fn check(text: &str) -> bool {
        let (mut fields, mut data) = (EnvelopeFields::default(), DataFields::default());
        if envelope(text, &mut fields, &mut data).is_none() {
            return false;
        }
        let careful: EnvelopeFields<'_> = serde_json::from_str(text).unwrap();
        let json = careful.data.json("data", "an object").unwrap().unwrap();
        let careful_data: DataFields<'_> = serde_json::from_str(json).unwrap();
        let same = |a: &str, b: &str| assert_eq!(a, b, "{text}");
        same(&EnvelopeFields { data: fields.data, ..careful }.shown(), &fields.shown());
        same(&careful_data.shown(), &data.shown());
        super::data(json, &mut data).unwrap();
        same(&careful_data.shown(), &data.shown());
        true
    }

    #[test]
    fn plain_text_is_split_and_the_rest_left_to_the_library() {
        for text in [
            r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"x","data":{}}"#,
            "  { \"id\" : \"1\" , \"data\" : { \"ok\" : true , \"status\" : -1.50e+10 } } ",
            r#"{"data":{"userid":"é ü 🍕","parts":0,"name":null},"x":1E-2,"y":false}"#,
            r#"{"id":"1","id":"2","data":{"userid":"a","userid":"b"}}"#,
            "{\"data\":{\"a\":\"\u{7f}\"}}",
        ] {
            assert!(check(text), "{text}");
        }
        for text in [
            "",
            "{}",
            "[]",
            r#"{"data":{},"data":{}}"#,
            r#"{"data":{},"data":1}"#,
            r#"{"data":1,"data":{}}"#,
            r#"{"data":"{}"}"#,
            r#"{"data":{}}x"#,
            r#"{"data":{}"#,
            r#"{"data":{},}"#,
            r#"{"data":{,}}"#,
            r#"{"data":{"a":[]}}"#,
            r#"{"x":{},"data":{}}"#,
            r#"{"data":{"a":01}}"#,
            r#"{"data":{"a":-}}"#,
            r#"{"data":{"a":1.}}"#,
            r#"{"data":{"a":.5}}"#,
            r#"{"data":{"a":1e}}"#,
            r#"{"data":{"a":+1}}"#,
            r#"{"data":{"a":tru}}"#,
            r#"{"data":{"a":nullx}}"#,
            r#"{"data":{"a" "b"}}"#,
            r#"{"data":{a:1}}"#,
            r#"{"d\u0061ta":{}}"#,
            r#"{"data":{"a":"\n"}}"#,
            "{\"data\":{\"a\":\"\n\"}}",
            "{\"data\":{\"a\":\"\u{0}\"}}",
            "\u{feff}{\"data\":{}}",
            "\u{b}{\"data\":{}}",
            "\n{\"data\":{}}",
        ] {
            assert!(!check(text), "{text}");
        }
    }

    #[test]
    fn a_string_ends_at_its_quote() {
        for length in 0..40 {
            // Bytes beside the quote, and those with the high bit, must not be taken for it.
            for fill in [0, b'!', b'#', 0x7f, 0x80, 0xa2, 0xff] {
                let mut bytes = vec![fill; length];
                assert_eq!(until_quote(&bytes), None);
                bytes.extend([b'"', fill, b'"', b'#']);
                assert_eq!(until_quote(&bytes), Some(length), "{length} of {fill}");
            }
        }
    }

    proptest! {
        #[test]
        fn splits_as_the_library_does(
            tokens in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "[", "]", ":", ",", "\"", "\"data\"", "\"id\"", "\"userid\"", "\"a\"", "\"data\":{",
                "true", "null", "0", "-", "1.5", "e9", "\\", "\\u0061", " ", "\n", "\u{1}", "é", "x", "},", "\":\"",
            ]), 0..24),
        ) {
            let text = tokens.concat();
            check(&text);
            check(&format!("{{\"data\":{{{text}}}}}"));
            check(&format!("{{\"data\":{{\"userid\":\"{text}\"}}}}"));
            check(&format!("{{\"id\":\"1\",\"data\":{{\"ok\":{text}}}}}"));
        }
    }
}
