//! What this program answers over NATS when it is asked for its status (`botstats status`).

use botstats_common::io::readiness::Readiness;
use botstats_common::status::Status;
use botstats_common::zones;

pub(crate) fn status(instance: &str, readiness: &Readiness) -> Status {
    let missing = readiness.all_missing();
    Status {
        program: "query".to_owned(),
        instance: instance.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: missing.is_empty(),
        missing,
        limited: readiness.all_limited(),
        zones: Some(zones::release().to_owned()),
        ingest: None,
    }
}
