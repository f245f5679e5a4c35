//! Files of `docker-compose.yml` repeat parts of other files: the parts are the same.
//! (`tests/compose/run` checks that the whole works.)
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
}

/// The account BOTSTATS of a nats-server's configuration.
fn account(config: &str) -> &str {
    let (_, rest) = config.split_once("\n  BOTSTATS {\n").unwrap();
    rest.split_once("\n  }\n").unwrap().0
}

/// `tests/tests/operations/rights.rs` tests what the shipped file allows and denies; that holds for
/// containers too.
#[test]
fn roles_have_the_rights_of_the_shipped_file() {
    let shipped = file("docs/deploy/nats-server.conf");
    let ours = file("docs/deploy/compose/nats/accounts.conf");
    assert!(account(&shipped).contains("user: ingest"));
    assert_eq!(account(&ours), account(&shipped));
}

/// An image that is named without a version is another one tomorrow.
#[test]
fn images_of_others_have_versions() {
    let (compose, dockerfile) = (file("docker-compose.yml"), file("Dockerfile"));
    let of_compose = compose.lines().filter_map(|line| line.trim().strip_prefix("image: "));
    let of_dockerfile = dockerfile.lines().filter_map(|line| line.split_once("_IMAGE=")?.1.into());
    let others: Vec<&str> =
        of_compose.chain(of_dockerfile).filter(|image| !image.contains("botstats}-")).collect();
    assert!(others.len() >= 4, "{others:?}");
    for image in others {
        let version = image.split_once(':').unwrap_or_else(|| panic!("{image}")).1;
        assert!(version.contains('.') && version.contains(|c: char| c.is_ascii_digit()), "{image}");
    }
}
