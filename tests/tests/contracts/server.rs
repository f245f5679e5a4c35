//! The acknowledgements as a real server sends them.

use async_nats::HeaderMap;
use async_nats::header::{NATS_BATCH_COMMIT, NATS_BATCH_ID, NATS_BATCH_SEQUENCE};
use botstats_tests::harness::Site;
use jsonschema::{Draft, Validator};
use serde_json::Value;

use super::asyncapi;

fn message(name: &str) -> Validator {
    let document = asyncapi::document();
    let schema = &document["components"]["messages"][name]["payload"];
    jsonschema::options().with_draft(Draft::Draft7).build(schema).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_are_as_described() {
    let site = Site::start("0s").await;
    let (stored, not_stored) = (message("Stored"), message("NotStored"));
    let subject = "botstats.events.acme.bot1.web";
    let ask = async |headers: &[(&str, &str)], payload: Vec<u8>| -> Value {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, *value);
        }
        let answer = site.client.request_with_headers(subject, map, payload.into()).await;
        serde_json::from_slice(&answer.unwrap().payload).unwrap()
    };

    let answer = ask(&[("Content-Type", "text/plain")], b"{}".to_vec()).await;
    assert!(stored.is_valid(&answer) && !not_stored.is_valid(&answer), "{answer}");
    assert_eq!(answer["seq"], 1);

    let batch = [
        (NATS_BATCH_ID.as_ref(), "b1"),
        (NATS_BATCH_SEQUENCE.as_ref(), "1"),
        (NATS_BATCH_COMMIT.as_ref(), "1"),
    ];
    let answer = ask(&batch, b"{}".to_vec()).await;
    assert!(stored.is_valid(&answer) && !not_stored.is_valid(&answer), "{answer}");
    assert_eq!((&answer["batch"], &answer["count"]), (&"b1".into(), &1.into()));

    let answer = ask(&[("Content-Type", "text/plain")], vec![b'x'; 80_000]).await;
    assert!(not_stored.is_valid(&answer) && !stored.is_valid(&answer), "{answer}");
    assert_eq!(answer["error"]["code"], 400);
}
