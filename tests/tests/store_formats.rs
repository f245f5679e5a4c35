//! Stores of every format there was: each opens and reads as when it was made, or is refused with what to
//! do. The files were made by the programs of their time (`golden_store` makes the present one).

use std::path::{Path, PathBuf};
use std::time::Duration;

use botstats_tests::fixture;
use botstats_tests::harness::{Process, Site};
use botstats_tests::in_process::Product;
use botstats_tests::model::text_of;

const KEEP_DAYS: u32 = 400;

fn store(format: u32) -> PathBuf {
    let stores = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stores");
    stores.join(format!("format-{format}.redb"))
}

#[test]
fn the_present_format_reads_as_when_it_was_made() {
    let mut product = Product::of_file(&store(3), KEEP_DAYS).unwrap();
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
        (1, ["the file has format 1, this program writes 3", "botstats-ingest rebuild"]),
        (2, ["the file has format 2, this program writes 3", "botstats-ingest rebuild"]),
        (4, ["the file has format 4, this program writes 3", "use the program that made it"]),
    ] {
        let refused = Product::of_file(&store(format), KEEP_DAYS).err().unwrap();
        let text = format!("{refused:#}");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_says_so_and_touches_nothing() {
    let site = Site::start("0s").await;
    for format in [1, 2, 4] {
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
