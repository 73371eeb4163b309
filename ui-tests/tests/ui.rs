//! Compiles the programs of `pass`, which must compile, and of `fail`, which must not.
//!
//! The `.stderr` files beside the programs of `fail` hold the output of one version of rustc,
//! because each version words and lays out its errors in its own way. Under that version the output
//! must be equal. Under other versions each program must fail with the sentences that are our own.
//!
//! `RPC_PARALLEL_UI_TESTS=any-compiler` tests what happens under other versions with every version.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use trybuild::TestCases;

/// The compiler that wrote the `.stderr` files.
const COMPILER_OF_STDERR: &str = "rustc 1.95.";

/// The variable that selects the comparison, with [`ANY_COMPILER`] as its one value.
const MODE: &str = "RPC_PARALLEL_UI_TESTS";

const ANY_COMPILER: &str = "any-compiler";

/// The variable that names the directory whose programs [`write_stderr`] compiles.
const PROGRAMS: &str = "RPC_PARALLEL_UI_TESTS_PROGRAMS";

#[test]
fn pass_programs_compile() {
    if env::var_os(PROGRAMS).is_none() {
        TestCases::new().pass("pass/*.rs");
    }
}

#[test]
fn fail_programs_have_expected_errors() {
    if let Some(programs) = env::var_os(PROGRAMS) {
        // This is the child process of `write_stderr`.
        return TestCases::new().compile_fail(Path::new(&programs).join("*.rs"));
    }
    if compiler().starts_with(COMPILER_OF_STDERR) && !any_compiler() {
        TestCases::new().compile_fail("fail/*.rs");
    } else {
        assert_own_sentences();
    }
}

/// Returns the name and version of the compiler that trybuild starts.
fn compiler() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().expect("cargo has run rustc before");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn any_compiler() -> bool {
    env::var_os(MODE).is_some_and(|mode| {
        assert_eq!(mode, ANY_COMPILER, "unknown value of {MODE}");
        true
    })
}

/// Compiles all programs of `fail`, and asserts that each one fails with our sentences.
fn assert_own_sentences() {
    let programs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("any-compiler");
    let names = copy_programs(&programs);
    write_stderr(&programs);

    let mut missing = Vec::new();
    for name in names {
        let stderr = |directory: &Path| {
            let path = directory.join(&name).with_extension("stderr");
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let expected = stderr(Path::new("fail"));
        let actual = stderr(&programs);
        for sentence in own_sentences(&expected) {
            if !sentence.is_in(&actual) {
                missing.push(format!("fail/{name}: expected {sentence:?}, found:\n{actual}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Copies the programs of `fail` to a directory without `.stderr` files, and returns their names.
fn copy_programs(to: &Path) -> Vec<String> {
    if to.exists() {
        fs::remove_dir_all(to).expect("remove the programs of the last run");
    }
    fs::create_dir_all(to).expect("create a directory for the programs");
    let entries = fs::read_dir("fail").expect("cargo runs tests in the directory of their package");
    let paths = entries.map(|entry| entry.expect("read the directory of programs").path());
    let programs: Vec<PathBuf> =
        paths.filter(|path| path.extension() == Some("rs".as_ref())).collect();
    let copy = |program: PathBuf| {
        let name = program.file_name().expect("a program has a name").to_str().expect("in UTF-8");
        fs::copy(&program, to.join(name)).expect("copy a program");
        name.to_owned()
    };
    programs.into_iter().map(copy).collect()
}

/// Compiles the programs of a directory, asserts that each one fails, and writes their output
/// beside them.
///
/// Only trybuild writes outputs, and it does so if its environment variable says it. Tests cannot
/// set variables of their own process, so this runs the test executable again.
fn write_stderr(programs: &Path) {
    let test = env::current_exe().expect("the system knows the executable of a process");
    let output = Command::new(test)
        .args(["--exact", "fail_programs_have_expected_errors", "--nocapture"])
        .env("TRYBUILD", "overwrite")
        .env(PROGRAMS, programs)
        .output()
        .expect("run the test executable");
    let (stdout, stderr) = (&output.stdout, &output.stderr);
    let output_of_trybuild =
        || format!("{}{}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
    assert!(output.status.success(), "a program compiles:\n{}", output_of_trybuild());
}

/// A text that must be in the output of every compiler.
#[derive(PartialEq, Debug)]
enum Sentence {
    /// The text as it is.
    Exact(String),
    /// The text between the names in backticks. rustc shortens paths in these names, differently in
    /// each version.
    AroundNames(String),
}

impl Sentence {
    fn is_in(&self, output: &str) -> bool {
        match self {
            Sentence::Exact(text) => output.contains(text),
            Sentence::AroundNames(text) => {
                output.lines().any(|line| without_names(line).contains(&without_names(text)))
            }
        }
    }
}

/// Returns our own sentences in an output: the errors of the macros, with their help, and the
/// messages of our `#[diagnostic::on_unimplemented]`. Of other errors, which rustc words, returns
/// the code.
fn own_sentences(stderr: &str) -> Vec<Sentence> {
    let mut sentences = Vec::new();
    let mut lines = stderr.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(message) = line.strip_prefix("error[E0277]: ") {
            sentences.push(Sentence::AroundNames(message.to_owned()));
        } else if let Some((code, _)) = line.split_once("]: ")
            && code.starts_with("error[")
        {
            sentences.push(Sentence::Exact(format!("{code}]")));
        } else if let Some(message) = line.strip_prefix("error: ")
            && let Some(help) = lines.peek().and_then(|next| next.strip_prefix("       help: "))
        {
            sentences.push(Sentence::Exact(message.to_owned()));
            sentences.push(Sentence::Exact(help.to_owned()));
        }
    }
    sentences
}

/// Returns a text without the parts in backticks.
fn without_names(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

#[test]
fn own_sentences_are_found_in_output() {
    let stderr = "error: argument `a` must be owned\n       help: remove the `&`\n --> fail/a.rs:1:1\n\n\
                  error[E0277]: `Tick` cannot travel between processes\n\n\
                  error[E0599]: no method named `connect` found\n\n\
                  error: future cannot be sent between threads safely\n";

    let sentences = own_sentences(stderr);

    let expected = [
        Sentence::Exact("argument `a` must be owned".to_owned()),
        Sentence::Exact("remove the `&`".to_owned()),
        Sentence::AroundNames("`Tick` cannot travel between processes".to_owned()),
        Sentence::Exact("error[E0599]".to_owned()),
    ];
    assert_eq!(sentences, expected);
}

#[test]
fn sentence_is_found_around_names_of_other_compiler() {
    let sentence = Sentence::AroundNames("`Tick` cannot travel between processes".to_owned());

    assert!(
        sentence.is_in("error[E0277]: `crate::Tick` cannot travel between processes\n --> 1\n")
    );
    assert!(!sentence.is_in("error[E0277]: `Tick` cannot be shared between threads safely\n"));
}

#[test]
fn reserved_names_cover_functions_of_all_clients() {
    let program = read("fail/function-name-reserved.rs");
    let worker_client = read("../rpc-parallel-runtime/src/worker/declares.rs");
    let control = read("../rpc-parallel-runtime/src/master/control.rs");

    let functions = [
        functions_of_trait(&worker_client, "pub trait WorkerClient"),
        functions_of_trait(&control, "pub trait Control"),
    ];

    for name in functions.concat() {
        let declaration = format!("fn {name}(&self)");
        assert!(program.contains(&declaration), "`{name}` is not reserved for clients");
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("failed to read {path}: {error}"))
}

/// Returns the names of the functions with `self` of a trait, in source code formatted by rustfmt.
/// Only they are called like the functions of a client.
fn functions_of_trait<'a>(source: &'a str, head: &str) -> Vec<&'a str> {
    let (_, after_head) = source.split_once(head).expect("the file has the trait");
    let (body, _) = after_head.split_once("\n}").expect("the trait ends");
    let declarations = body.lines().filter_map(|line| line.strip_prefix("    fn "));
    let declarations = declarations.filter(|it| it.contains("self"));
    declarations.filter_map(|it| it.split(['(', '<']).next()).collect()
}
