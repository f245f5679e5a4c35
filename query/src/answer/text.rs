//! Texts in JSON and CSV.

use std::fmt::Write as _;

/// Writes a string of RFC 8259.
pub(super) fn json_text(text: &str, to: &mut Vec<u8>) {
    to.push(b'"');
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        to.extend_from_slice(text.as_bytes());
    } else {
        let mut escaped = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            match c {
                '"' | '\\' => {
                    escaped.push('\\');
                    escaped.push(c);
                }
                '\0'..='\x1f' => {
                    // Writing to a String cannot fail.
                    let _written = write!(escaped, "\\u{:04x}", u32::from(c));
                }
                _ => escaped.push(c),
            }
        }
        to.extend_from_slice(escaped.as_bytes());
    }
    to.push(b'"');
}

/// Writes a field of RFC 4180, quoted where it must be.
pub(super) fn csv_text(text: &str, to: &mut Vec<u8>) {
    if text.contains(['"', ',', '\r', '\n']) {
        to.push(b'"');
        to.extend_from_slice(text.replace('"', "\"\"").as_bytes());
        to.push(b'"');
    } else {
        to.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn json_texts_read_back(text in any::<String>()) {
            let mut bytes = Vec::new();
            json_text(&text, &mut bytes);
            prop_assert_eq!(serde_json::from_slice::<String>(&bytes).unwrap(), text);
        }
    }

    #[test]
    fn csv_texts_are_quoted_where_they_must_be() {
        for (text, expected) in [
            ("Web", "Web"),
            ("", ""),
            ("a b", "a b"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("a\nb", "\"a\nb\""),
        ] {
            let mut bytes = Vec::new();
            csv_text(text, &mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        }
    }
}
