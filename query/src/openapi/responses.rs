//! The headers of answers, and the answers that are errors.

use serde_json::{Value, json};

use super::{reference, references};

pub(super) fn headers() -> Value {
    /// Whether every answer that lists the header has the header.
    enum Is {
        Always,
        Sometimes,
    }
    use Is::{Always, Sometimes};
    let header = |is: Is, description: &str, schema: Value, example: Value| {
        json!({
            "description": description,
            "required": matches!(is, Always),
            "schema": schema,
            "example": example
        })
    };
    let text = || json!({ "type": "string" });
    let like = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    json!({
        "Data-As-Of": header(Always, "Everything stored up to then is counted",
            json!({ "type": "string", "format": "date-time" }), json!("2026-11-20T10:52:00.000Z")),
        "Cache-Control": header(Always,
            "private for the throttle's window; no-store on errors and without a throttle",
            like("^(no-store|private, max-age=[0-9]+)$"), json!("private, max-age=3600")),
        "RateLimit": header(Sometimes,
            "What is left of the account's or the bot's allowance (draft-ietf-httpapi-ratelimit-headers); \
                absent where the throttle is off",
            like("^\"(account|bot)\";r=0;t=[0-9]+$"), json!("\"account\";r=0;t=3601")),
        "RateLimit-Policy": header(Sometimes,
            "The account's or the bot's allowance (draft-ietf-httpapi-ratelimit-headers); absent where the \
                throttle is off",
            like("^\"(account|bot)\";q=1;w=[0-9]+$"), json!("\"account\";q=1;w=3600")),
        "Retry-After": header(Always, "Seconds; a client that waits just that long is served",
            json!({ "type": "integer", "minimum": 1 }), json!(1800)),
        "Vary": header(Sometimes, "What the answer depends on; absent on other paths", text(),
            json!("Authorization, Accept, Accept-Encoding")),
        "Content-Encoding": header(Sometimes, "Absent if the body is sent as it is",
            json!({ "type": "string", "enum": ["gzip", "zstd"] }), json!("gzip")),
        "Content-Disposition": header(Sometimes,
            "A file name for CSV, of the account's id and the last local date; absent in other formats",
            like("^attachment; filename=\"botstats-[A-Za-z0-9_-]+-[0-9-]+[.]csv\"$"),
            json!("attachment; filename=\"botstats-acme-2026-11-20.csv\"")),
        "WWW-Authenticate": header(Always, "RFC 6750", like("^Bearer realm="),
            json!("Bearer realm=\"botstats\", error=\"invalid_token\"")),
        "Allow": header(Always, "The methods that are allowed",
            json!({ "type": "string", "enum": ["GET", "GET, HEAD"] }), json!("GET")),
        "X-Content-Type-Options": header(Always, "The media type is the one that is said",
            json!({ "type": "string", "enum": ["nosniff"] }), json!("nosniff")),
        "X-Request-Id": header(Always, "The request's id, taken or made",
            like("^[A-Za-z0-9._-]{1,128}$"), json!("0193f0c2-6b1e-7c55-9a3e-0a5a1c1d2e3f"))
    })
}

pub(super) fn responses() -> Value {
    let answer = |description: &str, more: &[&str]| {
        let every = ["Cache-Control", "Vary", "X-Content-Type-Options", "X-Request-Id"];
        json!({
            "description": description,
            "headers": references("headers", &[&every[..], more].concat()),
            "content": { "application/problem+json": {
                "schema": reference("schemas", "Problem")
            } }
        })
    };
    json!({
        "BadRequest": answer(
            "A parameter that is not allowed, an answer that is too large or would not be complete, or no \
                proper request", &[]),
        "Unauthorized": answer(
            "No, malformed, unknown, expired or revoked token", &["WWW-Authenticate"]),
        "Forbidden": answer("The token is good, but not for this path", &[]),
        "NotFound": answer(
            "The account was removed, or the API key is unknown, removed or another account's", &[]),
        "MethodNotAllowed": answer("Another method than Allow lists", &["Allow"]),
        "NotAcceptable": answer(
            "Accept allows none of JSON, CSV, NDJSON, or Accept-Encoding no coding", &[]),
        "Throttled": answer(
            "The account's, or the bot's, call is used", &["Retry-After", "RateLimit", "RateLimit-Policy"]),
        "HeadTooLarge": answer("A head of more than 16 KiB or 64 fields", &[]),
        "Internal": answer("A defect of the service; no call was used", &[]),
        "Unavailable": answer(
            "The statistics or the throttle cannot be reached, the service's clock is wrong, or too much \
                is going on; no call was used", &["Retry-After"])
    })
}
