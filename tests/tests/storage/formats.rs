//! Stores of every format there was, and a read by a newer query. Each store opens and reads as
//! when it was made, or is refused with what to do. The programs of their time made the files;
//! `golden_store` makes one of the present format.

use std::path::{Path, PathBuf};
use std::time::Duration;

use botstats_common::metric::TypeSet;
use botstats_common::quarter::Quarter;
use botstats_common::wire::{self, Frame, v1};
use botstats_tests::fixture;
use botstats_tests::harness::{Process, Site, Stage};
use botstats_tests::in_process::Product;
use botstats_tests::model::text_of;

const KEEP_DAYS: u32 = 400;

fn store(format: u32) -> PathBuf {
    let stores = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stores");
    stores.join(format!("format-{format}.redb"))
}

#[test]
fn the_present_format_reads_as_when_it_was_made() {
    let mut product = Product::of_file(&store(5), KEEP_DAYS).unwrap();
    let check = |product: &mut Product| {
        for (number, (question, directory, rows)) in fixture::questions().iter().enumerate() {
            let answer = product.answer(question, directory).unwrap();
            assert_eq!(answer, text_of(rows), "question {number}");
        }
    };
    check(&mut product);
    // It also goes on: everything is known already.
    let mut again = fixture::messages();
    let last = again.len() as u64;
    again.iter_mut().for_each(|message| message.sequence += last);
    product.apply(&again).unwrap();
    assert_eq!(product.sequence().unwrap(), 2 * last);
    check(&mut product);
}

#[test]
fn other_formats_are_refused() {
    for (format, words) in [
        (1, ["the file has format 1, this program writes 5", "botstats-ingest rebuild"]),
        (2, ["the file has format 2, this program writes 5", "botstats-ingest rebuild"]),
        (3, ["the file has format 3, this program writes 5", "botstats-ingest rebuild"]),
        (4, ["the file has format 4, this program writes 5", "botstats-ingest rebuild"]),
        (6, ["the file has format 6, this program writes 5", "use the program that made it"]),
    ] {
        let refused = Product::of_file(&store(format), KEEP_DAYS).err().unwrap();
        let text = format!("{refused:#}");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_says_so_and_touches_nothing() {
    let site = Site::start("0s").await;
    for format in [1, 2, 3, 4, 6] {
        let name = format!("format-{format}");
        let folder = site.folder(&name);
        let data = folder.join("data");
        std::fs::create_dir_all(&data).unwrap();
        let file = data.join("botstats.redb");
        std::fs::copy(store(format), &file).unwrap();
        let mut ingest =
            Process::start("botstats-ingest", &[], &site.ingest_settings(&folder), &folder);
        let status = ingest.ended(Duration::from_secs(20)).await;
        let log = std::fs::read_to_string(folder.join("botstats-ingest.1.log")).unwrap();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("botstats-ingest rebuild"), "{log}");
        assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(store(format)).unwrap());
    }
}

/// Never answered without the rows that the newer query asks for.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_a_metric_that_is_not_known_is_refused() {
    let stage = Stage::start("0s", 1).await;
    let request = v1::Request {
        request_id: String::new(),
        bots: None,
        types: TypeSet::ALL,
        boundaries: vec![Quarter(0), Quarter(1)],
        deadline_ms: 1_000,
    };
    let known = wire::encode_as(v1::VERSION, &request).unwrap();
    let ask = async |bytes: &[u8]| {
        let subject = "botstats.read.v1.acct-0";
        let reply = stage.site.client.request(subject, bytes.to_vec().into()).await.unwrap();
        wire::decode_as::<Frame>(v1::VERSION, &reply.payload).unwrap()
    };
    assert!(matches!(ask(&known).await, Frame::Accepted { .. }));
    // The bits of all 28 metrics, least significant seven first: one more takes another byte.
    assert_eq!(known[3..7], [0xff, 0xff, 0xff, 0x7f]);
    let newer = [&known[..6], &[0xff, 1], &known[7..]].concat();
    let longer = [&known[..], &[0]].concat();
    for bytes in [newer, longer] {
        let reply = ask(&bytes).await;
        assert!(
            matches!(&reply, Frame::Refused(why) if why.contains("not a read that this version")),
            "{reply:?}"
        );
    }
}
