//! The sources of the measured programs: two programs, each written in three ways.

use crate::figure::{FLOOR, RPC_PARALLEL, TARPC};

/// One way to write a program whose worker answers calls.
pub(super) struct Source {
    pub(super) contender: &'static str,
    pub(super) manifest: &'static str,
    hello: &'static str,
    functions: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum ProgramKind {
    /// One function.
    Hello,
    /// Three hundred functions.
    Functions,
}

pub(super) const SOURCES: [Source; 3] = [
    Source {
        contender: FLOOR,
        manifest: include_str!("../../../templates/floor.toml"),
        hello: include_str!("../../../templates/hello/floor.rs"),
        functions: include_str!("../../../templates/functions/floor.rs"),
    },
    Source {
        contender: RPC_PARALLEL,
        manifest: include_str!("../../../templates/rpc-parallel.toml"),
        hello: include_str!("../../../templates/hello/rpc-parallel.rs"),
        functions: include_str!("../../../templates/functions/rpc-parallel.rs"),
    },
    Source {
        contender: TARPC,
        manifest: include_str!("../../../templates/tarpc.toml"),
        hello: include_str!("../../../templates/hello/tarpc.rs"),
        functions: include_str!("../../../templates/functions/tarpc.rs"),
    },
];

/// Each repetition in a template has three functions.
const REPETITIONS: usize = 100;

impl Source {
    pub(super) fn main(&self, kind: ProgramKind) -> String {
        match kind {
            ProgramKind::Hello => self.hello.to_owned(),
            ProgramKind::Functions => repeated(self.functions),
        }
    }
}

/// Repeats the lines between `// repeat` and `// end`, and replaces `0000` by consecutive numbers.
fn repeated(template: &str) -> String {
    let mut lines = template.lines();
    let mut out = String::new();
    while let Some(line) = lines.next() {
        if line.trim() != "// repeat" {
            out.push_str(line);
            out.push('\n');
            continue;
        }
        let body: Vec<_> = lines.by_ref().take_while(|it| it.trim() != "// end").collect();
        for number in 0..REPETITIONS {
            for line in &body {
                out.push_str(&line.replace("0000", &format!("{number:04}")));
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_lines_are_numbered() {
        let out = repeated("a 0000\n  // repeat\n  b_0000\n  // end\nc\n");

        assert!(out.starts_with("a 0000\n  b_0000\n  b_0001\n"), "{out}");
        assert!(out.ends_with("  b_0099\nc\n"), "{out}");
        assert_eq!(out.lines().count(), 1 + REPETITIONS + 1);
    }

    #[test]
    fn every_source_has_300_functions() {
        for source in &SOURCES {
            let main = source.main(ProgramKind::Functions);
            for kind in ["sum", "text", "list"] {
                for number in ["0000", "0099"] {
                    let function = format!("async fn {kind}_{number}(");
                    assert!(main.contains(&function), "{}: no `{function}`", source.contender);
                }
            }
        }
    }
}
