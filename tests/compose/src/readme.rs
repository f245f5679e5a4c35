//! The command lines of README.md, as somebody would paste them.

use std::fs;
use std::path::Path;

/// The heading of the section that is run.
const HEADING: &str = "## Run it in containers";

/// The shell lines of README's section about containers.
pub(super) fn commands(root: &Path) -> String {
    let readme = fs::read_to_string(root.join("README.md")).expect("a README");
    let (_, rest) = readme.split_once(HEADING).expect("the section about containers");
    let section = rest.split("\n## ").next().unwrap_or_default();
    let mut blocks = section.split("```sh\n").skip(1);
    // Only the first block is run: the others are alternatives.
    let block = blocks.next().and_then(|block| block.split("```").next());
    block.expect("a block of commands").to_owned()
}
