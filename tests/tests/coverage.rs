//! The tests that `docs/coverage.md` names exist, and the document has all its rows.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// One row of the table.
struct Row {
    id: String,
    tests: Vec<String>,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Reads the rows of a table with three columns: id, description, and tests in backticks.
fn rows(document: &str) -> Vec<Row> {
    let row = |line: &str| {
        let cells: Vec<_> = line.strip_prefix("| ")?.split(" | ").collect();
        let [id, _, tests] = cells[..] else { panic!("expected three columns, found {line}") };
        let tests = tests.split('`').skip(1).step_by(2).map(String::from).collect();
        Some(Row { id: id.into(), tests })
    };
    document.lines().filter_map(row).filter(|it| it.id.contains('-') && it.id != "---").collect()
}

/// Collects the tests of a folder: `file::function`, and `ui::file` for a program that must not
/// compile.
fn collect(folder: &Path, tests: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|it| panic!("{}: {it}", folder.display())) {
        let path = entry.expect("the directory is readable").path();
        if path.is_dir() {
            collect(&path, tests);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let file = path.file_stem().expect("the file has a name").to_string_lossy();
            let source = fs::read_to_string(&path).expect("the source file is readable");
            tests.extend(functions(&source).map(|it| format!("{file}::{it}")));
            tests.insert(format!("ui::{file}"));
        }
    }
}

/// Finds the functions of a source file that have a test attribute.
fn functions(source: &str) -> impl Iterator<Item = &str> {
    let mut has_attribute = false;
    source.lines().filter_map(move |line| {
        let line = line.trim_start();
        if line.starts_with("#[") {
            let name = line.trim_start_matches("#[").split(['(', ']']).next()?;
            has_attribute |= name.ends_with("test");
            return None;
        }
        let is_test = std::mem::take(&mut has_attribute);
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
        is_test.then(|| function.split(['(', '<']).next())?
    })
}

fn document() -> String {
    fs::read_to_string(workspace().join("docs/coverage.md")).expect("the document is readable")
}

#[test]
fn tests_named_in_coverage_document_exist() {
    let mut tests = BTreeSet::new();
    for folder in ["tests/tests", "tests/src", "rpc-parallel-runtime/src", "ui-tests/fail"] {
        collect(&workspace().join(folder), &mut tests);
    }

    for Row { id, tests: named } in rows(&document()) {
        assert!(!named.is_empty(), "{id} names no test");
        for test in named {
            assert!(tests.contains(&test), "{id} names `{test}`, which does not exist");
        }
    }
}

/// The sections of the document in their order, and the numbers of their rows.
const SECTIONS: [(&str, &[RangeInclusive<u32>]); 16] = [
    ("ID", &[1..=7]),
    ("ST", &[1..=12]),
    ("FN", &[1..=18]),
    ("SU", &[1..=13]),
    ("EN", &[1..=11]),
    ("SP", &[1..=20]),
    ("SD", &[1..=8]),
    ("EX", &[1..=13]),
    ("CN", &[1..=8]),
    ("WK", &[1..=8]),
    ("RS", &[1..=8]),
    ("MG", &[1..=5]),
    ("MR", &[1..=13]),
    ("LW", &[1..=19]),
    ("NP", &[1..=21]),
    // NS-9 and NS-10 are about kernel resources, which are not supported yet.
    ("NS", &[1..=8, 11..=11]),
];

#[test]
fn coverage_document_has_every_row() {
    let ids: Vec<_> = rows(&document()).into_iter().map(|it| it.id).collect();

    let expected = SECTIONS.into_iter().flat_map(|(section, numbers)| {
        numbers.iter().cloned().flatten().map(move |it| format!("{section}-{it}"))
    });
    assert_eq!(ids, expected.collect::<Vec<_>>());
}
