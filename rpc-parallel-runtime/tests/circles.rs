//! Checks that the files of a layer form no import circle: when two files need each other, a third,
//! smaller idea is missing.
//!
//! An import is a path that begins with `crate`, `self` or `super` and leads to another file. Paths
//! that end at a `mod.rs` do not count, because the names there are those of other files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A file by the path of its module.
type Module = Vec<String>;

#[test]
fn files_of_runtime_form_no_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");

    assert_eq!(circles(&root), BTreeSet::new());
}

#[test]
fn files_of_macros_form_no_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rpc-parallel-macros/src");

    assert_eq!(circles(&root), BTreeSet::new());
}

/// Returns the groups of files that import each other, directly or through others.
fn circles(root: &Path) -> BTreeSet<Vec<String>> {
    let files = files(root);
    let imports: BTreeMap<&Module, BTreeSet<Module>> =
        files.iter().map(|(module, file)| (module, imports(module, file, &files))).collect();
    let reached: BTreeMap<&Module, BTreeSet<Module>> =
        imports.keys().map(|it| (*it, reachable(it, &imports))).collect();
    let mut circles = BTreeSet::new();
    for (module, from_here) in &reached {
        let circle: Vec<String> = from_here
            .iter()
            .filter(|it| reached[*it].contains(*module))
            .map(|it| it.join("/"))
            .collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles
}

fn reachable(start: &Module, imports: &BTreeMap<&Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let (mut reached, mut left) = (BTreeSet::new(), vec![start.clone()]);
    while let Some(module) = left.pop() {
        left.extend(imports[&module].iter().filter(|it| reached.insert((*it).clone())).cloned());
    }
    reached
}

/// Returns the source files below a directory.
fn files(root: &Path) -> BTreeMap<Module, PathBuf> {
    let mut files = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("read a directory of sources") {
            let path = entry.expect("read an entry of the directory").path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let module = path.strip_prefix(root).expect("the path is below the root");
            let mut module: Module =
                module.with_extension("").iter().map(|it| it.to_string_lossy().into()).collect();
            if is_root_of_folder(&path) {
                module.pop();
            }
            files.insert(module, path);
        }
    }
    files
}

fn is_root_of_folder(file: &Path) -> bool {
    file.ends_with("mod.rs") || file.ends_with("lib.rs")
}

/// Returns the files that a file imports.
fn imports(module: &Module, file: &Path, files: &BTreeMap<Module, PathBuf>) -> BTreeSet<Module> {
    if is_root_of_folder(file) || module.iter().any(|it| it.ends_with("tests")) {
        return BTreeSet::new();
    }
    let text = fs::read_to_string(file).expect("read a source file");
    let code: Vec<_> = text.lines().filter(|it| !it.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    // What follows is only compiled for tests.
    let code = code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let mut imported = BTreeSet::new();
    for path in paths(code) {
        let mut names = path.split("::").map(str::trim).peekable();
        let mut target = module.clone();
        match names.peek() {
            Some(&"crate") => target.clear(),
            Some(&("self" | "super")) => {}
            _ => continue,
        }
        for name in names {
            match name {
                "crate" | "self" => {}
                "super" => drop(target.pop()),
                name => target.push(name.to_owned()),
            }
        }
        while !target.is_empty() && !files.contains_key(&target) {
            target.pop();
        }
        let leads_to_file = files.get(&target).is_some_and(|it| !is_root_of_folder(it));
        if leads_to_file && target != *module {
            imported.insert(target);
        }
    }
    imported
}

/// Returns all paths in some code. A tree of a `use` declaration becomes one path for each leaf.
fn paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|it| it.is_alphanumeric() || it == '_' || it == ':' || it == '$')
            {
                continue;
            }
            let end = end_of_path(&code[at..]);
            paths.extend(leaves(&code[at..at + end]));
        }
    }
    paths
}

/// Returns the length of the path or tree at the beginning of some code.
fn end_of_path(code: &str) -> usize {
    let mut depth = 0;
    for (at, character) in code.char_indices() {
        match character {
            '{' if code[..at].ends_with("::") => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | ' ' | '\n' if depth > 0 => {}
            it if it.is_alphanumeric() || it == '_' || it == ':' || it == '*' => {}
            _ => return at,
        }
    }
    code.len()
}

fn leaves(tree: &str) -> Vec<String> {
    let Some((stem, rest)) = tree.split_once('{') else { return vec![tree.to_owned()] };
    let inner = rest.strip_suffix('}').unwrap_or(rest);
    let (mut leaves_of_inner, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, character) in inner.char_indices().chain([(inner.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                leaves_of_inner.extend(leaves(inner[begin..at].trim()));
                begin = at + 1;
            }
            _ => {}
        }
    }
    leaves_of_inner
        .into_iter()
        .filter(|it| !it.is_empty())
        .map(|it| format!("{stem}{it}"))
        .collect()
}

#[test]
fn tree_of_use_declaration_has_path_for_each_leaf() {
    let code = "use super::{a::{self, B}, c};\nlet x = crate::d::E::new(self.f);";

    assert_eq!(paths(code), ["crate::d::E::new", "super::a::self", "super::a::B", "super::c"]);
}
