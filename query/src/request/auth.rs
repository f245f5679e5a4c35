//! The bearer token of a request (RFC 6750, 2.1).

use botstats_common::secret::SecretHash;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::problem::Problem;

/// A longer token, in bytes, is malformed; `botstats` makes tokens of some 50.
const MAX_TOKEN_BYTES: usize = 512;

/// The hash of the request's token.
///
/// # Errors
/// [`Problem::Unauthorized`] unless the request has exactly one well-formed token.
pub(crate) fn token(headers: &HeaderMap) -> Result<SecretHash, Problem> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return Err(Problem::Unauthorized { token_given: false });
    };
    let field = field.to_str().unwrap_or_default();
    let (scheme, token) = field.split_once(' ').unwrap_or((field, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Problem::Unauthorized { token_given: false });
    }
    let token = token.trim_matches(' ');
    if !is_token68(token) {
        return Err(Problem::Unauthorized { token_given: !token.is_empty() });
    }
    Ok(SecretHash::of(token))
}

fn is_token68(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b);
    !body.is_empty() && text.len() <= MAX_TOKEN_BYTES && body.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let good = |text: &str| Ok(SecretHash::of(text));
        let none = || Err(Problem::Unauthorized { token_given: false });
        let bad = || Err(Problem::Unauthorized { token_given: true });
        let long = format!("Bearer {}", "x".repeat(MAX_TOKEN_BYTES + 1));
        for (fields, expected) in [
            (&[][..], none()),
            (&["Bearer bst_abc-DEF_012"], good("bst_abc-DEF_012")),
            (&["bearer abc"], good("abc")),
            (&["BEARER  abc "], good("abc")),
            (&["Bearer a+/=="], good("a+/==")),
            (&["Bearer"], none()),
            (&["Bearer "], none()),
            (&["Basic abc"], none()),
            (&["abc"], none()),
            (&["Bearerabc"], none()),
            (&["Bearer a b"], bad()),
            (&["Bearer a=b"], bad()),
            (&["Bearer ="], bad()),
            (&["Bearer \"abc\""], bad()),
            (&[long.as_str()], bad()),
            (&["Bearer abc", "Bearer abc"], none()),
        ] {
            let headers: HeaderMap =
                fields.iter().map(|f| (AUTHORIZATION, f.parse().unwrap())).collect();
            assert_eq!(token(&headers), expected, "{fields:?}");
        }
    }
}
