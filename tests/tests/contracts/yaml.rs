//! JSON values as YAML, for people: blocks, and quotes only where they are needed.

use std::fmt::Write as _;

use serde_json::Value;

/// A document of that value.
pub(crate) fn document(value: &Value) -> String {
    let mut text = String::new();
    block(value, 0, &mut text);
    text.trim_start().to_owned() + "\n"
}

/// Writes what stands after a key or a dash: a scalar in the same line, or a block below.
fn block(value: &Value, indent: usize, into: &mut String) {
    let start = format!("\n{:indent$}", "");
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let _ = write!(into, "{start}{}:", scalar(name));
                block(value, indent + 2, into);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let _ = write!(into, "{start}-");
                let mut inner = String::new();
                block(item, indent + 2, &mut inner);
                // The first line of a block goes behind the dash.
                let _ = write!(into, " {}", inner.trim_start());
            }
        }
        Value::String(text) => {
            let _ = write!(into, " {}", scalar(text));
        }
        other => {
            let _ = write!(into, " {other}");
        }
    }
}

/// A text as it is, if it can't be read as anything else; else in quotes, as in JSON.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || " ._/-()".contains(c);
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(plain)
        && !text.ends_with(' ')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

#[test]
fn the_forms() {
    let value = serde_json::json!({
        "a": {"b": [1, "x y", {"c": null, "d": [[true, "true"], []]}], "e": {}},
        "on": "1.0", "$ref": "#/a", "f": "a: b", "g": "#", "h": "", "i": " x", "j": "line\nline",
    });
    let expect = r##""$ref": "#/a"
a:
  b:
    - 1
    - x y
    - c: null
      d:
        - - true
          - "true"
        - []
  e: {}
f: "a: b"
g: "#"
h: ""
i: " x"
j: "line\nline"
"on": "1.0"
"##;
    assert_eq!(document(&value), expect);
}
