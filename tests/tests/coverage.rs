//! What `docs/coverage.md` says is shown by tests is shown by tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One row of the table.
struct Row {
    id: String,
    tests: Vec<String>,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Reads the rows of a table with three columns: id, what we do, and tests in backticks.
fn rows(document: &str) -> Vec<Row> {
    let row = |line: &str| {
        let cells: Vec<_> = line.strip_prefix("| ")?.split(" | ").collect();
        let [id, _, tests] = cells[..] else { panic!("three columns: {line}") };
        let tests = tests.split('`').skip(1).step_by(2).map(String::from).collect();
        Some(Row { id: id.into(), tests })
    };
    document.lines().filter_map(row).filter(|it| it.id.contains('-') && it.id != "---").collect()
}

/// Collects all the tests of a folder: `file::function`, and files that must not compile.
fn collect(folder: &Path, tests: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|it| panic!("{}: {it}", folder.display())) {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            collect(&path, tests);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let file = path.file_stem().expect("it has a name").to_string_lossy();
            let source = fs::read_to_string(&path).expect("it is a source");
            tests.extend(functions(&source).map(|it| format!("{file}::{it}")));
            tests.insert(format!("ui::{file}"));
        }
    }
}

/// Finds the functions of a source that stand under an attribute which makes them tests.
fn functions(source: &str) -> impl Iterator<Item = &str> {
    let mut marked = false;
    source.lines().filter_map(move |line| {
        let line = line.trim_start();
        if line.starts_with("#[") {
            let name = line.trim_start_matches("#[").split(['(', ']']).next()?;
            marked |= name.ends_with("test");
            return None;
        }
        let test = std::mem::take(&mut marked);
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
        test.then(|| function.split(['(', '<']).next())?
    })
}

fn document() -> String {
    fs::read_to_string(workspace().join("docs/coverage.md")).expect("there is such a document")
}

#[test]
fn every_test_that_is_named_as_coverage_exists() {
    let mut tests = BTreeSet::new();
    for folder in ["tests/tests", "tests/src", "rpc-parallel-runtime/src", "ui-tests/fail"] {
        collect(&workspace().join(folder), &mut tests);
    }

    for Row { id, tests: named } in rows(&document()) {
        assert!(!named.is_empty(), "{id} names no test");
        for test in named {
            assert!(tests.contains(&test), "{id} names `{test}`, and there is no such test");
        }
    }
}

/// The rows of the original, in the order in which they are told.
const ROWS: [(&str, u32); 12] = [
    ("ID", 7),
    ("ST", 12),
    ("FN", 18),
    ("SU", 13),
    ("EN", 11),
    ("SP", 20),
    ("SD", 8),
    ("EX", 13),
    ("CN", 8),
    ("WK", 8),
    ("RS", 8),
    ("MG", 5),
];

#[test]
fn every_row_of_the_original_is_covered() {
    let ids: Vec<_> = rows(&document()).into_iter().map(|it| it.id).collect();

    let expected = ROWS
        .into_iter()
        .flat_map(|(section, count)| (1..=count).map(move |it| format!("{section}-{it}")));
    assert_eq!(ids, expected.collect::<Vec<_>>());
}
