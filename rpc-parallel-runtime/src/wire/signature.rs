//! Compares the types of a function between two programs.
//!
//! An id that is the hash of a declaration covers the types. An id that the user has chosen does
//! not, so the types are compared when a connection between two builds is opened.

use super::declaration::FunctionInfo;
use super::field::fields;
use super::id::FunctionId;

/// The id and types of a function in one program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Signature {
    id: u64,
    name: String,
    /// The types of the values that travel, without module paths, which may differ.
    travels: String,
}

fields!(struct Signature { id, name, travels });

impl Signature {
    pub(crate) fn of(function: &FunctionInfo) -> Self {
        let FunctionInfo { id: FunctionId(id), name, arguments, result, one_way, .. } = *function;
        let arguments = split(arguments).into_iter().map(owned).collect::<Vec<_>>().join(", ");
        let result = if one_way { "nothing".to_owned() } else { without_paths(result) };
        Self { id, name: name.to_owned(), travels: format!("({arguments}) -> {result}") }
    }

    /// Describes the first function that has the same id and different types in two programs.
    pub(crate) fn conflict(ours: &[Self], theirs: &[Self]) -> Option<String> {
        let same_id = |it: &Self| ours.iter().find(|our| our.id == it.id).zip(Some(it.clone()));
        let mut shared = theirs.iter().filter_map(same_id);
        let (ours, theirs) = shared.find(|(ours, theirs)| ours.travels != theirs.travels)?;
        Some(format!(
            "the worker's `{}` is {} and the caller's `{}`, with the same id, is {}",
            ours.name, ours.travels, theirs.name, theirs.travels
        ))
    }
}

/// Splits a list of types at the commas outside of brackets.
fn split(types: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let outside = |it: char| {
        match it {
            '<' | '(' | '[' => depth += 1,
            '>' | ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        it == ',' && depth == 0
    };
    if types.is_empty() { Vec::new() } else { types.split(outside).collect() }
}

/// Returns the owned form of an argument type, see [`Argument`](super::Argument).
fn owned(argument: &str) -> String {
    let Some(borrowed) = argument.strip_prefix('&') else { return without_paths(argument) };
    let plain = without_paths(borrowed);
    let slice = plain.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    match (slice.filter(|it| !it.contains(';')), plain.as_str()) {
        (Some(element), _) => format!("Vec<{element}>"),
        (None, "str") => "String".to_owned(),
        (None, "Path") => "PathBuf".to_owned(),
        (None, _) => plain,
    }
}

/// Removes the module paths from types, and keeps their names.
fn without_paths(types: &str) -> String {
    let mut names = String::new();
    for (at, it) in types.char_indices() {
        if it == ':' {
            // Skips both colons, and removes the path segment before them.
            if types[at..].starts_with("::") {
                let kept = names.trim_end_matches(|it: char| it.is_alphanumeric() || it == '_');
                names.truncate(kept.len());
            }
        } else {
            names.push(it);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SourceLocation;

    const PLACE: SourceLocation =
        SourceLocation { package: "p", version: "1.0.0", module: "m", file: "f", line: 1 };

    fn signature(arguments: &'static str, result: &'static str) -> Signature {
        let info = FunctionInfo::new("f", "T", PLACE, arguments, result);
        Signature::of(&info.with_id("f.v1"))
    }

    #[test]
    fn signatures_with_same_encoding_do_not_conflict() {
        let ours = [signature("&str,&[market::Quote],&std::path::Path", "Result<(),my::Error>")];
        let theirs = [signature("String,Vec<Quote>,PathBuf", "std::result::Result<(),Error>")];

        assert_eq!(Signature::conflict(&ours, &theirs), None);
    }

    #[test]
    fn different_types_with_same_id_conflict_and_are_named() {
        let ours = [signature("u64,Pipe<(u8,u8)>", "()")];
        let theirs = [signature("u32,Pipe<(u8,u8)>", "()")];

        let conflict = Signature::conflict(&ours, &theirs).expect("they differ");

        assert_eq!(
            conflict,
            "the worker's `f` is (u64, Pipe<(u8,u8)>) -> () and the caller's `f`, \
             with the same id, is (u32, Pipe<(u8,u8)>) -> ()"
        );
    }

    #[test]
    fn one_way_function_conflicts_with_answering_one() {
        let info = FunctionInfo::new("f", "T", PLACE, "u64", "()").with_id("f.v1");
        let one_way = [Signature::of(&info.one_way())];

        assert!(Signature::conflict(&one_way, &[Signature::of(&info)]).is_some());
    }
}
