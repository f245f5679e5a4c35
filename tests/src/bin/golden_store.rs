//! Makes a store of the present format from the events of the worked example, to be kept for the
//! tests of later versions:
//! `cargo run -p botstats-tests --bin golden_store -- tests/tests/fixtures/stores/format-N.redb`.

use std::path::Path;

use anyhow::Context as _;
use botstats_tests::fixture;
use botstats_tests::in_process::Product;

fn main() -> anyhow::Result<()> {
    let path = std::env::args_os().nth(1).context("the file to make")?;
    let mut product = Product::new(400)?;
    for batch in fixture::messages().chunks(10) {
        product.apply(batch)?;
    }
    product.close_into(Path::new(&path))
}
