//! Tables of the documentation whose last column names tests as `file::test_name`.

use std::collections::HashSet;
use std::path::Path;

/// The tests that the tables of a document name, each of which is there. A row that names none says `no_test`.
///
/// `file` is a path in `tests/` or `src/`, with `::` for `/`.
#[track_caller]
pub fn tests_named_in(document: &str, no_test: &str) -> HashSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join(document)).unwrap();
    let mut named = HashSet::new();
    let tables = text.split("\n\n").filter(|paragraph| paragraph.starts_with('|'));
    for row in tables.flat_map(|table| table.lines().skip(2)) {
        let proof = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let tests = proof.split('`').filter(|code| code.contains("::"));
        let tests: Vec<String> = tests.map(str::to_owned).collect();
        assert!(!tests.is_empty() || proof.contains(no_test), "a row without a test: {row}");
        named.extend(tests);
    }
    for test in &named {
        assert!(is_there(root, test), "there is no `{test}`, which {document} names");
    }
    named
}

/// Whether there is a test of that name.
fn is_there(root: &Path, test: &str) -> bool {
    let Some((file, name)) = test.rsplit_once("::") else { return false };
    let file = file.replace("::", "/");
    let places = [format!("tests/{file}.rs"), format!("src/{file}.rs")];
    let sources = places.iter().filter_map(|place| std::fs::read_to_string(root.join(place)).ok());
    let headlines = ["", "    "].map(|indent| format!("#[test]\n{indent}fn {name}() {{"));
    sources.into_iter().any(|source| headlines.iter().any(|headline| source.contains(headline)))
}
