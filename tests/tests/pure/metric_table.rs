//! A metric that is added to the table of `common/src/metric.rs`, and forgotten where ingest says
//! what feeds each one, does not compile.
//!
//! The two files, and that of the splits, are compiled as they stand, beside stubs of what they
//! import, so that this takes seconds and no dependency.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The last code of the table.
const LAST: u8 = 108;
/// Derives that make nothing.
const SERDE: &str = "extern crate proc_macro; use proc_macro::TokenStream;
    #[proc_macro_derive(Serialize, attributes(serde))]
    pub fn serialize(_: TokenStream) -> TokenStream { TokenStream::new() }
    #[proc_macro_derive(Deserialize, attributes(serde))]
    pub fn deserialize(_: TokenStream) -> TokenStream { TokenStream::new() }";
const THISERROR: &str = "extern crate proc_macro; use proc_macro::TokenStream;
    #[proc_macro_derive(Error, attributes(error))]
    pub fn error(_: TokenStream) -> TokenStream { TokenStream::new() }";

/// The file of that name below a folder.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let file = files.into_iter().find(|path| path.ends_with(name));
    file.or_else(|| folders.iter().find_map(|folder| find(folder, name)))
}

fn source(folder: &str, name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let path = find(&root, name).unwrap_or_else(|| panic!("no {name} in {folder}"));
    std::fs::read_to_string(path).unwrap()
}

/// The names that a text has behind a word: `Kind::Sent` has `Sent` behind `Kind::`.
fn names<'a>(text: &'a str, word: &str) -> BTreeSet<&'a str> {
    let behind = text.split(word).skip(1);
    behind
        .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
        .collect()
}

fn rustc(folder: &Path, name: &str, kind: &str, text: &str) -> Output {
    let file = folder.join(format!("{name}.rs"));
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.args(["--edition", "2024", "--cap-lints", "allow", "--crate-type", kind]);
    command.args(["--crate-name", name, "-L"]).arg(folder).arg("--out-dir").arg(folder);
    for stub in ["serde", "thiserror"].into_iter().filter(|_| kind == "lib") {
        command.args(["--emit", "metadata", "--extern", stub]);
    }
    command.arg(file).output().unwrap()
}

#[test]
fn a_metric_without_a_source_does_not_compile() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("serde", SERDE), ("thiserror", THISERROR)] {
        let output = rustc(folder.path(), name, "proc-macro", text);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let (table, sources) = (source("common/src", "metric.rs"), source("ingest/src", "metrics.rs"));
    let splits = source("common/src", "split.rs");
    let compile = |table: &str| {
        let kinds = Vec::from_iter(names(&sources, "Kind::")).join(", ");
        let flags: String =
            names(&sources, "flag::").iter().map(|f| format!("pub const {f}: u8 = 1; ")).collect();
        let text = format!(
            "extern crate self as botstats_common;
            pub mod event {{
                #[derive(Clone, Copy)] pub enum Kind {{ {kinds} }}
                pub mod flag {{ {flags} }}
            }}
            pub mod metric {{\n{}\n}}
            pub mod split {{\n{}\n}}
            pub mod metrics {{\n{}\n}}",
            inner(table),
            inner(&splits),
            inner(&sources)
        );
        rustc(folder.path(), "metrics_of_ingest", "lib", &text)
    };
    let whole = compile(&table);
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));

    let (before, rest) = table.split_once("\nmetrics! {\n").unwrap();
    let row = format!("Forgotten = {}, \"Forgotten\", Kind::Count;\n}}\n", LAST + 1);
    let more = format!("{before}\nmetrics! {{\n{}", rest.replacen("}\n", &row, 1));
    let refused = compile(&more);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success(), "a forgotten metric compiles");
    let errors: Vec<&str> = told.lines().filter(|line| line.starts_with("error[")).collect();
    let [error] = errors[..] else { panic!("{told}") };
    assert!(error.starts_with("error[E0004]: non-exhaustive patterns"), "{told}");
    assert!(error.ends_with("TypeCode::Forgotten` not covered"), "{told}");
}

/// A file's text as the content of a module in braces: without the comments at its head.
fn inner(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("//!")).map(|line| format!("{line}\n")).collect()
}
