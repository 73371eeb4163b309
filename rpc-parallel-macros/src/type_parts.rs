//! The parts of a type, as they are written.

use syn::{GenericArgument, Path, PathArguments, Type};

/// Returns the type arguments of the last segment of a path.
pub(crate) fn type_arguments(path: &Path) -> Vec<&Type> {
    let last = path.segments.last().map(|it| &it.arguments);
    let Some(PathArguments::AngleBracketed(written)) = last else { return Vec::new() };
    let types = written.args.iter().filter_map(|it| match it {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}

/// Returns the type inside parentheses, and inside the invisible groups that `macro_rules!` makes.
pub(crate) fn ungrouped(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => ungrouped(&group.elem),
        Type::Paren(paren) => ungrouped(&paren.elem),
        _ => ty,
    }
}
