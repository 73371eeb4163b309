//! Checks that each layer of the runtime uses only the layers below it, and that certain
//! dependencies are named in one file only.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first. A layer uses only the layers before it.
const LAYERS: [&str; 8] =
    ["wire", "protocol", "transport", "connection", "worker", "launch", "master", "pool"];

/// Dependencies that only one file may name, so that they can be replaced there.
const CONFINED: [(&str, &str); 2] =
    [("rmp_serde", "wire/messagepack.rs"), ("inventory", "worker/registration.rs")];

#[test]
fn each_layer_uses_only_layers_below_it() {
    for (height, layer) in LAYERS.iter().enumerate() {
        for file in sources(&runtime().join(layer)) {
            let code = code(&file);
            for above in &LAYERS[height + 1..] {
                let named = code.contains(&format!("crate::{above}"));
                assert!(
                    !named,
                    "{} uses the layer `{above}`, which is not below its own",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn every_source_file_belongs_to_a_layer() {
    for file in sources(&runtime()) {
        let path =
            file.strip_prefix(runtime()).expect("`sources` returns paths below its argument");
        let layer = LAYERS.iter().any(|it| path.starts_with(it));
        let root = ["lib.rs", "private.rs"].iter().any(|it| path == Path::new(it));
        assert!(layer || root, "{} belongs to no layer", path.display());
    }
}

#[test]
fn confined_dependency_is_named_in_one_file() {
    for (dependency, allowed) in CONFINED {
        for file in sources(&runtime()) {
            let allowed = file == runtime().join(allowed);
            let code = code(&file);
            let mut words = code.split(|it: char| !it.is_alphanumeric() && it != '_');
            let named = words.any(|it| it == dependency);
            assert!(allowed || !named, "{} must not name `{dependency}`", file.display());
        }
    }
}

#[test]
fn facade_names_no_layer_of_the_runtime() {
    for file in sources(&runtime().join("../../src")) {
        for layer in LAYERS {
            let named = code(&file).contains(&format!("rpc_parallel_runtime::{layer}"));
            assert!(!named, "{} names the layer `{layer}` of the runtime", file.display());
        }
    }
}

#[test]
fn macros_depend_only_on_syntax_crates() {
    let manifest = runtime().join("../../rpc-parallel-macros/Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("read the manifest of the macros");
    let dependencies = manifest.split("\n[dependencies]\n").nth(1).expect("find the dependencies");
    let dependencies = dependencies.split("\n[").next().unwrap_or_default();

    let names: Vec<_> =
        dependencies.lines().filter_map(|it| it.split(['.', ' ', '=']).next()).collect();

    let allowed = ["proc-macro2", "quote", "syn", ""];
    assert!(names.iter().all(|it| allowed.contains(it)), "{names:?}");
}

#[test]
fn only_one_crate_may_contain_unsafe_code() {
    let workspace = runtime().join("../..");
    let manifest = |path: &Path| fs::read_to_string(path.join("Cargo.toml")).expect("read it");
    let root = manifest(&workspace);
    let members = root.lines().find_map(|it| it.strip_prefix("members = ")).expect("find members");
    let members: Vec<_> = members.split('"').skip(1).step_by(2).collect();

    let allowing = members.iter().filter(|member| {
        !manifest(&workspace.join(member)).contains("[lints]\nworkspace = true\n")
    });

    assert!(root.contains("\nunsafe_code = \"forbid\"\n"), "the lints of the workspace forbid it");
    assert_eq!(allowing.collect::<Vec<_>>(), [&"rpc-parallel-os"], "of {members:?}");
}

fn runtime() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns the paths of all Rust files below a directory.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("read a directory of sources");
    let paths = entries.map(|it| it.expect("read an entry of the directory").path());
    paths
        .flat_map(|it| if it.is_dir() { sources(&it) } else { vec![it] })
        .filter(|it| it.extension().is_some_and(|it| it == "rs"))
        .collect()
}

/// Returns the lines of a file that are not comments.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).expect("read a source file");
    text.lines().filter(|it| !it.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}
